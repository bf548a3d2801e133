"""What peers computed for nasty boxes (see data/README.md), and the library and reference too."""

from pathlib import Path

import numpy as np
import pytest

import reference
import reference_gradients
import roi_numba

FILES = [
    file
    for file in sorted((Path(__file__).parent / "data").glob("*.npz"))
    if not file.stem.startswith(("tensorflow_crop", "torchvision_multiscale"))  # have their own
]

# the peers' names for an operator -> ours, and the options that are not in the file
OPERATORS = {
    "roi_pool": ("roi_pool", {"bins": "float"}),
    "roi_align": ("roi_align", {}),
    "roi_align_max": ("roi_align", {"reduce": "max"}),
    "roi_align_max_onnx": ("roi_align", {"reduce": "max_corner"}),
    "roi_warp_mnc": ("roi_warp", {"sampling_ratio": 1}),
    "prroi_pool": ("prroi_pool", {}),
}


@pytest.fixture(params=FILES, ids=[file.stem for file in FILES])
def golden(request):
    with np.load(request.param) as file:
        return dict(file)


@pytest.fixture(params=[roi_numba, reference], ids=["library", "reference"])
def operators(request):
    return request.param


def options_of(golden):
    """Our operator's name, and its options."""
    name, fixed = OPERATORS[str(golden["op"])]
    stored = {key: golden[key].item() for key in ("sampling_ratio", "aligned") if key in golden}
    return name, fixed | stored


def call(operators, golden, features=None, **options):
    name, stored = options_of(golden)
    features = golden["features"] if features is None else features
    size, scale = tuple(golden["output_size"].tolist()), golden["spatial_scale"].item()
    options = stored | options
    return getattr(operators, name)(features, golden["rois"], size, scale, **options)


def test_golden(operators, golden):
    output, expected = call(operators, golden), golden["expected"]
    assert output.shape == expected.shape
    compared = np.ones(expected.shape, bool)
    if golden["peer"] == "chainer":
        # Chainer skips samples outside the map: only bins with every sample inside are alike, and
        # those are the bins where the mean of ones is one.
        ones = np.ones_like(golden["features"])
        compared = call(reference, golden, ones, reduce="mean") > 1 - 1e-9
        assert 0.2 < compared.mean() < 1
    tolerance = 1e-12 if expected.dtype == np.float64 else 2e-5
    scale = np.abs(expected[compared]).max(initial=0)
    np.testing.assert_allclose(output[compared], expected[compared], rtol=0, atol=tolerance * scale)


def has_gradients(file):
    with np.load(file) as golden:
        return "grad_output" in golden


@pytest.mark.parametrize("file", [f for f in FILES if has_gradients(f)], ids=lambda f: f.stem)
@pytest.mark.parametrize(
    "gradients", [roi_numba, reference_gradients], ids=["library", "reference"]
)
def test_golden_gradients(gradients, file):
    with np.load(file) as golden:
        golden = dict(golden)
    name, options = options_of(golden)
    scale, backward = golden["spatial_scale"].item(), getattr(gradients, f"{name}_backward")
    found = backward(golden["grad_output"], golden["features"], golden["rois"], scale, **options)
    for argument, actual in zip(("features", "rois"), found, strict=True):
        expected = golden.get(f"expected_grad_{argument}")
        if expected is not None:
            assert actual.shape == expected.shape
            tolerance = 1e-12 if expected.dtype == np.float64 else 2e-5
            if argument == "rois":
                # The kernel divides float32 differences of values by the width of a bin, which
                # costs it digits in small boxes: 2.1e-5 from the reference in float64.
                tolerance = 3e-5
            limit = tolerance * np.abs(expected).max(initial=0)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("file", [f for f in FILES if "roi_pool" in f.stem], ids=lambda f: f.stem)
def test_roi_pool_argmax_scatters_torchvisions_gradient(operators, file):
    with np.load(file) as golden:
        golden = dict(golden)
    _, argmax = call(operators, golden, return_argmax=True)
    gradient = np.zeros(golden["features"].shape)
    planes = gradient.reshape(*gradient.shape[:2], -1)
    batch, channel = golden["rois"][:, 0].astype(int)[:, None, None, None], np.arange(4)
    batch, channel = np.broadcast_arrays(batch, channel[:, None, None])
    hit = argmax >= 0
    where = tuple(np.broadcast_to(a, hit.shape)[hit] for a in (batch, channel))
    np.add.at(planes, (*where, argmax[hit]), golden["grad_output"][hit])
    np.testing.assert_allclose(gradient, golden["expected_grad_features"], rtol=1e-5, atol=1e-5)
