"""What a judge holds results and errors to."""

import re
import traceback

import ml_dtypes
import numpy as np

from test_dlpack import Foreign

BEGINNING = re.compile(
    r"(batch index in boxes|[a-z_]+(\[\d+\])?) must "
    r"(not )?(be|have|come|name|require|share|lie|overlap)\b"
)
PYTHONS_OWN = re.compile(
    r"\w+\(\) (missing \d+ required |takes |"
    r"got (an unexpected keyword|some positional-only|multiple))"
)


def unwrapped(array):
    """NumPy's array of one that came through DLPack."""
    return array._array if isinstance(array, Foreign) else array


def assert_bits(actual, wanted):
    """The same shape, dtype and bits; of NaN any."""
    assert (actual.shape, actual.dtype) == (wanted.shape, wanted.dtype), (
        f"{actual.dtype} {actual.shape} instead of {wanted.dtype} {wanted.shape}"
    )
    kind = f"u{actual.itemsize}"
    one, other = (np.ascontiguousarray(each) for each in (actual, wanted))
    differ = one.view(kind) != other.view(kind)
    if differ.any():
        if one.dtype.kind not in "iub":
            differ &= ~(np.isnan(one) & np.isnan(other))
        where = np.argwhere(differ)[:3].tolist()
        assert not where, f"other bits at {where}: {one[differ][:3]} instead of {other[differ][:3]}"


def assert_boxes(given, found, wanted):
    """Gradients (K, 5) or (K, 4) in the form and dtypes of the boxes."""
    first = 0
    if isinstance(given, (list, tuple)):
        assert type(found) is list
        pairs = list(zip(given, found, strict=True))
    else:
        pairs = [(given, found)]
    for part, gradient in pairs:
        if isinstance(part, (list, tuple)):
            assert type(gradient) is np.ndarray
        part, gradient = np.asarray(unwrapped(part)), unwrapped(gradient)
        columns = part.shape[1] if part.ndim == 2 else 4
        rows = wanted[first : first + len(part)][:, -columns:]
        first += len(part)
        dtype = part.dtype.newbyteorder("=") if part.dtype.kind == "f" else part.dtype
        dtype = dtype if dtype.kind in "fV" else np.dtype(np.float64)
        with np.errstate(all="ignore"):
            rows = rows.astype(dtype)
        assert gradient.dtype == dtype, f"{gradient.dtype} instead of {dtype}"
        if columns == 5 and rows.shape[1] == 5:
            assert not gradient[:, 0].any()
        # NumPy knows no NaN of bfloat16; from sums in float64 float16 is rounded once, not twice.
        gradient, rows = gradient.astype(np.float64), rows.astype(np.float64)
        eps = float(ml_dtypes.finfo(dtype).eps) * (dtype.itemsize == 2)
        np.testing.assert_allclose(gradient, rows, rtol=eps, atol=eps * 2.0**-14)


def assert_sentence(error):
    """It names an argument and what came, once, and comes from where arguments are checked."""
    message = str(error)
    assert isinstance(error, (TypeError, ValueError, IndexError)), f"{error!r} is no such error"
    last = traceback.extract_tb(error.__traceback__)[-1]
    if isinstance(error, TypeError) and PYTHONS_OWN.search(message):
        return
    assert BEGINNING.match(message), f"not one of our sentences: {type(error).__name__}: {message}"
    assert "/roi_numba/" in last.filename, f"raised in {last.filename}"
    assert not message.endswith(".")
