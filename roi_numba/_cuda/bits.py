"""What Numba's CUDA target has no name for: the bits of a float32, atomics on a pointer.

All that is written for LLVM is here: a successor of numba-cuda may want it in another form.
"""

import threading
from typing import Any

import numpy as np
from numba import config

from .compile import cuda

if config.ENABLE_CUDASIM:

    def bits_of(value: Any) -> Any:
        """The bits of a float32 as uint32."""
        return np.float32(value).view(np.uint32)

    def float_of(bits: Any) -> Any:
        """The float32 that has these bits."""
        return np.uint32(bits).view(np.float32)

    _adding = threading.Lock()

    def add_atomically(memory: Any, at: Any, value: Any) -> None:
        """Add to a float32 or float64 in memory that others may be adding to."""
        with _adding:
            memory[at] += value

else:
    from llvmlite import ir
    from numba import types

    @cuda.extending.intrinsic
    def bits_of(typingctx, value):
        """The bits of a float32 as uint32."""

        def cast(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], ir.IntType(32))

        return types.uint32(types.float32), cast

    @cuda.extending.intrinsic
    def float_of(typingctx, bits):
        """The float32 that has these bits."""

        def cast(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], ir.FloatType())

        return types.float32(types.uint32), cast

    @cuda.extending.intrinsic
    def add_atomically(typingctx, memory, at, value):
        """Add to a float32 or float64 in memory that others may be adding to.

        In PTX's words, since libNVVM refuses LLVM's for it, `atomicrmw fadd`.
        """
        number = memory.dtype

        def add(context, builder, signature, arguments):
            pointer, index, addend = arguments
            index = context.cast(builder, index, signature.args[1], types.int64)
            address = builder.ptrtoint(builder.gep(pointer, [index]), ir.IntType(64))
            width, kind = (32, "f") if number == types.float32 else (64, "d")
            takes = [ir.IntType(64), addend.type]
            builder.asm(
                ir.FunctionType(ir.VoidType(), takes), f"red.global.add.f{width} [$0], $1;",
                f"l,{kind},~{{memory}}", [address, addend], side_effect=True,
            )  # fmt: skip
            return context.get_dummy_value()

        return types.void(memory, at, number), add
