"""`roi_numba.torch.crop_and_resize`: the array level's bits and gradients, what is refused."""

import numpy as np
import pytest

import roi_numba
from strategies import values

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")

IMAGE = torch.from_numpy(values(2, (2, 9, 11, 3), np.float64))
# Off the image, and flipped; no sample on a pixel, where there is a kink.
BOXES = torch.tensor(
    [[0.14, 0.21, 0.87, 0.66], [-0.2, 0.12, 0.61, 1.22], [0.91, 0.72, 0.11, 0.33]],
    dtype=torch.float64,
)
INDICES = torch.tensor([1, 0, 1])
SIZE = (3, 4)
OPTIONS = [
    {},
    {"method": "nearest"},
    {"edges": "tensorflow", "extrapolation_value": -2.5},
    {"normalized": False, "channel_axis": 1},
]


def crop(image, boxes, **options):
    options = {"crop_size": SIZE, "box_indices": INDICES} | options
    return roi_torch.crop_and_resize(image, boxes, **options)


def wanted(*tensors):
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def arguments(options, dtype=torch.float64):
    image = (IMAGE if options.get("channel_axis", -1) == -1 else IMAGE.movedim(-1, 1)).to(dtype)
    return image, BOXES if options.get("normalized", True) else BOXES * 8


@pytest.mark.parametrize(
    ("options", "dtype"),
    [*((options, torch.float64) for options in OPTIONS), ({}, torch.bfloat16)],
    ids=str,
)
def test_same_bits_as_the_array_level(options, dtype):
    image, boxes = arguments(options, dtype)
    leaves = wanted(image, boxes)
    crops = crop(*leaves, **options)
    expected = roi_numba.crop_and_resize(image, boxes, SIZE, box_indices=INDICES, **options)
    assert crops.dtype == torch.float32
    assert torch.equal(crops, expected)
    grad = torch.from_numpy(values(3, tuple(crops.shape), np.float32))
    ways_back = {key: value for key, value in options.items() if key != "extrapolation_value"}
    gradients = roi_numba.crop_and_resize_backward(
        grad, image, boxes, box_indices=INDICES, **ways_back
    )
    for found, gradient in zip(torch.autograd.grad(crops, leaves, grad), gradients, strict=True):
        assert found.dtype == gradient.dtype
        assert torch.equal(found, gradient)


@pytest.mark.parametrize("options", [{}, {"normalized": False, "channel_axis": 1}], ids=str)
def test_gradcheck(options):
    """Crops are float32: their rounding, relative 6e-8, through steps of 1e-3."""
    leaves = wanted(*arguments(options))
    check = torch.autograd.gradcheck
    assert check(lambda *both: crop(*both, **options), leaves, eps=1e-3, atol=2e-3, rtol=1e-3)


def test_integers_have_gradients_to_boxes_alone():
    image = (IMAGE.abs() * 50).to(torch.uint8)
    (boxes,) = wanted(BOXES)
    crop(image, boxes).sum().backward()
    _, expected = roi_numba.crop_and_resize_backward(
        torch.ones(3, *SIZE, 3), image, BOXES, box_indices=INDICES
    )
    assert torch.equal(boxes.grad, expected)


def test_compiled():
    leaves = wanted(IMAGE, BOXES)
    compiled = torch.compile(crop, backend="aot_eager", fullgraph=True)
    crops, found = crop(*leaves), compiled(*leaves)
    assert torch.equal(found, crops)
    expected = torch.autograd.grad(crops.square().sum(), leaves)
    for one, other in zip(torch.autograd.grad(found.square().sum(), leaves), expected, strict=True):
        assert torch.equal(one, other)


def test_as_torch_wants_its_ops():
    more = (INDICES, SIZE, 0.5, "bilinear", True, "exact", -1, None)
    op = torch.ops.roi_numba.crop_and_resize.default
    torch.library.opcheck(op, (*wanted(IMAGE, BOXES), *more))


def test_derivatives_that_there_are_not():
    leaves = wanted(IMAGE, BOXES)
    first = torch.autograd.grad(crop(*leaves).square().sum(), leaves, create_graph=True)
    for gradient in first:
        with pytest.raises(NotImplementedError, match="first derivatives in reverse mode alone"):
            gradient.sum().backward(retain_graph=True)
    for transformed in (
        lambda: torch.func.grad(lambda boxes: crop(IMAGE, boxes).sum())(BOXES),
        lambda: torch.func.jvp(lambda boxes: crop(IMAGE, boxes), (BOXES,), (BOXES,)),
        lambda: torch.vmap(lambda boxes: crop(IMAGE, boxes))(BOXES[None]),
    ):
        with pytest.raises(NotImplementedError, match="it does not run under"):
            transformed()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"image": IMAGE.numpy()}, TypeError, "input must be a torch tensor, got ndarray"),
        ({"image": IMAGE[0]}, ValueError, r"input must have shape \(N, H, W, C\)"),
        ({"boxes": BOXES[:, :3]}, ValueError, r"boxes must have shape \(K, 4\)"),
        ({"boxes": BOXES * torch.nan}, ValueError, "boxes must be finite"),
        ({"box_indices": INDICES + 1}, IndexError, r"box_indices must be in \[0, 2\)"),
        ({"box_indices": [0, 1, 0]}, TypeError, "box_indices must be an array, got list"),
        ({"box_indices": INDICES * 1.0}, TypeError, "box_indices must be integers"),
        ({"crop_size": 0}, ValueError, "crop_size must"),
        ({"method": "cubic"}, ValueError, "method must be one of"),
        ({"extrapolation_value": "0"}, TypeError, "extrapolation_value must be a number"),
        ({"channel_axis": 3}, ValueError, "channel_axis must be 1 or -1"),
    ],
)
def test_refused(changed, error, message):
    with pytest.raises(error, match=message):
        crop(**{"image": IMAGE, "boxes": BOXES} | changed)


def test_bad_boxes_unchecked():
    bad = BOXES.clone()
    bad[1, 2] = torch.inf
    (boxes,) = wanted(bad)
    crops = crop(IMAGE, boxes, check_boxes=False, extrapolation_value=7.0)
    assert (crops[1] == 7).all()
    assert torch.equal(crops[[0, 2]], crop(IMAGE, BOXES, extrapolation_value=7.0)[[0, 2]])
    crops.sum().backward()
    assert not boxes.grad[1].any()


def test_numpys_boxes():
    found = crop(IMAGE, BOXES.numpy(), box_indices=INDICES.numpy())
    assert torch.equal(found, crop(IMAGE, BOXES))
