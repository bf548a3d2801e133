"""`roi_numba.compat.openvino` against what OpenVINO computed, and against OpenVINO itself."""

import inspect
from pathlib import Path

import numpy as np
import pytest

import roi_numba
from roi_numba.compat import openvino as compat

DATA = Path(__file__).parent / "data"
ROI_ALIGN = [
    "openvino_roialign_asymmetric_sr2_avg",
    "compat/openvino_roialign_half_pixel_sr2_avg",
    "compat/openvino_roialign_half_pixel_for_nn_sr2_max",
]
KINDS = [
    (aligned_mode, mode)
    for aligned_mode in ("asymmetric", "half_pixel", "half_pixel_for_nn")
    for mode in ("avg", "max")
]


def load(name):
    with np.load(DATA / f"{name}.npz") as arrays:
        return {key: value if value.ndim else value.item() for key, value in arrays.items()}


def assert_same(found, expected):
    """Both added up in float32, in different orders."""
    assert found.dtype == expected.dtype
    tolerance = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# ---- what was computed before ----------------------------------------------------------------


@pytest.mark.parametrize("name", ROI_ALIGN)
def test_roi_align_results(name):
    stored = load(name)
    images, rois = stored["rois"][:, 0].astype(np.int32), stored["rois"][:, 1:]
    options = [stored[key] for key in ("sampling_ratio", "spatial_scale", "mode", "aligned_mode")]
    found = compat.roi_align(
        stored["features"], rois, images, *stored["output_size"].tolist(), *options
    )
    assert_same(found, stored["expected"])


def test_aligned_modes_differ():
    """So none of the results above would pass with another mode."""
    stored = load(ROI_ALIGN[1])
    images, rois = stored["rois"][:, 0], stored["rois"][:, 1:]
    results = [
        compat.roi_align(stored["features"], rois, images, 3, 3, 2, 0.37, mode, aligned_mode)
        for aligned_mode, mode in KINDS
    ]
    for i, one in enumerate(results):
        for other in results[:i]:
            assert np.abs(one - other).max() > 0.1


def test_maxima_are_never_below_zero():
    features, rois = -np.ones((1, 1, 4, 4), np.float32), np.array([[0, 0, 3, 3]], np.float32)
    found = compat.roi_align(features, rois, np.zeros(1, int), 2, 2, 2, 1.0, "max")
    np.testing.assert_array_equal(found, np.zeros((1, 1, 2, 2), np.float32))


def test_roi_pooling_results():
    stored = load("compat/openvino_roipooling_max_s07")
    arguments = stored["features"], stored["rois"]
    size, scale = stored["output_size"].tolist(), stored["spatial_scale"]
    found = compat.roi_pooling(*arguments, size, scale)
    np.testing.assert_array_equal(found, stored["expected"])
    rounded = roi_numba.roi_pool(*arguments, tuple(size), scale)
    assert not np.array_equal(rounded, stored["expected"])


def test_the_old_name_of_a_size_and_no_mode():
    stored = load("compat/openvino_roipooling_max_s07")
    arguments, size = (stored["features"], stored["rois"]), stored["output_size"]
    found = compat.roi_pooling(*arguments, spatial_scale=stored["spatial_scale"], output_size=size)
    np.testing.assert_array_equal(found, stored["expected"])
    boxes, images = stored["rois"][:, 1:], stored["rois"][:, 0].astype(int)
    options = boxes, images, 2, 2, 2, 0.5, "avg"
    expected = compat.roi_align(arguments[0], *options)
    np.testing.assert_array_equal(compat.roi_align(arguments[0], *options, None), expected)


def test_roi_pooling_bilinear_results():
    stored = load("compat/openvino_roipooling_bilinear")
    arguments = stored["features"], stored["rois"], stored["output_size"].tolist()
    for scale in (1.0, 1 / 16):  # which it does not use
        assert_same(compat.roi_pooling(*arguments, scale, "bilinear"), stored["expected"])


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (ValueError, "aligned_mode must be one of", ((4,), "avg", "half_pixel_for_us")),
        (ValueError, "mode must be one of", ((4,), "mean", "asymmetric")),
        (TypeError, "rois must be an array", (None, "avg", "half_pixel")),
        (ValueError, "boxes must have shape", ((3,), "avg", "half_pixel")),
    ],
)
def test_bad_roi_align(error, message, call):
    shape, *modes = call
    rois = [[0, 0, 1, 1]] if shape is None else np.zeros((1, *shape), np.float32)
    with pytest.raises(error, match=f"^{message}"):
        compat.roi_align(np.zeros((1, 1, 4, 4)), rois, np.zeros(1, int), 2, 2, 2, 1.0, *modes)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (ValueError, "method must be one of", {"method": "avg"}),
        (ValueError, "coords must have shape", {"method": "bilinear", "coords": np.zeros((1, 4))}),
        (ValueError, "coords must be finite", {"coords": np.full((1, 5), np.nan)}),
        (ValueError, "coords must have shape", {"coords": np.zeros((1, 4))}),
        (ValueError, "coords must have shape", {"coords": np.zeros(5)}),
        (TypeError, "output_roi must be an int or", {"output_roi": None}),
        (TypeError, "output_size must be None with output_roi", {"output_size": [2, 2]}),
        (TypeError, "spatial_scale must be a number", {"spatial_scale": None}),
        (
            ValueError,
            "batch index in coords must be whole",
            {"method": "bilinear", "coords": np.array([[0.5, 0, 0, 1, 1]])},
        ),
        (TypeError, "coords must be an array", {"method": "bilinear", "coords": [[0] * 5]}),
        (TypeError, "coords must be an array", {"coords": [[0] * 5]}),
        (ValueError, "spatial_scale must be finite", {"spatial_scale": 0.0}),
        (ValueError, "spatial_scale must be finite", {"spatial_scale": 1e300}),
        (
            IndexError,
            r"batch index in coords must be in \[0, 1\), got -1 for box 0",
            {"coords": np.array([[-1.0, 0, 0, 1, 1]])},
        ),
    ],
)
def test_bad_roi_pooling(error, message, changes):
    arguments = {"coords": np.zeros((1, 5)), "output_roi": [2, 2], "spatial_scale": 1.0} | changes
    with pytest.raises(error, match=f"^{message}"):
        compat.roi_pooling(np.zeros((1, 1, 4, 4)), **arguments)


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
@pytest.mark.parametrize(("aligned_mode", "mode"), KINDS)
def test_roi_align_of_other_libraries(name, aligned_mode, mode):
    xp = pytest.importorskip(name)
    stored = load(ROI_ALIGN[1])
    arrays = stored["features"], stored["rois"][:, 1:], stored["rois"][:, 0].astype(np.int32)
    options = (3, 3, 2, 0.5, mode, aligned_mode)
    found = compat.roi_align(*map(xp.asarray, arrays), *options)
    assert type(found) is type(xp.asarray(arrays[0]))
    np.testing.assert_array_equal(np.asarray(found), compat.roi_align(*arrays, *options))


@pytest.mark.parametrize("name", ["torch", "jax.numpy"])
@pytest.mark.parametrize("method", ["max", "bilinear"])
def test_roi_pooling_of_other_libraries(name, method):
    xp = pytest.importorskip(name)
    stored = load("compat/openvino_roipooling_bilinear")
    arrays = stored["features"], stored["rois"]
    found = compat.roi_pooling(*map(xp.asarray, arrays), [3, 4], 16.0, method)
    assert type(found) is type(xp.asarray(arrays[0]))
    expected = compat.roi_pooling(*arrays, [3, 4], 16.0, method)
    np.testing.assert_array_equal(np.asarray(found), expected)


# ---- OpenVINO itself -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["roi_align", "roi_pooling"])
def test_signatures(name):
    opset = pytest.importorskip("openvino").opset9
    theirs = inspect.signature(getattr(opset, name)).parameters
    ours = inspect.signature(getattr(compat, name)).parameters
    assert list(ours) == list(theirs)
    for key, parameter in ours.items():
        assert parameter.default == theirs[key].default
        assert parameter.kind == theirs[key].kind


def run(function, *arrays):
    """What OpenVINO makes of its function of these arrays."""
    openvino = pytest.importorskip("openvino")
    inputs = [openvino.opset9.parameter(list(array.shape), array.dtype) for array in arrays]
    model = openvino.Model([function(openvino.opset9, *inputs)], inputs)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    return openvino.Core().compile_model(model, "CPU", settings)(list(arrays))[0].copy()


def nasty(ordered, seed):
    """Maps, boxes far out and within, on pixels and half-way between; their images."""
    rng = np.random.default_rng(seed)
    rois = rng.uniform(-20, 70, (400, 4))
    rois[:150] = np.round(rois[:150] * 2) / 2
    if ordered:  # OpenVINO writes where it should not for an adaptive grid of negative size
        low, high = np.minimum(rois[:, :2], rois[:, 2:]), np.maximum(rois[:, :2], rois[:, 2:])
        rois = np.concatenate([low, high + 0.25], 1)
    features = rng.normal(size=(2, 4, 13, 17)).astype(np.float32)
    return features, rois.astype(np.float32), rng.integers(0, 2, len(rois))


@pytest.mark.parametrize(("aligned_mode", "mode"), KINDS)
def test_roi_align_in_openvino(aligned_mode, mode):
    for ratio in (0, 1, 2, 3):
        for scale in (0.37, 0.5, 1 / 16):
            arrays = nasty(ratio == 0, seed=ratio)
            options = (3, 4, ratio, scale, mode, aligned_mode)
            expected = run(lambda their, *inputs, o=options: their.roi_align(*inputs, *o), *arrays)
            assert_same(compat.roi_align(*arrays, *options), expected)


@pytest.mark.parametrize("shape", [[3, 4], [7, 7], [14, 14]])
def test_roi_pooling_in_openvino(shape):
    features, rois, images = nasty(False, seed=9)
    coords = np.column_stack([images, rois]).astype(np.float32)
    for scale in (1.0, 0.37, 0.7, 0.45, 1 / 3, 1 / 16):
        expected = run(
            lambda their, *inputs, s=scale: their.roi_pooling(*inputs, shape, s), features, coords
        )
        np.testing.assert_array_equal(compat.roi_pooling(features, coords, shape, scale), expected)


@pytest.mark.parametrize("shape", [[1, 1], [3, 1], [7, 7], [14, 28]])
def test_roi_pooling_bilinear_in_openvino(shape):
    """Boxes that end with the map, too, where TensorFlow's rounding loses the last row."""
    rng = np.random.default_rng(2)
    boxes = rng.uniform(-0.2, 1.2, (100, 4))
    boxes[:4], boxes[4:8], boxes[8:12] = [0, 0, 1, 1], [1, 1, 0, 0], [0.25, 0.25, 1, 1]
    coords = np.column_stack([rng.integers(0, 2, 100), boxes]).astype(np.float32)
    for size in ((8, 15), (57, 16), (13, 17)):
        features = rng.normal(size=(2, 3, *size)).astype(np.float32)
        expected = run(
            lambda their, *inputs: their.roi_pooling(*inputs, shape, 1.0, "bilinear"),
            features,
            coords,
        )
        assert_same(compat.roi_pooling(features, coords, shape, 1.0, "bilinear"), expected)
