"""`{bad-input}`: what comes of bad and odd input, from the table that the tests run."""

from collections.abc import Iterator

from capability_table import table
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

import bad_input

LEFT_OUT = "zeros for that box, no gradient"
REFUSED = "refused too"


def _error(row: bad_input.Row) -> str:
    """The exceptions by name."""
    errors = row.error if isinstance(row.error, tuple) else (row.error,)
    return " or ".join(f"`{error.__name__}`" for error in errors)


def _bad() -> Iterator[list[str]]:
    example = next(each for each in bad_input.EVERY if each.name == "roi_align")
    for row in bad_input.TABLE:
        if row.error is not None:
            message = row.message(example).replace("|", "\\|")
            unchecked = LEFT_OUT if row.unchecked else REFUSED
            yield [row.what, f"{_error(row)}: `{message}`", unchecked]


def _odd() -> Iterator[list[str]]:
    for row in bad_input.TABLE:
        if row.error is None:
            yield [row.what, row.says]


class BadInput(SphinxDirective):
    """Both halves of the table: what is refused, and what is not."""

    def run(self) -> list[nodes.Node]:
        """Write the tables as Markdown, for the parser to read."""
        lines = [
            *table(("bad", "checked", "`check_boxes=False`"), _bad()),
            *table(("odd", "what comes of it"), _odd()),
        ]
        return self.parse_text_to_nodes("\n".join(lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("bad-input", BadInput)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
