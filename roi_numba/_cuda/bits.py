"""What Numba's CUDA target has no name for: a float32's bits, 16 bytes at once, pointers' atomics.

All that is written for LLVM is here: a successor of numba-cuda may want it in another form.
"""

import threading
from typing import Any

import numpy as np
from numba import config

from .compile import cuda

VECTOR = 16
"""Bytes: the most that a thread loads or stores at once."""

if config.ENABLE_CUDASIM:

    def bits_of(value: Any) -> Any:
        """The bits of a float32 as uint32."""
        return np.float32(value).view(np.uint32)

    def float_of(bits: Any) -> Any:
        """The float32 that has these bits."""
        return np.uint32(bits).view(np.float32)

    def load_vector(memory: Any, at: Any) -> Any:
        """The 16 bytes from `at` on, which is a whole multiple of them, as a tuple of numbers."""
        return tuple(memory.vector(at))

    def store_vector(memory: Any, at: Any, values: Any) -> None:
        """Write 16 bytes from `at` on, which is a whole multiple of them."""
        memory.vector(at)[:] = values

    _adding = threading.Lock()

    def add_atomically(memory: Any, at: Any, value: Any) -> None:
        """Add to a float32 or float64 in memory that others may be adding to."""
        with _adding:
            memory[at] += value

else:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils

    INT16, INT32 = ir.IntType(16), ir.IntType(32)

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

    def _vector(number):
        """The vector that 16 bytes are to LLVM: numbers, but those of 16 bits in pairs.

        Of a vector of eight libNVVM makes two loads.
        """
        words = {types.float64: ir.DoubleType(), types.float32: ir.FloatType()}
        word = words.get(number, INT32)
        return ir.VectorType(word, 2 if number == types.float64 else 4)

    def _address(context, builder, arguments, kinds, vector):
        index = context.cast(builder, arguments[1], kinds[1], types.int64)
        return builder.bitcast(builder.gep(arguments[0], [index]), vector.as_pointer())

    @cuda.extending.intrinsic
    def load_vector(typingctx, memory, at):
        """The 16 bytes from `at` on, which is a whole multiple of them, as a tuple of numbers."""
        number = memory.dtype
        vector = _vector(number)
        result = types.UniTuple(number, 8 * VECTOR // number.bitwidth)

        def load(context, builder, signature, arguments):
            address = _address(context, builder, arguments, signature.args, vector)
            loaded = builder.load(address, align=VECTOR)
            words = [builder.extract_element(loaded, INT32(n)) for n in range(vector.count)]
            if number.bitwidth == 16:
                halves = [(word, builder.lshr(word, INT32(16))) for word in words]
                words = [builder.trunc(half, INT16) for pair in halves for half in pair]
            return context.make_tuple(builder, result, words)

        return result(memory, at), load

    @cuda.extending.intrinsic
    def store_vector(typingctx, memory, at, values):
        """Write 16 bytes from `at` on, which is a whole multiple of them."""
        number = memory.dtype
        vector = _vector(number)

        def store(context, builder, signature, arguments):
            words = [
                context.cast(builder, value, values.dtype, number)
                for value in cgutils.unpack_tuple(builder, arguments[2])
            ]
            if number.bitwidth == 16:
                halves = [builder.zext(half, INT32) for half in words]
                pairs = zip(halves[::2], halves[1::2], strict=True)
                words = [builder.or_(low, builder.shl(high, INT32(16))) for low, high in pairs]
            stored = ir.Constant(vector, ir.Undefined)
            for n, word in enumerate(words):
                stored = builder.insert_element(stored, word, INT32(n))
            address = _address(context, builder, arguments, signature.args, vector)
            builder.store(stored, address, align=VECTOR)
            return context.get_dummy_value()

        return types.void(memory, at, values), store

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
