"""What a value looks like in an array: the LLVM code between storage and arithmetic.

16-bit floats, which Numba's CPU target does not know, come in as records with one uint16 field
named after the encoding.  All functions take scalars and vectors alike.
"""

from functools import cache

from llvmlite import binding, ir
from numba.core import types
from numba.core.registry import cpu_target

INT16 = ir.IntType(16)
INT32 = ir.IntType(32)


def broadcast(ir_type, value):
    """A constant of a scalar or vector type."""
    if isinstance(ir_type, ir.VectorType):
        return ir.Constant(ir_type, [value] * ir_type.count)
    return ir.Constant(ir_type, value)


def resized(ir_type, scalar):
    """`scalar`, or a vector of it as long as `ir_type`."""
    return ir.VectorType(scalar, ir_type.count) if isinstance(ir_type, ir.VectorType) else scalar


def _encoding(dtype):
    """'float16' or 'bfloat16' for the record dtypes that stand for them, else None."""
    return next(iter(dtype.fields)) if isinstance(dtype, types.Record) else None


def storage_type(context, dtype):
    if _encoding(dtype):
        return INT16
    return ir.IntType(8) if dtype == types.boolean else context.get_data_type(dtype)


WIDENED = """
define <16 x float> @widened(<16 x half> %x) {
    %y = fpext <16 x half> %x to <16 x float>
    ret <16 x float> %y
}
"""


def kernels_processor():
    """Triple, name and features of the processor that kernels are compiled for."""
    return cpu_target.target_context.codegen().magic_tuple()


def assembly(code, triple, processor, features):
    """What LLVM makes of code for a processor."""
    target = binding.Target.from_triple(triple)
    machine = target.create_target_machine(cpu=processor, features=features)
    return machine.emit_assembly(binding.parse_assembly(code))


@cache
def converted_by(triple, processor, features):
    """Whether x86's instructions convert float16 there, no subnormal taken for zero.

    F16C's vcvtph2ps, or vcvtph2psx of AVX512-FP16.  Without them LLVM calls a function, for one
    number at a time.
    """
    return "vcvtph2ps" in assembly(WIDENED, triple, processor, features)


def converts_halves():
    """`converted_by` the processor that kernels are compiled for."""
    return converted_by(*kernels_processor())


def decoded(builder, dtype, stored, value_type):
    """Array storage -> accumulation dtype."""
    encoding = _encoding(dtype)
    if encoding == "float16" and converts_halves():
        halves = builder.bitcast(stored, resized(value_type, ir.HalfType()))
        return builder.fpext(halves, value_type)
    if encoding:
        bits = builder.zext(stored, resized(value_type, INT32))

        def i32(value):
            return broadcast(bits.type, value)

        if encoding == "bfloat16":
            return builder.bitcast(builder.shl(bits, i32(16)), value_type)
        # float16: move exponent and mantissa into place and count the exponent from 127, not 15;
        # infinity and NaN keep all ones.  A subnormal is by how much its mantissa exceeds 2**-14:
        # exact, also in a thread that takes subnormal float32 for zero (torch.set_flush_denormal).
        magnitude = builder.shl(builder.and_(bits, i32(0x7FFF)), i32(13))
        least = i32(113 << 23)  # 2**-14
        above = builder.bitcast(builder.add(magnitude, least), value_type)
        below = builder.bitcast(builder.fsub(above, builder.bitcast(least, value_type)), bits.type)
        normal = builder.add(magnitude, i32(112 << 23))
        finite = builder.select(builder.icmp_unsigned("<", magnitude, i32(1 << 23)), below, normal)
        special = builder.icmp_unsigned(">=", magnitude, i32(0x0F800000))
        magnitude = builder.select(special, builder.or_(magnitude, i32(0x7F800000)), finite)
        sign = builder.shl(builder.and_(bits, i32(0x8000)), i32(16))
        return builder.bitcast(builder.or_(magnitude, sign), value_type)
    if dtype == types.boolean:
        stored = builder.icmp_unsigned("!=", stored, broadcast(stored.type, 0))
        return builder.uitofp(stored, value_type)
    scalar = getattr(value_type, "element", value_type)
    if isinstance(dtype, types.Integer) and not isinstance(scalar, ir.IntType):
        convert = builder.sitofp if dtype.signed else builder.uitofp
        return convert(stored, value_type)
    if dtype == types.float64 and scalar == ir.FloatType():
        return builder.fptrunc(stored, value_type)
    if dtype == types.float32 and scalar == ir.DoubleType():
        return builder.fpext(stored, value_type)
    return stored


def encoded(builder, dtype, value):
    """Accumulation dtype -> array storage, rounded to nearest even."""
    encoding = _encoding(dtype)
    if not encoding:
        return value
    if encoding == "float16" and converts_halves():
        halves = builder.fptrunc(value, resized(value.type, ir.HalfType()))
        return builder.bitcast(halves, resized(value.type, INT16))
    bits = builder.bitcast(value, resized(value.type, INT32))

    def i32(number):
        return broadcast(bits.type, number)

    def nearest_even(number, dropped):
        odd = builder.and_(builder.lshr(number, i32(dropped)), i32(1))
        half = builder.add(odd, i32((1 << (dropped - 1)) - 1))
        return builder.lshr(builder.add(number, half), i32(dropped))

    magnitude = builder.and_(bits, i32(0x7FFFFFFF))
    nan = builder.icmp_unsigned(">", magnitude, i32(0x7F800000))
    if encoding == "bfloat16":
        result = builder.select(nan, i32(0x7FC0), nearest_even(magnitude, 16))
    else:
        normal = nearest_even(builder.sub(magnitude, i32(112 << 23)), 13)
        # Below 2**-14: adding 0.5 lets the addition itself round to a multiple of 2**-24.
        shifted = builder.fadd(builder.bitcast(magnitude, value.type), broadcast(value.type, 0.5))
        subnormal = builder.sub(builder.bitcast(shifted, bits.type), i32(0x3F000000))
        small = builder.icmp_unsigned("<", magnitude, i32(113 << 23))
        result = builder.select(small, subnormal, normal)
        large = builder.icmp_unsigned(">=", magnitude, i32(143 << 23))
        result = builder.select(large, i32(0x7C00), result)
        result = builder.select(nan, i32(0x7E00), result)
    sign = builder.and_(builder.lshr(bits, i32(16)), i32(0x8000))
    return builder.trunc(builder.or_(result, sign), resized(value.type, INT16))
