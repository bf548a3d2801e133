"""Examples of docstrings that need a library which may not be there."""

from importlib.util import find_spec

import pytest

NEEDS = {"roi_numba.compat.onnx.new_ops": "onnx"}


def pytest_collection_modifyitems(items):
    """Skip them without it.  Those of whole modules are left out by pytest."""
    for item in items:
        library = NEEDS.get(item.name)
        if library and find_spec(library) is None:
            item.add_marker(pytest.mark.skip(reason=f"{library} is not installed"))
