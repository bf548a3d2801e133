"""What every operator has, held by reading the sources."""

import ast
import inspect
import re

import pytest

import reference
import reference_crops
import reference_gradients
import roi_numba
from operators import OPERATORS
from sources import (
    CROP_NAMES,
    MODULES,
    OPERATOR_NAMES,
    PUBLIC,
    ROOT,
    RULE_NAMES,
    tree,
)


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_every_operator_has_a_reference_and_a_row_in_the_table(name):
    assert callable(getattr(reference, name))
    rows = [row for row in OPERATORS if row.function is getattr(roi_numba, name)]
    assert len(rows) == 1
    assert rows[0].reference is getattr(reference, name)
    assert callable(getattr(reference_gradients, f"{name}_backward"))


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_the_table_knows_every_option(name):
    """A new option or choice without values to test it with is seen here."""
    (row,) = (row for row in OPERATORS if row.name == name)
    parameters = list(inspect.signature(row.function).parameters)
    common = "input boxes output_size spatial_scale reduce return_argmax batch_indices channel_axis"
    own = set(parameters) - {*common.split(), "check_boxes", "out"}
    assert set(row.options) == own == set(inspect.signature(MODULES[name].options).parameters)
    assert set(row.options) <= set(inspect.signature(row.reference).parameters)
    assert set(row.options) <= set(inspect.signature(row.reference_backward).parameters)
    assert MODULES[name].RULE.name == name


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_signatures_agree(name):
    """One operator's arguments in another's place: same order, same defaults, same ends."""
    parameters = inspect.signature(getattr(roi_numba, name)).parameters
    assert list(parameters)[:4] == ["input", "boxes", "output_size", "spatial_scale"]
    tail = ["batch_indices", "channel_axis", "check_boxes", "out"]
    assert list(parameters)[-4:] == tail
    defaults = {key: parameters[key].default for key in ("spatial_scale", *tail)}
    assert list(defaults.values()) == [1.0, None, 1, None, None]
    assert all(parameters[key].kind is inspect.Parameter.KEYWORD_ONLY for key in tail)


@pytest.mark.parametrize("name", CROP_NAMES)
def test_crops_have_a_reference_that_knows_every_option(name):
    parameters = list(inspect.signature(getattr(roi_numba, name)).parameters)
    own = set(inspect.signature(MODULES[name].options).parameters)
    known = {"input", "boxes", "crop_size", "box_indices", "extrapolation_value", *own}
    assert set(parameters) == known | {"channel_axis", "check_boxes", "out"}
    assert set(inspect.signature(getattr(reference_crops, name)).parameters) == known
    backward = set(inspect.signature(getattr(reference_crops, f"{name}_backward")).parameters)
    assert backward == known - {"crop_size", "extrapolation_value"} | {"grad_output"}
    assert MODULES[name].RULE.name == name


@pytest.mark.parametrize("name", CROP_NAMES)
def test_signatures_of_crops_agree(name):
    """TensorFlow's arguments and channels last; the ends are those of other operators."""
    parameters = inspect.signature(getattr(roi_numba, name)).parameters
    assert list(parameters)[:4] == ["input", "boxes", "crop_size", "box_indices"]
    tail = ["channel_axis", "check_boxes", "out"]
    assert list(parameters)[-3:] == tail
    assert [parameters[key].default for key in tail] == [-1, None, None]
    keywords = [key for key in parameters if key not in ("input", "boxes", "crop_size")]
    assert all(parameters[key].kind is inspect.Parameter.KEYWORD_ONLY for key in keywords)


@pytest.mark.parametrize("name", RULE_NAMES)
def test_gradients_have_the_signature_of_their_forward(name):
    """Less what grad_output says and what is no input, and then what only they have."""
    forward = inspect.signature(getattr(roi_numba, name)).parameters
    first, *rest = inspect.signature(getattr(roi_numba, f"{name}_backward")).parameters.values()
    without = {"output_size", "return_argmax", "out", "crop_size", "extrapolation_value"}
    shared = [forward[key] for key in forward if key not in without]
    assert (first.name, first.kind) == ("grad_output", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    assert first.default is inspect.Parameter.empty
    assert rest[: len(shared)] == shared
    tail = rest[len(shared) :]
    own = {"needs": ("input", "boxes")} | ({"argmax": None} if "return_argmax" in forward else {})
    own |= {"deterministic": True}
    assert [(each.name, each.default) for each in tail] == list(own.items())
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in tail)


@pytest.mark.parametrize("name", OPERATOR_NAMES)
def test_every_operator_is_in_the_readme(name):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|.*`{name}`", text, re.MULTILINE), "a row in the table of operators"


@pytest.mark.parametrize("name", CROP_NAMES)
def test_crops_are_in_the_readme(name):
    assert f"`{name}(" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RULE_NAMES)
def test_every_operator_is_measured(name):
    nodes = ast.walk(tree(ROOT / "benchmarks" / "cases.py"))
    assert name in {node.value for node in nodes if isinstance(node, ast.Constant)}


def test_annotations():
    for function in PUBLIC:
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty
