"""How far results are from float64's, ours and the peers', over the domain of `domain`.

    python -m benchmarks.accuracy --json benchmarks/results/DATE-accuracy.json

Needs the tests' requirements, for it is their scalar reference that stands for exact.  Peers are
asked in their own environments, a process for each call.

Errors are in units in the last place of the largest feature that the bin weighs; of a gradient to
the map, of the sum of the absolute values that the pixel adds up; of a gradient to the boxes, of
the largest one of all.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import domain, environments, peers, report
from .cases import Call, Level, Workload, draw_gradients

PEERS_CALLS = ("roi_align", "roi_align-adaptive", "roi_pool", "crop_and_resize")
PEERS_GRADIENTS = ("roi_align", "roi_pool")
SEEDS = range(4)
FAR = 1000
"""Units beyond which a value is no inexact one but another: of another sample, or cell."""


class Compared(NamedTuple):
    """Errors of all values of a result, in units in the last place."""

    largest: float
    mean: float
    far: float
    """The share of values that are more than `FAR` off."""


def compared(errors: np.ndarray) -> Compared:
    return Compared(float(errors.max()), float(errors.mean()), float((errors > FAR).mean()))


# ---- exact ---------------------------------------------------------------------------------


@cache
def tests() -> Any:
    """The operators' table of the tests, with their references."""
    sys.path.append(str(environments.ROOT / "tests"))
    import operators

    return {operator.name: operator for operator in operators.OPERATORS}


def crops() -> Any:
    """The reference of crops."""
    tests()
    import reference_crops

    return reference_crops


def in_float64(level: Level, call: Call) -> tuple[Level, Call]:
    """The same with geometry in float64 too, so that nothing at all is rounded."""
    options = {"edges": "exact"} if call.operator == "crop_and_resize" else call.options
    boxes = level.boxes.astype(np.float64)
    return level._replace(boxes=boxes), replace(call, options=options)


def forward(level: Level, call: Call) -> np.ndarray:
    """The pooled values in float64; positions of samples are rounded to the dtype of the boxes."""
    features, boxes, scale = level
    if call.operator == "crop_and_resize":
        images = boxes[:, 0].astype(int)
        result: np.ndarray = crops().crop_and_resize(
            features, boxes[:, 1:], domain.SIZE, box_indices=images, **call.options
        )
        return result
    reference = tests()[call.operator].reference
    result = reference(features, boxes, domain.SIZE, scale, **call.options)
    return result


def backward(
    grad: np.ndarray, level: Level, call: Call, winners: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients to the map and to the boxes, in float64."""
    features, boxes, scale = level
    if call.operator == "crop_and_resize":
        images = boxes[:, 0].astype(int)
        result: tuple[np.ndarray, np.ndarray] = crops().crop_and_resize_backward(
            grad, features, boxes[:, 1:], box_indices=images, **call.options
        )
        return result
    reference = tests()[call.operator].reference_backward
    result = reference(grad, features, boxes, scale, **call.options, **winners)
    return result


# ---- units ---------------------------------------------------------------------------------


def unit(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The distance to the next number of ``dtype`` at each of these, which are not negative."""
    import ml_dtypes

    info = ml_dtypes.finfo(dtype)
    exponent = np.maximum(np.frexp(values)[1] - 1, info.minexp)
    return np.ldexp(float(info.eps), exponent)


def largest_weighed(level: Level, call: Call) -> np.ndarray:
    """The largest absolute feature that each bin weighs, (K, C, height, width); crops as usual."""
    from roi_numba import axis_weights

    crop = call.operator == "crop_and_resize"
    features = np.abs(level.features.transpose(0, 3, 1, 2) if crop else level.features)
    options = {name: value for name, value in call.options.items() if name != "reduce"}
    # A crop's boxes begin with y.
    columns = {"y": (1, 3), "x": (2, 4)} if crop else {"y": (2, 4), "x": (1, 3)}
    count, channels = len(level.boxes), features.shape[1]
    read = {}
    for axis, size, bins in zip("yx", features.shape[2:], domain.SIZE, strict=True):
        ends = level.boxes[:, columns[axis]]
        weights = axis_weights(
            call.operator, ends, size, bins, spatial_scale=level.spatial_scale, **options
        )
        read[axis] = weights.toarray().reshape(count, bins, size) != 0
    largest = np.zeros((count, channels, *domain.SIZE))
    for k, image in enumerate(level.boxes[:, 0].astype(int)):
        for p, rows in enumerate(read["y"][k]):
            in_rows = features[image][:, rows].max(axis=1, initial=0)
            for q, pixels in enumerate(read["x"][k]):
                largest[k, :, p, q] = in_rows[:, pixels].max(axis=1, initial=0)
    return largest.transpose(0, 2, 3, 1) if crop else largest


# ---- ours ----------------------------------------------------------------------------------


class Ours(NamedTuple):
    """Errors of our result and of its gradients."""

    forward: np.ndarray
    to_input: np.ndarray
    to_boxes: np.ndarray


def stored(level: Level, dtype: Any) -> Level:
    """The level as a call has it; geometry of float64 maps is float64 too."""
    boxes = level.boxes.astype(np.float64 if dtype == np.float64 else np.float32)
    return level._replace(features=level.features.astype(dtype), boxes=boxes)


def pooled(level: Level, call: Call, **more: Any) -> Any:
    """What the library makes of a level."""
    import roi_numba

    operator = getattr(roi_numba, call.operator)
    features, boxes, scale = level
    if call.operator == "crop_and_resize":
        images = boxes[:, 0].astype(np.int32)
        return operator(features, boxes[:, 1:], domain.SIZE, box_indices=images, **call.options)
    return operator(features, boxes, domain.SIZE, scale, **call.options, **more)


def gradients(
    grad: np.ndarray, level: Level, call: Call, winners: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What the library makes of a gradient."""
    import roi_numba

    operator = getattr(roi_numba, f"{call.operator}_backward")
    features, boxes, scale = level
    if call.operator == "crop_and_resize":
        images = boxes[:, 0].astype(np.int32)
        result: tuple[np.ndarray, np.ndarray] = operator(
            grad, features, boxes[:, 1:], box_indices=images, **call.options
        )
        return result
    result = operator(grad, features, boxes, scale, **call.options, **winners)
    return result


def channel_axis(call: Call) -> int:
    return 3 if call.operator == "crop_and_resize" else 1


def named(level: Level, call: Call) -> dict[str, np.ndarray]:
    """The winners of a maximum: beside others, of near ties, its gradient would be another."""
    if call.operator == "crop_and_resize" or tests()[call.operator].reduce(call.options) == "mean":
        return {}
    return {"argmax": pooled(level, call, return_argmax=True)[1]}


def ours(call: Call, dtype: Any, seed: int) -> Ours:
    """Our errors beside float64 from the same positions on."""
    workload, axis = domain.draw(call, seed), channel_axis(call)
    parts = []
    for drawn, normal in zip(workload.levels, gradients_of(workload, call), strict=True):
        level = stored(drawn, dtype)
        winners = named(level, call)
        found = pooled(level, call)
        grad = normal.astype(found.dtype)
        to_input, to_boxes = gradients(grad, level, call, winners)
        # As many channels again, without features, for the sums of absolute values.
        wide = grad.astype(np.float64)
        expected, expected_boxes = backward(
            np.concatenate([wide, np.abs(wide)], axis),
            level._replace(
                features=np.concatenate([level.features, np.zeros_like(level.features)], axis)
            ),
            call,
            {name: np.concatenate([array, array], axis) for name, array in winners.items()},
        )
        expected, sums = np.split(expected, 2, axis)
        parts.append(
            (
                in_units(found, forward(level, call), largest_weighed(level, call)),
                in_units(to_input, expected, sums),
                in_units(to_boxes, expected_boxes, np.abs(expected_boxes).max()),
            )
        )
    return Ours(*map(joined, zip(*parts, strict=True)))


def joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    return np.concatenate([part.reshape(-1) for part in parts])


def in_units(found: np.ndarray, expected: np.ndarray, sizes: Any) -> np.ndarray:
    """Errors over the unit of ``sizes`` in the dtype of what was found."""
    errors = np.abs(found.astype(np.float64) - expected)
    return np.asarray(errors / unit(np.broadcast_to(sizes, errors.shape), found.dtype))


def gradients_of(workload: Workload, call: Call) -> list[np.ndarray]:
    """A gradient for the result of each level, channels where the call has them."""
    if call.operator != "crop_and_resize":
        return draw_gradients(workload)
    (level,) = workload.levels
    shape = len(level.boxes), *domain.SIZE, level.features.shape[3]
    return [np.random.default_rng(1).standard_normal(shape, dtype=np.float32)]


# ---- peers ---------------------------------------------------------------------------------


def of_side(name: str, call: Call) -> np.ndarray:
    """What a peer, or ourselves, makes of the domain in float32; a row for each seed.

    Runs in the peer's own environment.
    """
    results = []
    for seed in SEEDS:
        run, read = peers.load(name).prepare(domain.draw(call, seed), call, 1)
        results.append(joined(read(run())))
    return np.stack(results)


def asked(name: str, key: str, gradient: bool) -> np.ndarray | str:
    """The same from a process of its own; or why there is no result."""
    python = environments.python_for(name)
    if python is None:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "result.npy")
        words = ["--side", name, key, str(file), *(["--gradient"] if gradient else [])]
        done = subprocess.run(
            [python, "-m", "benchmarks.accuracy", *words],
            cwd=environments.ROOT, env=environments.with_threads(1),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if file.exists():
            return np.asarray(np.load(file))
    last = done.stderr.strip().splitlines()[-1:] or [f"ended with status {done.returncode}"]
    return last[0].rpartition("NotServed: ")[2]


def expected_of(call: Call, seed: int, float64: bool) -> np.ndarray:
    """What is exact, of float32 positions or of float64's."""
    workload = domain.draw(call, seed)
    results = []
    for level, grad in zip(workload.levels, gradients_of(workload, call), strict=True):
        winners = named(level, call) if call.gradient else {}
        at, of = in_float64(level, call) if float64 else (level, call)
        results.append(
            backward(grad.astype(np.float64), at, of, winners)[0]
            if call.gradient
            else forward(at, of)
        )
    return joined(results)


def units_of(call: Call, seed: int) -> np.ndarray:
    """The unit of each value of `expected_of`, in float32."""
    workload = domain.draw(call, seed)
    sizes = []
    for level, grad in zip(workload.levels, gradients_of(workload, call), strict=True):
        if call.gradient:
            wide = np.abs(grad.astype(np.float64))
            sizes.append(backward(wide, level, call, named(level, call))[0])
        else:
            sizes.append(largest_weighed(level, call))
    return unit(joined(sizes), np.float32)


# ---- all of it -----------------------------------------------------------------------------

DTYPES = "float32", "float64", "float16", "bfloat16"


def rows_of_ours() -> Iterable[dict[str, Any]]:
    """One row for each call and dtype of maps."""
    import ml_dtypes

    for key, call in domain.CALLS.items():
        for name in DTYPES:
            dtype = ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)
            print(key, name, "…", file=sys.stderr)
            errors = [ours(call, dtype, seed) for seed in SEEDS]
            yield {"call": key, "dtype": name} | {
                part: compared(joined(getattr(each, part) for each in errors))._asdict()
                for part in Ours._fields
            }


def rows_of_sides() -> Iterable[dict[str, Any]]:
    """One row for each call and side that has it, float32 throughout."""
    calls = [(key, False) for key in PEERS_CALLS] + [(key, True) for key in PEERS_GRADIENTS]
    for key, gradient in calls:
        call = replace(domain.CALLS[key], gradient="input" if gradient else None)
        exact = {
            float64: [expected_of(call, seed, float64) for seed in SEEDS]
            for float64 in (False, True)
        }
        units = [units_of(call, seed) for seed in SEEDS]
        for name in (peers.OURS, *peers.NAMES):
            print(key, name, "…", file=sys.stderr)
            row: dict[str, Any] = {"call": key, "gradient": gradient, "side": peers.name_of(name)}
            found = asked(name, key, gradient)
            if isinstance(found, str):
                yield row | {"none": found}
                continue
            for what, results in zip(("rounded", "float64"), exact.values(), strict=True):
                errors = [
                    np.abs(each.astype(np.float64) - result) / each_unit
                    for each, result, each_unit in zip(found, results, units, strict=True)
                ]
                row[what] = compared(joined(errors))._asdict()
            yield row


def versions() -> dict[str, str]:
    """Of ourselves and of every peer that is there, asked where it is installed."""
    code = (
        "import json, sys; from benchmarks import peers; "
        "print(json.dumps(peers.load(sys.argv[1]).versions()))"
    )
    found: dict[str, str] = {}
    for name in (peers.OURS, *peers.NAMES):
        python = environments.python_for(name)
        if python is not None:
            done = subprocess.run(
                [python, "-c", code, name], cwd=environments.ROOT,
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode == 0:
                found |= json.loads(done.stdout.splitlines()[-1])
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    parser.add_argument(
        "--side", nargs=3, metavar=("NAME", "CALL", "FILE"),
        help="only save what this side makes of a call; the script asks itself for it",
    )  # fmt: skip
    parser.add_argument("--gradient", action="store_true", help="of the call, to its map")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.side:
        name, key, file = options.side
        call = replace(domain.CALLS[key], gradient="input" if options.gradient else None)
        np.save(file, of_side(name, call))
        return
    record = {
        "machine": report.machine(),
        "versions": versions(),
        "seeds": len(SEEDS),
        "ours": list(rows_of_ours()),
        "sides": list(rows_of_sides()),
        "rows": [],
    }
    text = json.dumps(record, indent=1) + "\n"
    if options.json:
        options.json.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
