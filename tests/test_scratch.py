"""Scratch memory is lent to one kernel at a time, and nothing is expected to be in it."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from arrays import assert_same_bits
from operators import REDUCTIONS, ids
from roi_numba._cpu import scratch
from roi_numba._cpu.pages import HUGE_PAGE
from roi_numba._cpu.scratch import in_scratch, take
from subprocesses import run as python

LIKE = [np.empty(0, np.float32), np.empty(0, np.float64)]


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
    monkeypatch.setattr(scratch, "_free", {"f": [], "d": []})


def lent(like, do=lambda memory: memory):
    return in_scratch(like, do)


@pytest.mark.parametrize("like", LIKE, ids=lambda like: like.dtype.name)
def test_a_huge_page(like):
    memory = lent(like)
    assert memory.dtype == like.dtype
    assert memory.nbytes == HUGE_PAGE
    assert memory.ctypes.data % HUGE_PAGE == 0
    assert lent(like) is memory
    memory[:] = 1


def test_what_the_kernel_gets_and_returns():
    assert in_scratch(LIKE[0], lambda *given: given[:2], 3, 9) == (3, 9)


def test_it_comes_back_after_an_error():
    with pytest.raises(ZeroDivisionError):
        lent(LIKE[0], lambda memory: 1 / 0)
    assert len(scratch._free["f"]) == 1


def test_each_thread_at_work_has_its_own():
    all_have_some = threading.Barrier(4)
    seen = []

    def work(memory):
        seen.append(memory.ctypes.data)
        all_have_some.wait(60)

    with ThreadPoolExecutor(4) as callers:
        for call in [callers.submit(lent, LIKE[i % 2], work) for i in range(4)]:
            call.result()
    assert len(set(seen)) == 4
    assert (len(scratch._free["f"]), len(scratch._free["d"])) == (2, 2)


def test_no_more_is_kept_than_cores(monkeypatch):
    monkeypatch.setattr(scratch, "MOST", 1)
    lent(LIKE[0], lambda memory: lent(LIKE[0]))
    assert len(scratch._free["f"]) == 1


def test_no_memory_for_huge_pages(monkeypatch):
    monkeypatch.setattr(scratch, "new_pages", lambda size: None)
    memory = lent(LIKE[0])
    assert (memory.dtype, memory.nbytes) == (np.float32, HUGE_PAGE)


FORKED = """
import os
import numpy as np
from roi_numba._cpu import scratch

scratch.in_scratch(np.empty(0, np.float32), lambda memory: None)
before = len(scratch._free["f"])
if child := os.fork():
    os.waitpid(child, 0)
print(before, len(scratch._free["f"]), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_none_is_shared_with_a_child():
    assert python(FORKED).splitlines() == ["1 0", "1 0"]


def test_parts():
    memory = np.arange(100.0)
    first, rest = take(memory, 60)
    assert first.tolist() == list(range(60))
    assert rest.tolist() == list(range(60, 100))
    second, rest = take(rest, 41)
    assert second.shape == (41,)
    assert not np.shares_memory(second, memory)
    assert len(rest) == 40
    third, rest = take(rest, 40)
    assert third.tolist() == list(range(60, 100))
    assert not len(rest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("channel_axis", [1, -1])
@pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
def test_nothing_is_expected_there(operator, reduction, channel_axis, dtype, rng):
    features = rng.standard_normal((2, 19, 15, 22)).astype(dtype)
    if channel_axis == -1:
        features = np.ascontiguousarray(features.transpose(0, 2, 3, 1))
    boxes = np.array([[0, 1, 2, 12, 9], [1, 4, 3, 19, 14], [1, 0, 0, 3, 2], [0, 5, 5, 5, 5]])
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    found = []
    for left in (0.0, np.nan, np.inf):
        for memories in scratch._free.values():
            for memory in memories:
                memory[:] = left
        pooled = operator.function(features, boxes, (3, 4), **options)
        found.append([pooled, *operator.backward(pooled, features, boxes, **options)])
    assert scratch._free["d" if dtype == np.float64 else "f"]
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            assert_same_bits(one, expected)
