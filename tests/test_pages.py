"""Memory of large results is used again, but never while anybody can see it."""

import gc
import mmap
import os
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import roi_numba
from roi_numba._cpu.pages import LARGE, Loan, empty, zeros
from roi_numba._cpu.threads import run
from subprocesses import run as python

HOLDS = {
    "itself": lambda array: array,
    "a part": lambda array: array[len(array) // 2 :],
    "turned": lambda array: array.reshape(-1, 4).T,
    "other bytes": lambda array: array.view(np.uint16),
    "a buffer": memoryview,
    "of a buffer": lambda array: np.frombuffer(memoryview(array), np.float32),
    "DLPack": np.from_dlpack,
    "out-of-band pickle": pickle.PickleBuffer,
    "another class": lambda array: array.view(np.recarray),
}


pytestmark = pytest.mark.skipif(Loan.give_back is None, reason="nothing is kept on this system")


@pytest.fixture(autouse=True)
def nothing_kept():
    gc.collect()
    Loan.kept.clear()
    yield
    Loan.kept.clear()


def address(array):
    return array.__array_interface__["data"][0]


@pytest.mark.parametrize("new", [empty, zeros])
def test_memory_of_a_result_that_is_gone(new):
    """It becomes that of the next result of its size, of another dtype and shape as well."""
    first = new((LARGE // 8, 2), np.float32)
    where = address(first)
    del first
    assert [len(kept) for kept in Loan.kept] == [LARGE]
    second = new((4, LARGE // 32), np.float64)
    assert address(second) == where
    assert not Loan.kept


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_whoever_holds_a_result(hold):
    first = empty((LARGE // 4,), np.float32)
    first[:] = 1
    held = hold(first)
    del first
    second = empty((LARGE // 4,), np.float32)
    second[:] = 2
    assert (np.asarray(held).reshape(-1).view(np.float32) == 1).all()
    del held
    gc.collect()
    assert len(Loan.kept) == 1
    assert (second == 2).all()


def test_another_size():
    """A call takes no memory but its result's: what does not fit is let go."""
    several = [empty((LARGE + n,), np.uint8) for n in range(3)]
    several.clear()
    assert len(Loan.kept) == 3
    empty((LARGE + 1,), np.uint8)
    assert len(Loan.kept) == 3
    empty((LARGE + 9,), np.uint8)
    assert [len(kept) for kept in Loan.kept] == [LARGE + 9]


def test_two_of_one_size():
    pair = [empty((LARGE,), np.uint8) for _ in range(2)]
    places = set(map(address, pair))
    pair.clear()
    assert len(Loan.kept) == 2
    pair = [empty((LARGE,), np.uint8) for _ in range(2)]
    assert set(map(address, pair)) == places


def test_no_more_is_kept_than_promised(monkeypatch):
    monkeypatch.setattr(Loan, "most", 2 * LARGE)
    several = [empty((LARGE,), np.uint8) for _ in range(3)]
    places = list(map(address, several))
    while several:
        del several[0]
    kept = [address(np.frombuffer(pages, np.uint8)) for pages in Loan.kept]
    assert kept == places[1:]  # the oldest had to go
    empty((2 * LARGE,), np.uint8)
    assert [len(kept) for kept in Loan.kept] == [2 * LARGE]
    monkeypatch.setattr(Loan, "most", LARGE - 1)
    Loan.kept.clear()
    empty((LARGE,), np.uint8)
    assert not Loan.kept


@pytest.mark.parametrize("threads", [1, 3])
def test_zeros_where_a_result_was(threads):
    roi_numba.set_num_threads(threads)
    shape = (3, LARGE // 7, 5)
    first = empty(shape, np.uint8)
    first[:] = 255
    where = address(first)
    del first
    assert len(Loan.kept) == 1
    second = zeros(shape, np.uint8)
    assert address(second) == where
    assert not second.any()


@pytest.mark.parametrize("new", [empty, zeros])
@pytest.mark.parametrize("size", [LARGE, LARGE + 4, 3 * LARGE - 12])
def test_first_lines(new, size):
    """Of new and of used pages: kernels write whole lines from there on."""
    for _ in range(2):
        array = new((size // 4,), np.float32)
        assert address(array) % 64 == 0
        assert array.nbytes == size
        assert array.flags.c_contiguous
        assert array.flags.writeable
        del array


def test_small_results_are_numpys():
    empty((LARGE // 4 - 1,), np.float32)
    zeros((LARGE // 4 - 1,), np.float32)
    assert not Loan.kept


@pytest.mark.parametrize("new", [empty, zeros])
@pytest.mark.parametrize("length", [1 << 60, 1 << 70])
def test_more_than_there_is(new, length):
    """The error is NumPy's."""
    with pytest.raises((MemoryError, ValueError)) as expected:
        np.empty((length,), np.uint8)
    with pytest.raises(type(expected.value)) as found:
        new((length,), np.uint8)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("advice", [None, 9999], ids=["not there", "refused"])
def test_systems_that_take_nothing_back(monkeypatch, advice):
    """Windows has no such advice, and locked pages refuse it."""
    monkeypatch.setattr(Loan, "give_back", advice)
    empty((LARGE,), np.uint8)
    assert not Loan.kept


def test_systems_without_huge_pages(monkeypatch):
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 9999, raising=False)
    assert not zeros((LARGE,), np.uint8).any()
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE")
    Loan.kept.clear()
    assert not zeros((LARGE,), np.uint8).any()


@given(st.data())
def test_results_that_come_and_go(data):
    """Each has what was written to it, whatever came before it or went meanwhile."""
    held = []
    for number in range(data.draw(st.integers(1, 12))):
        size = LARGE + 64 * data.draw(st.integers(0, 2))
        if data.draw(st.booleans()):
            array = zeros((size,), np.uint8)
            assert not array.any()
        else:
            array = empty((size,), np.uint8)
        array[:] = number
        held.append((number, array[data.draw(st.sampled_from([0, 1000])) :]))
        del array
        while held and data.draw(st.booleans()):
            held.pop(data.draw(st.integers(0, len(held) - 1)))
        for written, part in held:
            assert (part == written).all()


def test_many_threads():
    def work(number):
        for turn in range(40):
            array = empty((LARGE,), np.uint8)
            array[:] = (7 * number + turn) % 256
            other = zeros((LARGE,), np.uint8)
            assert not other.any()
            other[:] = 99
            assert (array == (7 * number + turn) % 256).all()

    with ThreadPoolExecutor(6) as callers:
        list(callers.map(work, range(6)))


def test_results_of_operators():
    """Held results keep their bits while later ones come and go."""
    rng = np.random.default_rng(3)
    features = rng.standard_normal((2, 256, 12, 20), dtype=np.float32)
    corners = rng.uniform(0, 12, (120, 2, 2))
    corners.sort(axis=1)
    boxes = np.column_stack([np.arange(120) % 2, corners.reshape(-1, 4)])
    maxima, argmax = roi_numba.roi_pool(features, boxes, 7, return_argmax=True)
    kept, names = maxima.copy(), argmax.copy()
    assert maxima.nbytes >= LARGE
    for _ in range(3):
        for scale in (1, 0.5):
            values = roi_numba.roi_align(features * np.float32(scale), boxes, 7)
            assert not np.shares_memory(values, maxima)
            roi_numba.roi_align_backward(values, features, boxes)
    np.testing.assert_array_equal(maxima, kept)
    np.testing.assert_array_equal(argmax, names)
    where = {address(maxima), address(argmax)}
    del maxima, argmax, values
    Loan.kept[:] = [kept for kept in Loan.kept if np.frombuffer(kept).ctypes.data in where]
    assert len(Loan.kept) == 2
    values, again = roi_numba.roi_pool(features, boxes, 7, return_argmax=True)
    assert {address(values), address(again)} == where
    np.testing.assert_array_equal(values, kept)
    np.testing.assert_array_equal(again, names)


def torch_tensor(array):
    return pytest.importorskip("torch").from_numpy(array)


def jax_array(array):
    return pytest.importorskip("jax").numpy.from_dlpack(array)


@pytest.mark.parametrize("hold", [torch_tensor, jax_array], ids=["torch", "JAX"])
def test_other_libraries(hold):
    test_whoever_holds_a_result(hold)


def test_a_call_that_fails():
    """The error holds no result once it was seen, without a garbage collection."""
    roi_numba.set_num_threads(3)

    def fail():
        whole = empty((LARGE,), np.uint8)

        def work(first, last):
            whole[first:last] = 1 // 0

        run(work, [(i, i + 1) for i in range(9)])

    gc.disable()
    try:
        fail()
    except ZeroDivisionError:
        pass
    finally:
        gc.enable()
    assert len(Loan.kept) == 1


FORKED = """
import os
import numpy as np
import roi_numba

features = np.random.default_rng(0).standard_normal((1, 256, 20, 30), dtype=np.float32)
boxes = np.array([[0, i % 9, i % 7, 12 + i % 8, 9 + i % 11] for i in range(100)], np.float32)

def pooled(scale):
    return roi_numba.roi_align(features * np.float32(scale), boxes, 7)

roi_numba.set_num_threads(2)
expected = pooled(2).copy(), pooled(3).copy()  # and both are kept
child = os.fork()
held = [pooled(2 if child else 3) for _ in range(3)]
right = all((each == expected[0 if child else 1]).all() for each in held)
if child:
    right = right and os.waitpid(child, 0)[1] == 0
    print("right" if right else "wrong")
else:
    os._exit(0 if right else 1)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks")
def test_forks():
    assert python(FORKED).split() == ["right"]


AT_EXIT = """
import sys
import numpy as np
from roi_numba._cpu import pages

held = pages.empty((pages.LARGE,), np.uint8)
class Cycle: pass
cycle = Cycle(); cycle.itself = cycle; cycle.held = pages.empty((pages.LARGE,), np.uint8)
pages.empty((pages.LARGE + 9,), np.uint8)
print(len(pages.Loan.kept), flush=True)
sys.stderr = sys.stdout
"""


def test_results_that_are_there_at_exit():
    """Nothing is written about them."""
    assert python(AT_EXIT).split() == ["1"]
