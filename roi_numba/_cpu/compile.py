"""How kernels are compiled and where compiled code is kept."""

from __future__ import annotations

import gc
import hashlib
import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import Any

from numba import config, typeof, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.codegen import CPUCodeLibrary, JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import LoweringPass, register_pass
from numba.core.registry import CPUDispatcher
from numba.core.runtime import rtsys
from numba.core.typed_passes import AnnotateTypes
from numba.extending import register_jitable

from .._scalar import SCALARS
from .._sources import source_digest

# No fork while a thread compiles: the child would wait for ever on Numba's lock, whose owner
# exists only in the parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )

# A symbol names a record, as which 16-bit floats come, by a number counted in the process: a kernel
# for float16 and one for bfloat16, compiled by two processes, could have the same, and whoever
# loaded both from the cache ran one of them for both.
_by_number = types.Record.mangling_args.fget


def _by_content(record: types.Record) -> Any:
    """The symbol's arguments of one of our records; of a user's, what Numba has."""
    if list(record.fields) in (["float16"], ["bfloat16"]):
        return type(record).__name__, (record.name,)
    return _by_number(record)


types.Record.mangling_args = property(_by_content)

DAMAGE = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, ImportError, IndexError,
    RuntimeError, MemoryError, pickle.PickleError,
)  # fmt: skip
"""What unpickling a truncated or foreign file may raise."""


class FilePerKey:
    """Numba's cache files, an index and its data for each key.

    Numba keeps one index for all keys of a function, and reads, changes and writes it without a
    lock: of two processes that save at once, one loses its entry or gives its data the name of
    the other's (read in its source, never seen; compare numba issue 10128).
    """

    def __init__(self, folder: str, base: str, stamp: Any) -> None:
        self.folder, self.base, self.stamp = folder, base, stamp

    def _file(self, key: Any) -> Any:
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:24]
        return IndexDataCacheFile(self.folder, f"{self.base}-{digest}", self.stamp)

    def load(self, key: Any) -> Any:
        """Return what is kept under a key, or None; a damaged file is emptied."""
        file = self._file(key)
        try:
            return file.load(key)
        except DAMAGE:
            with suppress(*DAMAGE):
                file.flush()  # or else saving stumbles over it again
            return None

    def save(self, key: Any, data: Any) -> None:
        """Keep data under a key."""
        self._file(key).save(key, data)


class SourceKeyedCache(FunctionCache):
    """Numba's cache on disk, never stale and never a reason to fail.

    Numba keys compiled code on the file of the compiled function alone: after an edit in another
    file it returns the old result (numba issues 1833, 9483).  Here the key holds all sources of
    the package.  A cache that cannot be read or written only costs the time to compile.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = FilePerKey(
            self._cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        key = super()._index_key(sig, codegen)
        return (*key, source_digest(), bool(config.BOUNDSCHECK))

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return code from the cache, or None.

        Numba's own first imports all that a function may be compiled with, scipy.linalg included:
        most of the first call with a warm cache (0.32 -> 0.08 s).  Compiled code needs of that
        Numba's runtime alone; where there is no code the compiler imports the rest.
        """
        with suppress(*DAMAGE):
            rtsys.initialize(target_context)
            return self._load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(*DAMAGE):  # full or read-only
            super().save_overload(sig, data)


OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
"""``error_model="numpy"``: the default one branches on every division and blocks SIMD (3x).

No fast-math: lanes contract where they say so, geometry never does.
"""

LLVM_LEVEL = 1
"""Vectors are explicit (`lanes`): level 3 takes twice as long to compile and runs no faster."""


def unrolled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark, below `inline` and `kernel`, a function whose loops LLVM is to unroll (`Compact`).

    What a marked function is inlined into must be marked too.
    """
    function.unrolled = True  # type: ignore[attr-defined]
    return function


class Compact(CPUCodeLibrary):
    """Code that LLVM keeps small, unless it is `unrolled`: above all it unrolls no loops.

    Loops over lanes are not there to be unrolled, and those over taps and boxes are short.  A first
    roi_align takes 3.45 s, not 3.76, fpn-box 19.4 ms, not 21.5, and c4-head's roi_pool 7.3, not
    8.0; only crops were slower, 37 ms, not 33.
    """

    unrolled = False

    def add_ir_module(self, ir_module: Any) -> Any:
        """Add code, marked."""
        for function in ir_module.functions:
            if not (function.is_declaration or self.unrolled):
                function.attributes.add("optsize")
        return super().add_ir_module(ir_module)


class Whole(Compact, JITCodeLibrary):
    """The code of a kernel, which may be kept."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.enable_object_caching()  # as lowering does for libraries that it makes


class Part(Compact):
    """The code of a function that only kernels call: it is optimised and translated as theirs.

    Numba would do both for the function itself too, although nobody calls that code: a sixth of
    the time to compile.
    """

    def finalize(self) -> None:
        """Link what the function calls."""
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0, as for any name that is not there."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """Itself: asked only to set an environment, which is of machine code."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Set nothing."""


@register_pass(mutates_CFG=False, analysis_only=True)
class IntoWhole(LoweringPass):
    """The pass that has a kernel compiled into a `Whole`."""

    _name = "roi_numba_into_whole"
    library: type[Compact] = Whole

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        """Set the library, which lowering makes only where there is none."""
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.unrolled = hasattr(state.func_id.func, "unrolled")
        return False


@register_pass(mutates_CFG=False, analysis_only=True)
class IntoPart(IntoWhole):
    """The pass that has a function compiled into a `Part`."""

    _name = "roi_numba_into_part"
    library = Part

    def run_pass(self, state: Any) -> bool:
        """Set the library, and refuse leaks."""
        result = state.targetctx.data_model_manager[state.return_type]
        if not state.targetctx.enable_nrt and result.contains_nrt_meminfo():
            raise TypeError(f"{state.func_id.func_name} returns an array: mark it inline_owner")
        return super().run_pass(state)


IDLE = (
    "with_lifting", "inline_closure_likes", "inline_inlinables", "inline_overloads",
    "nopython_rewrites",
)  # fmt: skip
"""Numba's passes that look for what kernels have not: `with`, closures, functions that Numba itself
is to inline, arrays in expressions.  They take 5 % of the time to compile."""


class KernelCompiler(CompilerBase):
    """Numba's compiler for kernels."""

    into: type[IntoWhole] = IntoWhole

    def passes(self) -> Any:
        """Numba's own passes for nopython mode, without those that are `IDLE`, and `into`."""
        manager = DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager.passes = [each for each in manager.passes if each[0].name() not in IDLE]
        manager.add_pass_after(self.into, AnnotateTypes)
        return manager

    def define_pipelines(self) -> list[Any]:
        """Return the one pipeline."""
        manager = self.passes()
        manager.finalize()
        return [manager]


class PartCompiler(KernelCompiler):
    """Numba's compiler for functions that kernels call."""

    into = IntoPart


PART = {**OPTIONS, "no_cpython_wrapper": True, "pipeline_class": PartCompiler}
"""Parts have the kernels' own options: Numba compiles a function anew for every set of options it
is called with.  Python never calls them: without a wrapper they compile faster (first roi_align
6.6 s for 7.7 s, 2-core Xeon in its slow hours)."""

inline = register_jitable(**PART, _nrt=False)
"""Mark a function for use in kernels, which borrows its arrays from them.

Where Numba does not see through a function it counts references to its arrays, 50 ns a call of two
(c4-head, channels last, one thread, into an `out`: 14.1 -> 12.0 ms).  The kernel holds them all the
while.
"""

inline_here = register_jitable(**PART, _nrt=False, forceinline=True)
"""The same of a small function that is called in inner loops."""

inline_owner = register_jitable(**PART)
"""Mark a function for use in kernels that makes or returns arrays."""

inline_once = cache(inline)


class Kernel(CPUDispatcher):
    """A function of the CPU engine, compiled on its first call through the cache on disk."""

    def __init__(self, function: Callable[..., Any]) -> None:
        for scalar in SCALARS:  # all of the package's at the first kernel, on the engine's import
            inline_once(scalar)
        options = {**OPTIONS, "nopython": True, "boundscheck": None}
        super().__init__(function, targetoptions=options, pipeline_class=KernelCompiler)
        # No folder can be written: compile in every process.
        with suppress(RuntimeError, OSError):
            self._cache = SourceKeyedCache(self.py_func)
        self._machine_code: dict[Any, Callable[..., Any]] = {}

    def typed(self, key: Any) -> Callable[..., Any]:
        """Itself, to be called with arguments whose types are all told by `key`.

        For every call Numba asks each argument for its type, to find the code for them all: here
        it does so for the first call with a key, and never again (a tiny call, two kernels: 29 ->
        25 µs).  Code for one type reads another's bits as its own, so a key must tell all that
        differs; tests and random calls look at that (`tests/key_watch.py`).  A profiler sees the
        code as a builtin.
        """
        return self._machine_code.get(key) or partial(self._find, key)

    def _find(self, key: Any, *arguments: Any) -> Any:
        result = self(*arguments)
        signature = tuple([typeof(argument) for argument in arguments])
        self._machine_code[key] = self.overloads[signature].entry_point
        return result

    def compile(self, sig: Any) -> Any:
        """Compile for one signature at LLVM_LEVEL."""
        with global_compiler_lock:
            level = config.OPT
            config.OPT = type(level)(LLVM_LEVEL)
            # Millions of small objects are made, and next to none is garbage: looking for it
            # takes 7 % of the time.
            collecting = gc.isenabled()
            gc.disable()
            try:
                return super().compile(sig)
            finally:
                config.OPT = level
                if collecting:
                    gc.enable()


def kernel(function: Callable[..., Any]) -> Any:
    """Make a function a `Kernel`, or leave it as it is under ``NUMBA_DISABLE_JIT=1``."""
    if not config.DISABLE_JIT:
        return Kernel(function)
    function.typed = lambda key: function  # type: ignore[attr-defined]
    return function


def named_after(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Mark, below `inline` and `kernel`, a function that a factory makes once for every `name`.

    Numba makes a symbol of a function's qualified name, its types, and a number counted in the
    process that compiled it.  Code from the cache on disk keeps the number of another process,
    and where two symbols are equal, LLVM links the first: with equal names roi_align, compiled
    here, called roi_warp's ``fill``, loaded from the cache.
    """

    def rename(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__name__ = f"{function.__name__}_{name}"
        function.__qualname__ = f"{function.__qualname__}_{name}"
        return function

    return rename


def cache_folder() -> str | None:
    """Where compiled kernels are kept, or None if nowhere."""
    from .contract import contract

    return getattr(getattr(contract, "_cache", None), "cache_path", None)
