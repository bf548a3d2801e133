"""Integers of 32 bits: Numba makes 64 of every operation, and a division of those is a call."""

import numpy as np

from .compile import device


@device
def divided(number, by):
    """Quotient and remainder of two non-negative int32."""
    # Said never to be zero: Numba asks, and libNVVM for sm_100 has a loop for each answer.
    quotient = np.uint32(np.uint32(number) // max(np.uint32(by), np.uint32(1)))
    rest = np.uint32(np.uint32(number) - np.uint32(quotient * np.uint32(by)))
    return np.int32(quotient), np.int32(rest)


@device
def groups_of(channels, at_once):
    """How many groups of `at_once` channels there are."""
    groups, _ = divided(np.int32(channels + at_once - 1), np.int32(at_once))
    return groups


@device
def unit_of(unit, cells, groups, inner, first_channel, at_once):
    """The cell of a unit of work, its first channel, and the distance to its next.

    Neighbouring units take neighbouring cells, or if `inner` neighbouring channels, so that what
    they read is adjacent either way.
    """
    slow, fast = divided(unit, groups if inner else cells)
    if inner:
        return slow, np.int32(first_channel + fast), groups
    return fast, np.int32(first_channel + slow * at_once), np.int32(1)


@device
def tile_of(tile, tiles_y, tiles_x):
    """The image of a tile, and its place along y and x."""
    line, x = divided(tile, tiles_x)
    image, y = divided(line, tiles_y)
    return image, y, x
