"""What a bug report needs: versions, processor, threads, cache folder, neighbours."""

import ctypes
import os
import platform
import sys
from importlib import metadata

from . import __version__, get_num_threads
from ._cpu.compile import cache_folder

# Instruction sets that decide how wide the kernels' vectors are.
_FEATURES = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512vl", "neon", "sve")

_NEIGHBOURS = {
    "CuPy": ("cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy"),
    "numba-cuda": ("numba-cuda",),
    "torch": ("torch",),
    "JAX": ("jax",),
    "ml_dtypes": ("ml_dtypes",),
    "scipy": ("scipy",),
    "matplotlib": ("matplotlib",),
}


def report() -> str:
    """Return the facts, one ``name: value`` line each.

    Neighbouring libraries are looked up by their installed metadata; none is imported.
    """
    facts = {
        "roi_numba": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "numpy": _version("numpy"),
        "numba": _version("numba"),
        "llvmlite": _version("llvmlite"),
        "platform": platform.platform(),
        **_processor(),
        "threads": f"{get_num_threads()} of {_cores()} cores",
        "cache": cache_folder() or "none",
        "CUDA": _cuda(),
        **{name: _version(*packages) for name, packages in _NEIGHBOURS.items()},
    }
    width = max(map(len, facts)) + 2
    return "\n".join(f"{name + ':':<{width}}{value}" for name, value in facts.items())


def _version(*distributions: str) -> str:
    """Return the version of the first of ``distributions`` that is installed."""
    for distribution in distributions:
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            continue
    return "not installed"


def _cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> dict[str, str]:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    return {
        "cpu": f"{_cpu_brand()} (llvm: {binding.get_host_cpu_name()})",
        "features": " ".join(name for name in _FEATURES if features.get(name)) or "none known",
    }


def _cpu_brand() -> str:
    """Return the processor's name as /proc/cpuinfo gives it, or the architecture."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cuda() -> str:
    """Ask the CUDA driver for its version and devices, without any CUDA package."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return "no driver"
    status = driver.cuInit(0)
    if status != 0:
        return f"driver found, but cuInit returned {status}"
    version, count = ctypes.c_int(), ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    driver.cuDeviceGetCount(ctypes.byref(count))
    names = ", ".join(_device_name(driver, index) for index in range(count.value))
    major, minor = version.value // 1000, version.value % 1000 // 10
    return f"driver for CUDA {major}.{minor}, {names or 'no device'}"


def _device_name(driver: ctypes.CDLL, index: int) -> str:
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace")
