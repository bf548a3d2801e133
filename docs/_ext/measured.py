"""Times in the text, out of `benchmarks/results`.

{ms}`case op threads side` is a median, {ratio}`case op threads side` a peer's over ours;
{single}`case op threads` is what one thread took, measured in turn with that many, and
{speedup}`case op threads` how many times as fast those were;
{startup}`no cache op`, {startup}`cached op` and {startup}`import over numpy` come before the first
result; {mib}`case op threads` is what a call takes beyond its result; {place}`any of these` says
where and when it was measured.  Of rows measured more than once the latest counts; a row that is
nowhere is an error, so no figure outlives its file.
"""

import json
import re
from functools import cache
from pathlib import Path
from statistics import median

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
ROLES = ("ms", "ratio", "single", "speedup", "startup", "mib", "place")


@cache
def figures() -> dict[str, dict[str, tuple[str, str]]]:
    """By role what it says of each row, and where and when that was measured.

    Both sides of a ratio were measured in one run.
    """
    said: dict[str, dict[str, tuple[str, str]]] = {role: {} for role in ROLES}
    results = [json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")]
    for result in sorted(results, key=lambda result: result["machine"]["date"]):
        machine = result["machine"]
        place = f"{machine['cores']} cores of {machine['cpu']}, {machine['date']}"
        seconds = {
            (f"{row['case']} {row['op']} {row['threads']}", row["side"]): median(row["times"])
            for row in result["rows"]
            # `by`: what another of our own calls took, measured in turn with this one.
            if row.get("times") and "failed" not in row and "by" not in row
        }
        for (call, side), time in seconds.items():
            said["ms"][f"{call} {side}"] = _time(time), place
            if (call, "roi_numba") in seconds:
                ratio = _short(time / seconds[call, "roi_numba"], 2)
                said["ratio"][f"{call} {side}"] = ratio, place
        for row in result["rows"]:
            call = f"{row['case']} {row['op']} {row['threads']}"
            if "by" in row and row["by"]["threads"] != row["threads"]:
                time = median(row["times"])
                said["single"][call] = _time(time), place
                said["speedup"][call] = _short(time / seconds[call, "roi_numba"], 2), place
        for row in result.get("startup", []):
            name = f"{row['what'].removeprefix('first call, ')} {row['op']}".strip()
            said["startup"][name] = _time(median(elapsed for elapsed, _ in row["times"])), place
        for row in result.get("memory", []):
            beyond = f"{row['beyond'] / 2**20:.1f}\N{NO-BREAK SPACE}MiB"
            said["mib"][f"{row['case']} {row['op']} {row['threads']}"] = beyond, place
    for role in ROLES:
        said["place"] |= {name: (place, place) for name, (_, place) in said[role].items()}
    return said


def _time(seconds: float) -> str:
    factor, unit = (1, "s") if seconds >= 1 else (1e3, "ms") if seconds >= 1e-3 else (1e6, "µs")
    return f"{_short(factor * seconds)}\N{NO-BREAK SPACE}{unit}"


def _short(number: float, digits: int = 3) -> str:
    """So many digits, or all before the point."""
    return f"{number:.{digits}g}" if number < 10 ** (digits - 1) else f"{number:.0f}"


class Figure(SphinxRole):
    """A role that says one number."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Look the row up."""
        for path in RESULTS.glob("*.json"):
            self.env.note_dependency(str(path))
        try:
            figure, place = figures()[self.name][self.text]
        except KeyError as error:
            return [], [self.inliner.reporter.error(f"no such row in {RESULTS}: {error}")]
        if figure == place:
            return [nodes.Text(place)], []
        return [nodes.abbreviation("", figure, explanation=place)], []


def keep_units(app: Sphinx, page: str, source: list[str]) -> None:
    """In the tables of times a number and its unit stay on one line."""
    if page == "benchmarks":
        source[0] = re.sub(r"(?<=\d) (?=(s|ms|µs)\b)", "\N{NO-BREAK SPACE}", source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the roles; have the tables read so."""
    for role in ROLES:
        app.add_role(role, Figure())
    app.connect("source-read", keep_units)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
