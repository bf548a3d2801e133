"""Hypothesis profiles: ``quick`` unless HYPOTHESIS_PROFILE says ``full``, which .ci/full does."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numba import types

from roi_numba._cpu.compile import Kernel

# Scripts that recorded what peers computed, and import them.
collect_ignore = ["data"]

_common = settings(
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", _common, max_examples=20)
settings.register_profile("full", _common, max_examples=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(scope="session", autouse=True)
def keys_tell_types():
    """In every test: a key of `Kernel.typed` stands for the same types whenever it is used."""
    seen = {}
    typed = Kernel.typed

    def watched(kernel, key):
        def call(*arguments):
            found = [as_code_has_it(kernel.typeof_pyval(argument)) for argument in arguments]
            assert seen.setdefault((kernel, key), found) == found
            return typed(kernel, key)(*arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "typed", watched)
        yield


def as_code_has_it(kind):
    """A type without whether it may be written to, which is all the same to machine code."""
    return kind.copy(readonly=False) if isinstance(kind, types.Array) else kind


@pytest.fixture
def rng():
    return np.random.default_rng(20241129)
