"""The figures of docs/understand: what they show is what the operators read."""

import re
import sys
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import roi_numba

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
sys.path.append(str(Path(__file__).parents[1] / "docs" / "understand"))
figures = import_module("figures")
worked = import_module("worked")

RULES = [
    ("roi_pool", {}),
    ("roi_pool", {"rounding": "truncate", "bins": "truncate"}),
    ("roi_warp", {"sampling_ratio": 2}),
    ("roi_align", {"sampling_ratio": 2, "aligned": True}),
    ("roi_align", {"sampling_ratio": 3}),
    ("crop_pool", {}),
    ("crop_and_resize", {}),
    ("prroi_pool", {"aligned": True}),
]
EVERY_RULE = pytest.mark.parametrize(("name", "rule"), RULES, ids=str)


@EVERY_RULE
@pytest.mark.parametrize("box", worked.BOXES.values(), ids=worked.BOXES)
def test_weights_are_those_that_pool(name, rule, box):
    """On a map that rises along x a mean is its weights', a maximum the last sample's."""
    op = getattr(roi_numba, name)
    read = worked.reads(op, (box[0], box[2]), **rule)
    mean = {"reduce": "mean"} if name in ("roi_pool", "roi_warp") else {}
    pooled = worked.pool(op, box, worked.COLUMNS, **rule, **mean)[0]
    if name == "crop_pool":
        expected = read.samples.reshape(worked.BINS, -1).max(1) - 0.5
    else:
        expected = read.weights @ np.arange(float(worked.CELLS))
        # Beside the map the integral counts zeros: along y, where the map is constant, too.
        expected *= worked.reads(op, (box[1], box[3]), **rule).weights[0].sum()
    np.testing.assert_allclose(pooled, expected, rtol=1e-6)  # crops are float32


@EVERY_RULE
def test_samples_lie_in_their_bins(name, rule):
    read = worked.reads(getattr(roi_numba, name), (100.0, 765.0), **rule)
    samples = read.samples.reshape(worked.BINS, -1)
    assert (samples >= read.bins[:, :1] - 1e-9).all()
    assert (samples <= read.bins[:, 1:] + 1e-9).all()


@EVERY_RULE
@pytest.mark.parametrize("bin", [(0, 0), (2, 3), (6, 6)], ids=str)
def test_no_sample_lies_on_what_is_written(name, rule, bin):
    panel = worked.bin_panel(getattr(roi_numba, name), worked.FIRST, *bin, "title", **rule)
    written = [text.get_window_extent() for text in panel.axes.texts if text.get_text()]
    rings = [line for line in panel.axes.lines if line.get_marker() == "o"]
    assert bool(rings) == (name not in ("roi_pool", "prroi_pool"))
    for ring in rings:
        for x, y in panel.axes.transData.transform(ring.get_xydata()):
            reach = ring.get_markersize() / 2  # a unit of a panel is a point, and a pixel here
            for text in written:
                apart = x + reach <= text.x0 or text.x1 <= x - reach
                assert apart or y + reach <= text.y0 or text.y1 <= y - reach


@EVERY_RULE
def test_drawings_are_xml_in_the_colours_of_the_page(name, rule):
    op = getattr(roi_numba, name)
    for drawing in (worked.axis(op, "a", **rule), worked.plane(op, "b < c", **rule)):
        page = drawing._repr_html_()
        assert "\n\n" not in page  # it would end HTML inside Markdown
        for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
            # A page of HTML knows this prefix, an XML parser has to be told.
            root = ElementTree.fromstring(
                svg.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
            )
            assert root.tag == "svg"
            colors = set(re.findall(r"(?:fill|stroke): (#\w+)", svg))
            assert colors <= {f"#{figures.GREY:02x}" + f"{figures.GREY:02x}" * 2}


def test_numbers():
    texts = [figures.number(value) for value in (3.0, 20.78125, 0.5, 100.0, 0.001)]
    assert texts == ["3", "20.78", "0.5", "100", "0"]
