"""How device code is compiled and where it is kept: all of the package that knows numba.cuda.

A `Kernel` becomes a cubin without a GPU.  numba-cuda turns Python into NVVM's LTO-IR, and
nvJitLink that into PTX and the PTX into a cubin.  The driver never sees PTX, since it refuses the
PTX of a toolkit newer than itself.  Nor are numba-cuda's own launches used: they keep the host for
57 us with three arrays of CuPy, a launch by CuPy for a few.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import llvmlite
import numba
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock

from .._scalar import SCALARS
from .._sources import source_digest

__all__ = ["MISSING", "SIMULATED", "Kernel", "cache_folder", "cuda", "device", "on_device"]

MISSING = (
    "CUDA arrays need CuPy and numba-cuda: pip install 'roi_numba[cuda12]' or "
    "'roi_numba[cuda13]', whichever CUDA the driver supports"
)

try:
    import numba_cuda  # without it numba.cuda is the one that comes with Numba, which is older
    from cuda.pathfinder import DynamicLibNotFoundError
    from numba import cuda
    from numba.cuda import types
except ImportError as error:
    raise ImportError(MISSING) from error

SIMULATED = bool(numba.config.ENABLE_CUDASIM)
"""Whether kernels run as plain Python on NumPy arrays: ``NUMBA_ENABLE_CUDASIM=1``."""

# No fork while a thread compiles, as for the CPU engine, which need not be there.  numba-cuda has
# a lock of its own besides, but takes it with this one held.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def block(threads: int) -> int:
    """Threads of a block: few in the simulator, where starting one takes 0.1 ms."""
    return min(threads, 8) if SIMULATED else threads


# ---- functions -----------------------------------------------------------------------------


def device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that kernels call; NVVM inlines all of them."""
    # The simulator need know only of those that ask it which thread they are in.
    if SIMULATED and "cuda" not in function.__code__.co_names:
        return function
    marked: Callable[..., Any] = cuda.jit(device=True)(function)
    return marked


@cache
def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """A ``@scalar`` function for use in kernels, with those that it calls.

    The function stays as it is, for the CPU engine and for Python: a copy has other globals.
    """
    if SIMULATED:
        return function
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        called = names.get(name)
        if isinstance(called, FunctionType) and called in SCALARS:
            names[name] = on_device(called)
    return device(
        FunctionType(
            function.__code__,
            names,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
    )


# ---- kernels -------------------------------------------------------------------------------


@contextmanager
def _as_if_on(cc: tuple[int, int]) -> Iterator[None]:
    """Let numba-cuda compile what kernels call for a GPU that need not be there.

    It asks for the current GPU to know its compute capability, by a name that is not public.
    ``inline="always"`` does without, but copies the source of every function into every place
    that calls it: 3 to 5 s of CPU for a kernel that takes 0.3 to 0.9 s, and the same machine code.
    """
    from numba.cuda import dispatcher

    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


def _type(parameter: str) -> Any:
    """Numba's type of a kernel's parameter."""
    name = parameter.removesuffix("*")
    stored = {"bfloat16": types.uint16, "bool": types.boolean}
    scalar = stored.get(name) or getattr(types, name)
    return scalar if name == parameter else types.CPointer(scalar)


class Kernel:
    """A function that runs on the GPU, for one list of parameters.

    Parameters
    ----------
    body : function
        Its arguments are pointers and numbers; it returns nothing.
    name : str
        An identifier, the kernel's own among the package's with these parameters: with them it
        stands for `body` in the cache.
    parameters : tuple of str
        The type of every argument: "int32", "int64", "float32" or "float64", or "float32*" for
        memory that holds such numbers, or others of NumPy's names.  "bfloat16*" is read and
        written as uint16.
    threads : int
        The number of threads in a block.
    contract : bool, default True
        Whether a product and a sum become one operation, rounded once.  Geometry must not: its
        samples and their number are to be the CPU engine's to the last bit.
    """

    def __init__(
        self,
        body: Callable[..., Any],
        name: str,
        parameters: tuple[str, ...],
        threads: int,
        *,
        contract: bool = True,
    ) -> None:
        self.body, self.name, self.parameters = body, name, parameters
        self.threads, self.contract = threads, contract
        self.block = (threads,)

    def __repr__(self) -> str:
        return f"<Kernel {self.name}({', '.join(self.parameters)})>"

    def cubin(self, cc: tuple[int, int]) -> bytes:
        """The machine code for GPUs of compute capability `cc`, from the cache on disk if there."""
        with global_compiler_lock:
            path = self._path(cc)
            kept = _read(path)
            if kept is None:
                try:
                    kept = _linked(self.ptx(cc).encode(), cc)
                except DynamicLibNotFoundError as error:  # numba-cuda without CUDA's compilers
                    raise ImportError(MISSING) from error
                _write(path, kept)
            return kept

    def ptx(self, cc: tuple[int, int]) -> str:
        """Compiled for GPUs of compute capability `cc`; the cache is not asked."""
        with global_compiler_lock, _as_if_on(cc):
            code, _ = cuda.compile(
                self.body,
                types.void(*map(_type, self.parameters)),
                debug=False,
                opt=True,
                device=False,
                abi="numba",  # kernels can have no other, and with pointers and numbers it is C's
                output="ltoir",  # of all that makes PTX only nvJitLink can be told not to contract
                launch_bounds=self.threads,
                cc=cc,
            )
        # cuda.core.LinkerOptions says -fma=false, which libNVVM refuses.
        text = _linked(code, cc, "-lto", "-ptx", f"-fma={int(self.contract)}").decode()
        text = text.rstrip("\0")
        (mangled,) = re.findall(r"\.entry\s+(\w+)", text)
        return text.replace(mangled, self.name)

    def _path(self, cc: tuple[int, int]) -> Path | None:
        """The file for the cubin, or None if no folder can be written."""
        folder = cache_folder()
        if folder is None:
            return None
        parts = (self.name, self.parameters, self.threads, self.contract, cc)
        key = repr((parts, source_digest(), versions()))
        digest = hashlib.sha256(key.encode()).hexdigest()[:24]
        return Path(folder, f"{self.name}-{digest}.cubin")


def _linked(code: bytes, cc: tuple[int, int], *options: str) -> bytes:
    """What nvJitLink makes of PTX, or of LTO-IR with the option "-lto"."""
    from cuda.bindings import nvjitlink

    said = [f"-arch=sm_{cc[0]}{cc[1]}", *options]
    kind = nvjitlink.InputType.LTOIR if "-lto" in options else nvjitlink.InputType.PTX
    try:
        handle = nvjitlink.create(len(said), said)
    except nvjitlink.nvJitLinkError as error:
        version = ".".join(map(str, nvjitlink.version()))
        raise RuntimeError(f"nvJitLink {version} refuses {' '.join(said)}: {error}") from error
    try:
        nvjitlink.add_data(handle, kind, code, len(code), "kernel")
        nvjitlink.complete(handle)
        if "-ptx" in options:
            result = bytearray(nvjitlink.get_linked_ptx_size(handle))
            nvjitlink.get_linked_ptx(handle, result)
        else:
            result = bytearray(nvjitlink.get_linked_cubin_size(handle))
            nvjitlink.get_linked_cubin(handle, result)
        return bytes(result)
    except nvjitlink.nvJitLinkError as error:
        log = bytearray(nvjitlink.get_error_log_size(handle))
        nvjitlink.get_error_log(handle, log)
        raise RuntimeError(log.decode(errors="replace").strip("\0\n ")) from error
    finally:
        nvjitlink.destroy(handle)


# ---- the cache on disk ---------------------------------------------------------------------

COMPILERS = ("nvidia-nvvm", "nvidia-cuda-nvcc-cu12", "nvidia-nvjitlink", "nvidia-nvjitlink-cu12")
"""The packages that libNVVM and nvJitLink come with, for one CUDA or the other."""


@cache
def versions() -> tuple[str | None, ...]:
    """The versions of all that compiles."""

    def installed(name: str) -> str | None:
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
        return None

    ours = (numba.__version__, numba_cuda.__version__, llvmlite.__version__)
    return (*ours, *map(installed, COMPILERS))


def cache_folder() -> str | None:
    """Where cubins are kept: where Numba keeps what it compiles of this package, or nowhere."""
    with suppress(RuntimeError, OSError):
        folder: str = FunctionCache(_linked).cache_path
        return folder
    return None


SEAL = hashlib.sha256().digest_size


def _read(path: Path | None) -> bytes | None:
    """The cubin in a file, or None if it is not there, not whole, or something else."""
    if path is None:
        return None
    with suppress(OSError):
        content = path.read_bytes()
        if content[:SEAL] == hashlib.sha256(content[SEAL:]).digest():
            return content[SEAL:]
    return None


def _write(path: Path | None, cubin: bytes) -> None:
    """Keep a cubin, if that can be, under the digest by which `_read` knows it.

    The file appears at once and whole: others may be reading it, or writing the same.
    """
    if path is None:
        return
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        aside.write_bytes(hashlib.sha256(cubin).digest() + cubin)
        os.replace(aside, path)
    except OSError:  # full or read-only
        with suppress(OSError):
            aside.unlink()
