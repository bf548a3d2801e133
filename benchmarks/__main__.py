"""``python -m benchmarks``: ourselves and the peers on the fixed cases, as a Markdown table."""

import argparse
import json
import os
import sys
import tempfile
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import environments, on_cuda, peers, report, startup
from .cases import CASES, OPS
from .processes import Lost, Worker, busy_seconds, wait_for_quiet


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case", nargs="+", metavar="CASE", default=["*"],
        help=f"names or globs: {', '.join(CASES)}; or startup",
    )  # fmt: skip
    parser.add_argument(
        "--op", nargs="+", metavar="OP", default=["*"], help=f"names or globs: {', '.join(OPS)}"
    )
    parser.add_argument(
        "--peer", nargs="*", metavar="PEER", default=peers.NAMES, choices=peers.NAMES,
        help=f"{', '.join(peers.NAMES)}; none given: ourselves alone",
    )  # fmt: skip
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu",
        help="cuda: CuPy arrays, against torchvision's CUDA operators",
    )  # fmt: skip
    parser.add_argument("--threads", type=numbers, default=[1, 2], metavar="1,2")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each side (default 6)")
    parser.add_argument(
        "--seconds", type=float, default=0.25, help="length of a round (default 0.25)"
    )
    parser.add_argument(
        "--limit", type=float, default=20, metavar="SECONDS",
        help="give up on a peer whose two first calls take longer (default 20)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=float, default=2, metavar="SECONDS",
        help="before each round, wait so long for other processes to be quiet (default 2)",
    )  # fmt: skip
    parser.add_argument(
        "--out", action="store_true", help="give our operators an out= made beforehand"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time measured")
    parser.add_argument(
        "--install", nargs="+", metavar="PEER", choices=peers.NAMES,
        help="make an environment for each peer under .bench/ and stop",
    )  # fmt: skip
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def matches(name: str, globs: list[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


class Sides:
    """The workers of one thread count, started when first asked for and again after a loss."""

    def __init__(self, names: list[str], threads: int) -> None:
        self.names = names
        self.threads = threads
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}

    def __enter__(self) -> "Sides":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.stop()

    def ask(self, name: str, limit: float, **request: Any) -> dict[str, Any]:
        """The answer of the side, or ``{"failed": why}``."""
        if name in self.missing:
            return {"failed": self.missing[name]}
        try:
            if name not in self.workers:
                python = environments.python_for(name)
                if python is None:
                    hint = f"not installed: python -m benchmarks --install {name}"
                    return {"failed": self.missing.setdefault(name, hint)}
                worker = Worker(python, name, self.threads)
                hello = worker.ask(120, do="hello")
                if "failed" in hello:
                    worker.stop()
                    return {"failed": self.missing.setdefault(name, hello["failed"])}
                worker.versions = hello["versions"]
                self.workers[name] = worker
            return self.workers[name].ask(limit, **request)
        except Lost as error:
            self.workers.pop(name, None)
            return {"failed": str(error)}


def compare(sides: Sides, case: str, op: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each side: checked for equal results, then timed in turn, never at once."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        expected = str(Path(folder, "expected.npy"))
        for name in sides.names:
            # The first side that answers, ourselves if we do, is what the others must equal.
            save = not any("times" in row for row in rows)
            row: dict[str, Any] = {"case": case, "op": op, "threads": sides.threads, "side": name}
            limit = options.limit if name != peers.OURS else max(options.limit, 180)  # may compile
            answer = sides.ask(
                name, limit, do="load", case=case, op=op, expected=expected, save=save
            )
            rows.append(row | answer)
            if "first" in answer:
                rows[-1] |= {"times": [], "wall": 0.0, "others": 0.0}
    timed = [row for row in rows if "times" in row]
    for turn in range(options.rounds):
        # A B C, C B A, …: nobody always follows the same side.
        for row in timed if turn % 2 == 0 else timed[::-1]:
            if "failed" in row:
                continue
            wait_for_quiet(options.patience)
            busy, start = busy_seconds(), time.monotonic()
            answer = sides.ask(row["side"], options.limit + 60, do="round", seconds=options.seconds)
            if "failed" in answer:
                row["failed"] = answer["failed"]
                continue
            row["times"] += answer["times"]
            row["wall"] += time.monotonic() - start
            row["others"] += busy_seconds() - busy - answer["cpu"]
    return rows


def main_on_cuda(options: argparse.Namespace) -> int:
    """The same on the current CUDA device."""
    try:
        import cupy
    except ImportError:
        print("--device cuda needs CuPy: pip install '.[cuda13]' torchvision", file=sys.stderr)
        return 2
    if not cupy.cuda.is_available():
        print("--device cuda needs a CUDA device, and there is none", file=sys.stderr)
        return 2
    measured = list(on_cuda.rows(cupy, options.case, options.op, options.rounds))
    machine = report.machine() | {"device": on_cuda.device_name(cupy)}
    print(report.table(on_cuda.HEAD, on_cuda.lines(measured)))
    print(f"\n{machine['date']}, {machine['device']}, commit {machine['commit']}")
    print(on_cuda.versions())
    if options.json:
        record = {"machine": machine, "versions": on_cuda.versions(), "rows": measured}
        options.json.write_text(json.dumps(record) + "\n")
    return int(any(row.get("difference", 0) > on_cuda.TOLERANCE for row in measured))


def main() -> int:
    options = arguments()
    if options.install:
        for name in options.install:
            environments.install(name)
        return 0
    wanted = [
        (case, op)
        for case in CASES
        if matches(case, options.case)
        for op in CASES[case].ops
        if matches(op, options.op)
    ]
    if options.device == "cuda":
        return main_on_cuda(options)
    with_startup = "startup" in options.case
    if not wanted and not with_startup:
        print("no case has such an operator", file=sys.stderr)
        return 2
    if options.out:
        os.environ["ROI_NUMBA_BENCH_OUT"] = "1"
    record: dict[str, Any] = {"machine": report.machine(), "versions": {}, "rows": []}
    record["settings"] = {
        key: getattr(options, key) for key in ("rounds", "seconds", "limit", "patience", "out")
    }
    try:
        for threads in options.threads if wanted else ():
            with Sides([peers.OURS, *options.peer], threads) as sides:
                for case, op in wanted:
                    print(f"{case} {op}, {threads} thread(s) …", file=sys.stderr)
                    record["rows"] += compare(sides, case, op, options)
                    for worker in sides.workers.values():
                        record["versions"] |= worker.versions
        if with_startup:
            record["startup"] = startup.measure()
    except KeyboardInterrupt:
        print("interrupted; what follows is what was measured so far", file=sys.stderr)
    print(report.markdown(record))
    if options.json:
        options.json.write_text(json.dumps(record) + "\n")
    wrong = ("differs" in row for row in record["rows"])
    lost = (row["side"] == peers.OURS and "failed" in row for row in record["rows"])
    return int(any(wrong) or any(lost))


if __name__ == "__main__":
    sys.exit(main())
