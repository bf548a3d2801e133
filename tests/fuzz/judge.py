"""Whether a call did what it should: the right result and nothing else, or one clear sentence."""

import ml_dtypes
import numpy as np

import reference_crops
import reference_levels
import roi_numba
from roi_numba import pyramid_pool
from strategies import Call
from test_backward import assert_gradients
from test_forward import assert_close, tolerance

from .assertions import assert_bits, assert_boxes, assert_sentence, unwrapped
from .figures import FINITE, ORDINARY

FEW = 33
"""Channels that the references, which are slow, are asked for."""
LARGEST = {np.dtype(kind): float(np.finfo(kind).max) for kind in (np.float32, np.float64)}


class Judge:
    """It counts the calls that it makes."""

    def __init__(self):
        self.calls = self.refused = 0

    def call(self, function, *arguments, **options):
        self.calls += 1
        return getattr(roi_numba, function)(*arguments, **options)

    def run(self, case):
        """The case's own call."""
        arguments = dict(case.arguments)
        first = ()
        if case.function == "axis_weights":
            names = "op", "boxes", "size", "bins"
            first = [arguments.pop(name) for name in names if name in arguments]
        return self.call(case.function, *first, **arguments)

    def judge(self, case):
        """AssertionError unless all is as it should be."""
        case.memory.close()
        try:
            result = self.run(case)
        except Exception as error:
            case.memory.assert_untouched()
            self.refused += 1
            if case.refused is False:
                raise AssertionError(f"refused: {type(error).__name__}: {error}") from error
            assert_sentence(error)
            return
        written = () if case.out is None else (case.out,)
        case.memory.assert_untouched(written)
        assert not case.refused, "it was not refused"
        if case.spoilt:
            return
        if case.out is not None:
            given = case.arguments["out"]
            first = result[0] if isinstance(result, tuple) else result
            assert first is given, "out is not handed back"
        back = "_backward" if case.function.endswith("_backward") else ""
        kind = case.function.removesuffix("_backward")
        kind = kind if kind in ("crop_and_resize", "assign_levels", "axis_weights") else "pooling"
        with np.errstate(all="ignore"):
            getattr(self, f"{kind}{back}")(case, result)

    # ---- operators -----------------------------------------------------------------------

    def pooling(self, case, result):
        named = case.arguments.get("return_argmax", False)
        output, *argmax = [
            np.moveaxis(unwrapped(each), case.axis, 1) for each in (result if named else [result])
        ]
        expected = self.expected(case, case.rows, case.levels)
        for actual, wanted in zip([output, *argmax], expected, strict=True):
            assert_bits(actual, wanted)
        random = case.random
        if case.reduce_levels != "assigned" or not len(case.rows):
            return
        if random.random() < 0.15 and np.prod(case.bins) <= 16:
            self.against_the_reference(case, random.randrange(len(case.rows)))
        if len(case.rows) > 1 and random.random() < 0.15:
            order = random.sample(range(len(case.rows)), random.randint(1, len(case.rows)))
            some = self.expected(case, case.rows[order], case.levels[order])
            for actual, wanted in zip(some, expected, strict=True):
                assert_bits(actual, wanted[order])
        if output.shape[1] > 1 and random.random() < (0.5 if output.size > 10**4 else 0.1):
            few = _some(random, output.shape[1])
            maps = [each[:, few] for each in case.maps]
            some = self.expected(case, case.rows, case.levels, maps)
            for actual, wanted in zip(some, expected, strict=True):
                assert_bits(actual, wanted[:, few])
        if random.random() < (0.5 if output.size > 10**4 else 0.02):
            self.with_threads(case, lambda: self.expected(case, case.rows, case.levels), expected)
        narrow = output.dtype.itemsize < 4 or case.maps[0].dtype.kind in "biu"
        if narrow and random.random() < 0.15:
            wide = [each.astype(np.float32) for each in case.maps]
            pooled = self.expected(case, case.rows, case.levels, wide)[0]
            with np.errstate(over="ignore"):
                assert_bits(output, pooled.astype(output.dtype))

    def with_threads(self, case, function, expected):
        before = roi_numba.get_num_threads()
        try:
            roi_numba.set_num_threads(case.random.choice((1, 2, 3, 5)))
            found = function()
        finally:
            roi_numba.set_num_threads(before)
        for actual, wanted in zip(found, expected, strict=True):
            assert_bits(actual, wanted)

    def expected(self, case, rows, levels, maps=None):
        """Result and argmax of plain arrays, one map after the other."""
        maps = maps or case.maps
        named = case.arguments.get("return_argmax", False)
        parts = []
        for level in range(len(maps)):
            assigned = case.reduce_levels == "assigned"
            there = levels == level if assigned and len(maps) > 1 else slice(None)
            good = rows[there].copy()
            if assigned and len(maps) == 1:
                good[levels != 0, 0] = -1
            parts.append((there, self.one_map(case, level, maps[level], good, named)))
        if case.reduce_levels != "assigned":
            return [combined([part[0] for _, part in parts], case.reduce_levels)]
        if len(parts) == 1:
            return parts[0][1]
        shape = len(rows), maps[0].shape[1], *case.bins
        whole = [np.zeros(shape, each.dtype) for each in parts[0][1]]
        if named:
            whole[1][...] = -1
        for there, part in parts:
            for target, each in zip(whole, part, strict=True):
                target[there] = each
        return whole

    def one_map(self, case, level, array, rows, named=False):
        """Result, and argmax if wanted."""
        options = case.own | case.operator.reductions[case.reduction] | {"check_boxes": False}
        if named:
            options["return_argmax"] = True
        (y, x), name = case.scales[level], case.operator.name
        if y == x:
            result = self.call(name, array, rows, case.bins, y, **options)
        else:
            self.calls += 1
            result = pyramid_pool(
                case.operator.function, [array], rows, case.bins, spatial_scales=[(y, x)], **options
            )
        return list(result) if named else [result]

    def against_the_reference(self, case, k):
        """One of the boxes."""
        level = int(case.levels[k])
        if not 0 <= level < len(case.maps) or case.scales[level][0] != case.scales[level][1]:
            return
        row, array = case.rows[[k]], case.maps[level][:, :FEW]
        if case.kind == "special":  # weights whose product is none, of a NaN
            least = np.abs(row[row != 0] * case.scales[level][0]).min(initial=1)
            if least < 1e-9:
                return
        scale = row.dtype.type(min(case.scales[level][0], LARGEST[row.dtype]))
        if not scale:  # too small for float32
            return
        call = Call(array, row, case.bins, scale)
        options = case.own | case.operator.reductions[case.reduction]
        output, *argmax = self.one_map(case, level, array, row, case.reduction != "mean")
        expected = case.operator.reference(*call, **options)
        # Of numbers too small for all their digits each product is rounded to the next.
        least = 64 * float(np.finfo(np.float32).smallest_subnormal)
        assert_close(output, expected, tolerance(call, expected) + least)
        if argmax and case.kind != "special":
            named = (
                case.operator.reference(*call, at=argmax[0], **options)
                if (case.operator.name != "roi_pool")
                else None
            )
            if named is not None:
                off = argmax[0] < 0  # the winner is off the map, or there is none
                assert_close(output, np.where(off, output, named), tolerance(call, named) + least)

    # ---- their gradients -----------------------------------------------------------------

    def pooling_backward(self, case, result):
        random, several = case.random, len(case.maps) > 1 or "inputs" in case.arguments
        to_input, to_boxes = result
        needs = case.arguments.get("needs", ("input", "boxes"))
        assert (to_input is None) == ("input" not in needs)
        assert (to_boxes is None) == ("boxes" not in needs)
        if case.reduce_levels == "max" or not needs:
            return
        if case.refused is None and "input" not in needs:  # winners nobody had to look at
            return
        to_maps = None
        if to_input is not None:
            to_maps = to_input if several else [to_input]
            to_maps = [np.moveaxis(unwrapped(each), case.axis, 1) for each in to_maps]
        moved = 0
        for level, array in enumerate(case.maps):
            assigned = case.reduce_levels == "assigned"
            there = case.levels == level if assigned else slice(None)
            wanted, boxes = self.one_map_back(case, level, array, there)
            if (
                assigned
                and array.shape[1] > 1
                and random.random() < (0.5 if array.size > 10**5 else 0.1)
            ):
                few = _some(random, array.shape[1])
                some, _ = self.one_map_back(case, level, array[:, few], there, few)
                assert_bits(some, wanted[:, few])
            if to_maps is not None:
                assert_bits(to_maps[level], wanted)
            if assigned:
                whole = np.zeros(case.rows.shape, boxes.dtype)
                whole[there] = boxes
                boxes = whole
            # Zeros of other maps are added, to -0 too.
            moved = moved + boxes
        # Else boxes of 16 bits have a rounding for every map.
        if to_boxes is not None and case.reduce_levels == "assigned":
            assert_boxes(case.arguments["boxes"], to_boxes, moved)
        if several or not len(case.rows) or case.kind not in FINITE or case.grad_kind not in FINITE:
            return
        if not ORDINARY[0] < case.scales[0][0] < ORDINARY[1]:
            return
        if random.random() < 0.12 and np.prod(case.bins) <= 9:
            self.against_the_reference_back(case, random.randrange(len(case.rows)))
        if random.random() < 0.3 and case.refused is False and to_maps is not None:
            self.adjoint(case, to_maps[0])
        if random.random() < (0.5 if case.grad.size > 10**4 else 0.02):
            back = lambda: self.one_map_back(case, 0, case.maps[0], slice(None))  # noqa: E731
            self.with_threads(case, back, back())

    def one_map_back(self, case, level, array, there, few=slice(None)):
        options = case.own | case.operator.reductions[case.reduction] | {"check_boxes": False}
        grad = case.grad
        if case.reduce_levels == "mean":
            grad = grad / len(case.maps)
        if case.reduce_levels == "concat":
            channels = array.shape[1]
            grad = grad[:, level * channels : (level + 1) * channels]
        if "argmax" in case.meaning:
            options["argmax"] = case.argmax[there][:, few]
        (y, x), name = case.scales[level], f"{case.operator.name}_backward"
        grad, rows = np.ascontiguousarray(grad[there][:, few]), case.rows[there]
        if y == x:
            return self.call(name, grad, array, rows, y, **options)
        self.calls += 1
        to_maps, to_boxes = roi_numba.pyramid_pool_backward(
            case.operator.function, grad, [array], rows, spatial_scales=[(y, x)], **options
        )
        return to_maps[0], to_boxes

    def against_the_reference_back(self, case, k):
        if case.rows[k, 0] < 0:
            return
        call = Call(case.maps[0][:, :FEW], case.rows[[k]], case.bins, case.scales[0][0])
        options = case.own | case.operator.reductions[case.reduction]
        if case.reduction != "mean":
            named = self.call(case.operator.name, *call, return_argmax=True, **options)
            options["argmax"] = named[1]
        self.calls += 1
        assert_gradients(case.operator, call, seed=k, **options)

    def adjoint(self, case, to_map):
        """<grad, forward(map)> is <gradient, map>: with its winners named, a maximum is linear."""
        output = self.one_map(case, 0, case.maps[0], case.rows)[0].astype(np.float64)
        grad, array = case.grad.astype(np.float64), case.maps[0].astype(np.float64)
        there, back = (grad * output).sum(), (to_map.astype(np.float64) * array).sum()
        largest = np.abs(array).max(initial=0) * np.abs(grad).sum()
        precision = {2: 2e-2, 4: 1e-4, 8: 1e-11}[to_map.dtype.itemsize]
        if case.rows.dtype == np.float32:
            precision = max(precision, 1e-4)
        # What is rounded to a subnormal number, of results and of gradients.
        least = 16 * float(ml_dtypes.finfo(to_map.dtype).smallest_subnormal)
        allowed = precision * largest + least * (np.abs(array).sum() + np.abs(grad).sum())
        assert abs(there - back) <= allowed, f"{there} forward, {back} back"

    # ---- crops ---------------------------------------------------------------------------

    def crop_and_resize(self, case, result):
        output = np.moveaxis(unwrapped(result), case.axis, -1)
        image, numbers = case.maps[0], case.numbers.astype(np.int64)
        value = float(case.arguments.get("extrapolation_value", 0.0))
        options = {"extrapolation_value": value, "check_boxes": False, **case.own}
        plain_call = image, case.corners, case.bins
        expected = self.call("crop_and_resize", *plain_call, box_indices=numbers, **options)
        assert_bits(output, expected)
        # Between an infinity and a number TensorFlow's order of operations has a NaN.
        if len(numbers) and case.kind in FINITE and case.random.random() < 0.15:
            k = case.random.randrange(len(numbers))
            del options["check_boxes"]
            wanted = reference_crops.crop_and_resize(
                image, case.corners[[k]], case.bins, box_indices=numbers[[k]], **options
            )
            features = np.abs(image.astype(np.float64))
            largest = features[np.isfinite(features)].max(initial=0)
            with np.errstate(over="ignore"):
                wanted = wanted.astype(np.float32).astype(np.float64)
            assert_close(output[[k]], wanted, 1e-6 * largest + 1e-45)

    def crop_and_resize_backward(self, case, result):
        to_input, to_boxes = result
        needs = case.arguments.get("needs", ("input", "boxes"))
        assert (to_input is None) == ("input" not in needs)
        assert (to_boxes is None) == ("boxes" not in needs)
        image, numbers = case.maps[0], case.numbers.astype(np.int64)
        wanted, moved = self.call(
            "crop_and_resize_backward", case.grad, image, case.corners, box_indices=numbers,
            check_boxes=False, **case.own,
        )  # fmt: skip
        if to_input is not None:
            assert_bits(np.moveaxis(unwrapped(to_input), case.axis, -1), wanted)
        if to_boxes is not None:
            assert_boxes(case.arguments["boxes"], to_boxes, moved)

    # ---- the rest ------------------------------------------------------------------------

    def assign_levels(self, case, levels):
        assert levels.dtype == np.int64
        expected = [reference_levels.assign_level(box, **case.own) for box in case.corners.tolist()]
        assert levels.tolist() == expected, f"{levels.tolist()} instead of {expected}"

    def axis_weights(self, case, weights):
        """A mean is two matrices around a map."""
        sides, size, bins = case.sides, case.size, case.n_bins
        assert weights.shape == (len(sides) * bins, size)
        if not len(sides) or not np.isfinite(weights.data).all():
            return
        array = np.random.default_rng(0).normal(size=(1, 1, size, 3))
        across = np.tile(np.array([0.25, 2.5], sides.dtype), (len(sides), 1))
        along_x = self.call(
            "axis_weights", case.operator.name, across, 3, 1, case.scale, **case.own
        )
        rows = np.zeros((len(sides), 5), sides.dtype)
        rows[:, [2, 4]], rows[:, [1, 3]] = sides, across
        own = case.own | case.operator.reductions["mean"]
        found = self.call(case.operator.name, array, rows, (bins, 1), case.scale, **own)
        along_y = weights.toarray().reshape(len(sides), bins, size)
        along_x = along_x.toarray().reshape(len(sides), 1, 3)
        expected = along_y @ array[0, 0] @ along_x.transpose(0, 2, 1)
        np.testing.assert_allclose(found[:, 0], expected, rtol=0, atol=1e-5)


def _some(random, channels):
    """A run of channels, fewer than there are."""
    first = random.randrange(channels)
    return slice(first, random.randint(first + 1, channels) if first else channels - 1)


def named_by_the_forward(case):
    """Winners as (K, C, h, w) of a call's plain arrays."""
    judge = Judge()
    shape = len(case.rows), case.maps[0].shape[1], *case.bins
    names = np.full(shape, -1)
    for level, array in enumerate(case.maps):
        there = case.levels == level
        names[there] = judge.one_map(case, level, array, case.rows[there], named=True)[1]
    return names


def combined(parts, how):
    """Results of all maps as one."""
    if how == "concat":
        return np.concatenate(parts, 1)
    total = parts[0]
    for part in parts[1:]:
        if how == "max":
            total = np.where((part > total) | np.isnan(part), part, total)
        else:
            total = total + part
    return total / len(parts) if how == "mean" else total
