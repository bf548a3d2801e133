"""CuPy without a GPU: as much of it as the path of a call's arrays uses, over NumPy's memory.

It is strict where a GPU is: an array belongs to one device, can be worked on only where that is
current, and cannot become NumPy's without being asked for, which the machine counts as waiting.
"""

import ctypes
import sys
import types
from contextlib import contextmanager

import numpy as np

GARBAGE = 0x7B
"""Every byte of memory that nobody has written to."""


class Machine:
    """The devices, and what happened there."""

    def __init__(self):
        self.devices = 2
        self.forget()

    def forget(self):
        """As after a reboot."""
        self.device = 0
        self.streams = [Stream(0, number) for number in range(self.devices)]
        self.allocator = None
        self.waits, self.copies = 0, 0
        self.exchanges = []  # the streams that other libraries' arrays were asked to wait for

    @contextmanager
    def unchanged(self):
        """Within it everybody leaves devices, streams and allocators as they were."""
        before = self.device, list(self.streams), self.allocator
        yield
        assert before == (self.device, self.streams, self.allocator)


class ndarray:
    """What CuPy calls so."""

    __module__ = "cupy"

    def __init__(self, shape, dtype=float, memptr=None, strides=None, order="C"):
        dtype = np.dtype(dtype)
        assert dtype.kind in "biufcV", dtype
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if memptr is None:
            memptr = (machine.allocator or allocated)(size)
        memory = memptr.mem
        flat = np.frombuffer(memory.buffer, np.uint8, size, memptr.offset)
        self._array = flat.view(dtype).reshape(shape)
        self._device, self._memory = memory.device_id, memory

    @classmethod
    def over(cls, array, device=None):
        """The device's memory is that of a NumPy array."""
        self = cls.__new__(cls)
        self._array = array
        self._device = machine.device if device is None else device
        return self

    def _now(self, *others):
        """NumPy's arrays, to work on."""
        for array in (self, *others):
            if isinstance(array, ndarray):
                assert array._device == machine.device, "another device's array"
            elif isinstance(array, np.ndarray) and array.ndim:
                raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return [plain(array) for array in (self, *others)]

    # ---- what it is --------------------------------------------------------------------------

    dtype = property(lambda self: self._array.dtype)
    shape = property(lambda self: self._array.shape)
    strides = property(lambda self: self._array.strides)
    ndim = property(lambda self: self._array.ndim)
    size = property(lambda self: self._array.size)
    nbytes = property(lambda self: self._array.nbytes)
    itemsize = property(lambda self: self._array.itemsize)
    device = property(lambda self: Device(self._device))

    @property
    def data(self):
        return types.SimpleNamespace(ptr=self._array.ctypes.data, device_id=self._device)

    @property
    def flags(self):
        flags = self._array.flags
        return types.SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=flags.owndata
        )

    def __len__(self):
        return len(self._array)

    # ---- what its device does ----------------------------------------------------------------

    def view(self, dtype):
        return ndarray.over(self._array.view(dtype), self._device)

    def __getitem__(self, key):
        return ndarray.over(self._array[key], self._device)

    def __setitem__(self, key, value):
        array, value = self._now(value)
        array[key] = value

    def reshape(self, *shape):
        return ndarray.over(self._array.reshape(*shape), self._device)

    def fill(self, value):
        self._now()[0].fill(value)

    def copy(self):
        return ndarray.over(self._now()[0].copy())

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        assert self.dtype.kind in "biuf", "CuPy cannot convert records"
        with np.errstate(all="ignore"):
            array = self._now()[0].astype(dtype, order=order, copy=copy)
        return self if array is self._array else ndarray.over(array)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        assert method == "__call__"
        assert not options
        return ndarray.over(ufunc(*ndarray._now(*inputs)))

    def __array_function__(self, function, types, args, kwargs):
        return getattr(sys.modules["cupy"], function.__name__)(*args, **kwargs)

    def __add__(self, other):
        return np.add(self, other)

    __radd__ = __add__

    def __sub__(self, other):
        return np.subtract(self, other)

    def __mul__(self, other):
        return np.multiply(self, other)

    def __truediv__(self, other):
        return np.divide(self, other)

    def __lshift__(self, other):
        return np.left_shift(self, other)

    def __rshift__(self, other):
        return np.right_shift(self, other)

    def __and__(self, other):
        return np.bitwise_and(self, other)

    def __eq__(self, other):
        return np.equal(self, other)

    def __ge__(self, other):
        return np.greater_equal(self, other)

    def __gt__(self, other):
        return np.greater(self, other)

    def __lt__(self, other):
        return np.less(self, other)

    __hash__ = None

    # ---- to where it is not ------------------------------------------------------------------

    def get(self):
        machine.waits += 1
        assert not self.dtype.names, "records are not fetched"
        return self._now()[0].copy()

    def _wait(self, *_):
        raise AssertionError("the host waits for a value")

    __bool__ = __int__ = __float__ = __index__ = item = tolist = _wait

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        assert stream == (machine.streams[self._device].ptr or 1), "they do not wait for us"
        return Capsule(self._array, self._device)

    def __dlpack_device__(self):
        return 2, self._device


def plain(array):
    """The NumPy array below; anything else as it is."""
    return array._array if isinstance(array, ndarray) else array


class Capsule:
    """What DLPack hands over."""

    def __init__(self, array, device):
        assert array.dtype.kind in "biufc", "no bfloat16: ml_dtypes need not be installed"
        self.array, self.device = array, device


# ---- functions -----------------------------------------------------------------------------


def zeros(shape, dtype=float):
    array = ndarray(shape, dtype)
    array._array[...] = np.zeros((), dtype)
    return array


def asarray(array):
    if isinstance(array, ndarray):
        return array
    if array.dtype.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {array.dtype}")
    machine.copies += 1
    return ndarray.over(np.array(array))


def concatenate(arrays):
    return ndarray.over(np.concatenate(ndarray._now(*arrays)))


def where(condition, yes, no):
    return ndarray.over(np.where(*ndarray._now(condition, yes, no)))


def broadcast_to(array, shape):
    return ndarray.over(np.broadcast_to(*ndarray._now(array), shape), array._device)


def copyto(target, source, where):
    target, source, where = ndarray._now(target, source, where)
    np.copyto(target, source, where=where)


def from_dlpack(array):
    kind, number = array.__dlpack_device__()
    if kind not in (2, 13):
        raise TypeError("CPU arrays cannot be directly imported to CuPy.")
    stream = machine.streams[number].ptr or 1
    machine.exchanges.append(stream)
    capsule = array.__dlpack__(stream=stream, max_version=(1, 0), copy=None)
    return ndarray.over(capsule.array, capsule.device)


# ---- memory --------------------------------------------------------------------------------


class UnownedMemory:
    """Memory from elsewhere."""

    def __init__(self, ptr, size, owner, device_id):
        self.ptr, self.device_id = ptr, device_id
        self.buffer = (ctypes.c_char * size).from_address(ptr) if size else (ctypes.c_char * 0)()
        self.buffer.owner = owner


class MemoryPointer:
    """A place in memory."""

    def __init__(self, mem, offset):
        self.mem, self.offset = mem, offset


def allocated(size):
    """From CuPy's own pool, on the current device."""
    memory = np.full(size + 1, GARBAGE, np.uint8)
    return MemoryPointer(UnownedMemory(memory.ctypes.data, size, memory, machine.device), 0)


@contextmanager
def using_allocator(allocator):
    before, machine.allocator = machine.allocator, allocator
    yield
    machine.allocator = before


# ---- devices and streams -------------------------------------------------------------------


class Device:
    """A device by its number."""

    def __init__(self, number):
        self.id = number


class Stream:
    """A stream by its address."""

    def __init__(self, ptr, device):
        self.ptr, self.device = ptr, device
        self.events = []

    @classmethod
    def from_external(cls, stream):
        version, ptr = stream.__cuda_stream__()
        assert version == 0
        return cls(ptr, machine.device)

    def __enter__(self):
        assert self.device == machine.device
        self.before, machine.streams[self.device] = machine.streams[self.device], self

    def __exit__(self, *_):
        machine.streams[self.device] = self.before


class Event:
    """It happens when the test says so."""

    def __init__(self, disable_timing=False):
        assert disable_timing
        self.done = False

    def record(self):
        machine.streams[machine.device].events.append(self)


def _set_device(number):
    if number not in range(machine.devices):
        raise RuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
    machine.device = number


machine = Machine()


def modules():
    """CuPy's modules by name."""
    runtime = types.ModuleType("cupy.cuda.runtime")
    runtime.getDevice, runtime.setDevice = lambda: machine.device, _set_device
    cuda = types.ModuleType("cupy.cuda")
    cuda.runtime, cuda.Stream, cuda.Event, cuda.Device = runtime, Stream, Event, Device
    cuda.MemoryPointer, cuda.UnownedMemory = MemoryPointer, UnownedMemory
    cuda.using_allocator = using_allocator
    cuda.get_current_stream = lambda: machine.streams[machine.device]
    cupy = types.ModuleType("cupy")
    cupy.cuda, cupy.ndarray, cupy.empty, cupy.zeros = cuda, ndarray, ndarray, zeros
    cupy.asarray, cupy.concatenate, cupy.where = asarray, concatenate, where
    cupy.from_dlpack, cupy.broadcast_to, cupy.copyto = from_dlpack, broadcast_to, copyto
    return {"cupy": cupy, "cupy.cuda": cuda, "cupy.cuda.runtime": runtime}


# ---- the engine ----------------------------------------------------------------------------


class Called:
    """What the engine was asked for: its calls' names and keywords, and the streams."""

    def __init__(self):
        self.names, self.options, self.streams = [], [], []


def engine():
    """Stand-ins for the modules of the CUDA engine, which compute as the CPU's does.

    They see to what an engine relies on.
    """
    from roi_numba._checks import box_values
    from roi_numba._cpu import crop, engine, gradients

    called = Called()

    def checked(array):
        assert type(array) is ndarray, type(array)
        assert array._device == machine.device
        assert array.dtype.isnative
        assert not array.data.ptr % array.itemsize
        assert not any(stride % array.itemsize for stride in array.strides)
        assert array.dtype.kind in "biuf" or array.dtype.names == ("bfloat16",)
        return array._array

    def seen(name, arguments, where, options):
        """Plain arguments: corners and images from `where` on become those of the host."""
        called.names.append(name)
        called.options.append(options)
        called.streams.append(machine.streams[machine.device].ptr)
        arguments = [
            checked(value) if isinstance(value, (ndarray, np.ndarray)) else value
            for value in arguments
        ]
        corners, numbers = arguments[where : where + 2]
        assert corners.dtype in (np.float32, np.float64)
        assert numbers.dtype in (np.int64, corners.dtype)
        assert corners.shape == (*numbers.shape, 4)
        arguments[where] = np.ascontiguousarray(corners)
        arguments[where + 1] = box_values(corners, numbers, "", 2**31, False)
        return arguments

    def only(images, n):
        return np.where(images < n, images, -1)

    def moving(motion, corners):
        if motion is None:
            return None
        axis, velocity = motion
        array = checked(velocity)
        assert array.dtype == corners.dtype
        assert array.flags.c_contiguous
        return axis, array

    def pool(*arguments):
        *arguments, channel_axis, motion = arguments
        arguments = seen("pool", arguments, 4, {})
        arguments[5] = only(arguments[5], len(arguments[3]))
        engine.pool(*arguments, channel_axis, moving(motion, arguments[4]))

    def pool_levels(rule, reduce, options, maps, levels, *arguments):
        *arguments, channel_axis = arguments
        arguments = seen("pool_levels", [*map(checked, maps), *arguments], len(maps), {})
        arguments[len(maps) + 1] = only(arguments[len(maps) + 1], len(maps[0]))
        levels = checked(levels)
        assert levels.dtype == np.int64
        maps, arguments = arguments[: len(maps)], arguments[len(maps) :]
        engine.pool_levels(rule, reduce, options, maps, levels, *arguments, channel_axis)

    def sample(*arguments):
        *arguments, fill, output, channel_axis = arguments
        arguments = seen("sample", arguments, 3, {})
        arguments[4] = only(arguments[4], len(arguments[2]))
        crop.sample(*arguments, fill, checked(output), channel_axis)

    def to_map_of_mean(*arguments, **options):
        arguments, (shape, channel_axis, *motion) = arguments[:5], arguments[5:]
        arguments = seen("to_map_of_mean", arguments, 3, options)
        arguments[4] = only(arguments[4], shape[0])
        motion = moving(motion[0], arguments[3]) if motion else None
        return ndarray.over(gradients.to_map_of_mean(*arguments, shape, channel_axis, motion))

    def to_boxes_of_mean(*arguments):
        *arguments, channel_axis = arguments
        arguments = seen("to_boxes_of_mean", arguments, 4, {})
        arguments[5] = only(arguments[5], len(arguments[3]))
        return ndarray.over(gradients.to_boxes_of_mean(*arguments, channel_axis))

    def at_winners(*arguments, grad=None, boxes=False, pooled=None, motion=None, **options):
        *arguments, channel_axis = arguments
        arguments = seen("at_winners", arguments, 5, options)
        arguments[6] = only(arguments[6], len(arguments[3]))
        motion = None if motion is None else moving((0, motion), arguments[5])[1]
        result = gradients.at_winners(
            *arguments, channel_axis, grad=None if grad is None else checked(grad), boxes=boxes,
            pooled=None if pooled is None else checked(pooled), motion=motion,
        )  # fmt: skip
        return result if result is None else ndarray.over(result)

    made = {"engine": (pool, pool_levels), "crop": (sample,)}
    made |= {"gradients": (to_map_of_mean, to_boxes_of_mean, at_winners)}
    found = {}
    for name, functions in made.items():
        found[name] = types.ModuleType(f"roi_numba._cuda.{name}")
        vars(found[name]).update({function.__name__: function for function in functions})
    found["compile"] = types.ModuleType("roi_numba._cuda.compile")
    found["compile"].MISSING = "a sentence"
    return found, called


@contextmanager
def installed():
    """CuPy and the CUDA engine are there; gives the first and what is asked of the second."""
    from roi_numba import _cuda, _memory

    ours, called = engine()
    cupy = modules()
    stubs = {f"roi_numba._cuda.{name}": module for name, module in ours.items()}
    before = dict(sys.modules), dict(vars(_cuda)), _memory._cuda_arrays
    machine.forget()
    try:
        forget_arrays()
        sys.modules.update(cupy | stubs)
        vars(_cuda).update(ours)
        yield cupy["cupy"], called
    finally:
        for name in (*cupy, *stubs, "roi_numba._cuda.arrays"):
            restore(sys.modules, before[0], name)
        for name in (*ours, "arrays"):
            restore(vars(_cuda), before[1], name)
        _memory._cuda_arrays = before[2]


def restore(table, before, name):
    table.pop(name, None)
    if name in before:
        table[name] = before[name]


def forget_arrays():
    """As if no call had ever met an array on a device."""
    from roi_numba import _cuda, _memory

    sys.modules.pop("roi_numba._cuda.arrays", None)
    vars(_cuda).pop("arrays", None)
    _memory._cuda_arrays = None


def without_cupy(monkeypatch):
    """As if CuPy were not installed."""
    from roi_numba import _cuda, _memory

    monkeypatch.setattr(_memory, "_cuda_arrays", None)
    for name in ("arrays", "crop", "engine", "gradients", "launch"):
        monkeypatch.delitem(sys.modules, f"roi_numba._cuda.{name}", raising=False)
        monkeypatch.delattr(_cuda, name, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", None)
