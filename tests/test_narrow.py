"""Boxes no wider than two vectors, channels first, are read where the map lies: the same bits."""

import ml_dtypes
import numpy as np
import pytest

import roi_numba
from arrays import GUARD, assert_same_bits
from operators import MEANS, ids
from roi_numba._cpu import engine, narrow
from roi_numba._cpu.blocks import Layout
from roi_numba._cpu.plan import FEW_GROUPS, X1, Y1, by_group
from roi_numba._cpu.streams import STREAMED

DTYPES = np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8, np.int64, bool
CHANNELS = 37  # of float32 two blocks and five channels
HEIGHT, WIDTH = 19, 70
# Two rows of bins in a vector, one, more than one; more rows than are kept.
SIZES = (
    (1, 1),
    (3, 2),
    (7, 7),
    (2, 8),
    (3, 9),
    (5, 16),
    (2, 17),
    (16, 4),
    (17, 3),
    (33, 2),
    (2, 300),
)
WIDTHS = 0, 0.5, 3, 7, 8, 9, 15, 16, 17, 29, 31, 32, 33, 45, 60, 100
MATRIX = pytest.mark.parametrize(("operator", "reduction"), MEANS, ids=ids)

pytestmark = pytest.mark.skipif(
    not narrow.picks_pixels(), reason="the processor cannot pick from two vectors"
)


def boxes_of_every_width(rng):
    """Boxes as wide as one vector, two, more and less: across edges, off the map, of NaN.

    Each has its own image, or else they would share what is packed.
    """
    wide = np.array(WIDTHS)
    low, top = rng.uniform(-2, WIDTH - wide.clip(0, 40)), rng.uniform(-2, HEIGHT - 2, len(wide))
    rows = np.column_stack([low, top, low + wide, top + rng.uniform(0, HEIGHT, len(wide))])
    # To the right of the last, at the end of memory, two vectors cannot be read.
    last = [WIDTH - 9.5, HEIGHT - 4.5, WIDTH + 1, HEIGHT + 1]
    rows = np.vstack([rows, rows[3] + 1000, np.full(4, np.nan), last])
    return np.column_stack([np.arange(len(rows)), rows])


def map_of(rng, dtype, images, channels=CHANNELS):
    features = 40 * rng.standard_normal((images, channels, HEIGHT, WIDTH))
    if np.dtype(dtype).kind in "uib":
        return np.abs(features).astype(dtype)
    features = features.astype(dtype)
    # What stands beside a bin must not be seen in it, whatever it is.
    features[rng.random(features.shape) < 0.02] = np.nan
    features[rng.random(features.shape) < 0.02] = -np.inf
    return features


@pytest.fixture
def both_ways(monkeypatch):
    """Call an operator with and without instructions that pick pixels."""

    def both(operator, *arguments, **options):
        found = operator(*arguments, **options)
        with monkeypatch.context() as patch:
            patch.setattr(engine, "picks_pixels", lambda: None)
            expected = operator(*arguments, **options)
        return found, expected

    return both


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=ids)
@MATRIX
def test_the_bits_of_lanes_of_channels(operator, reduction, dtype, size, both_ways, rng):
    rows = boxes_of_every_width(rng)
    features = map_of(rng, dtype, len(rows))
    options = {"check_boxes": False, **operator.reductions[reduction]}
    assert_same_bits(*both_ways(operator.function, features, rows, size, **options))


@MATRIX
def test_weights_that_rounding_makes_zero(operator, reduction, both_ways):
    """Boxes in float64 may weigh a pixel by less than float32 can hold: they do not, then."""
    features = np.array([[[[-1, np.inf, 3]] * 4]], np.float32)
    boxes = np.array([[0, 0, 0, 1e-46, 4], [0, 0, 0, 1 + 1e-46, 4]])
    options = operator.reductions[reduction]
    found, expected = both_ways(operator.function, features, boxes, 1, **options)
    assert_same_bits(found, expected)
    if operator.function is roi_numba.prroi_pool:
        assert np.isfinite(found[0]).all()


STRIDED = {
    "channels backwards": lambda x: x[:, ::-1],
    "rows backwards": lambda x: x[:, :, ::-1],
    "columns backwards": lambda x: x[..., ::-1],
    "every second column": lambda x: x[..., ::2],
    "every third channel": lambda x: x[:, ::3],
    "one channel, again and again": lambda x: np.broadcast_to(x[:, :1], x.shape),
    "one row, again and again": lambda x: np.broadcast_to(x[:, :, :1], x.shape),
    "one channel": lambda x: x[:, :1],
}


@pytest.mark.parametrize("layout", STRIDED)
def test_maps_laid_out_oddly(layout, both_ways, rng):
    rows = boxes_of_every_width(rng)
    features = STRIDED[layout](map_of(rng, np.float32, len(rows)))
    found, expected = both_ways(roi_numba.roi_align, features, rows, (7, 6), check_boxes=False)
    assert_same_bits(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=ids)
@pytest.mark.parametrize("size", [(7, 7), (3, 9)], ids=str)
def test_nothing_beside_an_output_is_written(dtype, size, rng):
    rows = boxes_of_every_width(rng)
    features = map_of(rng, dtype, len(rows))
    expected = roi_numba.roi_align(features, rows, size, check_boxes=False)
    for shape, part in {
        (len(rows), CHANNELS + 2, *size): np.s_[:, 1:-1],
        (len(rows), CHANNELS, size[0] + 1, size[1]): np.s_[:, :, :-1],
        (len(rows), CHANNELS, size[0], size[1] + 1): np.s_[..., :-1],
    }.items():
        whole = np.full(shape, GUARD, dtype)
        roi_numba.roi_align(features, rows, size, check_boxes=False, out=whole[part])
        assert_same_bits(whole[part], expected)
        whole[part] = GUARD
        assert (whole == GUARD).all()


@pytest.mark.parametrize("portion", [300, engine.PORTION_COST])
@pytest.mark.parametrize("boxes", [1, FEW_GROUPS, FEW_GROUPS + 1])
@pytest.mark.parametrize("channels", [16, 67, 128, 333])
@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=ids)
def test_many_channels_of_few_boxes(dtype, channels, boxes, portion, both_ways, monkeypatch, rng):
    """Blocks of channels of one box go together, up to where a thread's portion ends."""
    monkeypatch.setattr(engine, "PORTION_COST", portion)
    rows = boxes_of_every_width(rng)[-boxes:]
    features = map_of(rng, dtype, int(rows[:, 0].max()) + 1, channels)
    found, expected = both_ways(roi_numba.roi_align, features, rows, (7, 6), check_boxes=False)
    assert found.size < STREAMED
    assert_same_bits(found, expected)


LAYOUT = Layout(0, 0, 5 * 16 + 3, 99, 9, 1)  # six blocks of channels


def groups_of(count, height, width):
    groups = np.zeros((count, 8), np.int64)
    groups[:, [Y1, X1]] = height, width
    return groups


@pytest.mark.parametrize("first", range(12))
def test_items_that_go_together(first):
    """All are of one box, and of one portion."""
    groups, target = groups_of(2, 5, 9), np.empty(9)
    for last in range(first + 1, 13):
        found = narrow.items_at_once(first, last, groups, LAYOUT, target, 5, 1, 16)
        assert found == min(narrow.AT_ONCE, last - first, 6 - first % 6)
    assert narrow.items_at_once(first, 12, groups, LAYOUT, target, 99, 1, 16) == 1
    assert narrow.items_at_once(first, 12, groups, LAYOUT, np.empty(STREAMED), 5, 1, 16) == 1


def test_groups_that_share_planes():
    """Many of them, or large ones; where channels lie side by side there are no planes."""
    for groups, expected in (
        (groups_of(FEW_GROUPS, 8, 16), True),
        (groups_of(FEW_GROUPS, 9, 16), False),
        (groups_of(FEW_GROUPS + 1, 2, 2), False),
        (groups_of(2, 50, 84), False),
    ):
        assert by_group(groups, LAYOUT) == expected
        assert by_group(groups, LAYOUT._replace(channel_stride=1))


@pytest.mark.parametrize("boxes", [FEW_GROUPS - 2, None], ids=["few boxes", "all boxes"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("size", [(14, 14), (7, 7), (5, 3), (256, 16), (257, 16)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16], ids=ids)
def test_large_results_wait_between_boxes_of_both_kinds(
    dtype, size, threads, boxes, both_ways, rng
):
    rows = boxes_of_every_width(rng)[:boxes]
    channels = STREAMED // (len(rows) * size[0] * size[1]) // 16 * 16 + 16 + 5
    # Channels and images overlap in memory, or there were too much of it.
    memory = map_of(rng, dtype, 1)
    features = np.lib.stride_tricks.as_strided(
        memory,
        (len(rows), channels, HEIGHT, WIDTH),
        [memory.itemsize * stride for stride in (72, 3, WIDTH, 1)],
    )
    roi_numba.set_num_threads(threads)
    found, expected = both_ways(roi_numba.roi_align, features, rows, size, check_boxes=False)
    assert found.size >= STREAMED
    assert_same_bits(found, expected)
