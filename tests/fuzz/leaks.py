"""Whether a call that is repeated takes more and more memory."""

import ctypes
import gc
import sys
from pathlib import Path

EVERY = 2048
"""Cases between two that are repeated."""

TIMES = 40


def resident():
    """Bytes of this process in memory."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


def _mallinfo():
    try:
        function = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # another C library
        return None
    function.restype = _Mallinfo
    return function


MALLINFO = _mallinfo()


def taken():
    """Blocks of Python's allocator, and bytes of C's."""
    gc.collect()
    if MALLINFO is None:
        return sys.getallocatedblocks(), 0
    info = MALLINFO()
    return sys.getallocatedblocks(), info.uordblks + info.hblkhd


class LeakWatch:
    """Repeats some of the calls."""

    def see(self, judge, case, number):
        """Now and then, of a case by its number among those judged."""
        if number % EVERY == EVERY // 2:
            self.repeat(judge, case)

    def repeat(self, judge, case):
        """AssertionError if a call keeps memory: an object or eight bytes each time."""
        for _ in range(6):  # the first fill caches
            before = taken()
            for _ in range(TIMES):
                try:
                    judge.run(case)
                except (TypeError, ValueError, IndexError):
                    pass
            blocks, size = (now - then for now, then in zip(taken(), before, strict=True))
            if blocks < TIMES and size < 8 * TIMES:
                return
        raise AssertionError(f"{TIMES} more calls keep {blocks} objects and {size} bytes")
