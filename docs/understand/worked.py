"""The worked example of these pages, and the figures that show an operator on it.

An image of 800 x 800 pixels, a feature map of stride 32, hence of 25 x 25 cells; two boxes of
665 x 665 pixels, one of which does not start at 0; 7 x 7 bins.
"""

# ruff: noqa: RUF001  (figures and tables are typeset with real dashes and minus signs)

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from figures import (
    ABOVE,
    ASKED,
    EDGE,
    GREY,
    INK,
    OTHER,
    PAPER,
    QUIET,
    READ,
    WIDTH,
    Drawing,
    Panel,
    number,
    show,
)
from numpy.typing import NDArray

from roi_numba import axis_weights, crop_and_resize, crop_pool
from roi_numba._demo import Variant, axis_reads

IMAGE, STRIDE, BINS = 800, 32, 7
CELLS = IMAGE // STRIDE
FIRST = (0.0, 0.0, 665.0, 665.0)
SECOND = (100.0, 100.0, 765.0, 765.0)
BOXES = {"The box from 0 to 665": FIRST, "Moved by 100, from 100 to 765": SECOND}

_ROW, _COLUMN = np.mgrid[0:CELLS, 0:CELLS]
_WAVES = 4.6 + 3.1 * np.sin(0.55 * _COLUMN + 0.35 * _ROW) + 2.4 * np.cos(0.8 * _ROW - 0.3 * _COLUMN)
MAP: NDArray[np.float64] = np.clip(np.rint(_WAVES), 0, 9) + 0.0
"""The values of the cells, whole numbers from 0 to 9, so that they can be added by hand."""

COLUMNS: NDArray[np.float64] = np.broadcast_to(np.arange(float(CELLS)), (CELLS, CELLS))
"""The map whose cells say their own column: what is pooled is where it was read."""

FULL = 284 / CELLS  # a cell, where the whole map is shown below a title
WIDE = (WIDTH - 16) / CELLS  # a cell, where one axis is


class Reads(NamedTuple):
    """What an operator reads along one axis, in cells: cell k goes from k to k + 1."""

    bins: NDArray[np.float64]  # (P, 2) start and end
    samples: NDArray[np.float64]  # (P * samples,), none where whole cells are read
    weights: NDArray[np.float64]  # (P, CELLS)


def pool(
    op: Callable[..., Any], box: tuple[float, ...], map: Any = MAP, size: int = BINS, **options: Any
) -> NDArray[np.float64]:
    """Pool one box of the example from a map of one channel: (size, size)."""
    maps, boxes = np.ascontiguousarray(map)[None, None], np.array([[0, *box]])
    if op is crop_and_resize:
        rows = boxes[:, [2, 1, 4, 3]] / STRIDE
        crop = op(maps, rows, size, box_indices=np.array([0]), normalized=False, channel_axis=1)
        return np.asarray(crop[0, 0])
    return np.asarray(op(maps, boxes, size, 1 / STRIDE, **options)[0, 0])


def reads(
    op: Callable[..., Any], interval: tuple[float, float], size: int = BINS, **rule: Any
) -> Reads:
    """What an operator reads of an interval of the image, from its own weights."""
    if op in (crop_pool, crop_and_resize):
        # crop_pool's samples are the pixels of a crop twice as large.
        each = 2 if op is crop_pool else 1
        cells = np.array(interval) / STRIDE
        weights = axis_weights(crop_and_resize, cells, CELLS, each * size, normalized=False)
        samples = (weights @ np.arange(float(CELLS))).reshape(size, each)
        bins = np.stack([samples[:, 0], samples[:, -1]], 1) + 0.5
        mean = weights.toarray().reshape(size, each, CELLS).mean(1)
        return Reads(bins, samples.ravel() + 0.5, mean)
    found = axis_reads(Variant("", "", op, rule), interval, CELLS, size, STRIDE)
    weights = axis_weights(op, interval, CELLS, size, spatial_scale=1 / STRIDE, **rule)
    return Reads(found.bins / STRIDE, found.samples / STRIDE, weights.toarray())


@cache
def _picture() -> NDArray[np.uint8]:
    """The map as grey of an opacity that grows with the value."""
    picture = np.full((CELLS, CELLS, 4), GREY, np.uint8)
    picture[..., 3] = (12 + 15 * MAP).astype(np.uint8)
    return picture


# ---- one axis ------------------------------------------------------------------------------


def axis(op: Callable[..., Any], caption: str, **rule: Any) -> Drawing:
    """One axis of both boxes: the image, the cells of the map, the bins and their samples."""
    panels = [axis_panel(op, (box[0], box[2]), title, **rule) for title, box in BOXES.items()]
    return show(*panels, caption=caption, wide=True)


def axis_panel(
    op: Callable[..., Any], interval: tuple[float, float], title: str, note: str = "", **rule: Any
) -> Panel:
    """One axis of one box."""
    read = reads(op, interval, **rule)
    panel = Panel(172, title, note)
    top = 92
    _ruler(panel, 60, interval)
    _cells(panel, top, read.weights)
    ends = 8 + WIDE * np.array(interval) / STRIDE
    for x in ends:
        for above, below in ((60, top), (top + WIDE, top + WIDE + 5)):  # not through the numbers
            panel.line([x, x], [above, below], ASKED, 1.2, linestyle=(0, (2, 2)), zorder=1)
    for p, (low, high) in enumerate(read.bins):
        y = top + WIDE + 16 + 26 * (p % 2)
        left, right = 8 + WIDE * low, 8 + WIDE * high
        panel.bracket(left, right, y, READ)
        label = f"{number(low)}–{number(high)}" if high > low else number(low)
        panel.text(min((left + right) / 2, WIDTH - 17), y + 14, label, 9, READ)
        inside = read.samples.reshape(len(read.bins), -1)[p]
        panel.dots(8 + WIDE * inside, np.full(len(inside), y))
    return panel


def overview_panel(
    interval: tuple[float, float], title: str, note: str,
    rows: Sequence[tuple[str, Callable[..., Any], dict[str, Any]]],
) -> Panel:  # fmt: skip
    """One axis of one box, read by several operators."""
    panel = Panel(104 + 42 * len(rows), title, note)
    _ruler(panel, 60, interval)
    for x in 8 + WIDE * np.array(interval) / STRIDE:
        panel.line([x, x], [60, panel.height - 4], ASKED, 1.2, linestyle=(0, (2, 2)), zorder=1)
    for row, (name, op, rule) in enumerate(rows):
        y, read = 106 + 42 * row, reads(op, interval, **rule)
        panel.text(WIDTH / 2, y - 7, name, 10)
        for cell in np.flatnonzero((read.weights > 0).any(0)):
            left = 8 + WIDE * cell
            panel.box(left, y, left + WIDE, y + 16, fill=READ, alpha=0.16)
        for p, (low, high) in enumerate(read.bins):
            panel.bracket(8 + WIDE * low, 8 + WIDE * high, y + (5 if p % 2 else 11), READ, 3)
        samples = read.samples.reshape(len(read.bins), -1)
        for p, inside in enumerate(samples):
            places = np.full(len(inside), y + (5 if p % 2 else 11))
            panel.dots(8 + WIDE * inside, places, radius=1.8)
    return panel


def _ruler(panel: Panel, y: float, interval: tuple[float, float]) -> None:
    """The axis of the image in pixels, and the box on it."""
    low, high = (8 + WIDE * value / STRIDE for value in interval)
    panel.line([8, WIDTH - 8], [y, y], EDGE, 1.5)
    for pixel in range(0, IMAGE + 1, 160):
        x = 8 + WIDE * pixel / STRIDE
        panel.line([x, x], [y, y + 4], QUIET, 0.8)
        panel.text(x, y + 15, f"{pixel}", 9, QUIET, ha=_side(pixel), gid=ABOVE)
    panel.line([low, high], [y - 2, y - 2], ASKED, 4)
    for value, x in zip(interval, (low, high), strict=True):
        label = f"{number(value)} px = {number(value / STRIDE, 3)}" if value else "0"
        panel.text(x, y - 10, label, 9, ASKED, ha="left" if x < WIDTH / 2 else "right")


def _side(pixel: int) -> str:
    return {0: "left", IMAGE: "right"}.get(pixel, "center")


def _cells(panel: Panel, top: float, weights: NDArray[np.float64]) -> None:
    """A row of numbered cells, blue as many times as bins read them."""
    times = (weights > 0).sum(0)
    for cell in range(CELLS):
        left = 8 + WIDE * cell
        for _ in range(times[cell]):
            panel.box(left, top, left + WIDE, top + WIDE, fill=READ, alpha=0.28)
        panel.box(left, top, left + WIDE, top + WIDE, edge=EDGE, width=0.7)
        panel.text(left + WIDE / 2, top + WIDE - 3.4, f"{cell}", 8)


@dataclass(frozen=True)
class Table:
    """Rows of text; a notebook displays it as HTML."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def _repr_html_(self) -> str:
        def line(cells: Sequence[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(line(row, "td") for row in self.rows)
        return (
            '<div class="facts pst-scrollable-table-container"><table class="table">'
            f"<thead>{line(self.head, 'th')}</thead><tbody>{body}</tbody></table></div>"
        )


def misread(
    op: Callable[..., Any], interval: tuple[float, float], **rule: Any
) -> tuple[float, ...]:
    """By how many image pixels it reads beyond the first end of the interval, and the second."""
    bins = STRIDE * reads(op, interval, **rule).bins
    return float(np.nanmin(bins) - interval[0]), float(np.nanmax(bins) - interval[1])


def cost(op: Callable[..., Any], **rule: Any) -> Table:
    """What is read of either box, and how far that is from what was asked for."""
    rows = []
    for box in BOXES.values():
        interval = box[0], box[2]
        bins = reads(op, interval, **rule).bins
        low, high = float(np.nanmin(bins)), float(np.nanmax(bins))
        off = misread(op, interval, **rule)
        rows.append([
            f"{number(interval[0])} – {number(interval[1])}",
            f"{number(low)} – {number(high)}",
            f"{number(low * STRIDE, 1)} – {number(high * STRIDE, 1)}",
            *(f"{_signed(value, 1)} px, {_signed(value / STRIDE, 2)} cells" for value in off),
        ])  # fmt: skip
    return Table(("asked for, px", "read, cells", "read, px", "start off by", "end off by"), rows)


def _signed(value: float, digits: int) -> str:
    text = number(abs(value), digits)
    return text if text == "0" else f"{'−' if value < 0 else '+'}{text}"


# ---- a box that moves ----------------------------------------------------------------------


def slide(
    op: Callable[..., Any], shifts: NDArray[np.float64], row: int = 2, column: int = 3,
    map: Any = MAP, **options: Any,
) -> NDArray[np.float64]:  # fmt: skip
    """The value of one bin while the first box moves to the right."""
    boxes = np.array([[0, FIRST[0] + shift, FIRST[1], FIRST[2] + shift, FIRST[3]]
                      for shift in shifts])  # fmt: skip
    pooled = op(map[None, None], boxes, BINS, 1 / STRIDE, **options)
    return np.asarray(pooled[:, 0, row, column])


SHIFTS: NDArray[np.float64] = np.linspace(0, 96, 385)


def slide_panel(
    title: str, note: str, *curves: tuple[str, str, NDArray[np.float64]], height: float = 220
) -> Panel:
    """Curves over the shift of the box, (name, color, values) each."""
    panel = Panel(height, title, note)
    for place, (name, color, _) in enumerate(curves):
        panel.text(34 + 96 * place, 46, name, 10, color, ha="left", weight="bold")
    chart = panel.chart(34, 56, WIDTH - 52, height - 56 - 34)
    for _, color, values in curves:
        chart.plot(SHIFTS, values, color=color, linewidth=2)
    chart.set(xlim=(0, SHIFTS[-1]))
    chart.set_xticks(range(0, 97, 32), [f"{shift} px" for shift in range(0, 97, 32)])
    panel.text(WIDTH - 18, height - 4, "the box moves to the right by", 9, QUIET, ha="right")
    return panel


# ---- the map -------------------------------------------------------------------------------


def plane(op: Callable[..., Any], caption: str, **rule: Any) -> Drawing:
    """Both boxes on the map: what is asked for, and the bins and samples that are read."""
    panels = [plane_panel(op, box, title, **rule) for title, box in BOXES.items()]
    return show(*panels, caption=caption)


def plane_panel(
    op: Callable[..., Any], box: tuple[float, ...], title: str, note: str = "", **rule: Any
) -> Panel:
    """One box on the map."""
    x, y = reads(op, (box[0], box[2]), **rule), reads(op, (box[1], box[3]), **rule)
    panel = Panel(36 + FULL * CELLS + 4, title, note)
    left, top = (WIDTH - FULL * CELLS) / 2, 36
    panel.axes.imshow(
        _picture(), extent=(left, left + FULL * CELLS, top + FULL * CELLS, top),
        interpolation="none", aspect="auto",
    )  # fmt: skip
    panel.axes.set(xlim=(0, WIDTH), ylim=(panel.height, 0))
    for column, (low_x, high_x) in enumerate(x.bins):
        for row, (low_y, high_y) in enumerate(y.bins):
            corners = (
                left + FULL * low_x, top + FULL * low_y, left + FULL * high_x, top + FULL * high_y,
            )  # fmt: skip
            marked = (row, column) == (2, 3)
            panel.box(*corners, fill=READ, alpha=0.55 if marked else 0.12, edge=READ, width=0.8)
    radius = 1.4 if len(x.samples) > BINS else 3.0
    panel.dots(*np.meshgrid(left + FULL * x.samples, top + FULL * y.samples), radius=radius)
    panel.box(*(left + FULL * box[0] / STRIDE, top + FULL * box[1] / STRIDE),
              *(left + FULL * box[2] / STRIDE, top + FULL * box[3] / STRIDE),
              edge=ASKED, width=2.2)  # fmt: skip
    panel.box(left, top, left + FULL * CELLS, top + FULL * CELLS, edge=QUIET, width=0.8)
    return panel


# ---- one bin -------------------------------------------------------------------------------


def bin_panel(
    op: Callable[..., Any], box: tuple[float, ...], row: int, column: int, title: str,
    note: str = "", *, maximum: bool = False, size: int = BINS, **rule: Any,
) -> Panel:  # fmt: skip
    """One bin enlarged: values in its cells, weights below them, samples where they lie."""
    x = reads(op, (box[0], box[2]), size, **rule)
    y = reads(op, (box[1], box[3]), size, **rule)
    columns, rows = _window(x, column), _window(y, row)
    side = min(52.0, (WIDTH - 16) / len(columns))
    left, top = (WIDTH - side * len(columns)) / 2, 40
    panel = Panel(top + side * len(rows) + 8, title, note)
    winner = _winner(x.weights[column], y.weights[row]) if maximum else None
    low_x, high_x = (left + side * (value - columns[0]) for value in x.bins[column])
    low_y, high_y = (top + side * (value - rows[0]) for value in y.bins[row])
    samples_x, samples_y = (read.samples.reshape(size, -1) for read in (x, y))
    across = left + side * (samples_x[column] - columns[0])
    down = top + side * (samples_y[row] - rows[0])
    drawn = [(sx - 5.5, sy - 5.5, sx + 5.5, sy + 5.5) for sx in across for sy in down]
    if high_x > low_x:
        drawn += [(line - 2, low_y, line + 2, high_y) for line in (low_x, high_x)]
        drawn += [(low_x, line - 2, high_x, line + 2) for line in (low_y, high_y)]
    for i in rows:
        for j in columns:
            weight = y.weights[row, i] * x.weights[column, j]
            place = left + side * (j - columns[0]), top + side * (i - rows[0])
            ends = place[0] + side, place[1] + side
            panel.box(*place, *ends, fill=f"#{GREY:02x}{GREY:02x}{GREY:02x}",
                      alpha=(12 + 15 * MAP[i, j]) / 255)  # fmt: skip
            if weight:
                panel.box(*place, *ends, fill=READ, alpha=0.22)
            panel.box(*place, *ends, edge=EDGE, width=0.8)
            if (i, j) == winner:
                panel.box(place[0] + 2, place[1] + 2, ends[0] - 2, ends[1] - 2, edge=OTHER, width=3)
            small = bool(weight) and not maximum
            across_at, value_at, weight_at = _lettering(*place, side, drawn, small)
            panel.text(across_at, value_at, f"{MAP[i, j]:.0f}", 15 if weight else 12,
                       INK if weight else QUIET, weight="bold" if weight else "normal",
                       gid=ABOVE)  # fmt: skip
            if small:
                panel.text(across_at, weight_at, f"{100 * weight:.1f}%", 9.5, gid=ABOVE)
    if high_x > low_x:
        panel.box(low_x, low_y, high_x, high_y, edge=READ, width=2.4)
    panel.dots(*np.meshgrid(across, down), OTHER, radius=4.5, hollow=True)
    return panel


def _lettering(
    x: float, y: float, side: float, drawn: Sequence[tuple[float, ...]], small: bool
) -> tuple[float, float, float]:
    """Where a cell's value and weight are written: the middle of both and their baselines.

    Of several places, the first where the fewest of the rectangles `drawn` cross them.
    """

    def crossings(place: tuple[float, float, float]) -> int:
        middle, value, weight = place
        written = [(middle - 7, value - 12, middle + 7, value + 1)]
        if small:
            written.append((middle - 16, weight - 7.5, middle + 16, weight + 1))
        return sum(
            x1 < right and left < x2 and y1 < bottom and top < y2
            for x1, y1, x2, y2 in written
            for left, top, right, bottom in drawn
        )

    rows = [(0.43, 0.86), (0.43, 0.95), (0.3, 0.86), (0.3, 0.95), (0.32, 0.6), (0.6, 0.9)]
    if not small:
        rows = [(0.6, 0.0), (0.42, 0.0), (0.8, 0.0)]
    shifts = (0.5, 0.4, 0.6, 0.32, 0.68)
    places = [
        (x + side * shift, y + side * value, y + side * weight)
        for shift in shifts
        for value, weight in rows
    ]
    return min(places, key=crossings)


def _window(read: Reads, p: int) -> range:
    """The cells to show around bin ``p``: those it weighs or covers, and one more on each side."""
    weighed = np.flatnonzero(read.weights[p])
    low = min(weighed[0], int(np.floor(read.bins[p, 0])))
    high = max(weighed[-1] + 1, int(np.ceil(read.bins[p, 1])))
    return range(max(low - 1, 0), min(high + 1, CELLS))


def _winner(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[int, int]:
    """The first largest of the cells a bin reads."""
    candidates = np.where(np.outer(y > 0, x > 0), MAP, -1)
    i, j = np.unravel_index(candidates.argmax(), candidates.shape)
    return int(i), int(j)


def values_panel(values: NDArray[np.float64], title: str, note: str = "") -> Panel:
    """The pooled values, a number in each bin."""
    side = 284 / len(values)
    left, top = (WIDTH - 284) / 2, 36
    panel = Panel(top + 284 + 6, title, note)
    for (row, column), value in np.ndenumerate(values):
        place = left + side * column, top + side * row
        ends = place[0] + side, place[1] + side
        panel.box(*place, *ends, fill=READ, alpha=max(float(value), 0) / 9 * 0.6)
        panel.box(*place, *ends, edge=PAPER, width=1.5)
        size = 12 if len(values) <= 7 else 8
        panel.text(place[0] + side / 2, place[1] + side * 0.6, number(float(value), 1), size)
    return panel
