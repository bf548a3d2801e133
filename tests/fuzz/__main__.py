"""Command line: draw calls, judge each, and say which to repeat if one fails.

python -m tests.fuzz --minutes 10
python -m tests.fuzz --seed 3 --only 1234
"""

import argparse
import platform
import sys
import time
from pathlib import Path

import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests import each other by name

from .draw import draw
from .judge import Judge
from .memory import Memory
from .source import script
from .workers import CALLS, CASES, REFUSED, RESIDENT, Worker, work


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long (default: until --calls)")
    parser.add_argument("--calls", type=int, help="how many (default: until --minutes)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first one")
    parser.add_argument("--only", type=int, help="one alone, as a script and judged")
    parser.add_argument("--processes", type=int, default=1, help="0: in this process")
    parser.add_argument("--tight", action="store_true", help="no guards, for memcheck")
    arguments = parser.parse_args()
    Memory.guarded = not arguments.tight
    if arguments.only is not None:
        case = draw(arguments.seed, arguments.only)
        case.memory.close()
        print(script(case))
        Judge().judge(draw(arguments.seed, arguments.only))
        return 0
    if arguments.minutes is None and arguments.calls is None:
        arguments.minutes = 1
    stop = arguments.first + (2**62 if arguments.calls is None else arguments.calls)
    deadline = time.time() + 60 * (1e6 if arguments.minutes is None else arguments.minutes)
    versions = f"NumPy {np.__version__}, Numba {numba.__version__}"
    print(f"seed {arguments.seed}; Python {platform.python_version()}, {versions}", flush=True)
    begin, failures = time.monotonic(), []

    def failed(failure):
        failures.append(failure)
        _show(arguments.seed, *failure)

    if arguments.processes:
        totals = _watch(arguments, stop, deadline, failed)
    else:
        totals = [0] * 5
        work(arguments.seed, arguments.first, 1, stop, deadline, totals, failed)
    seconds = time.monotonic() - begin
    print(
        f"{totals[CASES]} random calls, {totals[REFUSED]} of them refused, judged by "
        f"{totals[CALLS]} calls in all; {seconds:.0f} s; {len(failures)} failed"
    )
    return bool(failures)


def _watch(arguments, stop, deadline, failed):
    workers = [
        Worker(arguments.first + i, arguments, stop, deadline) for i in range(arguments.processes)
    ]
    working, told = workers, time.monotonic()
    while working:
        time.sleep(0.2)
        left = []
        for worker in working:
            found, goes_on = worker.look()
            for failure in found:
                failed(failure)
            left += [worker] * goes_on
        working = left
        if time.monotonic() - told > 60:
            told = time.monotonic()
            cases = sum(worker.count(CASES) for worker in workers)
            calls = sum(worker.count(CALLS) for worker in workers)
            memory = [worker.state[RESIDENT] >> 20 for worker in workers]
            print(f"{time.strftime('%H:%M:%S')} {cases} {calls} {memory} MiB", flush=True)
    return [sum(worker.count(what) for worker in workers) for what in range(5)]


def _show(seed, index, what):
    print(f"\n---- python -m tests.fuzz --seed {seed} --only {index}\n{what}", flush=True)
    try:
        case = draw(seed, index)
        case.memory.close()
        print(script(case), flush=True)
    except Exception as error:
        print(f"(no script of it: {error!r})", flush=True)


if __name__ == "__main__":
    sys.exit(main())
