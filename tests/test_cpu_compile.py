"""How functions of kernels are compiled (`_cpu/compile.py`)."""

import sys

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

import roi_numba
from roi_numba._cpu.compile import inline, inline_owner, kernel, unrolled


def rest(array):
    return array.size, array[1:]


owned, borrowed = inline_owner(rest), inline(lambda array: (array.size, array[1:]))


@kernel
def second(array):
    return owned(array)[1][0]


@kernel
def second_of_borrowed(array):
    return borrowed(array)[1][0]


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_a_part_that_returns_an_array_owns_it():
    """The kernel gives back a reference, which `inline` would not have counted."""
    array = np.arange(3.0)
    before = sys.getrefcount(array)
    assert {second(array) for _ in range(20)} == {1}
    assert sys.getrefcount(array) == before
    with pytest.raises(TypeError, match="returns an array: mark it inline_owner"):
        second_of_borrowed(array)


@inline
def multiply(values, by):
    for i in range(len(values)):
        values[i] *= by


@kernel
def add_and_multiply(values, by):
    for i in range(len(values)):
        values[i] += by
    multiply(values, by)


def compiled(kernel):
    """What LLVM makes of a kernel's only overload."""
    (code,) = kernel.inspect_llvm().values()
    return code


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_loops_are_not_unrolled():
    add_and_multiply._cache.disable()  # code from there cannot be looked at
    values = np.arange(3.0)
    add_and_multiply(values, 2.0)
    assert values.tolist() == [4, 6, 8]
    code = compiled(add_and_multiply)
    assert code.count(" fmul ") == code.count(" fadd ") == 1


@kernel
@unrolled
def add(values, by):
    for i in range(len(values)):
        values[i] += by


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_loops_are_unrolled_where_they_say_so():
    add._cache.disable()
    values = np.arange(3.0)
    add(values, 2.0)
    assert values.tolist() == [2, 3, 4]
    assert compiled(add).count(" fadd ") > 1


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
def test_kernels_give_back_all_memory_and_no_more():
    features = np.ones((1, 20, 9, 9), np.float32)
    boxes = np.array([[0, 1, 1, 7, 8], [0, 0, 0, 5, 5.0]])
    grad = np.ones((2, 20, 2, 3), np.float32)

    def call():
        roi_numba.roi_align(features, boxes, (2, 3))
        roi_numba.roi_align_backward(grad, features, boxes)
        argmax = roi_numba.roi_warp(features, boxes, (2, 3), return_argmax=True)[1]
        roi_numba.roi_warp_backward(grad, features, boxes, argmax=argmax)
        argmax = roi_numba.roi_pool(features, boxes, (2, 3), return_argmax=True)[1]
        roi_numba.roi_pool_backward(grad, features, boxes, argmax=argmax, needs=("input",))

    call()
    on = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        before = rtsys.get_allocation_stats()
        references = [sys.getrefcount(array) for array in (features, boxes, grad)]
        call()
        after = rtsys.get_allocation_stats()
    finally:
        if not on:
            _nrt_python.memsys_disable_stats()
    assert after.alloc - before.alloc > 10
    assert after.alloc - before.alloc == after.free - before.free
    assert after.mi_alloc - before.mi_alloc == after.mi_free - before.mi_free
    assert [sys.getrefcount(array) for array in (features, boxes, grad)] == references
