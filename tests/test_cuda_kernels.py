"""What every kernel of the CUDA engine is compiled to, read from its machine code.

For compute capability 9.0, or those in ``ROI_NUMBA_CUDA_ARCHS=sm_75,sm_80,sm_90,sm_100``.
"""

import os
import re

import pytest

import sass
from operators import ids

cuda_kernels = pytest.importorskip(
    "cuda_kernels",
    reason="numba-cuda and CuPy are not installed: extra cuda12 or cuda13",
    exc_type=ImportError,
)

KERNELS = list(cuda_kernels.every_kernel())

ARCHITECTURES = [
    (int(digits[:-1]), int(digits[-1]))
    for digits in os.environ.get("ROI_NUMBA_CUDA_ARCHS", "sm_90").replace("sm_", "").split(",")
]

MOST_REGISTERS = {"float32": 128, "float64": 168}
"""Of a thread, by what is computed in it: with 128, four blocks of 128 threads are on a
multiprocessor at a time, with 168 three (a roi_pool of float64 on a pyramid, named, has 153).
Maxima on pyramids that are named hold places, pointers and four names of 64 bits each: they have
the larger bound."""

MOST_OF_VECTORS = {"float32": 96, "float64": 128}
"""Of a thread that takes 16 bytes of channels at once: five blocks and four."""

MOST_INSTRUCTIONS = 1000
"""Of a kernel that asks no rule.  They are 300 to 900, but were 2400 where libNVVM for sm_100 had
moved two conditions out of a loop, and so had four of it."""


def test_kernels_differ_in_what_names_them():
    """In the cache name and parameters stand for what is compiled."""
    names = [(each.name, each.parameters, each.threads, each.contract) for each in KERNELS]
    assert len(set(names)) == len(names)
    for kernel in KERNELS:
        assert re.fullmatch(r"[a-zA-Z]\w*", kernel.name)


@pytest.mark.skipif(
    not sass.there(), reason="nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm are not installed"
)
@pytest.mark.parametrize("cc", ARCHITECTURES, ids=lambda cc: f"sm_{cc[0]}{cc[1]}")
@pytest.mark.parametrize("kernel", KERNELS, ids=ids)
def test_machine_code(kernel, cc):
    """No float64 where there is none in the parameters, nothing in local memory, few registers."""
    cubin = kernel.cubin(cc)
    counted, usage = sass.instructions(cubin), sass.usage(cubin)
    double = any("float64" in parameter for parameter in kernel.parameters)
    if not double:
        assert not sass.float64(counted)
    assert not sass.local(counted)
    assert usage.local == 0
    wide = double or kernel.name.endswith("named_levels")
    assert usage.registers <= MOST_REGISTERS["float64" if wide else "float32"]
    if kernel.name.startswith("contract_vectors"):
        assert sass.loads_of_16_bytes(counted)
        # Nothing of map or result goes one by one: no numbers of 16 bits, and one store in all.
        assert not [name for name in counted if re.match(r"(LDG|STG)\b.*\.U16\b", name)]
        (store,) = sass.stores(counted).elements()
        assert ".128" in store
        assert usage.registers <= MOST_OF_VECTORS["float64" if double else "float32"]
    if kernel.contract:  # not in geometry: rules divide a map among bins in 64 bits
        assert not sass.divisions_of_64_bits(cubin)
        assert counted.total() <= MOST_INSTRUCTIONS
