"""The tables of the documentation, written from the JSON of a run.

A table stands between ``<!-- benchmarks: NAME -->`` and ``<!-- benchmarks end -->``; what is
between them is thrown away and written again.
"""

import re
from collections.abc import Callable
from typing import Any

from . import peers, report
from .cases import HEADLINES
from .environments import ROOT

FILES = (ROOT / "docs" / "benchmarks.md", ROOT / "README.md")
REGION = re.compile(r"(<!-- benchmarks: (\S+) -->\n).*?(<!-- benchmarks end -->)", re.DOTALL)

Record = dict[str, Any]


def of_cases(record: Record) -> list[report.Row]:
    """Rows of cases, not of points of an axis."""
    return [row for row in record["rows"] if "=" not in row["case"]]


def with_peers(record: Record) -> str:
    rows = of_cases(record)
    return "\n\n".join([report.side_by_side(rows), *report.footnotes(rows)])


def headlines(record: Record) -> str:
    """The fastest peer of each chart, with one thread and with more."""
    found = report.groups(of_cases(record))
    lines = []
    for (case, op), title in HEADLINES.items():
        for (_, _, threads), group in found.items():
            if (group[0]["case"], group[0]["op"]) != (case, op):
                continue
            ours = report.ours_of(group)
            rated = [(report.ratio(ours, row), row) for row in report.peers_of(group)]
            known = [(factor, row) for factor, row in rated if factor is not None]
            if known:
                factor, peer = min(known, key=lambda pair: pair[0])
                fastest = f"{peers.name_of(peer['side'])} {report.times_of(peer)}"
                lines.append(
                    [title, str(threads), report.times_of(ours), fastest, report.bold(factor)]
                )
    columns = ["", "threads", peers.OURS, "fastest peer", "ratio"]
    return report.table(columns, lines)


REGIONS: dict[str, Callable[[Record], str]] = {
    "headlines": headlines,
    "peers": with_peers,
    "ourselves": lambda record: report.among_ourselves(of_cases(record)),
    "threads": lambda record: report.scaling(of_cases(record)),
    "startup": lambda record: report.startup(record["startup"]) if "startup" in record else "",
    "memory": lambda record: report.memory(record["memory"]) if "memory" in record else "",
    "about": lambda record: "\n\n".join(record["about"]),
}


def rewritten(text: str, record: Record) -> str:
    """The text with all its regions written anew."""
    return REGION.sub(lambda region: f"{region[1]}{REGIONS[region[2]](record)}\n{region[3]}", text)


def write(record: Record) -> None:
    """Rewrite the regions of the documentation."""
    for file in FILES:
        file.write_text(rewritten(file.read_text(encoding="utf-8"), record), encoding="utf-8")
