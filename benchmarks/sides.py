"""Ourselves and the peers, each in a process of its own, taking turns at one case."""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from . import environments, peers
from .cases import CASES, measured_by
from .processes import Lost, Worker, busy_seconds, wait_for_quiet


class Side(NamedTuple):
    """Whose process, with how many threads."""

    name: str
    threads: int
    beside: int = 0
    """0, or the number of a process of our own beside the first, for what that is measured by."""


class Sides:
    """The workers, started when first asked for and again after a loss."""

    def __init__(self) -> None:
        self.workers: dict[Side, Worker] = {}
        self.missing: dict[str, str] = {}

    def __enter__(self) -> "Sides":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.stop()

    def ask(self, side: Side, limit: float, **request: Any) -> dict[str, Any]:
        """The answer of the side, or ``{"failed": why}``."""
        name = side.name
        if name in self.missing:
            return {"failed": self.missing[name]}
        try:
            if side not in self.workers:
                python = environments.python_for(name)
                if python is None:
                    hint = f"not installed: python -m benchmarks --install {name}"
                    return {"failed": self.missing.setdefault(name, hint)}
                worker = Worker(python, name, side.threads)
                hello = worker.ask(120, do="hello")
                if "failed" in hello:
                    worker.stop()
                    return {"failed": self.missing.setdefault(name, hello["failed"])}
                worker.versions = hello["versions"]
                self.workers[side] = worker
            return self.workers[side].ask(limit, **request)
        except Lost as error:
            self.workers.pop(side, None)
            return {"failed": str(error)}

    def versions(self) -> dict[str, str]:
        """Of all that answered."""
        found: dict[str, str] = {}
        for worker in self.workers.values():
            found |= worker.versions
        return found


def in_turn(
    case: str, op: str, threads: int, names: list[str]
) -> list[tuple[Side, dict[str, Any]]]:
    """Sides and their rows: ourselves, peers, and what we are measured by of our own."""
    row: dict[str, Any] = {"case": case, "op": op, "threads": threads}
    served = CASES[case].peers if case in CASES else None
    pairs = [(Side(peers.OURS, threads), row | {"side": peers.OURS})]
    pairs += [
        (Side(name, threads), row | {"side": name})
        for name in names
        if served is None or name in served
    ]
    others: list[dict[str, Any]] = []
    if case in CASES:
        others = [
            {"case": other_case, "op": other_op, "threads": threads}
            for other_case, other_op in measured_by(case, op)
        ]
    if threads > 1:
        others.append({"case": case, "op": op, "threads": 1})
    for number, other in enumerate(others, 1):
        side = Side(peers.OURS, other["threads"], number)
        pairs.append((side, row | {"side": peers.OURS, "by": other}))
    return pairs


def compare(
    sides: Sides, case: str, op: str, threads: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One row for each side: checked for equal results, then timed in turn, never at once."""
    pairs = in_turn(case, op, threads, options.peer)
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder, "expected.npy"))
        for side, row in pairs:
            limit = options.limit if side.name != peers.OURS else max(options.limit, 180)  # compile
            what = row.get("by", row)
            # The first side that answers, ourselves if we do, is what the others must equal.
            request = {
                "case": what["case"], "op": what["op"],
                "expected": "" if "by" in row else file,
                "save": "by" not in row and not any("times" in other for _, other in pairs),
            }  # fmt: skip
            row |= sides.ask(side, limit, do="load", **request)
            if "first" in row:
                row |= {"times": [], "wall": 0.0, "others": 0.0}
    timed = [(side, row) for side, row in pairs if "times" in row]
    for turn in range(options.rounds):
        # A B C, C B A, …: nobody always follows the same side.
        for side, row in timed if turn % 2 == 0 else timed[::-1]:
            if "failed" in row or row["wall"] > options.limit:
                continue
            wait_for_quiet(options.patience)
            busy, start = busy_seconds(), time.monotonic()
            answer = sides.ask(side, options.limit + 60, do="round", seconds=options.seconds)
            if "failed" in answer:
                row["failed"] = answer["failed"]
                continue
            row["times"] += answer["times"]
            row["wall"] += time.monotonic() - start
            row["others"] += busy_seconds() - busy - answer["cpu"]
    return [row for _, row in pairs]
