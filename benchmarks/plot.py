"""Charts of what was measured, as SVG that can be read on light and dark pages."""

from pathlib import Path
from statistics import median
from typing import Any

from . import peers, ratios, report, scaling
from .cases import HEADLINES
from .environments import ROOT

FOLDER = ROOT / "docs" / "images"

# Half-way between black and white, so that one file serves light and dark pages.
TEXT, FAINT = "#7d858f", "#7d858f55"
OURS = "#e8590c"
LINES = ("#4a8fd0", "#3f9f6b", "#b1862f", "#9b6fc3", "#c45a8a", "#5b9ea6", "#7d858f")


def draw(record: dict[str, Any]) -> list[Path]:
    """Draw ratios for each number of threads, and lines for each operator; return the files."""
    points = [row for row in record["rows"] if "=" in row["case"]]
    cases = [row for row in record["rows"] if "=" not in row["case"]]
    files = []
    for threads in sorted({row["threads"] for row in cases}):
        found = {
            (case, op): group
            for (case, op, count), group in report.groups(cases).items()
            if count == threads
            and (case, op) in HEADLINES
            and report.peers_of(group)
            and report.was_timed(report.ours_of(group))
        }
        if found:
            files.append(FOLDER / f"benchmarks-ratios-{threads}.svg")
            files[-1].write_text(ratios.draw(found, threads), encoding="utf-8")
    for op in dict.fromkeys(row["op"] for row in points):
        rows = [row for row in points if row["op"] == op and "by" not in row]
        files.append(save(lines(rows, op), f"benchmarks-scaling-{op}"))
    return files


def save(figure: Any, name: str) -> Path:
    import matplotlib
    from matplotlib import pyplot

    file = FOLDER / f"{name}.svg"
    settings = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(settings):
        figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return file


def panels(count: int, columns: int, height: float) -> tuple[Any, list[Any]]:
    """A figure with bare axes."""
    from matplotlib import pyplot

    rows = -(-count // columns)
    figure, grid = pyplot.subplots(
        rows, columns, figsize=(6.4, height * rows), layout="constrained", squeeze=False
    )
    figure.get_layout_engine().set(h_pad=0.09)
    axes = list(grid.flat)
    for axis in axes:
        axis.set_axis_off()
    return figure, axes[:count]


def lines(rows: list[report.Row], op: str) -> Any:
    """Time against each axis, both logarithmic; ourselves in front."""
    of_axis: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for row in rows:
        if not report.was_timed(row):
            continue
        axis, value = scaling.position(row)
        if row["case"] == scaling.BASE:
            of_threads = of_axis.setdefault("threads", {}).setdefault(row["side"], [])
            of_threads.append((row["threads"], median(row["times"])))
        if row["threads"] == 1:
            curve = of_axis.setdefault(axis, {}).setdefault(row["side"], [])
            curve.append((value, median(row["times"])))
    shown = [axis for axis in scaling.UNITS if axis in of_axis]
    figure, axes = panels(len(shown), 2, 2.7)
    names = sorted({row["side"] for row in rows} - {peers.OURS})
    colors = dict(zip(names, LINES * len(names), strict=False)) | {peers.OURS: OURS}
    for axis, name in zip(axes, shown, strict=True):
        axis.set_axis_on()
        for side in (*names, peers.OURS):
            curve = sorted(of_axis[name].get(side, []))
            style = {"marker": "o", "markersize": 4, "color": colors[side]}
            width = 2.4 if side == peers.OURS else 1.3
            axis.plot([x for x, _ in curve], [y for _, y in curve], linewidth=width, **style)
        decorate(axis, name, sorted({x for curve in of_axis[name].values() for x, _ in curve}))
    figure.legend(
        axes[0].get_lines(), [peers.name_of(side) for side in (*names, peers.OURS)],
        loc="outside upper left", ncols=4, frameon=False, labelcolor=TEXT,
        fontsize=10, alignment="left",
        title=f"{op}: median time of a call in ms\n{report.warning(rows)}".strip(),
    ).get_title().set_color(TEXT)  # fmt: skip
    return figure


def decorate(axis: Any, name: str, values: list[int]) -> None:
    """Logarithmic axes; the ticks along x are what was measured."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(values, [str(value) for value in values])
    axis.xaxis.set_minor_locator(NullLocator())
    least, most = axis.get_ylim()
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 * least else (1,)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds * 1e3:g}"))
    axis.set_xlabel(scaling.UNITS[name], color=TEXT)
    axis.tick_params(colors=TEXT, which="both")
    axis.grid(color=FAINT, linewidth=0.6)
    for spine in axis.spines.values():
        spine.set_color(FAINT)
