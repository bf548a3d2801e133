"""Maxima once their winners are named: values in a map, and gradients to the boxes."""

from functools import cache

import numpy as np

from .bits import add_atomically
from .compile import Kernel, block, cuda, device
from .formats import accumulator, loader, saver
from .integers import divided, unit_of
from .named import GEOMETRY, boxes_parameters, finder, pitch_of
from .rules import DeviceRule, at_rate, checked_box

THREADS = block(128)


@cache
def values_of(
    rule: DeviceRule, geometry: str, numbers: str, stored: str, result: str, offsets: str,
    moving: bool, spreading: bool,
) -> Kernel:  # fmt: skip
    """The kernel that pools what the winners have in a map; or if `moving`, its rate of change.

    If `spreading` it goes the other way: what lies in the bins is added to the map, by atomics,
    whose order is nobody's.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, load_bin, save = loader(stored), loader(result), saver(result)
    span, pack, find, pitch_along = rule.span, rule.pack, finder(rule, stored), pitch_of(rule)

    if spreading:

        @device
        def pass_on(source, at, weight, value):
            if weight != A(0):
                add_atomically(source, at, weight * value)
            return A(0)
    else:

        @device
        def pass_on(source, at, weight, value):
            if weight != A(0):
                return weight * load(source, at)
            return A(0)

    def values(
        source, image_stride, channel_stride, row_stride, column_stride, channels,
        corners, corner_row, corner_column, numbers, number_stride, scale_y, scale_x,
        images, height, width, y_first, y_second, x_first, x_second, apart, bins_y, bins_x,
        names, name_box, name_channel, name_row, name_column,
        target, target_box, target_channel, target_row, target_column, motion, motion_row, inner,
    ):  # fmt: skip
        k = cuda.blockIdx.x
        image, x1, y1, x2, y2 = checked_box(
            corners, k * corner_row, corner_column, numbers, k * number_stride, images
        )
        option_y, option_x = pack(scale_y, y_first, y_second), pack(scale_x, x_first, x_second)
        box_y, box_x = span(y1, y2, bins_y, option_y), span(x1, x2, bins_x, option_x)
        move_x1, move_y1, move_x2, move_y2 = A(0), A(0), A(0), A(0)
        if moving:
            at = k * motion_row
            move_x1, move_y1 = A(motion[at]), A(motion[at + 1])
            move_x2, move_y2 = A(motion[at + 2]), A(motion[at + 3])
        bins = np.int32(bins_y * bins_x)
        for unit in range(cuda.threadIdx.x, np.int32(bins * channels), THREADS):
            cell, c, _ = unit_of(unit, bins, channels, inner, 0, 1)
            p, q = divided(cell, bins_x)
            p, q = int(p), int(q)  # a rule's products may need 64 bits
            name = names[
                N(N(k * name_box) + N(c * name_channel) + N(p * name_row) + N(q * name_column))
            ]
            place = N(N(k * target_box) + N(c * target_channel))
            place = N(place + N(p * target_row) + N(q * target_column))
            total, value = A(0), A(0)
            if spreading:
                value = load_bin(target, place)
            if image >= 0 and name >= 0:
                pitch = pitch_along(box_x, q, apart, bins_x, width, option_x)
                y, u0, u1, d0, d1, low, high = find(
                    box_y, p, name // pitch, apart, bins_y, height, option_y
                )
                rate_y = low * move_y1 + high * move_y2
                x, v0, v1, e0, e1, low, high = find(
                    box_x, q, name % pitch, apart, bins_x, width, option_x
                )
                rate_x = low * move_x1 + high * move_x2
                w00, w01, w10, w11 = u0 * v0, u0 * v1, u1 * v0, u1 * v1
                if moving:
                    w00 = at_rate(d0 * v0, rate_y) + at_rate(u0 * e0, rate_x)
                    w01 = at_rate(d0 * v1, rate_y) + at_rate(u0 * e1, rate_x)
                    w10 = at_rate(d1 * v0, rate_y) + at_rate(u1 * e0, rate_x)
                    w11 = at_rate(d1 * v1, rate_y) + at_rate(u1 * e1, rate_x)
                at = N(N(image * image_stride) + N(c * channel_stride))
                at = N(at + N(y * row_stride) + N(x * column_stride))
                total += pass_on(source, at, w00, value)
                total += pass_on(source, N(at + column_stride), w01, value)
                total += pass_on(source, N(at + row_stride), w10, value)
                total += pass_on(source, N(at + row_stride + column_stride), w11, value)
            if not spreading:
                save(target, place, total)

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32", *boxes_parameters(geometry, numbers), *GEOMETRY,
        "int64*", *[offsets] * 4, f"{result}*", *[offsets] * 4, f"{geometry}*", "int64", "int32",
    )  # fmt: skip
    what = "spread" if spreading else "values"
    name = f"{what}_{rule.name}_{geometry}_{numbers}_{stored}_{result}_{offsets}"
    name += "_moving" * moving
    return Kernel(values, name, parameters, THREADS, contract=False)


@cache
def boxes_of(
    rule: DeviceRule, geometry: str, numbers: str, stored: str, bins_stored: str, result: str,
    offsets: str,
) -> Kernel:  # fmt: skip
    """The kernel that takes the gradient of a maximum to the corners, one block for each box."""
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, load_bin = loader(stored), loader(bins_stored)
    span, pack, find, pitch_along = rule.span, rule.pack, finder(rule, stored), pitch_of(rule)

    def boxes(
        source, image_stride, channel_stride, row_stride, column_stride, channels,
        corners, corner_row, corner_column, numbers, number_stride, scale_y, scale_x,
        images, height, width, y_first, y_second, x_first, x_second, apart, bins_y, bins_x,
        names, name_box, name_channel, name_row, name_column,
        grad, grad_box, grad_channel, grad_row, grad_column, target, inner,
    ):  # fmt: skip
        sums = cuda.shared.array((4, THREADS), A)
        k, thread = cuda.blockIdx.x, cuda.threadIdx.x
        image, x1, y1, x2, y2 = checked_box(
            corners, k * corner_row, corner_column, numbers, k * number_stride, images
        )
        option_y, option_x = pack(scale_y, y_first, y_second), pack(scale_x, x_first, x_second)
        box_y, box_x = span(y1, y2, bins_y, option_y), span(x1, x2, bins_x, option_x)
        total_x1, total_y1, total_x2, total_y2 = A(0), A(0), A(0), A(0)
        bins = np.int32(bins_y * bins_x)
        units = np.int32(bins * channels)
        if image < 0:
            units = np.int32(0)
        for unit in range(thread, units, THREADS):
            cell, c, _ = unit_of(unit, bins, channels, inner, 0, 1)
            p, q = divided(cell, bins_x)
            p, q = int(p), int(q)  # a rule's products may need 64 bits
            name = names[
                N(N(k * name_box) + N(c * name_channel) + N(p * name_row) + N(q * name_column))
            ]
            if name < 0:
                continue
            pitch = pitch_along(box_x, q, apart, bins_x, width, option_x)
            y, u0, u1, d0, d1, y_low, y_high = find(
                box_y, p, name // pitch, apart, bins_y, height, option_y
            )
            x, v0, v1, e0, e1, x_low, x_high = find(
                box_x, q, name % pitch, apart, bins_x, width, option_x
            )
            at = N(N(image * image_stride) + N(c * channel_stride))
            at = N(at + N(y * row_stride) + N(x * column_stride))
            rise_y, rise_x = A(0), A(0)
            for corner_number in range(4):
                u, d, v, e, place = u0, d0, v0, e0, at
                if corner_number >= 2:
                    u, d, place = u1, d1, N(place + row_stride)
                if corner_number % 2 == 1:
                    v, e, place = v1, e1, N(place + column_stride)
                if d * v != 0 or u * e != 0:
                    pixel = load(source, place)
                    if d * v != 0:
                        rise_y += d * v * pixel
                    if u * e != 0:
                        rise_x += u * e * pixel
            place = N(N(k * grad_box) + N(c * grad_channel))
            g = load_bin(grad, N(place + N(p * grad_row) + N(q * grad_column)))
            if y_low != 0:
                total_y1 += g * rise_y * y_low
            if y_high != 0:
                total_y2 += g * rise_y * y_high
            if x_low != 0:
                total_x1 += g * rise_x * x_low
            if x_high != 0:
                total_x2 += g * rise_x * x_high
        sums[0, thread], sums[1, thread] = total_x1, total_y1
        sums[2, thread], sums[3, thread] = total_x2, total_y2
        half = THREADS // 2
        while half > 0:
            cuda.syncthreads()
            if thread < half:
                for i in range(4):
                    sums[i, thread] += sums[i, thread + half]
            half //= 2
        if thread == 0:
            for i in range(4):
                target[4 * k + i] = sums[i, 0]

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32", *boxes_parameters(geometry, numbers), *GEOMETRY,
        "int64*", *[offsets] * 4, f"{bins_stored}*", *[offsets] * 4, f"{result}*", "int32",
    )  # fmt: skip
    name = f"boxes_{rule.name}_{geometry}_{numbers}_{stored}_{offsets}"
    return Kernel(boxes, name, parameters, THREADS, contract=False)
