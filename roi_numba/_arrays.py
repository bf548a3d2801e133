"""Whose array is this?  NumPy's own, or borrowed through DLPack without a copy.

Inside the library a bfloat16 array is an array of records of one uint16 field: NumPy has no
bfloat16 of its own and refuses it through DLPack.
"""

import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FLOAT32 = np.dtype(np.float32)
FLOAT16 = np.dtype([("float16", np.uint16)])
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])

HOST_DEVICES = (1, 3)
"""DLPack's kDLCPU and kDLCUDAHost."""

CUDA_DEVICES = (2, 13)
"""DLPack's kDLCUDA and kDLCUDAManaged."""


class SupportsDLPack(Protocol):
    """What an array must offer: NumPy, CuPy, torch, JAX and others do."""

    @property
    def shape(self) -> Any: ...

    def __dlpack__(self, *, stream: Any = ...) -> Any: ...

    def __dlpack_device__(self) -> Any: ...


def home(array: Any) -> Any:
    """The module an array comes from, and goes back to through its from_dlpack."""
    if hasattr(array, "__array_namespace__"):
        return array.__array_namespace__()
    # A subclass may be defined elsewhere: torchvision's tensors are torch's.
    for cls in type(array).__mro__:
        module = sys.modules.get(cls.__module__.partition(".")[0])
        if hasattr(module, "from_dlpack"):
            return module
    return sys.modules[type(array).__module__.partition(".")[0]]


def on_host(array: Any) -> bool:
    """Whether an array lies in host memory."""
    return isinstance(array, np.ndarray) or array.__dlpack_device__()[0] in HOST_DEVICES


def is_traced(array: Any) -> bool:
    """Whether an array of JAX has no values yet."""
    return any([cls.__name__ == "Tracer" for cls in type(array).__mro__])


def _is_bfloat16(array: Any) -> bool:
    return str(getattr(array, "dtype", "")).rpartition(".")[2] == "bfloat16"


def marked(array: Any) -> Any:
    """The array itself; one of bfloat16, of ml_dtypes or of records, as the library knows it.

    Records that are called aligned equal the library's, and Numba tells them apart.
    """
    bits = array.dtype.kind == "V" and (_is_bfloat16(array) or array.dtype == BFLOAT16)
    return array.view(BFLOAT16) if bits else array


def owner(name: str, array: Any) -> Any:
    """The library an array belongs to, as a module; TypeError if it is no array."""
    if isinstance(array, np.ndarray):
        return np
    if not hasattr(array, "__dlpack__") or isinstance(array, type):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    if getattr(array, "requires_grad", False):
        raise TypeError(
            f"{name} must not require grad here, got a tensor that does: detach() it, or use "
            "roi_numba.torch for gradients"
        )
    library = home(array)
    if library.__name__ == "torch":
        _check_tensor(name, array, library)
    elif is_traced(array):
        raise TypeError(f"{name} must not be traced here: use roi_numba.jax under jit and grad")
    return library


def _check_tensor(name: str, tensor: Any, torch: Any) -> None:
    """TypeError for a tensor whose memory does not hold all that it stands for."""
    if not hasattr(torch, "autograd"):  # another library of that name
        return
    forward_mode = torch.autograd.forward_ad
    # It is off within our own ops, whose tangents are looked after, and must not be asked there.
    watching = forward_mode._current_level >= 0 and torch._C._is_fwd_grad_enabled()
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or (
        watching and forward_mode.unpack_dual(tensor).tangent is not None
    ):
        raise TypeError(
            f"{name} must not be of torch.func or have a tangent here, got a tensor that does: use "
            "roi_numba.torch"
        )
    # DLPack exports the one as if it were not negated, the others as a null pointer.
    if tensor.is_neg():
        raise TypeError(f"{name} must not be lazily negated, got a tensor that is: resolve_neg()")
    if tensor.is_meta or tensor._is_zerotensor() or hasattr(tensor, "fake_mode"):
        raise TypeError(f"{name} must have memory, got a {type(tensor).__name__} without")


def same_library(name: str, array: Any, input: Any) -> None:
    """TypeError unless an array comes from where `input` does."""
    if type(array) is type(input):
        return
    if owner(name, array) is not owner("input", input):
        raise TypeError(
            f"{name} must come from the library of input, got {type(array).__name__} for "
            f"{type(input).__name__}"
        )


def host(name: str, array: Any) -> NDArray[Any]:
    """An array in host memory as a NumPy array over the same memory."""
    if not isinstance(array, np.ndarray):
        owner(name, array)
        if not on_host(array):
            raise TypeError(
                f"{name} must be in host memory as input is, got a {type(array).__module__} array "
                "on a device"
            )
        array = imported(name, array, np.from_dlpack)
    return np.asarray(marked(array))


def native(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy in this machine's order of bytes."""
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def imported(name: str, array: Any, from_dlpack: Callable[[Any], Any]) -> Any:
    """What `from_dlpack` makes of another library's array; bfloat16 comes as records."""
    bits = _is_bfloat16(array)
    if bits:
        array = array.view(getattr(home(array), "int16", np.int16))
    try:
        borrowed = from_dlpack(array)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} must be exportable through DLPack, got: {error}") from None
    return borrowed.view(BFLOAT16) if bits else borrowed


def itself(result: Any) -> Any:
    """The result as it is."""
    return result


def as_it_was(input: Any) -> Callable[[Any], Any]:
    """How a result, already an array of the library of `input`, becomes one of its dtype."""
    dtype = input.dtype
    if dtype.kind != "V":
        return itself
    return lambda result: result.view(dtype) if result.dtype == BFLOAT16 else result


def handing_back(input: Any) -> Callable[[Any], Any]:
    """How a result becomes an array of the library that `input` came from."""
    if isinstance(input, np.ndarray):
        return as_it_was(input)
    library = home(input)
    if not hasattr(library, "from_dlpack"):
        raise TypeError(f"input must come from a library with from_dlpack, got {library.__name__}")

    def leave(result: Any) -> Any:
        if result.dtype == BFLOAT16:
            return library.from_dlpack(result.view(np.int16)).view(library.bfloat16)
        return library.from_dlpack(result)

    return leave


def result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of a result: that of a floating-point input, float32 for others."""
    return dtype if dtype.kind == "f" or dtype == BFLOAT16 else FLOAT32


# These two take arrays of NumPy and of CuPy alike.


def widened(array: Any) -> Any:
    """16-bit floats as float32, all else as it is."""
    if array.dtype == BFLOAT16:
        return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array.astype(np.float32) if array.dtype == np.float16 else array


def rounded(array: Any, dtype: np.dtype[Any]) -> Any:
    """The array itself, or rounded to the nearest of a narrower float, to even in between."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if dtype != BFLOAT16:
            return array.astype(dtype)
        bits = array.astype(np.float32, order="C", copy=False).view(np.uint32)
        nearest = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
        nearest = np.where(np.isnan(array), np.uint32(0x7FC00000), nearest)
        return (nearest >> np.uint32(16)).astype(np.uint16).view(BFLOAT16)


class _Alias:
    """Memory described for `np.asarray`."""

    def __init__(self, interface: dict[str, Any]) -> None:
        self.__array_interface__ = interface


def addressable(array: NDArray[Any]) -> bool:
    """Whether elements lie at whole multiples of their size: not so in packed records."""
    itemsize = array.itemsize
    if not array.flags.aligned:
        return False
    return array.flags.c_contiguous or not any(stride % itemsize for stride in array.strides)


def flat_memory(array: NDArray[Any]) -> tuple[NDArray[Any], int, tuple[int, ...]]:
    """All memory between the first and last element of a 4-D array: (flat, origin, strides).

    Element (i, j, …) is ``flat[origin + i * strides[0] + j * strides[1] + …]``.  One flat,
    contiguous, nominally writeable array for every layout lets a kernel be compiled once; a
    kernel never writes to what it is given as a source.  The caller keeps `array` alive.
    """
    itemsize = array.itemsize
    if array.dtype.char == "e":
        array = array.view(FLOAT16)
    flags = array.flags
    if flags.c_contiguous and flags.writeable:
        b, c, d = array.shape[1:]
        return array.reshape(-1), 0, (b * c * d, c * d, d, 1)
    if not array.size:  # its strides lead nowhere
        return np.empty(0, array.dtype), 0, (0, 0, 0, 0)
    strides = tuple([stride // itemsize for stride in array.strides])
    low = sum(min(s, 0) * (n - 1) for s, n in zip(array.strides, array.shape, strict=True))
    high = sum(max(s, 0) * (n - 1) for s, n in zip(array.strides, array.shape, strict=True))
    interface = {
        "version": 3,
        "shape": ((high - low) // itemsize + 1,),
        "typestr": array.dtype.str,
        "descr": array.dtype.descr,
        "data": (array.__array_interface__["data"][0] + low, False),
    }
    return np.asarray(_Alias(interface)), -low // itemsize, strides
