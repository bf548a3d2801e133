"""On a GPU: tensors of torch and arrays of JAX, at array level and with autograd."""

import functools
import warnings

import numpy as np
import pytest

import arrays
import roi_numba
from arrays import BOXES, SIZE, features, results
from on_device import EVERY_OPERATOR, MATRIX, cupy, fetched, on_device
from operators import ids
from strategies import values

pytestmark = pytest.mark.gpu

RESULT = (len(BOXES), 19, *SIZE)


@functools.cache
def imported(name):
    """A library that need not be there; its own import may warn."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


def upstream(dtype=np.float32):
    return values(2, RESULT, dtype)


# ---- torch ---------------------------------------------------------------------------------


@pytest.fixture
def torch():
    torch = imported("torch")
    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    return torch


@pytest.fixture
def roi_torch(torch):
    return imported("roi_numba.torch")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "uint8"])
@MATRIX
def test_torch(torch, operator, reduction, dtype):
    """The bits of CuPy's arrays, on torch's device."""
    map = torch.from_numpy(features(np.float32)).to(getattr(torch, dtype)).cuda()
    gradient = torch.from_numpy(upstream()).cuda()
    gradient = gradient.to(map.dtype) if map.is_floating_point() else gradient
    boxes = torch.from_numpy(BOXES).cuda()
    options = operator.reductions[reduction]

    def everything(convert):
        arguments = convert(map), convert(boxes)
        found = results(operator.of, reduction, *arguments, SIZE)
        return *found, *operator.of.backward(convert(gradient), *arguments, **options)

    expected = everything(cupy.from_dlpack)
    found = everything(lambda tensor: tensor)
    for actual, wanted in zip(found, expected, strict=True):
        assert type(actual) is torch.Tensor
        assert actual.device == map.device
        assert torch.equal(actual, torch.from_dlpack(wanted))


@EVERY_OPERATOR
def test_torch_stream(torch, operator):
    """What torch's current stream still has to do comes first, and nothing waits for it here."""
    boxes = torch.from_numpy(BOXES).cuda()
    map = torch.from_numpy(features()).cuda()
    expected = operator.of.function(map, boxes, SIZE)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        late = torch.zeros_like(map)
        operator.of.function(late, boxes, SIZE)
        stream.synchronize()
        torch.cuda._sleep(400_000_000)
        late.copy_(map)
        found = operator.of.function(late, boxes, SIZE)
        del late  # torch may give its memory to others on this stream, and to nobody else
        assert not stream.query()
        assert torch.equal(found, expected)


@EVERY_OPERATOR
def test_torch_memory(torch, operator):
    """All that is allocated is torch's."""
    map, boxes = torch.from_numpy(features()).cuda(), torch.from_numpy(BOXES).cuda()
    gradient = torch.from_numpy(upstream()).cuda()
    operator.of.backward(gradient, map, boxes)
    pool = cupy.get_default_memory_pool()
    before = pool.used_bytes(), pool.total_bytes(), torch.cuda.memory_allocated()
    output = operator.of.function(map, boxes, SIZE)
    found = operator.of.backward(gradient, map, boxes)
    assert (pool.used_bytes(), pool.total_bytes()) == before[:2]
    kept = torch.cuda.memory_allocated() - before[2]
    sizes = sum(tensor.nbytes for tensor in (output, *found))
    assert sizes <= kept <= sizes + 512 * 3 + 4096
    del output, found
    assert torch.cuda.memory_allocated() == before[2]


@EVERY_OPERATOR
def test_torch_in_every_argument(torch, operator):
    map, boxes = torch.from_numpy(features()).cuda(), torch.from_numpy(BOXES).cuda()
    expected = operator.of.function(map, boxes, SIZE)
    order = torch.argsort(boxes[:, 0], stable=True)
    parts = [boxes[boxes[:, 0] == i, 1:] for i in range(2)]
    assert torch.equal(operator.of.function(map, parts, SIZE), expected[order])
    on_host = [part.cpu() for part in parts]
    assert torch.equal(operator.of.function(map, on_host, SIZE), expected[order])
    assert torch.equal(operator.of.function(map, BOXES, SIZE), expected)
    assert torch.equal(operator.of.function(map, boxes.cpu(), SIZE), expected)
    images = boxes[:, 0].to(torch.int64)
    for indices in (images, images.cpu(), images.int()):
        found = operator.of.function(map, boxes[:, 1:], SIZE, batch_indices=indices)
        assert torch.equal(found, expected)
    last = map.to(memory_format=torch.channels_last)
    assert torch.equal(operator.of.function(last, boxes, SIZE), expected)
    found = operator.of.function(last.permute(0, 2, 3, 1), boxes, SIZE, channel_axis=-1)
    assert torch.equal(found.permute(0, 3, 1, 2), expected)
    out = torch.empty_like(expected)
    assert operator.of.function(map, boxes, SIZE, out=out) is out
    assert torch.equal(out, expected)
    half = map.bfloat16()
    out = torch.empty_like(expected, dtype=torch.bfloat16)
    operator.of.function(half, boxes, SIZE, out=out)
    assert torch.equal(out, operator.of.function(half, boxes, SIZE))
    for name, call in {
        "input": (map.clone().requires_grad_(), boxes),
        "boxes": (map, boxes.clone().requires_grad_()),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} must not require grad here"):
            operator.of.function(*call, SIZE)
    with pytest.raises(TypeError, match=r"^boxes must be in host memory as input is"):
        operator.of.function(map.cpu(), boxes, SIZE)
    with pytest.raises(TypeError, match=r"^out must be on CUDA device 0 as input is"):
        operator.of.function(map, boxes, SIZE, out=expected.cpu())
    with pytest.raises(TypeError, match=r"^boxes must come from the library of input or NumPy"):
        operator.of.function(map, on_device(BOXES), SIZE)


@MATRIX
def test_torch_autograd(torch, roi_torch, operator, reduction):
    """The CPU's results and gradients, to the rounding of float64, with the boxes here or there."""
    options = operator.reductions[reduction]
    function = getattr(roi_torch, operator.name)
    boxes = torch.from_numpy(arrays.BOXES.astype(np.float64))
    gradient = torch.from_numpy(upstream(np.float64))

    def pulled(map, boxes):
        map = map.detach().requires_grad_()
        boxes = boxes.detach().requires_grad_()
        output = function(map, boxes, SIZE, **options)
        return output, *torch.autograd.grad(output, (map, boxes), gradient.to(output.device))

    map = torch.from_numpy(features(np.float64))
    expected = pulled(map, boxes)
    for rows in (boxes.cuda(), boxes):
        found = pulled(map.cuda(), rows)
        assert [tensor.device for tensor in found] == [found[0].device] * 2 + [rows.device]
        for actual, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(actual.cpu(), wanted, rtol=1e-11, atol=1e-11)
    found = pulled(map.cuda(), boxes.cuda())
    for actual, wanted in zip(pulled(map.cuda(), boxes.cuda()), found, strict=True):
        assert torch.equal(actual, wanted)


@MATRIX
def test_torch_further_derivatives(torch, roi_torch, operator, reduction):
    """gradcheck, forward mode, and the second derivative that there is, as on the CPU."""
    options = operator.reductions[reduction]
    function = getattr(roi_torch, operator.name)
    map = torch.from_numpy(values(3, (2, 2, 6, 7), np.float64)).cuda().requires_grad_()
    boxes = torch.tensor([[0, 1.3, 0.7, 4.2, 3.9], [1, 0.4, 1.1, 5.3, 4.6]]).double().cuda()
    if "sampling_ratio" in operator.options:
        options = options | {"sampling_ratio": 2}

    def pooled(map):
        return function(map, boxes, 2, **options)

    assert torch.autograd.gradcheck(pooled, (map,))
    assert torch.autograd.gradgradcheck(pooled, (map,))
    motion = torch.ones_like(boxes) * torch.arange(5, device=boxes.device)
    args = (map.detach(), boxes), (map.detach().cos(), motion)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, where forward mode begins
        found = torch.func.jvp(lambda m, b: function(m, b, 2, **options), *args)
        on_host = [tuple(tensor.cpu() for tensor in each) for each in args]
        wanted = torch.func.jvp(lambda m, b: function(m, b, 2, **options), *on_host)
    for actual, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-11, atol=1e-11)


@EVERY_OPERATOR
def test_torch_graph(torch, roi_torch, operator):
    """torch's CUDA graphs hold the memory of what is captured."""
    function = getattr(roi_torch, operator.name)
    map, boxes = torch.from_numpy(features()).cuda(), torch.from_numpy(BOXES).cuda()
    other = map.flip(0).contiguous()
    expected = function(other, boxes, SIZE)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            function(map, boxes, SIZE)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = function(map, boxes, SIZE)
    map.copy_(other)
    others = [torch.full_like(found, 7) for _ in range(20)]  # in whatever memory is free
    graph.replay()
    assert torch.equal(found, expected)
    assert all((each == 7).all() for each in others)


# ---- JAX -----------------------------------------------------------------------------------


@pytest.fixture
def jnp():
    jax = imported("jax")
    if jax.default_backend() != "gpu":
        pytest.skip("JAX sees no GPU")
    return imported("jax.numpy")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "uint8"])
@MATRIX
def test_jax(jnp, operator, reduction, dtype):
    map, boxes = jnp.asarray(features(np.float32)).astype(dtype), jnp.asarray(BOXES)
    host = np.asarray(map)
    gradient = upstream(np.float32).astype(np.float32 if dtype == "uint8" else host.dtype)
    options = operator.reductions[reduction]
    expected = results(operator, reduction, host, BOXES, SIZE)
    expected += operator.backward(gradient, host, BOXES, **options)
    found = results(operator.of, reduction, map, boxes, SIZE)
    found += operator.of.backward(jnp.asarray(gradient), map, boxes, **options)
    for actual, wanted in zip(found, expected, strict=True):
        assert type(actual) is type(map)
        assert actual.device == map.device
        np.testing.assert_array_equal(np.asarray(actual), wanted)


@EVERY_OPERATOR
def test_jax_arrays_that_are_let_go(jnp, operator):
    """Their memory is not used again before kernels have read it."""
    map, boxes = jnp.asarray(np.tile(features(), (1, 20, 1, 1))), jnp.asarray(BOXES)
    expected = np.asarray(operator.of.function(map, boxes, SIZE))
    for i in range(1, 50):
        late = map * 2.0**-i
        found = operator.of.function(late, boxes, SIZE)
        del late
        noise = [jnp.full(map.shape, 1e9) for _ in range(4)]
        np.testing.assert_array_equal(np.asarray(found) * 2.0**i, expected)
        del noise


@EVERY_OPERATOR
def test_jax_arrays_are_not_written_to(jnp, operator):
    map, out = jnp.asarray(features()), jnp.zeros(RESULT)
    before = np.asarray(map).copy()
    with pytest.raises(ValueError, match=r"^out must be writeable, got a read-only array"):
        operator.of.function(map, jnp.asarray(BOXES), SIZE, out=out)
    operator.of.function(map, jnp.asarray(BOXES), SIZE)
    np.testing.assert_array_equal(np.asarray(map), before)
    assert not np.asarray(out).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=ids)
def test_libraries_side_by_side(torch, jnp, dtype):
    """One after the other on one device, each on its own stream."""
    expected = fetched(roi_numba.roi_align(on_device(features(dtype)), on_device(BOXES), SIZE))
    for _ in range(5):
        its = roi_numba.roi_align(
            torch.from_numpy(features(dtype)).cuda(), torch.from_numpy(BOXES).cuda(), SIZE
        )
        np.testing.assert_array_equal(its.cpu().numpy(), expected)
        if dtype == np.float32:
            its = roi_numba.roi_align(jnp.asarray(features(dtype)), jnp.asarray(BOXES), SIZE)
            np.testing.assert_array_equal(np.asarray(its), expected)
