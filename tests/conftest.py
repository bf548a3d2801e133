"""Hypothesis profiles: ``quick`` unless HYPOTHESIS_PROFILE says ``full``, which .ci/full does."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

import roi_numba
from key_watch import keys_watched

# Scripts that recorded what peers computed, and import them.
collect_ignore = ["data"]
# Looked through for doctests they would be imported, and put a stand-in in CuPy's place: they are
# for processes of their own.
collect_ignore_glob = ["simulated*.py"]

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
def _keys_watched():
    with keys_watched():
        yield


@pytest.fixture(autouse=True)
def _threads_as_before():
    before = roi_numba.get_num_threads()
    yield
    roi_numba.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(20241129)
