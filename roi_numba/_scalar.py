"""Scalar mathematics shared by the operators, compiled for whichever device calls it.

House rules for a ``@scalar`` body (each broken once and measured, docs/design.md):

* scalars in, scalars or a small tuple out;
* no bare float literal: ``T = type(x)`` and ``T(0.5)``, else float32 becomes float64;
* ``int(math.floor(x))``, never ``math.floor(x)``: int64 on CPU, float32 on CUDA;
* no fast-math: it moves sample positions by 1e-5 and adaptive counts by one.

The mark compiles nothing and imports no compiler: an engine registers what is marked.
"""

import math
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

Real: TypeAlias = Any
"""A float32 or float64: geometry is computed in the dtype of the boxes."""

Function = TypeVar("Function", bound=Callable[..., Any])

SCALARS: list[Callable[..., Any]] = []
"""Every marked function: engines look here, and change nothing."""


def scalar(function: Function) -> Function:
    """Mark a function as shared scalar mathematics; it stays plain Python."""
    SCALARS.append(function)
    return function


MANY_SAMPLES = 2**31
"""Samples of a bin along an axis beyond which those that may touch the map are counted alone.

Two such axes have more samples than int64 can number.
"""

CORNER_LIMIT = 2**30
"""Rounded corners beyond this lie off every map; clamping them keeps integers small."""


@scalar
def on_scale(x: Real) -> bool:
    """Whether a coordinate is finite and small enough for whole pixels to be exact."""
    T = type(x)
    # 2**24 + 1 is the first integer that float32 cannot hold.
    float32 = T(16777217) == T(16777216)
    limit = T(16777216) if float32 else T(9007199254740992)
    return bool(abs(x) <= limit)


@scalar
def round_half_away(x: Real) -> Real:
    """Nearest integer, halves away from zero, as C's round(): 2.5 -> 3, -0.5 -> -1.

    Compiled, it goes through an int64: larger numbers are the caller's to keep out.
    """
    T = type(x)
    size = abs(x)
    whole = T(math.floor(size))
    # floor(size + 0.5) would round 0.49999997 up: size - whole is exact.
    if size - whole >= T(0.5):
        whole += T(1)
    return whole if x >= T(0) else -whole


@scalar
def clamped(x: Real, limit: int) -> Real:
    """``x`` between ``-limit`` and ``limit``."""
    T = type(x)
    return min(max(x, T(-limit)), T(limit))


@scalar
def clamped_tap(t: Real, border: Real, size: int) -> tuple[int, Real, Real]:
    """Linear interpolation at ``t`` on an axis that repeats its edge for ``border`` pixels.

    Returns a pixel, its weight, and the weight of the next pixel; both are zero outside.
    """
    T = type(t)
    if size == 0 or not (t >= -border and t <= T(size - 1) + border):
        return 0, T(0), T(0)
    t = max(t, T(0))
    low = int(t)
    if low >= size - 1:
        return size - 1, T(1), T(0)
    fraction = t - T(low)
    return low, T(1) - fraction, fraction


@scalar
def clamped_slope(t: Real, size: int) -> tuple[int, Real, Real]:
    """How the weights of `clamped_tap` change with ``t``: not at all where it is clamped.

    At a whole pixel, where they have a kink, it is the change to the next pixel.
    """
    T = type(t)
    if not (t >= T(0) and t < T(size)):  # 1e30 is no integer
        return 0, T(0), T(0)
    low = int(t)
    if low >= size - 1:
        return 0, T(0), T(0)
    return low, T(-1), T(1)


@scalar
def faded_tap(t: Real, size: int) -> tuple[int, Real, Real]:
    """Linear interpolation at ``t`` on an axis continued by zeros: it fades over one pixel."""
    T = type(t)
    if size == 0 or not (t > T(-1) and t < T(size)):
        return 0, T(0), T(0)
    low = int(math.floor(t))
    fraction = t - T(low)
    if low < 0:
        return low, T(0), fraction
    if low >= size - 1:
        return low, T(1) - fraction, T(0)
    return low, T(1) - fraction, fraction


@scalar
def faded_slope(t: Real, size: int) -> tuple[int, Real, Real]:
    """How the weights of `faded_tap` change with ``t``."""
    T = type(t)
    if not (t > T(-1) and t < T(size)):
        return 0, T(0), T(0)
    low = int(math.floor(t))
    return low, T(-1) if low >= 0 else T(0), T(1) if low + 1 < size else T(0)


@scalar
def at_rate(change: Real, rate: Real) -> Real:
    """How fast what changes by ``change`` does, at a rate, which may be NaN or infinite.

    What does not change may be the weight of a pixel that is not there: it stays 0.
    """
    return change * rate if change != 0 else change
