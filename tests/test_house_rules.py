"""The rules of the house (docs/design.md), held by reading the sources."""

import ast
import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path

import pytest

import reference
import reference_crops
import reference_gradients
import roi_numba
from operators import OPERATORS
from subprocesses import PACKAGE

ROOT = Path(__file__).parents[1]
FILES = sorted(PACKAGE.rglob("*.py"))
ENGINES = ("_cpu", "_cuda")
ENGINE = sorted(
    path
    for engine in ENGINES
    for path in (PACKAGE / engine).rglob("*.py")
    if path != PACKAGE / "_cuda" / "arrays.py"  # which is to it what `_memory` is to the CPU's
)
PUBLIC = [getattr(roi_numba, name) for name in roi_numba.__all__]
BINDINGS = {"torch", "jax"}  # of libraries that need not be there
MODULES = {
    path.stem: importlib.import_module(f"roi_numba.{path.stem}")
    for path in PACKAGE.glob("[a-z]*.py")
    if path.stem not in BINDINGS
}
RULE_NAMES = sorted(name for name, module in MODULES.items() if hasattr(module, "RULE"))


def is_crop(name):
    """Of crops the caller says the size, and an index for each of the boxes, y first."""
    return "crop_size" in inspect.signature(getattr(MODULES[name], name)).parameters


CROP_NAMES = [name for name in RULE_NAMES if is_crop(name)]
OPERATOR_NAMES = [name for name in RULE_NAMES if not is_crop(name)]
STANDARD = frozenset(sys.stdlib_module_names)


def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def name_in_package(path):
    """``_cpu.plan`` for roi_numba/_cpu/plan.py."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def imported(path, nodes):
    """What ``nodes`` of a file import, as full names: a.b.c for ``from a.b import c``."""
    package = ["roi_numba", *path.relative_to(PACKAGE).parts[:-1]]
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def everywhere(path):
    return set(imported(path, ast.walk(tree(path))))


def at_import(path):
    """What the file imports when it is imported: not in functions, not for type checkers."""

    def statements(body):
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                continue
            yield node
            for field in ("body", "orelse", "finalbody", "handlers"):
                yield from statements(getattr(node, field, []))

    return set(imported(path, statements(tree(path).body)))


def inside(names, *roots):
    return {name for name in names if any(f"{name}.".startswith(f"{root}.") for root in roots)}


def identify(path):
    return name_in_package(path) if path.is_relative_to(PACKAGE) else path.name


EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=identify)


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


# ---- scalar mathematics --------------------------------------------------------------------


def scalar_functions():
    for path in FILES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef) and any(
                isinstance(mark, ast.Name) and mark.id == "scalar" for mark in node.decorator_list
            ):
                yield pytest.param(node, id=f"{name_in_package(path)}.{node.name}")


SCALAR_FUNCTIONS = list(scalar_functions())
SCALAR_NAMES = {parameter.values[0].name for parameter in SCALAR_FUNCTIONS}
EVERY_SCALAR = pytest.mark.parametrize("function", SCALAR_FUNCTIONS)


def called(node):
    """``T`` of ``T(0.5)``, ``math.floor`` of ``math.floor(x)``."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else None


def with_parents(function):
    """Every node of the body with the one it is in."""
    for statement in function.body:
        yield statement, function
        for parent in ast.walk(statement):
            for child in ast.iter_child_nodes(parent):
                yield child, parent


def test_every_rule_is_made_of_scalars():
    assert len(SCALAR_FUNCTIONS) > 10
    for name in RULE_NAMES:
        rule = MODULES[name].RULE
        names = {param.id for param in SCALAR_FUNCTIONS}
        for function in (rule.span, rule.entries, rule.entry, rule.slope):
            assert function is None or f"{name}.{function.__name__}" in names


@EVERY_SCALAR
def test_no_bare_float_literal(function):
    """``0.5`` makes float64 of float32; ``T(0.5)`` does not."""
    for node, parent in with_parents(function):
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex):
            assert called(parent) == "T", f"line {node.lineno}"


@EVERY_SCALAR
def test_floor_and_ceil_are_converted(function):
    """``math.floor(float32)`` is an int64 on the CPU and a float32 on CUDA."""
    for node, parent in with_parents(function):
        if called(node) in ("math.floor", "math.ceil", "math.trunc", "round"):
            assert called(parent) in ("int", "T"), f"line {node.lineno}"


@EVERY_SCALAR
def test_division_is_of_reals(function):
    """``a / b`` of integers is float64: both sides of a division are converted or real already."""
    integers = {
        argument.arg
        for argument in function.args.args
        if argument.annotation is not None and ast.unparse(argument.annotation) == "int"
    }
    for node, _ in with_parents(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for side in (node.left, node.right):
                assert not (isinstance(side, ast.Name) and side.id in integers), node.lineno
                assert not isinstance(side, ast.Constant), f"line {node.lineno}"


@EVERY_SCALAR
def test_scalars_call_scalars(function):
    """And builtins, and ``math``: nothing that only one device knows."""
    allowed = SCALAR_NAMES | {"T", "abs", "bool", "float", "int", "max", "min", "type"}
    for node, _ in with_parents(function):
        if isinstance(node, ast.Call):
            name = called(node)
            assert name in allowed or re.fullmatch(r"math\.\w+", name), f"{name}, {node.lineno}"
        assert not isinstance(node, ast.List | ast.Dict | ast.Set | ast.Try | ast.With)
        assert not isinstance(node, ast.ListComp | ast.GeneratorExp | ast.Lambda)


@EVERY_FILE
def test_nothing_is_compiled_with_fast_math(path):
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.keyword):
            assert node.arg not in ("fastmath", "parallel")
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            assert not keys & {"fastmath", "parallel"}


def test_kernels_release_the_gil_and_divide_like_numpy():
    from roi_numba._cpu import compile as compilation

    assert compilation.OPTIONS["nogil"] is True
    assert compilation.OPTIONS["error_model"] == "numpy"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "_cpu").glob("*.py")), ids=lambda path: path.stem
)
def test_kernels_that_unpack_end_with_a_fence(path):
    """`unpack` may stream: what is streamed is seen by other threads after a fence only."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef) and "kernel" in map(ast.unparse, node.decorator_list):
            calls = [
                ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)
            ]
            if any(name.lstrip("_").startswith("unpack") for name in calls):
                assert ast.unparse(node.body[-1]) == "fence()", node.name


# ---- files ---------------------------------------------------------------------------------


@EVERY_FILE
def test_length(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES + sorted((ROOT / "tests").glob("*.py")), ids=identify)
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


# ---- what every operator has ---------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_every_operator_has_a_reference_and_a_row_in_the_table(name):
    assert callable(getattr(reference, name))
    rows = [row for row in OPERATORS if row.function is getattr(roi_numba, name)]
    assert len(rows) == 1
    assert rows[0].reference is getattr(reference, name)
    assert callable(getattr(reference_gradients, f"{name}_backward"))


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_the_table_knows_every_option(name):
    """A new option or choice without values to test it with is seen here."""
    (row,) = (row for row in OPERATORS if row.name == name)
    parameters = list(inspect.signature(row.function).parameters)
    common = "input boxes output_size spatial_scale reduce return_argmax batch_indices channel_axis"
    own = set(parameters) - {*common.split(), "check_boxes", "out"}
    assert set(row.options) == own == set(inspect.signature(MODULES[name].options).parameters)
    assert set(row.options) <= set(inspect.signature(row.reference).parameters)
    assert set(row.options) <= set(inspect.signature(row.reference_backward).parameters)
    assert MODULES[name].RULE.name == name


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_signatures_agree(name):
    """One operator's arguments in another's place: same order, same defaults, same ends."""
    parameters = inspect.signature(getattr(roi_numba, name)).parameters
    assert list(parameters)[:4] == ["input", "boxes", "output_size", "spatial_scale"]
    tail = ["batch_indices", "channel_axis", "check_boxes", "out"]
    assert list(parameters)[-4:] == tail
    defaults = {key: parameters[key].default for key in ("spatial_scale", *tail)}
    assert list(defaults.values()) == [1.0, None, 1, None, None]
    assert all(parameters[key].kind is inspect.Parameter.KEYWORD_ONLY for key in tail)


@pytest.mark.parametrize("name", CROP_NAMES)
def test_crops_have_a_reference_that_knows_every_option(name):
    parameters = list(inspect.signature(getattr(roi_numba, name)).parameters)
    own = set(inspect.signature(MODULES[name].options).parameters)
    known = {"input", "boxes", "crop_size", "box_indices", "extrapolation_value", *own}
    assert set(parameters) == known | {"channel_axis", "check_boxes", "out"}
    assert set(inspect.signature(getattr(reference_crops, name)).parameters) == known
    backward = set(inspect.signature(getattr(reference_crops, f"{name}_backward")).parameters)
    assert backward == known - {"crop_size", "extrapolation_value"} | {"grad_output"}
    assert MODULES[name].RULE.name == name


@pytest.mark.parametrize("name", CROP_NAMES)
def test_signatures_of_crops_agree(name):
    """TensorFlow's arguments and channels last; the ends are those of other operators."""
    parameters = inspect.signature(getattr(roi_numba, name)).parameters
    assert list(parameters)[:4] == ["input", "boxes", "crop_size", "box_indices"]
    tail = ["channel_axis", "check_boxes", "out"]
    assert list(parameters)[-3:] == tail
    assert [parameters[key].default for key in tail] == [-1, None, None]
    keywords = [key for key in parameters if key not in ("input", "boxes", "crop_size")]
    assert all(parameters[key].kind is inspect.Parameter.KEYWORD_ONLY for key in keywords)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_gradients_have_the_signature_of_their_forward(name):
    """Less what grad_output says and what is no input, and then what only they have."""
    forward = inspect.signature(getattr(roi_numba, name)).parameters
    first, *rest = inspect.signature(getattr(roi_numba, f"{name}_backward")).parameters.values()
    without = {"output_size", "return_argmax", "out", "crop_size", "extrapolation_value"}
    shared = [forward[key] for key in forward if key not in without]
    assert (first.name, first.kind) == ("grad_output", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert first.default is inspect.Parameter.empty
    assert rest[: len(shared)] == shared
    tail = rest[len(shared) :]
    own = {"needs": ("input", "boxes")} | ({"argmax": None} if "return_argmax" in forward else {})
    own |= {"deterministic": True}
    assert [(each.name, each.default) for each in tail] == list(own.items())
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in tail)


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_every_operator_is_in_the_readme(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|.*`{name}`", text, re.MULTILINE), "a row in the table of operators"


@pytest.mark.parametrize("name", CROP_NAMES)
def test_crops_are_in_the_readme(name):
    assert f"`{name}(" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_operator_is_measured(name):
    nodes = ast.walk(tree(ROOT / "benchmarks" / "cases.py"))
    assert name in {node.value for node in nodes if isinstance(node, ast.Constant)}


def test_annotations():
    for function in PUBLIC:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty


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
    ours = {path.stem for path in (ROOT / "tests").glob("*.py")}
    for path in (ROOT / "tests").glob("*.py"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
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
