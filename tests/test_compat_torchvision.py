"""`roi_numba.compat.torchvision` against what torchvision computed, and against itself."""

import inspect
from pathlib import Path

import numpy as np
import pytest

from roi_numba.compat import torchvision as compat

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("torchvision_roi_*.npz"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_as_recorded(file):
    with np.load(file) as golden:
        golden = dict(golden)
    options = {key: golden[key].item() for key in ("sampling_ratio", "aligned") if key in golden}
    size, scale = tuple(golden["output_size"].tolist()), golden["spatial_scale"].item()
    name = str(golden["op"])
    arrays, expected = (golden["features"], golden["rois"]), golden["expected"]
    tolerance = (1e-12 if expected.dtype == np.float64 else 2e-5) * np.abs(expected).max(initial=1)
    function = getattr(compat, name)
    module = getattr(compat, {"roi_align": "RoIAlign", "roi_pool": "RoIPool"}[name])
    for output in (
        function(*arrays, size, scale, **options),
        module(size, scale, **options)(*arrays),
    ):
        assert output.dtype == expected.dtype
        np.testing.assert_allclose(output, expected, rtol=0, atol=tolerance)


def test_multiscale_as_recorded():
    with np.load(DATA / "torchvision_multiscale_f32_canon224.npz") as file:
        golden = dict(file)
    maps = {str(i): golden[f"features{i}"] for i in range(4)}
    boxes = [golden["boxes_image0"], golden["boxes_image1"]]
    size, shape = tuple(golden["output_size"].tolist()), tuple(golden["image_size"].tolist())
    pooler = compat.MultiScaleRoIAlign(list(maps), size, golden["sampling_ratio"].item())
    output = pooler(maps | {"pool": maps["3"]}, boxes, [shape, shape])
    np.testing.assert_allclose(output, golden["expected"], rtol=0, atol=2e-5)


MAPS = {str(i): np.zeros((1, 1, 64 >> i, 64 >> i), np.float32) for i in range(4)}
IMAGES = [(256, 256)]


@pytest.mark.parametrize(
    ("names", "maps", "shapes", "error", "words"),
    [
        (["p"], MAPS, IMAGES, ValueError, r"featmap_names must name maps of x, got \['p'\] for"),
        ([*MAPS], MAPS, [], ValueError, "image_shapes must be one .* for each image, got none"),
        ([*MAPS], MAPS, [("a", 1)], TypeError, r"image_shapes\[0\] must be an int or"),
        ([*MAPS], MAPS, [(0, 1)], ValueError, r"image_shapes\[0\] must be an int or"),
        ([*MAPS], dict(reversed(MAPS.items())), IMAGES, ValueError, "x must have a map for each"),
        (["0", "2"], MAPS, IMAGES, ValueError, r"x must have a map for each .* levels \[2, 4\]"),
        (["0"], {"0": np.zeros((1, 1, 0, 8))}, IMAGES, ValueError, "heights of the maps in x must"),
        (["0"], {"0": np.zeros((1, 8, 8))}, IMAGES, ValueError, "each map of x must have shape"),
    ],
)
def test_bad_pyramids(names, maps, shapes, error, words):
    with pytest.raises(error, match=f"^{words}"):
        compat.MultiScaleRoIAlign(names, 2, 2)(maps, [np.ones((1, 4))], shapes)


def test_two_maps_of_one_level(rng):
    """As of torchvision's detectors on MobileNet: all boxes are pooled from the first."""
    first, second = rng.normal(size=(2, 1, 2, 8, 8))
    boxes = np.array([[10.0, 20, 200, 130], [0, 0, 256, 256], [30, 30, 40, 45]])
    output = compat.MultiScaleRoIAlign(["0", "1"], 3, 2)(
        {"0": first, "1": second}, [boxes], [(256, 256)]
    )
    np.testing.assert_array_equal(output, compat.roi_align(first, [boxes], 3, 1 / 32, 2))


@pytest.mark.parametrize("name", compat.__all__)
def test_signatures(name):
    peer = pytest.importorskip("torchvision")
    theirs = inspect.signature(getattr(peer.ops, name)).parameters
    ours = inspect.signature(getattr(compat, name)).parameters
    assert list(ours) == list(theirs)
    for key, parameter in ours.items():
        assert parameter.default == theirs[key].default


def test_as_torchvision(rng):
    peer, torch = pytest.importorskip("torchvision"), pytest.importorskip("torch")
    maps = rng.normal(size=(2, 4, 20, 30)).astype(np.float32)
    corners = np.sort(rng.uniform(-20, 320, (40, 2, 2)), 1).reshape(40, 4)
    boxes = np.column_stack([np.arange(40) % 2, corners]).astype(np.float32)
    arrays = maps, boxes
    for name, options in [("roi_align", (2,)), ("roi_align", (-1, True)), ("roi_pool", ())]:
        tensors = [torch.tensor(maps, requires_grad=True), torch.tensor(boxes)]
        again = [torch.tensor(maps, requires_grad=True), torch.tensor(boxes)]
        expected = getattr(peer.ops, name)(*tensors, 7, 1 / 16, *options)
        found = getattr(compat, name)(*again, 7, 1 / 16, *options)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
        array = getattr(compat, name)(*arrays, 7, 1 / 16, *options)
        np.testing.assert_allclose(array, expected.detach().numpy(), rtol=0, atol=2e-5)
        expected.sin().sum().backward()
        found.sin().sum().backward()
        torch.testing.assert_close(again[0].grad, tensors[0].grad, rtol=0, atol=1e-4)
