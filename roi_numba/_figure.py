"""The demo's picture; the only module that imports matplotlib, and only the demo imports it."""

# ruff: noqa: RUF001  (the picture is typeset with real multiplication signs and dashes)

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
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from ._demo import EXACT, Box, DemoError, Reads, Result, Scene, Slide, corners, slide

# Okabe and Ito's palette: told apart with any colour vision.
_ASKED = "#D55E00"
_READ = "#0072B2"
_INK = "#222222"
_QUIET = "#6B6B6B"
_EXACT = "#B5B5B5"

# The layout, in pixels.
_DPI = 100
_WIDTH = 1600
_MARGIN = 64
_GAP = 18
_HEAD = 128
_FOOT = 90
_NAMES = 92
_CURVE = 150
_BETWEEN = 118
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
    page.text(_MARGIN, 62, "Where does an RoI operator look?", 34, weight="bold")
    page.text(
        _MARGIN,
        98,
        "Rounding a box to the feature grid, or forgetting that a pixel's centre lies half a pixel"
        " in, makes an operator read the wrong part of the picture.",
        17,
        color=_QUIET,
    )


def _foot(page: _Page, scene: Scene, boxes: int) -> None:
    (rows, columns), stride = scene.cells, scene.stride
    text = (
        f"The feature map is the photo averaged over blocks of {stride} × {stride} pixels,"
        f" {rows} × {columns} cells; a network would compute other values on the same grid."
        f" Cell k covers image pixels [{stride}k, {stride}k + {stride}),\n"
        "so its centre is at k + ½, which aligned=True takes into account. Dots are the points that"
        " are interpolated. Errors: mean absolute difference to the exact integral, in grey levels"
        " of 0–255."
    )
    if boxes > _BOXES_DRAWN:
        text += f" Drawn: the first {_BOXES_DRAWN} of {boxes} boxes."
    page.text(_MARGIN, page.height - 60, text, 13.5, color=_QUIET, linespacing=1.6, va="center")


class _Block:
    """The three rows of one box, a column for each operator."""

    def __init__(self, scene: Scene, box: Box, results: Sequence[Result]) -> None:
        self.scene, self.box, self.results = scene, box, results
        self.slide = slide(scene, box)
        self.column = (_WIDTH - 2 * _MARGIN - (len(results) - 1) * _GAP) / len(results)
        self.view = _view(scene, box)
        left, right, top, bottom = self.view
        self.photo = self.column * (bottom - top) / (right - left)
        self.height = _NAMES + self.photo + self.column + _CURVE + 2.3 * _BETWEEN

    def draw(self, page: _Page, top: float) -> None:
        top += _NAMES
        self._photos(page, top)
        top += self.photo + 0.6 * _BETWEEN
        self._pooled(page, top)
        top += self.column + 1.2 * _BETWEEN
        self._curves(page, top)

    def _lefts(self) -> list[float]:
        return [_MARGIN + index * (self.column + _GAP) for index in range(len(self.results))]

    def _photos(self, page: _Page, top: float) -> None:
        _heading(
            page,
            top - 70,
            "What it reads",
            [
                (f"the box asked for, {corners(self.box)}", _ASKED),
                ("the bins that are read, darker where they overlap", _READ),
            ],
        )
        for left, result in zip(self._lefts(), self.results, strict=True):
            page.text(left, top - 32, result.variant.name, 16, weight="bold")
            page.text(left, top - 11, result.variant.note, 14, color=_QUIET)
            axes = page.axes(left, top, self.column, self.photo)
            _draw_photo(axes, self.scene, self.view)
            _draw_reads(axes, result.x, result.y, self.slide)
            axes.add_patch(_outline(self.box, _ASKED, 2.2))

    def _pooled(self, page: _Page, top: float) -> None:
        size = self.scene.size
        _heading(
            page,
            top - 14,
            "What it returns",
            [(f"{size} × {size} bins, and their mean error", _QUIET)],
        )
        worst = max(result.error for result in self.results) or 1
        column, row = self.slide.column - 0.5, self.slide.row - 0.5
        for left, result in zip(self._lefts(), self.results, strict=True):
            axes = page.axes(left, top, self.column, self.column)
            axes.imshow(result.pooled.transpose(1, 2, 0) / 255, interpolation="nearest")
            axes.add_patch(_outline((column, row, column + 1, row + 1), "white", 2))
            axes.set_axis_off()
            text = "the reference" if result.variant is EXACT else f"error {result.error:.1f}"
            page.text(left, top + self.column + 24, text, 15)
            bar = page.axes(left, top + self.column + 32, self.column, 6)
            bar.barh(0, result.error / worst, color=_QUIET)
            bar.set(xlim=(0, 1))
            bar.set_axis_off()

    def _curves(self, page: _Page, top: float) -> None:
        channel = ("red", "green", "blue")[self.slide.channel]
        side = "right" if self.slide.shifts[-1] > 0 else "left"
        _heading(
            page,
            top - 42,
            f"What happens to the outlined bin as the box moves to the {side}",
            [
                ("this operator", _READ),
                ("exact integral", _QUIET),
                (f"({channel} channel)", _QUIET),
            ],
        )
        values, shifts = self.slide.values, np.abs(self.slide.shifts)
        room = 0.08 * float(np.ptp(values)) or 1.0
        steps = np.abs(np.diff(values)).max(axis=1)
        for index, left in enumerate(self._lefts()):
            page.text(left, top - 12, _verdict(steps[index], steps[-1]), 15)
            axes = page.axes(left, top, self.column, _CURVE)
            axes.plot(shifts, values[-1], color=_EXACT, linewidth=4.5, solid_capstyle="butt")
            axes.plot(shifts, values[index], color=_READ, linewidth=2)
            axes.set(xlim=(0, shifts[-1]), ylim=(values.min() - room, values.max() + room))
            _tick(axes, self.scene.stride, first=index == 0)


def _verdict(step: float, smooth: float) -> str:
    """Name a curve by its largest step, against the largest of the exact integral's."""
    if step == 0:
        return "never changes"
    return f"jumps by up to {step:.0f}" if step > 5 * smooth else "glides"


def _heading(page: _Page, top: float, title: str, legend: Sequence[tuple[str, str]]) -> None:
    written = page.text(_MARGIN, top, title, 19, weight="bold")
    for words, colour in legend:
        end = written.get_window_extent().x1
        written = page.text(end + 20, top, words, 16, color=colour)


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
    axes.tick_params(labelsize=9.5, labelleft=first, length=3)
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
