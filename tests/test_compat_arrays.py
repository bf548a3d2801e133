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
    ("chainer", "roi_average_pooling_2d", "input yxyx indices", (3, 1 / 16)),
    ("chainer", "roi_max_pooling_2d", "input yxyx indices", (3, 1 / 16)),
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
