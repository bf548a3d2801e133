"""The demo's picture; the only module that imports matplotlib, and only the demo imports it."""

# ruff: noqa: RUF001  (the picture is typeset with real multiplication signs and dashes)

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.cbook
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ._demo import EXACT, Box, DemoError, Reads, Result, Scene, Slide, corners, slide

# Okabe and Ito's palette: told apart with any colour vision.
_ASKED = "#D55E00"
_READ = "#0072B2"
_INK = "#222222"
_QUIET = "#6B6B6B"
_EXACT = "#B5B5B5"

# The layout, in pixels.  A phone shows a quarter of them: letters of 34 are the smallest that can
# be read there.
_DPI = 100
_WIDTH = 1600
_MARGIN = 96
_GAP = 28
_HEAD = 228
_FOOT = 226
_NAMES = 232
_CURVE = 220
_TITLE, _HEADING, _NAME, _NOTE = 72, 46, 44, 34
_NOTE_LETTERS = 16  # of a line under a column's name
_FOOT_LETTERS = 74
_BOXES_DRAWN = 3

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "text.color": _INK,
    "axes.edgecolor": _QUIET,
    "axes.linewidth": 0.8,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "text.parse_math": False,
}


def read_photo(path: str | None) -> NDArray[np.uint8]:
    """Return an image as (H, W, 3) RGB; without a path, matplotlib's portrait."""
    if path is None:
        path = str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError:
        raise DemoError(f"{path} is not an image that Pillow can read") from None
    except OSError as error:
        raise DemoError(f"the image {path} cannot be read: {error.strerror or error}") from None


def draw(
    scene: Scene, boxes: Sequence[Box], results: Sequence[Sequence[Result]], output: str
) -> None:
    """Draw the first boxes, three rows each: what is read, what comes out, what a shift does."""
    with matplotlib.style.context(["default", _STYLE]):
        blocks = [
            _Block(scene, box, of_box)
            for box, of_box in zip(boxes[:_BOXES_DRAWN], results, strict=False)
        ]
        page = _Page(_HEAD + sum(block.height for block in blocks) + _FOOT)
        _head(page)
        top: float = _HEAD
        for block in blocks:
            block.draw(page, top)
            top += block.height
        _foot(page, scene, len(boxes))
        try:
            page.figure.savefig(output, dpi=_DPI, facecolor="white")
        except (OSError, ValueError) as error:
            raise DemoError(f"the picture cannot be written to {output}: {error}") from None


class _Page:
    """A white figure on which things are placed by pixels from the top left corner."""

    def __init__(self, height: float) -> None:
        self.height = round(height)
        self.figure = Figure(figsize=(_WIDTH / _DPI, self.height / _DPI), dpi=_DPI)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        rectangle = (left / _WIDTH, bottom / self.height, width / _WIDTH, height / self.height)
        return self.figure.add_axes(rectangle)

    def text(self, left: float, top: float, text: str, pixels: float, **style: Any) -> Text:
        style = {"va": "baseline", "fontsize": pixels * 72 / _DPI, **style}
        return self.figure.text(left / _WIDTH, 1 - top / self.height, text, **style)


def _head(page: _Page) -> None:
    page.text(_MARGIN, 98, "Where does an RoI operator look?", _TITLE, weight="bold")
    page.text(_MARGIN, 154, "Round a box to the feature map's grid, or read it half a cell", 38)
    page.text(_MARGIN, 200, "off, and the operator sees another part of the picture.", 38)


def _foot(page: _Page, scene: Scene, boxes: int) -> None:
    (rows, columns), stride = scene.cells, scene.stride
    text = (
        f"Feature map: the photo averaged over blocks of {stride} × {stride} pixels, {rows} ×"
        f" {columns} cells. Dots: points that are interpolated. Error: mean absolute difference to"
        " the exact integral, in grey levels of 0–255. Curves: the channel that changes most."
    )
    if boxes > _BOXES_DRAWN:
        text += f" Drawn: the first {_BOXES_DRAWN} of {boxes} boxes."
    lines = textwrap.fill(text, _FOOT_LETTERS)
    style = {"linespacing": 1.4, "va": "top"}
    page.text(_MARGIN, page.height - _FOOT + 20, lines, _NOTE, color=_QUIET, **style)


class _Block:
    """The three rows of one box, a column for each variant that is drawn."""

    def __init__(self, scene: Scene, box: Box, results: Sequence[Result]) -> None:
        self.scene, self.box = scene, box
        self.slide = slide(scene, box)
        drawn = [n for n, result in enumerate(results) if result.variant.drawn]
        self.results = [results[n] for n in drawn]
        self.values = self.slide.values[drawn]
        self.width = (_WIDTH - 2 * _MARGIN - (len(drawn) - 1) * _GAP) / len(drawn)
        self.lefts = [_MARGIN + index * (self.width + _GAP) for index in range(len(drawn))]
        self.view = _view(scene, box)
        left, right, top, bottom = self.view
        self.photo = self.width * (bottom - top) / (right - left)
        self.height = _NAMES + self.photo + 104 + self.width + 224 + _CURVE + 70

    def draw(self, page: _Page, top: float) -> None:
        top += _NAMES
        self._photos(page, top)
        top += self.photo + 104
        self._pooled(page, top)
        top += self.width + 224
        self._curves(page, top)

    def _photos(self, page: _Page, top: float) -> None:
        legend = [(f"box {corners(self.box)}", _ASKED), ("the bins that are read", _READ)]
        _heading(page, top - 166, "What it reads", legend)
        for left, result in zip(self.lefts, self.results, strict=True):
            name, _, option = result.variant.name.partition(", ")
            note = f"{option}: {result.variant.note}" if option else result.variant.note
            page.text(left, top - 104, name, _NAME, weight="bold")
            for number, line in enumerate(textwrap.wrap(note, _NOTE_LETTERS)):
                page.text(left, top - 58 + 40 * number, line, _NOTE, color=_QUIET)
            axes = page.axes(left, top, self.width, self.photo)
            _draw_photo(axes, self.scene, self.view)
            _draw_reads(axes, result.x, result.y, self.slide)
            axes.add_patch(_outline(self.box, _ASKED, 4))

    def _pooled(self, page: _Page, top: float) -> None:
        size = self.scene.size
        legend = [(f"{size} × {size} bins, and their mean error", _QUIET)]
        _heading(page, top - 26, "What it returns", legend)
        worst = max(result.error for result in self.results) or 1
        column, row = self.slide.column - 0.5, self.slide.row - 0.5
        for left, result in zip(self.lefts, self.results, strict=True):
            axes = page.axes(left, top, self.width, self.width)
            axes.imshow(result.pooled.transpose(1, 2, 0) / 255, interpolation="nearest")
            axes.add_patch(_outline((column, row, column + 1, row + 1), "white", 4))
            axes.set_axis_off()
            text = "the reference" if result.variant is EXACT else f"error {result.error:.1f}"
            page.text(left, top + self.width + 46, text, 38)
            bar = page.axes(left, top + self.width + 62, self.width, 12)
            bar.barh(0, result.error / worst, color=_QUIET)
            bar.set(xlim=(0, 1))
            bar.set_axis_off()

    def _curves(self, page: _Page, top: float) -> None:
        side = "right" if self.slide.shifts[-1] > 0 else "left"
        legend = [("itself", _READ), ("exact integral", _QUIET)]
        _heading(page, top - 76, f"The outlined bin as the box moves {side}", legend)
        shifts = np.abs(self.slide.shifts)
        room = 0.08 * float(np.ptp(self.values)) or 1.0
        limits = self.values.min() - room, self.values.max() + room
        steps = np.abs(np.diff(self.values)).max(axis=1)
        for index, left in enumerate(self.lefts):
            page.text(left, top - 18, _verdict(steps[index], steps[-1]), _NOTE)
            axes = page.axes(left, top, self.width, _CURVE)
            axes.plot(shifts, self.values[-1], color=_EXACT, linewidth=10, solid_capstyle="butt")
            axes.plot(shifts, self.values[index], color=_READ, linewidth=4.5)
            axes.set(xlim=(0, shifts[-1]), ylim=limits)
            _tick(axes, self.scene.stride, first=index == 0)


def _verdict(step: float, smooth: float) -> str:
    """Name a curve by its largest step, against the largest of the exact integral's."""
    if step == 0:
        return "never changes"
    return f"jumps by up to {step:.0f}" if step > 5 * smooth else "glides"


def _heading(page: _Page, top: float, title: str, legend: Sequence[tuple[str, str]]) -> None:
    written = page.text(_MARGIN, top, title, _HEADING, weight="bold")
    for words, colour in legend:
        end = written.get_window_extent().x1
        written = page.text(end + 32, top, words, _NOTE, color=colour)


def _outline(box: Box, colour: str, width: float) -> Rectangle:
    x1, y1, x2, y2 = box
    return Rectangle(
        (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=width, zorder=5
    )


def _tick(axes: Axes, stride: int, *, first: bool) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xticks([0, stride, 2 * stride], ["0", f"{stride}", f"{2 * stride} px"])
    for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
        label.set(horizontalalignment=side)
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(labelsize=_NOTE * 72 / _DPI, labelleft=first, length=6, pad=5)
    axes.grid(axis="y", color="#E6E6E6", linewidth=0.8)
    axes.set_axisbelow(True)


def _view(scene: Scene, box: Box) -> tuple[float, float, float, float]:
    """Return the part of the photo to show: the box, a margin, and no extreme shape."""
    margin = 1.6 * scene.stride
    width, height = box[2] - box[0] + 2 * margin, box[3] - box[1] + 2 * margin
    width, height = max(width, height / 1.6), max(height, width / 1.6)
    photo_height, photo_width, _ = scene.photo.shape
    left = _inside((box[0] + box[2] - width) / 2, width, photo_width)
    top = _inside((box[1] + box[3] - height) / 2, height, photo_height)
    return left, left + width, top, top + height


def _inside(start: float, length: float, limit: float) -> float:
    """Move a window of ``length`` into ``[0, limit]``, or to its middle if it does not fit."""
    if length > limit:
        return (limit - length) / 2
    return min(max(start, 0), limit - length)


def _draw_photo(axes: Axes, scene: Scene, view: tuple[float, float, float, float]) -> None:
    height, width, _ = scene.photo.shape
    grey = scene.photo.mean(axis=2, keepdims=True)
    pale = 255 - (255 - (0.5 * scene.photo + 0.5 * grey)) * 0.55
    axes.imshow(pale.astype(np.uint8), extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xlim=view[:2], ylim=view[:1:-1], aspect="auto")
    axes.set_axis_off()


def _draw_reads(axes: Axes, x: Reads, y: Reads, followed: Slide) -> None:
    bins = [_bin(x, y, row, column) for row in range(len(y.bins)) for column in range(len(x.bins))]
    axes.add_collection(PatchCollection(bins, color=_READ, alpha=0.08, linewidth=0))
    axes.add_collection(
        PatchCollection(
            [_bin(x, y, followed.row, followed.column)], color=_READ, alpha=0.6, linewidth=0
        )
    )
    (left, right), (top, bottom) = x.extent, y.extent
    axes.vlines(np.unique(x.bins), top, bottom, color=_READ, linewidth=0.9)
    axes.hlines(np.unique(y.bins), left, right, color=_READ, linewidth=0.9)
    axes.plot(*np.meshgrid(x.samples, y.samples), ".", color=_READ, markersize=2.2)


def _bin(x: Reads, y: Reads, row: int, column: int) -> Rectangle:
    (left, right), (top, bottom) = x.bins[column], y.bins[row]
    return Rectangle((left, top), right - left, bottom - top)
