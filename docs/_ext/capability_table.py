"""`{capabilities}`: what every operator can do, read from the tables that the tests run over."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import capabilities
import operators
import strategies
from capabilities import BACKENDS, CELLS, DTYPES, Capability
from operators import OPERATORS, RULES
from roi_numba._arrays import BFLOAT16, result_dtype
from roi_numba._checks import geometry
from strategies import BOX_DTYPES

TO_BOXES = {"exact": "boxes", "straight through": "boxes*", "zero": "boxes: 0"}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of Markdown."""
    head = list(head)
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(row) + " |"
    yield ""


def _code(words: Iterable[Any]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _link(name: str) -> str:
    return f"{{func}}`{name} <roi_numba.{name}>`"


def _operators() -> Iterator[list[str]]:
    reductions = {operator.name: _code(operator.reductions) for operator in OPERATORS}
    for rule in RULES:
        reduce = reductions.get(rule.name, "one sample")
        winner = "—" if rule.argmax == "none" else f"the {rule.argmax}"
        if "max_corner" in reduce:
            winner += ", of `max_corner` the corner"
        yield [_link(rule.name), reduce, winner]


def _together(said: Callable[[Any], Any], dtypes: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Dtypes of which all the same is said, and what that is."""
    groups: dict[Any, list[Any]] = {}
    for dtype in map(np.dtype, dtypes):
        groups.setdefault(said(dtype), []).append(dtype)
    return ((", ".join(map(str, dtypes)), said) for said, dtypes in groups.items())


def _gradients(cell: Capability | None) -> str:
    if cell is None:
        return "no"
    to = (["map"] if cell.to_map else []) + [TO_BOXES[cell.to_boxes]]
    return ", ".join(to) + " ∂²" * cell.again


def _crossed() -> Iterator[list[str]]:
    """Operator by dtype by backend."""
    for rule in RULES:

        def row(dtype: np.dtype[Any], name: str = rule.name) -> tuple[str, ...]:
            cells = [CELLS.get((name, dtype, backend)) for backend in BACKENDS]
            (result,) = {cell.result for cell in cells if cell}
            same = result == dtype and name in {operator.name for operator in OPERATORS}
            return "the same" if same else str(result), *map(_gradients, cells)

        name = _link(rule.name)
        for dtypes, said in _together(row, DTYPES):
            yield [name, dtypes, *said]
            name = ""


def _inside(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype as the package has it: NumPy has no bfloat16 of its own."""
    return BFLOAT16 if dtype.name == "bfloat16" else dtype


def _accumulator(dtype: np.dtype[Any]) -> str:
    result = result_dtype(_inside(dtype))
    return str(np.promote_types(np.float32, result) if result.kind == "f" else "float32")


def _geometry(dtype: np.dtype[Any]) -> str:
    return str(geometry("boxes", np.zeros((1, 4), _inside(dtype))).dtype)


TABLES = {
    "operators": (("operator", "`reduce`", "`argmax` names"), _operators),
    "gradients": (("operator", "map of", "result", *BACKENDS), _crossed),
    "maps": (("map of", "added up in"), lambda: _together(_accumulator, DTYPES)),
    "boxes": (("boxes of", "geometry in"), lambda: _together(_geometry, BOX_DTYPES)),
}


class Capabilities(SphinxDirective):
    """One of the tables: operators, gradients, maps, boxes."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write it as Markdown, for the parser to read."""
        for module in (capabilities, operators, strategies):
            self.env.note_dependency(module.__file__)
        head, rows = TABLES[self.arguments[0]]
        return self.parse_text_to_nodes("\n".join(table(head, rows())))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("capabilities", Capabilities)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
