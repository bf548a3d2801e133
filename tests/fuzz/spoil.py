"""Arguments that are wrong: whatever else is given, they have to be refused."""

import math
from typing import Any

import ml_dtypes
import numpy as np

NO_ARRAY = [None, 3, 2.5, True, "a", b"x", {}, {1}, object(), iter(()), np.ndarray, range(3), ...]
NO_PAIR = [0, -1, 2.5, 7.0, "2", None, (), (1,), (1, 2, 3), (2, "a"), (2, 2.0), math.nan, {}, True,
           -(2**31), (2, 0), [2, -1], np.ones((2, 2), int), object(), 1j, [[1, 2]]]  # fmt: skip
HUGE = [2**31, 10**30, (1, 2**40)]
NO_SCALE = [0, -1.0, math.nan, math.inf, -math.inf, "1", None, 1j, [1.0], (1.0, 2.0), 10**400, {},
            np.ones(2), np.zeros(0), b"1", object(), False]  # fmt: skip
NO_NUMBER = ["1", None, 1j, [1.0], 10**400, {}, np.ones(2), b"1", object()]
NO_FLAG = [0, 1, 1.0, "yes", "", [], np.int64(1), np.ones(2, bool), object()]
NO_CHOICE = ["nonsense", "", None, 3, True, ["mean"], b"mean", "MEAN", ("max",), object()]
NO_AXIS = [0, 2, -2, 3, 1.0, None, "last", True, 10**30, -(10**30), [1], (1,), object()]
NO_NEEDS = [None, 2, True, "both", "", ("input", "weights"), ("input", 1), [["input"]], b"input",
            {"input": 1}, iter(("input",)), object()]  # fmt: skip
NO_SAMPLES = [
    1.5,
    "2",
    None,
    (),
    (2,),
    (1, 2, 3),
    2**40,
    (1, -(2**31)),
    {},
    True,
    object(),
    math.nan,
]
NO_INTEGER = [2.0, "2", None, (), [1], True, math.nan, object(), {}]
ARRAYS = "input boxes grad_output argmax batch_indices box_indices out levels".split()
MAY_BE_NONE = ("argmax", "batch_indices", "out", "levels")


def _kinds(function):
    """What may stand for each argument, wrongly."""
    kinds: dict[str, Any] = {
        "spatial_scale": NO_SCALE,
        "channel_axis": NO_AXIS,
        "check_boxes": NO_FLAG,
    }
    if function in ("assign_levels", "axis_weights"):
        kinds = {
            "min_level": NO_INTEGER, "max_level": [*NO_INTEGER, -(10**9)], "rounding": NO_CHOICE,
            "canonical_size": NO_SCALE, "canonical_level": [*NO_INTEGER, -(10**9)],
            "epsilon": ["0", None, -1, math.nan, math.inf, {}], "pixel_offset": NO_FLAG,
            "epsilon_inside": NO_FLAG,
        } if function == "assign_levels" else {
            "op": [None, 3, "nothing", "Rule", np.mean, "set_num_threads", object()],
            "size": [*NO_INTEGER, -1], "bins": [*NO_INTEGER, 0, -1], "spatial_scale": NO_SCALE,
        }  # fmt: skip
        return kinds
    if function.startswith("crop_and_resize"):
        del kinds["spatial_scale"]
        kinds |= {"normalized": NO_FLAG, "method": NO_CHOICE, "edges": NO_CHOICE}
        if not function.endswith("_backward"):
            kinds |= {"crop_size": NO_PAIR + HUGE, "extrapolation_value": NO_NUMBER}
    elif not function.endswith("_backward"):
        kinds["output_size"] = NO_PAIR + HUGE
    if function.startswith("pyramid"):
        del kinds["spatial_scale"]
        kinds |= {
            "op": [None, 3, "roi_align", np.mean, len, object()],
            "inputs": [*NO_ARRAY, [], (), [None], [3, 4], np.ones((2, 2, 2, 2))],
            "spatial_scales": [None, 3, "1", [], [1.0] * 9, [None], [(1, 2, 3)], [0.0], {}],
            "reduce_levels": NO_CHOICE,
        }
    if function.endswith("_backward"):
        kinds |= {"needs": NO_NEEDS, "deterministic": NO_FLAG}
    return kinds


OWN = {
    "roi_pool": {"rounding": NO_CHOICE, "bins": NO_CHOICE, "reduce": NO_CHOICE},
    "roi_align": {"sampling_ratio": NO_SAMPLES, "aligned": NO_FLAG, "reduce": NO_CHOICE},
    "roi_warp": {"sampling_ratio": [*NO_SAMPLES, 0, -1, (2, 0)], "quantize": NO_FLAG},
    "crop_pool": {"border": NO_CHOICE},
    "prroi_pool": {"aligned": NO_FLAG},
}
DTYPES = ["c8", "c16", "O", "U3", "S2", "M8[s]", "m8[s]", "g", [("a", "f4")], ml_dtypes.float8_e5m2]


def spoil(case):
    """Make one argument wrong, rarely two."""
    surely = _spoil_one(case)
    if case.random.random() < 0.1:  # which may mend the first
        surely = _spoil_one(case) and False
    case.refused, case.spoilt = surely or None, True


def _spoil_one(case):
    """Whether that has to be refused."""
    random, arguments = case.random, case.arguments
    kinds = _kinds(case.function)
    if "operator" in case.meaning and case.function != "axis_weights":
        kinds |= OWN[case.operator.name]
    choice = random.random()
    present = [name for name in ARRAYS if isinstance(arguments.get(name), np.ndarray)]
    if choice < 0.4:
        name = random.choice(list(kinds))
        arguments[name] = random.choice(kinds[name])
        sure = True
    elif choice < 0.6 and present:
        name = random.choice(present)
        value = random.choice(NO_ARRAY)
        sure = not (value is None and name in MAY_BE_NONE) and case.function != "axis_weights"
        arguments[name] = value
    elif choice < 0.93 and present:
        name = random.choice(present)
        arguments[name], sure = _another(random, name, arguments[name])
        if arguments[name] is None:
            sure = False
    elif choice < 0.97:
        arguments[random.choice(("weights", "Input", "outputsize", "dtype", "axis"))] = sure = True
    else:
        name = random.choice(list(arguments))
        sure = name in ("input", "boxes", "output_size", "grad_output", "crop_size", "box_indices")
        del arguments[name]
    return sure


def _another(random, name, array):
    """The array with another shape or dtype, and whether that can never do."""
    choice = random.random()
    if array.dtype.kind not in "biufV" or not array.ndim:  # it is spoilt already
        return array[None], True
    with np.errstate(all="ignore"):
        if choice < 0.3:
            dtype = random.choice(DTYPES)
            return np.zeros(array.shape, dtype), True
        if choice < 0.45:
            return array[None], True
        if choice < 0.6 and array.ndim:
            # An index of no boxes, a scale of one box: rarely this is another argument's form.
            return array[..., 0] if array.shape[-1] else array[None], name != "boxes"
        if choice < 0.75:
            return np.concatenate([array, array[:1]]) if len(array) else array[None], False
        if choice < 0.85:
            return array[:-1], False
        if choice < 0.95:
            return array.astype(random.choice(["f2", "f4", "f8", "i8", "u1", "?"])), False
        return np.moveaxis(array, 0, -1), False
