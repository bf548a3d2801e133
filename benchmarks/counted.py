"""The calls whose instructions are counted: once natively, to compile them; then under valgrind.

``python -m benchmarks.counted``; what is counted and compared is in `instructions`.
"""

import ctypes
import gc
import math
import mmap
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import roi_numba

from .cases import IMAGE, draw_boxes, draw_features, fpn_levels

# A request to callgrind is a sequence of instructions that does nothing anywhere else: four
# rotations of a register by 128 bits in all, and an exchange of a register with itself.
REQUEST = bytes.fromhex(
    "4889f8"  # mov rax, rdi: the address of the request
    "31d2"  # xor edx, edx: the answer without valgrind
    "48c1c703 48c1c70d 48c1c73d 48c1c733"  # rol rdi, 3, 13, 61, 51
    "4887db"  # xchg rbx, rbx
    "4889d0c3"  # mov rax, rdx; ret
)
ZERO, DUMP, START, STOP = (0x43540000 + number for number in (1, 3, 4, 5))
"""Callgrind's requests: "CT" and a number, from valgrind's callgrind.h."""


class Callgrind:
    """What callgrind is asked to do; nothing happens where there is none."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._memory.write(REQUEST)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._send = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_void_p)(address)
        self._kept: list[Any] = []

    def request(self, number: int, text: bytes = b"") -> Callable[[], Any]:
        """Sends a request, perhaps with a text, in few instructions of its own."""
        buffer = ctypes.create_string_buffer(text)
        words = (ctypes.c_size_t * 6)(number, ctypes.addressof(buffer))
        self._kept += buffer, words
        return partial(self._send, ctypes.addressof(words))


def nhwc(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 2, 3, 1))


def calls() -> dict[str, Callable[[], Any]]:
    """Small calls of everything there is, by name: a thousandth to a hundredth of c4-head each."""
    rng = np.random.default_rng(0)
    boxes = draw_boxes(rng, 20)
    nchw = draw_features(rng, 96, 50, 84)
    half = nchw.astype(np.float16)
    grad = draw_features(rng, 20 * 96, 7, 7).reshape(20, 96, 7, 7)
    found: dict[str, Callable[[], Any]] = {}

    def pools(name: str, op: str, array: np.ndarray = nchw, **options: Any) -> None:
        found[name] = partial(getattr(roi_numba, op), array, boxes, 7, 1 / 16, **options)

    def goes_back(name: str, op: str, needs: str, **options: Any) -> None:
        backward = getattr(roi_numba, f"{op}_backward")
        found[name] = partial(backward, grad, nchw, boxes, 1 / 16, needs=needs, **options)

    found["tiny roi_align"] = partial(
        roi_numba.roi_align, nchw[:, :16, :32, :32].copy(), boxes[:1], 7, 1 / 16, 2
    )
    align = {"sampling_ratio": 2, "aligned": True}
    pools("roi_align", "roi_align", **align)
    pools("roi_align NHWC", "roi_align", nhwc(nchw), channel_axis=-1, **align)
    pools("roi_align float16", "roi_align", half, **align)
    pools("roi_align adaptive", "roi_align", aligned=True)
    pools("roi_align max", "roi_align", reduce="max", **align)
    pools("roi_pool", "roi_pool")
    pools("roi_pool NHWC", "roi_pool", nhwc(nchw), channel_axis=-1)
    pools("roi_pool float16", "roi_pool", half)
    pools("roi_pool argmax", "roi_pool", return_argmax=True)
    pools("roi_warp", "roi_warp")
    pools("crop_pool", "crop_pool")
    pools("prroi_pool", "prroi_pool")
    for op, options in (("roi_align", align), ("prroi_pool", {})):
        goes_back(f"{op} gradient to map", op, "input", **options)
        goes_back(f"{op} gradient to boxes", op, "boxes", **options)
    winners = roi_numba.roi_pool(nchw, boxes, 7, 1 / 16, return_argmax=True)[1]
    goes_back("roi_pool gradient to map", "roi_pool", "input", argmax=winners)
    goes_back("roi_warp gradient to boxes", "roi_warp", "boxes")

    maps = [
        draw_features(rng, 32, *(math.ceil(side / 2**level) for side in IMAGE))
        for level in range(3, 6)
    ]
    found["pyramid_pool"] = partial(
        roi_numba.pyramid_pool, roi_numba.roi_align, maps, boxes, 7,
        spatial_scales=[1 / 8, 1 / 16, 1 / 32], levels=fpn_levels(boxes, 3, 5) - 3, **align,
    )  # fmt: skip
    image = rng.integers(0, 256, (1, 270, 480, 3), np.uint8)
    corners = np.array([[0.1, 0.2, 0.6, 0.9], [0.3, 0.1, 0.4, 0.3]], np.float32)
    for name, axis, array in (("", -1, image), (" NCHW", 1, image.transpose(0, 3, 1, 2).copy())):
        found[f"crop_and_resize{name}"] = partial(
            roi_numba.crop_and_resize, array, corners, 64, box_indices=np.zeros(2, np.int32),
            channel_axis=axis,
        )  # fmt: skip
    return found


WARM = 10
"""Calls before the one that counts: after eight Python specialises what it runs."""


def main() -> None:
    """Dump the instructions of one call of each, warm, under its name."""
    roi_numba.set_num_threads(1)
    callgrind = Callgrind()
    start, zero, stop = (callgrind.request(number) for number in (START, ZERO, STOP))
    gc.disable()
    for name, call in calls().items():
        dump = callgrind.request(DUMP, name.encode())
        for _ in range(WARM):
            call()
        start()
        call()  # translated to valgrind's own code
        zero()
        call()
        dump()
        stop()


if __name__ == "__main__":
    main()
