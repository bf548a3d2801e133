"""Memory of large results: where it begins, who maps its pages, and who has it afterwards.

The system maps and clears a page when it is first touched, which takes longer than writing it: of
the 11.5 ms of c4-head `roi_pool` in new memory, 3.3.
"""

import contextlib
import math
import mmap
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .threads import get_num_threads, run

LARGE = 1 << 22
"""Bytes from which a result has pages of its own."""

HUGE_PAGE = 1 << 21
PAGE = 4096

ANONYMOUS = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
"""Of no file.  On Windows that goes without saying."""


def new_pages(size: int) -> mmap.mmap | None:
    """Return so many bytes, of huge pages if the system has any; None if it has no memory."""
    try:
        pages = mmap.mmap(-1, size, **ANONYMOUS)
    except (OSError, OverflowError):
        return None
    with contextlib.suppress(AttributeError, OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


class Loan:
    """Pages for one result; when the last array over them is gone, the next result may have them.

    The system may take them as well, when it is short of memory: they are given back to it, but
    stay mapped until then.  Each time another `Loan` lends them, for Python calls `__del__` of an
    object only once.
    """

    # And no weak references, by which others could revive it.
    __slots__ = "__array_interface__", "pages", "used"

    kept: ClassVar[list[mmap.mmap]] = []  # of the class: at exit a module loses its names first
    most: ClassVar[int] = 1 << 28  # bytes to keep
    give_back: ClassVar[int | None] = getattr(mmap, "MADV_FREE", None)

    def __init__(self, pages: mmap.mmap, used: bool) -> None:
        self.pages = pages
        self.used = used
        self.__array_interface__ = np.frombuffer(pages, np.uint8).__array_interface__

    def __del__(self) -> None:
        if self.give_back is None or len(self.pages) > self.most:
            return
        try:
            self.pages.madvise(self.give_back)
        except OSError:  # locked pages, or a kernel that has no such advice
            return
        self.kept.append(self.pages)
        while sum(map(len, self.kept[:])) > self.most:
            with contextlib.suppress(IndexError):  # others let go of some
                self.kept.pop(0)


def _lend(size: int) -> Loan | None:
    """Return pages of so many bytes, unless there is no memory.

    Only pages of just that size are used again, and all others let go before new ones are mapped.
    """
    for pages in Loan.kept[:]:
        if len(pages) == size:
            with contextlib.suppress(ValueError):  # another thread has them
                Loan.kept.remove(pages)
                return Loan(pages, used=True)
    Loan.kept.clear()
    new = new_pages(size)
    return None if new is None else Loan(new, used=False)


def _by_page(work: Callable[[int, int], None], memory: NDArray[np.uint8]) -> None:
    """Call ``work(first, last)`` for the bytes of every huge page, on all threads."""
    size = len(memory)
    page = -memory.ctypes.data % HUGE_PAGE
    run(work, pairwise([0, *range(page or HUGE_PAGE, size, HUGE_PAGE), size]))


def empty(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array; a large one begins with a cache line, so that kernels write whole ones.

    Kernels write where their boxes lie, and threads that touch one huge page at the same time
    clear it both, of which one is thrown away (c4-head, two threads: 27.7 ms of CPU, now 22.5).
    So they share new pages first.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    loan = _lend(size) if size >= LARGE else None
    if loan is None:
        return np.empty(shape, dtype)
    memory = np.asarray(loan)
    if not loan.used and get_num_threads() > 1:

        def touch(first: int, last: int) -> None:
            memory[first:last:PAGE] = 0

        _by_page(touch, memory)
    return memory.view(dtype).reshape(shape)


def zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """Return a new array of zeros, which begins as those of `empty` do."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    loan = _lend(size) if size >= LARGE else None
    if loan is None:
        return np.zeros(shape, dtype)
    memory = np.asarray(loan)
    if loan.used:

        def clear(first: int, last: int) -> None:
            memory[first:last] = 0

        _by_page(clear, memory)
    return memory.view(dtype).reshape(shape)
