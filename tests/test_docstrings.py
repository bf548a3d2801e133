"""What the reference says of every public entry: all sections, shapes, units, formula, paper."""

import ast
import builtins
import inspect
import re
from importlib import import_module

import pytest

import roi_numba
from roi_numba._docstrings import SECTIONS, entries, like, sections
from roi_numba.compat import PEERS

MODULES = ["roi_numba", *(f"roi_numba.compat.{peer}" for peer in PEERS)]
for library in ("torch", "jax"):
    try:
        import_module(library)
    except ImportError:
        continue
    MODULES.append(f"roi_numba.{library}")

ENTRIES = [
    pytest.param(getattr(import_module(module), name), id=f"{module}.{name}")
    for module in MODULES
    for name in import_module(module).__all__
]
FUNCTIONS = [entry for entry in ENTRIES if not inspect.isclass(entry.values[0])]
CLASSES = [entry for entry in ENTRIES if inspect.isclass(entry.values[0])]
NO_OPERATORS = {"axis_weights", "get_num_threads", "new_ops", "set_num_threads"}
METHODS = [
    pytest.param(getattr(each, name), id=f"{entry.id}.{name}")
    for entry in CLASSES
    for each in entry.values
    for name in ("__call__", "forward")
    if "Parameters" in sections(getattr(each, name, None))[1]
]
BOXES = {"boxes", "rois", "coords", "box_lists"}
"""What the peers call them."""


def parameters(documented):
    return {
        name: parameter
        for name, parameter in inspect.signature(documented).parameters.items()
        if name != "self"
    }


@pytest.mark.parametrize("entry", ENTRIES)
def test_summary_and_order(entry):
    before, found = sections(entry)
    summary = before.splitlines()[0]
    assert summary.endswith(".")
    assert len(summary) <= 100
    assert list(found) == [title for title in SECTIONS if title in found]


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_example(entry):
    """Which the doctests run."""
    assert ">>> " in sections(entry)[1]["Examples"]


@pytest.mark.parametrize("function", FUNCTIONS + METHODS)
def test_sections_of_functions(function):
    _, found = sections(function)
    if parameters(function):
        assert {"Parameters", "Raises"} <= set(found)
    if inspect.signature(function).return_annotation not in (None, "None"):
        assert "Returns" in found
    for name in entries(found.get("Raises", "")):
        assert issubclass(getattr(builtins, name), Exception)


@pytest.mark.parametrize("documented", ENTRIES + METHODS)
def test_every_parameter_and_its_default(documented):
    known = parameters(documented)
    texts = entries(sections(documented)[1].get("Parameters", ""))
    assert list(texts) == list(known)
    for name, text in texts.items():
        kind, _, said = text.splitlines()[0].partition(", default ")
        default = known[name].default
        if said:
            assert ast.literal_eval(said) == default, name
        elif kind.endswith(", optional"):
            assert default is None, name
        elif documented.__name__ != "roi_pooling":  # where one of two sizes has to be given
            assert default is inspect.Parameter.empty, name


@pytest.mark.parametrize("documented", FUNCTIONS + METHODS)
def test_shapes_dtypes_and_units(documented):
    """An array has a shape; maps have dtypes, boxes are in pixels or parts of an image."""
    _, found = sections(documented)
    texts = entries(found.get("Parameters", "")) | entries(found.get("Returns", ""))
    kind = re.compile(r".* : .*(\barrays?\b|Tensor|jax\.Array)(?! of them)")
    arrays = {name: text for name, text in texts.items() if kind.match(text)}
    for name, text in arrays.items():
        assert "shape" in text, name
    for name in BOXES & set(texts):
        assert re.search(r"pixel|from 0 to 1|relative", texts[name]), name
    for name in {"spatial_scale", "spatial_scales", "scales"} & set(texts):
        assert "eature pixels per image pixel" in texts[name]
    if documented.__name__ not in NO_OPERATORS | {"assign_levels"}:
        assert re.search(r"dtype|float32", " ".join(arrays.values()))


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES if entry.values[0].__name__ not in NO_OPERATORS]
)
def test_formula_and_paper(entry):
    _, found = sections(entry)
    assert re.search(r"^\.\. math::$|``[^`]*[-+*/][^`]*``", found["Notes"], re.MULTILINE)
    assert re.search(r"arXiv:\d{4}\.\d{5}|TensorFlow", found["References"])


def test_no_module_has_a_class_without_its_call():
    """Every class of operators is called, or is a module of torch: `METHODS` has all of them."""
    assert len(METHODS) == len(CLASSES) >= 9


# ---- how they are completed ------------------------------------------------------------------


def test_own_words_come_first():
    @like("prroi_pool")
    def pooled(maps, output_size=7, *, aligned=False):
        """Pool.

        Parameters
        ----------
        maps : array, shape (C, H, W)
            Two
            lines.

            And a paragraph.
        output_size : int, default 7
            Ours.

        Raises
        ------
        TypeError
            Ours.
        OSError
            New.

        Notes
        -----
        Before the formula.
        """

    before, found = sections(pooled)
    _, original = sections(roi_numba.prroi_pool)
    assert before == "Pool."
    assert list(found) == ["Parameters", "Raises", "See Also", "Notes", "References"]
    known = entries(found["Parameters"])
    assert list(known) == ["maps", "output_size", "aligned"]
    assert known["maps"].endswith("lines.\n\n    And a paragraph.")
    assert known["output_size"].endswith("Ours.")
    assert known["aligned"] == entries(original["Parameters"])["aligned"]
    raised = entries(found["Raises"])
    assert list(raised) == ["ValueError", "TypeError", "IndexError", "OSError"]
    assert raised["TypeError"].endswith("Ours.")
    whose = "Of `roi_numba.prroi_pool`, with all its options:"
    assert found["Notes"] == "\n\n".join(["Before the formula.", whose, original["Notes"]])
    assert found["References"] == original["References"]


def test_a_parameter_that_nobody_knows():
    with pytest.raises(KeyError, match="other"):

        @like("roi_align")
        def pooled(input, other):
            """Pool."""


def test_without_docstrings():
    """As with ``python -OO``."""
    assert like("roi_align")(lambda input: None).__doc__ is None
