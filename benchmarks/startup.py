"""What comes before the first fast call: import, compilation, cache, and what a call costs.

Every figure is from processes of its own; "over numpy" means that numpy was there already.
"""

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from . import environments
from .cases import CASES

# Printed by the child: seconds, elapsed and of CPU, of the import, of the first call, and of
# each of the calls after it.
CHILD = """
import json, sys, time
import numpy

def timed(work):
    elapsed, cpu = time.perf_counter(), time.process_time()
    work()
    # Nanoseconds are all the clocks tell, and 40,000 times are kept.
    return round(time.perf_counter() - elapsed, 9), round(time.process_time() - cpu, 9)

def first():
    global run
    run, _ = ours.prepare(workload, OPS[sys.argv[1]], int(sys.argv[2]))
    run()

def load():
    import roi_numba

times = [timed(load)]
if len(sys.argv) > 1:
    from benchmarks import ours
    from benchmarks.cases import CASES, OPS
    workload = CASES["tiny"].build()
    times.append(timed(first))
    times += [timed(run) for _ in range(int(sys.argv[3]))]
print(json.dumps(times))
"""


class Failed(Exception):
    """A child ended with an error; its message is on stderr."""


def child(cache: str, op: str | None = None, calls: int = 0) -> list[list[float]]:
    """Run `CHILD` with Numba's cache in the folder ``cache``."""
    threads = os.cpu_count() or 1
    arguments = [] if op is None else [op, str(threads), str(calls)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=environments.ROOT,
        env=environments.with_threads(threads) | {"NUMBA_CACHE_DIR": cache},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed
    answer: list[list[float]] = json.loads(done.stdout)
    return answer


def import_times(repeats: int) -> dict[str, list[list[float]]]:
    """Time ``import roi_numba`` where numpy is imported."""
    with tempfile.TemporaryDirectory() as cache:
        child(cache)  # byte code
        return {"import over numpy": [child(cache)[0] for _ in range(repeats)]}


def call_times(op: str, repeats: int) -> dict[str, list[list[float]]]:
    """Time an operator's first calls, each in a new process, and its later ones."""
    with tempfile.TemporaryDirectory() as cache:
        return {
            "first call, no cache": [child(cache, op)[1]],
            "first call, cached": [child(cache, op)[1] for _ in range(repeats)],
            "a call on 1 box of 16x32x32": child(cache, op, 3000)[2:],
        }


def measure(repeats: int = 5) -> list[dict[str, Any]]:
    """Rows: what was timed, the operator, (elapsed, CPU) seconds; no times where it failed."""
    rows: list[dict[str, Any]] = []
    for op in ("", *CASES["tiny"].ops):
        try:
            figures = call_times(op, repeats) if op else import_times(repeats)
        except Failed:
            figures = {"failed": []}
        rows += [{"what": what, "op": op, "times": times} for what, times in figures.items()]
    return sorted(rows, key=lambda row: row["what"], reverse=True)
