"""What every operator does, whoever owns the arrays: check, allocate, run the engine, hand back."""

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from . import _arrays, _checks
from ._arrays import SupportsDLPack
from ._checks import choice, flag, int_pair

__all__ = ["Array", "Boxes", "Rule", "choice", "flag", "forward", "int_pair"]

first_use = threading.RLock()
"""Held while an engine is imported.  No fork happens then: the child would wait for ever for a
module that nobody goes on importing."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=first_use.acquire,
        after_in_parent=first_use.release,
        after_in_child=first_use.release,
    )

_engine: Any = None

LARGEST = {kind: float(np.finfo(kind).max) for kind in (np.float32, np.float64)}

Array = TypeVar("Array", bound=SupportsDLPack)
Boxes: TypeAlias = SupportsDLPack | list[Any] | tuple[Any, ...]


class Rule(NamedTuple):
    """What an operator is along one axis: its options and four ``@scalar`` functions.

    ``options(...)``
        The operator's own options, checked -> those of the y and of the x axis.
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
    call = enter(options, input, boxes, spatial_scale, batch_indices, channel_axis, check_boxes)
    shape = call.output_shape(bins)
    dtype = _arrays.result_dtype(call.features.dtype)
    if out is None:
        output = np.empty(shape, dtype)
    else:
        same_library("out", out, input)
        target = _arrays.host("out", out)
        _checks.result_array("out", target, shape, dtype)
        _checks.apart("out", target, "input", call.features)
        for part in call.borrowed if isinstance(call.borrowed, list) else [call.borrowed]:
            _checks.apart("out", target, "boxes", part)
        output = target if _arrays.addressable(target) else np.empty(shape, dtype)
    argmax = np.empty(shape, np.int64) if return_argmax else None
    if output.size:
        call.pool(rule, reduce, output, argmax)
    if out is None:
        result = call.leave(output)
    else:
        result = out
        if output is not target:
            target[...] = output
    return result if argmax is None else (result, call.leave(argmax))


class Call(NamedTuple):
    """The arguments that all calls share, checked and as NumPy arrays."""

    features: NDArray[Any]
    borrowed: NDArray[Any] | list[NDArray[Any]]
    corners: NDArray[Any]
    images: NDArray[np.int64]
    options: Any
    channel_axis: int
    leave: Callable[[NDArray[Any]], Any]

    def output_shape(self, bins: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of a pooled result."""
        boxes, channels = len(self.corners), self.features.shape[self.channel_axis]
        return (boxes, channels, *bins) if self.channel_axis == 1 else (boxes, *bins, channels)

    def pool(
        self, rule: Rule, reduce: str, output: NDArray[Any], argmax: Any, motion: Any = None
    ) -> None:
        """Run the engine's forward."""
        (_engine or _cpu_engine()).pool(
            rule, reduce, self.options, self.features, self.corners, self.images, output, argmax,
            self.channel_axis, motion,
        )  # fmt: skip

    def bins_like_output(self, name: str, array: Any, input: Any) -> NDArray[Any]:
        """A gradient with respect to a pooled result, of any size."""
        same_library(name, array, input)
        bins = _arrays.native(_arrays.host(name, array))
        _checks.pooled(name, bins, self.output_shape(("height", "width")))  # type: ignore[arg-type]
        dtype = _arrays.result_dtype(self.features.dtype)
        if bins.dtype != dtype:
            raise TypeError(f"{name} must be of dtype {dtype}, got {bins.dtype}")
        return bins if _arrays.addressable(bins) else bins.copy()

    def names(
        self, rule: Rule, reduce: str, argmax: Any, input: Any, shape: Any
    ) -> NDArray[np.int64]:
        """The winners of a maximum: `argmax`, or found again."""
        if argmax is None:
            names = np.empty(shape, np.int64)
            if names.size:
                pooled = np.empty(shape, _arrays.result_dtype(self.features.dtype))
                self.pool(rule, reduce, pooled, names)
            return names
        same_library("argmax", argmax, input)
        names = _arrays.native(_arrays.host("argmax", argmax))
        if names.dtype != np.int64:
            raise TypeError(f"argmax must be of dtype int64, got {names.dtype}")
        if shape is None:
            _checks.pooled("argmax", names, self.output_shape(("height", "width")))  # type: ignore[arg-type]
        elif names.shape != shape:
            raise ValueError(f"argmax must have shape {shape}, got {names.shape}")
        return names if _arrays.addressable(names) else names.copy()

    def at_winners(self, rule: Rule, reduce: str, names: NDArray[np.int64]) -> tuple[Any, ...]:
        """What the engine's `at_winners` begins with."""
        return (
            rule, reduce, self.options, self.features, names, self.corners, self.images,
            self.channel_axis,
        )  # fmt: skip

    def velocity(self, motion: Any) -> NDArray[Any]:
        """How the corners move, in the dtype of the geometry."""
        array = _arrays.widened(_arrays.native(_arrays.host("motion", motion)))
        return np.ascontiguousarray(array, self.corners.dtype)


def enter(
    options: tuple[tuple[Any, ...], tuple[Any, ...]],
    input: Any,
    boxes: Any,
    spatial_scale: Any,
    batch_indices: Any,
    channel_axis: Any,
    check_boxes: Any,
) -> Call:
    """Check and borrow what all calls share."""
    spatial_scale = _checks.scale("spatial_scale", spatial_scale)
    channel_axis = _checks.channel_axis(channel_axis)
    check = True if check_boxes is None else flag("check_boxes", check_boxes)
    features = _arrays.native(_arrays.host("input", input))
    _checks.feature_map(features, channel_axis)
    leave = _arrays.handing_back(input)
    borrowed = _borrowed_boxes(input, boxes)
    numbers = None
    if batch_indices is not None:
        numbers = _arrays.native(_arrays.host("batch_indices", batch_indices))
    corners, images = _checks.regions(borrowed, numbers, features.shape[0], check)
    if not _arrays.addressable(features):
        features = features.copy()
    T = corners.dtype.type
    scale = T(min(spatial_scale, LARGEST[T]))
    both = (scale, *options[0]), (scale, *options[1])
    return Call(features, borrowed, corners, images, both, channel_axis, leave)


def same_library(name: str, array: Any, input: Any) -> None:
    if _arrays.owner(name, array) is not _arrays.owner("input", input):
        raise TypeError(
            f"{name} must come from the library of input, got {type(array).__name__} for "
            f"{type(input).__name__}"
        )


def _cpu_engine() -> Any:
    """The CPU engine, imported by the first call that computes."""
    global _engine
    with first_use:
        from ._cpu import engine

        _engine = engine
    return engine


def _borrowed_boxes(input: Any, boxes: Any) -> Any:
    """Boxes as NumPy arrays: of the input's library, of NumPy, or nested lists of numbers."""
    if type(boxes) is np.ndarray and boxes.dtype.isnative and boxes.dtype.kind != "V":
        return boxes  # nearly every small call
    several = isinstance(boxes, (list, tuple))
    home = _arrays.owner("input", input)
    borrowed = []
    for part in boxes if several else [boxes]:
        if several and isinstance(part, (list, tuple)):
            try:
                part = np.asarray(part) if len(part) else np.empty((0, 4))
            except ValueError:
                raise ValueError("boxes must be rows of four numbers, got a ragged list") from None
        if _arrays.owner("boxes", part) not in (home, np):
            raise TypeError(
                f"boxes must come from the library of input or NumPy, got {type(part).__name__} "
                f"for {type(input).__name__}"
            )
        part = _arrays.native(_arrays.host("boxes", part))
        if part.dtype == _arrays.BFLOAT16:
            part = _arrays.widened(part)
        borrowed.append(part)
    return borrowed if several else borrowed[0]
