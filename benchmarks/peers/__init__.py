"""The peers, one file each; adding one is adding a file.

A peer's file is named after the peer, imports it only inside its functions, and has

``NAME``
    what it is called;
``MODULE``
    what has to be importable for the peer to run;
``PACKAGES``
    what ``python -m benchmarks --install`` asks the registry for;
``versions() -> dict``
    name and version of what is timed;
``prepare(workload, call, threads) -> (run, read)``
    ``run()`` does the work on the peer's own tensors, called in the way that flatters the peer,
    and is all that is timed; ``read(run())`` gives the levels' outputs as NumPy arrays.
    Raises `NotServed` with a reason where the peer has no such operator;

and where its results are too far from exact to be equal, ``TOLERANCE``; where they are another's
in some places, ``OTHERWISE``.
"""

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple

from ..cases import Call


class NotServed(Exception):
    """The peer does not compute this."""


class Otherwise(NamedTuple):
    """A peer computes something slightly different under the name of a call's operator.

    It is timed if no more than ``share`` of its values differ, and the report says ``why``.
    """

    share: float
    why: str


def name_of(side: str) -> str:
    """What a side is called: a module of this package, or ourselves."""
    return OURS if side == OURS else str(load(side).NAME)


def only_float32_channels_first(peer: str, call: Call) -> None:
    """Refuse the other forms of a call."""
    if call.dtype != "float32":
        raise NotServed(f"{peer} wants boxes in float16 as well, whose pixels are others")
    if call.options.get("channel_axis") == -1:
        raise NotServed(f"{peer} takes channels first")


def only_gradient_to_input(peer: str, call: Call) -> None:
    """Refuse the gradient to the boxes."""
    if call.gradient == "boxes":
        raise NotServed(f"{peer} has no gradient to the boxes")


NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))
OURS = "roi_numba"


def load(name: str) -> ModuleType:
    """The module of the peer ``name``, or of ourselves."""
    if name == OURS:
        return importlib.import_module("benchmarks.ours")
    return importlib.import_module(f"benchmarks.peers.{name}")
