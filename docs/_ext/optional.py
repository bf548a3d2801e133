"""Pages that need a library that may not be there: they say so, and the site is built all the same.

Where a library is missing a page of `use/` shows its code without results, one of `reference/` only
says how to build it.  CI builds the site with all of them but torchvision, of which PyPI has
wheels for CUDA only; .ci/full builds it with that, too.
"""

from importlib.util import find_spec

from sphinx.application import Sphinx
from sphinx.config import Config

NEEDS = {
    "reference/jax": ("jax",),
    "reference/torch": ("torch",),
    "use/jax": ("jax",),
    "use/onnx": ("onnx", "onnxruntime"),
    "use/torch": ("torch",),
    "use/torchvision": ("torch", "torchvision"),
}
GENERATED = ("reference/index", "reference/torch", "reference/jax")
"""Pages whose functions get a page each."""


def missing(page: str) -> list[str]:
    """The libraries that a page needs and that are not installed."""
    return [name for name in NEEDS.get(page, ()) if find_spec(name) is None]


def leave_out(app: Sphinx, config: Config) -> None:
    """Execute and import only what can be."""
    config.nb_execution_excludepatterns = [f"{page}.md" for page in NEEDS if missing(page)]
    config.autosummary_generate = [f"{page}.md" for page in GENERATED if not missing(page)]
    config.exclude_patterns += [  # left there by a build that had them
        f"reference/generated/roi_numba.{page.partition('/')[2]}.*"
        for page in GENERATED
        if missing(page)
    ]


def say_so(app: Sphinx, page: str, source: list[str]) -> None:
    """Put a note below the title, in place of everything else if that cannot be imported."""
    names = missing(page)
    if not names:
        return
    title = next(line for line in source[0].splitlines() if line.startswith("# "))
    before, _, rest = source[0].partition(f"{title}\n")
    without = " and ".join(names)
    if page.startswith("reference/"):
        extra = page.partition("/")[2]
        rest = f'It is left out: `pip install -e ".[docs,{extra}]"` builds it too.'
        source[0] = f"{title}\n\nThis copy of the site was built without {without}. {rest}\n"
        return
    note = f":::{{note}}\nBuilt without {without}: the code below was not run here.\n:::\n"
    source[0] = f"{before}{title}\n\n{note}{rest}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect both."""
    app.connect("config-inited", leave_out, priority=100)
    app.connect("source-read", say_so)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
