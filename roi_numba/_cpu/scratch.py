"""Scratch memory, which kernels leave to each other: one huge page for each thread at work.

A box's region is read from scratch again and again, so it must stay in L2.  Pages of 4 KiB lie
anywhere in memory and crowd in some of its sets; those of a huge page fill them evenly (c4-head,
one thread, medians of seven processes in turn: `roi_align` 8.4 -> 7.4 ms, adaptive 8.8 -> 7.5,
`prroi_pool` 9.5 -> 8.4).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compile import inline_owner
from .pages import HUGE_PAGE, new_pages

_free: dict[str, list[NDArray[Any]]] = {"f": [], "d": []}
"""Scratch that nobody uses, by the dtype of its elements."""


def in_scratch(kernel: Callable[..., Any], like: NDArray[Any], first: int, last: int) -> Any:
    """Call ``kernel(first, last, memory)`` with scratch memory of the dtype of `like`."""
    free = _free[like.dtype.char]
    try:
        memory = free.pop()
    except IndexError:
        pages = np.frombuffer(new_pages(2 * HUGE_PAGE), np.uint8)
        start = -pages.ctypes.data % HUGE_PAGE
        memory = pages[start : start + HUGE_PAGE].view(like.dtype)
    try:
        return kernel(first, last, memory)
    finally:
        free.append(memory)


@inline_owner
def take(memory, count):
    """So many elements of scratch, and what is left; new ones if it has not so many."""
    if count <= memory.size:
        return memory[:count], memory[count:]
    return np.empty(count, memory.dtype), memory
