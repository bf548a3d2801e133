"""The site: `sphinx-build -W docs build/site`.

Nothing here needs the network.  Formulas become MathML while the site is built, and objects of
other libraries are found in their own inventories where those can be reached, else in the short
ones of `inventories/`.
"""

import sys
from pathlib import Path

import roi_numba
from roi_numba._sources import source_digest

HERE = Path(__file__).parent
sys.path += [str(HERE / "_ext"), str(HERE.parent / "tests")]  # the latter for its tables

project = "roi_numba"
author = "the authors of roi_numba"
copyright = "the authors of roi_numba, Apache-2.0"
version = release = roi_numba.__version__

extensions = [
    "accuracy",
    "capability_table",
    "input_table",
    "mathml",
    "measured",
    "myst_nb",
    "numpydoc",
    "optional",
    "peers",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
]
templates_path = ["_templates"]
# Of compat.md each row is on a page of `peers`.
exclude_patterns = ["_ext", "_static", "_templates", "compat.md"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "cache"  # what was executed with other sources is executed again
nb_execution_cache_path = str(HERE.parent / "build" / "executed" / source_digest())
nb_execution_raise_on_error = True
nb_execution_timeout = 120  # the first call of an operator compiles
nb_merge_streams = True

default_role = "py:obj"  # what docstrings put into single backticks
_pages = {"pyramid_pool": "pyramid", "assign_levels": "pyramid"}
_pages |= {path.stem: path.stem for path in (HERE / "understand").glob("*_*.md")}
autosummary_context = {"explained": {f"roi_numba.{name}": page for name, page in _pages.items()}}
autodoc_typehints = "none"  # numpydoc's sections say more
python_maximum_signature_line_length = 80
numpydoc_show_class_members = False

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "roi_numba"
html_context = {"default_mode": "auto"}  # without it the console has an error on a first visit
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_css_files = ["site.css", "understand.css"]
html_show_sourcelink = False
html_domain_indices = False  # an index of three modules
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def _inventory(name: str, url: str) -> tuple[str, tuple[None, str]]:
    return url, (None, str(HERE / "inventories" / f"{name}.txt"))


# The sites have not been reached from where this was written.  What the inventories of Debian's
# packages have of SciPy (1.10) and Numba (0.56) is at the same places as in the short ones here.
intersphinx_timeout = 5
intersphinx_mapping = {
    name: _inventory(name, url)
    for name, url in {
        "cupy": "https://docs.cupy.dev/en/stable/",
        "jax": "https://docs.jax.dev/en/latest/",
        "numba": "https://numba.readthedocs.io/en/stable/",
        "numpy": "https://numpy.org/doc/stable/",
        "python": "https://docs.python.org/3/",
        "scipy": "https://docs.scipy.org/doc/scipy/",
        "torch": "https://docs.pytorch.org/docs/stable/",
    }.items()
}
