"""Times in the text, out of `benchmarks/results`: {ms}`case op threads side`, {ratio}`the same`.

A time is the median of its row; a ratio is that of a peer over ours.  Of rows measured more than
once the latest counts; a row that is nowhere is an error, so no figure outlives its file.
"""

import json
from functools import cache
from pathlib import Path
from statistics import median

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxRole

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


@cache
def figures() -> dict[str, dict[str, tuple[str, str]]]:
    """By role what it says of each row, and where and when that was measured.

    Both sides of a ratio were measured in one run.
    """
    said: dict[str, dict[str, tuple[str, str]]] = {"ms": {}, "ratio": {}}
    results = [json.loads(path.read_text("utf-8")) for path in RESULTS.glob("*.json")]
    for result in sorted(results, key=lambda result: result["machine"]["date"]):
        machine = result["machine"]
        place = f"{machine['cores']} cores of {machine['cpu']}, {machine['date']}"
        seconds = {
            (f"{row['case']} {row['op']} {row['threads']}", row["side"]): median(row["times"])
            for row in result["rows"]
            if row.get("times")
        }
        for (call, side), time in seconds.items():
            said["ms"][f"{call} {side}"] = f"{_short(1000 * time)}\N{NO-BREAK SPACE}ms", place
            if (call, "roi_numba") in seconds:
                ratio = _short(time / seconds[call, "roi_numba"], 2)
                said["ratio"][f"{call} {side}"] = ratio, place
    return said


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
        return [nodes.abbreviation("", figure, explanation=place)], []


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the roles."""
    app.add_role("ms", Figure())
    app.add_role("ratio", Figure())
    return {"parallel_read_safe": True, "parallel_write_safe": True}
