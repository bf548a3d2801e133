"""Whether every key of `Kernel.typed` stands for the same types whenever it is used."""

from contextlib import contextmanager

import pytest
from numba import typeof, types

from roi_numba._cpu.compile import Kernel


@contextmanager
def keys_watched():
    """In this process: AssertionError by a call whose key had other types before."""
    seen = {}
    typed = Kernel.typed

    def watched(kernel, key):
        def call(*arguments):
            found = [_as_code_has_it(typeof(argument)) for argument in arguments]
            assert seen.setdefault((kernel, key), found) == found
            return typed(kernel, key)(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "typed", watched)
        yield


def _as_code_has_it(kind):
    """A type without whether it may be written to, which is all the same to machine code."""
    return kind.copy(readonly=False) if isinstance(kind, types.Array) else kind
