"""Cubins on disk: found again, never stale, and no reason to fail."""

import ast
import os
import re
import shutil
from pathlib import Path

import pytest

import small_kernel
from small_kernel import CC, Kernel, compilation, grow, grown
from subprocesses import finish, start
from subprocesses import run as run_python
from test_startup import DAMAGE, NOWHERE, copied, edit

folder = small_kernel.folder


@pytest.fixture
def compilations(monkeypatch):
    """The kernels compiled since."""
    compiled, ptx = [], Kernel.ptx

    def counted(kernel, cc):
        compiled.append((kernel.name, cc))
        return ptx(kernel, cc)

    monkeypatch.setattr(Kernel, "ptx", counted)
    return compiled


def kept(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_hit(compilations, folder):
    cubin = grown().cubin(CC)
    assert cubin.startswith(b"\x7fELF")
    assert b"grow" in cubin
    assert grown().cubin(CC) == cubin
    assert compilations == [("grow", CC)]
    (path,) = kept(folder)
    assert path.name.startswith("grow-")
    assert path.suffix == ".cubin"


def shrink(result, values, count, factor):
    result[0] = values[count] - factor


def test_everything_that_matters_is_in_the_key(compilations, folder, monkeypatch):
    types = ("float32*", "float32*", "int32", "float32")
    kernels = [
        Kernel(grow, "grow", types, 64),
        Kernel(grow, "grow", types, 128),
        Kernel(grow, "grow", ("float64*", *types[1:]), 64),
        Kernel(grow, "grow", types, 64, contract=False),
        Kernel(shrink, "shrink", types, 64),
    ]
    for kernel in kernels:
        kernel.cubin(CC)
    kernels[0].cubin((8, 0))
    for name in ("versions", "source_digest"):
        with monkeypatch.context() as patch:
            patch.setattr(compilation, name, lambda: "another")
            kernels[0].cubin(CC)
    assert len(compilations) == len(kept(folder)) == 8
    kernels[0].cubin(CC)
    assert len(compilations) == 8


def test_versions_of_all_that_compiles():
    """And one of each that CUDA 12 and CUDA 13 call by different names."""
    numba, numba_cuda, llvmlite, *compilers = compilation.versions()
    assert all(re.match(r"\d+\.\d+", version) for version in (numba, numba_cuda, llvmlite))
    assert len(compilers) == len(compilation.COMPILERS)
    assert sum(version is not None for version in compilers) >= 2


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_file(compilations, folder, damage):
    """Whatever lies in it is never loaded and only costs time, once."""
    cubin = grown().cubin(CC)
    (path,) = kept(folder)
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert grown().cubin(CC) == cubin
    assert grown().cubin(CC) == cubin
    assert len(compilations) == 2


def test_one_bit(compilations, folder):
    cubin = grown().cubin(CC)
    (path,) = kept(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert grown().cubin(CC) == cubin
    assert len(compilations) == 2


def test_lost_folder(compilations, folder):
    cubin = grown().cubin(CC)
    shutil.rmtree(folder)
    assert grown().cubin(CC) == cubin
    assert len(compilations) == 2


def test_a_folder_in_its_place(compilations, folder):
    cubin = grown().cubin(CC)
    (path,) = kept(folder)
    path.unlink()
    path.mkdir()
    assert grown().cubin(CC) == cubin
    assert not kept(folder)


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_full_disk(compilations, folder, monkeypatch, failing):
    """Nothing half written is left."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path if failing == "write_bytes" else os, failing, full)
        cubin = grown().cubin(CC)
    assert cubin.startswith(b"\x7fELF")
    assert not kept(folder)
    assert grown().cubin(CC) == cubin


CHILD = """
import hashlib, sys
from roi_numba import _scalar
from roi_numba._cuda import compile as compilation

tap = compilation.on_device(_scalar.clamped_tap)

def ask(real, whole):
    whole[1], real[1], real[2] = tap(real[0], real[1], whole[0])

compiled = []
ptx = compilation.Kernel.ptx
compilation.Kernel.ptx = lambda *arguments: compiled.append(1) or ptx(*arguments)
kernel = compilation.Kernel(ask, "ask", ("float32*", "int32*"), 32)
cubin = kernel.cubin((9, 0))
folder = compilation.cache_folder()
print((hashlib.sha256(cubin).hexdigest(), len(compiled), folder, compilation.__file__))
"""


def child(package, **environment):
    """The digest of a cubin that a new process has, its compilations, and its cache folder."""
    return answer(run_python(CHILD, package=package, **environment), package)


def answer(printed, package):
    *found, source = ast.literal_eval(printed)
    assert Path(source).is_relative_to(package)
    return found


def test_cache_is_never_stale(tmp_path):
    """Two processes fill it at once, an edit of any file is seen, undone it is not compiled."""
    package, cache = copied(tmp_path), tmp_path / "cache"
    both = [start(CHILD, package=package, NUMBA_CACHE_DIR=cache) for _ in range(2)]
    (one, _, folder), (other, _, _) = [answer(finish(each), package) for each in both]
    assert one == other
    assert Path(folder).is_relative_to(cache)
    assert len(kept(cache)) == 1
    assert child(package, NUMBA_CACHE_DIR=cache) == [one, 0, folder]
    edit(package / "_scalar.py", "t = max(t, T(0))", "t = max(t, T(1))")
    edited, compiled, _ = child(package, NUMBA_CACHE_DIR=cache)
    assert compiled == 1
    assert edited != one
    edit(package / "_scalar.py", "t = max(t, T(1))", "t = max(t, T(0))")
    assert child(package, NUMBA_CACHE_DIR=cache) == [one, 0, folder]


def test_where_nothing_can_be_written(tmp_path):
    """Not beside the sources: in the user's folder.  Nor there: nowhere, and it works."""
    package = copied(tmp_path)
    (package / "_cuda" / "__pycache__").write_text("in the way\n")
    home = tmp_path / "home"
    variables = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "NUMBA_CACHE_DIR": None}
    cubin, compiled, folder = child(package, **variables)
    assert compiled == 1
    assert Path(folder).is_relative_to(home)
    assert len(list(home.rglob("ask-*.cubin"))) == 1
    if Path("/proc/self").exists():
        variables = {"HOME": NOWHERE, "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": NOWHERE}
        assert child(package, **variables) == [cubin, 1, None]


FORK = """
import os, signal, threading
from roi_numba._cuda.compile import Kernel

def body(target):
    target[0] = 1

begun, ptx = threading.Event(), Kernel.ptx

def slowly(kernel, cc):
    begun.set()
    for _ in range(3):
        code = ptx(kernel, cc)
    return code

Kernel.ptx = slowly
thread = threading.Thread(target=Kernel(body, "one", ("int32*",), 32).cubin, args=((9, 0),))
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    signal.alarm(30)
    os._exit(len(Kernel(body, "other", ("int32*",), 32).cubin((9, 0))) == 0)
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_a_thread_compiles(tmp_path):
    """The child compiles too: nobody it has not got holds the lock."""
    assert run_python(FORK, NUMBA_CACHE_DIR=tmp_path) == "0\n"
