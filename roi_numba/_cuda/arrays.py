"""Arrays in the memory of a CUDA device: CuPy's own, or borrowed through DLPack.

What `_memory.Memory` says of the host, for a device.  Nothing here waits for the device, but for
`check_boxes=True` and for gradients to boxes that lie in host memory.

An engine gets CuPy arrays on the current device, of any strides, at whole multiples of their item's
size.  bfloat16 comes as on the host: as records of one field (`_arrays.BFLOAT16`), which CuPy can
hold and view, be ml_dtypes there or not.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from .. import _arrays, _checks
from .._memory import HOST, Memory
from . import crop, engine, gradients
from .compile import MISSING

try:
    import cupy
    from cupy import ndarray
    from cupy.cuda.runtime import getDevice, setDevice
except ImportError as error:
    raise ImportError(MISSING) from error


_lent: deque[tuple[Any, list[Any]]] = deque()
"""Arrays that are not let go of before their event has happened."""

_lending = threading.Lock()


def memory_of(array: Any) -> "DeviceMemory":
    """The memory that an array on a device lies in, for one call."""
    if isinstance(array, ndarray):
        return DeviceMemory(array.data.device_id)
    number = array.__dlpack_device__()[1]
    home = _arrays.home(array)
    return TorchMemory(number, home) if home.__name__ == "torch" else LentMemory(number)


class DeviceMemory(Memory):
    """Memory of a device as CuPy's arrays have it, and CuPy's current stream."""

    checks = False
    engine = engine
    crops = crop
    gradients = gradients

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> "DeviceMemory":
        self.before = getDevice()
        if self.before != self.number:
            setDevice(self.number)
        return self

    def __exit__(self, *error: object) -> None:
        if self.before != self.number:
            setDevice(self.before)

    # ---- arrays ------------------------------------------------------------------------------

    def source(self, name: str, array: Any) -> Any:
        """The caller's array as CuPy's, over the same memory."""
        if not isinstance(array, ndarray):
            array = self._imported(name, array)
        array = _arrays.marked(array)
        if array.data.device_id != self.number:
            self._refuse(name, f"one on CUDA device {array.data.device_id}")
        if not array.dtype.isnative:
            raise TypeError(f"{name} must be in the device's order of bytes, got {array.dtype}")
        size = array.itemsize
        if array.data.ptr % size or any([stride % size for stride in array.strides]):
            # A GPU that reads such an array is lost to the process.
            raise ValueError(
                f"{name} must lie at whole multiples of its item's size of {size} bytes on a "
                f"device, got address {array.data.ptr:#x} and strides {array.strides}"
            )
        return array

    def _imported(self, name: str, array: Any) -> Any:
        _arrays.owner(name, array)
        if _arrays.on_host(array):
            self._refuse(name, f"a {type(array).__module__} array in host memory")
        kind, number = array.__dlpack_device__()
        if kind not in _arrays.CUDA_DEVICES or number != self.number:
            self._refuse(name, f"one on device {number}")
        return _arrays.imported(name, array, cupy.from_dlpack)

    def _refuse(self, name: str, got: str) -> None:
        raise TypeError(f"{name} must be on CUDA device {self.number} as input is, got {got}")

    def boxes(self, name: str, array: Any) -> Any:
        """As `source`, or where it is in host memory."""
        if type(array) is not ndarray:
            _arrays.owner(name, array)
            if _arrays.on_host(array):
                return HOST.boxes(name, array)
        return self.source(name, array)

    def brought(self, array: Any) -> Any:
        """What `boxes` gave, on the device: copied in the order of the stream."""
        return array if isinstance(array, ndarray) else cupy.asarray(array)

    def target(self, name: str, array: Any) -> Any:
        """The caller's array, to write a result to."""
        if _arrays.home(array).__name__.startswith("jax"):  # CuPy does not know
            raise ValueError(f"{name} must be writeable, got a read-only array")
        return self.source(name, array)

    def direct(self, target: Any) -> bool:
        """Whether an engine can write to it: always, if it is a `target`."""
        return True

    def apart(self, name: str, array: Any, other_name: str, other: Any) -> None:
        """ValueError if there is memory between the arrays' first and last elements in both."""
        if isinstance(other, ndarray) and array.size and other.size:
            (low, high), (other_low, other_high) = _reach(array), _reach(other)
            if low < other_high and other_low < high:
                raise ValueError(f"{name} must not share memory with {other_name}")

    empty = ndarray  # as cupy.empty, without a call between
    zeros = staticmethod(cupy.zeros)

    @staticmethod
    def handing_back(input: Any) -> Callable[[Any], Any]:
        """How a result from here becomes an array of the library that `input` came from."""
        if isinstance(input, ndarray):
            return _arrays.as_it_was(input)
        return _arrays.handing_back(input)

    def returned(self, given: Any, array: Any) -> Any:
        """An array from here as one like `given`; if that lies in host memory, this waits."""
        if isinstance(given, (list, tuple)) or (
            not isinstance(given, ndarray) and _arrays.on_host(given)
        ):
            return HOST.returned(given, _fetched(array))
        return self.handing_back(given)(array)

    # ---- boxes -------------------------------------------------------------------------------

    def regions(
        self, boxes: Any, numbers: Any, images: int, check: bool, indices: str = "batch_indices"
    ) -> tuple[Any, Any]:
        """Corners (K, 4) and image numbers (K,), these in the dtype of the corners or int64.

        Kernels look at their values, and give zeros for what is no box on an image.
        """
        several = isinstance(boxes, list)
        if check:
            there = [_fetched(part) for part in boxes] if several else _fetched(boxes)
            known = None if numbers is None else _fetched(numbers)
            HOST.regions(there, known, images, True, indices)
        corners, numbers, _ = _checks.regions(boxes, numbers, images, self, indices)
        if numbers.dtype != corners.dtype and numbers.dtype != np.int64:
            whole = numbers.astype(np.int64)
            if numbers.dtype.kind == "f":
                whole = cupy.where(whole == numbers, whole, -1)
            numbers = whole
        return corners, numbers

    def joined(self, parts: list[Any], counts: list[int]) -> tuple[Any, Any]:
        """Corners and image numbers of the images' boxes; how many, and those that are there."""
        if len(parts) == 1:
            corners = parts[0]
        else:
            corners = cupy.concatenate(parts) if parts else self.empty((0, 4), np.float64)
        numbers = self.empty((sum(counts),), np.int64)
        first = 0
        for image, count in enumerate(counts):
            if count:
                # Written there: nothing copied from the host can be part of a CUDA graph.
                numbers[first : first + count].fill(image)
            first += count
        return corners, numbers

    def levels(
        self, levels: Any, boxes: int, maps: int, images: Any, check: bool
    ) -> tuple[Any, Any]:
        """As on the host, but that kernels look at the numbers themselves."""
        if levels is None:
            return cupy.zeros((boxes,), np.int64), images
        _checks.level_numbers("levels", levels, boxes)
        if check:
            _checks.level_values("levels", _fetched(levels), maps)
        return self.brought(levels).astype(np.int64, copy=False), images

    def only(self, images: Any, wanted: Any) -> Any:
        """Images of the boxes that are wanted, -1 for others."""
        return cupy.where(wanted, images, images.dtype.type(-1))

    # ---- the engine --------------------------------------------------------------------------

    def manner(self, deterministic: bool) -> dict[str, Any]:
        """How the engine's way back is to be gone: in order, or with atomics."""
        return {"deterministic": deterministic}


class TorchMemory(DeviceMemory):
    """That of torch's tensors: torch's current stream, and whatever is allocated is torch's.

    With one stream there is nothing to wait for.  Two pools that keep what they once had would
    leave each other without memory; and what torch allocates may be part of its CUDA graphs.
    """

    def __init__(self, number: int, torch: Any) -> None:
        super().__init__(number)
        self.torch = torch
        self.entered = ExitStack()

    def __enter__(self) -> "TorchMemory":
        super().__enter__()
        try:
            stream = TorchStream(self.torch.cuda.current_stream(self.number))
            self.entered.enter_context(cupy.cuda.Stream.from_external(stream))
            self.entered.enter_context(cupy.cuda.using_allocator(self.allocated))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.entered.close()
        super().__exit__()

    def allocated(self, size: int) -> Any:
        """So many bytes, as CuPy's allocators return them."""
        storage = self.torch.UntypedStorage(size, device=f"cuda:{self.number}")
        memory = cupy.cuda.UnownedMemory(storage.data_ptr(), size, storage, self.number)
        return cupy.cuda.MemoryPointer(memory, 0)


class TorchStream:
    """A stream of torch's, also of those that do not speak CUDA's stream protocol."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.stream.cuda_stream


class LentMemory(DeviceMemory):
    """That of a library whose streams are not known: JAX.

    It waits for results and we for its arrays, through DLPack.  But it may use the memory of an
    array again once we let go of it, not knowing that kernels still read: so we hold it till a
    call that comes after that.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.arrays: list[Any] = []

    def _imported(self, name: str, array: Any) -> Any:
        array = super()._imported(name, array)
        self.arrays.append(array)
        return array

    def __exit__(self, *error: object) -> None:
        try:
            with _lending:
                if self.arrays:
                    event = cupy.cuda.Event(disable_timing=True)
                    event.record()
                    _lent.append((event, self.arrays))
                while _lent and _lent[0][0].done:
                    _lent.popleft()
        finally:
            super().__exit__()


def _fetched(array: Any) -> Any:
    """An array in host memory, after whatever else the stream has to do."""
    if not isinstance(array, ndarray):
        return array
    if array.dtype == _arrays.BFLOAT16:
        return array.view(np.uint16).get().view(_arrays.BFLOAT16)
    return array.get()


def _reach(array: Any) -> tuple[int, int]:
    """The addresses of an array's first byte, and of what follows the last."""
    low = high = array.data.ptr
    for size, stride in zip(array.shape, array.strides, strict=True):
        low += min(stride, 0) * (size - 1)
        high += max(stride, 0) * (size - 1)
    return low, high + array.itemsize
