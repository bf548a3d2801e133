"""`roi_numba.torch`: the numbers of the array level on tensors, in every form it takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import arrays
import roi_numba
from arrays import EVERY_OPERATOR, MATRIX, SIZE, assert_same_bits, results
from operators import MAXIMA, ids
from strategies import calls, values

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")

# In float64 unless dtypes are the point, as all tests of torch: compiling takes their time.
BOXES = arrays.BOXES.astype(np.float64)


def features(dtype=np.float64):
    return arrays.features(dtype)


def on_tensors(operator):
    return getattr(roi_torch, operator.name)


def tensors(*arrays):
    """Tensors over the same memory, however it is laid out."""
    return [torch.from_numpy(np.array(array, order="K")) for array in arrays]


def assert_same(actual, expected):
    """The same bits, in a tensor."""
    assert isinstance(actual, torch.Tensor)
    assert_same_bits(actual.detach().numpy(), expected)


def gradients(function, input, boxes, *arguments, upstream=None, **options):
    """The result, an upstream gradient, and the gradients to the map and to all boxes."""
    input, *parts = (
        tensor.detach().requires_grad_(tensor.is_floating_point())
        for tensor in (input, *(boxes if isinstance(boxes, list) else [boxes]))
    )
    output = function(input, parts if isinstance(boxes, list) else parts[0], *arguments, **options)
    pooled = output[0] if isinstance(output, tuple) else output
    if upstream is None:
        upstream = torch.from_numpy(values(0, tuple(pooled.shape), np.float64)).to(pooled.dtype)
    wanted = [tensor for tensor in (input, *parts) if tensor.requires_grad]
    return output, upstream, torch.autograd.grad(pooled, wanted, upstream)


# ---- the numbers of the array level --------------------------------------------------------


@MATRIX
@given(data=st.data())
@settings(max_examples=8)
def test_same_bits_as_the_array_level(operator, reduction, data):
    call = data.draw(calls(np.float64, box_dtypes=[np.float64]))
    options = operator.reductions[reduction] | data.draw(operator.draw_options())
    axis = data.draw(st.sampled_from([1, -1]))
    arrays = np.moveaxis(call.input, 1, axis), call.boxes
    where = {"channel_axis": axis}
    expected = operator.function(*arrays, *call[2:], **options, **where)
    named = {} if reduction == "mean" else {"return_argmax": True}
    if named:
        expected = operator.function(*arrays, *call[2:], **options, **where, **named)
    else:
        expected = (expected,)
    output, upstream, found = gradients(
        on_tensors(operator), *tensors(*arrays), *call[2:], **options, **where, **named
    )
    if not named:
        output = (output,)
    for actual, wanted in zip(output, expected, strict=True):
        assert_same(actual, wanted)
    argmax = {"argmax": expected[1]} if named else {}
    wanted = operator.backward(
        upstream.numpy(), *arrays, call.spatial_scale, **options, **where, **argmax
    )
    for actual, gradient in zip(found, wanted, strict=True):
        assert_same(actual, gradient)


@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_the_winners_of_the_forward_are_those_of_the_backward(operator, reduction, monkeypatch):
    """They are saved: nobody looks for them again."""
    from roi_numba import _derivatives

    seen = []
    backward = _derivatives.backward

    def watched(*arguments, argmax, **options):
        seen.append(argmax)
        return backward(*arguments, argmax=argmax, **options)

    monkeypatch.setattr(_derivatives, "backward", watched)
    options = operator.reductions[reduction]
    gradients(on_tensors(operator), *tensors(features(), BOXES), SIZE, **options)
    assert len(seen) == 2
    expected = results(operator, reduction, features(), BOXES, SIZE)[1]
    for argmax in seen:
        assert_same(argmax, expected)


@MATRIX
def test_saves_no_map_it_does_not_need(operator, reduction):
    """The gradient to the map is made of boxes and, for a maximum, of names."""
    input, boxes = tensors(features(), BOXES)
    output = on_tensors(operator)(
        input.requires_grad_(), boxes, SIZE, **operator.reductions[reduction]
    )
    saved = [tensor for tensor in output.grad_fn.saved_tensors if tensor is not None]
    assert not any(tensor.data_ptr() == input.data_ptr() for tensor in saved)
    assert len(saved) == (1 if reduction == "mean" else 2)


@EVERY_OPERATOR
def test_no_copy(operator, monkeypatch):
    """The array level is lent the tensor's own memory."""
    from roi_numba import _op

    seen = []
    enter = _op.enter

    def watched(*arguments):
        seen.append(enter(*arguments))
        return seen[-1]

    monkeypatch.setattr(_op, "enter", watched)
    input, boxes = tensors(features(), BOXES)
    on_tensors(operator)(input, boxes, SIZE)
    assert seen[0].features.__array_interface__["data"][0] == input.data_ptr()


# ---- dtypes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("roi_align", torch.bfloat16),
        ("roi_align", torch.float32),
        ("roi_pool", torch.float16),
    ],
    ids=str,
)
def test_floats(name, dtype):
    """16-bit floats are the rounded results of float32, gradients too."""
    function, backward = getattr(roi_torch, name), getattr(roi_numba, f"{name}_backward")
    input, boxes = torch.from_numpy(features()).to(dtype), torch.from_numpy(BOXES)
    wide = input.float()
    output, upstream, found = gradients(function, input, boxes, SIZE)
    assert output.dtype == found[0].dtype == dtype
    assert found[1].dtype == boxes.dtype
    assert torch.equal(output, function(wide, boxes, SIZE).to(dtype))
    wanted = backward(upstream.float(), wide, boxes)
    assert torch.equal(found[0], wanted[0].to(dtype))
    torch.testing.assert_close(found[1], wanted[1])


def test_integers_are_pooled_as_float32():
    """Boxes have their gradient all the same."""
    input, boxes = torch.from_numpy(features(np.uint8)), torch.from_numpy(BOXES)
    output, upstream, (found,) = gradients(roi_torch.roi_align, input, boxes, SIZE)
    assert output.dtype == torch.float32
    assert torch.equal(output, roi_torch.roi_align(input.float(), boxes, SIZE))
    wanted = roi_numba.roi_align_backward(upstream, input.float(), boxes, needs=("boxes",))
    torch.testing.assert_close(found, wanted[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int32], ids=str)
def test_boxes(dtype):
    """Their gradient is in their dtype; integers have none."""
    boxes = torch.from_numpy(BOXES.round()).to(dtype)
    input = torch.from_numpy(features())
    _, upstream, found = gradients(roi_torch.roi_align, input, boxes, SIZE)
    wanted = roi_numba.roi_align_backward(upstream, input, boxes)
    assert len(found) == (2 if dtype.is_floating_point else 1)
    assert torch.equal(found[0], wanted[0])
    if dtype.is_floating_point:
        assert found[1].dtype == dtype
        assert torch.equal(found[1], wanted[1])


# ---- boxes in any form ---------------------------------------------------------------------


FORMS = ["rows", "indexed", "list"]
ORDER = np.argsort(BOXES[:, 0], kind="stable")


def in_form(form, boxes=BOXES):
    """The same boxes by image, as the arguments of a call and as gradients look."""
    boxes = torch.from_numpy(boxes[ORDER])
    if form == "rows":
        return boxes, {}
    if form == "indexed":
        return boxes[:, 1:].clone(), {"batch_indices": boxes[:, 0].to(torch.int64)}
    return [boxes[boxes[:, 0] == i, 1:].clone() for i in range(2)], {}


@MATRIX
@pytest.mark.parametrize("form", FORMS)
def test_boxes_in_any_form(operator, reduction, form):
    input, options = torch.from_numpy(features()), operator.reductions[reduction]
    boxes, more = in_form(form)
    output, upstream, found = gradients(on_tensors(operator), input, boxes, SIZE, **options, **more)
    rows = torch.from_numpy(BOXES[ORDER])
    assert torch.equal(output, operator.function(input, rows, SIZE, **options))
    wanted = operator.backward(upstream, input, rows, **options)
    assert torch.equal(found[0], wanted[0])
    corners = torch.cat([gradient[:, -4:] for gradient in found[1:]])
    assert torch.equal(corners, wanted[1][:, 1:])
    if form == "rows":
        assert not found[1][:, 0].any()


def test_lists_of_any_dtype():
    """As the array level joins them; an empty tensor has no say."""
    first, second = torch.tensor([[0.3, 0.7, 4.1, 5.2]]), torch.tensor([[1, 1, 4, 5]])
    input = torch.from_numpy(features())
    nothing = torch.zeros(0, 4, dtype=torch.float64)
    for boxes in (
        [first, second],
        [first.half(), second],
        [first.half(), first.bfloat16()],
        [first, first.double()],
        [nothing, first],
        [nothing, nothing],
        [[[0.3, 0.7, 4.1, 5.2]], []],
        [first.numpy(), second],
    ):
        expected = roi_numba.roi_align(input, boxes, SIZE)
        assert torch.equal(roi_torch.roi_align(input, boxes, SIZE), expected)


def test_gradients_of_lists_are_each_parts_own():
    parts = [torch.zeros(0, 4), torch.tensor([[1.0, 2, 5, 6]]).double()]
    for part in parts:
        part.requires_grad_()
    output = roi_torch.prroi_pool(torch.from_numpy(features()), parts, SIZE)
    first, second = torch.autograd.grad(output.sum(), parts)
    assert (first.shape, first.dtype) == ((0, 4), torch.float32)
    assert (second.shape, second.dtype) == ((1, 4), torch.float64)


@MATRIX
def test_nothing_to_pool(operator, reduction):
    """No boxes, no channels, no images: empty results and gradients of zeros."""
    options = operator.reductions[reduction]
    for shape, count in (((2, 3, 5, 6), 0), ((2, 0, 5, 6), 2), ((0, 3, 5, 6), 0)):
        input, boxes = torch.zeros(shape).double(), torch.zeros(count, 5).double()
        output, _, found = gradients(on_tensors(operator), input, boxes, SIZE, **options)
        assert output.shape == (count, shape[1], *SIZE)
        assert torch.equal(found[0], torch.zeros(shape).double())
        assert not found[1].any()
    assert roi_torch.roi_align(torch.zeros(0, 3, 5, 6), [], SIZE).shape == (0, 3, *SIZE)


def test_subnormal_float16_where_float32_is_flushed():
    """A thread that takes subnormal float32 for zero still has every float16."""
    bits = np.arange(2**16, dtype=np.uint16)
    input = bits[np.isfinite(bits.view(np.float16))].view(np.float16).reshape(1, 1, 248, 256)
    box = np.array([[0, 0, 0, 255, 247]], np.float32)
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU does not flush")
    try:
        output = roi_numba.roi_pool(input, box, (248, 256))
    finally:
        torch.set_flush_denormal(False)
    np.testing.assert_array_equal(output, input)
