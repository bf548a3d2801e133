"""Every kernel of the CUDA engine, for every format it is compiled for."""

from itertools import product

from operators import OPERATORS
from roi_numba._cuda import contract, gather, maximum, project, scatter, tables, turned, winners
from roi_numba._cuda.formats import FLOATS, INTEGERS, accumulator
from roi_numba._cuda.rules import rule_on_device

GEOMETRIES = ("float32", "float64")


def rules():
    """The rules of all operators on the device."""
    for operator in OPERATORS:
        own, _ = operator.rule.options()
        yield rule_on_device(operator.rule, len(own)), list(operator.reductions)


def pooled(stored):
    return stored if stored in FLOATS else "float32"


def every_kernel():
    """All kernels whose parameters are 32-bit offsets, and one of each kind with 64-bit ones."""
    for weights in GEOMETRIES:
        yield turned.turned_of(weights)
    yield turned.touching()
    for stored in (*FLOATS, *INTEGERS):
        result, sums = pooled(stored), accumulator(stored).__name__
        for offsets in ("int32", "int64") if stored in FLOATS else ("int32",):
            yield contract.contract_of(stored, result, offsets)
            yield project.project_of(stored, result, sums, offsets)
            if stored in FLOATS:
                for target in sorted({stored, sums}):
                    yield scatter.scatter_of(stored, target, offsets)
                yield scatter.spread_of(stored, sums, offsets)
    for (rule, reductions), geometry in product(rules(), GEOMETRIES):
        for numbers in (geometry, "int64"):
            for weights in GEOMETRIES:
                for what in ("weights", "rates", "reach"):
                    if what == "weights" or rule.slope is not None:
                        yield tables.bands_of(rule, geometry, numbers, weights, what)
            if reductions == ["mean"]:
                continue
            for stored in FLOATS:
                sums = accumulator(stored).__name__
                kind = rule, geometry, numbers, stored
                for named in (False, True):
                    yield maximum.maximum_of(*kind, stored, "int32", named)
                for moving in {False, rule.slope is not None}:
                    yield winners.values_of(*kind, stored, "int32", moving, False)
                    to_map = rule, geometry, numbers, sums, stored, "int32"
                    yield winners.values_of(*to_map, moving, True)
                if rule.slope is not None:
                    yield winners.boxes_of(*kind, stored, sums, "int32")
        if reductions != ["mean"]:
            for stored in FLOATS:
                sums = accumulator(stored).__name__
                for moving in {False, rule.slope is not None}:
                    yield gather.gather_of(rule, geometry, stored, sums, "int32", moving)
