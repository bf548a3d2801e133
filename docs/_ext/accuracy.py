"""`{accuracy} ours` and `{accuracy} peers`: what `benchmarks.accuracy` measured last."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
PARTS = {"forward": "result", "to_input": "gradient to the map", "to_boxes": "to the boxes"}

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")

Record = dict[str, Any]


def latest() -> Path:
    """The last file by name, which begins with its date."""
    return max(RESULTS.glob("*-accuracy.json"))


def short(number: float) -> str:
    """Two digits; of a million and more the power of ten."""
    if number < 100:
        return f"{number:.2g}" if number else "0"
    two = f"{number:.1e}"
    if number < 1e6:
        return f"{float(two):,.0f}"
    mantissa, power = two.split("e")
    return f"{mantissa}·10{str(int(power)).translate(SUPERSCRIPTS)}"


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """A Markdown table, line by line."""
    head = list(head)
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(row) + " |"
    yield ""


def ours(record: Record) -> Iterator[str]:
    """Largest errors: a line for each call, a column for each dtype, a table for each part."""
    calls = list(dict.fromkeys(row["call"] for row in record["ours"]))
    dtypes = list(dict.fromkeys(row["dtype"] for row in record["ours"]))
    found = {(row["call"], row["dtype"]): row for row in record["ours"]}
    for part, title in PARTS.items():
        yield from table(
            [title, *(f"`{dtype}`" for dtype in dtypes)],
            (
                [f"`{call}`", *(short(found[call, dtype][part]["largest"]) for dtype in dtypes)]
                for call in calls
            ),
        )


def peers(record: Record) -> Iterator[str]:
    """Errors of every side that has the call: beside rounded positions, and beside float64."""
    yield from table(
        ["call", "side", "largest error", "mean", "beside float64: largest", "mean", "far off"],
        (
            [
                f"`{row['call']}`" + (", gradient" if row["gradient"] else ""),
                row["side"],
                short(row["rounded"]["largest"]),
                short(row["rounded"]["mean"]),
                short(row["float64"]["largest"]),
                short(row["float64"]["mean"]),
                f"{row['float64']['far']:.2%}" if row["float64"]["far"] else "",
            ]
            for row in record["sides"]
            if "none" not in row
        ),
    )


def about(record: Record) -> Iterator[str]:
    """Where, when and with what."""
    machine = record["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    yield f"Measured {machine['date']} on {machine['cpu']}; {versions}."
    yield ""


class Accuracy(SphinxDirective):
    """One of the tables, and what it was measured with."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write it as Markdown, for the parser to read."""
        path = latest()
        self.env.note_dependency(str(path))
        record = json.loads(path.read_text("utf-8"))
        lines = {"ours": ours, "peers": peers}[self.arguments[0]](record)
        return self.parse_text_to_nodes("\n".join([*lines, *about(record)]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("accuracy", Accuracy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
