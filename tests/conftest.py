"""Hypothesis profiles: ``quick`` unless HYPOTHESIS_PROFILE says ``full``, which .ci/full does."""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Each worker of pytest-xdist keeps its own compiled code: two workers that filled one cache once
# ran another operator's kernel.  Since then keys name the operator and have files of their own,
# which is not yet proved to be enough; sharing a cache is test_startup's business.
if "PYTEST_XDIST_WORKER" in os.environ and "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = os.path.abspath(
        os.path.join(".pytest_cache", "numba", os.environ["PYTEST_XDIST_WORKER"])
    )

_common = settings(
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.register_profile("quick", _common, max_examples=25)
settings.register_profile("full", _common, max_examples=300)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture
def rng():
    return np.random.default_rng(20241129)
