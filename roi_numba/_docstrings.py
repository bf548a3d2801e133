"""Docstrings of what stands for an operator: what they lack comes from the operator's own.

Parameters and errors come by name; notes and papers follow what is said already.  So a formula and
its paper are written down once, and `help` and the site show them wherever something computes so.
"""

import inspect
import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeVar

SECTIONS = (
    "Parameters", "Returns", "Raises", "See Also", "Notes", "References", "Examples",
)  # fmt: skip

Documented = TypeVar("Documented", bound=Callable[..., Any])


def like(operator: str, without: tuple[str, ...] = ()) -> Callable[[Documented], Documented]:
    """Complete the docstring of a function, or those of a class and its ``__call__``.

    `operator` names a function of the package.  What a class is called with is documented there,
    and raised there.  Sections ``without`` which a docstring is complete are not taken.
    """
    original = getattr(import_module(__package__), operator)

    def completed(documented: Documented) -> Documented:
        if documented.__doc__ is None:  # python -OO
            return documented
        if not isinstance(documented, type):
            _complete(
                documented, original, ("Parameters", "Raises", "Notes", "References"), without
            )
            return documented
        _complete(documented, original, ("Parameters", "Notes", "References"), without)
        if "__call__" in vars(documented):
            _complete(vars(documented)["__call__"], original, ("Parameters", "Raises"), without)
        return documented

    return completed


def _complete(
    documented: Any, original: Any, titles: Iterable[str], without: tuple[str, ...]
) -> None:
    """Write the docstring anew, with the sections that are asked for."""
    before, own = sections(documented)
    _, others = sections(original)
    for title in titles:
        if title in without:
            continue
        if title in ("Parameters", "Raises"):
            known = entries(others[title]) | entries(own.get(title, ""))
            if title == "Parameters":
                names = inspect.signature(documented).parameters
                known = {name: known[name] for name in names if name != "self"}
            own[title] = "\n".join(known.values())
        elif title in others:
            parts = [own[title]] if title in own else []
            if title == "Notes":  # which may be about options that this one does not have
                parts.append(f"Of `roi_numba.{original.__name__}`, with all its options:")
            own[title] = "\n\n".join([*parts, others[title]])
    if "Notes" in titles:
        own.setdefault("See Also", f"roi_numba.{original.__name__} : What computes it.")
    parts = [f"{title}\n{'-' * len(title)}\n{own[title]}" for title in SECTIONS if title in own]
    documented.__doc__ = "\n\n".join([before, *parts]) + "\n"


def sections(documented: Any) -> tuple[str, dict[str, str]]:
    """What comes before the first section of a docstring, and the sections by title."""
    parts = re.split(r"^(\w[\w ]*)\n---+\n", inspect.getdoc(documented) or "", flags=re.MULTILINE)
    first, *rest = (part.strip("\n") for part in parts)
    return first, dict(zip(rest[::2], rest[1::2], strict=True))


def entries(section: str) -> dict[str, str]:
    """The entries of a section by name: a line that is not indented, and those below it."""
    found = re.findall(r"^\S.*(?:\n(?: .*)?)*", section, re.MULTILINE)
    return {re.split(r"\W", each.lstrip("*"), maxsplit=1)[0]: each.rstrip() for each in found}
