"""Calls that are right, of every public function; a few have boxes or an `out` that are not."""

import math
from random import Random

import numpy as np

from operators import OPERATORS
from strategies import result_dtype

from .case import (
    Case,
    geometry,
    maps,
    meant_by,
    put_boxes,
    put_maps,
    put_out,
    rows_of,
    size_of,
    through_dlpack,
)
from .figures import BOXES, NOT_FINITE, SCALES, as_dtype, pick, side, values
from .memory import Memory, plain
from .spoil import spoil


def draw(seed, index):
    """Case number `index`: the same in every process, whatever came before."""
    random = Random(f"{seed} {index}")
    case = _right(random, Memory(random))
    if random.random() < 0.2:
        spoil(case)
    return case


def _right(random, memory):
    choice = random.random()
    if choice < 0.45:
        return pooling(random, memory)
    if choice < 0.72:
        return pooling_backward(random, memory)
    if choice < 0.8:
        return cropping(random, memory)
    if choice < 0.86:
        return cropping_backward(random, memory)
    if choice < 0.92:
        return pooling(random, memory, levels=random.randint(1, 4))
    if choice < 0.96:
        return pooling_backward(random, memory, levels=random.randint(1, 4))
    return assigning(random, memory) if choice < 0.995 else weighing(random, memory)


# ---- operators -----------------------------------------------------------------------------


def pooling(random, memory, levels=0):
    """The forward of an operator, perhaps over a pyramid."""
    case, reduction = _begin(random, memory, "", levels)
    size, bins = size_of(random, case)
    case.arguments["output_size"] = size
    case.meaning["bins"] = bins
    if not levels or case.reduce_levels == "assigned":
        if reduction != "mean" and random.random() < 0.4:
            case.arguments["return_argmax"] = True
        channels = case.maps[0].shape[1]
        shape = [len(case.rows), *bins]
        shape.insert(1 if case.axis == 1 else 3, channels)
        dtype = result_dtype(case.maps[0].dtype)
        put_out(case, tuple(shape), dtype, [a for a in case.read() if a.size])
    through_dlpack(case)
    return case


def pooling_backward(random, memory, levels=0):
    """Its gradients."""
    case, reduction = _begin(random, memory, "_backward", levels)
    _, bins = size_of(random, case)
    case.meaning["bins"] = bins
    channels = case.maps[0].shape[1] * (len(case.maps) if case.reduce_levels == "concat" else 1)
    dtype = result_dtype(case.maps[0].dtype)
    kind = pick(random, {"normal": 60, "ties": 20, "tiny": 10, "special": 10})
    grad = values(random, (len(case.rows), channels, *bins), dtype, kind)
    given = memory.put(np.moveaxis(grad, 1, case.axis))
    case.arguments["grad_output"] = given
    case.meaning["grad"] = plain(np.moveaxis(given, case.axis, 1))
    case.meaning["grad_kind"] = kind
    if random.random() < 0.4:
        needs = random.choice(("input", "boxes", ("input",), ["boxes"], {"boxes", "input"}, ()))
        case.arguments["needs"] = needs
    if random.random() < 0.1:
        case.arguments["deterministic"] = random.random() < 0.5
    named = reduction != "mean" and case.reduce_levels == "assigned" and not case.refused
    if named and random.random() < 0.5:
        _put_winners(case)
    through_dlpack(case)
    return case


def _put_winners(case):
    """What the forward names, or anything."""
    random = case.random
    from .judge import named_by_the_forward

    names = named_by_the_forward(case)
    if random.random() < 0.1 and names.size:
        names = names.copy()
        for _ in range(random.randint(1, 4)):
            place = random.randrange(names.size)
            names.flat[place] = random.choice((-1, 0, 1, 5, 10**6, -2, 2**31, 2**62, -(2**63)))
        case.refused = None
    given = case.memory.put(np.moveaxis(names, 1, case.axis))
    case.arguments["argmax"] = given
    case.meaning["argmax"] = plain(np.moveaxis(given, case.axis, 1))
    if not np.array_equal(case.argmax, names):  # repeated by the layout: others' names
        case.refused = None


def _begin(random, memory, way, levels):
    """Everything that both ways have."""
    operator = random.choice(OPERATORS)
    reduction = random.choice(list(operator.reductions))
    case = Case(f"pyramid_pool{way}" if levels else operator.name + way, random, memory)
    case.arguments |= operator.reductions[reduction]
    own = {k: random.choice(v) for k, v in operator.options.items() if random.random() < 0.6}
    case.arguments |= own
    axis = random.choice((1, 1, 1, -1))
    if axis == -1 or random.random() < 0.2:
        case.arguments["channel_axis"] = axis
    shapes, dtype, kind = maps(random, levels or 1)
    given, meant = put_maps(case, shapes, dtype, kind, axis)
    case.meaning |= {"operator": operator, "reduction": reduction, "own": own, "axis": axis}
    case.meaning |= {"maps": meant, "kind": kind, "reduce_levels": "assigned"}
    scales = [(scale, scale) for scale in (pick(random, SCALES) for _ in shapes)]
    if levels:
        if random.random() < 0.3:
            scales = [(y, random.choice((0.5, 1.0, y))) for y, _ in scales]
        case.arguments["op"] = operator.function
        case.arguments["inputs"] = given if random.random() < 0.8 else tuple(given)
        case.arguments["spatial_scales"] = [
            y if y == x and random.random() < 0.5 else (y, x) for y, x in scales
        ]
    else:
        case.arguments["input"] = given[0]
        if scales[0][0] != 1 or random.random() < 0.5:
            case.arguments["spatial_scale"] = random.choice((float, np.float64))(scales[0][0])
    case.meaning["scales"] = scales
    put_boxes(case, *rows_of(random, shapes, scales), shapes[0][0])
    if levels:
        _put_levels(case)
    return case, reduction


def _put_levels(case):
    random = case.random
    if random.random() < 0.35:
        how = random.choice(("sum", "mean", "max", "concat"))
        case.arguments["reduce_levels"] = case.meaning["reduce_levels"] = how
        return
    levels, count = case.levels, len(case.maps)
    if random.random() < 0.05 and len(levels):
        levels = levels.copy()
        levels[random.randrange(len(levels))] = random.choice((-1, count, 2**40))
    if count > 1 or random.random() < 0.5 or (levels != 0).any():
        case.arguments["levels"] = case.memory.put(levels)
        levels = plain(case.arguments["levels"])
        if ((levels < 0) | (levels >= count)).any():
            case.refused = case.refused or case.arguments.get("check_boxes") is not False
    case.meaning["levels"] = levels


# ---- crops ---------------------------------------------------------------------------------


def cropping(random, memory):
    """crop_and_resize."""
    case = _begin_crops(random, memory, "")
    size, bins = size_of(random, case)
    case.arguments["crop_size"] = size
    case.meaning["bins"] = bins
    if random.random() < 0.6:
        case.arguments["extrapolation_value"] = random.choice((0, -7.5, 3, 1e300, math.nan))
    shape = [len(case.corners), *bins]
    shape.insert(3 if case.axis == -1 else 1, case.maps[0].shape[3])
    put_out(case, tuple(shape), np.dtype(np.float32), [a for a in case.read() if a.size])
    through_dlpack(case)
    return case


def cropping_backward(random, memory):
    """Its gradients."""
    case = _begin_crops(random, memory, "_backward")
    _, bins = size_of(random, case)
    case.meaning["bins"] = bins
    shape = len(case.corners), *bins, case.maps[0].shape[3]
    kind = pick(random, {"normal": 60, "ties": 20, "tiny": 10, "special": 10})
    grad = np.moveaxis(values(random, shape, np.dtype(np.float32), kind), -1, case.axis)
    case.arguments["grad_output"] = memory.put(grad)
    case.meaning["grad"] = plain(np.moveaxis(case.arguments["grad_output"], case.axis, -1))
    case.meaning["grad_kind"] = kind
    if random.random() < 0.3:
        case.arguments["needs"] = random.choice(("input", ("boxes",), {"boxes", "input"}, ()))
    through_dlpack(case)
    return case


def _begin_crops(random, memory, way):
    case = Case(f"crop_and_resize{way}", random, memory)
    options = {
        "method": ("bilinear", "nearest"),
        "normalized": (True, False),
        "edges": ("exact", "tensorflow"),
    }
    own = {name: random.choice(each) for name, each in options.items() if random.random() < 0.6}
    case.arguments |= own
    axis = random.choice((-1, -1, 1))
    if axis == 1 or random.random() < 0.2:
        case.arguments["channel_axis"] = axis
    (shape,), dtype, kind = maps(random, 1)
    images, channels, *sides = shape
    array = values(random, (images, *sides, channels), dtype, kind)
    given = memory.put(np.moveaxis(array, -1, axis))
    case.arguments["input"] = given
    reach = [max(n - 1, 1) if own.get("normalized", True) else 1 for n in sides]
    scales = [(float(reach[0]), float(reach[1]))]
    rows, _ = rows_of(random, [shape], scales)
    corners = as_dtype(rows[:, [2, 1, 4, 3]], pick(random, BOXES))
    numbers = as_dtype(rows[:, 0], np.dtype(random.choice(["i8", "i4", "u1", "u8", "i2"])))
    case.arguments |= {"boxes": memory.put(corners), "box_indices": memory.put(numbers)}
    # What the layout repeats is what is meant.
    corners, numbers = plain(case.arguments["boxes"]), plain(case.arguments["box_indices"])
    with np.errstate(all="ignore"):
        meant, good = meant_by(numbers, corners, images, geometry(corners.dtype))
    case.meaning |= {"own": own, "axis": axis, "kind": kind, "corners": meant[:, 1:]}
    case.meaning |= {"maps": [plain(np.moveaxis(given, axis, -1))], "numbers": meant[:, 0]}
    if not good:
        case.refused = random.random() < 0.4
        case.arguments["check_boxes"] = case.refused
    if len(rows) and not images:
        case.refused = True
    return case


# ---- the rest ------------------------------------------------------------------------------


def assigning(random, memory):
    """assign_levels."""
    case = Case("assign_levels", random, memory)
    count = random.choice((0, 1, 3, 8))
    known = 0, 56.0, 112, 224, 1e200, *NOT_FINITE
    corners = [
        random.choice((random.uniform(-1000, 2000), random.choice(known))) for _ in range(20)
    ]
    rows = np.array([[0, *random.sample(corners, 4)] for _ in range(count)]).reshape(-1, 5)
    dtype = np.dtype(random.choice((np.float64, np.float64, np.float32, np.int32, np.float16)))
    array = as_dtype(rows[:, random.randrange(2) :], dtype)
    given = memory.put(array)
    case.meaning["corners"] = plain(given)[:, -4:].astype(np.float64)
    form = random.random()
    if form < 0.15:
        given = given.tolist()
    elif form < 0.3 and array.shape[1] == 4:
        cut = random.randint(0, count)
        given = [given[:cut], given[cut:]]
    lowest = random.randint(-4, 4)
    options = {
        "canonical_size": random.choice((1, 56, 224.0, 0.3)),
        "canonical_level": random.randint(-2, 5),
        "rounding": random.choice(("floor", "round")),
        "epsilon": random.choice((0, 1e-8, 1e-6, 0.5)),
        "epsilon_inside": random.random() < 0.5,
        "pixel_offset": random.random() < 0.5,
    }
    own = {name: value for name, value in options.items() if random.random() < 0.6}
    own |= {"min_level": lowest, "max_level": lowest + random.randint(0, 7)}
    case.arguments |= {"boxes": given, **own}
    case.meaning["own"] = own
    return case


def weighing(random, memory):
    """axis_weights."""
    case = Case("axis_weights", random, memory)
    operator = random.choice([each for each in OPERATORS if "mean" in each.reductions])
    # An option of roi_pool's has the name of the number of bins.
    own = {name: random.choice(each) for name, each in operator.options.items() if name != "bins"}
    own = {name: 2 if isinstance(value, tuple) else value for name, value in own.items()}
    size, scale = random.randint(1, 12), random.choice((1.0, 0.5, 0.37))
    rows = [side(random, size) for _ in range(random.randint(0, 3))]
    boxes = as_dtype(np.array(rows).reshape(-1, 2), np.dtype(random.choice(("f4", "f8"))))
    given = memory.put(boxes)
    case.arguments |= {"op": random.choice((operator.name, operator.function)), "boxes": given}
    case.arguments |= {"size": size, "bins": random.randint(1, 4), "spatial_scale": scale, **own}
    case.meaning |= {"operator": operator, "own": own, "sides": plain(given), "scale": scale}
    case.meaning |= {"size": size, "n_bins": case.arguments["bins"]}
    return case
