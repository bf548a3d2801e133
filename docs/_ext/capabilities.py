"""`{capabilities}`: what every operator can do, read from the table that the tests run over."""

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import roi_numba
from operators import OPERATORS, RULES
from roi_numba._arrays import BFLOAT16, result_dtype
from roi_numba._checks import geometry
from strategies import BOX_DTYPES, FLOATS, INTEGERS

PACKAGE = Path(roi_numba.__file__).parent
YES, NO = "✓", "no"
EXCEPT = {"roi_warp": "straight through the rounding"}
"""Gradients to boxes that are not exact, by default."""


def _public(module: str) -> set[str]:
    """`__all__` of a module whose library may not be installed."""
    for node in ast.parse((PACKAGE / f"{module}.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    raise LookupError(f"roi_numba/{module}.py has no __all__")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Lines of Markdown."""
    head = list(head)
    for row in (head, ["---"] * len(head), *rows):
        yield "| " + " | ".join(row) + " |"
    yield ""


def _code(words: Iterable[Any]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _operators() -> Iterator[list[str]]:
    reductions = {operator.name: list(operator.reductions) for operator in OPERATORS}
    torch, jax = _public("torch"), _public("jax")
    for rule in RULES:
        yield [
            f"{{func}}`~roi_numba.{rule.name}`",
            _code(reductions.get(rule.name, ["one sample"])),
            YES,
            YES,
            YES if rule.name in torch else NO,
            YES if rule.name in jax else NO,
            "exact",
            EXCEPT.get(rule.name, "exact") if rule.slope else "0",
            {"cell": "cells", "sample": "samples", "none": NO}[rule.argmax],
        ]


def _inside(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A dtype as the package has it: NumPy has no bfloat16 of its own."""
    return BFLOAT16 if dtype.name == "bfloat16" else dtype


def _maps() -> Iterator[list[str]]:
    for dtype in map(np.dtype, [*FLOATS, *INTEGERS]):
        result = result_dtype(_inside(dtype))
        accumulated = np.promote_types(np.float32, result) if result.kind == "f" else "float32"
        yield [f"`{dtype}`", f"`{accumulated}`", f"`{dtype if result == BFLOAT16 else result}`"]


def _boxes() -> Iterator[list[str]]:
    for dtype in map(np.dtype, BOX_DTYPES):
        yield [f"`{dtype}`", f"`{geometry('boxes', np.zeros((1, 4), _inside(dtype))).dtype}`"]


class Capabilities(SphinxDirective):
    """Operator by backend and gradient; the dtypes that each row takes."""

    def run(self) -> list[nodes.Node]:
        """Write the tables as Markdown, for the parser to read."""
        operators = (
            "operator", "`reduce`", "host", "CUDA", "torch", "JAX", "to map", "to boxes", "names",
        )  # fmt: skip
        lines = [
            *table(operators, _operators()),
            *table(("maps of", "are added up in", "and give"), _maps()),
            *table(("boxes of", "have their geometry in"), _boxes()),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("capabilities", Capabilities)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
