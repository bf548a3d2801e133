"""`roi_numba.compat` on torch's tensors and JAX's arrays: theirs come back, with gradients."""

from importlib import import_module

import numpy as np
import pytest

from compat_arrays import ARRAYS

CALLS = [
    ("torchvision", "roi_align", "input boxes", (3, 1 / 16, 2)),
    ("torchvision", "roi_pool", "input boxes", (3, 1 / 16)),
    ("mmcv", "roi_align", "input boxes", (3, 1 / 16, 2)),
    ("mmcv", "roi_pool", "input boxes", (3, 1 / 16)),
    ("mmcv", "prroi_pool", "input boxes", (3, 1 / 16)),
    ("paddle", "roi_align", "input xyxy counts", (3, 1 / 16, 2)),
    ("paddle", "roi_pool", "input xyxy counts", (3, 1 / 16)),
    ("chainer", "roi_average_align_2d", "input yxyx indices", (3, 1 / 16, 2)),
    ("chainer", "roi_max_align_2d", "input yxyx indices", (3, 1 / 16, 2)),
    ("chainer", "roi_max_align_2d", "input yxyx indices", (3, 1 / 16)),
    ("chainer", "roi_average_pooling_2d", "input yxyx indices", (3, 1 / 16)),
    ("chainer", "roi_max_pooling_2d", "input yxyx indices", (3, 1 / 16)),
    ("openvino", "roi_pooling", "input unit_boxes", ((3, 3), 1 / 16, "bilinear")),
    ("tensorflow", "crop_and_resize", "image normalized indices", ([3, 4],)),
]


@pytest.fixture(params=CALLS, ids=lambda call: "-".join(call[:2]))
def call(request):
    """The function, its arrays, its numbers, and what comes of NumPy's arrays."""
    peer, name, names, numbers = request.param
    function = getattr(import_module(f"roi_numba.compat.{peer}"), name)
    arrays = [ARRAYS[each] for each in names.split()]
    return function, arrays, numbers, function(*arrays, *numbers)


def test_torch(call):
    torch = pytest.importorskip("torch")
    function, arrays, numbers, expected = call
    input, *others = (torch.from_numpy(array.copy()) for array in arrays)
    pooled = function(input.requires_grad_(), *others, *numbers)
    np.testing.assert_allclose(pooled.detach().numpy(), expected, rtol=0, atol=1e-6)
    seen = pooled[torch.isfinite(pooled)]
    # Of a sum, the gradient along the map itself is the sum: all results are linear or maxima.
    seen.sum().backward()
    along = (input.grad * input).sum()
    torch.testing.assert_close(along, seen.detach().sum(), rtol=1e-4, atol=1e-3)


def test_jax(call):
    jax = pytest.importorskip("jax")
    function, arrays, numbers, expected = call
    input, *others = map(jax.numpy.asarray, arrays)
    pooled = jax.jit(lambda input: function(input, *others, *numbers))(input)
    # Without x64 boxes are float32, where Chainer's are float64.
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-4)


def test_adaptive_samples_of_traced_boxes():
    jax = pytest.importorskip("jax")
    function = import_module("roi_numba.compat.chainer").roi_max_align_2d
    input, boxes, indices = (jax.numpy.asarray(ARRAYS[n]) for n in ("input", "yxyx", "indices"))
    with pytest.raises(TypeError, match="rois must not be traced with an adaptive sampling_ratio"):
        jax.jit(lambda boxes: function(input, boxes, indices, 3, 1 / 16))(boxes)
    pooled = jax.jit(lambda boxes: function(input, boxes, indices, 3, 1 / 16, 2))(boxes)
    expected = function(*(ARRAYS[n] for n in ("input", "yxyx", "indices")), 3, 1 / 16, 2)
    np.testing.assert_allclose(pooled, expected, rtol=0, atol=1e-4)


BAD_COUNTS = [
    ([1, 3], ValueError, "must add up to 2 boxes, got 4"),
    ([3, -1], ValueError, "must not be negative, got -1"),
    ([1, 0, 1], ValueError, "must have one number for each of 2 images, got 3"),
    ([2], ValueError, "must have one number for each of 2 images, got 1"),
    ([1.0, 1.0], TypeError, "must be integers, got dtype .*float32"),
    ([[1, 1]], ValueError, r"must have shape \(N,\), got \(1, 2\)"),
]


@pytest.mark.parametrize(("counts", "error", "words"), BAD_COUNTS)
@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_bad_counts(library, counts, error, words):
    xp = pytest.importorskip(library)
    arrays = xp.ones((2, 1, 4, 4)), xp.ones((2, 4)), xp.asarray(counts)
    for name in ("roi_align", "roi_pool"):
        with pytest.raises(error, match=f"^boxes_num {words}"):
            getattr(import_module("roi_numba.compat.paddle"), name)(*arrays, 2)


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_counts_of_another_library(library):
    xp = pytest.importorskip(library)
    align = import_module("roi_numba.compat.paddle").roi_align
    maps, boxes, counts = np.ones((2, 1, 4, 4), np.float32), np.ones((3, 4)), np.array([1, 2])
    expected = align(maps, boxes, counts, 2)
    np.testing.assert_array_equal(align(maps, boxes, xp.asarray(counts), 2), expected)
    tensors = xp.asarray(maps), xp.asarray(boxes)
    np.testing.assert_array_equal(np.asarray(align(*tensors, counts, 2)), expected)
    np.testing.assert_array_equal(np.asarray(align(*tensors, [1, 2], 2)), expected)


def test_traced_counts():
    jax = pytest.importorskip("jax")
    align = import_module("roi_numba.compat.paddle").roi_align
    maps, boxes = jax.numpy.asarray(ARRAYS["input"]), jax.numpy.asarray(ARRAYS["xyxy"])
    counts = jax.numpy.asarray(ARRAYS["counts"])
    found = jax.jit(lambda counts: align(maps, boxes, counts, 3, 1 / 16, 2))(counts)
    np.testing.assert_array_equal(found, align(maps, boxes, counts, 3, 1 / 16, 2))


POOLERS = {
    "torchvision": lambda maps, boxes: import_module(
        "roi_numba.compat.torchvision"
    ).MultiScaleRoIAlign(["0", "1", "2", "3"], 3, 2)(
        dict(zip("0123", maps, strict=True)), boxes, [(256, 320), (250, 300)]
    ),
    "detectron2": lambda maps, boxes: import_module("roi_numba.compat.detectron2").ROIPooler(
        3, (1 / 4, 1 / 8, 1 / 16, 1 / 32), 2, "ROIAlignV2"
    )(maps, boxes),
}


@pytest.mark.parametrize("peer", POOLERS)
@pytest.mark.parametrize("library", ["torch", "jax"])
def test_pyramids(peer, library):
    """A result is linear in the maps: of its sum, the gradient along them is the sum."""
    module = pytest.importorskip(library)
    maps, boxes, pool = ARRAYS["inputs"], ARRAYS["by_image"], POOLERS[peer]
    expected = pool(maps, boxes)
    if library == "torch":
        leaves = [module.tensor(each, requires_grad=True) for each in maps]
        pooled = pool(leaves, [module.tensor(part) for part in boxes])
        gradients = module.autograd.grad(pooled.sum(), leaves)
        pooled = pooled.detach()
    else:
        numpy = module.numpy
        parts = [numpy.asarray(part) for part in boxes]
        pooled, pull = module.vjp(lambda maps: pool(maps, parts), list(map(numpy.asarray, maps)))
        gradients = pull(numpy.ones_like(pooled))[0]
    np.testing.assert_allclose(np.asarray(pooled), expected, rtol=0, atol=1e-6)
    assert sum(np.asarray(each).any() for each in gradients) > 1
    along = sum((np.asarray(g) * m).sum() for g, m in zip(gradients, maps, strict=True))
    np.testing.assert_allclose(along, expected.sum(), rtol=1e-4, atol=1e-3)


def test_pyramid_of_crops():
    torch = pytest.importorskip("torch")
    pooler = import_module("roi_numba.compat.matterport").PyramidROIAlign([3, 3])
    boxes, meta = ARRAYS["normalized"].reshape(2, 12, 4), ARRAYS["image_meta"]
    expected = pooler([boxes, meta, *ARRAYS["images"]])
    images = [torch.tensor(each, requires_grad=True) for each in ARRAYS["images"]]
    pooled = pooler([torch.tensor(boxes), torch.tensor(meta), *images])
    np.testing.assert_array_equal(pooled.detach().numpy(), expected)
    gradients = torch.autograd.grad(pooled.sum(), images, allow_unused=True)
    along = sum((g * m).sum() for g, m in zip(gradients, images, strict=True) if g is not None)
    torch.testing.assert_close(along, pooled.sum(), rtol=1e-4, atol=1e-3)
