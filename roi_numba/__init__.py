"""Region-of-interest pooling for NumPy arrays and any array that speaks DLPack."""

from ._cpu.threads import get_num_threads, set_num_threads
from .axis_weights import axis_weights
from .prroi_pool import prroi_pool
from .roi_align import roi_align
from .roi_pool import roi_pool
from .roi_warp import roi_warp

__version__ = "0.1.0"

__all__ = [
    "axis_weights",
    "get_num_threads",
    "prroi_pool",
    "roi_align",
    "roi_pool",
    "roi_warp",
    "set_num_threads",
]
