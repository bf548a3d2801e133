"""A box moves onto its object by gradient descent: `python docs/box_descent.py` draws the picture.

Nothing is trained but four numbers.  `prroi_pool` says what a box contains, as the exact mean over
each of 7 x 7 bins, and how that changes with every edge; Adam moves the edges until the box
contains what it should.  On a sharp map the gradient sees no farther than the next edge, so the map
is blurred at first, and less and less as the box comes near.

It needs torch and matplotlib, whose portrait it is.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.cbook
import matplotlib.style
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from roi_numba.torch import prroi_pool

STRIDE = 4  # pixels of the portrait per cell of the map
BINS = 7
BLURS = (64, 32, 16, 8)  # standard deviations, in pixels of the portrait
STEPS_EACH = 50
FACE = (145.0, 20.0, 380.0, 335.0)
STARTS = (
    (30.0, 330.0, 230.0, 560.0),  # the one that is drawn
    (10.0, 10.0, 140.0, 150.0),
    (330.0, 30.0, 500.0, 200.0),
    (20.0, 200.0, 180.0, 420.0),
    (200.0, 250.0, 300.0, 560.0),
)
SHOWN = (0, 25, 60, len(BLURS) * STEPS_EACH)

ORANGE, BLUE, INK, GREY, PALE = "#D55E00", "#0072B2", "#222222", "#6B6B6B", "#B5B5B5"
# In pixels, of which a phone shows a quarter: letters of 34 are the smallest to be read there.
WIDTH, HEIGHT, MARGIN, GAP, DPI = 1600, 1740, 112, 28, 100
NAME, NOTE = 40, 34


class Step(NamedTuple):
    """Where the boxes are, what the first contains, and how far they have come."""

    boxes: Any
    contents: Any
    losses: Any
    overlaps: Any


def portrait() -> torch.Tensor:
    """Matplotlib's portrait as a map (1, 3, H, W) of values from 0 to 1, a cell every 4 pixels."""
    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as file:
        pixels = torch.from_numpy(np.array(file.convert("RGB"))).permute(2, 0, 1) / 255
    return torch.nn.functional.avg_pool2d(pixels[None], STRIDE)


def blurred(map: torch.Tensor, deviation: float) -> torch.Tensor:
    """The map under a Gaussian, its edges repeated."""
    radius = math.ceil(3 * deviation)
    weights = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * deviation**2))
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    map = torch.nn.functional.pad(map, (radius,) * 4, mode="replicate")
    map = torch.nn.functional.conv2d(map, weights, groups=3)
    return torch.nn.functional.conv2d(map, weights.mT.reshape(3, 1, -1, 1), groups=3)


def contents(map: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """What is in the boxes, (boxes, 3, 7, 7)."""
    return prroi_pool(map, [boxes], BINS, 1 / STRIDE, aligned=True)


def overlap(boxes: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Intersection over union."""
    low, high = torch.maximum(boxes[:, :2], box[:, :2]), torch.minimum(boxes[:, 2:], box[:, 2:])
    shared = (high - low).clamp(min=0).prod(1)
    areas = [(corners[:, 2:] - corners[:, :2]).prod(1) for corners in (boxes, box)]
    return shared / (sum(areas) - shared)


def descend(maps: list[torch.Tensor]) -> list[Step]:
    """Move all boxes, map after map; return every step."""
    boxes, face = torch.tensor(STARTS, requires_grad=True), torch.tensor([FACE])
    steps = []
    for stage, map in enumerate(maps):
        wanted = contents(map, face)
        optimizer = torch.optim.Adam([boxes], lr=6 * 0.6**stage)
        for _ in range(STEPS_EACH):
            found = contents(map, boxes)
            losses = (found - wanted).square().mean((1, 2, 3))
            now = boxes.detach()
            inside, loss = found[0].detach(), losses.detach()
            steps.append(Step(now.clone(), inside, loss, overlap(now, face)))
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
    found, now = contents(map, boxes).detach(), boxes.detach()
    losses = (found - wanted).square().mean((1, 2, 3))
    return [*steps, Step(now, found[0], losses, overlap(now, face))]


class Page:
    """A white figure on which things are placed by pixels from the top left corner."""

    def __init__(self) -> None:
        self.figure = Figure(figsize=(WIDTH / DPI, HEIGHT / DPI), dpi=DPI)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes in a rectangle."""
        bottom = HEIGHT - top - height
        return self.figure.add_axes((left / WIDTH, bottom / HEIGHT, width / WIDTH, height / HEIGHT))

    def text(self, left: float, top: float, text: str, pixels: float, **style: Any) -> float:
        """Write a line; return where it ends."""
        style = {"color": INK, "fontsize": pixels * 72 / DPI, **style}
        written = self.figure.text(left / WIDTH, 1 - top / HEIGHT, text, **style)
        return written.get_window_extent().x1

    def heading(self, top: float, title: str, *legend: tuple[str, str]) -> None:
        """A title and what the colours mean."""
        end = self.text(MARGIN, top, title, NAME + 4, weight="bold")
        for words, color in legend:
            end = self.text(end + 32, top, words, NOTE, color=color)


def outline(axes: Axes, box: Any, **style: Any) -> None:
    """Draw a box in pixels of the portrait."""
    x1, y1, x2, y2 = (float(z) for z in box)
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, **style))


def picture(axes: Axes, image: torch.Tensor, pale: float = 1.0, **options: Any) -> None:
    """Show an image (3, H, W)."""
    pixels = 1 - (1 - image.permute(1, 2, 0).clamp(0, 1).numpy()) * pale
    axes.imshow(pixels, interpolation="nearest", **options)
    axes.set_axis_off()


def draw(maps: list[torch.Tensor], steps: list[Step], sharp: torch.Tensor, path: Path) -> None:
    """Draw what happened."""
    page = Page()
    page.text(MARGIN, 84, "A box finds its object by gradient descent", 54, weight="bold")
    page.text(MARGIN, 142, "Its four edges are all that is trained: prroi_pool says exactly", 36)
    page.text(MARGIN, 188, "what is in the box, and how that changes with each edge.", 36)
    columns = len(SHOWN) + 1
    width = (WIDTH - 2 * MARGIN - (columns - 1) * GAP) / columns
    lefts = [MARGIN + i * (width + GAP) for i in range(columns)]
    height = width * sharp.shape[2] / sharp.shape[3]
    extent = (0, sharp.shape[3] * STRIDE, sharp.shape[2] * STRIDE, 0)
    top = 400
    page.heading(top - 124, "The map it reads", ("the box", ORANGE), ("where it should be", BLUE))
    for left, number in zip(lefts, SHOWN, strict=False):
        stage = min(number // STEPS_EACH, len(maps) - 1)
        page.text(left, top - 62, f"step {number}" if number else "start", NAME, weight="bold")
        page.text(left, top - 18, f"blur {BLURS[stage]} px", NOTE, color=GREY)
        axes = page.axes(left, top, width, height)
        picture(axes, maps[stage][0], 0.75, extent=extent)
        outline(axes, FACE, edgecolor=BLUE, linewidth=3, linestyle=(0, (3, 2)))
        for earlier in steps[:number:5]:
            outline(axes, earlier.boxes[0], edgecolor=ORANGE, linewidth=1, alpha=0.35)
        outline(axes, steps[number].boxes[0], edgecolor=ORANGE, linewidth=5)
    page.text(lefts[-1], top - 62, "portrait", NAME, weight="bold")
    axes = page.axes(lefts[-1], top, width, height)
    picture(axes, sharp[0], 0.75, extent=extent)
    outline(axes, FACE, edgecolor=BLUE, linewidth=5)

    top += height + 100
    page.heading(top - 26, "What is in the box", (f"the means of {BINS} x {BINS} bins", GREY))
    wanted = contents(maps[-1], torch.tensor([FACE]))[0]
    for left, number in zip(lefts, SHOWN, strict=False):
        picture(page.axes(left, top, width, width), steps[number].contents)
        page.text(left, top + width + 44, f"overlap {steps[number].overlaps[0]:.2f}", NOTE)
    picture(page.axes(lefts[-1], top, width, width), wanted)
    page.text(lefts[-1], top + width + 44, "as it should", NOTE)

    top += width + 256
    page.heading(top - 126, "How it went", ("this box", ORANGE), ("four others", GREY))
    half = (WIDTH - 2 * MARGIN - 130) / 2
    for left, name, values in (
        (MARGIN, "squared difference", "losses"),
        (MARGIN + half + 130, "overlap with the face", "overlaps"),
    ):
        page.text(left, top - 70, name, NAME - 4)
        axes = page.axes(left, top, half, HEIGHT - top - 116)
        lines = torch.stack([getattr(step, values) for step in steps])
        axes.plot(lines[:, 1:], color=PALE, linewidth=3)
        axes.plot(lines[:, 0], color=ORANGE, linewidth=5)
        axes.plot(SHOWN, lines[list(SHOWN), 0], "o", color=ORANGE, markersize=12, clip_on=False)
        chart(axes, logarithmic=values == "losses")
    page.figure.savefig(path, dpi=DPI, facecolor="white")


def chart(axes: Axes, *, logarithmic: bool) -> None:
    """Axes of a curve over the steps, with a line wherever the map becomes sharper."""
    axes.set(xlim=(0, len(BLURS) * STEPS_EACH))
    small = {"fontsize": NOTE * 72 / DPI, "color": GREY}
    if logarithmic:
        axes.set(yscale="log", ylim=(1e-9, 0.3), yticks=(1e-8, 1e-5, 1e-2))
        axes.minorticks_off()
    else:
        axes.set(ylim=(0, 1.02), yticks=(0, 0.5, 1))
    axes.set_xticks(range(0, len(BLURS) * STEPS_EACH + 1, 2 * STEPS_EACH))
    axes.set_xlabel("steps", **small)
    for stage, blur in enumerate(BLURS):
        axes.axvline(stage * STEPS_EACH, color="#E0E0E0", linewidth=2, zorder=0)
        name = f"blur {blur}" if stage == 0 else f"{blur}"
        place = (stage + 0.5) / len(BLURS)
        axes.text(place, 1.02, name, transform=axes.transAxes, ha="center", va="bottom", **small)
    axes.grid(axis="y", color="#E6E6E6", linewidth=1)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(labelsize=NOTE * 72 / DPI, length=6, color=GREY, labelcolor=GREY)


def main() -> None:
    """Descend, and draw it beside this file."""
    sharp = portrait()
    maps = [blurred(sharp, blur / STRIDE) for blur in BLURS]
    steps = descend(maps)
    with matplotlib.style.context(["default", {"font.family": "DejaVu Sans"}]):
        draw(maps, steps, sharp, Path(__file__).parent / "images" / "box_descent.png")


if __name__ == "__main__":
    main()
