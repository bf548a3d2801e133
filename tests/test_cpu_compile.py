"""How functions of kernels are compiled (`_cpu/compile.py`)."""

import numba
import numpy as np
import pytest

from roi_numba._cpu.compile import inline, inline_owner, kernel


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
    assert second(array) == 1
    with pytest.raises(TypeError, match="returns an array: mark it inline_owner"):
        second_of_borrowed(array)
