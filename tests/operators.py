"""The table of operators that every test runs over: one row per operator."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import product

from hypothesis import strategies as st

import reference
import reference_gradients
import roi_numba


@dataclass(frozen=True)
class Operator:
    """An operator, its reference and what can be asked of it.

    ``reductions`` maps "mean" and the maxima it has to the keywords that choose them; ``options``
    maps each other option to the values worth trying, ``exact_options`` to those of them that put
    samples at dyadic positions when box and bins are dyadic, ``exact_sizes`` are output sizes that
    do.
    """

    function: Callable
    reference: Callable
    reductions: dict
    options: dict
    exact_options: dict
    exact_sizes: tuple = (1, 2, 4, (2, 1))

    @property
    def name(self):
        return self.function.__name__

    @property
    def backward(self):
        return getattr(roi_numba, f"{self.name}_backward")

    @property
    def reference_backward(self):
        return getattr(reference_gradients, f"{self.name}_backward")

    @property
    def rule(self):
        return import_module(f"roi_numba.{self.name}").RULE

    def reduce(self, options):
        """The reduction that options choose: of an operator with but one, that one."""
        return options.get("reduce", next(iter(self.reductions)))

    def draw_options(self, exact=False):
        values = self.options | (self.exact_options if exact else {})
        return st.fixed_dictionaries({name: st.sampled_from(v) for name, v in values.items()})

    def all_options(self):
        """Every combination of options."""
        return [
            dict(zip(self.options, each, strict=True)) for each in product(*self.options.values())
        ]


def _reduce(*names):
    return {name: {"reduce": name} for name in names}


OPERATORS = [
    Operator(
        roi_numba.roi_pool,
        reference.roi_pool,
        _reduce("mean", "max"),
        {"rounding": ["half_away", "truncate", "none"], "bins": ["exact", "float", "truncate"]},
        {},
    ),
    Operator(
        roi_numba.roi_align,
        reference.roi_align,
        _reduce("mean", "max", "max_corner"),
        {"sampling_ratio": [-1, 0, 1, 2, 3, (1, 3), (-1, 2)], "aligned": [False, True]},
        {"sampling_ratio": [1, 2, 4, (1, 2)]},
    ),
    Operator(
        roi_numba.roi_warp,
        reference.roi_warp,
        _reduce("mean", "max"),
        {"sampling_ratio": [1, 2, 3, (2, 1)], "quantize": [True, False]},
        {"sampling_ratio": [1, 2, 4, (2, 1)]},
    ),
    Operator(
        roi_numba.crop_pool,
        reference.crop_pool,
        {"max": {}},
        {"border": ["zeros", "cut"]},
        {},
        (1,),  # of n bins samples are 1 / (2 * n - 1) of the box apart
    ),
    Operator(
        roi_numba.prroi_pool,
        reference.prroi_pool,
        {"mean": {}},
        {"aligned": [False, True]},
        {},
    ),
]

RULES = [operator.rule for operator in OPERATORS]
RULES.append(import_module("roi_numba.crop_and_resize").RULE)
"""Of all that is made of one; crops have tests of their own."""

REDUCTIONS = [(operator, reduction) for operator in OPERATORS for reduction in operator.reductions]
MEANS = [(operator, r) for operator, r in REDUCTIONS if r == "mean"]
MAXIMA = [(operator, r) for operator, r in REDUCTIONS if r != "mean"]


def ids(value):
    """Test ids: the operator's name, the reduction's, a type's."""
    return getattr(value, "name", None) or getattr(value, "__name__", None) or str(value)
