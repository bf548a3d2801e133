"""What a cubin holds: its machine code, SASS, counted, and the resources that it takes.

The tools are NVIDIA's cuobjdump and nvdisasm, from packages of these names; no GPU is needed.
"""

import functools
import importlib
import re
import subprocess
import tempfile
from collections import Counter
from typing import NamedTuple


class Usage(NamedTuple):
    """Of a thread: registers, bytes of local memory; of a block: bytes of shared memory.

    Of the latter CUDA itself takes 1024 since compute capability 8.0.
    """

    registers: int
    local: int
    shared: int


@functools.cache
def tool(name):
    """Where a tool is, or None."""
    try:
        pathfinder = importlib.import_module("cuda.pathfinder")
    except ImportError:
        return None
    return pathfinder.find_nvidia_binary_utility(name)


def there():
    """Whether the tools are."""
    return bool(tool("cuobjdump") and tool("nvdisasm"))


def _said(name, option, cubin):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [tool(name), option, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def usage(cubin):
    """The resources of the kernel, or of the greediest function in it."""
    text = _said("cuobjdump", "-res-usage", cubin)
    found = re.findall(r"REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", text)
    assert found, text
    rows = [[int(number) for number in row] for row in found]
    registers, stack, shared, local = map(max, zip(*rows, strict=True))
    return Usage(registers, stack + local, shared)


# Behind the address and perhaps a predicate: "/*0a10*/  @!P0 LDG.E.128.CONSTANT R4, …"
_INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)


def instructions(cubin):
    """How often each instruction occurs, with its modifiers: ``LDG.E.128.CONSTANT``."""
    return Counter(_INSTRUCTION.findall(_said("nvdisasm", "-c", cubin)))


def _of(counted, pattern):
    return Counter({name: count for name, count in counted.items() if re.search(pattern, name)})


def float64(counted):
    """The instructions that compute with float64, or convert from or to it."""
    return _of(counted, r"^D(ADD|MUL|FMA|SETP|MNMX|SET)\b|\.F64\b|64H\b")


def local(counted):
    """The instructions that read and write local memory: spilled registers, indexed arrays."""
    return _of(counted, r"^(LDL|STL)\b")


def loads_of_16_bytes(counted):
    """How many loads from global memory are of 16 bytes."""
    return _of(counted, r"^LDG\b.*\.128\b").total()


def stores(counted):
    """The instructions that store to global memory."""
    return _of(counted, r"^STG\b")


def divisions_of_64_bits(cubin):
    """The functions for it that are linked in: no GPU has an instruction."""
    return {name.decode() for name in re.findall(rb"__cuda_sm\d+_(?:div|rem)_[su]64", cubin)}
