"""Boxes of a call on a device, in every form and place, good and bad."""

import ml_dtypes
import numpy as np
import pytest

import on_stand_in
from arrays import BOXES, EVERY_OPERATOR, SIZE, bits, features
from device_stand_in import machine, ndarray, plain
from on_stand_in import PARTS, assert_all_same, assert_same, gradient, there
from operators import ids

called = on_stand_in.called

MANY_BOXES = {
    "float64": BOXES.astype(np.float64),
    "float16": BOXES.astype(np.float16),
    "bfloat16": BOXES.astype(ml_dtypes.bfloat16),
    "int32": BOXES.astype(np.int32),
    "int64": BOXES.astype(np.int64),
    "columns": np.asfortranarray(BOXES),
    "every other": np.repeat(BOXES, 2, axis=0)[::2],
    "list": PARTS,
    "tuple": tuple(PARTS),
    "list of float64 and float32": [PARTS[0].astype(np.float64), PARTS[1]],
    "list of bfloat16": [part.astype(ml_dtypes.bfloat16) for part in PARTS],
    "list of integers": [part.astype(np.int16) for part in PARTS],
    "one empty": [PARTS[0], PARTS[1][:0].astype(np.float64)],
    "all empty": [PARTS[0][:0], PARTS[1][:0]],
}


def on_device(boxes):
    return type(boxes)(there(list(boxes))) if isinstance(boxes, (list, tuple)) else there(boxes)


def assert_like(found, expected):
    """A gradient to boxes, of CuPy's, is NumPy's in numbers and form."""
    if isinstance(expected, list):
        assert type(found) is list
        assert_all_same(found, expected)
    else:
        assert_same(found, expected)


@pytest.mark.parametrize("boxes", MANY_BOXES.values(), ids=MANY_BOXES)
@EVERY_OPERATOR
def test_boxes(operator, boxes):
    expected = operator.function(features(), boxes, SIZE)
    assert_same(operator.function(there(features()), on_device(boxes), SIZE), expected)
    upstream = gradient(boxes=len(expected))
    expected = operator.backward(upstream, features(), boxes)
    found = operator.backward(there(upstream), there(features()), on_device(boxes))
    assert_same(found[0], expected[0])
    assert_like(found[1], expected[1])
    assert (machine.waits, machine.copies) == (0, 0)


INDEX_DTYPES = [np.int64, np.int32, np.uint8, np.uint64, np.float32, np.float64, np.float16]


@pytest.mark.parametrize("geometry", [np.float32, np.float64], ids=ids)
@pytest.mark.parametrize("dtype", INDEX_DTYPES, ids=ids)
@EVERY_OPERATOR
def test_batch_indices(operator, dtype, geometry):
    corners, images = BOXES[:, 1:].astype(geometry), BOXES[:, 0].astype(dtype)
    expected = operator.function(features(), corners, SIZE, batch_indices=images)
    for given in (images, there(images)):
        found = operator.function(there(features()), there(corners), SIZE, batch_indices=given)
        assert_same(found, expected)
    expected = operator.backward(gradient(), features(), corners, batch_indices=images)
    found = operator.backward(
        there(gradient()), there(features()), there(corners), batch_indices=there(images)
    )
    assert_all_same(found, expected)
    assert machine.waits == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@EVERY_OPERATOR
def test_batch_indices_that_are_none(operator, dtype):
    """They are looked at before they are rounded."""
    images = np.array([0, 1 - 2.0**-30, np.nan, 60000]).astype(dtype)
    corners = BOXES[:, 1:]
    expected = operator.function(features(), corners, SIZE, batch_indices=images, check_boxes=False)
    found = operator.function(there(features()), there(corners), SIZE, batch_indices=there(images))
    assert_same(found, expected)


HOST_BOXES = {
    "rows": BOXES,
    "float64": BOXES.astype(np.float64),
    "bfloat16": BOXES.astype(ml_dtypes.bfloat16),
    "big-endian": BOXES.astype(">f4"),
    "integers": BOXES.astype(np.int8),
    "list": PARTS,
    "numbers": [part.tolist() for part in PARTS],
    "one empty": [PARTS[0].tolist(), []],
    "here and there": [PARTS[0], there(PARTS[1])],
}


@pytest.mark.parametrize("boxes", HOST_BOXES.values(), ids=HOST_BOXES)
@EVERY_OPERATOR
def test_boxes_in_host_memory(operator, boxes):
    """They are copied over; their gradient comes back to where they are."""
    several = isinstance(boxes, list)
    on_host = [plain(part) for part in boxes] if several else boxes
    expected = operator.function(features(), on_host, SIZE)
    assert_same(operator.function(there(features()), boxes, SIZE), expected)
    assert machine.waits == 0
    assert machine.copies > 0
    upstream = gradient(boxes=len(expected))
    expected = operator.backward(upstream, features(), on_host)
    operator.backward(there(upstream), there(features()), boxes, needs="input")
    assert machine.waits == 0
    found = operator.backward(there(upstream), there(features()), boxes)
    assert_same(found[0], expected[0])
    pairs = (
        zip(found[1], expected[1], boxes, strict=True)
        if several
        else [(found[1], expected[1], boxes)]
    )
    for actual, wanted, given in pairs:
        if type(given) is ndarray:
            assert_same(actual, wanted)
        else:
            assert type(actual) is np.ndarray
            assert actual.dtype == wanted.dtype
            np.testing.assert_array_equal(bits(actual), bits(wanted))


BAD = {
    "NaN": (1, 2, np.nan),
    "infinite": (2, 4, -np.inf),
    "no such image": (1, 0, 2),
    "negative image": (3, 0, -1),
    "half an image": (0, 0, 0.5),
    "image NaN": (3, 0, np.nan),
    "image infinite": (1, 0, np.inf),
}


def bad(place, column, value):
    boxes = BOXES.copy()
    boxes[place, column] = value
    return boxes


@pytest.mark.parametrize("spoiled", BAD.values(), ids=BAD)
@EVERY_OPERATOR
def test_bad_boxes(called, operator, spoiled):
    """Zeros, in silence and without a wait, unless they are to be checked."""
    boxes = bad(*spoiled)
    expected = operator.function(features(), boxes, SIZE, check_boxes=False)
    assert not expected[spoiled[0]].any()
    for check in (None, False):
        found = operator.function(there(features()), there(boxes), SIZE, check_boxes=check)
        assert_same(found, expected)
        found = operator.backward(
            there(gradient()), there(features()), there(boxes), check_boxes=check
        )
        wanted = operator.backward(gradient(), features(), boxes, check_boxes=False)
        assert_all_same(found, wanted)
    assert machine.waits == 0
    called.names.clear()
    with pytest.raises((ValueError, IndexError)) as wanted:
        operator.function(features(), boxes, SIZE)
    with pytest.raises(wanted.type) as found:
        operator.function(there(features()), there(boxes), SIZE, check_boxes=True)
    assert str(found.value) == str(wanted.value)
    assert machine.waits == 1
    with pytest.raises(wanted.type) as found:
        operator.backward(there(gradient()), there(features()), there(boxes), check_boxes=True)
    assert str(found.value) == str(wanted.value)
    corners, images = boxes[:, 1:], boxes[:, 0]
    for function, upstream in ((operator.function, ()), (operator.backward, (gradient(),))):
        size = () if upstream else (SIZE,)
        on_host = {"batch_indices": images}
        with pytest.raises((ValueError, IndexError)) as wanted:
            function(*upstream, features(), corners, *size, **on_host)
        with pytest.raises(wanted.type) as found:
            function(
                *map(there, upstream), there(features()), there(corners), *size,
                batch_indices=there(images), check_boxes=True,
            )  # fmt: skip
        assert str(found.value) == str(wanted.value)
    assert not called.names


@EVERY_OPERATOR
def test_checked_boxes_that_are_good(operator):
    for boxes in (BOXES, PARTS, BOXES.astype(ml_dtypes.bfloat16)):
        expected = operator.function(features(), boxes, SIZE)
        found = operator.function(there(features()), on_device(boxes), SIZE, check_boxes=True)
        assert_same(found, expected)
    machine.waits = 0
    operator.function(there(features()), BOXES, SIZE, check_boxes=True)
    assert machine.waits == 0  # they are at hand
