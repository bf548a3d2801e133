"""Change the rules in every small way, one at a time, and see whether `test_rules` notices.

    python tests/mutations.py [MODULE ...]

Prints the changes that nothing noticed.  Testers there are do not fit: mutmut leaves decorated
functions alone, which rules are, and cosmic-ray starts a process for each of a thousand changes.
Here the code of a function is exchanged in this process, which takes milliseconds.
"""

import ast
import copy
import inspect
import signal
import sys
import textwrap
from importlib import import_module

import numpy as np

import roi_numba
import test_rules
from roi_numba import _scalar

SECONDS = 20
"""A change that makes a loop endless is noticed so."""

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip
CALLS = {"min": "max", "max": "min", "floor": "ceil", "ceil": "floor"}


def changes(node):
    """What may stand in the place of a node, each with words for it."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        new = copy.deepcopy(node)
        new.ops = [COMPARISONS[type(node.ops[0])]()]
        yield new
    elif isinstance(node, ast.BinOp):
        new = copy.deepcopy(node)
        new.op = OPERATORS[type(node.op)]()
        yield new
        if isinstance(node.op, ast.Add | ast.Sub):
            yield node.left
    elif isinstance(node, ast.BoolOp):
        new = copy.deepcopy(node)
        new.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield new
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield node.body
        yield node.orelse
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1)
        yield ast.Constant(-node.value if node.value else -1)
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if name in CALLS:
            new = copy.deepcopy(node)
            if isinstance(new.func, ast.Name):
                new.func.id = CALLS[name]
            else:
                new.func.attr = CALLS[name]
            yield new


class Change(ast.NodeTransformer):
    """Puts the ``wanted``-th change into a tree, and remembers it."""

    def __init__(self, wanted):
        self.left = wanted
        self.made = None

    def visit(self, node):
        for new in changes(node):
            if self.left == 0:
                self.left = -1
                self.made = f"{ast.unparse(node)}  ->  {ast.unparse(new)}"
                return ast.copy_location(new, node)
            self.left -= 1
        return self.generic_visit(node) if self.left >= 0 else node


def mutants(function):
    """Changed code of a function, and what was changed."""
    text = textwrap.dedent(inspect.getsource(function))
    number = 0
    while True:
        tree = ast.parse(text)
        (definition,) = tree.body
        definition.decorator_list, definition.returns = [], None
        for argument in definition.args.args:
            argument.annotation = None
        change = Change(number)
        definition.body = [change.visit(statement) for statement in definition.body]
        if change.made is None:
            return
        scope = {}
        code = compile(ast.fix_missing_locations(tree), "mutant", "exec")
        exec(code, dict(function.__globals__), scope)
        yield scope[function.__name__].__code__, change.made
        number += 1


def checks(module):
    """The tests that concern a module, cheapest first."""
    name = module.__name__.rpartition(".")[2]
    found = []
    for cases, test in ((test_rules.CASES, "weights"), (test_rules.SLOPES, "slopes")):
        for case in cases:
            operator, options = case.values
            if name in (operator.name, "_scalar"):
                for dtype in (np.float32, np.float64) if test == "weights" else (None,):
                    found.append((test, operator, options, dtype))
    for _, operator, options, dtype in (each for each in found if each[0] == "weights"):
        yield lambda a=(operator, options, dtype): test_rules.test_weights(*a)
    for _, operator, options, _ in (each for each in found if each[0] == "slopes"):
        yield lambda a=(operator, options): test_rules.test_slopes(*a)
    if name in ("crop_pool", "_scalar"):
        for border in ("zeros", "cut"):
            yield lambda border=border: test_rules.test_slopes_of_single_samples(border)
    if name in ("crop_and_resize", "_scalar"):
        for method in ("bilinear", "nearest"):
            for normalized in (True, False):
                for edges in ("exact", "tensorflow"):
                    yield lambda a=(method, normalized, edges): test_rules.test_crops(*a)


def noticed(tests):
    """Whether one of the tests fails."""
    signal.alarm(SECONDS)
    try:
        with np.errstate(all="ignore"):
            for test in tests:
                test()
    except Exception:
        return True
    finally:
        signal.alarm(0)
    return False


def too_long(*_):
    raise TimeoutError


def main():
    signal.signal(signal.SIGALRM, too_long)
    names = sys.argv[1:] or ["_scalar", *sorted({rule.name for rule in test_rules.RULES})]
    for name in names:
        module = import_module(f"{roi_numba.__name__}.{name}")
        tests, made, left = list(checks(module)), 0, []
        for test in tests:  # which keeps what the references make of it
            test()
        for function in _scalar.SCALARS:
            if function.__module__ != module.__name__:
                continue
            code = function.__code__
            for changed, words in mutants(function):
                made += 1
                function.__code__ = changed
                try:
                    if not noticed(tests):
                        left.append(f"{function.__name__}: {words}")
                finally:
                    function.__code__ = code
        print(f"{name}: {made} changes, {len(left)} not noticed", *left, sep="\n    ", flush=True)


if __name__ == "__main__":
    main()
