"""Every cell of the table of capabilities: what comes out of a call, and which gradients.

Values are the matter of other tests.  The cells of CUDA are tried by `simulated_calls.py`.
"""

import warnings
from importlib import import_module

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from capabilities import BACKENDS, BINDINGS, CELLS, DTYPES, is_crop
from operators import RULES
from strategies import values

BOXES = np.array([[0, 1.3, 1.7, 6.2, 5.4]])
CROPS = {"box_indices": np.array([0]), "channel_axis": 1, "normalized": False}
RULE = {rule.name: rule for rule in RULES}


def cells(backend):
    return pytest.mark.parametrize(
        ("name", "dtype", "cell"),
        [
            pytest.param(name, dtype, cell, id=f"{name}-{dtype}")
            for (name, dtype, where), cell in CELLS.items()
            if where == backend
        ],
    )


def arguments(name):
    """Boxes, size and options; to be differentiated with no rounding that may stand still."""
    if is_crop(RULE[name]):
        return BOXES[:, 1:], 2, CROPS
    return BOXES, 2, {}


def features(dtype):
    return values(5, (1, 3, 7, 8), dtype.type)


def of_boxes(cell, gradient):
    """Whether the gradient to the boxes is what the table says: zero, or not."""
    return np.any(np.asarray(gradient)) == (cell.to_boxes != "zero")


@cells("host")
def test_host(name, dtype, cell):
    boxes, size, options = arguments(name)
    output = getattr(roi_numba, name)(features(dtype), boxes, size, **options)
    assert output.dtype == cell.result
    to_map, to_boxes = getattr(roi_numba, f"{name}_backward")(
        np.ones_like(output), features(dtype), boxes, **options
    )
    assert cell.to_map
    assert np.any(to_map != 0)
    assert of_boxes(cell, to_boxes)
    assert not cell.again


def binding(backend):
    name = BINDINGS[backend]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries, while they are imported
        library = pytest.importorskip(name, reason=f"{name} is not installed")
    return library, import_module(f"roi_numba.{name}")


def as_tensor(torch, array):
    if array.dtype == ml_dtypes.bfloat16:  # which torch does not know of NumPy
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


@cells("torch")
def test_torch(name, dtype, cell):
    torch, module = binding("torch")
    boxes, size, options = arguments(name)
    options = {
        key: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for key, value in options.items()
    }
    input, boxes = as_tensor(torch, features(dtype)), torch.from_numpy(boxes).requires_grad_()
    assert cell.to_map == input.is_floating_point()
    leaves = [input.requires_grad_(), boxes] if cell.to_map else [boxes]
    output = getattr(module, name)(input, boxes, size, **options)
    assert str(output.dtype).removeprefix("torch.") == str(cell.result)
    gradients = torch.autograd.grad(output.sum(), leaves, create_graph=cell.again)
    assert of_boxes(cell, gradients[-1].detach())
    if cell.to_map:
        assert gradients[0].any()
        if cell.again and cell.to_boxes != "zero" and dtype == np.float64:  # each compiles more
            # The gradient to the boxes is linear in the map.
            (mixed,) = torch.autograd.grad(gradients[1].square().sum(), input)
            assert mixed.any()


@cells("JAX")
def test_jax(name, dtype, cell):
    jax, module = binding("JAX")
    boxes, size, options = arguments(name)
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:

        def total(input, boxes):
            return getattr(module, name)(input, boxes, size, **options).sum()

        input, boxes = jax.numpy.asarray(features(dtype)), jax.numpy.asarray(boxes)
        output = getattr(module, name)(input, boxes, size, **options)
        assert str(output.dtype) == str(cell.result)
        assert cell.to_map == jax.numpy.issubdtype(input.dtype, jax.numpy.floating)
        assert of_boxes(cell, jax.grad(total, 1)(input, boxes))
        if cell.to_map:
            assert jax.grad(total)(input, boxes).any()
            if cell.again and cell.to_boxes != "zero" and dtype == np.float64:

                def slopes(input):
                    return (jax.grad(total, 1)(input, boxes) ** 2).sum()

                assert jax.grad(slopes)(input).any()
    finally:
        jax.config.update("jax_enable_x64", before)


def test_every_operator_is_there():
    """On the host and on CUDA devices with its rule; bindings come after."""
    for backend in ("host", "CUDA"):
        assert {(name, dtype) for name, dtype, where in CELLS if where == backend} == {
            (rule.name, dtype) for rule in RULES for dtype in DTYPES
        }
    assert {backend for _, _, backend in CELLS} == set(BACKENDS)
