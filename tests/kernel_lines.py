"""Tell coverage.py which lines of compiled kernels ran: a plugin of pytest, `-p kernel_lines`.

Kernels are made of intrinsics, so they do not run as Python with the JIT disabled, and compiled
code is nothing that coverage can trace.  Here every line that Numba lowers begins with a store to
a byte of its own.  (NUMBA_JIT_COVERAGE=1 counts lines that were compiled, whether or not they ran.)
"""

import ctypes
from pathlib import Path

import coverage
from llvmlite import ir as llvm
from numba.core import ir
from numba.core.lowering import Lower

import roi_numba
from roi_numba._cpu.compile import SourceKeyedCache

PACKAGE = str(Path(roi_numba.__file__).parent)

ran = {}
"""For each file a byte for each of its lines."""

_lower = Lower.lower_inst


def lower_and_mark(lower, instruction):
    """Lower an instruction after a store that says that its line ran."""
    path, line = instruction.loc.filename, instruction.loc.line
    # Where a variable is deleted says nothing of where the code is.
    if path.startswith(PACKAGE) and not isinstance(instruction, ir.Del):
        if path not in ran:
            ran[path] = (ctypes.c_ubyte * (1 + len(Path(path).read_text("utf-8").splitlines())))()
        lines = ran[path]
        byte = llvm.IntType(8)
        address = llvm.Constant(llvm.IntType(64), ctypes.addressof(lines) + line)
        lower.builder.store(byte(1), address.inttoptr(byte.as_pointer()))
    _lower(lower, instruction)


def for_others_only(method):
    """A method of the cache that does nothing for kernels of the package."""

    def called(cache, *arguments):
        ours = cache._py_func.__code__.co_filename.startswith(PACKAGE)
        return None if ours else method(cache, *arguments)

    return called


def pytest_configure(config):
    Lower.lower_inst = lower_and_mark
    # The addresses are this process's: nothing is kept, and nothing that has none is loaded.
    for name in ("load_overload", "save_overload"):
        setattr(SourceKeyedCache, name, for_others_only(getattr(SourceKeyedCache, name)))


def pytest_unconfigure(config):
    measuring = coverage.Coverage.current()
    data = coverage.CoverageData(measuring.config.data_file, suffix=True)
    found = {path: [line for line, mark in enumerate(lines) if mark] for path, lines in ran.items()}
    data.add_lines(found)
    data.write()
    if hasattr(config, "workerinput"):
        # Not when the process ends: a worker that takes too long to end is killed, and a file half
        # written is lost, as was seen once on a busy machine.
        measuring.stop()
        measuring.save()
