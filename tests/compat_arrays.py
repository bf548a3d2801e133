"""The arrays that the rows of `roi_numba.compat` name, small ones."""

import numpy as np

_rng = np.random.default_rng(5)
_input = _rng.normal(size=(2, 3, 13, 17)).astype(np.float32)
_x1, _y1 = _rng.uniform(-40, 230, (2, 24))
_width, _height = np.exp2(_rng.uniform(2, 9, (2, 24)))
_xyxy = np.stack([_x1, _y1, _x1 + _width, _y1 + _height], 1).astype(np.float32)
_yxyx = _xyxy[:, [1, 0, 3, 2]]
_counts = np.array([10, 14])
_indices = np.repeat(np.arange(2), _counts)
_normalized = _yxyx / np.float32(256)
_inputs = [_rng.normal(size=(2, 3, 64 >> i, 80 >> i)).astype(np.float32) for i in range(4)]

ARRAYS = {
    "input": _input,
    "image": np.moveaxis(_input, 1, -1).copy(),
    "inputs": _inputs,
    "images": [np.moveaxis(each, 1, -1) for each in _inputs],
    "image_meta": np.array([[0, 0, 0, 0, 1024, 1024, 3]] * 2),
    "boxes": np.column_stack([_indices, _xyxy]).astype(np.float32),
    "xyxy": _xyxy,
    "yxyx": _yxyx,
    "normalized": _normalized,
    "unit_boxes": np.column_stack([_indices, _normalized[:, [1, 0, 3, 2]]]).astype(np.float32),
    "indices": _indices,
    "counts": _counts,
    "by_image": [_xyxy[:10], _xyxy[10:]],
}
