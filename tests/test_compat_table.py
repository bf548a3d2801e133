"""The table of peers' calls and ours: each row's sides are equal, the document is up to date."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import roi_numba
import subprocesses
from compat_arrays import ARRAYS
from roi_numba.compat import PEERS
from roi_numba.compat.__main__ import table

ROWS = [
    pytest.param(name, row, id=f"{name}: {row.theirs}")
    for name in PEERS
    for row in import_module(f"roi_numba.compat.{name}").TABLE
]


@pytest.mark.parametrize(("peer", "row"), ROWS)
def test_both_sides_are_the_same(peer, row):
    module = import_module(f"roi_numba.compat.{peer}")
    theirs = eval(row.theirs, vars(module) | {"np": np} | ARRAYS)
    ours = eval(row.ours, {"roi_numba": roi_numba, "np": np} | ARRAYS)
    assert theirs.dtype == ours.dtype
    assert np.count_nonzero(theirs) > theirs.size / 4  # the boxes see the maps
    # A few bits of float32, where one side computes in float64.
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6 * np.abs(ours).max())


def test_every_function_is_in_its_table():
    for name in PEERS:
        module = import_module(f"roi_numba.compat.{name}")
        for function in module.__all__:
            if function == "new_ops":  # which makes classes of the others
                continue
            assert any(f"{function}(" in row.theirs for row in module.TABLE), function


def test_the_document_is_the_table():
    document = Path(__file__).parents[1] / "docs" / "compat.md"
    assert document.read_text(encoding="utf-8") == table(), "python -m roi_numba.compat"


def test_nothing_is_imported_before_it_is_asked_for():
    seen = "print(sorted(name for name in sys.modules if 'compat.' in name or name == 'torch'))"
    assert "roi_numba.compat" not in subprocesses.run(f"import sys, roi_numba; {seen}")
    code = f"import sys; from roi_numba.compat import torchvision; {seen}"
    assert "torch'" not in subprocesses.run(code)
