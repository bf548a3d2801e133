"""Python processes that tests start: a clean environment, and an end even if they hang."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import roi_numba

PACKAGE = Path(roi_numba.__file__).parent

# Warnings are errors in children too.  Python 3.12 warns of every fork beside a thread, which is
# what some tests are about.
_WARNINGS = ["-W", "error", "-W", "ignore:This process:DeprecationWarning"]


def start(code, *arguments, package=PACKAGE, module=None, **environment):
    """A process that runs ``code``, or ``module``, with the copy of the package in ``package``.

    It can import the tests, and it leads a process group.  A variable that is None is unset.
    """
    what = ["-m", module] if module else ["-c", code]
    path = [str(Path(package).parent), str(Path(__file__).parent)]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
    return subprocess.Popen(
        [sys.executable, *_WARNINGS, *what, *map(str, arguments)],
        env={name: str(value) for name, value in variables.items() if value is not None},
        cwd=Path(package).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def finish(process, timeout=100, status=0):
    """What the process printed; it and all its children are killed when the time is up."""
    try:
        printed, complaints = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        printed, complaints = process.communicate()
        raise AssertionError(f"hung for {timeout} s\n{printed}\n{complaints}") from None
    assert process.returncode == status, f"{printed}\n{complaints}"
    return printed if status == 0 else complaints


def kill(process):
    """End the process and its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(code, *arguments, timeout=100, status=0, **options):
    """What a process prints that runs ``code``, or what it complains of if it is to fail."""
    return finish(start(code, *arguments, **options), timeout, status)
