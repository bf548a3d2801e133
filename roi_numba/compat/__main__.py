"""`python -m roi_numba.compat`: the table of all peers' calls and ours, docs/compat.md."""

import inspect
from importlib import import_module

from . import PEERS

HEAD = """# Your library's call, and ours

Written by `python -m roi_numba.compat > docs/compat.md`; the tests evaluate both sides of every
row and compare. Each left side is also there as a function: `from roi_numba.compat import
torchvision`, then `torchvision.roi_align(...)`.

The arrays: `input` (N, C, H, W), `image` (N, H, W, C), `inputs` and `images` lists of such maps;
`boxes` (K, 5) rows (batch index, x1, y1, x2, y2), `xyxy` (K, 4) rows (x1, y1, x2, y2), `yxyx`
(K, 4) rows (y1, x1, y2, x2), in image pixels, `normalized` as `yxyx` from 0 to 1 and `unit_boxes`
as `boxes`; `indices` (K,) the image of each box, `counts` (N,) the number of boxes of each image,
`by_image` the list of each image's `xyxy`; `image_meta` a row for each image, its height and width
in columns 4 and 5.
"""


def table() -> str:
    """The document."""
    parts = [HEAD]
    for name in PEERS:
        module = import_module(f"{__package__}.{name}")
        parts.append(f"\n## {name}\n\n{inspect.getdoc(module)}\n")
        parts.append(f"\n| `{module.PEER}` | `roi_numba` | |\n|---|---|---|\n")
        for row in module.TABLE:
            parts.append(f"| `{row.theirs}` | `{row.ours}` | {row.quirk} |\n")
    return "".join(parts)


if __name__ == "__main__":
    print(table(), end="")
