"""JAX primitives that compiled code calls back for, and that compute on NumPy's arrays."""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import mlir
from numpy.typing import NDArray


def _environment() -> tuple[Any, Any, Any] | None:
    """C's fegetenv and fesetenv, and the environment a process begins with."""
    try:
        library = ctypes.CDLL(None)
        begun: Any = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl
        if hasattr(library, "_FE_DFL_ENV"):  # macOS
            begun = ctypes.byref(ctypes.c_char.in_dll(library, "_FE_DFL_ENV"))
        return library.fegetenv, library.fesetenv, begun
    except (AttributeError, OSError, TypeError):  # Windows
        return None


_ENVIRONMENT = _environment()


@contextmanager
def usual_arithmetic() -> Iterator[None]:
    """Subnormal numbers count, as everywhere else.

    XLA's threads on x86 take them for zero, among them those of float16, and every thread that is
    started meanwhile goes on doing so, of our pool too (JAX 0.10.2).
    """
    if _ENVIRONMENT is None:
        yield
        return
    get, put, begun = _ENVIRONMENT
    before = ctypes.create_string_buffer(512)  # fenv_t, of 32 bytes on x86
    get(before)
    put(begun)
    try:
        yield
    finally:
        put(before)


def on_the_host(
    name: str, shapes: Callable[..., Any], on_host: Callable[..., tuple[NDArray[Any], ...]]
) -> Primitive:
    """A primitive that is computed on the host, in jit and out of it.

    All that is known when it is traced is `pooling`, hashable, whose ``check`` says whether values
    are looked at: if None only outside jit, where an exception is nothing unusual.
    """
    primitive = Primitive(f"roi_numba_{name}")
    primitive.multiple_results = True
    staged = jax.jit(primitive.bind, static_argnames=("pooling", "named", "narrow"))

    def compute(*operands: Any, pooling: Any, **static: Any) -> Any:
        arrays = [operand for operand in operands if isinstance(operand, jax.Array)]
        devices = {device for array in arrays for device in array.devices()}
        if len(devices) != 1 or next(iter(devices)).platform != "cpu":
            return staged(*operands, pooling=pooling, **static)
        check = pooling.check is not False
        outputs = on_host(check, pooling, *map(np.asarray, operands), **static)
        committed = any(array.committed for array in arrays)
        return jax.device_put(list(outputs), devices.pop() if committed else None)

    def abstract(*avals: Any, pooling: Any, **static: Any) -> Any:
        return [
            jax.core.ShapedArray(shape, dtype) for shape, dtype in shapes(pooling, *avals, **static)
        ]

    def lower(ctx: Any, *operands: Any, pooling: Any, **static: Any) -> Any:
        callback = usual_arithmetic()(partial(on_host, pooling.check is True, pooling, **static))
        outputs, *_ = mlir.emit_python_callback(
            ctx, callback, None, operands, ctx.avals_in, ctx.avals_out, has_side_effect=False
        )
        return outputs

    primitive.def_impl(compute)
    primitive.def_abstract_eval(abstract)
    mlir.register_lowering(primitive, lower)
    return primitive
