"""Change rules and checks in every small way, one at a time, and see whether tests notice.

    python tests/mutations.py [MODULE ...]

Prints the changes that nothing noticed.  Testers there are do not fit: mutmut leaves decorated
functions alone, which rules are, and cosmic-ray starts a process for each of a thousand changes.
Here the code of a function is exchanged in this process, which takes milliseconds.
"""

import ast
import copy
import functools
import inspect
import itertools
import signal
import sys
import textwrap
import time
from importlib import import_module
from unittest import mock

import numpy as np
import pytest

import roi_numba
import test_rules
from operators import RULES
from roi_numba import _checks, _memory, _scalar

SECONDS = 2
"""Of processor time, for a test of one: a change that makes a loop endless is noticed so."""

QUICK = 0.1
"""Seconds that a test may take to be asked about checks: most end before anything is computed."""

JUDGES = {
    "_scalar": [
        test_rules.test_on_scale, test_rules.test_round_half_away, test_rules.test_clamped,
        test_rules.test_taps, test_rules.test_slopes_of_taps,
    ],
    "roi_align": [
        test_rules.test_samples_that_touch_the_map, test_rules.test_weights, test_rules.test_slopes,
    ],
    "crop_pool": [test_rules.test_weights, test_rules.test_slopes_of_single_samples],
    "crop_and_resize": [test_rules.test_crops, test_rules.test_slopes_of_crops],
    "_checks": [
        test
        for module in (
            "checks", "bad_input", "backward_bad_input", "crop_input", "assign_levels",
            "pyramid_pool", "axis_weights",
        )
        for name, test in vars(import_module(f"test_{module}")).items()
        if name.startswith("test_")
    ],
}  # fmt: skip
"""The tests that concern a module, if they are not those of all rules."""

FAILURES = Exception, pytest.fail.Exception

COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NAMES = {
    "min": "max", "max": "min", "floor": "ceil", "ceil": "floor", "any": "all", "all": "any",
    "argmin": "argmax", "argmax": "argmin",
    "ValueError": "TypeError", "TypeError": "ValueError", "IndexError": "ValueError",
}  # fmt: skip


def with_new(node, **fields):
    """A copy of a node but for some of its fields."""
    new = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def changes(node):
    """What may stand in the place of a node."""
    if isinstance(node, ast.Compare):
        for i, operation in enumerate(node.ops):
            operations = [*node.ops]
            operations[i] = COMPARISONS[type(operation)]()
            yield with_new(node, ops=operations)
        letters = node.comparators[0]
        if isinstance(node.ops[0], ast.In) and isinstance(letters, ast.Constant):
            for i in range(len(letters.value)):  # kind in "iu"
                fewer = letters.value[:i] + letters.value[i + 1 :]
                yield with_new(node, comparators=[ast.Constant(fewer)])
    elif isinstance(node, ast.BinOp):
        yield with_new(node, op=OPERATORS[type(node.op)]())
        if isinstance(node.op, ast.Add | ast.Sub):
            yield node.left
    elif isinstance(node, ast.AugAssign):
        yield with_new(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield with_new(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for i in range(len(node.values)):
            rest = node.values[:i] + node.values[i + 1 :]
            yield with_new(node, values=rest) if len(rest) > 1 else rest[0]
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
        if isinstance(node.func, ast.Name) and node.func.id in NAMES:
            yield with_new(node, func=ast.Name(NAMES[node.func.id], ast.Load()))
        elif isinstance(node.func, ast.Attribute) and node.func.attr in NAMES:
            yield with_new(node, func=with_new(node.func, attr=NAMES[node.func.attr]))
        elif ast.unparse(node.func) == "isinstance" and isinstance(node.args[1], ast.Tuple):
            types = node.args[1].elts
            for i in range(len(types)):
                fewer = ast.Tuple(types[:i] + types[i + 1 :], ast.Load())
                yield with_new(node, args=[node.args[0], fewer])


class Change(ast.NodeTransformer):
    """Puts the ``wanted``-th change into the tree of a text, and says which."""

    def __init__(self, wanted, text):
        self.left = wanted
        self.lines = text.splitlines()
        self.made = None

    def visit(self, node):
        for new in changes(node):
            if self.left == 0:
                self.left = -1
                line = self.lines[node.lineno - 1].strip()
                self.made = f"{ast.unparse(node)}  ->  {ast.unparse(new)}   in   {line}"
                return ast.copy_location(new, node)
            self.left -= 1
        said = isinstance(node, ast.JoinedStr)
        return self.generic_visit(node) if self.left >= 0 and not said else node


def mutants(function):
    """Changed code of a function, and what was changed."""
    text = textwrap.dedent(inspect.getsource(function))
    for number in itertools.count():
        tree = ast.parse(text)
        (definition,) = tree.body
        definition.decorator_list, definition.returns = [], None
        for argument in definition.args.args:
            argument.annotation = None
        change = Change(number, text)
        definition.body = [change.visit(statement) for statement in definition.body]
        if change.made is None:
            return
        scope = {}
        code = compile(ast.fix_missing_locations(tree), "mutant", "exec")
        exec(code, dict(function.__globals__), scope)
        yield scope[function.__name__].__code__, change.made


def unmarked(values):
    """What a test is given, which `pytest.param` wraps."""
    wrapped = isinstance(values, type(pytest.param()))
    return (values.values if len(values.values) > 1 else values.values[0]) if wrapped else values


def calls(test, operator):
    """The calls that pytest makes of a test, with all its parameters but other operators.

    None of a test that has fixtures, or whose arguments are drawn.
    """
    rows = [{}]
    for mark in getattr(test, "pytestmark", ()):
        if mark.name == "parametrize":
            names, values = mark.args
            names = names.replace(",", " ").split() if isinstance(names, str) else names
            values = [each if len(names) > 1 else (each,) for each in map(unmarked, values)]
            rows = [row | dict(zip(names, each, strict=True)) for row in rows for each in values]
    for row in rows:
        concerns = getattr(row.get("operator"), "name", operator) == operator
        drawn = hasattr(test, "hypothesis")
        if concerns and not drawn and set(inspect.signature(test).parameters) == set(row):
            yield functools.partial(test, **row)


def reached(test):
    """How long a test takes, and the code that it calls."""
    found = set()
    start = time.process_time()
    sys.setprofile(lambda frame, event, _: found.add(frame.f_code) if event == "call" else None)
    try:
        test()
    finally:
        sys.setprofile(None)
    return time.process_time() - start, found


def noticed(tests):
    """Whether one of the tests fails."""
    try:
        for test in tests:
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            test()
    except FAILURES:
        return True
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return False


def too_long(*_):
    raise TimeoutError


def functions(module):
    """What is changed: rules, or all functions of the checks."""
    found = [each for each in vars(module).values() if inspect.isfunction(each)]
    if module is not _checks:
        found = [each for each in found if each in _scalar.SCALARS]
    return [each for each in found if each.__module__ == module.__name__]


def run(name):
    """Change everything in a module."""
    module = import_module(f"{roi_numba.__name__}.{name}")
    judges = JUDGES.get(name, [test_rules.test_weights, test_rules.test_slopes])
    operator = "roi_align" if module is _checks else name
    tests = []
    for call in (call for test in judges for call in calls(test, operator)):
        try:
            tests.append((call, *reached(call)))
        except (*FAILURES, pytest.skip.Exception):
            if module is not _checks:  # of whose tests those fail that compute: nothing does
                raise
    if module is _checks:
        tests = [each for each in tests if each[1] < QUICK]
    made, left = 0, []
    for function in functions(module):
        code = function.__code__
        concerned = sorted((each for each in tests if code in each[2]), key=lambda each: each[1])
        for changed, words in mutants(function):
            made += 1
            function.__code__ = changed
            try:
                if not noticed([test for test, *_ in concerned]):
                    left.append(f"{function.__name__}: {words}")
            finally:
                function.__code__ = code
    print(f"{name}: {made} changes, {len(left)} not noticed", *left, sep="\n    ", flush=True)


def main():
    signal.signal(signal.SIGVTALRM, too_long)
    nothing = mock.MagicMock(empty=np.zeros)
    engines = dict.fromkeys(("engine", "crops", "gradients"), nothing)
    # Checks are done before anything is computed.
    with mock.patch.dict(vars(_memory.HOST), engines), np.errstate(all="ignore"):
        for name in sys.argv[1:] or ["_scalar", "_checks", *sorted(rule.name for rule in RULES)]:
            run(name)


if __name__ == "__main__":
    main()
