"""The CUDA engine's kernels as plain Python, in numba-cuda's simulator, against the reference."""

import pytest

from bad_input import EVERY
from operators import OPERATORS, ids
from subprocesses import run

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed: extra cuda13")

SIMULATOR = {"NUMBA_ENABLE_CUDASIM": 1, "NUMBA_DISABLE_JIT": 1}


@pytest.mark.parametrize("what", ["forward", "backward", "rates", "parts", "levels"])
@pytest.mark.parametrize("operator", OPERATORS, ids=ids)
def test_simulated(operator, what):
    run(f"import simulated; simulated.{what}({operator.name!r})", timeout=600, **SIMULATOR)


def test_simulated_grids():
    run("import simulated; simulated.grids('roi_align')", timeout=600, **SIMULATOR)


def test_vectors():
    run("import simulated; simulated.vectors()", timeout=600, **SIMULATOR)


@pytest.mark.parametrize("operator", sorted({operator.name for operator in EVERY}))
def test_bad_input(operator):
    run(f"import simulated_bad_input as s; s.rows({operator!r})", timeout=600, **SIMULATOR)


SHARED = """
import sys
from threading import Thread
from types import SimpleNamespace

from roi_numba._cuda import simulator

def kernel():
    found.append(simulator._shared_array(shared, 2, "f4"))

sys.setswitchinterval(1e-6)
for _ in range(300):
    shared, found = SimpleNamespace(_allocations={}), []
    threads = [Thread(target=kernel) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len({id(array) for array in found}) == 1
"""


def test_threads_of_a_block_share_an_array():
    run(SHARED, **SIMULATOR)
