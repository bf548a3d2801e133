"""The table of bad and odd input: what is wrong with a call, and what happens.

`test_bad_input_matrix` runs every row over operators, backends and bindings; the site shows it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import reference
import reference_crops
import reference_gradients
import roi_numba
from operators import OPERATORS
from strategies import result_dtype, values

SHAPE = (2, 3, 8, 9)
SIZE = (2, 3)
RESULT = (3, 3, *SIZE)
ROWS = [(0, 1.25, 1, 6, 5.5), (1, 0, 0, 8, 7), (1, 2.5, 3, 4, 6)]
SPOILT = 1
"""The box that most rows spoil."""

NUMBER, X1, Y1, X2, Y2 = range(5)


# ---- what is called ------------------------------------------------------------------------


@dataclass(frozen=True)
class Operator:
    """An operator with what makes one call of it, and what its messages call things."""

    name: str
    options: dict
    words: dict

    @property
    def function(self):
        return getattr(roi_numba, self.name)

    @property
    def backward(self):
        return getattr(roi_numba, f"{self.name}_backward")

    @property
    def crops(self):
        return self.name == "crop_and_resize"

    def call(self):
        """A good call."""
        maps, rows = values(5, SHAPE, np.float32), np.array(ROWS, np.float32)
        if not self.crops:
            return {"input": maps, "boxes": rows, "output_size": SIZE, **self.options}
        boxes, numbers = rows[:, [Y1, X1, Y2, X2]], rows[:, 0].astype(np.int64)
        call = {"input": maps, "boxes": boxes, "box_indices": numbers, "crop_size": SIZE}
        return call | {"normalized": False, "channel_axis": 1}

    def expected(self, call):
        """What the reference makes of a call."""
        call = dict(call)
        if not self.crops:
            return getattr(reference, self.name)(**call)
        images = np.moveaxis(call.pop("input"), call.pop("channel_axis"), -1)
        return np.moveaxis(reference_crops.crop_and_resize(images, **call), -1, 1)

    def expected_gradients(self, grad, call):
        """And of its way back."""
        call = {name: value for name, value in call.items() if name not in FORWARD_ONLY}
        if not self.crops:
            return getattr(reference_gradients, f"{self.name}_backward")(grad, **call)
        images = np.moveaxis(call.pop("input"), call.pop("channel_axis"), -1)
        to_images, to_boxes = reference_crops.crop_and_resize_backward(
            np.moveaxis(grad, 1, -1), images, **call
        )
        return np.moveaxis(to_images, -1, 1), to_boxes


FORWARD_ONLY = ("output_size", "crop_size", "out", "return_argmax")

_CHOICES = {
    "roi_pool": ("bins", "few", 'bins must be one of "exact", "float", "truncate", got \'few\''),
    "roi_align": (
        "reduce", "avg", 'reduce must be one of "mean", "max", "max_corner", got \'avg\'',
    ),
    "roi_warp": ("reduce", "avg", 'reduce must be one of "max", "mean", got \'avg\''),
    "crop_pool": ("border", "wrap", 'border must be one of "zeros", "cut", got \'wrap\''),
    "prroi_pool": ("aligned", 1, "aligned must be True or False, got 1"),
    "crop_and_resize": (
        "method", "cubic", 'method must be one of "bilinear", "nearest", got \'cubic\'',
    ),
}  # fmt: skip
_POOLING = {
    "numbers": "batch index in boxes",
    "indices": "batch_indices",
    "size": "output_size",
    "nan": "[0.0, 0.0, nan, 7.0]",
    "infinite": "[-inf, 0.0, 8.0, 7.0]",
    "shapes": "(K, 5), or (K, 4) with batch_indices, or be a list of arrays (L, 4), one per image",
    "without": " without batch_indices",
}
_CROPPING = {
    "numbers": "box_indices",
    "indices": "box_indices",
    "size": "crop_size",
    "nan": "[0.0, 0.0, 7.0, nan]",
    "infinite": "[0.0, -inf, 7.0, 8.0]",
    "shapes": "(K, 4)",
    "without": "",
}
EVERY = [
    Operator(each.name, options, _POOLING)
    for each in OPERATORS
    for options in each.reductions.values()
]
EVERY.append(Operator("crop_and_resize", {}, _CROPPING))


def upstream(operator, call):
    """A gradient of a result, whatever the map and however many boxes."""
    maps, boxes = call["input"], call["boxes"]
    channels = maps.shape[1] if getattr(maps, "ndim", 0) == 4 else SHAPE[1]
    kind = getattr(maps, "dtype", np.dtype(np.float32))
    dtype = np.dtype(np.float32) if operator.crops or kind.kind == "c" else result_dtype(kind)
    return values(3, (len(boxes), channels, *SIZE), dtype.type)


def assert_near(actual, expected):
    """Sums of some dozen terms, each no larger than a few; perhaps rounded to 16 bits."""
    assert actual.shape == expected.shape
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite)
    eps = 1e-3 if actual.dtype == np.float16 else 1e-5
    limit = eps * max(1, np.abs(expected[finite]).max(initial=0))
    actual = np.where(finite, actual.astype(np.float64), 0)
    np.testing.assert_allclose(actual, np.where(finite, expected, 0), rtol=0, atol=limit)


# ---- what is wrong with it -----------------------------------------------------------------


def always(operator, back):
    return True


@dataclass(frozen=True)
class Row:
    """A row: what is bad, how a good call gets it, and what happens.

    ``says``: the message of the ``error``, in the operator's words.  Without an error the input is
    odd, not bad, ``says`` tells readers what comes of it, and tests that it is the reference's.
    """

    what: str
    change: Callable
    error: type | tuple | None
    says: str
    unchecked: bool = False
    """With ``check_boxes=False`` the spoilt box gives zeros and has no gradient."""
    only: Callable = always
    """Which operators have such an argument, forward or back."""
    autograd: bool = True
    """Whether the bindings for autograd have it."""

    def message(self, operator):
        return self.says.format(**operator.words, choice=_CHOICES[operator.name][2])


def _rows(call):
    return np.array(call["boxes"], np.float32)


def corner(column, value):
    """Another coordinate of the spoilt box."""

    def change(operator, call):
        boxes = _rows(call)
        order = [None, 1, 0, 3, 2] if operator.crops else [None, 1, 2, 3, 4]
        boxes[SPOILT, order[column]] = value
        return {"boxes": boxes}

    return change


def corners(*four):
    """Another box in place of the spoilt one."""

    def change(operator, call):
        boxes = _rows(call)
        x1, y1, x2, y2 = four
        boxes[SPOILT, -4:] = (y1, x1, y2, x2) if operator.crops else four
        return {"boxes": boxes}

    return change


def number(value):
    """Another image of the spoilt box."""

    def change(operator, call):
        if operator.crops:
            numbers = call["box_indices"].copy()
            numbers[SPOILT] = value
            return {"box_indices": numbers}
        boxes = _rows(call)
        boxes[SPOILT, NUMBER] = value
        return {"boxes": boxes}

    return change


def some(count):
    """The first of the boxes."""

    def change(operator, call):
        fewer = {"boxes": call["boxes"][:count]}
        return fewer | ({"box_indices": call["box_indices"][:count]} if operator.crops else {})

    return change


def map_of(function):
    """Another map."""
    return lambda operator, call: {"input": function(call["input"])}


def given(name, value):
    """Another argument."""
    return lambda operator, call: {operator.words.get(name, name): value}


def spoilt_pixel(value):
    """One value in the map."""

    def change(maps):
        maps = maps.copy()
        maps[1, 1, 4, 3] = value
        return maps

    return map_of(change)


def pooling(operator, back):
    return not operator.crops


def forward(operator, back):
    return not back


def backward(operator, back):
    return back


def option(operator, call):
    """A word that the operator does not know."""
    name, value, _ = _CHOICES[operator.name]
    return {name: value}


def fewer_numbers(operator, call):
    """Images of two of the three boxes."""
    if operator.crops:
        return {"box_indices": call["box_indices"][:2]}
    return {"boxes": call["boxes"][:, 1:], "batch_indices": np.zeros(2, np.int64)}


NAN, INF = float("nan"), float("inf")
DTYPES = "float16, bfloat16, float32, float64, an integer or bool"
TABLE = [
    Row("a NaN in a box", corner(X2, NAN), ValueError,
        "boxes must be finite, got {nan} for box 1", True),
    Row("an infinite box", corner(X1, -INF), ValueError,
        "boxes must be finite, got {infinite} for box 1", True),
    Row("an image number that is too large", number(2), IndexError,
        "{numbers} must be in [0, 2), got 2 for box 1", True),
    Row("a negative image number", number(-1), IndexError,
        "{numbers} must be in [0, 2), got -1 for box 1", True),
    Row("half an image number", number(0.5), ValueError,
        "{numbers} must be whole numbers, got 0.5 for box 1", True, pooling),
    Row("a NaN for an image number", number(NAN), ValueError,
        "{numbers} must be whole numbers, got nan for box 1", True, pooling),
    Row("boxes, but no image", map_of(lambda maps: maps[:0]), ValueError,
        "input must have at least one image for 3 boxes, got none"),
    Row("fewer image numbers than boxes", fewer_numbers, ValueError,
        "{indices} must have shape (3,), got (2,)"),
    Row("a list of boxes for one of two images",
        lambda operator, call: {"boxes": [call["boxes"][:, 1:]]}, ValueError,
        "boxes must be a list of 2 arrays, one per image, got 1", only=pooling),
    Row("boxes of three numbers", lambda operator, call: {"boxes": call["boxes"][:, :3]},
        ValueError, "boxes must have shape {shapes}, got (3, 3){without}"),
    Row("boxes of bool", lambda operator, call: {"boxes": call["boxes"] > 0}, TypeError,
        "boxes must be of a float or integer dtype, got bool"),
    Row("a map of three axes", map_of(lambda maps: maps[0]), ValueError,
        "input must have shape (N, C, H, W), got (3, 8, 9)"),
    Row("a complex map", map_of(lambda maps: maps.astype(np.complex64)), TypeError,
        f"input must be of dtype {DTYPES}, got complex64"),
    Row("something that is no array", given("input", [[1.0]]), TypeError,
        "input must be an array, got list", autograd=False),
    Row("an output of no bins", given("size", 0), ValueError,
        "{size} must be an int or (height, width) of at least 1, got 0", only=forward),
    Row("an `out` of another shape", given("out", np.zeros((3, 3, 3, 2), np.float32)), ValueError,
        "out must have shape (3, 3, 2, 3), got (3, 3, 3, 2)", only=forward, autograd=False),
    Row("a scale of zero", given("spatial_scale", 0), ValueError,
        "spatial_scale must be finite and positive, got 0", only=pooling),
    Row("channels on an axis that cannot be", given("channel_axis", 2), ValueError,
        "channel_axis must be 1 or -1, got 2"),
    Row("an option that is none", option, (ValueError, TypeError), "{choice}"),
    Row("a gradient of another shape", given("grad_output", np.ones((3, 3, 2), np.float32)),
        ValueError, "grad_output must have shape (3, 3, height, width), got (3, 3, 2)",
        only=backward, autograd=False),
    Row("a gradient of another dtype", given("grad_output", np.ones(RESULT)), TypeError,
        "grad_output must be of dtype float32, got float64", only=backward, autograd=False),
    Row("a box of 1e30 pixels", corners(-1e30, -1e30, 1e30, 1e30), None,
        "zeros; of `roi_pool` what its bins meet of the map"),
    Row("a box far off the map", corners(100, 100, 120, 110), None, "zeros, and no gradient"),
    Row("a box with its corners reversed", corners(6, 5, 2, 1), None,
        "`roi_pool`: one cell; `roi_align`: one pixel, aligned none; `roi_warp`: a point; "
        "`prroi_pool`: zeros; crops: flipped"),
    Row("a box that is a point", corners(3, 2, 3, 2), None,
        "`roi_pool`: a cell; `roi_align`: a pixel, aligned none; `prroi_pool`: zeros; others: "
        "the point"),
    Row("boxes of another dtype than the map",
        lambda operator, call: {"boxes": call["boxes"].astype(np.float64)}, None,
        "their geometry in their own dtype"),
    Row("no boxes", some(0), None, "an empty result, a gradient of zeros"),
    Row("a map without channels", map_of(lambda maps: maps[:, :0]), None, "an empty result"),
    Row("a map without rows", map_of(lambda maps: maps[:, :, :0]), None, "zeros"),
    Row("a map of one pixel", map_of(lambda maps: maps[:, :, :1, :1]), None,
        "as any other map"),
    Row("a map of float16", map_of(lambda maps: maps.astype(np.float16)), None,
        "added up in float32, rounded once"),
    Row("a NaN in the map", spoilt_pixel(NAN), None,
        "NaN in the means that weigh it; maxima pass over it"),
    Row("an infinity in the map", spoilt_pixel(INF), None, "infinite in the bins that weigh it"),
]  # fmt: skip
