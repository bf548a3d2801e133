"""What LLVM makes of the kernels for processors that are not here."""

import re
from functools import cache
from importlib import import_module

import llvmlite.binding as llvm
import numpy as np
import pytest
from numba import typeof
from numba.core.caching import NullCache
from numba.core.codegen import CPUCodeLibrary

import roi_numba
from roi_numba._cpu import engine
from roi_numba._cpu.compile import Kernel
from roi_numba._cpu.formats import WIDENED, converted_by
from roi_numba._cpu.narrow import picked_by, picks_pixels
from subprocesses import run

llvm.initialize_all_targets()
llvm.initialize_all_asmprinters()

MAP = np.zeros((1, 20, 9, 11), np.float32)
BOXES = np.array([[0, 1, 1, 8, 6]], np.float32)

KERNELS = {
    "contract": lambda: roi_numba.roi_align(MAP, BOXES, 3),
    "contract float16": lambda: roi_numba.roi_align(MAP.astype(np.float16), BOXES, 3),
    "maximum": lambda: roi_numba.roi_pool(MAP, BOXES, 3, return_argmax=True),
    "scatter": lambda: roi_numba.roi_align_backward(MAP[:, :, :3, :3], MAP, BOXES, needs="input"),
}

# Triple, processor; what a multiply-add of whole vectors looks like, and any multiply-add.
X86, ANY_X86 = "x86_64-unknown-linux-gnu", r"\tvfn?m(?:add|sub)\d+[ps]s\t.*"
TARGETS = {
    "aarch64": (
        "aarch64-unknown-linux-gnu", "generic", r"\tfml[as]\tv\d+\.4s", r"\tf(?:ml[as]|n?madd)\t.*",
    ),
    "avx2": (X86, "haswell", r"ps\t.*%ymm", ANY_X86),
    "avx512": (X86, "skylake-avx512", r"ps\t.*%zmm", ANY_X86),
}  # fmt: skip

HALF_CALLS = r"__(?:extendhf|trunc[sd]fhf|gnu_h2f|gnu_f2h)\w*"
"""What a processor's library converts half floats by, one at a time."""


@cache
def before_machine_code(name, picking=None):
    """The kernel's optimised LLVM IR: all that is left to do depends on the processor.

    With ``picking`` it is for AVX-512 alone (`narrow`).
    """
    function = name.partition(" ")[0]
    kernel = getattr(import_module(f"roi_numba._cpu.{function}"), function)
    if not isinstance(kernel, Kernel):
        pytest.skip("nothing is compiled: NUMBA_DISABLE_JIT")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "picks_pixels", lambda: picking)
        KERNELS[name]()
    source = "Record(float16" if "float16" in name else "float32"
    names = kernel.py_func.__code__.co_varnames
    signature = next(
        each
        for each in kernel.signatures
        if source in str(each[0])
        and ("picking" not in names or each[names.index("picking")] == typeof(picking))
    )
    again = Kernel(kernel.py_func)
    again._cache = NullCache()  # code from the cache is machine code only
    libraries = []
    finalize = CPUCodeLibrary._finalize_final_module

    def look(library):
        libraries.append(str(library._final_module))
        finalize(library)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CPUCodeLibrary, "_finalize_final_module", look)
        again.compile(signature)
    return libraries[-1]


def assembly(name, target, picking=None):
    triple, processor, *_ = TARGETS[target]
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(cpu=processor, opt=3)
    except RuntimeError:
        pytest.skip(f"llvmlite has no {target}")
    code = before_machine_code(name, picking)
    code = re.sub("(?m)^target triple = .*$", f'target triple = "{triple}"', code)
    code = re.sub("(?m)^target datalayout = .*$", "", code)
    # Numba's own functions are linked in after they were compiled for this machine, for which
    # LLVM wrote an atomic subtraction so.  Nothing is run here: any value will do.
    code = re.sub(r"(?:tail )?call i8 @llvm\.x86\.atomic\.\w+\.cc\..*", "or i8 0, 0", code)
    module = llvm.parse_assembly(code)
    module.data_layout = str(machine.target_data)
    return machine.emit_assembly(module)


def inner_loops(code):
    """The lines of every loop that holds no other."""
    lines = code.splitlines()
    labels = {line.partition(":")[0]: i for i, line in enumerate(lines) if line.startswith(".L")}
    loops = []
    for last, line in enumerate(lines):
        jump = re.match(r"\t(?:j\w+|b|b\.\w+|cbn?z|tbn?z)\t(?:.*, )?(\.L\w+)$", line)
        if jump and labels.get(jump[1], last) < last:
            loops.append((labels[jump[1]], last))
    return [
        "\n".join(lines[first:last])
        for first, last in loops
        if not any(first <= other[0] and other[1] < last for other in loops)
    ]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", KERNELS)
def test_whole_vectors_are_multiplied_and_added(name, target):
    """Every multiply-add is of whole vectors, and there are loops of them."""
    code = assembly(name, target)
    _, _, vector, any_size = TARGETS[target]
    found = re.findall(any_size, code)
    assert found
    assert [line for line in found if not re.search(vector, line)] == []
    if name != "maximum":  # whose loop over candidates has branches, and vectors between them
        assert any(re.search(any_size, loop) for loop in inner_loops(code))


@pytest.mark.parametrize("target", TARGETS)
def test_maxima_compare_whole_vectors(target):
    comparison = {
        "aarch64": r"\tfcm\w+\tv\d+\.4s",
        "avx2": r"\tv(?:max|cmp\w+)ps\t.*%ymm",
        "avx512": r"\tv(?:max|cmp\w+)ps\t.*%zmm",
    }[target]
    assert any(re.search(comparison, loop) for loop in inner_loops(assembly("maximum", target)))


@pytest.mark.skipif(not picks_pixels(), reason="no instructions that pick from two vectors here")
@pytest.mark.parametrize("name", ["contract", "contract float16"])
def test_pixels_are_picked_and_stored_a_vector_at_a_time(name):
    loops = inner_loops(assembly(name, "avx512", True))
    picked = [loop for loop in loops if "vpermt2ps" in loop or "vpermi2ps" in loop]
    assert picked
    assert not any("vgather" in loop or "call" in loop for loop in picked)
    # The loop over a bin's further taps stands within one that begins and ends with the others.
    stored = r"vmovdqu16\t%ymm\d+, .*%k" if "float16" in name else r"vmovups\t%zmm\d+, .*%k"
    assert re.search(stored, assembly(name, "avx512", True))


@pytest.mark.parametrize("target", TARGETS)
def test_half_floats_are_converted_without_calls(target):
    assert not re.findall(HALF_CALLS, assembly("contract float16", target))


def test_calls_for_half_floats_would_be_seen():
    """By their names: x86-64 without F16C converts a half by a call."""
    machine = llvm.Target.from_triple(X86).create_target_machine(cpu="x86-64", opt=3)
    assert re.findall(HALF_CALLS, machine.emit_assembly(llvm.parse_assembly(WIDENED)))


@pytest.mark.parametrize(
    ("processor", "expected"), [("x86-64", False), ("haswell", True), ("sapphirerapids", True)]
)
def test_processors_that_convert_half_floats(processor, expected):
    assert converted_by(X86, processor, "") is expected


@pytest.mark.parametrize(
    ("processor", "expected"),
    [("x86-64", False), ("haswell", False), ("knl", False), ("skylake-avx512", True)],
)
def test_processors_that_pick_pixels(processor, expected):
    assert picked_by(X86, processor, "") is expected


def test_half_floats_where_nothing_converts_them():
    """Every one of them, read and written, on a processor of which nothing is known."""
    code = """
import numpy as np, test_arrays
from roi_numba._cpu.formats import converts_halves
assert not converts_halves()
for reduce, channels in (("mean", 1), ("mean", 16), ("max", 16)):
    test_arrays.test_every_16_bit_number(np.float16, reduce, channels)
    """
    run(code, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
