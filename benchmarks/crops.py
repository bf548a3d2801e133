"""Crops in the terms of peers that have no such operator: where their samples lie."""

from typing import NamedTuple

import numpy as np

from .cases import Level, Workload


class OfImage(NamedTuple):
    """All crops of one image, one below the other."""

    image: np.ndarray  # (1, C, H, W)
    grid: np.ndarray  # (1, crops * height, width, 2) float32: x, y from -1 to 1, pixels' centres


def channels_first(images: np.ndarray) -> np.ndarray:
    """(N, H, W, C) as (N, C, H, W), the same memory."""
    return images.transpose(0, 3, 1, 2)


def positions(level: Level, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (K, height) and columns (K, width) of the samples, in pixels."""
    rows, columns = level.features.shape[1:3]
    y1, x1, y2, x2 = level.boxes[:, 1:].astype(np.float64).T
    y = np.linspace(y1 * (rows - 1), y2 * (rows - 1), size[0], axis=1)
    return y, np.linspace(x1 * (columns - 1), x2 * (columns - 1), size[1], axis=1)


def by_image(workload: Workload) -> list[OfImage]:
    """The samples as one grid for each image; images as views of the workload's."""
    (level,) = workload.levels
    rows, columns = level.features.shape[1:3]
    y, x = positions(level, workload.output_size)
    shape = (len(y), *workload.output_size)
    grids = np.empty((*shape, 2), np.float32)
    grids[..., 0] = (x * 2 / (columns - 1) - 1)[:, None, :]
    grids[..., 1] = (y * 2 / (rows - 1) - 1)[:, :, None]
    images = channels_first(level.features)
    width = shape[2]
    return [
        OfImage(images[n : n + 1], grids[level.boxes[:, 0] == n].reshape(1, -1, width, 2))
        for n in range(len(images))
    ]


def in_order(workload: Workload, pooled: list[np.ndarray]) -> np.ndarray:
    """The results (1, C, crops * height, width) of `by_image` as (K, height, width, C)."""
    (level,) = workload.levels
    channels = level.features.shape[3]
    crops = np.empty((len(level.boxes), *workload.output_size, channels), np.float32)
    for n, result in enumerate(pooled):
        lines = result[0].transpose(1, 2, 0)
        crops[level.boxes[:, 0] == n] = lines.reshape(-1, *workload.output_size, channels)
    return crops
