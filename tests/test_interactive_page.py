"""The interactive figure in a browser: what it says is what the library computes.

The page is the figure alone, or that of the site built in the folder ROI_NUMBA_SITE.
"""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import roi_numba
from browser import CHROMIUM, DRIVER, browser
from operators import OPERATORS

DOCS = Path(__file__).parents[1] / "docs"
SITE = os.environ.get("ROI_NUMBA_SITE")
NAMES = [*(operator.name for operator in OPERATORS), "crop_and_resize"]
SHIFT, LEFT, UP, RIGHT, DOWN = "\ue008", "\ue012", "\ue013", "\ue014", "\ue015"
HALF_UNIT = 0.0051  # values are shown with two decimals

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
)


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as window:
        yield window
        window.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    if SITE is not None:
        page = Path(SITE).resolve() / "understand" / "interactive.html"
        assert page.is_file()
        return page.as_uri()
    source = (DOCS / "understand" / "interactive.md").read_text(encoding="utf-8")
    figure = re.search(r"^```\{raw\} html\n(.*?)^```", source, re.DOTALL | re.MULTILINE)[1]
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS / "_static", folder / "_static")
    page = folder / "understand" / "interactive.html"
    page.parent.mkdir()
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Figure</title>'
    page.write_text(f"{head}<body>{figure}", encoding="utf-8")
    return page.as_uri()


@pytest.fixture
def page(window, address):
    """The figure as it is at first, without an error of its own then or later."""
    window.resize(1280, 900)
    window.visit(address)
    yield window
    assert [error for error in window.errors() if "_static/interactive/" in error] == []


def shown(page):
    """The map, the weights written on it, the pooled values, and the call that makes them."""
    read = page.run(
        """
        const texts = (selector) =>
          [...document.querySelectorAll(`.roi-figure ${selector}`)].map((e) => e.textContent);
        return {
          map: texts(".value"),
          weights: texts(".weight"),
          pooled: [...document.querySelectorAll(".roi-output tr")].map((row) =>
            [...row.querySelectorAll("button")].map((button) => button.textContent)),
          call: texts(".roi-call")[0],
          box: [...document.querySelectorAll(".roi-fields input")].map((i) => i.valueAsNumber),
        };
        """
    )
    read["map"] = np.array(read["map"], np.float64).reshape(7, 8)
    read["pooled"] = np.array(read["pooled"], np.float64)
    return read


def assert_as_the_library(page):
    """Run the call that the page shows on the map it shows, and compare what it shows."""
    read = shown(page)
    boxes, call = read["call"].split("\n")
    names = {"np": np, "roi_numba": roi_numba, "features": read["map"][None, None]}
    exec(boxes, names)
    x1, y1, x2, y2 = read["box"]
    row = [y1, x1, y2, x2] if "box_indices" in call else [0, x1, y1, x2, y2]
    assert f"[[{', '.join(f'{value:g}' for value in row)}]]" in boxes
    np.testing.assert_allclose(eval(call, names)[0, 0], read["pooled"], rtol=0, atol=HALF_UNIT)
    return read


def choose_operator(page, name):
    page.run("document.querySelector(`.roi-operators [value=${arguments[0]}]`).click()", name)


def choose(page, label, text):
    """Choose ``text`` in the list that is labelled so."""
    page.run(
        """
        const [label, text] = arguments;
        const fields = [...document.querySelectorAll(".roi-fields label")];
        const list = fields.find((field) => field.firstChild.textContent === label).lastChild;
        list.value = [...list.options].find((option) => option.text === text).value;
        list.dispatchEvent(new Event("change"));
        """,
        label,
        text,
    )


@pytest.mark.parametrize("name", NAMES)
def test_values(page, name):
    choose_operator(page, name)
    assert f"roi_numba.{name}(" in assert_as_the_library(page)["call"]


@pytest.mark.parametrize(
    ("name", "option", "text"),
    [
        ("roi_pool", "rounding", "truncate"),
        ("roi_pool", "bins", "float"),
        ("roi_pool", "bins", "truncate"),
        ("roi_pool", "reduce", "mean"),
        ("roi_align", "sampling_ratio", "3"),
        ("roi_align", "aligned", "True"),
        ("roi_align", "reduce", "max"),
        ("roi_align", "reduce", "max_corner"),
        ("roi_warp", "quantize", "False"),
        ("crop_pool", "border", "cut"),
        ("crop_and_resize", "method", "nearest"),
        ("crop_and_resize", "normalized", "False"),
        ("crop_and_resize", "edges", "tensorflow"),
        ("prroi_pool", "aligned", "True"),
    ],
)
def test_options(page, name, option, text):
    choose(page, "rows", "3")
    choose(page, "columns", "5")
    choose_operator(page, name)
    choose(page, option, text)
    read = assert_as_the_library(page)
    assert read["pooled"].shape == (3, 5)
    assert re.search(rf'\b{option}="?{text}"?\)$', read["call"])


def side_of_a_cell(page):
    """In CSS pixels."""
    cell = "document.querySelector('.roi-figure .cell')"
    return page.run(f"return {cell}.getBoundingClientRect().width")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("pointer", ["mouse", "touch"])
def test_dragging_the_box(page, name, pointer):
    """It goes along, keeps its size, and the values change to those of its new place."""
    choose_operator(page, name)
    before = shown(page)
    cell = side_of_a_cell(page)
    page.drag(".roi-figure .body", 1.5 * cell, -0.75 * cell, pointer)
    after = assert_as_the_library(page)
    assert np.subtract(after["box"], before["box"]).tolist() == [24, -12, 24, -12]
    assert not np.array_equal(before["pooled"], after["pooled"])


@pytest.mark.parametrize(("corner", "moved"), [(1, [1, 1, 0, 0]), (4, [0, 0, 1, 1])])
def test_dragging_a_corner(page, corner, moved):
    before = shown(page)
    cell = side_of_a_cell(page)
    page.drag(f".roi-figure .handle:nth-of-type({corner})", 0.5 * cell, cell, "touch")
    after = assert_as_the_library(page)
    expected = np.multiply(moved, [8, 16, 8, 16])
    assert np.subtract(after["box"], before["box"]).tolist() == expected.tolist()


def test_the_box_stays_in_sight(page):
    page.drag(".roi-figure .body", 300, 300)
    assert shown(page)["box"][2:] == [140, 124]
    assert_as_the_library(page)


def test_keyboard(page):
    """Arrow keys move what has the focus, Shift makes it half a cell; in the values they walk."""
    before = shown(page)["box"]
    page.run("document.querySelector('.roi-figure .body').focus()")
    page.press(RIGHT)
    page.press(SHIFT, DOWN)
    page.run("document.querySelector('.roi-figure .handle').focus()")
    page.press(LEFT)
    page.press(LEFT)
    after = assert_as_the_library(page)["box"]
    assert np.subtract(after, before).tolist() == [-1, 8, 1, 8]
    page.run("document.querySelector('.roi-output [aria-pressed=true]').focus()")
    page.press(RIGHT)
    page.press(DOWN)
    assert page.run("return document.activeElement.ariaLabel").startswith("output[1, 1]: ")
    assert page.run("return document.activeElement.ariaPressed") == "true"
    page.press(UP)
    assert page.run("return document.activeElement.ariaLabel").startswith("output[0, 1]: ")


def test_typing_coordinates(page):
    """A number half typed changes nothing and is marked; the rest is computed."""
    page.run("document.querySelector('.roi-fields [name=x1]').select()")
    page.press("-")
    marked = "return document.querySelector('.roi-fields [name=x1]').ariaInvalid"
    assert page.run(marked) == "true"
    assert "[[0, 21, " in shown(page)["call"]
    for key in "9.5":
        page.press(key)
    assert page.run(marked) == "false"
    assert assert_as_the_library(page)["box"][0] == -9.5


@pytest.mark.parametrize("name", ["roi_align", "prroi_pool"])
def test_weights_of_a_value(page, name):
    """Pointing at a value writes the weights of its cells on the map; tapping keeps them there."""
    choose_operator(page, name)
    first = shown(page)["weights"]
    last = "document.querySelectorAll('.roi-output button')[3]"
    page.run(f"{last}.dispatchEvent(new Event('mouseenter'))")
    read = shown(page)
    assert read["weights"] != first
    x1, y1, x2, y2 = read["box"]
    y = roi_numba.axis_weights(name, [y1, y2], 7, 2, spatial_scale=1 / 16).toarray()[1]
    x = roi_numba.axis_weights(name, [x1, x2], 8, 2, spatial_scale=1 / 16).toarray()[1]
    for written, weight in zip(read["weights"], np.outer(y, x).ravel(), strict=True):
        if written == "<.01":
            assert 0 < weight < 0.005
        else:
            assert float(written or 0) == pytest.approx(weight, abs=HALF_UNIT)
    page.run("document.querySelector('.roi-output').dispatchEvent(new Event('mouseleave'))")
    assert shown(page)["weights"] == first
    page.run(f"{last}.click()")
    assert shown(page)["weights"] == read["weights"]


def test_who_listens_hears_the_value(page):
    page.run("document.querySelectorAll('.roi-output button')[2].click()")
    heard = page.run(
        """
        const status = document.querySelector(".roi-figure [role=status]");
        return new Promise((resolve) =>
          new MutationObserver(() => resolve(status.textContent)).observe(status, {
            childList: true,
          }));
        """
    )
    value = shown(page)["pooled"][1, 0]
    assert heard.startswith(f"roi_pool, output[1, 0] = {value:g}; ")


def test_everything_that_takes_focus_has_a_name(page):
    nameless = page.run(
        """
        const all = document.querySelectorAll(
          ".roi-figure :is(input, select, button, [tabindex])");
        return [...all].filter((e) => !(e.ariaLabel || e.labels?.length)).map((e) => e.outerHTML);
        """
    )
    assert nameless == []


def test_on_a_phone(page):
    """Nothing is wider than the page, and fingers find the corners: 24 CSS pixels (WCAG 2.5.8)."""
    page.resize(390, 844)
    choose(page, "columns", "7")
    assert page.run("return document.documentElement.scrollWidth") <= 390
    sizes = page.run(
        """
        const all = document.querySelectorAll(
          ".roi-figure :is(button, select, .handle, .roi-operators span, .roi-fields input)");
        const boxes = [...all].map((e) => e.getBoundingClientRect());
        return boxes.map(({ width, height }) => Math.min(width, height));
        """
    )
    assert min(sizes) >= 24
