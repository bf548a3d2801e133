"""What README.md and the other documents say is so: examples, commands, names, links."""

import ast
import re
import warnings
from pathlib import Path

import pytest

import roi_numba
from operators import OPERATORS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "benchmarks", ROOT / "tests" / "data")
    for path in folder.glob("*.md")
)


def examples(text):
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


EXAMPLES = examples(README)
RECIPES = examples((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"))


def library(example):
    """The array library that an example imports."""
    return re.search(r"^import (\w+)", example, re.MULTILINE)[1]


def run(example):
    """Execute an example; a line ``expression  # value`` must have that value."""
    names, checked = {}, 0
    for statement in ast.parse(example).body:
        if not isinstance(statement, ast.Expr):
            exec(ast.unparse(statement), names)
            continue
        value = eval(ast.unparse(statement), names)
        comment = example.splitlines()[statement.end_lineno - 1][statement.end_col_offset :]
        if not comment.strip():  # a call for its effect
            continue
        assert repr(value) == comment.strip().removeprefix("# ")
        checked += 1
    return checked


@pytest.mark.parametrize("example", EXAMPLES, ids=library)
def test_example(example):
    name = library(example)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other libraries, while they are imported
        pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)
    assert run(example) == 1


@pytest.mark.parametrize("example", RECIPES, ids=range(len(RECIPES)))
def test_recipe(example):
    assert run(example) == 1


@pytest.mark.parametrize(
    "command",
    [
        'python3 -m venv .venv && .venv/bin/pip install ".[demo]" '
        "&& .venv/bin/python -m roi_numba demo",
        'python3 -m venv .venv && .venv/bin/pip install -e ".[test]" && .venv/bin/pytest',
        'python3 -m venv .venv && .venv/bin/pip install -e ".[docs]" '
        "&& .venv/bin/sphinx-build docs build/site "
        "&& .venv/bin/python -m http.server --directory build/site",
    ],
)
def test_commands_are_on_one_line_each(command):
    assert README.splitlines().count(command) == 1


def table_of_operators():
    """Operator -> reductions, as the README lists them, the default first."""
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*) \|$", README, re.MULTILINE)
    return {operator: re.findall(r"`(\w+)`", reductions) for operator, reductions in rows}


def test_table_has_every_operator_and_reduction():
    listed = table_of_operators()
    assert list(listed) == [operator.name for operator in OPERATORS]
    for operator in OPERATORS:
        assert sorted(listed[operator.name]) == sorted(operator.reductions)
        default = operator.reduce(operator.function.__kwdefaults__ or {})
        assert listed[operator.name][0] == default


def test_changelog_has_the_version_and_every_public_name():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{roi_numba.__version__}]" in changelog
    assert [name for name in roi_numba.__all__ if f"`{name}`" not in changelog] == []


def anchors(text):
    """The fragments by which a document's headings are linked to."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    text = document.read_text(encoding="utf-8")
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            dead.append(link)
    assert dead == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/design.md"])
def test_named_files_exist(name):
    """A path in backticks is a file of the repository; ``<op>`` stands for any operator."""
    text = (ROOT / name).read_text(encoding="utf-8").replace("<op>", "roi_align")
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    paths = [word for word in inline if re.fullmatch(r"[\w.-]+(/[\w.-]+)*\.(py|md|toml)", word)]
    package = ROOT / "roi_numba"
    places = (ROOT, package, package / "_cpu", ROOT / "tests")
    missing = [path for path in paths if not any((place / path).exists() for place in places)]
    assert missing == []
