"""Markdown of what was measured, and of the machine it was measured on."""

import datetime
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


def times_of(row: dict[str, Any]) -> str:
    """Median and minimum, or why there are none."""
    for reason in ("not_served", "failed", "differs"):
        if reason in row:
            return "not served" if reason == "not_served" else str(row[reason])
    return f"{time_of(median(row['times']))} ({time_of(min(row['times']))})"


def ratio_of(ours: dict[str, Any], peer: dict[str, Any]) -> str:
    """How many times our median goes into the peer's."""
    if any("times" not in row or "failed" in row for row in (ours, peer)):
        return ""
    return f"**{median(peer['times']) / median(ours['times']):.2f}x**"


def comparison(rows: list[dict[str, Any]]) -> str:
    """Our time beside each peer's, a line for each case, operator, thread count and peer."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["case"], row["op"], row["threads"]), []).append(row)
    lines = []
    for (case, op, threads), group in groups.items():
        ours = next(row for row in group if row["side"] == peers.OURS)
        start = [case, op, str(threads), times_of(ours)]
        others = [row for row in group if row is not ours and "not_served" not in row]
        for peer in others:
            difference = f"{peer['difference']:.1g}" if "difference" in peer else ""
            lines.append([*start, peer["side"], times_of(peer), ratio_of(ours, peer), difference])
        if not others:
            lines.append([*start, "none", "", "", ""])
    columns = "case|operator|threads|roi_numba|peer|peer's time|ratio|difference"
    return table(columns.split("|"), lines)


def startup(rows: list[dict[str, Any]]) -> str:
    """Median and minimum of each figure of the start-up, and what it takes of the CPU."""
    lines = []
    for row in rows:
        elapsed, cpu = zip(*row["times"], strict=True) if row["times"] else ((), ())
        figures = [median(elapsed), min(elapsed), median(cpu)] if elapsed else []
        lines.append([row["what"], row["op"], *map(time_of, figures)])
    return table(["start-up", "operator", "median", "minimum", "CPU, median"], lines)


def markdown(record: dict[str, Any]) -> str:
    """The whole report."""
    parts = []
    if record["rows"]:
        parts.append(comparison(record["rows"]))
        parts.append(
            "Median (minimum) of the calls of all rounds; ratio: the peer's median over ours; "
            "difference: of the results, relative to the largest value."
        )
        timed = [row for row in record["rows"] if "times" in row]
        others = sum(row["others"] for row in timed) / max(sum(row["wall"] for row in timed), 1e-9)
        if others > 0.1:
            parts.append(
                f"**Not a quiet machine:** other processes had {others:.2f} cores during the "
                "rounds; judge by the minima, or run it again."
            )
    if "startup" in record:
        parts.append(startup(record["startup"]))
    about = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    parts.append(
        f"{about['date']}, {about['cpu']}, {about['cores']} cores, {about['system']}, "
        f"Python {about['python']}, commit {about['commit']}, load before {about['load']}."
        + (f"\n{versions}." if versions else "")
    )
    return "\n\n".join(parts)
