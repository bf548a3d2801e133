"""The order in which gradients are summed: no thread, no round of tables, no layout changes it."""

import numpy as np
import pytest

import roi_numba
from arrays import MATRIX
from operators import MAXIMA, ids
from roi_numba import _derivatives
from strategies import FLOATS, Call, values
from test_backward import assert_same_bits, backward, derivative, upstream, with_winners
from test_forward import accumulator
from thread_scenarios import draw_boxes, portions_counted


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MATRIX
def test_a_pixel_adds_box_after_box(rng, operator, reduction, dtype):
    """One box twelve times, with weights of a half: whatever is rounded is rounded in the sum."""
    call = Call(np.ones((2, 17, 5, 5), dtype), np.tile([0.0, 2, 1, 3, 2], (12, 1)), 1, 1.0)
    call.boxes[::3, 0] = 1
    options = dict(operator.reductions[reduction])
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 1
    exponents = rng.integers(-13, 5, (12, 17, 1, 1)) * (4 if dtype is np.float64 else 1)
    gradient = np.ldexp(rng.integers(-255, 256, exponents.shape), exponents).astype(dtype)
    forth, back = np.zeros((2, *call.input.shape), accumulator(np.dtype(dtype)))
    for total, order in ((forth, range(12)), (back, range(11, -1, -1))):
        for k in order:
            alone = call._replace(boxes=call.boxes[[k]])
            total += backward(operator, gradient[[k]], alone, **options)[0].astype(total.dtype)
    assert (forth != back).any()
    found, _ = backward(operator, gradient, call, **options)
    np.testing.assert_array_equal(found, forth.astype(dtype))


@pytest.mark.parametrize(("first", "second", "third"), [(1e8, 1, -1e8), (1e8, -1e8, 1)])
def test_a_sum_that_depends_on_its_order(first, second, third):
    gradient = np.array([first, second, third], np.float32).reshape(3, 1, 1, 1)
    boxes = np.tile([0.0, 2, 1, 2, 1], (3, 1))
    for reduce in ("mean", "max"):
        features = np.ones((1, 1, 5, 5), np.float32)
        grad_input, _ = roi_numba.roi_pool_backward(gradient, features, boxes, reduce=reduce)
        assert grad_input[0, 0, 1, 2] == (third if third == 1 else 0)


def large_call(dtype, operator, reduction):
    """Several tiles of the map, boxes of all sizes, blocks of channels that are not full."""
    call = Call(values(4, (2, 70, 150, 200), dtype), draw_boxes(300, 2, 200), 3, 1.0)
    options = dict(operator.reductions[reduction])
    if "sampling_ratio" in operator.options:
        options["sampling_ratio"] = 2
    return call, with_winners(operator, call, options)


@pytest.fixture
def portions(monkeypatch):
    """Into how many portions each call has been cut; small calls are cut like large ones."""
    from roi_numba._cpu import gradients

    return portions_counted(monkeypatch, gradients)


@pytest.mark.parametrize(("dtype", "channel_axis"), [(np.float32, 1), (np.float64, -1)], ids=ids)
@MATRIX
def test_bits_do_not_depend_on_threads(operator, reduction, dtype, channel_axis, portions):
    """Nor do they change from run to run."""
    call, options = large_call(dtype, operator, reduction)
    gradient = upstream(call)
    found = []
    for threads in (1, 1, 2, 3, 5):
        roi_numba.set_num_threads(threads)
        found.append(backward(operator, gradient, call, channel_axis, **options))
        assert_same_bits(found[-1], found[0])
    assert min(portions) >= 5


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@MATRIX
def test_rounds_of_tables_change_no_bit(operator, reduction, dtype, monkeypatch):
    from roi_numba._cpu import tables

    call = Call(values(4, (2, 33, 40, 50), dtype), draw_boxes(60, 2, 50), (2, 3), 1.0)
    options = with_winners(operator, call, operator.reductions[reduction])
    gradient = upstream(call)
    expected = backward(operator, gradient, call, **options)
    monkeypatch.setattr(tables, "ROUND_ENTRIES", 100)
    assert_same_bits(backward(operator, gradient, call, **options), expected)


@pytest.mark.parametrize(
    ("threads", "images", "winners", "expected"),
    [
        (1, [0], 100, 16),
        (4, [0], 100, 4),
        (4, [0, 0, 3, -1], 100, 8),  # two images that have boxes, of which each is two items
        (4, range(8), 100, 16),
        (2, range(3), 100, 8),  # not three items for two threads
        (99, [0], 100, 1),
        (1, [-1], 100, 16),
        (1, [0], 1 << 29, 4),  # or else Ctrl-C would wait long
    ],
)
def test_each_thread_gets_as_many_items(threads, images, winners, expected):
    from roi_numba._cpu.gradients import lines_together

    roi_numba.set_num_threads(threads)
    assert lines_together(16, np.array(images), winners) == expected


def last(array):
    """The same, channels last."""
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_named_values_of_channels_last(operator, reduction, dtype, threads):
    call = Call(values(4, (2, 150, 9, 11), dtype), draw_boxes(30, 2, 12), (2, 3), 1.0)
    options = with_winners(operator, call, operator.reductions[reduction])
    expected = derivative(_derivatives.at_argmax, operator, call, options)
    roi_numba.set_num_threads(threads)
    turned = call._replace(input=last(call.input))
    names = options | {"argmax": last(options["argmax"])}
    found = derivative(_derivatives.at_argmax, operator, turned, names, channel_axis=-1)
    assert_same_bits(np.moveaxis(found, -1, 1), expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=ids)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("operator", "reduction"), MAXIMA, ids=ids)
def test_where_winners_add_changes_no_bit(operator, reduction, threads, dtype, monkeypatch):
    """In scratch memory for one line of channels or for several, or in the map where it lies."""
    from roi_numba._cpu import gradients

    call = Call(values(4, (2, 150, 9, 11), dtype), draw_boxes(30, 2, 12), (2, 3), 1.0)
    options = with_winners(operator, call, operator.reductions[reduction])
    gradient = upstream(call)

    def of_views():
        """Channels last in memory, channels first for the caller."""
        names = np.moveaxis(last(options["argmax"]), -1, 1)
        view = np.moveaxis(last(gradient), -1, 1)
        return backward(operator, view, call, **options | {"argmax": names})

    def of_channels_last():
        grad_input, grad_boxes = operator.backward(
            last(gradient), last(call.input), call.boxes, call.spatial_scale, channel_axis=-1,
            **options | {"argmax": last(options["argmax"])},
        )  # fmt: skip
        return np.moveaxis(grad_input, -1, 1), grad_boxes

    expected = backward(operator, gradient, call, **options)
    roi_numba.set_num_threads(threads)
    for largest in (gradients.SUMMED_PIXELS, 300, 98):  # all lines at once, three, none
        monkeypatch.setattr(gradients, "SUMMED_PIXELS", largest)
        assert_same_bits(backward(operator, gradient, call, **options), expected)
        assert_same_bits(of_views(), expected)
        assert_same_bits(of_channels_last(), expected)
