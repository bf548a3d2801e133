"""CuPy down to where the driver begins, without a GPU: what would be loaded and launched is kept.

Arrays are NumPy's.  Every launch is held against the parameters of its kernel.
"""

import sys
from collections import OrderedDict
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from roi_numba._cuda import launch, levels
from roi_numba._cuda.compile import Kernel
from roi_numba._cuda.simulator import address, check


class Launch(NamedTuple):
    """One launch as it reached the driver."""

    kernel: Any
    device: int
    grid: tuple
    arguments: tuple


class Stream:
    """A stream that can be captured, unless it is the default one, 0, which raises if asked."""

    def __init__(self, ptr=0, capturing=False):
        self.ptr, self.capturing = ptr, capturing

    def is_capturing(self):
        assert self.ptr, "the default stream was asked whether it is capturing"
        return self.capturing


class RecordedCuPy:
    """Stands for the module `cupy` in `roi_numba._cuda.launch`."""

    def __init__(self, capabilities=("90",)):
        self.device, self.stream = 0, Stream()
        self.loads, self.launches, self.allocations = [], [], []
        self._kernels = {}
        self.cuda = SimpleNamespace(
            Device=lambda number: SimpleNamespace(compute_capability=capabilities[number]),
            runtime=SimpleNamespace(getDevice=lambda: self.device),
            function=SimpleNamespace(Module=lambda: Module(self)),
            get_current_stream=lambda: self.stream,
            alloc=self.alloc,
        )

    def alloc(self, size):
        """Memory that nobody touches, at addresses of CUDA's alignment."""
        start = 2**40 + sum(-(-memory.size // 512) * 512 for memory in self.allocations)
        self.allocations.append(SimpleNamespace(ptr=start, size=size))
        return self.allocations[-1]

    def cubin(self, kernel, cc):
        """Instead of machine code, a mark by which `Module.load` knows the kernel."""
        cubin = f"{kernel.name} {cc} {id(kernel)}".encode()
        self._kernels[cubin] = kernel
        return cubin

    def loaded(self, cubin):
        assert type(cubin) is bytes
        self.loads.append((cubin, self.device))
        return self._kernels[cubin]


class Module:
    """CuPy's module: loaded once, on the device that is current then."""

    def __init__(self, cupy):
        self.cupy = cupy

    def load(self, cubin):
        self.kernel, self.device = self.cupy.loaded(cubin), self.cupy.device

    def get_function(self, name):
        assert name == self.kernel.name

        def function(grid, block, arguments):
            assert self.cupy.device == self.device, "a function of another device"
            for each in (grid, block, arguments):
                assert type(each) is tuple
            assert block == (self.kernel.threads,)
            # CuPy takes a grid without blocks for one of one block.
            assert all(blocks > 0 for blocks in grid)
            check(self.kernel, grid, arguments)
            self.cupy.launches.append(Launch(self.kernel, self.device, grid, arguments))

        return function


def _engine():
    return [module for name, module in sys.modules.items() if name.startswith("roi_numba._cuda.")]


@contextmanager
def recorded(monkeypatch, *capabilities):
    """Within it launches go to the `RecordedCuPy` that it gives."""
    cupy = RecordedCuPy(capabilities or ("90",))
    with monkeypatch.context() as patch:
        patch.setattr(launch, "cupy", cupy)
        patch.setattr(launch, "_functions", {})
        patch.setattr(launch, "_captured", [])
        patch.setattr(levels, "_tables", OrderedDict())
        for name, ours in (("empty", np.empty), ("zeros", np.zeros), ("address", address)):
            theirs = getattr(launch, name)
            for module in _engine():  # who has imported it has a name of its own for it
                if getattr(module, name, None) is theirs:
                    patch.setattr(module, name, ours)
        patch.setattr(Kernel, "cubin", lambda kernel, cc: cupy.cubin(kernel, cc))
        yield cupy
