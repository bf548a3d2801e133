"""The table of bad input over every operator, both ways, every backend and every binding."""

from functools import cache

import numpy as np
import pytest

import device_stand_in
import roi_numba
from arrays import assert_same_bits
from bad_input import EVERY, SPOILT, TABLE, assert_near, upstream
from device_stand_in import ndarray, plain
from test_dlpack import Foreign, borrowed, imported

CASES = [
    pytest.param(row, operator, back, id=f"{row.what}-{operator.name}-{reduce}-{way}")
    for row in TABLE
    for operator in EVERY
    for reduce in [operator.options.get("reduce", "")]
    for way, back in (("forward", False), ("backward", True))
    if row.only(operator, back)
]


# ---- bindings ------------------------------------------------------------------------------


class OfNumPy:
    """The public functions on NumPy's arrays; others bring theirs and take them back."""

    checks = True
    """By default."""
    complains = True
    """With ``check_boxes=True``, in the exception's own words."""
    writes = True
    """To an `out`."""
    autograd = False

    def array(self, array):
        return array

    def fetched(self, array):
        return array

    def there(self, value):
        if isinstance(value, np.ndarray):
            return self.array(value)
        return list(map(self.there, value)) if isinstance(value, list) else value

    def run(self, operator, call, back):
        """The results as NumPy's arrays: the pooled one, or both gradients."""
        call = {name: self.there(value) for name, value in call.items()}
        if not back:
            return [self.fetched(operator.function(**call))]
        call.pop("output_size" if not operator.crops else "crop_size", None)
        return list(map(self.fetched, operator.backward(**call)))


class OfDLPack(OfNumPy):
    array = staticmethod(Foreign)
    fetched = staticmethod(borrowed)


class OnDevice(OfNumPy):
    """CuPy's arrays, of a stand-in that runs the CPU's engine."""

    checks = False

    def array(self, array):
        return ndarray.over(array.copy())

    def fetched(self, array):
        return plain(array)


class OfTorch(OfNumPy):
    def __init__(self):
        self.torch = imported("torch")

    def array(self, array):
        return self.torch.from_numpy(array.copy())

    def fetched(self, array):
        return array.detach().numpy()


class OfRoiTorch(OfTorch):
    """`roi_numba.torch`, with gradients of autograd."""

    autograd = True

    def __init__(self):
        super().__init__()
        self.module = pytest.importorskip("roi_numba.torch")

    def run(self, operator, call, back):
        call = {name: self.there(value) for name, value in call.items()}
        gradient, function = call.pop("grad_output", None), getattr(self.module, operator.name)
        if back:
            for name in ("input", "boxes"):
                if isinstance(call[name], self.torch.Tensor):
                    call[name].requires_grad_(call[name].is_floating_point())
        output = function(**call)
        if not back:
            return [self.fetched(output)]
        wanted = call["input"], call["boxes"]
        return list(map(self.fetched, self.torch.autograd.grad(output, wanted, gradient)))


class OfJax(OfNumPy):
    writes = False  # its arrays never change

    def __init__(self):
        self.jax = imported("jax")

    def array(self, array):
        return self.jax.numpy.asarray(array)

    def fetched(self, array):
        return np.asarray(array)


class OfRoiJax(OfJax):
    """`roi_numba.jax`, with gradients of JAX."""

    autograd = True

    def __init__(self):
        super().__init__()
        self.module = pytest.importorskip("roi_numba.jax")

    def compiled(self, function):
        return function

    def run(self, operator, call, back):
        call = {name: self.there(value) for name, value in call.items()}
        gradient, function = call.pop("grad_output", None), getattr(self.module, operator.name)
        maps, boxes = call.pop("input"), call.pop("boxes")
        apart = ("box_indices", "batch_indices")
        numbers = {name: call.pop(name) for name in apart if name in call}

        def results(maps, boxes, numbers):
            def pool(maps, boxes):
                return function(maps, boxes, **numbers, **call)

            if not back:
                return [pool(maps, boxes)]
            return self.jax.vjp(pool, maps, boxes)[1](gradient)

        return list(map(self.fetched, self.compiled(results)(maps, boxes, numbers)))


class OfJit(OfRoiJax):
    """The same under `jit`, where no value is known before it is too late."""

    checks = complains = False

    def compiled(self, function):
        return self.jax.jit(function)


BINDINGS = {
    "NumPy": OfNumPy,
    "DLPack": OfDLPack,
    "CuPy's stand-in": OnDevice,
    "torch": OfTorch,
    "roi_numba.torch": OfRoiTorch,
    "jax": OfJax,
    "roi_numba.jax": OfRoiJax,
    "roi_numba.jax, jit": OfJit,
}
NUMPY = OfNumPy()


@cache
def binding_of(name):
    return BINDINGS[name]()


@pytest.fixture(params=BINDINGS)
def binding(request):
    made = binding_of(request.param)
    if isinstance(made, OnDevice):
        with device_stand_in.installed(), device_stand_in.machine.unchanged():
            yield made
    elif isinstance(made, OfJax):
        before = made.jax.config.jax_enable_x64
        made.jax.config.update("jax_enable_x64", True)
        yield made
        made.jax.config.update("jax_enable_x64", before)
    else:
        yield made


# ---- every row -----------------------------------------------------------------------------


@pytest.mark.parametrize(("row", "operator", "back"), CASES)
def test_row(binding, row, operator, back):
    if binding.autograd and not row.autograd:
        pytest.skip("the binding has no such argument")
    call = operator.call()
    if "out" in row.change(operator, call) and not binding.writes:
        pytest.skip("the library's arrays are never written to")
    if back:
        call["grad_output"] = upstream(operator, call | row.change(operator, call))
    call |= row.change(operator, call)
    if row.error is None:
        assert_defined(binding, operator, call, back)
        return
    if not row.unchecked:
        assert_refused(binding, row, operator, call, back)
        assert_refused(binding, row, operator, call | {"check_boxes": False}, back)
        return
    if binding.complains:
        checked = {} if binding.checks else {"check_boxes": True}
        assert_refused(binding, row, operator, call | checked, back)
    for unchecked in ({}, {"check_boxes": False})[binding.checks :]:
        assert_left_out(binding, operator, call | unchecked, back)


def assert_refused(binding, row, operator, call, back):
    """In the table's words, and nothing is written."""
    arrays = [value for value in call.values() if isinstance(value, np.ndarray)]
    before = [array.tobytes() for array in arrays]
    with pytest.raises(row.error) as caught:
        binding.run(operator, call, back)
    assert str(caught.value) == row.message(operator)
    assert [array.tobytes() for array in arrays] == before


def assert_left_out(binding, operator, call, back):
    """The box gives zeros, and all else is as if it were not there."""
    found = binding.run(operator, call, back)
    without = {
        name: np.delete(value, SPOILT, 0) if name in PER_BOX else value
        for name, value in call.items()
    }
    wanted = NUMPY.run(operator, without, back)
    for actual, expected in zip(found, wanted, strict=True):
        if len(actual) == len(call["boxes"]):
            assert not actual[SPOILT].any()
            actual = np.delete(actual, SPOILT, 0)
        assert_same_bits(actual, expected)


PER_BOX = "boxes", "box_indices", "grad_output"


def assert_defined(binding, operator, call, back):
    """NumPy has the reference's numbers, all others NumPy's bits."""
    found = binding.run(operator, call, back)
    if type(binding) is not OfNumPy:
        for actual, expected in zip(found, NUMPY.run(operator, call, back), strict=True):
            assert_same_bits(actual, expected)
        return
    if back:
        call = dict(call)
        gradient = call.pop("grad_output").astype(np.float64)
        wanted = operator.expected_gradients(gradient, call)
    else:
        wanted = [operator.expected(call)]
    for actual, expected in zip(found, wanted, strict=True):
        assert_near(actual, expected)


def test_every_operator_is_in_the_matrix():
    names = {name for name in roi_numba.__all__ if f"{name}_backward" in roi_numba.__all__}
    assert {operator.name for operator in EVERY} == names - {"pyramid_pool"}
