"""One side in a process of its own: JSON requests on stdin, JSON answers on stdout.

Needs numpy and the peer, nothing else: it runs in the peer's own environment.
"""

import functools
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import peers, scaling
from .cases import OPS

TOLERANCE = 2e-5  # of the largest value, unless a peer says how far it is from exact


workload = functools.lru_cache(1)(scaling.workload)
"""Kept, as the next request is likely to be another operator of the same case."""


class Side:
    """A peer, or ourselves, with at most one workload prepared."""

    def __init__(self, name: str, threads: int) -> None:
        self.peer = peers.load(name)
        self.threads = threads
        self.run: Callable[[], Any] | None = None

    def hello(self) -> dict[str, Any]:
        return {"versions": self.peer.versions()}

    def load(self, case: str, op: str, expected: str, save: bool) -> dict[str, Any]:
        """Prepare, run once, and check against (or save as) the expected output, if it is named."""
        self.run = None
        gc.collect()
        try:
            run, read = self.peer.prepare(workload(case), OPS[op], self.threads)
        except peers.NotServed as error:
            return {"not_served": str(error)}
        start = time.perf_counter()
        outputs = run()
        first = time.perf_counter() - start
        output = np.concatenate([level.reshape(-1) for level in read(outputs)])
        answer: dict[str, Any] = {"first": first}
        if save:
            np.save(expected, output)
        elif expected:
            compared = self.compared(op, output, np.load(expected))
            if "differs" in compared:
                return compared
            answer |= compared
        self.run = run
        run()
        return answer

    def compared(self, op: str, output: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
        """How far from equal; ``differs`` if that is too far to be timed."""
        difference = relative_difference(output, expected)
        if difference <= getattr(self.peer, "TOLERANCE", TOLERANCE):
            return {"difference": difference}
        otherwise = getattr(self.peer, "OTHERWISE", {}).get(op)
        if otherwise is not None and output.shape == expected.shape:
            share = float((np.abs(output - expected) > TOLERANCE * np.abs(expected).max()).mean())
            if share <= otherwise.share:
                return {"otherwise": f"{share:.1%} of the values differ: {otherwise.why}"}
        return {"differs": f"result differs by {difference:.1e} of the largest value"}

    def round(self, seconds: float) -> dict[str, Any]:
        """Times of calls in seconds, for about ``seconds``, at least two calls."""
        run = self.run
        assert run is not None
        clock = time.perf_counter
        times: list[float] = []
        cpu = time.process_time()
        gc.collect()
        gc.disable()
        try:
            run()  # the other side has had the caches
            until = clock() + seconds
            while len(times) < 2 or (clock() < until and len(times) < 200):
                start = clock()
                outputs = run()
                times.append(round(clock() - start, 7))
                del outputs  # freed outside the measurement
        finally:
            gc.enable()
        return {"times": times, "cpu": time.process_time() - cpu}


def relative_difference(output: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest expected value; inf for another shape."""
    if output.shape != expected.shape:
        return float("inf")
    largest = float(np.abs(expected).max(initial=0.0))
    difference = float(np.abs(output - expected).max(initial=0.0))
    return difference / largest if largest else difference


def main() -> None:
    # Answers go to the real stdout; whatever a library prints goes to stderr.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    side = Side(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(side, request.pop("do"))(**request)
        except Exception as error:
            answer = {"failed": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
