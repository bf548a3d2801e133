"""The peers, one file each; adding one is adding a file.

A peer's file is named after the peer, imports it only inside its functions, and has

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

and where its results are too far from exact to be equal, ``TOLERANCE``.
"""

import importlib
import pkgutil
from types import ModuleType


class NotServed(Exception):
    """The peer does not compute this."""


NAMES = sorted(module.name for module in pkgutil.iter_modules(__path__))
OURS = "roi_numba"


def load(name: str) -> ModuleType:
    """The module of the peer ``name``, or of ourselves."""
    if name == OURS:
        return importlib.import_module("benchmarks.ours")
    return importlib.import_module(f"benchmarks.peers.{name}")
