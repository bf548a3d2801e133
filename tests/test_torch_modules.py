"""The modules of `roi_numba.torch`, and how it is imported."""

import inspect

import pytest

from operators import OPERATORS, ids
from subprocesses import PACKAGE, run

torch = pytest.importorskip("torch", reason="the torch extra is not installed")
roi_torch = pytest.importorskip("roi_numba.torch")
from test_torch import BOXES, features, on_tensors, tensors  # noqa: E402

MODULES = {
    "RoIAlign": "roi_align",
    "RoIPool": "roi_pool",
    "RoIWarp": "roi_warp",
    "CropPool": "crop_pool",
    "PrRoIPool": "prroi_pool",
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(name):
    """They do what the functions do, and print themselves as their constructor is called."""
    function = getattr(roi_torch, MODULES[name])
    given = {"output_size": (3, 2), "spatial_scale": 0.5}
    if name == "RoIAlign":
        given |= {"sampling_ratio": 2, "aligned": True}
    if name == "RoIWarp":
        given |= {"sampling_ratio": 2}
    module = getattr(roi_torch, name)(*given.values())
    input, boxes = tensors(features(), BOXES)
    assert torch.equal(module(input, boxes), function(input, boxes, **given))
    assert torch.equal(module(input, rois=boxes), function(input, boxes, **given))
    corners, images = boxes[:, 1:], boxes[:, 0].long()
    assert torch.equal(module(input, corners, images), function(input, boxes, **given))
    assert repr(module) == f"{name}({', '.join(f'{k}={v!r}' for k, v in given.items())})"
    assert not list(module.parameters())
    assert torch.equal(torch.nn.Sequential(module)[0](input, boxes), module(input, boxes))
    channels_last = getattr(roi_torch, name)(*given.values(), channel_axis=-1)
    assert "channel_axis=-1" in repr(channels_last)
    last = channels_last(input.movedim(1, -1), boxes)
    assert torch.equal(last.movedim(-1, 1), module(input, boxes))


def test_modules_are_torchvisions():
    """Its arguments in its order, and its words."""
    assert repr(roi_torch.RoIAlign(7, 0.25, 2)) == (
        "RoIAlign(output_size=7, spatial_scale=0.25, sampling_ratio=2, aligned=False)"
    )
    assert repr(roi_torch.RoIPool((7, 7), 0.25)) == (
        "RoIPool(output_size=(7, 7), spatial_scale=0.25)"
    )


# ---- importing -----------------------------------------------------------------------------


def test_nobody_imports_torch_unasked():
    run("import roi_numba, sys; assert 'torch' not in sys.modules")


def test_without_torch():
    """One clear sentence."""
    code = "import sys; sys.modules['torch'] = None; import roi_numba.torch"
    said = run(code, status=1, package=PACKAGE)
    assert "ImportError: roi_numba.torch needs PyTorch: pip install 'roi_numba[torch]'" in said


@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_signatures(operator):
    """Those of the array level, without `out`."""
    ours = inspect.signature(on_tensors(operator)).parameters
    theirs = dict(inspect.signature(operator.function).parameters)
    del theirs["out"]
    assert list(ours) == list(theirs)
    for name, parameter in ours.items():
        assert (parameter.default, parameter.kind) == (theirs[name].default, theirs[name].kind)
