"""A case as a script that needs nothing of the tests."""

import numpy as np

from test_dlpack import Foreign

HEAD = """\
import base64, zlib
import ml_dtypes
import numpy as np
import roi_numba
from numpy import inf, nan


def block(text):  # at a cache line, as it was
    content = zlib.decompress(base64.b85decode(text))
    memory = np.empty(len(content) + 64, np.uint8)
    first = -memory.ctypes.data % 64
    memory[first : first + len(content)] = np.frombuffer(content, np.uint8)
    return memory[first : first + len(content)]


def read_only(array):
    array.flags.writeable = False
    return array


class Foreign:
    def __init__(self, array):
        self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__


from_dlpack = np.from_dlpack
"""


def script(case):
    """It makes the same call of the same memory."""
    lines = [HEAD, *case.memory.blocks_source()]
    arguments = [
        f"    {name}={_source(case.memory, value)}," for name, value in case.arguments.items()
    ]
    if case.function == "axis_weights":
        arguments = [line.split("=", 1)[1] for line in arguments[:4]] + arguments[4:]
    return "\n".join([*lines, f"roi_numba.{case.function}(", *arguments, ")", ""])


def _source(memory, value):
    if isinstance(value, Foreign):
        return f"Foreign({_source(memory, value._array)})"
    if isinstance(value, np.ndarray):
        return memory.source(value) or f"np.array({value.tolist()!r}, {str(value.dtype)!r})"
    if isinstance(value, list):
        return f"[{', '.join(_source(memory, each) for each in value)}]"
    if isinstance(value, tuple):
        return f"({', '.join(_source(memory, each) for each in value)},)"
    if callable(value) and getattr(value, "__module__", "").startswith("roi_numba"):
        return f"roi_numba.{value.__name__}"
    return repr(value)
