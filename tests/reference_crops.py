"""Crops as TensorFlow's documentation and sources define them: what the tests hold to be right.

Loops over boxes and pixels of crops; positions are rounded operation by operation in the dtype of
the geometry, because there the rounding decides what is off the image, and all else is float64.

A box with a non-finite coordinate or a bad index gives the extrapolation value, and no gradient.
"""

import math

import numpy as np


@np.errstate(all="ignore")
def crop_and_resize(
    input,
    boxes,
    crop_size,
    *,
    box_indices,
    method="bilinear",
    extrapolation_value=0.0,
    normalized=True,
    edges="exact",
):
    """One sample for each pixel of the crops of images (N, H, W, C)."""
    images = np.asarray(input).astype(np.float64)
    height, width = (crop_size, crop_size) if np.ndim(crop_size) == 0 else crop_size
    crops = np.full((len(boxes), height, width, images.shape[3]), float(extrapolation_value))
    for k, image, rows, columns in _crops(
        images, boxes, box_indices, (height, width), method, normalized, edges
    ):
        for p, (y, _) in enumerate(rows):
            for q, (x, _) in enumerate(columns):
                if y and x:
                    crops[k, p, q] = sum(
                        wy * wx * image[i, j] for i, wy, _ in y for j, wx, _ in x if wy * wx
                    )
    return crops


@np.errstate(all="ignore")
def crop_and_resize_backward(
    grad_output,
    input,
    boxes,
    *,
    box_indices,
    method="bilinear",
    normalized=True,
    edges="exact",
):
    """The gradients of images and boxes; a sample on a whole pixel has no slope."""
    images = np.asarray(input).astype(np.float64)
    gradients = np.asarray(grad_output).astype(np.float64)
    grad_images, grad_boxes = np.zeros(images.shape), np.zeros((len(boxes), 4))
    for k, image, rows, columns in _crops(
        images, boxes, box_indices, gradients.shape[1:3], method, normalized, edges
    ):
        grad_image = grad_images[int(box_indices[k])]
        for p, (y, (y_low, y_high)) in enumerate(rows):
            for q, (x, (x_low, x_high)) in enumerate(columns):
                gradient = gradients[k, p, q]
                for i, wy, slope_y in y:
                    for j, wx, slope_x in x:
                        if wy * wx:
                            grad_image[i, j] += gradient * (wy * wx)
                        value = (gradient * image[i, j]).sum()
                        by_y, by_x = slope_y * wx * value, wy * slope_x * value
                        grad_boxes[k] += by_y * y_low, by_x * x_low, by_y * y_high, by_x * x_high
    return grad_images, grad_boxes


def _crops(images, boxes, box_indices, bins, method, normalized, edges):
    """Good boxes: their number, image, and what each axis's samples read and move by."""
    boxes = np.asarray(boxes)
    T = np.float64 if boxes.dtype == np.float64 or boxes.dtype.kind in "iu" else np.float32
    if edges == "tensorflow":
        T = np.float32
    for k, box in enumerate(boxes):
        if not np.isfinite(box).all() or not 0 <= box_indices[k] < len(images):
            continue
        image = images[int(box_indices[k])]
        sides = []
        for axis in range(2):
            size, n, (low, high) = image.shape[axis], bins[axis], box[axis::2].astype(T)
            reach = T(size - 1 if normalized else 1)
            side = []
            for p in range(n):
                if n == 1:
                    t, along = T(0.5) * (low + high) * reach, 0.5
                elif p == n - 1 and edges == "exact":
                    t, along = high * reach, 1.0
                else:
                    t = low * reach + T(p) * ((high - low) * reach / T(n - 1))
                    along = p / (n - 1)
                moves = float(reach) * (1 - along), float(reach) * along
                side.append((_read(float(t), size, method), moves))
            sides.append(side)
        yield k, image, *sides


def _read(t, size, method):
    """The pixels of a sample as (pixel, weight, slope); none off the image."""
    if not 0 <= t <= size - 1:
        return ()
    if method == "nearest":
        return ((math.floor(t) + (t - math.floor(t) >= 0.5), 1.0, 0.0),)
    i, j = math.floor(t), math.ceil(t)
    if i == j:
        return ((i, 1.0, 0.0),)
    return (i, 1 - (t - i), -1.0), (j, t - i, 1.0)
