"""What every operator of the table can do, by dtype of the map and backend.

`test_capabilities.py` tries each cell; the site's table is made of them.
"""

import ast
from pathlib import Path
from typing import NamedTuple

import numpy as np

import roi_numba
from operators import RULES
from strategies import FLOATS, INTEGERS

DTYPES = [np.dtype(dtype) for dtype in (*FLOATS, *INTEGERS)]
BACKENDS = ("host", "CUDA", "torch", "JAX")
BINDINGS = {"torch": "torch", "JAX": "jax"}


class Capability(NamedTuple):
    """What comes out of a call, and which gradients come back.

    ``to_boxes`` is "exact", "straight through" where that goes through a rounding, or "zero" where
    cells do not move with the box; ``again`` says whether gradients have gradients.
    """

    result: np.dtype
    to_map: bool
    to_boxes: str
    again: bool


def is_float(dtype):
    return np.dtype(dtype).kind in "fV"  # V: bfloat16


def is_crop(rule):
    """Crops are float32 whatever is cropped, and differentiated once."""
    return rule.name == "crop_and_resize"


def capability(rule, dtype, backend):
    """One cell; None where the backend does not have the operator."""
    library = BINDINGS.get(backend)
    if library and rule.name not in public(library):
        return None
    same = is_float(dtype) and not is_crop(rule)
    to_map = is_float(dtype) or not library  # autograd has none to arrays of integers
    to_boxes = "exact" if rule.slope else "zero"
    if rule.name == "roi_warp":
        to_boxes = "straight through"
    return Capability(
        dtype if same else np.dtype(np.float32),
        to_map,
        to_boxes,
        bool(library) and to_map and not is_crop(rule),
    )


def public(library):
    """`__all__` of a module of the package, whose own library may not be installed."""
    path = Path(roi_numba.__file__).with_name(f"{library}.py")
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise LookupError(f"roi_numba/{library}.py has no __all__")


CELLS = {
    (rule.name, dtype, backend): cell
    for rule in RULES
    for dtype in DTYPES
    for backend in BACKENDS
    if (cell := capability(rule, dtype, backend))
}
