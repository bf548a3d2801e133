"""Pyramids on their way to the driver: the table of maps, and when it is written."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from operators import REDUCTIONS, ids
from small_kernel import NEEDED

engine = pytest.importorskip("roi_numba._cuda.engine", reason=NEEDED, exc_type=ImportError)
levels = pytest.importorskip("roi_numba._cuda.levels", reason=NEEDED, exc_type=ImportError)
launching = pytest.importorskip("roi_numba._cuda.launch", reason=NEEDED, exc_type=ImportError)
recorded_cupy = pytest.importorskip("recorded_cupy", reason=NEEDED, exc_type=ImportError)
simulator = pytest.importorskip("roi_numba._cuda.simulator", reason=NEEDED, exc_type=ImportError)

SCALES = [(0.5, 0.25), (0.25, 1.0), (2.0, 0.125)]


@pytest.fixture
def cupy(monkeypatch):
    with recorded_cupy.recorded(monkeypatch, "90") as cupy:
        yield cupy


class Pyramid:
    """Three maps, of which the last is channels last in memory, and a result."""

    def __init__(self, operator=None, reduction="mean", geometry=np.float32):
        operator = operator or REDUCTIONS[0][0]
        self.rule, self.reduce = operator.rule, operator.reductions[reduction].get("reduce", "mean")
        own = operator.rule.options()
        self.options = [
            tuple((geometry(scale), *each) for scale, each in zip(pair, own, strict=True))
            for pair in SCALES
        ]
        self.maps = [np.zeros((2, 6, *size), np.float32) for size in ((8, 9), (4, 5))]
        self.maps.append(np.moveaxis(np.zeros((2, 3, 2, 6), np.float32), -1, 1))
        self.rows = np.zeros((7, 5), geometry)
        self.output = np.zeros((7, 6, 3, 2), np.float32)
        self.of_box = np.zeros(7, np.int64)

    def pool(self):
        engine.pool_levels(
            self.rule, self.reduce, self.options, self.maps, self.of_box, self.rows[:, 1:],
            self.rows[:, 0], self.output, None, 1,
        )  # fmt: skip


def names(cupy):
    """What was launched since the last time."""
    seen = [launch.kernel.name.partition("_")[0] for launch in cupy.launches]
    cupy.launches.clear()
    return seen


@pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
@pytest.mark.parametrize("geometry", [np.float32, np.float64])
def test_launches(cupy, operator, reduction, geometry):
    """As many for three maps as for one, once the table is there."""
    call = Pyramid(operator, reduction, geometry)
    pooling = ["bands", "contract"] if call.reduce == "mean" else ["maximum"]
    call.pool()
    assert names(cupy) == ["describe"] * 3 + pooling
    call.pool()
    assert names(cupy) == pooling


def test_the_table_says_where_maps_lie(cupy):
    call = Pyramid()
    call.pool()
    written = [launch.arguments for launch in cupy.launches[:3]]
    first = simulator.address(call.maps[0])
    for level, (places, scales, count, number, origin, *rest) in enumerate(written):
        array = call.maps[level]
        assert (count, number) == (3, level)
        assert first + 4 * origin == simulator.address(array)
        assert rest[:4] == [stride // 4 for stride in array.strides]
        assert rest[4:6] == [*array.shape[2:]]
        assert rest[6:] == [*SCALES[level]]
        assert all(type(scale) is np.float32 for scale in rest[6:])
        # In one allocation, of which the kernels get the same addresses.
        (memory,) = (each for each in cupy.allocations if each.ptr == places)
        assert places + 8 * (1 + 3 * levels.FIELDS) <= scales
        assert scales + 4 * 2 * 3 <= memory.ptr + memory.size
        assert cupy.launches[3].arguments[-2:] == (places, scales)
        assert cupy.launches[4].arguments[-1] == places


@pytest.mark.parametrize("change", ["map", "scale", "stream"])
def test_another_table(cupy, change):
    call = Pyramid()
    call.pool()
    names(cupy)
    if change == "map":
        call.maps[1] = call.maps[1].copy()
    elif change == "scale":
        call.options[2] = call.options[0]
    else:
        cupy.stream = recorded_cupy.Stream(ptr=1234)
    call.pool()
    assert names(cupy)[:3] == ["describe"] * 3


def test_every_threads_own_stream_has_the_same_number(cupy):
    cupy.stream = recorded_cupy.Stream(ptr=2)
    call = Pyramid()
    call.pool()
    names(cupy)
    with ThreadPoolExecutor(1) as other:
        other.submit(call.pool).result()
    assert names(cupy)[:3] == ["describe"] * 3
    call.pool()
    assert "describe" not in names(cupy)


def test_a_graph_writes_its_own(cupy):
    """It may be launched on another stream, before what wrote the other table, or long after."""
    call = Pyramid()
    cupy.stream = recorded_cupy.Stream(ptr=1234)
    call.pool()
    cupy.stream.capturing = True
    before, others = len(cupy.allocations), dict(levels._tables)
    names(cupy)
    call.pool()
    assert names(cupy) == ["describe"] * 3 + ["bands", "contract"]
    assert levels._tables == others
    assert launching._captured == cupy.allocations[before:]


def test_few_tables_are_kept(cupy):
    call = Pyramid()
    call.pool()
    for number in range(2 * levels.MOST_TABLES):
        other = Pyramid()
        scale = np.float32(number + 3)
        other.options[1] = tuple((scale, *each[1:]) for each in other.options[1])
        other.maps = call.maps
        other.pool()
        names(cupy)
        call.pool()  # is used all the time, and stays
        assert "describe" not in names(cupy)
    assert len(levels._tables) == levels.MOST_TABLES
