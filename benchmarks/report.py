"""Markdown of what was measured, and of the machine it was measured on."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from statistics import median
from typing import Any

from . import environments, peers


def machine() -> dict[str, Any]:
    """What has to be known to judge the times."""
    model, flags = platform.processor(), ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = {
            key.strip(): value.strip()
            for key, _, value in (
                line.partition(":") for line in cpuinfo.read_text().splitlines() if line
            )
        }
        model = fields.get("model name", model)
        flags = fields.get("flags", fields.get("Features", ""))
    vectors = [name for name in ("avx2", "avx512f", "asimd", "sve") if name in flags.split()]
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=environments.ROOT, capture_output=True, text=True, check=False,
    ).stdout.strip()  # fmt: skip
    return {
        "cpu": f"{model or platform.machine()} ({', '.join(vectors) or 'no vectors known'})",
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "date": datetime.datetime.now().isoformat(sep=" ", timespec="minutes"),
        "commit": commit or "none",
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def time_of(seconds: float) -> str:
    """Three digits, in ms or µs."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


Row = dict[str, Any]
Group = list[Row]
"""What was measured in turn: ourselves, peers, and what we are measured by of our own (``by``)."""


def merged(files: list[Path]) -> dict[str, Any]:
    """One record of several; of what was measured twice, the later file's."""
    records = [json.loads(file.read_text()) for file in files]
    rows: dict[tuple[Any, ...], Group] = {}
    result: dict[str, Any] = {"about": [], "versions": {}}
    for record in records:
        rows |= groups(record["rows"])
        result |= {part: record[part] for part in ("startup", "memory") if part in record}
        result["about"].append(about(record))
    return result | {"rows": [row for group in rows.values() for row in group]}


def groups(rows: list[Row]) -> dict[tuple[Any, ...], Group]:
    """The rows of each case, operator and number of threads."""
    found: dict[tuple[Any, ...], Group] = {}
    for row in rows:
        found.setdefault((row["case"], row["op"], row["threads"]), []).append(row)
    return found


def ours_of(group: Group) -> Row:
    """The row that the others are compared with."""
    return next(row for row in group if row["side"] == peers.OURS and "by" not in row)


def peers_of(group: Group) -> Group:
    """The rows of the peers that have such an operator."""
    return [row for row in group if row["side"] != peers.OURS and "not_served" not in row]


def was_timed(row: Row) -> bool:
    return bool(row.get("times")) and "failed" not in row


def times_of(row: Row) -> str:
    """Median and minimum, or why there are none."""
    for reason in ("not_served", "failed", "differs"):
        if reason in row:
            return "not served" if reason == "not_served" else row[reason].partition("\n")[0][:60]
    mark = "†" if "otherwise" in row else ""
    return f"{time_of(median(row['times']))} ({time_of(min(row['times']))}){mark}"


def ratio(row: Row, other: Row) -> float | None:
    """How many times the first row's median goes into the other's."""
    if not (was_timed(row) and was_timed(other)):
        return None
    return float(median(other["times"]) / median(row["times"]))


def bold(factor: float | None) -> str:
    if factor is None:
        return ""
    return f"**{factor:.2f}×**" if factor >= 0.1 else f"**{factor:.1g}×**"


def comparison(rows: list[Row]) -> str:
    """Our time beside each peer's, a line for each case, operator, thread count and peer."""
    lines = []
    for (case, op, threads), group in groups(rows).items():
        ours = ours_of(group)
        start = [case, op, str(threads), times_of(ours)]
        others = peers_of(group)
        for peer in others:
            difference = f"{peer['difference']:.1g}" if "difference" in peer else ""
            lines.append(
                [*start, peer["side"], times_of(peer), bold(ratio(ours, peer)), difference]
            )
        if not others:
            lines.append([*start, "none", "", "", ""])
    columns = "case|operator|threads|roi_numba|peer|peer's time|ratio|difference"
    return table(columns.split("|"), lines)


def side_by_side(rows: list[Row]) -> str:
    """The same with a column for each peer: its median, and in how many of ours."""
    served = {row["side"] for group in groups(rows).values() for row in peers_of(group)}
    names = [name for name in peers.NAMES if name in served]
    lines = []
    for (case, op, threads), group in groups(rows).items():
        ours, found = ours_of(group), {row["side"]: row for row in peers_of(group)}
        if not found:
            continue
        cells = [cell_of(ours, found[name]) if name in found else "" for name in names]
        lines.append([case, f"`{op}`", str(threads), times_of(ours), *cells])
    return table(["case", "operator", "threads", "roi_numba", *map(peers.name_of, names)], lines)


def cell_of(ours: Row, peer: Row) -> str:
    """Median and ratio of a peer, or why there are none."""
    factor = ratio(ours, peer)
    if factor is None:
        return times_of(peer)
    mark = "†" if "otherwise" in peer else ""
    return f"{time_of(median(peer['times']))}{mark} {bold(factor)}"


def footnotes(rows: list[Row]) -> list[str]:
    """Of the peers that are timed though they do not quite compute the same."""
    notes = [
        f"† {peers.name_of(row['side'])}, {row['case']} `{row['op']}`: {row['otherwise']}."
        for row in rows
        if "otherwise" in row
    ]
    return list(dict.fromkeys(notes))


def among_ourselves(rows: list[Row]) -> str:
    """How long ours takes, by ours of another case or operator; measured in turn."""
    lines = []
    for group in groups(rows).values():
        row = ours_of(group)
        for other in group:
            by = other.get("by")
            if by is None or by["threads"] != row["threads"]:
                continue
            names = [f"`{by['op']}`"] if by["op"] != row["op"] else []
            names += [by["case"]] if by["case"] != row["case"] else []
            start = [row["case"], f"`{row['op']}`", str(row["threads"]), times_of(row)]
            lines.append([*start, " ".join(names), times_of(other), bold(ratio(other, row))])
    columns = "case|operator|threads|roi_numba|beside|its time|times as long"
    return table(columns.split("|"), lines)


def scaling(rows: list[Row]) -> str:
    """What more threads are worth, measured in turn with one."""
    lines = []
    for group in groups(rows).values():
        row = ours_of(group)
        for one in group:
            if "by" in one and one["by"]["threads"] != row["threads"]:
                start = [row["case"], f"`{row['op']}`", times_of(one), str(row["threads"])]
                lines.append([*start, times_of(row), bold(ratio(row, one))])
    columns = "case|operator|one thread|threads|their time|speed-up"
    return table(columns.split("|"), lines)


def startup(rows: list[Row]) -> str:
    """Median and minimum of each figure of the start-up, and what it takes of the CPU."""
    lines = []
    for row in rows:
        elapsed, cpu = zip(*row["times"], strict=True) if row["times"] else ((), ())
        figures = [median(elapsed), min(elapsed), median(cpu)] if elapsed else []
        lines.append([row["what"], row["op"], *map(time_of, figures)])
    return table(["start-up", "operator", "median", "minimum", "CPU, median"], lines)


def memory(rows: list[Row]) -> str:
    """Resident memory beyond the result, beside 4 MiB a thread and 1 % of the result."""
    lines = []
    for row in rows:
        figures = ["failed", "", ""]
        if "failed" not in row:
            allowed = row["threads"] * 4 * 2**20 + row["result"] / 100
            figures = [f"{size / 2**20:.1f}" for size in (row["result"], row["beyond"], allowed)]
        lines.append([row["case"], f"`{row['op']}`", str(row["threads"]), *figures])
    columns = "case|operator|threads|result, MiB|beyond it, MiB|4 MiB a thread + 1 %"
    return table(columns.split("|"), lines)


def noise(rows: list[Row]) -> float:
    """Cores that other processes had during the rounds."""
    timed = [row for row in rows if "times" in row]
    return float(sum(row["others"] for row in timed) / max(sum(r["wall"] for r in timed), 1e-9))


def warning(rows: list[Row]) -> str:
    """What to say of times that were measured beside other work."""
    cores = noise(rows)
    return f"Not a quiet machine: other processes had {cores:.2f} cores" if cores > 0.1 else ""


def about(record: dict[str, Any]) -> str:
    """Where, when and with what a record was made."""
    on = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{on['date']}, {on['cpu']}, {on['cores']} cores, {on['system']}, "
        f"Python {on['python']}, commit {on['commit']}, load before {on['load']}, "
        f"others had {noise(record['rows']):.2f} cores." + (f"\n{versions}." if versions else "")
    )


HOW_TO_READ = (
    "Median (minimum) of the calls of all rounds; ratio: the peer's median over ours; "
    "difference: of the results, relative to the largest value."
)


def markdown(record: dict[str, Any]) -> str:
    """The whole report."""
    parts, rows = [], record["rows"]
    if rows:
        parts += [comparison(rows), HOW_TO_READ, *footnotes(rows)]
        if any("by" in row for row in rows):
            parts += [among_ourselves(rows), scaling(rows)]
        if warning(rows):
            advice = "judge by the minima, or run it again"
            parts.append(f"**{warning(rows)} during the rounds: {advice}.**")
    if "startup" in record:
        parts.append(startup(record["startup"]))
    if "memory" in record:
        parts.append(memory(record["memory"]))
    parts.append(about(record))
    return "\n\n".join(parts)
