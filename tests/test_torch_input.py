"""What `roi_numba.torch` refuses, and in which words."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import SIZE
from device_stand_in import without_cupy
from operators import REDUCTIONS, ids

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")
from test_torch import BOXES, features, gradients, on_tensors  # noqa: E402


def changed(**changes):
    """Arguments of which one is wrong."""
    good = {"input": features(), "boxes": BOXES.copy(), "output_size": SIZE}
    return good | changes


def box(*numbers):
    boxes = BOXES.copy()
    boxes[1, : len(numbers)] = numbers
    return boxes


BAD = {
    "boxes of four columns": changed(boxes=BOXES[:, 1:]),
    "too few boxes' images": changed(boxes=BOXES[:, 1:], batch_indices=np.zeros(3, np.int64)),
    "no such image, indexed": changed(boxes=BOXES[:, 1:], batch_indices=np.array([0, 1, 2, 0])),
    "indices beside rows": changed(batch_indices=np.zeros(4, np.int64)),
    "indices beside a list": changed(boxes=[BOXES[:, 1:]] * 2, batch_indices=np.zeros(8, np.int64)),
    "list of rows": changed(boxes=[BOXES, BOXES]),
    "list of bool": changed(boxes=[BOXES[:, 1:] > 0, BOXES[:, 1:] > 0]),
    "NaN in a list": changed(boxes=[BOXES[:, 1:], box(0, np.nan)[:, 1:]]),
    "ragged": changed(boxes=[[[0.0, 1.0], [2.0]], []]),
    "boxes that are none": changed(boxes="all"),
    "three sizes": changed(output_size=(1, 2, 3)),
    "size of a float": changed(output_size=7.0),
    "scale in words": changed(spatial_scale="half"),
    "check_boxes": changed(check_boxes=1),
    "return_argmax": changed(return_argmax="yes"),
    "argmax of a mean": changed(return_argmax=True),
    "reduction": changed(reduce="median"),
    "option": changed(aligned=1),
    "sampling_ratio": changed(sampling_ratio=1.5),
}


@pytest.mark.parametrize("arguments", BAD.values(), ids=BAD)
def test_errors_are_those_of_the_array_level(arguments):
    with pytest.raises((ValueError, TypeError, IndexError)) as expected:
        roi_numba.roi_align(**arguments)

    def as_tensor(value):
        if isinstance(value, list):
            return [as_tensor(part) for part in value]
        return torch.from_numpy(value) if isinstance(value, np.ndarray) else value

    for requires_grad in (False, True):
        given = {name: as_tensor(value) for name, value in arguments.items()}
        given["input"].requires_grad_(requires_grad)
        with pytest.raises(expected.type) as found:
            roi_torch.roi_align(**given)
        assert str(found.value) == str(expected.value)


def test_only_tensors():
    boxes = torch.from_numpy(BOXES.copy())
    with pytest.raises(TypeError, match="input must be a torch tensor, got ndarray"):
        roi_torch.roi_align(features(), boxes, SIZE)
    with pytest.raises(TypeError, match="boxes must be an array, got int"):
        roi_torch.roi_align(torch.from_numpy(features()), 3, SIZE)
    with pytest.raises(TypeError, match="layout"):
        roi_torch.roi_align(torch.from_numpy(features()).to_sparse(), boxes, SIZE)


def test_devices(monkeypatch):
    """What lies on a GPU is refused in words where nothing can compute there."""
    without_cupy(monkeypatch)

    class OnDevice(torch.Tensor):
        def __dlpack_device__(self):
            return (2, 0)

    input = torch.from_numpy(features()).as_subclass(OnDevice)
    with pytest.raises(ImportError, match=r"CUDA arrays need CuPy.*roi_numba\[cuda12\]"):
        roi_numba.roi_align(input, torch.from_numpy(BOXES.copy()), SIZE)


def test_boxes_of_an_image_on_another_device():
    boxes = [torch.from_numpy(BOXES[:2, 1:].copy()), torch.zeros(1, 4, device="meta")]
    words = r"boxes\[1\] must be on the device of input, cpu, or in host memory, got one on meta"
    with pytest.raises(TypeError, match=words):
        roi_torch.roi_align(torch.from_numpy(features()), boxes, SIZE)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i4", ml_dtypes.bfloat16, np.float16], ids=str)
def test_numpy_boxes_of_any_dtype(dtype):
    boxes, map = BOXES.astype(dtype), torch.from_numpy(features())
    images = boxes[:, 0].astype(np.int64).astype(">i8")
    expected = roi_numba.roi_align(map, boxes, SIZE)
    assert torch.equal(roi_torch.roi_align(map, boxes, SIZE), expected)
    output = roi_torch.roi_align(map, boxes[:, 1:], SIZE, batch_indices=images)
    assert torch.equal(output, expected)


def lazily_negated(array):
    return torch.complex(torch.zeros(()).expand(array.shape), -torch.tensor(array)).conj().imag


def fake(array):
    with torch._subclasses.FakeTensorMode() as mode:
        return mode.from_tensor(torch.tensor(array))


UNREADY = {
    "negated": (lazily_negated, "must not be lazily negated, .*resolve_neg"),
    "zeros without memory": (
        lambda array: torch._efficientzerotensor(array.shape),
        "must have memory, got a Tensor without",
    ),
    "meta": (lambda array: torch.tensor(array, device="meta"), "must have memory"),
    "fake": (fake, "must have memory, got a FakeTensor without"),
}


@pytest.mark.parametrize("argument", ["input", "boxes", "out"])
@pytest.mark.parametrize(("make", "said"), UNREADY.values(), ids=UNREADY)
def test_tensors_whose_memory_is_not_all(make, said, argument):
    """The array level sees memory only."""
    arguments = {"input": torch.from_numpy(features()), "boxes": torch.from_numpy(BOXES.copy())}
    arguments["out"] = torch.zeros(4, 19, *SIZE)
    arguments[argument] = make(arguments[argument].numpy().astype(np.float32))
    with pytest.raises(TypeError, match=f"{argument} {said}"):
        roi_numba.roi_align(output_size=SIZE, **arguments)


# torch's own, where forward mode begins.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_derivatives_are_not_lost_at_the_array_level():
    map, boxes = torch.from_numpy(features()), torch.from_numpy(BOXES.copy())

    def pool(map):
        return roi_numba.roi_align(map, boxes, SIZE)

    said = "input must not be of torch.func or have a tangent here, .*roi_numba.torch"
    forward_mode = torch.autograd.forward_ad
    with forward_mode.dual_level(), pytest.raises(TypeError, match=said):
        pool(forward_mode.make_dual(map, map))
    with pytest.raises(TypeError, match=said):
        torch.func.jvp(pool, (map,), (map,))
    with pytest.raises(TypeError, match=said):
        torch.vmap(pool)(map[None])


def test_bad_boxes_unchecked():
    """They give zeros and have no gradient, as if they were not there."""
    input = torch.from_numpy(features())
    for bad in (box(2), box(-1), box(0.5), box(0, np.nan), box(np.nan)):
        boxes = torch.from_numpy(bad)
        output, upstream, found = gradients(
            roi_torch.roi_align, input, boxes, SIZE, check_boxes=False
        )
        others = [0, 2, 3]
        boxes = boxes[others]
        assert not output[1].any()
        assert torch.equal(output[others], roi_torch.roi_align(input, boxes, SIZE))
        wanted = roi_numba.roi_align_backward(upstream[others], input, boxes)
        assert torch.equal(found[0], wanted[0])
        assert torch.equal(found[1][others], wanted[1])
        assert not found[1][1].any()


# torch's own, where forward mode begins.
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
def test_derivatives_of_bad_boxes_unchecked(operator, reduction):
    """Tangents and second derivatives too are as if such boxes were not there."""
    map = torch.from_numpy(features())
    options = operator.reductions[reduction] | {"check_boxes": False}

    def everything(boxes):
        def function(map, boxes):
            return on_tensors(operator)(map, boxes, SIZE, **options)

        def pulled(map, upstream):
            return torch.func.vjp(function, map, boxes)[1](upstream)

        motion = torch.ones_like(boxes) * torch.tensor([0, 1, 2, 3, 4])
        output, tangent = torch.func.jvp(function, (map, boxes), (map.cos(), motion))
        return output, tangent, *torch.func.jvp(pulled, (map, output), (map.sin(), output))[1]

    boxes = torch.from_numpy(box(0, np.nan))
    others = [0, 2, 3]
    for actual, wanted in zip(everything(boxes), everything(boxes[others]), strict=True):
        if actual.shape != map.shape:
            assert not actual[1].any()
            actual = actual[others]
        torch.testing.assert_close(actual, wanted)


def test_gradients_of_another_dtype_or_shape():
    """Autograd makes the first fit; the ops themselves refuse both."""
    boxes = torch.from_numpy(BOXES.copy())
    op = torch.ops.roi_numba.prroi_pool_grad_input
    rest = boxes, None, None, (2, 19, 9, 11), 1.0, False, "mean", 1, None
    with pytest.raises(ValueError, match=r"grad_output must have shape \(4, 19, height, width\)"):
        op(torch.zeros(3, 19, 2, 2).double(), *rest)
    op = torch.ops.roi_numba.prroi_pool_grad_boxes
    with pytest.raises(TypeError, match="grad_output must be of dtype float64, got float32"):
        op(
            torch.zeros(4, 19, 2, 2),
            torch.from_numpy(features()),
            boxes,
            *rest[1:3],
            *rest[4:],
        )


def test_ops_of_maxima_want_the_winners():
    op = torch.ops.roi_numba.roi_warp_grad_input
    rest = None, None, (2, 19, 9, 11), 1.0, 1, True, "max", 1, None
    with pytest.raises(ValueError, match='argmax must be given with reduce="max"'):
        op(torch.zeros(4, 19, 2, 2), torch.from_numpy(BOXES.copy()), *rest)
