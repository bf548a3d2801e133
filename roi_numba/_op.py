"""What every operator does, whoever owns the arrays: check, allocate, run the engine, hand back."""

import os
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np

from . import _arrays, _checks
from ._arrays import SupportsDLPack
from ._checks import choice, flag, int_pair

__all__ = ["Array", "Boxes", "Rule", "choice", "flag", "forward", "int_pair"]

_first_use = threading.RLock()
"""Held while an engine is imported.  No fork happens then: the child would wait for ever for a
module that nobody goes on importing."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_first_use.acquire,
        after_in_parent=_first_use.release,
        after_in_child=_first_use.release,
    )

Array = TypeVar("Array", bound=SupportsDLPack)
Boxes: TypeAlias = SupportsDLPack | list[Any] | tuple[Any, ...]


class Rule(NamedTuple):
    """What an operator is along one axis: its options and three ``@scalar`` functions.

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
    spatial_scale = _checks.scale("spatial_scale", spatial_scale)
    channel_axis = _checks.channel_axis(channel_axis)
    check = True if check_boxes is None else flag("check_boxes", check_boxes)
    if flag("return_argmax", return_argmax) and reduce == "mean":
        raise ValueError('return_argmax must be False with reduce="mean", got True')

    features = _arrays.native(_arrays.host("input", input))
    _checks.feature_map(features, channel_axis)
    leave = _arrays.handing_back(input)
    channels = features.shape[channel_axis]
    borrowed = _borrowed_boxes(input, boxes)
    numbers = None
    if batch_indices is not None:
        numbers = _arrays.native(_arrays.host("batch_indices", batch_indices))
    corners, images = _checks.regions(borrowed, numbers, features.shape[0], check)

    shape = (
        (len(corners), channels, *bins) if channel_axis == 1 else (len(corners), *bins, channels)
    )
    dtype = _arrays.result_dtype(features.dtype)
    if out is None:
        output = np.empty(shape, dtype)
    else:
        if _arrays.owner("out", out) is not _arrays.owner("input", input):
            raise TypeError(
                f"out must come from the library of input, got {type(out).__name__} for "
                f"{type(input).__name__}"
            )
        target = _arrays.host("out", out)
        _checks.result_array("out", target, shape, dtype)
        _checks.apart("out", target, "input", features)
        for part in borrowed if isinstance(borrowed, list) else [borrowed]:
            _checks.apart("out", target, "boxes", part)
        output = target if _arrays.addressable(target) else np.empty(shape, dtype)
    argmax = np.empty(shape, np.int64) if return_argmax else None

    if output.size:
        with _first_use:
            from ._cpu import engine

        if not _arrays.addressable(features):
            features = features.copy()
        T = corners.dtype.type
        scale = T(min(spatial_scale, float(np.finfo(T).max)))
        engine.pool(
            rule,
            reduce,
            ((scale, *options[0]), (scale, *options[1])),
            features,
            corners,
            images,
            output,
            argmax,
            channel_axis,
        )
    if out is None:
        result = leave(output)
    else:
        result = out
        if output is not target:
            target[...] = output
    return result if argmax is None else (result, leave(argmax))


def _borrowed_boxes(input: Any, boxes: Any) -> Any:
    """Boxes as NumPy arrays: of the input's library, of NumPy, or nested lists of numbers."""
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
            part = (part["bfloat16"].astype(np.uint32) << np.uint32(16)).view(np.float32)
        borrowed.append(part)
    return borrowed if several else borrowed[0]
