"""Scratch memory, which kernels leave to each other: one huge page for each thread at work.

A box's region is read from scratch again and again, so it must stay in L2.  Pages of 4 KiB lie
anywhere in memory; most likely they crowd in some of its sets, which those of a huge page fill
evenly (c4-head, one thread, medians of seven processes in turn: `roi_align` 8.4 -> 7.4 ms, adaptive
8.8 -> 7.5, `prroi_pool` 9.5 -> 8.4).
"""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compile import inline_owner
from .pages import HUGE_PAGE, new_pages
from .threads import cores

_free: dict[str, list[NDArray[Any]]] = {"f": [], "d": []}
"""Scratch that nobody uses, by the dtype of its elements."""

MOST = cores()
"""Kept of each: who calls from more threads gets memory anew."""


def let_go() -> None:
    """Let go of what nobody uses.

    It is done before a fork, after which both processes would write to copies in pages of 4 KiB.
    """
    for free in _free.values():
        free.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=let_go)


def _new(dtype: np.dtype[Any]) -> NDArray[Any]:
    pages = new_pages(2 * HUGE_PAGE)
    if pages is None:
        return np.empty(HUGE_PAGE // dtype.itemsize, dtype)
    memory = np.frombuffer(pages, np.uint8)
    start = -memory.ctypes.data % HUGE_PAGE
    return memory[start : start + HUGE_PAGE].view(dtype)


def in_scratch(like: NDArray[Any], kernel: Callable[..., Any], *arguments: Any) -> Any:
    """Call ``kernel(*arguments, memory)`` with scratch memory of the dtype of `like`."""
    free = _free[like.dtype.char]
    try:
        memory = free.pop()
    except IndexError:
        memory = _new(like.dtype)
    try:
        return kernel(*arguments, memory)
    finally:
        if len(free) < MOST:
            free.append(memory)


@inline_owner
def take(memory, count):
    """So many elements of scratch, and what is left; new ones if it has not so many."""
    if count <= memory.size:
        return memory[:count], memory[count:]
    return np.empty(count, memory.dtype), memory
