"""How many times as long each peer takes, as an SVG that can be read on a phone.

A row for each case, a column for each peer; in every cell a bar, to scale, on a strip as wide as
the bar of roi_numba is long.  It is 500 wide, so that text of 13 is still legible where it is shown
360 wide.  Its background is its own, light or dark as the reader prefers.
"""

import textwrap
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from . import peers, report
from .cases import HEADLINES

Found = dict[tuple[str, str], report.Group]

WIDTH, MARGIN, LABEL = 500, 12, 158
TITLE, HEAD, ROW, FOOT = 52, 40, 38, 26
BETWEEN = 10
"""Pixels of a cell after its longest bar."""

HEADS = {"onnxruntime": "onnx runtime", "openvino": "Open VINO", "opencv": "Open CV",
         "tensorflow": "Tensor Flow", "torchvision": "torch vision"}  # fmt: skip
"""Names that are broken so as to fit a column."""

STYLE = """
svg { --paper: #fff; --shade: #f2f4f8; --text: #1f2328; --soft: #59636e; --bar: #7a8fbd;
  --ours: #d9480f; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
@media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --shade: #171c24; --text: #e6edf3;
  --soft: #a2abb6; --bar: #7489bb; --ours: #ff8a4c; } }
.paper { fill: var(--paper); } .shade { fill: var(--shade); } .bar { fill: var(--bar); }
.ours { fill: var(--ours); font-weight: 600; }
text { fill: var(--text); } .soft { fill: var(--soft); } .head { font-size: 12px; }
.title { font-size: 16px; font-weight: 600; }
"""


class Block(NamedTuple):
    """Cases that are measured beside the same peers, or some of those."""

    keys: list[tuple[str, str]]
    sides: list[str]


def draw(found: Found, threads: int) -> str:
    """The chart of these cases, which are among the headlines and were timed."""
    ratios = [
        ratio
        for group in found.values()
        for peer in report.peers_of(group)
        if (ratio := report.ratio(report.ours_of(group), peer)) is not None
    ]
    largest = max([2.0, *ratios])
    parts, top = [], float(TITLE)
    for block in blocks(found):
        cell = (WIDTH - 2 * MARGIN - LABEL) / len(block.sides)
        zeros = [MARGIN + LABEL + cell * column for column in range(len(block.sides))]
        scale = (cell - BETWEEN) / largest
        parts += rows(block, found, top, zeros, scale)
        top += HEAD + ROW * len(block.keys)
    one = "one thread" if threads == 1 else f"{threads} threads"
    note = f"Medians, {one}; the strip is as wide as ours is long: "
    everything = [row for group in found.values() for row in group]
    below = ["† other values in some places"] * any("otherwise" in row for row in everything)
    below += [warning] if (warning := report.warning(everything)) else []
    height = top + FOOT * bool(below) + MARGIN
    title = "How many times as long a call takes elsewhere"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
            f'width="{WIDTH}" height="{height:g}" role="img" aria-label="{escape(title)}">',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" width="{WIDTH}" height="{height:g}"/>',
            text(MARGIN, 25, title, "title"),
            f'<text x="{MARGIN}" y="46" class="soft">{note}'
            f'<tspan class="ours">{peers.OURS} = 1</tspan></text>',
            *parts,
            *(text(MARGIN, top + 20, "; ".join(below), "soft head") for _ in below[:1]),
            "</svg>\n",
        ]
    )


def blocks(found: Found) -> list[Block]:
    """The cases in the order of the headlines, together where one's peers include the other's."""
    parted: list[Block] = []
    for key in (key for key in HEADLINES if key in found):
        sides = {row["side"] for row in report.peers_of(found[key])}
        for block in parted:
            if sides <= set(block.sides) or sides >= set(block.sides):
                block.keys.append(key)
                block.sides[:] = sorted({*block.sides, *sides})
                break
        else:
            parted.append(Block([key], sorted(sides)))
    return parted


def rows(
    block: Block, found: Found, top: float, zeros: Iterable[float], scale: float
) -> Iterator[str]:
    """Names of the peers, a row for each case, and the strips."""
    places = dict(zip(block.sides, zeros, strict=True))
    for side, x in places.items():
        words = HEADS.get(side, peers.name_of(side)).split()
        for line, word in enumerate(reversed(words)):
            yield text(x - 2, top + HEAD - 7 - 14 * line, word, "head")
    top += HEAD
    # Below the strips, those of every row.
    for row in range(0, len(block.keys), 2):
        yield f'<rect class="shade" y="{top + ROW * row:g}" width="{WIDTH}" height="{ROW}"/>'
    for x in places.values():
        height = ROW * len(block.keys)
        yield f'<rect class="ours" x="{x:g}" y="{top:g}" width="{scale:.2f}" height="{height}"/>'
    for row, key in enumerate(block.keys):
        y = top + ROW * row
        lines = textwrap.wrap(HEADLINES[key], 22)
        first = y + 16 if len(lines) > 1 else y + 24
        for line, words in enumerate(lines):
            yield text(MARGIN, first + 15 * line, words)
        ours = report.ours_of(found[key])
        for peer in report.peers_of(found[key]):
            yield from cell_of(places[peer["side"]], y, ours, peer, scale)


def cell_of(x: float, y: float, ours: report.Row, peer: report.Row, scale: float) -> Iterator[str]:
    """A number above a bar, or that there is none."""
    ratio = report.ratio(ours, peer)
    if ratio is None:
        yield text(x + 5, y + 17, "none", "soft")
        return
    mark = "†" if "otherwise" in peer else ""
    number = f"{ratio:.{0 if ratio >= 9.95 else 1}f}" if ratio >= 1 else f"{ratio:.2g}"
    yield text(x + 5, y + 17, f"{number}×{mark}")
    yield f'<rect class="bar" x="{x:g}" y="{y + 23:g}" width="{scale * ratio:.1f}" height="9"/>'


def text(x: float, y: float, words: str, kind: str = "") -> str:
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:g}" y="{y:g}"{kind}>{escape(words)}</text>'
