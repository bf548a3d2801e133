"""What the torch ops compute, and what shapes and dtypes come out.

Once the winners of a maximum are named, a pooled result is linear in the map, and so is its rate of
change as the boxes move.  Two forms say it all, each linear in everything it is written with:

    <bins, pool(map)>          <bins, rate(map, motion)>

Every op is one of them with one argument taken out (`Kind`), and its derivative with respect to an
argument is the same form with that one taken out instead.  The derivative of the first form with
respect to the boxes is the second without its motion.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch

from . import _derivatives, _op

ARGUMENTS = {"bins": "grad_output", "map": "input", "motion": "motion"}
"""The arguments of the forms, and what an op calls them.

``bins`` are like a pooled result, ``map`` like the input, and ``motion``, one number for each of
the boxes' own, says how they move.
"""

SIZES = {"bins": "output_size", "map": "input_size"}
"""The arguments that say how large a result is, where nothing else does."""


class Kind(NamedTuple):
    """A form without one argument: an op's name, what it returns, and what it is given instead."""

    suffix: str
    result: str
    given: tuple[str, ...]

    @property
    def moving(self) -> bool:
        """Whether it is the second form."""
        return "motion" in (self.result, *self.given)

    def told_apart(self, args: Iterable[Any]) -> "Arguments":
        """The arguments of its op by what they are."""
        rest = list(args)
        given = {name: rest.pop(0) for name in self.given}
        boxes, batch_indices, argmax = (rest.pop(0) for _ in range(3))
        size = rest.pop(0) if self.result in SIZES else None
        return Arguments(given, boxes, batch_indices, argmax, size, tuple(rest))


class Arguments(NamedTuple):
    """The arguments of any op; `settings`: the scale, the operator's own options, and the rest."""

    given: dict[str, Any]
    boxes: Any
    batch_indices: Any
    argmax: Any
    size: Any
    settings: tuple[Any, ...]

    @property
    def reduce(self) -> str:
        """The name of the reduction."""
        name: str = self.settings[-3]
        return name

    @property
    def channel_axis(self) -> int:
        """1 or -1."""
        axis: int = self.settings[-2]
        return axis


POOL = Kind("", "bins", ("map",))
NAMING = Kind("_argmax", "bins", ("map",))
"""As `POOL` for a maximum, and returns the winners too."""

FORMS = (
    POOL,
    Kind("_grad_input", "map", ("bins",)),
    Kind("_grad_boxes", "motion", ("bins", "map")),
    Kind("_rate", "bins", ("map", "motion")),
    Kind("_rate_grad_input", "map", ("bins", "motion")),
)


def without(result: str, form: Iterable[str]) -> Kind:
    """The kind that leaves `result` out of a form."""
    given = tuple(name for name in ARGUMENTS if name in form and name != result)
    (kind,) = (kind for kind in FORMS if (kind.result, kind.given) == (result, given))
    return kind


def computed(kind: Kind, module: Any, arguments: Arguments) -> Any:
    """Compute it, by the operator defined in `module`, from tensors that do not require grad."""
    given, boxes, batch_indices, argmax, size, settings = arguments
    scale, *own, reduce, channel_axis, check_boxes = settings
    rule, options = module.RULE, module.options(*own)
    shared = {
        "reduce": reduce,
        "batch_indices": batch_indices,
        "channel_axis": channel_axis,
        "check_boxes": check_boxes,
    }
    bins: Any = given.get("bins")
    map: Any = given.get("map")
    if kind is NAMING or (kind is POOL and argmax is None):
        return _op.forward(
            rule, options, map, boxes, size, scale, **shared, return_argmax=kind is NAMING, out=None
        )
    if reduce != "mean" and argmax is None:
        raise ValueError(f'argmax must be given with reduce="{reduce}", got None')
    shared["argmax"] = argmax
    if kind is POOL:
        if reduce == "mean":
            raise ValueError('argmax must be None with reduce="mean", got an array')
        return _derivatives.at_argmax(rule, options, map, boxes, scale, **shared)
    if map is None:  # only its shape is asked for
        map = bins.new_zeros(()).expand(size)
    if "motion" not in given:
        needs = "boxes" if kind.moving else "input"
        gradients = _derivatives.backward(
            rule, options, bins, map, boxes, scale, **shared, needs=(needs,)
        )
        return gradients[kind.moving]
    motion = given["motion"][:, -4:]
    if kind.result == "bins":
        return _derivatives.rate(rule, options, map, boxes, motion, size, scale, **shared)
    return _derivatives.rate_backward(rule, options, bins, map, boxes, motion, scale, **shared)


def fake(kind: Kind, arguments: Arguments) -> Any:
    """What comes out, without values."""
    given, boxes, _, _, size, _ = arguments
    if kind.result == "motion":
        dtype = boxes.dtype if boxes.is_floating_point() else torch.float64
        return boxes.new_empty(boxes.shape, dtype=dtype)
    if kind.result == "map":
        return given["bins"].new_empty(size)
    map, channel_axis = given["map"], arguments.channel_axis
    if map.ndim != 4:
        names = "(N, C, H, W)" if channel_axis == 1 else "(N, H, W, C)"
        raise ValueError(f"input must have shape {names}, got {tuple(map.shape)}")
    count, channels = boxes.shape[0], map.shape[channel_axis]
    shape = (count, channels, *size) if channel_axis == 1 else (count, *size, channels)
    dtype = map.dtype if map.is_floating_point() else torch.float32
    pooled = map.new_empty(shape, dtype=dtype)
    return (pooled, map.new_empty(shape, dtype=torch.int64)) if kind is NAMING else pooled
