"""The threads kernels run on: our own, because Numba's cannot be shared or forked.

With Numba's layers a forked child dies at its first parallel call (GNU OpenMP) and concurrent
callers abort (workqueue).  Kernels release the GIL, so plain Python threads do.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

VARIABLE = "ROI_NUMBA_NUM_THREADS"


def cores() -> int:
    """Return how many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _initial() -> int:
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return cores()
    if not (text.isdecimal() and int(text) > 0):
        raise ValueError(f"{VARIABLE} must be a positive integer, got {text!r}")
    return int(text)


_count = _initial()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _forget_pool() -> None:
    """In a forked child: its parent's threads are not there, and locks may never open."""
    global _lock, _pool, _pool_size
    _lock = threading.Lock()
    _pool, _pool_size = None, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def set_num_threads(n: int) -> None:
    """Set how many threads an operator uses on the CPU.

    Results do not depend on it, bit for bit.

    Parameters
    ----------
    n : int
        At least 1.  The default is the number of cores this process may use, or the environment
        variable ``ROI_NUMBA_NUM_THREADS``.

    Raises
    ------
    ValueError
        If `n` is less than 1.
    TypeError
        If `n` is no integer.

    Examples
    --------
    >>> import roi_numba
    >>> before = roi_numba.get_num_threads()
    >>> roi_numba.set_num_threads(1)
    >>> roi_numba.get_num_threads()
    1
    >>> roi_numba.set_num_threads(before)
    """
    global _count
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n must be an integer, got {type(n).__name__}")
    n = n.__index__()
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    _count = n


def get_num_threads() -> int:
    """Return how many threads an operator uses on the CPU.

    Returns
    -------
    n : int
        As set by `set_num_threads`.

    Examples
    --------
    >>> import roi_numba
    >>> roi_numba.get_num_threads() >= 1
    True
    """
    return _count


def _workers(needed: int) -> ThreadPoolExecutor:
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < needed:
            _pool, _pool_size = ThreadPoolExecutor(needed, "roi_numba"), needed
        return _pool


def run(work: Callable[[Any, Any], None], portions: Iterable[tuple[Any, Any]]) -> None:
    """Call ``work(first, last)`` for every portion, on the caller's thread and others.

    The caller always takes part, so a pool that is busy with other callers delays nobody.  An
    exception, Ctrl-C included, drops the portions not yet begun and waits for the others.
    """
    portions = list(portions)
    others = min(_count, len(portions)) - 1
    if others < 1:
        for first, last in portions:
            work(first, last)
        return
    # The pool holds what was cancelled for a while, but a queue that is empty then: no arrays.
    calls = deque(partial(work, first, last) for first, last in portions)

    def drain() -> None:
        try:
            while True:
                try:
                    call = calls.popleft()
                except IndexError:
                    return
                call()
        except BaseException:
            calls.clear()
            raise

    pool = _workers(others)
    futures = [pool.submit(drain) for _ in range(others)]
    failure: BaseException | None = None
    try:
        drain()
    except BaseException as exception:
        failure = exception
    for future in futures:
        while not (future.cancel() or future.done()):
            try:
                future.exception()  # waits
            except BaseException as exception:  # Ctrl-C while waiting: the kernels must end first
                failure = exception
                calls.clear()
        if failure is None and not future.cancelled():
            failure = future.exception()
    if failure is not None:
        try:
            raise failure
        finally:  # or it would hold itself, and results, until garbage is collected
            del failure, future, futures
