"""What the code that is compiled is written with, held by reading the sources."""

import ast
import re

import pytest

from sources import (
    EVERY_FILE,
    FILES,
    MODULES,
    RULE_NAMES,
    called,
    name_in_package,
    tree,
)
from subprocesses import PACKAGE


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
    """`unpack` and `hold` may stream: others see what is streamed after a fence only."""
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef) and "kernel" in map(ast.unparse, node.decorator_list):
            calls = [
                ast.unparse(each.func) for each in ast.walk(node) if isinstance(each, ast.Call)
            ]
            if any(name.lstrip("_").startswith(("unpack", "hold", "stream")) for name in calls):
                assert ast.unparse(node.body[-1]) == "fence()", node.name
            if "hold" in calls:
                rest = "go_on(cells, target, waiting, waiting.count)"
                assert ast.unparse(node.body[-2]) == rest, node.name
