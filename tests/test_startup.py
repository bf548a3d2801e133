"""What comes before the first result: imports, compilation, and the cache on disk.

Processes here run a copy of the package that is theirs to edit, with a cache of their own.
"""

import json
import os
import re
import shutil
import textwrap
from pathlib import Path

import pytest
from numba import config
from numba.core import event
from numba.core.caching import IndexDataCacheFile

from roi_numba._cpu.compile import FilePerKey, kernel
from subprocesses import PACKAGE, finish, start
from subprocesses import run as run_python

NOT_IMPORTED = ["cupy", "jax", "matplotlib", "ml_dtypes", "numba.cuda", "scipy", "torch"]

CALL = """
import json
import sys
import numpy as np
import roi_numba
from numba.core import event

features = np.arange(2 * 3 * 9 * 8, dtype=np.float32).reshape(2, 3, 9, 8) ** 2 / 100
boxes = np.array([(0, 1.3, 1.1, 6.2, 7.4), (1, 0, 0.5, 4, 3)], np.float32)
with event.install_recorder("numba:compile") as recorder:
    result = roi_numba.roi_align(features, boxes, 2, sampling_ratio=2)
from roi_numba._cpu.compile import cache_folder
print(json.dumps({
    "result": result.tolist(),
    "compilations": len(recorder.buffer) // 2,  # start and end
    "compiler": "numba.np.arraymath" in sys.modules,
    "folder": cache_folder(),
    "from": roi_numba.__file__,
}))
"""


def imports(statements):
    """The modules of NOT_IMPORTED and numba that are loaded after ``statements``."""
    watched = [*NOT_IMPORTED, "numba", "llvmlite"]
    code = f"{statements}\nimport sys\nprint([m for m in {watched} if m in sys.modules])"
    return run_python(code)


def test_import_compiles_nothing():
    """It does not even import Numba."""
    assert imports("import roi_numba") == "[]\n"


def test_a_call_without_boxes_computes_nothing():
    """So it imports no Numba either."""
    call = """
        import numpy as np, roi_numba
        assert roi_numba.roi_align(np.ones((1, 2, 8, 8)), np.ones((0, 5)), 2).shape == (0, 2, 2, 2)
    """
    assert imports(textwrap.dedent(call)) == "[]\n"


def test_import_needs_what_is_installed_only():
    """Nothing but NumPy and the standard library is imported, tried or not."""
    code = """
        import importlib.abc, sys
        import numpy

        class Watch(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                root = name.partition(".")[0]
                if root not in sys.stdlib_module_names and root not in ("numpy", "roi_numba"):
                    print(name)

        sys.meta_path.insert(0, Watch())
        import roi_numba
    """
    assert run_python(textwrap.dedent(code)) == ""


def test_a_call_imports_no_neighbours():
    call = """
        import numpy as np, roi_numba
        features, boxes = np.ones((1, 2, 8, 8), "f4"), np.array([[0, 1, 1, 5, 5]], "f4")
        roi_numba.roi_align(features, boxes, 2)
        roi_numba.roi_pool(features, [boxes[:, 1:]], 2)
    """
    # Numba looks at SciPy on its own account
    assert imports(textwrap.dedent(call)) == imports("import numpy, numba")


def test_every_submodule_but_the_figure_and_the_bindings_imports_without_neighbours():
    modules = [path.stem for path in PACKAGE.glob("*.py")]
    modules = sorted(set(modules) - {"__init__", "__main__", "_figure"})
    modules = [name for name in modules if name.strip("_").split("_")[0] not in ("torch", "jax")]
    statements = "\n".join(f"import roi_numba.{module}" for module in modules)
    assert imports(statements) == imports("import numpy, numba")


# ---- the cache -----------------------------------------------------------------------------


def call(package, **environment):
    return json.loads(run_python(CALL, package=package, **environment))


def copied(folder):
    """A copy of the package without compiled code."""
    compiled = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(PACKAGE, folder / "roi_numba", ignore=compiled)


@pytest.fixture(scope="module")
def right():
    """The right result, from the package as it is."""
    return call(PACKAGE)["result"]


@pytest.fixture(scope="module")
def warm(tmp_path_factory, right):
    """A copy of the package and its cache, filled by two processes at once."""
    folder = tmp_path_factory.mktemp("warm")
    package, cache = copied(folder), folder / "cache"
    both = [start(CALL, package=package, NUMBA_CACHE_DIR=cache) for _ in range(2)]
    found = [json.loads(finish(process)) for process in both]
    for answer in found:
        assert answer["result"] == right
        assert Path(answer["from"]).parent == package
        assert Path(answer["folder"]).is_relative_to(cache)
    assert max(answer["compilations"] for answer in found) > 0
    return package, cache


@pytest.fixture
def copy_of_warm(warm, tmp_path):
    """The same at the same place, for a test that spoils it."""
    package, cache = warm
    saved = shutil.copytree(package.parent, tmp_path / "saved")
    yield package, cache
    shutil.rmtree(package.parent)
    shutil.copytree(saved, package.parent)


def test_two_processes_that_compile_at_once(warm):
    """The fixture has had them."""


def test_second_process_compiles_nothing(warm, right):
    package, cache = warm
    answer = call(package, NUMBA_CACHE_DIR=cache)
    assert answer["result"] == right
    assert answer["compilations"] == 0
    assert not answer["compiler"]


def test_truncated_cache(copy_of_warm, right):
    """Every file of a real call's."""
    package, cache = copy_of_warm
    files = [path for suffix in ("nbi", "nbc") for path in cache.rglob(f"*.{suffix}")]
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    found = [call(package, NUMBA_CACHE_DIR=cache) for _ in range(2)]
    assert [answer["result"] for answer in found] == [right, right]
    assert found[0]["compilations"] > 0
    assert found[1]["compilations"] == 0


LIMIT = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
"""


@pytest.mark.skipif(os.name == "nt", reason="this system limits no sizes of files")
def test_cache_that_is_full(tmp_path, right):
    """The system takes no more than a file's beginning; a later process makes good."""
    package, cache = copied(tmp_path), tmp_path / "cache"
    answer = json.loads(run_python(LIMIT + CALL, package=package, NUMBA_CACHE_DIR=cache))
    assert answer["result"] == right
    found = [call(package, NUMBA_CACHE_DIR=cache) for _ in range(2)]
    assert [answer["result"] for answer in found] == [right, right]
    assert found[0]["compilations"] > 0
    assert found[1]["compilations"] == 0


def edit(path, old, new):
    """Replace ``old`` by ``new``, keeping size and modification time, which fool a lazy cache."""
    assert len(old) == len(new)
    status = path.stat()
    text = path.read_text()
    assert text.count(old) == 1, path
    path.write_text(text.replace(old, new))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_cache_is_never_stale(copy_of_warm, right):
    """An edit of any file is seen by the next process; undone, the old results are back."""
    package, cache = copy_of_warm
    results = [right]
    edit(package / "_scalar.py", "t = max(t, T(0))", "t = max(t, T(1))")
    results.append(call(package, NUMBA_CACHE_DIR=cache)["result"])
    edit(package / "roi_align.py", "T(k) + T(0.5)) * size", "T(k) + T(0.2)) * size")
    results.append(call(package, NUMBA_CACHE_DIR=cache)["result"])
    assert len({json.dumps(result) for result in results}) == 3
    edit(package / "roi_align.py", "T(k) + T(0.2)) * size", "T(k) + T(0.5)) * size")
    assert call(package, NUMBA_CACHE_DIR=cache)["result"] == results[1]


def square(x):
    """Compiled in no time, cached as all kernels are."""
    return x * x


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A new kernel, and the compilations of its first call, with a cache folder of the test's."""
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))

    def first_call():
        with event.install_recorder("numba:compile") as recorder:
            assert kernel(square)(3) == 9
        return len(recorder.buffer) // 2

    return first_call


DAMAGE = {
    "empty": lambda content: b"",
    "truncated at the start": lambda content: content[:7],
    "truncated": lambda content: content[: len(content) // 2],
    "truncated at the end": lambda content: content[:-1],
    "foreign": lambda content: b"not a pickle at all\n" * 50,
    "an empty list": lambda content: b"\x80\x04]\x94.",
    "of a class that is gone": lambda content: b"cno.such.module\nName\n.",
    "of another Numba": lambda content: b"V0.0.1\n." + content,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_damaged_cache(tiny, tmp_path, suffix, damage):
    """Whatever lies in its files only costs time, and only once: good ones take their place."""
    assert [tiny(), tiny()] == [1, 0]
    (path,) = tmp_path.rglob(f"*.{suffix}")
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    assert tiny() == 1
    assert tiny() == 0


def test_lost_files(tiny, tmp_path):
    for suffix in ("nbi", "nbc"):
        assert tiny() == 1
        (path,) = tmp_path.rglob(f"*.{suffix}")
        path.unlink()
    assert tiny() == 1
    shutil.rmtree(tmp_path)
    assert tiny() == 1


def test_full_disk(tiny, monkeypatch):
    def save(self, *arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_data", save)
    assert [tiny(), tiny()] == [1, 1]


NOWHERE = "/proc/nowhere"  # a folder that not even root can make

FOLDER = """
from roi_numba._cpu.compile import cache_folder, kernel
from tiny import square
assert kernel(square)(3) == 9
print(cache_folder())
"""


@pytest.fixture
def read_only(tmp_path):
    """A copy of the package whose folders for compiled code cannot be made, not even by root."""
    package = copied(tmp_path)
    (tmp_path / "tiny.py").write_text("def square(x):\n    return x * x\n")
    for folder in (package / "_cpu", tmp_path):
        (folder / "__pycache__").write_text("in the way\n")
    return package


def test_read_only_installation(read_only, tmp_path):
    """The user's own cache folder takes the compiled code."""
    home = tmp_path / "home"
    variables = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "NUMBA_CACHE_DIR": None}
    printed = run_python(FOLDER, package=read_only, **variables)
    assert Path(printed.strip()).is_relative_to(home)
    assert list(home.rglob("*square*.nbc"))


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
def test_nowhere_to_keep_anything(read_only):
    """No writable installation, no home directory, a cache folder that cannot be."""
    variables = {"HOME": NOWHERE, "XDG_CACHE_HOME": None, "NUMBA_CACHE_DIR": NOWHERE}
    assert run_python(FOLDER, package=read_only, **variables) == "None\n"
    printed = run_python("", "info", package=read_only, module="roi_numba", **variables)
    assert re.search(r"^cache: +none$", printed, re.MULTILINE)


@pytest.mark.parametrize("obstacle", ["a file", "a folder that cannot be"])
def test_cache_folder_that_cannot_be(warm, tmp_path, obstacle):
    """Numba's next choice takes its place: the folder of the package."""
    package, _ = warm
    taken = tmp_path / "taken"
    taken.write_text("in the way\n")
    code = "import roi_numba._cpu.compile as c; print(c.cache_folder())"
    folder = taken if obstacle == "a file" else NOWHERE
    printed = run_python(code, package=package, NUMBA_CACHE_DIR=folder)
    assert Path(printed.strip()).is_relative_to(package)


def test_without_compilation(right):
    """``NUMBA_DISABLE_JIT=1`` at least imports, so that rules can be debugged as plain Python."""
    code = "import roi_numba; print(roi_numba.axis_weights('roi_align', [1, 4], 6, 2).shape)"
    assert run_python(code, NUMBA_DISABLE_JIT=1) == "(2, 6)\n"


def test_info_says_where_the_cache_is(warm):
    package, cache = warm
    printed = run_python("", "info", package=package, module="roi_numba", NUMBA_CACHE_DIR=cache)
    assert str(cache) in printed


def test_two_processes_that_save_different_kernels_at_once(tmp_path, monkeypatch):
    """Neither kernel ends up under the other's name, as in an index that both find empty."""
    files = FilePerKey(str(tmp_path), "kernel", "stamp")
    with monkeypatch.context() as patch:
        patch.setattr(IndexDataCacheFile, "_load_index", lambda self: {})
        files.save("one", "ONE")
        files.save("other", "OTHER")
    assert (files.load("one"), files.load("other")) == ("ONE", "OTHER")
    assert files.load("third") is None


TABLES = """
import sys
import numpy as np
from roi_numba._cpu.tables import tabulate
from roi_numba.roi_align import RULE as ALIGN
from roi_numba.roi_warp import RULE as WARP

rules = {"align": (ALIGN, (1.0, 2, False)), "warp": (WARP, (1.0, 2, True))}
corners, images = np.array([[1.0, 1, 4, 4]]), np.zeros(1, np.int64)
for name in sys.argv[1:]:
    rule, options = rules[name]
    for reduce in ("mean", "max"):
        like = np.empty(0)
        _, table, *_ = tabulate(
            rule, reduce, corners, images, 0, (2, 2), (9, 9), (options, options), like
        )
        print(name, reduce, table.weight[: table.begin[-1]].tolist())
"""


def test_operators_from_the_cache_and_not(tmp_path):
    """Each keeps its own rule, whichever was compiled here and whichever in another process."""
    has_warp, has_align = tmp_path / "warp", tmp_path / "align"
    alone = {
        name: run_python(TABLES, name, NUMBA_CACHE_DIR=folder)
        for name, folder in [("warp", has_warp), ("align", has_align)]
    }
    for folder in (has_align, has_warp):  # now the one that comes first is compiled, now the other
        assert run_python(TABLES, "warp", "align", NUMBA_CACHE_DIR=folder) == (
            alone["warp"] + alone["align"]
        )


ENCODINGS = """
import sys
import ml_dtypes
import numpy as np
import roi_numba

for name in sys.argv[1:]:
    ramp = np.arange(16).reshape(1, 1, 4, 4).astype(name)
    print(name, roi_numba.roi_align(ramp, np.array([[0, 1.0, 1, 3, 3]]), 1).item())
"""


def test_16_bit_floats_that_two_processes_compiled(tmp_path):
    """Each keeps its own encoding in a third process, which finds both in the cache."""
    names = "float16", "bfloat16"
    for name in names:
        run_python(ENCODINGS, name, NUMBA_CACHE_DIR=tmp_path / name)
    shutil.copytree(tmp_path / "float16", tmp_path / "bfloat16", dirs_exist_ok=True)
    printed = run_python(ENCODINGS, *names, NUMBA_CACHE_DIR=tmp_path / "bfloat16")
    assert printed == "float16 10.0\nbfloat16 10.0\n"
