"""The arrays of one call: any layout, each in memory of its own between guards."""

import base64
import zlib

import ml_dtypes
import numpy as np

LINE = 64
FILL = 0xA7
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


class Memory:
    """Blocks of bytes, and what they held before the call."""

    guarded = True
    """Else a block ends where its array ends, so that memcheck sees what is read beyond."""

    def __init__(self, random):
        self.random = random
        self.blocks, self._before = [], []

    def block(self, size):
        """New memory, and where in it a cache line begins that has a guard before it."""
        if not self.guarded:
            self.blocks.append(np.full(size, FILL, np.uint8))
            return self.blocks[-1], 0
        memory = np.full(size + 3 * LINE, FILL, np.uint8)
        self.blocks.append(memory)
        return memory, LINE + -_address(memory) % LINE

    def put(self, values, to_write=False):
        """The values, or some of them repeated, in any layout; `to_write`: each element apart."""
        random, dtype = self.random, values.dtype
        choice = random.random()
        if choice > 0.95 and dtype.kind in "iuf" and dtype.itemsize > 1 and not to_write:
            dtype = dtype.newbyteorder(">")
        if choice < 0.4:
            array = self._strided(values.shape, dtype, range(values.ndim), 0)
        elif choice < 0.5 and values.size and not to_write:
            return self._repeated(values)
        elif choice < 0.56 and values.size and not to_write:
            return self._overlapping(values)
        else:
            order = random.sample(range(values.ndim), values.ndim)
            array = self._strided(values.shape, dtype, order, choice)
        array[...] = values
        array.flags.writeable = to_write or random.random() < 0.8
        return array

    def _strided(self, shape, dtype, order, choice):
        """`order`: the axes, from the one with the largest stride to that with the smallest."""
        random, itemsize = self.random, dtype.itemsize
        odd = choice > 0.85  # neither aligned nor at whole multiples of the size
        step, strides, start = itemsize + (random.randrange(4) if odd else 0), [0] * len(shape), 0
        for axis in reversed(order):
            step *= random.choice((1, 1, 1, 2, 3)) if choice else 1
            strides[axis] = step
            step *= max(shape[axis], 1)
            if choice and random.random() < 0.2:
                step += itemsize
        memory, first = self.block(step)
        shift = random.randrange(itemsize) if odd else itemsize * random.randrange(4) * (choice > 0)
        first += shift * self.guarded
        for axis, length in enumerate(shape):
            if choice and random.random() < 0.15:
                start += max(length - 1, 0) * strides[axis]
                strides[axis] = -strides[axis]
        return np.ndarray(shape, dtype, memory, first + start, strides)

    def _repeated(self, values):
        """Strides of zero along some axes."""
        held = [self.random.random() < 0.5 for _ in values.shape]
        one = values[tuple(slice(0, 1) if each else slice(None) for each in held)]
        array = self._strided(one.shape, one.dtype, range(one.ndim), 1.0)
        array[...] = one
        return np.broadcast_to(array, values.shape)

    def _overlapping(self, values):
        """Windows that share elements, as of a convolution."""
        steps = [self.random.choice((0, 1, 1, 2, 5)) for _ in values.shape]
        length = 1 + sum(step * (n - 1) for step, n in zip(steps, values.shape, strict=True))
        memory, first = self.block(length * values.itemsize)
        line = np.ndarray(length, values.dtype, memory, first)
        line[...] = np.resize(values.reshape(-1), length)
        strides = [step * values.itemsize for step in steps]
        return np.ndarray(values.shape, values.dtype, memory, first, strides)

    def over(self, array, shape, dtype):
        """An array that begins somewhere in the memory of another one."""
        memory = next(each for each in self.blocks if np.may_share_memory(each, array))
        size = int(np.prod(shape)) * dtype.itemsize
        room = memory.nbytes - size
        if room < 0:
            return None
        first = self.random.randrange(room // dtype.itemsize + 1) * dtype.itemsize
        return np.ndarray(shape, dtype, memory, first)

    def close(self):
        """The call begins: what is there has to be there at the end."""
        self._before = [memory.copy() for memory in self.blocks]

    def assert_untouched(self, written=()):
        """But for elements of arrays that were to be written."""
        for memory, before in zip(self.blocks, self._before, strict=True):
            if not (memory == before).all():
                expected = before.copy()
                for array in written:
                    if np.may_share_memory(array, memory):
                        offset = array.__array_interface__["data"][0] - _address(memory)
                        np.ndarray(array.shape, array.dtype, expected, offset, array.strides)[
                            ...
                        ] = array
                where = np.flatnonzero(memory != expected)
                assert not len(where), f"bytes {where[:8]} of {memory.nbytes} were written"

    def source(self, array):
        """Python that makes the array, given `blocks`."""
        for number, memory in enumerate(self.blocks):
            first = array.__array_interface__["data"][0] - _address(memory)
            if 0 <= first <= memory.nbytes and (not array.size or first < memory.nbytes):
                dtype = "ml_dtypes.bfloat16" if array.dtype == BFLOAT16 else repr(array.dtype.str)
                text = f"np.ndarray({array.shape}, {dtype}, b{number}, {first}, {array.strides})"
                return text if array.flags.writeable else f"read_only({text})"
        return None

    def blocks_source(self):
        """Python that makes the blocks as they were before the call."""
        for number, memory in enumerate(self._before):
            text = base64.b85encode(zlib.compress(memory.tobytes(), 9)).decode()
            yield f"b{number} = block({text!r})"


def plain(array):
    """The same values, row by row."""
    return np.array(array, array.dtype.newbyteorder("=") if array.dtype.kind in "iuf" else None)


def _address(array):
    return array.__array_interface__["data"][0]
