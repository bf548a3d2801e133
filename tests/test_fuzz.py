"""A few of the random calls of `python -m tests.fuzz`, and whether it would notice."""

import random

import numpy as np
import pytest

import roi_numba
from fuzz.draw import draw
from fuzz.judge import Judge
from fuzz.leaks import LeakWatch
from fuzz.memory import Memory
from fuzz.source import script
from subprocesses import run


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_calls(first):
    """Always the same ones: what a change breaks, it breaks again."""
    judge = Judge()
    for index in range(first, first + 50):
        case = draw(0, index)
        try:
            judge.judge(case)
        except Exception:
            print(script(case))
            raise
    assert judge.calls > 50


def test_every_function_is_called():
    functions = {draw(0, index).function for index in range(600)}
    assert functions == {name for name in roi_numba.__all__ if "num_threads" not in name}


# ---- what is wrong is noticed --------------------------------------------------------------


def cases(function):
    """Calls of one function that are not to be refused."""
    for index in range(2000):
        case = draw(0, index)
        if case.function == function and case.refused is False and not case.spoilt:
            yield case


def changed(name, monkeypatch, change):
    """The function with `change` made to its result and arguments."""
    function = getattr(roi_numba, name)
    monkeypatch.setattr(
        roi_numba, name, lambda *given, **options: change(function(*given, **options), options)
    )


def first_with(results, wanted):
    return next(case for case in results if wanted(case))


def computes(case):
    return case.maps[0].size and len(case.rows) and isinstance(case.arguments["input"], np.ndarray)


def test_another_bit(monkeypatch):
    case = first_with(cases("prroi_pool"), computes)

    calls = []

    def change(output, options):
        calls.append(options)
        return output + output.dtype.type(1) if len(calls) == 1 else output

    changed("prroi_pool", monkeypatch, change)
    with pytest.raises(AssertionError):
        Judge().judge(case)


def test_an_input_that_is_written(monkeypatch):
    def writable(case):
        array = case.arguments["input"]
        return isinstance(array, np.ndarray) and array.size and array.flags.writeable

    case = first_with(cases("roi_align"), writable)

    def change(output, options):
        given = options["input"]
        if given is case.arguments["input"]:
            given[...] = ~given if given.dtype == bool else given + given.dtype.type(1)
        return output

    changed("roi_align", monkeypatch, change)
    with pytest.raises(AssertionError, match=r"bytes \[.* were written"):
        Judge().judge(case)


def test_memory_beside_the_result_that_is_written(monkeypatch):
    case = first_with(
        cases("roi_pool"), lambda case: isinstance(case.out, np.ndarray) and case.out.size
    )

    def change(output, options):
        if options.get("out") is not None:
            case.memory.blocks[-1][0] = 0
        return output

    changed("roi_pool", monkeypatch, change)
    with pytest.raises(AssertionError, match="were written"):
        Judge().judge(case)


@pytest.mark.parametrize(
    "error", [ValueError("negative dimensions"), MemoryError("input must be smaller")], ids=repr
)
def test_an_error_that_is_not_ours(monkeypatch, error):
    case = next(case for case in (draw(0, index) for index in range(500)) if case.refused)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(roi_numba, case.function, fail)
    with pytest.raises(AssertionError, match=r"is no such error|not one of our sentences"):
        Judge().judge(case)


def leaks():
    """A call that keeps something is told from one that does not; run in a process."""
    kept = []
    case = next(cases("roi_warp"))
    with pytest.MonkeyPatch.context() as patch:
        changed("roi_warp", patch, lambda output, options: kept.append([1]) or output)
        with pytest.raises(AssertionError, match="more calls keep"):
            LeakWatch().repeat(Judge(), case)
    LeakWatch().repeat(Judge(), case)


def test_a_leak():
    """Not beside pytest: what else lets go of memory meanwhile hides what a call keeps."""
    run("import test_fuzz; test_fuzz.leaks()")


def test_a_script_makes_the_same_call():
    for function in ("crop_and_resize", "pyramid_pool"):
        case = first_with(cases(function), lambda case: "out" not in case.arguments)
        case.memory.close()
        text, _, call = script(case).rpartition("\nroi_numba.")
        variables = {}
        exec(compile(f"{text}\nresult = roi_numba.{call}", "script", "exec"), variables)
        found, expected = variables["result"], Judge().run(case)
        pairs = (
            [(found, expected)]
            if not isinstance(found, tuple)
            else zip(found, expected, strict=True)
        )
        for one, other in pairs:
            np.testing.assert_array_equal(
                np.asarray(getattr(one, "_array", one)), np.asarray(getattr(other, "_array", other))
            )


CRASH = """
import multiprocessing, os, sys
from types import SimpleNamespace
from fuzz import __main__ as command, workers

fork, draw = multiprocessing.get_context("fork"), workers.draw
workers.multiprocessing.get_context = lambda how: fork

def bomb(seed, index):
    if index == 1:
        os.abort()
    return draw(seed, index)

workers.draw = bomb
failures = []
arguments = SimpleNamespace(seed=0, first=0, processes=1)
totals = command._watch(arguments, 3, 1e12, failures.append)
print(failures, totals[workers.CASES])
"""


def test_a_crash_is_told_and_the_rest_goes_on():
    printed = run(CRASH, timeout=300)
    assert printed.strip() == "[(1, 'the process ended with -6')] 2"


def test_layouts_hold_their_values(rng):
    """Whatever the layout, elements that are not repeated lie apart, within the guards."""
    for number in range(300):
        memory = Memory(random.Random(number))
        values = rng.integers(0, 99, (2, 3, 4, 1)).astype(["f4", "f8", "u1", "i8"][number % 4])
        array = memory.put(values, to_write=True)
        np.testing.assert_array_equal(array, values)
        memory.close()
        array[...] = 0
        memory.assert_untouched([array])
        with pytest.raises(AssertionError):
            memory.assert_untouched()
