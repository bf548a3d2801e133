"""A page for each library of `roi_numba.compat`: its calls and ours, its functions."""

import inspect
from importlib import import_module
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from roi_numba.compat import PEERS

FOLDER = Path("reference", "generated", "compat")

TITLES = {
    "chainer": "Chainer",
    "matterport": "matterport's Mask R-CNN",
    "onnx": "ONNX",
    "openvino": "OpenVINO",
    "paddle": "Paddle",
    "tensorflow": "TensorFlow",
}
"""What a library is called, where that is not the name of its module."""

PAGE = """# From {title}

{about}

## Calls

Theirs above, the same here below; the tests evaluate both and compare. [This table](#the-arrays)
says what the arrays are.

```{{calls}} {name}
```

## Their functions, on our operators

```{{eval-rst}}
.. currentmodule:: roi_numba.compat.{name}

{entries}
```
"""


class Calls(SphinxDirective):
    """The rows of a library's table, call under call: they are too long to stand side by side."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the rows as Markdown, for the parser to read."""
        module = import_module(f"roi_numba.compat.{self.arguments[0]}")
        lines = []
        for row in module.TABLE:
            for code, side in ((row.theirs, "theirs"), (row.ours, "ours")):
                lines += ["```{code-block} python", f":class: {side}", code, "```", ""]
            lines += [":::{div} quirk", row.quirk, ":::", ""]
        return self.parse_text_to_nodes("\n".join(lines))


def write_pages(app: Sphinx) -> None:
    """One page for each module; left alone where nothing changes, or Sphinx reads it again."""
    folder = Path(app.srcdir) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name in PEERS:
        module = import_module(f"roi_numba.compat.{name}")
        entries = "\n\n".join(
            f".. autoclass:: {each}\n\n   .. automethod:: __call__\n      :no-index:"
            if inspect.isclass(getattr(module, each))
            else f".. autofunction:: {each}"
            for each in module.__all__
        )
        path = folder / f"{name}.md"
        title, about = TITLES.get(name, name), inspect.getdoc(module)
        text = PAGE.format(name=name, title=title, about=about, entries=entries)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive and have the pages written."""
    app.add_directive("calls", Calls)
    app.connect("builder-inited", write_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
