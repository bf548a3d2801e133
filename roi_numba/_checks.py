"""Every check of an argument, and what is said when it fails.

A message is one sentence: the argument, what was expected with its shape, what came.
"""

import math
import operator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ._arrays import BFLOAT16, widened


def _index(value: Any) -> int | None:
    """The integer that `value` is, or None; bool is none."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def int_pair(name: str, value: Any, minimum: int | None = None) -> tuple[int, int]:
    """An integer for both axes, or one for each: (height, width)."""
    least = 0 if minimum is None else minimum
    if type(value) is int and least <= value < 2**31:
        return value, value  # nearly every call, and small calls count microseconds
    if type(value) is tuple and len(value) == 2:
        height, width = value
        if type(height) is type(width) is int and least <= min(value) and max(value) < 2**31:
            return value
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    wanted = "an int or (height, width)"
    if minimum is not None:
        wanted += f" of at least {minimum}"
    if len(pair) != 2:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    height, width = (_index(item) for item in pair)
    if height is None or width is None:
        raise TypeError(f"{name} must be {wanted}, got {value!r}")
    if minimum is not None and min(height, width) < minimum:
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    if max(abs(height), abs(width)) >= 2**31:
        raise ValueError(f"{name} must be below 2**31, got {value!r}")
    return height, width


def whole(name: str, value: Any, minimum: int) -> int:
    """An integer of at least `minimum`."""
    number = _index(value)
    if number is None:
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value!r}")
    return number


def flag(name: str, value: Any) -> bool:
    """A bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return bool(value)


def choice(name: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of a few words."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    if value not in allowed:
        words = ", ".join(f'"{word}"' for word in allowed)
        raise ValueError(f"{name} must be one of {words}, got {value!r}")
    return value


def number(name: str, value: Any, wanted: str) -> float:
    """A number that a float can hold; `wanted` says what for."""
    try:
        # float("0.5") would do, and with a NumPy before 2.4 float(np.array([0.5])).
        if isinstance(value, (str, bytes)) or getattr(value, "ndim", False):
            raise TypeError
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be {wanted}, got a larger integer") from None
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number, got {type(value).__name__}") from None


def scale(name: str, value: Any, zero: bool = False) -> float:
    """A finite positive number, or perhaps zero."""
    if type(value) is float and 0 < value < math.inf:
        return value
    wanted = "finite and not negative" if zero else "finite and positive"
    found = number(name, value, wanted)
    if not (math.isfinite(found) and (found >= 0 if zero else found > 0)):
        raise ValueError(f"{name} must be {wanted}, got {value!r}")
    return found


def nested(name: str, values: Any) -> NDArray[Any]:
    """Nested lists of numbers as an array."""
    try:
        return np.asarray(values) if len(values) else np.empty((0, 4))
    except ValueError:
        raise ValueError(f"{name} must be rows of four numbers, got a ragged list") from None


def scale_pairs(name: str, values: Any, count: int) -> list[tuple[float, float]]:
    """Scales along y and x of each of several maps."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{name} must be a list of {count} scales, got {type(values).__name__}")
    if len(values) != count:
        raise ValueError(f"{name} must be {count} scales, one for each map, got {len(values)}")
    pairs = []
    for i, value in enumerate(values):
        pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
        if len(pair) != 2:
            raise ValueError(f"{name}[{i}] must be a number or (along y, along x), got {value!r}")
        pairs.append((scale(f"{name}[{i}]", pair[0]), scale(f"{name}[{i}]", pair[1])))
    return pairs


def channel_axis(value: Any) -> int:
    """1 or -1."""
    axis = value if type(value) is int else _index(value)
    if axis is None:
        raise TypeError(f"channel_axis must be 1 or -1, got {value!r}")
    if axis not in (1, -1):
        raise ValueError(f"channel_axis must be 1 or -1, got {value!r}")
    return axis


def feature_map(name: str, array: NDArray[Any], axis: int) -> None:
    """Four axes of real numbers."""
    names = "(N, C, H, W)" if axis == 1 else "(N, H, W, C)"
    if array.ndim != 4:
        raise ValueError(f"{name} must have shape {names}, got {array.shape}")
    kind, size = array.dtype.kind, array.itemsize
    if not (kind in "biu" or (kind == "f" and size in (2, 4, 8)) or array.dtype == BFLOAT16):
        raise TypeError(
            f"{name} must be of dtype float16, bfloat16, float32, float64, an integer or bool, "
            f"got {array.dtype}"
        )


def pyramid(maps: list[Any], axis: int) -> None:
    """Feature maps that differ in height and width alone."""
    for i, array in enumerate(maps):
        feature_map(f"inputs[{i}]", array, axis)
    alike(maps, axis)


def alike(maps: list[Any], axis: int) -> None:
    """Maps, arrays of any library, of one dtype, as many images and channels."""
    first = maps[0]
    for i, array in enumerate(maps):
        if array.dtype != first.dtype:
            raise TypeError(f"inputs[{i}] must be of dtype {first.dtype}, got {array.dtype}")
        if (array.shape[:1], array.shape[axis:][:1]) != (first.shape[:1], first.shape[axis:][:1]):
            raise ValueError(
                f"inputs[{i}] must have {first.shape[0]} images of {first.shape[axis]} channels "
                f"as inputs[0] has, got shape {tuple(array.shape)}"
            )


def needed(needs: Any) -> tuple[bool, bool]:
    """Which gradients are asked for: to the input, to the boxes."""
    names = (needs,) if isinstance(needs, str) else needs
    if not isinstance(names, (tuple, list, set, frozenset)):
        raise TypeError(f'needs must be a tuple of "input" and "boxes", got {needs!r}')
    if not all(isinstance(name, str) and name in ("input", "boxes") for name in names):
        raise ValueError(f'needs must name "input" or "boxes" or both, got {needs!r}')
    return "input" in names, "boxes" in names


def pooled(name: str, array: NDArray[Any], shape: tuple[Any, ...]) -> None:
    """An array of pooled shape, of any height and width, which `shape` has as words."""
    fits = array.ndim == len(shape) and all(
        found > 0 if isinstance(wanted, str) else found == wanted
        for found, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")


def result_array(name: str, array: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """An array that takes a result."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    if array.dtype != dtype:
        raise TypeError(f"{name} must be of dtype {dtype}, got {array.dtype}")


def writeable(name: str, array: NDArray[Any]) -> None:
    """An array that may be written to."""
    if not array.flags.writeable:
        raise ValueError(f"{name} must be writeable, got a read-only array")


def apart(name: str, array: NDArray[Any], other_name: str, other: NDArray[Any]) -> None:
    """Arrays that share no memory."""
    try:
        # NumPy's stubs know the limits 0 and -1 only.
        shared = np.shares_memory(array, other, max_work=1000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        shared = True
    if shared:
        raise ValueError(f"{name} must not share memory with {other_name}")


def geometry(name: str, boxes: Any) -> Any:
    """Boxes in the dtype their geometry is computed in."""
    if boxes.dtype.char in "fd" and boxes.dtype.isnative:
        return boxes  # as nearly always: to cast nothing takes 0.3 µs
    kind, size = boxes.dtype.kind, boxes.itemsize
    if kind == "V" and boxes.dtype == BFLOAT16:
        return widened(boxes)
    if not (kind in "iu" or (kind == "f" and size in (2, 4, 8))):
        raise TypeError(f"{name} must be of a float or integer dtype, got {boxes.dtype}")
    return boxes.astype(np.float32 if kind == "f" and size < 8 else np.float64, copy=False)


def boxes_by_image(boxes: list[Any], images: int) -> None:
    """One array of boxes for each image."""
    if len(boxes) != images:
        raise ValueError(
            f"boxes must be a list of {images} arrays, one per image, got {len(boxes)}"
        )
    for i, part in enumerate(boxes):
        if part.ndim != 2 or part.shape[1] != 4:
            raise ValueError(f"boxes[{i}] must have shape (L, 4), got {part.shape}")


def box_corners(name: str, boxes: Any, several: bool) -> None:
    """Rows of four numbers; unless there are several arrays, also of five."""
    if boxes.ndim != 2 or boxes.shape[1] not in ((4,) if several else (4, 5)):
        wanted = "(L, 4)" if several else "(K, 4) or (K, 5)"
        raise ValueError(f"{name} must have shape {wanted}, got {boxes.shape}")


def box_rows(boxes: Any, batch_indices: Any) -> None:
    """Rows of five numbers, or of four with batch indices."""
    if boxes.ndim == 2:
        width = boxes.shape[1]
        if width == 5 and batch_indices is None:
            return
        if width == 4 and batch_indices is not None:
            if batch_indices.shape != (len(boxes),):
                raise ValueError(
                    f"batch_indices must have shape ({len(boxes)},), got {batch_indices.shape}"
                )
            kind, size = batch_indices.dtype.kind, batch_indices.itemsize
            if not (kind in "iu" or (kind == "f" and size in (2, 4, 8))):
                raise TypeError(f"batch_indices must be integers, got dtype {batch_indices.dtype}")
            return
    given = "with" if batch_indices is not None else "without"
    raise ValueError(
        "boxes must have shape (K, 5), or (K, 4) with batch_indices, or be a list of arrays "
        f"(L, 4), one per image, got {boxes.shape} {given} batch_indices"
    )


def crop_boxes(boxes: Any, box_indices: Any) -> None:
    """Rows of four numbers, and an integer for each."""
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes must have shape (K, 4), got {boxes.shape}")
    if box_indices.shape != (len(boxes),):
        raise ValueError(f"box_indices must have shape ({len(boxes)},), got {box_indices.shape}")
    if box_indices.dtype.kind not in "iu":
        raise TypeError(f"box_indices must be integers, got dtype {box_indices.dtype}")


def regions(
    boxes: Any,
    batch_indices: Any,
    images: int,
    memory: Any,
    indices: str,
) -> tuple[Any, Any, str]:
    """Corners (K, 4) in the geometry dtype, image numbers (K,) and the name of those in messages.

    They are in a `Memory`.  Their values are not looked at: `box_values` does.
    """
    name = "batch index in boxes"
    if isinstance(boxes, list):
        if batch_indices is not None:
            raise ValueError("batch_indices must be None for a list of boxes, got an array")
        boxes_by_image(boxes, images)
        # An empty array has no say in the dtype of the geometry.
        parts = [
            memory.brought(geometry(f"boxes[{i}]", part))
            for i, part in enumerate(boxes)
            if len(part)
        ]
        corners, numbers = memory.joined(parts, [len(part) for part in boxes])
    else:
        box_rows(boxes, batch_indices)
        corners = memory.brought(geometry("boxes", boxes))
        if batch_indices is None:
            corners, numbers = corners[:, 1:], corners[:, 0]
        else:
            numbers, name = memory.brought(batch_indices), indices
    if len(corners) and not images:
        raise ValueError(f"input must have at least one image for {len(corners)} boxes, got none")
    return corners, numbers, name


def box_values(
    corners: NDArray[Any], numbers: NDArray[Any], name: str, images: int, check: bool
) -> NDArray[np.int64]:
    """Image numbers as int64; of boxes that are bad -1, or an error if that is to be checked."""
    if images and not np.count_nonzero(numbers):  # one image, nearly every small call
        whole = np.zeros(len(numbers), np.int64)
    else:
        with np.errstate(invalid="ignore"):  # NaN and 1e30 as integers are caught below
            whole = numbers.astype(np.int64)
        good = (whole == numbers) & (whole >= 0) & (whole < images)
        if not good.all():
            if check:
                _refuse_image(name, numbers, images, int(np.argmin(good)))
            whole = np.where(good, whole, -1)
    finite = np.isfinite(corners)
    if np.count_nonzero(finite) < finite.size:
        good = finite.all(axis=1)
        if check:
            k = int(np.argmin(good))
            raise ValueError(f"boxes must be finite, got {corners[k].tolist()} for box {k}")
        whole = np.where(good, whole, -1)
    return whole


def level_numbers(name: str, levels: Any, boxes: int) -> None:
    """One integer for each box."""
    if levels.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got dtype {levels.dtype}")
    if levels.shape != (boxes,):
        raise ValueError(f"{name} must have shape ({boxes},), got {levels.shape}")


def level_values(name: str, levels: NDArray[Any], maps: int) -> None:
    """Numbers of maps."""
    bad = (levels < 0) | (levels >= maps)
    if bad.any():
        k = int(np.argmax(bad))
        raise IndexError(f"{name} must be in [0, {maps}), got {levels[k]} for box {k}")


def _refuse_image(name: str, numbers: NDArray[Any], images: int, k: int) -> NoReturn:
    number = numbers[k].item()
    if not math.isfinite(number) or number != math.floor(number):
        raise ValueError(f"{name} must be whole numbers, got {number} for box {k}")
    raise IndexError(f"{name} must be in [0, {images}), got {math.floor(number)} for box {k}")
