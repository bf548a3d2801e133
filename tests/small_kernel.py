"""A small kernel for CUDA, to be compiled and looked at without a GPU."""

import pytest
from numba import config

NEEDED = "numba-cuda and CuPy are not installed: extra cuda12 or cuda13"
compilation = pytest.importorskip("roi_numba._cuda.compile", reason=NEEDED, exc_type=ImportError)

Kernel, cuda = compilation.Kernel, compilation.cuda

CC = (9, 0)


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """The tests' kernels are not of the package, whose digest says nothing of them."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def grow(result, values, count, factor):
    """Result is a product and a sum."""
    i = cuda.grid(1)
    if i < count:
        result[i] = values[i] * factor + values[i + 1]


def grown(**options):
    return Kernel(grow, "grow", ("float32*", "float32*", "int32", "float32"), 64, **options)
