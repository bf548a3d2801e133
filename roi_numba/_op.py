"""What every operator does, whoever owns the arrays: check, allocate, run the engine, hand back."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from . import _arrays, _checks
from ._arrays import SupportsDLPack, home, same_library
from ._checks import choice, flag, int_pair, scale_pairs
from ._memory import Memory, memory_of

__all__ = [
    "Array", "Boxes", "Pyramid", "Rule", "choice", "flag", "forward", "home", "int_pair",
    "scale_pairs",
]  # fmt: skip

LARGEST = {kind: float(np.finfo(kind).max) for kind in (np.float32, np.float64)}

Array = TypeVar("Array", bound=SupportsDLPack)
Boxes: TypeAlias = SupportsDLPack | list[Any] | tuple[Any, ...]


class Rule(NamedTuple):
    """What an operator is along one axis: its options and four ``@scalar`` functions.

    ``options(...)``
        The operator's own options, checked -> those of the y and of the x axis, always of the same
        types: code is compiled for those of the first call.
    ``span(low, high, bins, options)``
        A box from ``low`` to ``high`` in image pixels -> whatever the others need to know of it.
    ``entries(span, p, bins, size, options)``
        Bin ``p`` -> ``(first, last, divisor)``: the entries it reads, samples or cells, where they
        touch an axis of ``size`` pixels, and what the mean over them is divided by.
    ``entry(span, p, k, bins, size, options)``
        Entry ``k`` -> ``(pixel, weight, next_weight)``: it reads ``weight * map[pixel] +
        next_weight * map[pixel + 1]``; no pixel off the map has a weight.
    ``slope(span, p, k, bins, size, options)``
        Entry ``k`` -> ``(pixel, change, next_change, by_low, by_high)``: how its two weights change
        with its position, and how far it moves with the box's low and high end; None if nothing
        changes with the box.

    The functions get the options of their axis after ``spatial_scale``, in the dtype of the
    geometry.  In two dimensions a bin reads all pairs of its entries along both axes: a mean
    divides their sum, a maximum picks one and calls it by pixel or by sample (`argmax`: "cell",
    "sample" or "none").  Every operator on every engine is made of these functions.
    """

    name: str
    options: Callable[..., Any]
    span: Callable[..., Any]
    entries: Callable[..., Any]
    entry: Callable[..., Any]
    slope: Callable[..., Any] | None
    argmax: str


def forward(
    rule: Rule,
    options: tuple[tuple[Any, ...], tuple[Any, ...]],
    input: Array,
    boxes: Boxes,
    output_size: Any,
    spatial_scale: Any,
    *,
    reduce: str,
    return_argmax: Any,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    out: Any,
) -> Any:
    """Pool `input` over `boxes` by `rule`; `options` are those of the y and of the x axis."""
    bins = int_pair("output_size", output_size, minimum=1)
    if flag("return_argmax", return_argmax) and reduce == "mean":
        raise ValueError('return_argmax must be False with reduce="mean", got True')
    with memory_of("input", first_map(input)) as memory:
        call = enter(
            memory, options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes
        )
        shape = call.output_shape(bins)
        dtype = _arrays.result_dtype(call.features.dtype)
        target, output = call.room(out, input, shape, dtype)
        argmax = memory.empty(shape, np.int64) if return_argmax else None
        if output.size:
            call.pool(rule, reduce, output, argmax)
        result = call.result(out, target, output)
        return result if argmax is None else (result, call.leave(argmax))


class Pyramid(NamedTuple):
    """What an operator may get for its input and scale: several maps, of which a box is on one.

    ``scales`` are those of the y and the x axis, for each map; ``levels`` has the number of each
    box's map.
    """

    inputs: list[Any]
    scales: list[tuple[float, float]]
    levels: Any


class Call(NamedTuple):
    """The arguments that all calls share, checked and as arrays of the engine's kind.

    With several maps `features` and `options` are those of the first, `levels` has all.  `beside`:
    what is read besides maps and boxes, by its name.
    """

    memory: Memory
    features: Any
    borrowed: Any
    corners: Any
    images: Any
    options: Any
    channel_axis: int
    leave: Callable[[Any], Any]
    levels: "Levels | None" = None
    beside: tuple[tuple[str, Any], ...] = ()

    def output_shape(self, bins: tuple[Any, ...]) -> tuple[Any, ...]:
        """Shape of a pooled result."""
        boxes, channels = len(self.corners), self.features.shape[self.channel_axis]
        return (boxes, channels, *bins) if self.channel_axis == 1 else (boxes, *bins, channels)

    def room(self, out: Any, input: Any, shape: tuple[int, ...], dtype: Any) -> tuple[Any, Any]:
        """The caller's `out`, if any, as an array; and what an engine fills, it or a new one."""
        memory = self.memory
        if out is None:
            return None, memory.empty(shape, dtype)
        same_library("out", out, first_map(input))
        target = memory.target("out", out)
        _checks.result_array("out", target, shape, dtype)
        for name, part in (*self.maps(), *self.beside):
            memory.apart("out", target, name, part)
        for part in self.borrowed if isinstance(self.borrowed, list) else [self.borrowed]:
            memory.apart("out", target, "boxes", part)
        return target, target if memory.direct(target) else memory.empty(shape, dtype)

    def result(self, out: Any, target: Any, output: Any) -> Any:
        """What is handed back of what `room` gave, once it is filled."""
        if out is None:
            return self.leave(output)
        if output is not target:
            target[...] = output
        return out

    def pool(self, rule: Rule, reduce: str, output: Any, argmax: Any, motion: Any = None) -> None:
        """Run the engine's forward."""
        if self.levels is not None:
            self.memory.engine.pool_levels(
                rule, reduce, self.levels.options, self.levels.maps, self.levels.of_box,
                self.corners, self.images, output, argmax, self.channel_axis,
            )  # fmt: skip
            return
        self.memory.engine.pool(
            rule, reduce, self.options, self.features, self.corners, self.images, output, argmax,
            self.channel_axis, motion,
        )  # fmt: skip

    def maps(self) -> list[tuple[str, Any]]:
        """All that is pooled, as the caller calls it."""
        if self.levels is None:
            return [("input", self.features)]
        return [(f"inputs[{i}]", each) for i, each in enumerate(self.levels.maps)]

    def level_by_level(self) -> Iterator["Call"]:
        """One call for each map, in which the boxes of others are on no image."""
        if self.levels is None:
            yield self
            return
        of_box, options = self.levels.of_box, self.levels.options
        for level, features in enumerate(self.levels.maps):
            images = self.memory.only(self.images, of_box == level)
            yield self._replace(
                features=features, options=options[level], images=images, levels=None
            )

    def bins_like_output(self, name: str, array: Any, input: Any, dtype: Any = None) -> Any:
        """A gradient with respect to a pooled result, of any size; unless said, in its dtype."""
        same_library(name, array, first_map(input))
        bins = self.memory.source(name, array)
        _checks.pooled(name, bins, self.output_shape(("height", "width")))
        if dtype is None:
            dtype = _arrays.result_dtype(self.features.dtype)
        if bins.dtype != dtype:
            raise TypeError(f"{name} must be of dtype {dtype}, got {bins.dtype}")
        return bins

    def names(self, rule: Rule, reduce: str, argmax: Any, input: Any, shape: Any) -> Any:
        """The winners of a maximum: `argmax`, or found again."""
        if argmax is None:
            names = self.memory.empty(shape, np.int64)
            if names.size:
                dtype = _arrays.result_dtype(self.features.dtype)
                self.pool(rule, reduce, self.memory.empty(shape, dtype), names)
            return names
        same_library("argmax", argmax, first_map(input))
        names = self.memory.source("argmax", argmax)
        if names.dtype != np.int64:
            raise TypeError(f"argmax must be of dtype int64, got {names.dtype}")
        if shape is None:
            _checks.pooled("argmax", names, self.output_shape(("height", "width")))
        elif names.shape != shape:
            raise ValueError(f"argmax must have shape {shape}, got {names.shape}")
        return names

    def at_winners(self, rule: Rule, reduce: str, names: Any) -> tuple[Any, ...]:
        """What the engine's `at_winners` begins with."""
        return (
            rule, reduce, self.options, self.features, names, self.corners, self.images,
            self.channel_axis,
        )  # fmt: skip

    def to_map_of_mean(self, rule: Rule, grad: Any, manner: dict[str, Any]) -> Any:
        """The gradient of a mean to the map, in the dtype of `grad` or a wider one."""
        return self.memory.gradients.to_map_of_mean(
            rule, self.options, grad, self.corners, self.images, self.features.shape,
            self.channel_axis, **manner,
        )  # fmt: skip

    def to_boxes_of_mean(self, rule: Rule, grad: Any) -> Any:
        """The gradient (K, 4) of a mean to the corners."""
        return self.memory.gradients.to_boxes_of_mean(
            rule, self.options, grad, self.features, self.corners, self.images, self.channel_axis
        )

    def velocity(self, motion: Any) -> Any:
        """How the corners move, in the dtype of the geometry."""
        array = self.memory.brought(_arrays.widened(self.memory.boxes("motion", motion)))
        return array.astype(self.corners.dtype, order="C", copy=False)


class Levels(NamedTuple):
    """The maps of a pyramid, the options of each and the number of each box's map."""

    maps: list[Any]
    options: list[Any]
    of_box: Any


def first_map(input: Any) -> Any:
    """The input itself, or the first of a pyramid."""
    return input.inputs[0] if type(input) is Pyramid else input


def enter(
    memory: Memory,
    options: tuple[tuple[Any, ...], tuple[Any, ...]],
    input: Any,
    boxes: Any,
    spatial_scale: Any,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
    indices: str = "batch_indices",
) -> Call:
    """Check and borrow what all calls share; `memory` is that of `input`, and entered.

    `indices`: what the caller calls `batch_indices`.
    """
    channel_axis = _checks.channel_axis(channel_axis)
    check = memory.checks if check_boxes is None else flag("check_boxes", check_boxes)
    if type(input) is Pyramid:
        maps = [memory.source(f"inputs[{i}]", each) for i, each in enumerate(input.inputs)]
        _checks.pyramid(maps, channel_axis)
        pyramid, scales, features, input = input, input.scales, maps[0], input.inputs[0]
    else:
        spatial_scale = _checks.scale("spatial_scale", spatial_scale)
        features = memory.source("input", input)
        _checks.feature_map("input", features, channel_axis)
        pyramid, scales = None, [(spatial_scale, spatial_scale)]
    leave = memory.handing_back(input)
    if type(boxes) is type(input):  # nearly every small call
        borrowed = memory.boxes("boxes", boxes)
    else:
        borrowed = _borrowed_boxes(memory, input, boxes)
    numbers = None
    beside: tuple[tuple[str, Any], ...] = ()
    if batch_indices is not None:
        numbers = memory.boxes(indices, batch_indices)
        beside = ((indices, numbers),)
    corners, images = memory.regions(borrowed, numbers, features.shape[0], check, indices)
    T = corners.dtype.type
    of_maps = [
        ((T(min(y, LARGEST[T])), *options[0]), (T(min(x, LARGEST[T])), *options[1]))
        for y, x in scales
    ]
    levels = None
    if pyramid is not None:
        given = pyramid.levels
        if given is not None:
            given = memory.boxes("levels", given)
            beside = (*beside, ("levels", given))
        of_box, images = memory.levels(given, len(corners), len(maps), images, check)
        levels = Levels(maps, of_maps, of_box)
    return Call(
        memory, features, borrowed, corners, images, of_maps[0], channel_axis, leave, levels, beside
    )


def _borrowed_boxes(memory: Memory, input: Any, boxes: Any) -> Any:
    """Boxes as arrays: of the input's library, of NumPy, or nested lists of numbers."""
    several = isinstance(boxes, (list, tuple))
    home = _arrays.owner("input", input)
    borrowed = []
    for part in boxes if several else [boxes]:
        if several and isinstance(part, (list, tuple)):
            part = _checks.nested("boxes", part)
        if _arrays.owner("boxes", part) not in (home, np):
            raise TypeError(
                f"boxes must come from the library of input or NumPy, got {type(part).__name__} "
                f"for {type(input).__name__}"
            )
        borrowed.append(memory.boxes("boxes", part))
    return borrowed if several else borrowed[0]
