"""Processes that judge calls, and who watches them."""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import time
import traceback
import warnings

from key_watch import keys_watched

from .draw import draw
from .judge import Judge
from .leaks import LeakWatch, resident

INDEX, CASES, CALLS, REFUSED, RESIDENT = range(5)
PATIENCE = 180
"""Seconds that a case may take: the first of its kind compiles kernels, on a busy machine."""

ENOUGH = 20
"""Failures after which a process gives up."""


@keys_watched()
def work(seed, first, step, stop, deadline, state, failed):
    """Judge every case from `first` on, `step` apart; say where it is in `state`."""
    faulthandler.enable()
    warnings.simplefilter("error")
    judge, watch, failures = Judge(), LeakWatch(), 0
    for index in range(first, stop, step):
        if time.time() > deadline or failures >= ENOUGH:
            break
        state[INDEX] = index
        try:
            case = draw(seed, index)
            judge.judge(case)
            watch.see(judge, case, state[CASES])
        except Exception:
            failures += 1
            failed((index, traceback.format_exc()))
        state[CASES] += 1
        state[CALLS], state[REFUSED] = judge.calls, judge.refused
        if state[CASES] % 256 == 1:
            state[RESIDENT] = resident()
    state[INDEX] = -1


class Worker:
    """A process that works; another takes its place if it crashes or hangs."""

    def __init__(self, first, arguments, stop, deadline):
        self.first, self.step, self.arguments = first, max(arguments.processes, 1), arguments
        self.stop, self.deadline = stop, deadline
        self.done = [0] * 5
        self.start(first)

    def start(self, first):
        context = multiprocessing.get_context("spawn")
        self.state = context.Array("q", 5, lock=False)
        self.receiver, sender = context.Pipe(duplex=False)
        place = self.arguments.seed, first, self.step, self.stop, self.deadline
        task = {"target": _child, "args": (*place, self.state, sender), "daemon": True}
        self.process = context.Process(**task)
        self.process.start()
        sender.close()
        self.seen, self.since = -2, time.monotonic()

    def look(self):
        """Failures since the last look; False at the end when all is done."""
        failures = []
        with contextlib.suppress(EOFError, OSError):
            while self.receiver.poll():
                failures.append(self.receiver.recv())
        index = self.state[INDEX]
        if index != self.seen:
            self.seen, self.since = index, time.monotonic()
        hangs = time.monotonic() - self.since > PATIENCE
        if hangs:
            os.kill(self.process.pid, signal.SIGABRT)  # faulthandler writes where it is
            self.process.join(10)
            self.process.kill()
        if not self.process.is_alive() or hangs:
            self.process.join()
            if self.process.exitcode == 0 and not hangs:
                return failures, False
            what = f"hung for {PATIENCE} s" if hangs else f"ended with {self.process.exitcode}"
            failures.append((index, f"the process {what}"))
            self.done = [a + b for a, b in zip(self.done, self.state, strict=True)]
            self.start(index + self.step)
        return failures, True

    def count(self, what):
        return self.done[what] + self.state[what]


def _child(seed, first, step, stop, deadline, state, sender):
    work(seed, first, step, stop, deadline, state, sender.send)
