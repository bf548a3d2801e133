"""Numbers to try: what lies in maps, and where the sides of boxes are."""

import math
import zlib

import ml_dtypes
import numpy as np

MAPS = {
    np.dtype(dtype): weight
    for dtype, weight in {
        np.float32: 40, np.float64: 20, np.float16: 9, ml_dtypes.bfloat16: 9, np.uint8: 8,
        np.int64: 4, np.bool_: 3, np.int32: 2, np.int8: 1, np.int16: 1, np.uint16: 1,
        np.uint32: 1, np.uint64: 1,
    }.items()
}  # fmt: skip
BOXES = {
    np.dtype(dtype): weight
    for dtype, weight in {
        np.float32: 50, np.float64: 25, np.float16: 6, ml_dtypes.bfloat16: 6, np.int64: 5,
        np.int32: 4, np.uint8: 2, np.int16: 1, np.uint64: 1,
    }.items()
}  # fmt: skip
KINDS = {"normal": 50, "ties": 20, "special": 10, "tiny": 10, "large": 10}
FINITE = ("normal", "ties", "tiny", "large")

_POOL_SIZE = 1 << 16
_pools = {}


def _pool(dtype, kind):
    rng = np.random.default_rng(zlib.crc32(f"{dtype} {kind}".encode()))
    if dtype.kind == "b":
        return rng.integers(0, 2, _POOL_SIZE).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if kind == "large" else (max(info.min, -3), 4)
        return rng.integers(low, high, _POOL_SIZE, dtype=dtype)
    if kind == "ties":
        return rng.integers(-3, 4, _POOL_SIZE).astype(dtype)
    pool = rng.standard_normal(_POOL_SIZE)
    if kind == "large":
        pool *= 1000.0 if dtype == np.float16 else 1e12
    if kind == "tiny":  # denormal numbers among them, and zeros of both signs
        pool *= 64 * float(ml_dtypes.finfo(dtype).tiny) * rng.random(_POOL_SIZE) ** 12
    if kind == "special":
        hit = rng.random(_POOL_SIZE) < 0.1
        pool[hit] = rng.choice([np.nan, np.inf, -np.inf, -0.0], hit.sum())
    return pool.astype(dtype)


def values(random, shape, dtype, kind):
    """An array that may be written to, and need not."""
    key = dtype, kind
    if key not in _pools:
        _pools[key] = _pool(dtype, kind)
    pool, size = _pools[key], math.prod(shape)
    if size > _POOL_SIZE // 2:
        return np.resize(pool[:65521], shape)  # a prime, so that no channel is like another
    first = random.randrange(_POOL_SIZE - size)
    return pool[first : first + size].reshape(shape)


def pick(random, weights):
    """A key, as likely as its value says."""
    return random.choices(list(weights), weights.values())[0]


SPECIAL = [
    0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e-45, -1e-45, 1e-40, 1.1754944e-38, 0.5, -0.5, -1.0,
    math.nextafter(-1, 0), math.nextafter(-1, -2), math.nextafter(0.5, 0), float(np.float32(1) / 3),
    2.0**24, 2.0**24 + 1, 2.0**30, 2.0**31 - 1, 2.0**31, 2.0**32, 2.0**53, 2.0**63, 2.0**64,
    -(2.0**31), -(2.0**63), 8000.0, -4000.0, 1e7, 1e10, 1e30, -1e30, 3e38, -3.4028234663852886e38,
    1e300, -1e300, 1.7976931348623157e308,
]  # fmt: skip
NOT_FINITE = (math.nan, math.inf, -math.inf)


def _coordinate(random, size):
    kind = random.random()
    if kind < 0.55:
        return random.uniform(-2, size + 2)
    if kind < 0.75:
        return random.randrange(-8, 4 * size + 8) / 4
    if kind < 0.85:
        return size + random.choice((0, -0.5, -1, 1e-6, -1e-6, 1, 0.5))
    return random.choice(SPECIAL)


def side(random, size):
    """Both ends of a box along an axis, in pixels of a map."""
    low = _coordinate(random, size)
    kind = random.random()
    if kind < 0.1:
        return low, low
    if kind < 0.2:
        return low, low + random.random() / 100
    high = _coordinate(random, size)
    return (high, low) if high < low and random.random() < 0.85 else (low, high)


def as_dtype(rows, dtype):
    """Rows of float64 in any dtype: what is finite stays so."""
    rows = np.asarray(rows, np.float64)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        # The next float64 below 2**63 and 2**64 is that far below.
        high = info.max if dtype.itemsize < 8 else info.max - 2047
        return np.clip(np.nan_to_num(rows), info.min, high).astype(dtype)
    limit = float(ml_dtypes.finfo(dtype).max)
    held = np.where(np.isfinite(rows), np.clip(rows, -limit, limit), rows)
    with np.errstate(all="ignore"):
        return held.astype(dtype)


SCALES = {
    1.0: 30, 0.5: 12, 0.0625: 12, 2.0: 6, 0.37: 8, 1 / 3: 6, 1e-3: 1, 1e-40: 1, 1e-300: 1,
    5e-324: 1, 1e20: 1, 1e300: 1,
}  # fmt: skip
ORDINARY = (1e-4, 1e4)
"""Scales whose gradients can be held against the reference's."""
