"""``python -m benchmarks``: ourselves and the peers on the fixed cases, as a Markdown table."""

import argparse
import json
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from . import environments, memory, on_cuda, peers, plot, publish, report, scaling, startup
from .cases import CASES, OPS
from .sides import Sides, compare


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case", nargs="+", metavar="CASE", default=["*"],
        help=f"names or globs: {', '.join(CASES)}; or startup, memory (default: everything)",
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
        "--seconds", type=float, default=0.2, help="length of a round (default 0.2)"
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
        "--scaling", action="store_true",
        help="instead of the cases: time against boxes, their size, channels and threads",
    )  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time measured")
    parser.add_argument(
        "--plot", nargs="+", type=Path, metavar="FILE",
        help="draw what such files hold into docs/images, and stop",
    )  # fmt: skip
    parser.add_argument(
        "--table", nargs="+", type=Path, metavar="FILE",
        help="write the tables of such files into docs/benchmarks.md and README.md, and stop",
    )  # fmt: skip
    parser.add_argument(
        "--install", nargs="+", metavar="PEER", choices=peers.NAMES,
        help="make an environment for each peer under .bench/ and stop",
    )  # fmt: skip
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def matches(name: str, globs: list[str]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs)


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


def wanted(options: argparse.Namespace) -> list[tuple[str, str, int]]:
    """Case, operator and number of threads, in the order of the measurement."""
    if options.scaling:
        ops = [op for op in scaling.OPS if matches(op, options.op)]
        points = [(case, op, 1) for case in scaling.POINTS for op in ops]
        return points + [
            (scaling.BASE, op, count) for count in options.threads if count > 1 for op in ops
        ]
    return [
        (case, op, threads)
        for threads in options.threads
        for case in CASES
        if matches(case, options.case)
        for op in CASES[case].ops
        if matches(op, options.op)
    ]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All that was asked for, or what of it was done when Ctrl-C came."""
    record: dict[str, Any] = {"machine": report.machine(), "versions": {}, "rows": []}
    record["settings"] = {
        key: getattr(options, key) for key in ("rounds", "seconds", "limit", "patience")
    }
    runs = wanted(options)
    try:
        for threads in dict.fromkeys(threads for _, _, threads in runs):
            with Sides() as sides:
                for number, (case, op, count) in enumerate(runs, 1):
                    if count != threads:
                        continue
                    place = f"{number} of {len(runs)}"
                    print(f"{case} {op}, {threads} thread(s), {place} …", file=sys.stderr)
                    record["rows"] += compare(sides, case, op, threads, options)
                    record["versions"] |= sides.versions()
        # Neither knows of operators: they have lists of their own.
        if not options.scaling and options.op == ["*"]:
            if matches("startup", options.case):
                print("startup …", file=sys.stderr)
                record["startup"] = startup.measure()
            if matches("memory", options.case):
                print("memory …", file=sys.stderr)
                record["memory"] = memory.measure(options.threads)
    except KeyboardInterrupt:
        print("interrupted; what follows is what was measured so far", file=sys.stderr)
    return record


def main() -> int:
    options = arguments()
    if options.install:
        for name in options.install:
            environments.install(name)
        return 0
    if options.plot or options.table:
        if options.plot:
            plot.draw(report.merged(options.plot))
        if options.table:
            publish.write(report.merged(options.table))
        return 0
    if options.device == "cuda":
        return main_on_cuda(options)
    record = measure(options)
    if not any(record.get(part) for part in ("rows", "startup", "memory")):
        print("nothing was measured: no case has such an operator", file=sys.stderr)
        return 2
    print(report.markdown(record))
    if options.json:
        options.json.write_text(json.dumps(record) + "\n")
    wrong = ("differs" in row for row in record["rows"])
    lost = (row["side"] == peers.OURS and "failed" in row for row in record["rows"])
    return int(any(wrong) or any(lost))


if __name__ == "__main__":
    sys.exit(main())
