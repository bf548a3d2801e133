"""The level of one box, number by number: what `assign_levels` is held against."""

import math


def assign_level(
    box,
    min_level,
    max_level,
    canonical_size=224,
    canonical_level=4,
    rounding="floor",
    epsilon=0,
    epsilon_inside=False,
    pixel_offset=False,
):
    """The level of a box (x1, y1, x2, y2) of Python's floats."""
    x1, y1, x2, y2 = box
    sides = [x2 - x1, y2 - y1]
    if any(math.isnan(side) or side < 0 for side in sides):
        return min_level
    if pixel_offset:
        sides = [side + 1 for side in sides]
    area = sides[0] * sides[1]
    if math.isnan(area) or area == 0:
        return min_level
    if area == math.inf:
        return max_level
    size = math.sqrt(area) / canonical_size
    if epsilon_inside:
        level = canonical_level + math.log2(size + epsilon)
    else:
        level = canonical_level + math.log2(size) + epsilon
    whole = math.floor(level) if rounding == "floor" else round(level)
    return min(max(whole, min_level), max_level)
