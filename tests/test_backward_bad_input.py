"""Wrong arguments of the gradients are refused in one sentence, as the forward's are."""

import numpy as np
import pytest

from operators import MAXIMA, MEANS, OPERATORS, ids
from small_call import EVERY_OPERATOR, RESULT, features, rows
from strategies import values
from test_bad_input import REFUSED as REFUSED_BY_ALL
from test_bad_input import REFUSED_INDICES, REFUSED_OPTIONS, assert_refused, name_of
from test_dlpack import Foreign, OnDevice, borrowed

EVERY_MAXIMUM = pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
BY_NAME = {operator.name: operator for operator in OPERATORS}


def call_with(argument, value):
    """A good call but for one argument."""
    gradient = values(3, RESULT, np.float32)
    call = {"grad_output": gradient, "input": features(), "boxes": rows()}
    return call | {argument: value}


@pytest.mark.parametrize(
    ("argument", "value", "exceptions", "pattern"),
    [row for row in REFUSED_BY_ALL if row[0] not in ("output_size", "out")],
    ids=name_of,
)
@EVERY_OPERATOR
def test_refused_as_in_the_forward(operator, argument, value, exceptions, pattern):
    assert_refused(operator.backward, call_with(argument, value), exceptions, pattern)


@pytest.mark.parametrize(
    ("name", "argument", "value", "exceptions", "pattern"),
    [row for row in REFUSED_OPTIONS if row[1] != "return_argmax"],
    ids=name_of,
)
def test_refused_options(name, argument, value, exceptions, pattern):
    function = BY_NAME[name].backward
    assert_refused(function, call_with(argument, value), exceptions, pattern)


@pytest.mark.parametrize(("value", "exceptions", "pattern"), REFUSED_INDICES)
@EVERY_OPERATOR
def test_refused_batch_indices(operator, value, exceptions, pattern):
    call = call_with("batch_indices", value) | {"boxes": rows()[:, 1:]}
    assert_refused(operator.backward, call, exceptions, pattern)


LIKE_OUTPUT = r"grad_output must have shape \(3, 3, height, width\), got"
NEEDS = r'needs must .*"input".*"boxes".*, got'
REFUSED = [
    ("grad_output", [[[[1.0]]]], TypeError, r"grad_output must be an array, got list"),
    ("grad_output", None, TypeError, r"grad_output must be an array, got NoneType"),
    ("grad_output", np.ones((3, 3, 2), "f4"), ValueError, rf"{LIKE_OUTPUT} \(3, 3, 2\)"),
    ("grad_output", np.ones((3, 2, 2, 3), "f4"), ValueError, rf"{LIKE_OUTPUT} \(3, 2, 2, 3\)"),
    ("grad_output", np.ones((2, 3, 2, 3), "f4"), ValueError, rf"{LIKE_OUTPUT} \(2, 3, 2, 3\)"),
    ("grad_output", np.ones((3, 3, 0, 3), "f4"), ValueError, rf"{LIKE_OUTPUT} \(3, 3, 0, 3\)"),
    ("grad_output", np.ones((3, 3, 2, 0), "f4"), ValueError, rf"{LIKE_OUTPUT} \(3, 3, 2, 0\)"),
    ("grad_output", np.float32(1), (TypeError, ValueError), r"grad_output must .*, got .*"),
    ("grad_output", np.ones(RESULT), TypeError, r"grad_output .*float32, got float64"),
    ("grad_output", np.ones(RESULT, "f2"), TypeError, r"grad_output .*float32, got float16"),
    ("grad_output", np.ones(RESULT, "i4"), TypeError, r"grad_output .*float32, got int32"),
    ("grad_output", np.ones(RESULT, "c8"), TypeError, r"grad_output .*float32, got complex64"),
    ("needs", None, TypeError, rf"{NEEDS} None"),
    ("needs", 2, TypeError, rf"{NEEDS} 2"),
    ("needs", True, TypeError, rf"{NEEDS} True"),
    ("needs", "both", ValueError, rf"{NEEDS} 'both'"),
    ("needs", ("input", "weights"), ValueError, rf"{NEEDS} \('input', 'weights'\)"),
    ("needs", ("input", 1), (TypeError, ValueError), rf"{NEEDS} \('input', 1\)"),
    ("needs", [["input"]], (TypeError, ValueError), rf"{NEEDS} \[\['input'\]\]"),
]
REFUSED_WINNERS = [
    ([[[[0]]]], TypeError, r"argmax must be an array, got list"),
    (3, TypeError, r"argmax must be an array, got int"),
    (np.zeros((3, 3, 3, 2), int), ValueError, r"argmax .*\(3, 3, 2, 3\), got \(3, 3, 3, 2\)"),
    (np.zeros((3, 3, 2), int), ValueError, r"argmax .*\(3, 3, 2, 3\), got \(3, 3, 2\)"),
    (np.zeros(RESULT, "i4"), TypeError, r"argmax must be of dtype int64, got int32"),
    (np.zeros(RESULT, "u8"), TypeError, r"argmax must be of dtype int64, got uint64"),
    (np.zeros(RESULT), TypeError, r"argmax must be of dtype int64, got float64"),
]


@pytest.mark.parametrize(("argument", "value", "exceptions", "pattern"), REFUSED, ids=name_of)
@EVERY_OPERATOR
def test_refused(operator, argument, value, exceptions, pattern):
    assert_refused(operator.backward, call_with(argument, value), exceptions, pattern)


@pytest.mark.parametrize(("value", "exceptions", "pattern"), REFUSED_WINNERS)
@EVERY_MAXIMUM
def test_refused_argmax(operator, reduction, value, exceptions, pattern):
    call = call_with("argmax", value) | operator.reductions[reduction]
    assert_refused(operator.backward, call, exceptions, pattern)


@pytest.mark.parametrize("needs", ["input", "boxes"])
@EVERY_MAXIMUM
def test_winners_that_cannot_be(operator, reduction, needs):
    """None is followed into memory, wherever it is among the good ones."""
    call = call_with("needs", needs) | operator.reductions[reduction]
    if "sampling_ratio" in operator.options:
        call["sampling_ratio"] = 2
    # the first name that no pixel of the map, sample of a bin or corner of one has
    end = {"roi_pool": 8 * 9}.get(operator.name, {"max": 4, "max_corner": 16}[reduction])
    if operator.name == "roi_pool" and needs == "boxes":
        pytest.skip("no winner is looked at: the boxes' gradient is zero")
    for name in (-2, end, end + 7, 10**9, 2**31, 2**32, 10**18, 2**63 - 1, -(2**31), -(2**63)):
        for place in (0, 20, 53):
            names = np.full(RESULT, -1)
            names.flat[place] = name
            pattern = rf"argmax must be what .*, got a winner that cannot be for box {place // 18}"
            assert_refused(operator.backward, call | {"argmax": names}, ValueError, pattern)
    operator.backward(**call | {"argmax": np.full(RESULT, -1)})


@pytest.mark.parametrize("name", [0, 3])
@pytest.mark.parametrize("operator", [BY_NAME["roi_align"], BY_NAME["roi_warp"]], ids=ids)
def test_samples_off_the_map_cannot_win(operator, name):
    boxes = np.array([(0, 1, 1, 4, 4), (0, -9, -9, -5, -5), (0, 20, 2, 28, 5)])
    call = call_with("boxes", boxes) | {"argmax": np.full(RESULT, -1), "reduce": "max"}
    call["argmax"][1:] = name
    pattern = r"argmax must be what .*, got a winner that cannot be for box [12]"
    assert_refused(operator.backward, call | {"sampling_ratio": 2}, ValueError, pattern)


@pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)
def test_argmax_of_a_mean(operator, reduction):
    call = call_with("argmax", np.zeros(RESULT, int)) | operator.reductions[reduction]
    if operator.rule.argmax == "none":
        with pytest.raises(TypeError):
            operator.backward(**call)
    else:
        pattern = r'argmax must be None with reduce="mean", got an array'
        assert_refused(operator.backward, call, ValueError, pattern)


@EVERY_OPERATOR
def test_channels_last_names_its_own_shape(operator):
    call = call_with("channel_axis", -1) | {"grad_output": np.ones((3, 3, 2, 2), np.float32)}
    call["input"] = np.moveaxis(call["input"], 1, -1)
    pattern = r"grad_output must have shape \(3, height, width, 3\), got \(3, 3, 2, 2\)"
    assert_refused(operator.backward, call, ValueError, pattern)


@EVERY_OPERATOR
def test_libraries_do_not_mix(operator):
    mine = call_with("boxes", rows()) | operator.reductions[list(operator.reductions)[-1]]
    its = mine | {"input": Foreign(mine["input"]), "grad_output": Foreign(mine["grad_output"])}
    refused = [
        (mine, "grad_output", its["grad_output"]),
        (its, "grad_output", mine["grad_output"]),
        (mine, "boxes", Foreign(mine["boxes"])),
    ]
    if len(operator.reductions) > 1:
        names = np.full(RESULT, -1)
        refused += [(mine, "argmax", Foreign(names)), (its, "argmax", names)]
    for call, argument, value in refused:
        got = "(Foreign for ndarray|ndarray for Foreign)"
        pattern = rf"{argument} must come from the library of input( or NumPy)?, got {got}"
        assert_refused(operator.backward, call | {argument: value}, TypeError, pattern)


class Recorded(Foreign):
    """A tensor that waits for its gradient."""

    requires_grad = True


@pytest.mark.parametrize("argument", ["grad_output", "input", "boxes", "argmax"])
@EVERY_OPERATOR
def test_devices_and_recorded_tensors(operator, argument):
    if argument == "argmax" and len(operator.reductions) == 1:
        pytest.skip("no maximum, no argmax")
    call = call_with("boxes", rows()) | operator.reductions[list(operator.reductions)[-1]]
    call = {key: Foreign(v) if isinstance(v, np.ndarray) else v for key, v in call.items()}
    value = np.full(RESULT, -1) if argument == "argmax" else borrowed(call[argument])
    if argument != "input":
        pattern = rf"{argument} must be in host memory as input is, got a test_dlpack array.*"
        assert_refused(operator.backward, call | {argument: OnDevice(value)}, TypeError, pattern)
    pattern = rf"{argument} must not require grad here.*detach\(\).*roi_numba\.torch.*"
    assert_refused(operator.backward, call | {argument: Recorded(value)}, TypeError, pattern)
