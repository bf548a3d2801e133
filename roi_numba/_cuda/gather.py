"""Maxima, the way back to the map: as `scatter`, from the winners alone."""

from functools import cache

import numpy as np

from .compile import Kernel, block, cuda
from .formats import accumulator, loader, saver
from .integers import divided, tile_of, unit_of
from .named import GEOMETRY, finder, pitch_of
from .rules import DeviceRule, at_rate, corners_of
from .turned import PIXELS, TILE_HEIGHT, TILE_WIDTH

THREADS = block(128)


@cache
def gather_of(
    rule: DeviceRule, geometry: str, stored: str, result: str, offsets: str, moving: bool
) -> Kernel:
    """The kernel that takes the gradient of a maximum to the map, which gathers as `scatter`.

    A pixel looks at the winners of the bins that may read it, box after box, and takes from those
    that did.
    """
    N, A = np.dtype(offsets).type, accumulator(stored)
    load, load_result, save = loader(stored), loader(result), saver(result)
    span, pack, find, pitch_along = rule.span, rule.pack, finder(rule, stored), pitch_of(rule)

    def gather(
        grad, grad_box, grad_channel, grad_row, grad_column, channels,
        corners, corner_row, corner_column, scale_y, scale_x,
        height, width, y_first, y_second, x_first, x_second, apart, bins_y, bins_x,
        names, name_box, name_channel, name_row, name_column,
        line_begin, line_end, line_bin, windows, count, touched, boxes, start,
        target, image_stride, channel_stride, row_stride, column_stride, motion, motion_row,
        tiles_y, tiles_x, share, inner,
    ):  # fmt: skip
        tile = cuda.blockIdx.x
        first_channel = cuda.blockIdx.y * share
        mine = min(share, channels - first_channel)
        image, tile_y, tile_x = tile_of(tile, tiles_y, tiles_x)
        plane = N(image * image_stride)
        first = np.int64(tile) * boxes
        option_y, option_x = pack(scale_y, y_first, y_second), pack(scale_x, x_first, x_second)
        move_x1, move_y1, move_x2, move_y2 = A(0), A(0), A(0), A(0)
        for unit in range(cuda.threadIdx.x, np.int32(PIXELS * mine), THREADS):
            pixel, c, _ = unit_of(unit, PIXELS, mine, inner, first_channel, 1)
            y, x = divided(pixel, TILE_WIDTH)
            y, x = np.int32(y + tile_y * TILE_HEIGHT), np.int32(x + tile_x * TILE_WIDTH)
            if y >= height or x >= width:
                continue
            place = N(plane + N(c * channel_stride))
            place = N(place + N(y * row_stride) + N(x * column_stride))
            total = load_result(target, place)  # zero, or what earlier rounds left
            for t in range(count[tile]):
                k = touched[first + t]
                if (
                    y < windows[4 * k]
                    or y >= windows[4 * k + 1]
                    or x < windows[4 * k + 2]
                    or x >= windows[4 * k + 3]
                ):
                    continue
                box = start + k
                x1, y1, x2, y2 = corners_of(corners, box * corner_row, corner_column)
                box_y, box_x = span(y1, y2, bins_y, option_y), span(x1, x2, bins_x, option_x)
                if moving:
                    at = box * motion_row
                    move_x1, move_y1 = A(motion[at]), A(motion[at + 1])
                    move_x2, move_y2 = A(motion[at + 2]), A(motion[at + 3])
                line = k * (height + width)
                begin_x, end_x = line_begin[line + height + x], line_end[line + height + x]
                for i in range(line_begin[line + y], line_end[line + y]):
                    p = int(line_bin[i])
                    for j in range(begin_x, end_x):
                        q = int(line_bin[j])
                        at = N(N(box * name_box) + N(c * name_channel))
                        name = names[N(at + N(p * name_row) + N(q * name_column))]
                        if name < 0:
                            continue
                        pitch = pitch_along(box_x, q, apart, bins_x, width, option_x)
                        found, u0, u1, d0, d1, low, high = find(
                            box_y, p, name // pitch, apart, bins_y, height, option_y
                        )
                        u, d = A(0), A(0)
                        if found == y:
                            u, d = u0, d0
                        elif found + 1 == y:
                            u, d = u1, d1
                        d = at_rate(d, low * move_y1 + high * move_y2)
                        found, v0, v1, e0, e1, low, high = find(
                            box_x, q, name % pitch, apart, bins_x, width, option_x
                        )
                        v, e = A(0), A(0)
                        if found == x:
                            v, e = v0, e0
                        elif found + 1 == x:
                            v, e = v1, e1
                        w = u * v
                        if moving:
                            e = at_rate(e, low * move_x1 + high * move_x2)
                            w = d * v + u * e
                        if w != 0:
                            at = N(N(box * grad_box) + N(c * grad_channel))
                            at = N(at + N(p * grad_row) + N(q * grad_column))
                            total += w * load(grad, at)
            save(target, place, total)

    parameters = (
        f"{stored}*", *[offsets] * 4, "int32", f"{geometry}*", "int64", "int64", geometry, geometry,
        *GEOMETRY[1:], "int64*", *[offsets] * 4,
        "int32*", "int32*", "int32*", "int32*", "int32*", "int32*", "int32", "int32",
        f"{result}*", *[offsets] * 4, f"{geometry}*", "int64",
        "int32", "int32", "int32", "int32",
    )  # fmt: skip
    name = f"gather_{rule.name}_{geometry}_{stored}_{result}_{offsets}" + "_moving" * moving
    return Kernel(gather, name, parameters, THREADS, contract=False)
