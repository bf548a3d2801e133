"""The package's files as the rules of the house look at them: trees, names and imports."""

import ast
import importlib
import inspect
import sys
from pathlib import Path

import pytest

import roi_numba
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


def called(node):
    """``T`` of ``T(0.5)``, ``math.floor`` of ``math.floor(x)``."""
    return ast.unparse(node.func) if isinstance(node, ast.Call) else None


def identify(path):
    return name_in_package(path) if path.is_relative_to(PACKAGE) else path.name


EVERY_FILE = pytest.mark.parametrize("path", FILES, ids=identify)
