"""``python -m benchmarks.instructions``: what small calls cost, in instructions.

Times on a busy machine are noise; the instructions of a call are the same to a few in a thousand,
whatever else runs.  Callgrind counts those of the last of several equal calls, from Python to the
kernels, on one thread, in code for AVX2: valgrind knows no AVX-512.  A baseline of all calls
is kept beside this file.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

BASELINE = Path(__file__).with_suffix(".json")

TOLERANCE = 0.02
"""A call that takes so much more than its baseline is worse; runs differ by 0.3 % at most."""

PACKAGES = "numba", "llvmlite", "numpy"

ENVIRONMENT = {
    "NUMBA_CPU_NAME": "haswell",
    "NUMBA_CPU_FEATURES": "",  # or Numba adds those of this machine
    "PYTHONHASHSEED": "0",
    "PYTHONWARNINGS": "error",
}

CALLS = [sys.executable, "-m", "benchmarks.counted"]


def versions() -> dict[str, str]:
    """What the counts are for: other compilers make other instructions."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: version(name) for name in PACKAGES}


def counts() -> dict[str, int]:
    """Instructions of each call of `counted`."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | ENVIRONMENT | {"NUMBA_CACHE_DIR": f"{folder}/cache"}
        root = BASELINE.parents[1]
        subprocess.run(CALLS, env=environment, cwd=root, check=True)  # compiles
        # Calls say themselves from where on they are counted.
        valgrind = [
            "valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet",
            f"--callgrind-out-file={folder}/counts",
        ]  # fmt: skip
        subprocess.run([*valgrind, *CALLS], env=environment, cwd=root, check=True)
        found = {}
        for path in Path(folder).glob("counts.*"):
            text = path.read_text()
            name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
            total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
            if name and total:
                found[int(path.suffix[1:])] = name[1], int(total[1])
    return dict(found[number] for number in sorted(found))


def compared(now: dict[str, int], before: dict[str, int]) -> tuple[str, bool]:
    """A table of all calls, and whether none is worse or gone."""
    rows = [("call", "instructions", "baseline", "change", "")]
    good = True
    for name in now | before:
        if name not in now or name not in before:
            number = now.get(name, before.get(name, 0))
            rows.append((name, f"{number:,}", "", "", "GONE" if name in before else "new"))
            good = good and name not in before
            continue
        change = now[name] / before[name] - 1
        word = "WORSE" if change > TOLERANCE else "better" if change < -TOLERANCE else ""
        good = good and word != "WORSE"
        rows.append((name, f"{now[name]:,}", f"{before[name]:,}", f"{change:+.2%}", word))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines), good


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.instructions", description=__doc__)
    parser.add_argument("--update", action="store_true", help="make these counts the baseline")
    parser.add_argument(
        "--requirements", action="store_true",
        help="print what to install for the counts to be comparable with the baseline, and stop",
    )  # fmt: skip
    options = parser.parse_args()
    baseline = json.loads(BASELINE.read_text())
    if options.requirements:
        print(*(f"{name}=={baseline['versions'][name]}" for name in PACKAGES))
        return 0
    if platform.machine() != "x86_64" or not shutil.which("valgrind"):
        print("instructions are counted by valgrind on x86-64", file=sys.stderr)
        return 2
    now, here = counts(), versions()
    table, good = compared(now, baseline["counts"])
    print(table)
    if options.update:
        BASELINE.write_text(json.dumps({"versions": here, "counts": now}, indent=1) + "\n")
        print("\nThis is the baseline now.")
        return 0
    if here != baseline["versions"]:
        there, ours = (
            ", ".join(f"{name} {number}" for name, number in each.items())
            for each in (baseline["versions"], here)
        )
        print(f"\nNot judged: the baseline is for {there}, and this is {ours}.")
        return 0
    print(f"\n{'No call' if good else 'A call'} takes over {TOLERANCE:.0%} more than the baseline.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
