"""The operators as other libraries have them: one module per peer, imported when asked for.

`roi_numba.compat.torchvision` and the others have the peer's names, arguments, box layouts and
defaults, on arrays of any library that the operators take; tensors of torch and arrays of JAX keep
their gradients.  No module computes anything itself, none imports its peer to pool.  Where a peer
reads beyond its arrays, or rounds a batch index, ours raises as it always does.

The ``TABLE`` of a module has its calls beside the same calls of `roi_numba`; ``python -m
roi_numba.compat`` prints all of them as Markdown.
"""

from pkgutil import iter_modules
from typing import NamedTuple

__all__ = ["PEERS", "Row"]

PEERS = tuple(sorted(each.name for each in iter_modules(__path__) if each.name[0] != "_"))
"""Names of the modules."""


class Row(NamedTuple):
    """A call of a peer and the same call here, as Python that the tests evaluate and compare.

    ``theirs`` sees the names of its module, ``ours`` ``roi_numba`` and ``np``, both the arrays of
    tests/compat_arrays.py; ``quirk`` is a sentence of Markdown on what is easily overlooked.
    """

    theirs: str
    ours: str
    quirk: str = ""
