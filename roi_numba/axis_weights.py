"""What an operator reads along one axis, as a sparse matrix: for figures, tests and export."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _checks

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def axis_weights(
    op: Callable[..., Any] | str,
    boxes: Any,
    size: int,
    bins: int,
    /,
    spatial_scale: float = 1.0,
    **options: Any,
) -> "csr_array":
    """Return the weights with which an operator's bins read the pixels of one axis.

    They come from the operator's own rule.  In two dimensions a mean is
    ``weights_y @ map @ weights_x.T``; for a maximum the matrix shows what a bin looks at.

    Parameters
    ----------
    op : callable or str
        An operator of this package, or its name.
    boxes : array_like, shape (K, 2) or (2,)
        Start and end of each box along the axis, in the unit that `op` takes: image pixels; of
        `crop_and_resize` from 0 to 1, or pixels of the map with ``normalized=False``.  float32 is
        computed in float32, everything else in float64, as in the operator.
    size : int
        Pixels of the map along the axis.
    bins : int
        Bins per box.
    spatial_scale : float, default 1.0
        Feature pixels per image pixel.
    **options
        Options of `op` that concern its geometry: ``sampling_ratio``, ``aligned``, ``rounding``,
        ``bins``, ``quantize``, ``border``, ``method``, ``normalized``, ``edges``.

    Returns
    -------
    weights : scipy.sparse.csr_array, shape (K * bins, size)
        Row ``k * bins + p`` has the weights of bin p of box k; no zeros are stored.

    Raises
    ------
    ValueError
        A shape, value or option that makes no sense.
    TypeError
        An argument of the wrong type, or an option that `op` does not have.
    ImportError
        If SciPy is not installed.

    See Also
    --------
    roi_align, roi_pool, roi_warp, prroi_pool, crop_pool, crop_and_resize

    Notes
    -----
    A weight is the sum of what the entries of a bin, samples or cells, give a pixel, over the
    number of them that the bin's mean divides by.

    Examples
    --------
    >>> import roi_numba
    >>> roi_numba.axis_weights("prroi_pool", [1.0, 4.0], 6, 2).toarray()
    array([[0.        , 0.33333333, 0.58333333, 0.08333333, 0.        ,
            0.        ],
           [0.        , 0.        , 0.08333333, 0.58333333, 0.33333333,
            0.        ]])
    >>> roi_numba.axis_weights("roi_pool", [1.0, 4.0], 6, 2, bins="exact").toarray()
    array([[0. , 0.5, 0.5, 0. , 0. , 0. ],
           [0. , 0. , 0. , 0.5, 0.5, 0. ]])
    """
    try:
        from scipy.sparse import csr_array
    except ImportError:
        raise ImportError("axis_weights needs SciPy, which is not installed") from None

    rule = _rule(op)
    own, other = rule.options(**options)
    if own != other:
        raise ValueError("options must be those of one axis, got a (height, width) pair")
    size = _checks.whole("size", size, 0)
    bins = _checks.whole("bins", bins, 1)
    spatial_scale = _checks.scale("spatial_scale", spatial_scale)
    intervals = np.asarray(boxes)
    if intervals.shape[-1:] != (2,) or intervals.ndim > 2:
        raise ValueError(f"boxes must have shape (K, 2) or (2,), got {intervals.shape}")
    intervals = _checks.geometry("boxes", intervals.reshape(-1, 2))
    axis_options = (intervals.dtype.type(spatial_scale), *own)

    rows, columns, weights = [], [], []
    with np.errstate(all="ignore"):  # coordinates out of range are the rule's business
        for k in range(len(intervals)):
            if not np.isfinite(intervals[k]).all():
                raise ValueError(f"boxes must be finite, got {intervals[k].tolist()} for box {k}")
            span = rule.span(intervals[k, 0], intervals[k, 1], bins, axis_options)
            for p in range(bins):
                first, last, divisor = rule.entries(span, p, bins, size, axis_options)
                for e in range(first, last):
                    pixel, *both = rule.entry(span, p, e, bins, size, axis_options)
                    for step, weight in enumerate(both):
                        if weight != 0:
                            rows.append(k * bins + p)
                            columns.append(pixel + step)
                            weights.append(weight / divisor)
    shape = len(intervals) * bins, size
    matrix = csr_array((np.array(weights, intervals.dtype), (rows, columns)), shape)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def _rule(op: Callable[..., Any] | str) -> Any:
    """The rule of an operator of this package."""
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    package = import_module(__package__)
    module = getattr(getattr(package, name, None), "__module__", "")
    rule = getattr(import_module(module), "RULE", None) if module.startswith(__package__) else None
    if rule is None or (callable(op) and getattr(package, name) is not op):
        raise ValueError(f"op must be an operator of roi_numba or its name, got {op!r}")
    return rule
