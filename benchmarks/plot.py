"""Charts of what was measured, as SVG that can be read on white and on black."""

from pathlib import Path
from statistics import median
from typing import Any

from . import peers, report, scaling
from .environments import ROOT

FOLDER = ROOT / "docs" / "images"

# Half-way between black and white, so that one file serves light and dark pages.
TEXT, FAINT = "#7d858f", "#7d858f55"
OURS, THEIRS = "#e8590c", "#8496b0"
LINES = ("#4a8fd0", "#3f9f6b", "#b1862f", "#9b6fc3", "#c45a8a", "#5b9ea6", "#7d858f")

HEADLINES = {
    ("c4-head", "roi_align"): "RoIAlign, 300 boxes, 1024 channels",
    ("c4-head", "roi_align-adaptive"): "RoIAlign, as many samples as pixels",
    ("c4-head-batch", "roi_align"): "RoIAlign, boxes of 8 images",
    ("c4-head", "roi_pool"): "RoIPool, 300 boxes, 1024 channels",
    ("fpn-box", "roi_align"): "RoIAlign on 4 levels, 1000 boxes, 7×7",
    ("fpn-mask", "roi_align"): "RoIAlign on 4 levels, 100 boxes, 14×14",
    ("c4-head", "roi_align-gradient"): "gradient of RoIAlign to the map",
    ("c4-head", "roi_pool-gradient"): "gradient of RoIPool to the map",
    ("crop-float32", "crop_and_resize"): "256 crops of 224×224 from 1080p",
}


def draw(record: dict[str, Any]) -> list[Path]:
    """Draw bars for each number of threads, and lines for each operator; return the files."""
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
            files.append(save(bars(found, threads), f"benchmarks-threads-{threads}"))
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


def bars(found: dict[tuple[str, str], report.Group], threads: int) -> Any:
    """A chart for each case, each with a scale of its own from zero; ourselves on top."""
    figure, axes = panels(len(found), 3, 2.0)
    order = [key for key in HEADLINES if key in found]
    most = max(len(report.peers_of(group)) for group in found.values()) + 1
    for axis, key in zip(axes, order, strict=True):
        ours = report.ours_of(found[key])
        timed = [row for row in report.peers_of(found[key]) if report.was_timed(row)]
        timed.sort(key=lambda row: median(row["times"]))
        axis.set_title(HEADLINES[key], loc="left", color=TEXT, fontsize=10)
        times = [median(row["times"]) for row in (ours, *timed)]
        colors = [OURS] + [THEIRS] * len(timed)
        axis.barh(range(len(times)), times, color=colors, height=0.72)
        for place, (row, time) in enumerate(zip((ours, *timed), times, strict=True)):
            mark = "†" if "otherwise" in row else ""
            color = TEXT if place else OURS
            weight = "normal" if place else "bold"
            text = {"va": "center", "color": color, "fontsize": 9, "fontweight": weight}
            axis.text(
                -max(times) * 0.02, place, peers.name_of(row["side"]) + mark, ha="right", **text
            )
            factor = f" · {time / times[0]:.1f}×" if place else ""
            axis.text(time + max(times) * 0.02, place, report.time_of(time) + factor, **text)
        axis.set_xlim(-max(times) * 0.5, max(times) * 1.5)
        axis.set_ylim(most - 0.5, -0.6)
    noisy = report.warning([row for group in found.values() for row in group])
    one = "one thread" if threads == 1 else f"{threads} threads"
    figure.suptitle(
        f"Median time of a call, {one}; × how many times as long as {peers.OURS}\n{noisy}".strip(),
        color=TEXT, fontsize=10, x=0.01, ha="left",
    )  # fmt: skip
    return figure


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
