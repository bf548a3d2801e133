"""A call with every ingredient, small enough to be spoiled one argument at a time."""

import numpy as np
import pytest

from operators import OPERATORS, REDUCTIONS, ids
from strategies import values

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
EVERY_OPERATOR = pytest.mark.parametrize("operator", OPERATORS, ids=ids)
MAXIMUM = [row for row in REDUCTIONS if row[1] != "mean"]
BY_NAME = {operator.name: operator for operator in OPERATORS}

SHAPE = (2, 3, 8, 9)
SIZE = (2, 3)
RESULT = (3, 3, *SIZE)
GUARD = 77.0
ROWS = [(0, 1, 1, 6, 5), (1, 0, 0, 8, 7), (1, 2.5, 3, 4, 6)]


def features(dtype=np.float32, shape=SHAPE):
    return values(5, shape, dtype)


def rows(dtype=np.float32):
    return np.array(ROWS, dtype)


def with_row(*row):
    return np.array([*ROWS[:2], row], np.float64)


def read_only(shape=RESULT, dtype=np.float32):
    array = np.full(shape, GUARD, dtype)
    array.flags.writeable = False
    return array
