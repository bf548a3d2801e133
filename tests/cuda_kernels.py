"""Every kernel of the CUDA engine, for every format it is compiled for."""

import os
from itertools import product

from operators import OPERATORS, RULES
from roi_numba._cuda import (
    contract,
    gather,
    levels,
    maximum,
    project,
    scatter,
    tables,
    turned,
    winners,
)
from roi_numba._cuda.formats import FLOATS, INTEGERS, accumulator
from roi_numba._cuda.rules import rule_on_device

GEOMETRIES = ("float32", "float64")


def rules():
    """The rules of all operators on the device."""
    for operator in OPERATORS:
        own, _ = operator.rule.options()
        yield rule_on_device(operator.rule, len(own)), list(operator.reductions)
    (crops,) = RULES[len(OPERATORS) :]
    yield rule_on_device(crops, len(crops.options()[0])), ["mean"]


def pooled(stored):
    return stored if stored in FLOATS else "float32"


BOXES = [("float32", "float32"), ("float64", "float64"), ("float32", "int64"), ("float64", "int64")]
"""Formats of corners and of image numbers."""

THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "full"


def every_kernel():
    """Every kernel for every format of each of its arrays, and if thorough in every combination.

    Offsets are of 32 bits; those of means of 64 too.
    """
    for weights in GEOMETRIES:
        yield turned.turned_of(weights)
        yield levels.describe_of(weights)
    yield turned.touching()
    for stored in (*FLOATS, *INTEGERS):
        result, sums = pooled(stored), accumulator(stored).__name__
        for offsets in ("int32", "int64") if stored in FLOATS else ("int32",):
            # Crops are of float32, whatever the map is; of float64 gradients are too.
            for pooled_to in sorted({result, "float32"}):
                together = pooled_to == stored
                for vectors in (False, True)[: 1 + together]:
                    yield contract.contract_of(stored, pooled_to, offsets, vectors)
                    if offsets == "int64" and pooled_to == result:
                        yield contract.contract_of(stored, result, offsets, vectors, True)
            for pulled in sorted({result, sums}):
                yield project.project_of(stored, pulled, sums, offsets)
            if stored in FLOATS:
                for target in sorted({stored, sums}):
                    yield scatter.scatter_of(stored, target, offsets)
                yield scatter.spread_of(stored, sums, offsets)
    for (rule, reductions), boxes in product(rules(), BOXES if THOROUGH else BOXES[:3]):
        for weights in GEOMETRIES if THOROUGH else boxes[:1]:
            for what in ("weights", "rates", "reach"):
                if what == "weights" or rule.slope is not None:
                    yield tables.bands_of(rule, *boxes, weights, what)
            if THOROUGH or boxes == BOXES[0]:
                yield tables.bands_of(rule, *boxes, weights, "weights", True)
        if reductions != ["mean"] and boxes == BOXES[2] and not THOROUGH:
            # What the number of an image is stored as matters where it is read.
            kind = rule, *boxes, "float32", "float32", "int32"
            yield maximum.maximum_of(*kind, True)
            yield winners.values_of(*kind, False, False)
        elif reductions != ["mean"]:
            for stored in FLOATS if THOROUGH or boxes == BOXES[0] else ("float32",):
                yield from of_maxima(rule, *boxes, stored)
    for rule, reductions in rules():
        if reductions != ["mean"]:
            for stored in INTEGERS if THOROUGH else ("uint8",):
                kind = rule, *BOXES[0], stored, "float32", "int32"
                yield maximum.maximum_of(*kind, False)
                yield maximum.maximum_of(*kind, True)


def of_maxima(rule, geometry, numbers, stored):
    """The kernels of a rule for maxima, and for their winners."""
    sums = accumulator(stored).__name__
    kind = rule, geometry, numbers, stored
    for named in (False, True):
        yield maximum.maximum_of(*kind, stored, "int32", named)
        if THOROUGH or (named and kind[1:] == (*BOXES[0], "float32")):
            yield maximum.maximum_of(*kind, stored, "int64", named, True)
    for moving in (False, True)[: 1 if rule.slope is None else 2]:
        yield winners.values_of(*kind, stored, "int32", moving, False)
        to_map = rule, geometry, numbers, sums, stored, "int32"
        yield winners.values_of(*to_map, moving, True)
        if numbers == geometry:  # it is told no numbers
            yield gather.gather_of(rule, geometry, stored, sums, "int32", moving)
    if rule.slope is not None:
        yield winners.boxes_of(*kind, stored, sums, "int32")
