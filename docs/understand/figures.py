"""What the figures of these pages are drawn with: panels as wide as a phone, in the page's colours.

A panel is 340 units wide and becomes SVG inside the page, so its text is the page's text, and its
colours are variables that change with the theme (`_static/understand.css`).  Panels of a figure
stand side by side where there is room, and below each other on a phone.
"""

import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from roi_numba._figure import _ASKED, _INK, _QUIET, _READ

WIDTH = 340
INK, QUIET, ASKED, READ = _INK, _QUIET, _ASKED, _READ
EDGE, PAPER, OTHER = "#CFCFCF", "#FDFDFD", "#009E73"
VARIABLES = {
    INK: "--pst-color-text-base",
    QUIET: "--pst-color-text-muted",
    EDGE: "--pst-color-border",
    PAPER: "--pst-color-background",
    ASKED: "--figure-asked",
    READ: "--figure-read",
    OTHER: "--figure-other",
}
ABOVE = "above"  # what text is called (its gid) that lines may cross: it is above them, with a halo
GREY = 128  # a tone that shows on white and on black, by its opacity

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "roi_numba", "text.parse_math": False}


class Panel:
    """A drawing on which things are placed by units from its top left corner."""

    def __init__(self, height: float, title: str = "", note: str = "") -> None:
        self.height = height
        self.figure = Figure(figsize=(WIDTH / 72, height / 72), dpi=72)
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, WIDTH), ylim=(height, 0))
        self.axes.set_axis_off()
        self.text(8, 14, title, 12, ha="left", weight="bold")
        self.text(8, 28, note, 10, QUIET, ha="left")

    def text(
        self, x: float, y: float, text: str, size: float = 10, color: str = INK, **style: Any
    ) -> None:
        """Write a line; ``y`` is its baseline."""
        style = {"ha": "center", "va": "baseline", **style}
        if style.get("gid") == ABOVE:
            style["zorder"] = 6
        self.axes.text(x, y, text, fontsize=size, color=color, **style)

    def line(
        self, x: Sequence[float], y: Sequence[float], color: str = INK, width: float = 1.0,
        **style: Any,
    ) -> None:  # fmt: skip
        """Draw a line through points."""
        style = {"solid_capstyle": "butt", "solid_joinstyle": "miter", **style}
        self.axes.plot(x, y, color=color, linewidth=width, **style)

    def box(
        self, x1: float, y1: float, x2: float, y2: float, *, fill: str | None = None,
        edge: str | None = None, alpha: float = 1.0, width: float = 1.0, **style: Any,
    ) -> None:  # fmt: skip
        """Draw a rectangle, its inside at ``alpha``."""
        corner, sides = (x1, y1), (x2 - x1, y2 - y1)
        if fill:
            self.axes.add_patch(Rectangle(corner, *sides, facecolor=fill, alpha=alpha, linewidth=0))
        if edge:
            shape = {"fill": False, "edgecolor": edge, "linewidth": width, **style}
            self.axes.add_patch(Rectangle(corner, *sides, **shape))

    def dots(
        self, x: Any, y: Any, color: str = READ, radius: float = 2.2, *, hollow: bool = False
    ) -> None:
        """Draw points with a rim of the page's colour, or rings that do not hide what is below."""
        rim, width, fill = (color, 2, "none") if hollow else (PAPER, 0.6, color)
        shape = {"markeredgecolor": rim, "markeredgewidth": width, "markerfacecolor": fill}
        self.axes.plot(x, y, "o", markersize=2 * radius, zorder=4, **shape)

    def arrow(self, x1: float, y1: float, x2: float, y2: float, color: str = INK) -> None:
        """Draw an arrow with a head of fixed size."""
        length = np.hypot(x2 - x1, y2 - y1)
        if length < 8:  # no room for a head
            self.line([x1, x2], [y1, y2], color, 2.2)
            return
        along = np.array([x2 - x1, y2 - y1]) / length
        tip, across = np.array([x2, y2]), np.array([-along[1], along[0]])
        neck = tip - 7 * along
        self.line([x1, neck[0]], [y1, neck[1]], color, 2.2)
        head = [tip, neck + 3.6 * across, neck - 3.6 * across]
        self.axes.add_patch(Polygon(head, closed=True, facecolor=color, linewidth=0, zorder=3))

    def bracket(self, x1: float, x2: float, y: float, color: str, ticks: float = 4) -> None:
        """Draw an interval as a line with a stop at either end."""
        self.line([x1, x1, x1, x2, x2, x2], [y - ticks, y + ticks, y, y, y - ticks, y + ticks],
                  color, 1.8)  # fmt: skip

    def chart(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes for curves, in a rectangle of the panel."""
        rectangle = (left / WIDTH, 1 - (top + height) / self.height)
        axes = self.figure.add_axes((*rectangle, width / WIDTH, height / self.height))
        axes.patch.set_alpha(0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(QUIET)
        axes.tick_params(labelsize=9, length=3, color=QUIET, labelcolor=QUIET)
        axes.grid(axis="y", color=EDGE, linewidth=0.7)
        axes.set_axisbelow(True)
        return axes

    def svg(self) -> str:
        """The panel as an element of a page."""
        stream = io.StringIO()
        with matplotlib.rc_context(STYLE):
            self.figure.savefig(
                stream, format="svg", transparent=True,
                metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
            )  # fmt: skip
        drawing = stream.getvalue()
        drawing = drawing[drawing.index("<svg") :]
        drawing = re.sub(r'<svg [^>]*(viewBox="[^"]*")[^>]*>', r"<svg \1>", drawing)
        drawing = re.sub(r"(font: [^\";]*?px) [^\";]*", r"\1 var(--pst-font-family-base)", drawing)
        for color, variable in VARIABLES.items():
            drawing = re.sub(color, f"var({variable})", drawing, flags=re.IGNORECASE)
        drawing = drawing.replace(f'<g id="{ABOVE}"', f'<g class="{ABOVE}"')
        # What nothing refers to, and would be twice in a page of several drawings.
        return re.sub(r'(?<=<g) id="[^"]*"|<!--.*?-->|\n\s*(?=\n)', "", drawing)


@dataclass(frozen=True)
class Drawing:
    """Panels and what they show; a notebook displays it as HTML."""

    panels: Sequence[Panel]
    caption: str
    wide: bool

    def _repr_html_(self) -> str:
        label = html.escape(re.sub(r"<[^>]*>", "", self.caption), quote=True)
        row = "".join(panel.svg() for panel in self.panels)
        return (
            f'<figure class="{"panels wide" if self.wide else "panels"}">'
            f'<div role="img" aria-label="{label}">{row}</div>'
            f"<figcaption>{self.caption}</figcaption></figure>"
        )


def show(*panels: Panel, caption: str, wide: bool = False) -> Drawing:
    """Return panels as one figure, the last line of a cell; wide ones are below each other."""
    return Drawing(panels, caption, wide)


def number(value: float, digits: int = 2) -> str:
    """A number without zeros at its end: 3, 20.78, 0.5."""
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
