"""`axis_weights`: the operators' own weights, and what is said of wrong arguments."""

import numpy as np
import pytest

import roi_numba
from operators import MEANS

BOXES = np.array(
    [
        [0, 1.0, 2.0, 9.5, 6.25],
        [0, -7.0, -3.0, 4.0, 30.0],
        [0, 8.0, 8.0, 8.0, 8.0],
        [0, 6.0, 5.0, 2.0, 1.0],
        [0, -90.0, 3.0, -50.0, 6.0],
        [0, -4000.0, 2.0, 4000.0, 9.0],
    ]
)
CASES = [
    pytest.param(operator, options, id=f"{operator.name}-{options}")
    for operator, _ in MEANS
    for options in operator.all_options()
    if not isinstance(options.get("sampling_ratio"), tuple)
]


@pytest.mark.parametrize(("operator", "options"), CASES)
def test_a_mean_is_two_matrices(operator, options, rng):
    """weights_y @ map @ weights_x.T is the operator's mean, whatever the options."""
    height, width, bins_y, bins_x, scale = 9, 11, 3, 2, 0.75
    features = rng.standard_normal((1, 1, height, width))
    along_x = roi_numba.axis_weights(
        operator.name, BOXES[:, [1, 3]], width, bins_x, spatial_scale=scale, **options
    )
    along_y = roi_numba.axis_weights(
        operator.function, BOXES[:, [2, 4]], height, bins_y, spatial_scale=scale, **options
    )
    assert along_x.shape == (len(BOXES) * bins_x, width)
    assert (along_x.data != 0).all()
    weights_y = along_y.toarray().reshape(len(BOXES), bins_y, height)
    weights_x = along_x.toarray().reshape(len(BOXES), bins_x, width)
    mean = operator.reductions["mean"]
    pooled = operator.function(features, BOXES, (bins_y, bins_x), scale, **options, **mean)
    expected = weights_y @ features[0, 0] @ weights_x.transpose(0, 2, 1)
    np.testing.assert_allclose(pooled[:, 0], expected, rtol=0, atol=1e-13)


def test_geometry_dtype():
    """float32 boxes are computed in float32, whose bins of 57 cells overrun by one."""
    for dtype, cells in ((np.float32, 10), (np.float64, 9)):
        weights = roi_numba.axis_weights("roi_pool", np.array([0, 56], dtype), 60, 7, bins="float")
        assert weights.dtype == dtype
        assert (weights.toarray()[6] != 0).sum() == cells


def test_one_box_and_none():
    assert roi_numba.axis_weights("roi_align", [0, 4], 5, 3).shape == (3, 5)
    assert roi_numba.axis_weights("roi_align", np.empty((0, 2)), 5, 3).shape == (0, 5)
    assert roi_numba.axis_weights("prroi_pool", [[0, 4]], 0, 3).shape == (3, 0)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "words"),
    [
        (("nothing", [0, 4], 5, 3), {}, ValueError, "op must be an operator.*'nothing'"),
        ((roi_numba.get_num_threads, [0, 4], 5, 3), {}, ValueError, "op must be an operator"),
        (("Rule", [0, 4], 5, 3), {}, ValueError, "op must be an operator"),
        ((np.mean, [0, 4], 5, 3), {}, ValueError, "op must be an operator"),
        (("roi_align", [0, 4, 5], 5, 3), {}, ValueError, r"boxes .*\(K, 2\).*\(3,\)"),
        (("roi_align", [0, np.nan], 5, 3), {}, ValueError, "boxes must be finite.*box 0"),
        (("roi_align", [0, 1j], 5, 3), {}, TypeError, "boxes .*complex"),
        (("roi_align", [0, 4], -1, 3), {}, ValueError, "size must be at least 0, got -1"),
        (("roi_align", [0, 4], 5, 0), {}, ValueError, "bins must be at least 1, got 0"),
        (("roi_align", [0, 4], 5, 2.5), {}, TypeError, "bins must be an integer, got 2.5"),
        (("roi_align", [0, 4], 5, 3), {"spatial_scale": 0}, ValueError, "spatial_scale"),
        (("roi_align", [0, 4], 5, 3), {"sampling_ratio": (1, 2)}, ValueError, "one axis"),
        (("roi_align", [0, 4], 5, 3), {"rounding": "truncate"}, TypeError, "rounding"),
        (("roi_pool", [0, 4], 5, 3), {"bins": "none"}, ValueError, 'bins must be one of "exact"'),
    ],
)
def test_errors(arguments, options, error, words):
    with pytest.raises(error, match=words):
        roi_numba.axis_weights(*arguments, **options)
