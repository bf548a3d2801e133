"""The rules of the house (docs/design.md), held by reading the sources: who imports what, files."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

import reference
import reference_crops
import roi_numba
from sources import (
    BINDINGS,
    CROP_NAMES,
    ENGINE,
    EVERY_FILE,
    FILES,
    OPERATOR_NAMES,
    ROOT,
    RULE_NAMES,
    STANDARD,
    at_import,
    called,
    everywhere,
    identify,
    inside,
    is_crop,
    name_in_package,
    tree,
)
from subprocesses import PACKAGE

# ---- who imports what ----------------------------------------------------------------------


def test_there_are_operators():
    assert set(OPERATOR_NAMES) >= {"prroi_pool", "roi_align", "roi_pool", "roi_warp"}
    assert set(CROP_NAMES) >= {"crop_and_resize"}
    assert set(RULE_NAMES) < set(roi_numba.__all__)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_operator_files_import_only_op_scalar_and_derivatives(name):
    """Those of crops have `_crops` for the last."""
    names = everywhere(PACKAGE / f"{name}.py")
    ours = inside(names, "roi_numba")
    others = {other.partition(".")[0] for other in names - ours}
    allowed = {"roi_numba._op", f"roi_numba.{'_crops' if is_crop(name) else '_derivatives'}"}
    assert ours <= allowed | inside(ours, "roi_numba._op", "roi_numba._scalar")
    assert others <= STANDARD


def test_scalar_imports_the_standard_library_only():
    names = everywhere(PACKAGE / "_scalar.py")
    assert {name.partition(".")[0] for name in names} <= STANDARD


@pytest.mark.parametrize("path", ENGINE, ids=identify)
def test_engines_know_neither_operators_nor_arrays(path):
    """Nor each other: they take flat memory, what is marked as scalar, a digest for caches."""
    names = everywhere(path)
    ours = inside(names, "roi_numba") - inside(names, f"roi_numba.{path.parent.name}")
    assert ours <= {
        "roi_numba._arrays.flat_memory",
        "roi_numba._scalar.MANY_SAMPLES",
        "roi_numba._scalar.SCALARS",
        "roi_numba._scalar.at_rate",
        "roi_numba._sources.source_digest",
    }


@pytest.mark.parametrize("module", ["_cpu.engine", "_cpu.gradients", "_cuda.arrays"])
def test_an_engine_is_reached_only_when_it_is_called(module):
    path = PACKAGE / "_memory.py"
    assert not inside(at_import(path), "roi_numba._cpu", "roi_numba._cuda", "numba")
    assert inside(everywhere(path), f"roi_numba.{module}")
    for other in FILES:
        if other.parent == PACKAGE and other != path:
            assert not inside(everywhere(other), f"roi_numba.{module}")


def binding(name):
    """The library that file ``name`` binds: torch for ``torch``, ``_torch_ops``; else None."""
    library = name.removeprefix("_").partition("_")[0]
    return library if library in BINDINGS else None


@EVERY_FILE
def test_nobody_imports_the_neighbours(path):
    """CuPy and numba.cuda only for CUDA; a binding its library.

    In the engine each has one file that others of its kind could replace.
    """
    name = name_in_package(path)
    neighbours = {"numba.cuda", "cupy", "torch", "jax", "tensorflow", "onnxruntime"}
    neighbours.discard(binding(name))
    theirs = {"_cuda.compile": "numba.cuda", "_cuda.launch": "cupy", "_cuda.arrays": "cupy"}
    neighbours.discard(theirs.get(name))
    assert not inside(at_import(path), *neighbours)
    if name.split(".")[0] != "_cuda":
        assert not inside(everywhere(path), *neighbours)
    ours = {other.removeprefix("roi_numba.") for other in inside(everywhere(path), "roi_numba")}
    bound = {binding(other.partition(".")[0]) for other in ours} - {None}
    assert bound <= {binding(name)}


@EVERY_FILE
def test_only_the_engine_compiles(path):
    if path not in ENGINE:
        assert not inside(everywhere(path), "numba")
        names = {node.id for node in ast.walk(tree(path)) if isinstance(node, ast.Name)}
        assert not names & {"kernel", "njit", "jit", "vectorize", "guvectorize"}
        assert not inside(everywhere(path), "roi_numba._cpu.compile.kernel")


@EVERY_FILE
def test_scipy_and_matplotlib_come_late(path):
    """They are extras: nothing but the figure imports them at its top."""
    if name_in_package(path) != "_figure":
        assert not inside(at_import(path), "scipy", "matplotlib", "PIL", "ml_dtypes")


@pytest.mark.parametrize("module", [reference, reference_crops], ids=lambda each: each.__name__)
def test_the_reference_stands_alone(module):
    path = Path(module.__file__)
    names = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names == {"math", "numpy"}
    assert "roi_numba" not in path.read_text(encoding="utf-8")


# ---- files ---------------------------------------------------------------------------------


@EVERY_FILE
def test_length(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


TESTS = sorted([*(ROOT / "tests").glob("*.py"), *(ROOT / "tests" / "fuzz").glob("*.py")])


@pytest.mark.parametrize("path", FILES + TESTS, ids=identify)
def test_names_of_files(path):
    assert not re.search(r"util|helper|common|misc|core", path.stem)


@EVERY_FILE
def test_print(path):
    if name_in_package(path) not in ("_demo", "_info", "__main__", "compat.__main__"):
        calls = [node for node in ast.walk(tree(path)) if called(node) == "print"]
        assert not calls


@EVERY_FILE
def test_docstring(path):
    first = (ast.get_docstring(tree(path)) or "").splitlines()
    assert first, "a module says in one line what it is"
    assert first[0].endswith((".", "?")) or "?" in first[0] or first[0][-1] in ".`"


def test_typed():
    assert (PACKAGE / "py.typed").exists()


def test_init_has_one_import_line_per_name_and_all():
    path = PACKAGE / "__init__.py"
    lines = [node for node in tree(path).body if isinstance(node, ast.ImportFrom)]
    assert {alias.name for node in lines for alias in node.names} == set(roi_numba.__all__)
    assert roi_numba.__all__ == sorted(roi_numba.__all__)
    for name in RULE_NAMES:
        assert [node.module for node in lines].count(name) == 1
    assert set(roi_numba.__all__) <= set(dir(roi_numba))


# ---- the project ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_extras(project):
    extras = project["project"]["optional-dependencies"]
    assert set(extras) >= {"demo", "test", "docs", "bench", "cuda12", "cuda13"}
    assert all(extras.values())


def test_what_the_tests_import_is_installed_with_them(project):
    extras = project["project"]["optional-dependencies"]
    there = {re.split(r"[<>=\[]", item)[0] for item in extras["test"]} | {"numpy", "numba"}
    there |= {"roi_numba", "benchmarks", "PIL", "llvmlite"}  # here; with matplotlib; with numba
    ours = {path.stem for path in TESTS} | {"fuzz"}
    for path in TESTS:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            roots = {name.partition(".")[0] for name in names}
            assert roots <= there | ours | STANDARD, f"{path.name}: {roots}"


def test_warnings_are_errors_and_doctests_run(project):
    options = project["tool"]["pytest"]["ini_options"]
    assert options["filterwarnings"][0] == "error"
    assert "--doctest-modules" in options["addopts"]
    assert "roi_numba" in options["testpaths"]
    assert options["xfail_strict"] is True


def test_version(project):
    assert "version" in project["project"]["dynamic"]
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", roi_numba.__version__)
