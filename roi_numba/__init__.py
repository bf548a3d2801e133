"""Region-of-interest pooling for NumPy arrays and any array that speaks DLPack."""

from ._cpu.threads import get_num_threads, set_num_threads
from .assign_levels import assign_levels
from .axis_weights import axis_weights
from .crop_and_resize import crop_and_resize, crop_and_resize_backward
from .crop_pool import crop_pool, crop_pool_backward
from .prroi_pool import prroi_pool, prroi_pool_backward
from .pyramid_pool import pyramid_pool, pyramid_pool_backward
from .roi_align import roi_align, roi_align_backward
from .roi_pool import roi_pool, roi_pool_backward
from .roi_warp import roi_warp, roi_warp_backward

__version__ = "0.1.0"

__all__ = [
    "assign_levels",
    "axis_weights",
    "crop_and_resize",
    "crop_and_resize_backward",
    "crop_pool",
    "crop_pool_backward",
    "get_num_threads",
    "prroi_pool",
    "prroi_pool_backward",
    "pyramid_pool",
    "pyramid_pool_backward",
    "roi_align",
    "roi_align_backward",
    "roi_pool",
    "roi_pool_backward",
    "roi_warp",
    "roi_warp_backward",
    "set_num_threads",
]
