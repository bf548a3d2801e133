"""The command line: ``python -m roi_numba info`` and ``python -m roi_numba demo``."""

import argparse
import math
import sys
from collections.abc import Sequence
from typing import NoReturn


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence on stderr and exit status 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected x1,y1,x2,y2, got {text!r}") from None
    if not all(map(math.isfinite, (x1, y1, x2, y2))) or not (x1 < x2 and y1 < y2):
        raise argparse.ArgumentTypeError(f"expected x1 < x2 and y1 < y2, got {text!r}")
    return x1, y1, x2, y2


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"expected a whole number >= 1, got {text!r}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m roi_numba", description="Region-of-interest pooling.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{info,demo}")
    commands.add_parser("info", help="print what a bug report needs")
    demo = commands.add_parser(
        "demo",
        help="pool a photograph with every operator and draw what each of them reads",
        description="Pool a photograph with every operator, print a table, write one picture.",
    )
    demo.add_argument("image", nargs="?", metavar="IMAGE", help="default: a photo of matplotlib's")
    demo.add_argument(
        "--box",
        dest="boxes",
        type=_box,
        nargs="+",
        action="extend",
        metavar="x1,y1,x2,y2",
        help="boxes in image pixels; default: one that no operator's grid fits",
    )
    demo.add_argument("--stride", type=_positive, default=32, help="default: %(default)s")
    demo.add_argument("--output-size", type=_positive, default=7, help="default: %(default)s")
    demo.add_argument("--output", default="roi_numba_demo.png", help="default: %(default)s")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    options = _parser().parse_args(arguments)
    if options.command == "info":
        from . import _info

        print(_info.report())
        return 0

    from . import _demo

    try:
        _demo.run(options.image, options.boxes, options.stride, options.output_size, options.output)
    except _demo.DemoError as error:
        print(f"python -m roi_numba demo: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
