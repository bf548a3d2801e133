"""A call and what it is made of: maps, boxes in their forms, an `out`; and what it means."""

from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np

from test_dlpack import Foreign

from .figures import BOXES, KINDS, MAPS, NOT_FINITE, as_dtype, pick, side, values
from .memory import Memory, plain

CHANNELS = 1, 1, 2, 3, 3, 8, 15, 16, 17, 31, 33
SIZES = 1, 1, 2, 2, 3, (1, 2), (2, 3), (4, 1), (3, 3), 5, 7, (1, 14)
INDEX_DTYPES = ["i8", "i8", "i8", "i4", "u1", "u8", "f4", "f8", "f2"]


@dataclass
class Case:
    """One call; what it means, in arrays without layouts, is for the judge."""

    function: str
    random: Random
    memory: Memory
    arguments: dict[str, Any] = field(default_factory=dict)
    refused: bool | None = False
    """Whether it has to be; None: it may be."""
    out: Any = None
    """The array that a result is written to."""
    spoilt: Any = False
    """Whether an argument was made wrong."""
    meaning: dict[str, Any] = field(default_factory=dict)

    def read(self):
        """The arrays among the arguments."""
        return [each for value in self.arguments.values() for each in _arrays_of(value)]

    def __getattr__(self, name):
        try:
            return self.meaning[name]
        except KeyError:
            raise AttributeError(name) from None


# ---- maps and boxes ------------------------------------------------------------------------


def maps(random, count):
    """Logical (N, C, H, W) of each, a dtype, and what is in them."""
    if random.random() < 0.01:  # enough for several threads
        shapes = [(1, 64, random.randint(30, 60), random.randint(30, 60))] * count
    elif random.random() < 0.003:  # enough for results that are written past the caches
        channels = random.randint(256, 290)
        shapes = [(1, channels, random.randint(64, 70), random.randint(64, 70))] * count
    elif random.random() < 0.02:  # enough for blocks of channels to go together
        channels = random.randint(300, 600)
        shapes = [(1, channels, random.randint(1, 8), random.randint(1, 8)) for _ in range(count)]
    else:
        images, channels = random.choice((1, 1, 2, 3)), random.choice(CHANNELS)
        sides = [(random.randint(1, 12), random.randint(1, 12)) for _ in range(count)]
        if random.random() < 0.03:
            sides = [random.choice(((0, 3), (3, 0), (0, 0), (1, 1), (40, 2))) for _ in sides]
        images, channels = (
            0 if random.random() < 0.01 else images,
            0 if random.random() < 0.01 else channels,
        )
        shapes = [(images, channels, *each) for each in sides]
    return shapes, pick(random, MAPS), pick(random, KINDS)


def put_maps(case, shapes, dtype, kind, axis):
    """As the caller has them, and as they are meant."""
    given = []
    for shape in shapes:
        array = values(case.random, shape, dtype, kind)
        given.append(case.memory.put(np.moveaxis(array, 1, axis)))
    return given, [plain(np.moveaxis(array, axis, 1)) for array in given]


def rows_of(random, shapes, scales):
    """Rows (image, x1, y1, x2, y2) in float64, and the number of the map that each is on."""
    count = random.choice((0, 1, 1, 1, 2, 2, 3, 4, 6))
    if shapes[0][1] == 64 or random.random() < 0.005:
        count = 40
    if shapes[0][1] > 64:
        count = random.choice((1, 3, 90))
    images, spoil = shapes[0][0], random.random() < 0.12
    if not images and random.random() < 0.7:
        count = 0
    rows, levels = [], []
    for _ in range(count):
        level = random.randrange(len(shapes))
        (height, width), (scale_y, scale_x) = shapes[level][2:], scales[level]
        (x1, x2), (y1, y2) = side(random, width), side(random, height)
        box = x1 / scale_x, y1 / scale_y, x2 / scale_x, y2 / scale_y
        row = [random.randrange(max(images, 1)), *box]
        if spoil and random.random() < 0.5:
            if random.random() < 0.5:
                row[random.randint(1, 4)] = random.choice(NOT_FINITE)
            else:
                row[0] = random.choice((-1, images, 0.5, 1e30, -1e30, 2.0**31, *NOT_FINITE))
        rows.append(row)
        levels.append(level)
    return np.array(rows, np.float64).reshape(-1, 5), np.array(levels, np.int64)


def geometry(dtype):
    return np.float64 if dtype == np.float64 or dtype.kind in "iu" else np.float32


def meant_by(numbers, corners, images, dtype):
    """Rows in the dtype of the geometry, -1 for boxes on no image; whether all are good."""
    numbers = np.asarray(numbers).astype(np.float64)
    good = np.isfinite(numbers) & (numbers % 1 == 0) & (numbers >= 0) & (numbers < images)
    finite = np.isfinite(corners).all(axis=1)
    rows = np.empty((len(corners), 5), dtype)
    rows[:, 0], rows[:, 1:] = np.where(good & finite, numbers, -1), corners
    return rows, bool((good & finite).all())


def put_boxes(case, rows, levels, images):
    """Boxes in one of their forms, and levels in their order."""
    random, memory, arguments = case.random, case.memory, case.arguments
    dtype = pick(random, BOXES)
    form = random.random()
    with np.errstate(all="ignore"):
        # A layout may repeat some of the values: what it has is what is meant.
        if form < 0.5:
            arguments["boxes"] = memory.put(as_dtype(rows, dtype))
            given = plain(arguments["boxes"])
            meant, good = meant_by(given[:, 0], given[:, 1:], images, geometry(dtype))
        elif form < 0.75:
            kind = np.dtype(random.choice(INDEX_DTYPES))
            arguments["boxes"] = memory.put(as_dtype(rows[:, 1:], dtype))
            arguments["batch_indices"] = memory.put(as_dtype(rows[:, 0], kind))
            given = plain(arguments["boxes"]), plain(arguments["batch_indices"])
            meant, good = meant_by(*given[::-1], images, geometry(dtype))
        else:
            meant, good, levels = _put_list(case, rows, levels, images, dtype)
    case.meaning |= {"rows": meant, "levels": levels}
    if not good:
        check = random.choice((True, None, False, False, False))
        case.refused = check is not False
        if check is not None:
            arguments["check_boxes"] = check
    elif random.random() < 0.2:
        arguments["check_boxes"] = random.choice((True, False, None))
    if len(meant) and not images:
        case.refused = True


def _put_list(case, rows, levels, images, dtype):
    """An array or nested list for each image."""
    random, numbers = case.random, np.nan_to_num(rows[:, 0], posinf=-1, neginf=-1)
    parts, order, kinds = [], [], set()
    for image in range(images):
        chosen = np.flatnonzero(numbers == image)
        part = as_dtype(rows[chosen, 1:], dtype if random.random() < 0.9 else np.dtype(np.float64))
        if random.random() < 0.15:
            part = part.astype(np.float64).tolist()
            kind = np.float64
        else:
            kind = geometry(part.dtype)
            part = case.memory.put(part)
        if len(chosen):
            kinds.add(kind)
        parts.append(part)
        order += chosen.tolist()
    T = np.float64 if np.float64 in kinds or not kinds else np.float32
    corners = [plain(np.asarray(part)).astype(np.float64).reshape(-1, 4) for part in parts]
    corners = np.concatenate(corners) if corners else np.empty((0, 4))
    case.arguments["boxes"] = parts if random.random() < 0.7 else tuple(parts)
    meant, good = meant_by(numbers[order], corners, images, T)
    return meant, good, levels[order]


# ---- what calls have in common -------------------------------------------------------------


def size_of(random, case):
    """An output size in one of its forms, and (height, width)."""
    size = random.choice(SIZES)
    pair = (size, size) if isinstance(size, int) else size
    if random.random() < 0.2:
        size = random.choice((list(pair), pair, (np.int64(pair[0]), np.uint8(pair[1]))))
    return size, pair


def put_out(case, shape, dtype, inputs):
    """An `out` of the right shape, or perhaps over memory that is read."""
    random = case.random
    if random.random() < 0.7:
        return
    if random.random() < 0.12 and inputs:
        other = random.choice(inputs)
        out = case.memory.over(other, shape, dtype)
        if out is None:
            return
        shared = [each for each in case.read() if np.shares_memory(out, each)]
        # What is copied before the call writes may be overwritten.
        refused = any(each.dtype.isnative and _regular(each) for each in shared)
        case.refused = case.refused or refused or None
    else:
        out = case.memory.put(np.full(shape, 77, dtype), to_write=True)
    case.arguments["out"] = case.out = out


def _arrays_of(value):
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, (list, tuple)):
        return [each for part in value for each in _arrays_of(part)]
    return []


def through_dlpack(case):
    """All arrays come through DLPack, if they can."""
    if case.random.random() > 0.06 or "inputs" in case.arguments:
        return
    if not all(map(_exportable, case.read())):
        return
    for name, value in case.arguments.items():
        if isinstance(value, np.ndarray):
            case.arguments[name] = Foreign(value)
        elif name == "boxes":
            case.arguments[name] = [
                Foreign(part) if isinstance(part, np.ndarray) else part for part in value
            ]


def _exportable(array):
    return array.dtype.isnative and array.dtype.kind in "biuf" and _regular(array)


def _regular(array):
    return array.flags.aligned and not any(stride % array.itemsize for stride in array.strides)
