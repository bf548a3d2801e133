"""The driver's end of a worker, and what else the machine is doing."""

import json
import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any

from . import environments


class Lost(Exception):
    """The worker died or took too long; it is gone."""


class Worker:
    """A running `benchmarks.worker`; idle, it waits on a pipe and costs nothing."""

    def __init__(self, python: str, name: str, threads: int) -> None:
        self.versions: dict[str, str] = {}
        self._process = subprocess.Popen(
            [python, "-m", "benchmarks.worker", name, str(threads)],
            cwd=environments.ROOT,
            env=environments.with_threads(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,  # Ctrl-C is for the driver
        )

    def ask(self, limit: float, **request: Any) -> dict[str, Any]:
        """Send a request and wait at most ``limit`` seconds for its answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        try:
            stdin.write(json.dumps(request) + "\n")
        except BrokenPipeError:
            raise Lost(f"ended with status {self._process.wait()}") from None
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(limit):
                self._process.kill()
                self._process.wait()
                raise Lost(f"more than {limit:g} s")
        line = stdout.readline()
        if not line:
            raise Lost(f"ended with status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        """End the process, in the middle of a request if need be."""
        try:
            self._process.communicate(timeout=2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


def busy_seconds() -> float:
    """CPU seconds that the machine has spent on anything, its host's other guests included."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, steal = map(
        int, stat.read_text().splitlines()[0].split()[1:9]
    )
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(patience: float) -> None:
    """Wait, at most ``patience`` seconds, until others use less than a tenth of a core."""
    give_up = time.monotonic() + patience
    while True:
        before, start = busy_seconds(), time.monotonic()
        time.sleep(0.1)
        quiet = busy_seconds() - before <= 0.1 * (time.monotonic() - start)
        if quiet or time.monotonic() >= give_up:
            return
