"""Every operator, reduction and gradient once on small CuPy arrays: a short run for sanitizers."""

import cupy
import numpy as np

import roi_numba

OPERATORS = {
    "roi_pool": ("max", "mean"),
    "roi_align": ("mean", "max", "max_corner"),
    "roi_warp": ("max", "mean"),
    "crop_pool": ("max",),
    "prroi_pool": ("mean",),
}

BOXES = np.array(
    [
        [0, 1, 2, 30, 21],
        [1, -5, -5, 60, 40],
        [1, 3, 3, 3.5, 3.2],
        [0, np.nan, 1, 2, 3],
        [7, 1, 1, 9, 9],
    ],
    np.float32,
)


def main() -> None:
    rng = cupy.random.default_rng(0)
    boxes = cupy.asarray(BOXES)
    for dtype in (np.float32, np.float64, np.float16):
        for channel_axis in (1, -1):
            shape = (2, 37, 19, 23) if channel_axis == 1 else (2, 19, 23, 37)
            features = rng.standard_normal(shape).astype(dtype)
            for name, reductions in OPERATORS.items():
                operator = getattr(roi_numba, name)
                backward = getattr(roi_numba, f"{name}_backward")
                for reduce in reductions:
                    options = {"reduce": reduce} if len(reductions) > 1 else {}
                    pooled = operator(features, boxes, (3, 5), channel_axis=channel_axis, **options)
                    if reduce != "mean":
                        options["argmax"] = operator(
                            features, boxes, (3, 5), channel_axis=channel_axis,
                            return_argmax=True, **options,
                        )[1]  # fmt: skip
                    for deterministic in (True, False):
                        backward(
                            pooled, features, boxes, channel_axis=channel_axis,
                            deterministic=deterministic, **options,
                        )  # fmt: skip
    maps = [rng.standard_normal((2, 37, *size)).astype(np.float32) for size in ((19, 23), (9, 11))]
    levels = cupy.asarray([0, 1, 1, 0, 5])
    options = {"spatial_scales": [1, (0.5, 0.25)], "levels": levels, "channel_axis": 1}
    for operator in (roi_numba.roi_align, roi_numba.roi_pool):
        pooled = roi_numba.pyramid_pool(operator, maps, boxes, (3, 5), **options)
        roi_numba.pyramid_pool_backward(operator, pooled, maps, boxes, **options)
    corners = boxes[:3, 1:] / 32
    numbers = cupy.asarray([0, 1, 1])
    images = rng.integers(0, 255, (2, 19, 23, 3)).astype(np.uint8)
    crops = roi_numba.crop_and_resize(images, corners, (5, 4), box_indices=numbers)
    roi_numba.crop_and_resize_backward(crops, images, corners, box_indices=numbers)
    cupy.cuda.Device().synchronize()
    print("every kernel ran")


if __name__ == "__main__":
    main()
