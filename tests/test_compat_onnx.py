"""`roi_numba.compat.onnx` against ONNX's own tests, what onnxruntime computed, and both of them."""

import importlib
from pathlib import Path

import numpy as np
import pytest

import roi_numba
from roi_numba.compat import onnx as compat

DATA = Path(__file__).parent / "data"
NODE_TESTS = sorted((DATA / "compat").glob("onnx_test_roialign_*.npz"))
ATTRIBUTES = (
    "coordinate_transformation_mode mode output_height output_width sampling_ratio spatial_scale"
).split()


def load(file):
    with np.load(file) as arrays:
        return {key: value if value.ndim else value.item() for key, value in arrays.items()}


def golden(name):
    """A call of onnxruntime in `data`: X, rois, batch_indices, attributes, what came of it."""
    stored = load(DATA / f"{name}.npz")
    height, width = stored["output_size"].tolist()
    attributes = {
        "mode": stored["mode"],
        "output_height": height,
        "output_width": width,
        "sampling_ratio": stored["sampling_ratio"],
        "spatial_scale": stored["spatial_scale"],
    }
    if stored["opset"] >= 16:
        mode = "half_pixel" if stored["aligned"] else "output_half_pixel"
        attributes["coordinate_transformation_mode"] = mode
    rois = stored["rois"]
    inputs = (stored["features"], rois[:, 1:], rois[:, 0].astype(np.int64))
    return inputs, attributes, stored["expected"]


GOLDENS = {
    10: "onnxruntime_roi_align_op10_f32_sr2_avg",
    16: "onnxruntime_roi_align_op16_f32_sr2_max_al1",
}


def assert_same(found, expected):
    """Both added up in float32, in different orders."""
    assert found.dtype == expected.dtype
    tolerance = 2e-5 * np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def model(operator, arrays, opset, **attributes):
    """A model of one operator on arrays of these shapes and dtypes, by their names."""
    onnx = pytest.importorskip("onnx")
    inputs = [
        onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        )
        for name, array in arrays.items()
    ]
    output = onnx.helper.make_tensor_value_info("Y", inputs[0].type.tensor_type.elem_type, None)
    node = onnx.helper.make_node(operator, list(arrays), ["Y"], **attributes)
    opsets = [onnx.helper.make_opsetid("", opset)]
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)


def evaluated(proto, arrays):
    """What ONNX's evaluator makes of a model with our operators; that they are asked is checked."""
    reference = pytest.importorskip("onnx.reference")
    operators = compat.new_ops()
    evaluator = reference.ReferenceEvaluator(proto, new_ops=operators)
    assert [type(node) in operators for node in evaluator.rt_nodes_] == [True]
    return evaluator.run(None, arrays)[0]


# ---- what was computed before ----------------------------------------------------------------


def test_onnxs_tests_are_here():
    assert [file.stem.removeprefix("onnx_test_roialign_") for file in NODE_TESTS] == [
        "aligned_false",
        "aligned_true",
        "mode_max",
    ]


@pytest.mark.parametrize("file", NODE_TESTS, ids=lambda file: file.stem)
def test_onnxs_tests_pass(file):
    stored = load(file)
    attributes = {key: stored[key] for key in ATTRIBUTES if key in stored}
    found = compat.RoiAlign(*(stored[key] for key in ("X", "rois", "batch_indices")), **attributes)
    # ONNX's own limits; its tests give four digits.
    np.testing.assert_allclose(found, stored["expected"], rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("opset", GOLDENS)
def test_onnxruntimes_results(opset):
    inputs, attributes, expected = golden(GOLDENS[opset])
    function = compat.RoiAlign if opset >= 16 else compat.RoiAlign_10
    assert_same(function(*inputs, **attributes), expected)


def test_max_roi_pool_on_torchvisions_results():
    """onnxruntime's MaxRoiPool has the same bits (see `test_max_roi_pool_in_onnxruntime`)."""
    stored = load(DATA / "torchvision_roi_pool_f32_7x7_s16.npz")
    shape = tuple(stored["output_size"].tolist())
    found = compat.MaxRoiPool(
        stored["features"],
        stored["rois"],
        pooled_shape=shape,
        spatial_scale=stored["spatial_scale"],
    )
    np.testing.assert_array_equal(found, stored["expected"])


def test_defaults_are_those_of_the_schemas():
    inputs, _, _ = golden(GOLDENS[16])
    X, rois, images = inputs
    plain = [
        roi_numba.roi_align(X, rois, 1, 1.0, 0, aligned, batch_indices=images)
        for aligned in (False, True)
    ]
    assert not np.array_equal(*plain)
    np.testing.assert_array_equal(compat.RoiAlign_10(*inputs), plain[0])
    np.testing.assert_array_equal(compat.RoiAlign(*inputs), plain[1])


@pytest.mark.parametrize(
    ("attribute", "value"), [("mode", "mean"), ("coordinate_transformation_mode", "asymmetric")]
)
def test_words_onnx_does_not_know(attribute, value):
    inputs, _, _ = golden(GOLDENS[16])
    with pytest.raises(ValueError, match=f"^{attribute} must be one of"):
        compat.RoiAlign(*inputs, **{attribute: value})


# ---- onnx itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["aligned_false", "aligned_true", "mode_max"])
def test_node_tests_in_the_evaluator(name):
    pytest.importorskip("onnx")
    node = importlib.import_module("onnx.backend.test.case.node")
    importlib.import_module("onnx.backend.test.case.node.roialign")  # puts its tests on a list
    (case,) = (each for each in node._NodeTestCases if each.name == f"test_roialign_{name}")
    names = [each.name for each in case.model.graph.input]
    ((inputs, (expected,)),) = case.data_sets
    found = evaluated(case.model, dict(zip(names, inputs, strict=True)))
    np.testing.assert_allclose(found, expected, rtol=case.rtol, atol=case.atol)


@pytest.mark.parametrize(("opset", "stored"), [(10, 10), (11, 10), (16, 16), (22, 16)])
def test_the_evaluator_follows_the_opset(opset, stored):
    inputs, attributes, expected = golden(GOLDENS[stored])
    arrays = dict(zip(("X", "rois", "batch_indices"), inputs, strict=True))
    found = evaluated(model("RoiAlign", arrays, opset, **attributes), arrays)
    assert_same(found, expected)


def test_the_evaluators_defaults_are_those_of_the_opset():
    inputs, _, _ = golden(GOLDENS[16])
    arrays = dict(zip(("X", "rois", "batch_indices"), inputs, strict=True))
    for opset, function in ((10, compat.RoiAlign_10), (16, compat.RoiAlign), (22, compat.RoiAlign)):
        found = evaluated(model("RoiAlign", arrays, opset), arrays)
        np.testing.assert_array_equal(found, function(*inputs))


@pytest.mark.parametrize("opset", [1, 16, 22])
def test_max_roi_pool_in_the_evaluator(opset):
    stored = load(DATA / "torchvision_roi_pool_f32_7x7_s16.npz")
    arrays = {"X": stored["features"], "rois": stored["rois"]}
    attributes = {"pooled_shape": (7, 7), "spatial_scale": stored["spatial_scale"]}
    found = evaluated(model("MaxRoiPool", arrays, opset, **attributes), arrays)
    np.testing.assert_array_equal(found, stored["expected"])


# ---- onnxruntime -----------------------------------------------------------------------------


def run(proto, arrays):
    """What onnxruntime makes of a model, its warnings about its own maxima apart."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, arrays)[0]


def nasty(dtype, ordered, seed):
    """Maps, boxes far out and within, on pixels, half-way between, without area; their images."""
    rng = np.random.default_rng(seed)
    rois = rng.uniform(-20, 70, (400, 4))
    rois[:150] = np.round(rois[:150] * 2) / 2
    rois[150:160, 2:] = rois[150:160, :2]
    if ordered:  # onnxruntime fails on an adaptive grid of negative size
        rois = np.concatenate(
            [np.minimum(rois[:, :2], rois[:, 2:]), np.maximum(rois[:, :2], rois[:, 2:])], 1
        )
    return {
        "X": rng.normal(size=(2, 4, 13, 17)).astype(dtype),
        "rois": rois.astype(dtype),
        "batch_indices": rng.integers(0, 2, len(rois)),
    }


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize(
    ("opset", "transformation"), [(10, None), (16, "half_pixel"), (16, "output_half_pixel")]
)
def test_roi_align_in_onnxruntime(opset, transformation, mode, dtype):
    function = compat.RoiAlign if transformation else compat.RoiAlign_10
    kind = {"coordinate_transformation_mode": transformation} if transformation else {}
    for ratio in (0, 1, 2, 3):
        for scale in (0.5, 0.375, 1 / 16):  # 0.37 in float32 is 0.37 in float64 no more
            arrays = nasty(dtype, ratio == 0, seed=ratio)
            attributes = kind | {
                "mode": mode,
                "output_height": 3,
                "output_width": 4,
                "sampling_ratio": ratio,
                "spatial_scale": scale,
            }
            expected = run(model("RoiAlign", arrays, opset, **attributes), arrays)
            assert_same(function(*arrays.values(), **attributes), expected)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.37, 0.7, 1 / 16])
@pytest.mark.parametrize("shape", [(3, 4), (7, 7), (14, 14)])
def test_max_roi_pool_in_onnxruntime(shape, scale):
    arrays = nasty(np.float32, False, seed=5)
    images = arrays.pop("batch_indices")
    arrays["rois"] = np.column_stack([images, arrays["rois"]]).astype(np.float32)
    attributes = {"pooled_shape": shape, "spatial_scale": scale}
    expected = run(model("MaxRoiPool", arrays, 16, **attributes), arrays)
    found = compat.MaxRoiPool(arrays["X"], arrays["rois"], **attributes)
    np.testing.assert_array_equal(found, expected)
