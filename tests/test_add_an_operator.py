"""docs/inside/adding.md, followed to the letter in a copy of the repository, adds an operator."""

import re
import shutil
from pathlib import Path

import pytest

from subprocesses import run

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "inside" / "adding.md").read_text(encoding="utf-8")


def blocks():
    """(file, language, code) of each block; the file is the last one named at a line's start."""
    path = None
    for match in re.finditer(r"^`([\w/]+\.(?:py|md))`|^```(\w+)\n(.*?)^```", PAGE, re.M | re.S):
        named, language, code = match.groups()
        path = named or path
        if language in ("diff", "python"):
            yield path, language, code


def apply(folder, path, language, code):
    """Write a new file, or on; of a change, put the lines with + between those that are there."""
    file = folder / path
    if language == "python":
        before = f"{file.read_text('utf-8')}\n\n" if file.exists() else ""
        file.write_text(before + code, "utf-8")
        return
    lines = code.splitlines(keepends=True)
    there = "".join(line[1:] for line in lines if line[0] == " ")
    text = file.read_text("utf-8")
    assert text.count(there) == 1, f"{path} has {text.count(there)} times\n{there}"
    file.write_text(text.replace(there, "".join(line[1:] for line in lines)), "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The repository with the operator of the page in it."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("roi_numba", "tests", "benchmarks", "docs"):
        ignored = shutil.ignore_patterns("__pycache__", "generated", "_build")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    for name in ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for block in blocks():
        apply(folder, *block)
    return folder


def pytest_in(folder, *arguments):
    """Run some of the copy's tests; say how many passed."""
    code = "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-n", "0", "-q", "-p", "no:cacheprovider", "--rootdir", folder]
    printed = run(code, *options, *arguments, package=folder / "roi_numba", timeout=500)
    assert "failed" not in printed
    return int(re.search(r"(\d+) passed", printed)[1])


def test_the_page_changes_these_files():
    assert {path for path, _, _ in blocks()} == {
        "CHANGELOG.md",
        "README.md",
        "benchmarks/cases.py",
        "roi_numba/__init__.py",
        "roi_numba/center_pool.py",
        "tests/operators.py",
        "tests/reference.py",
        "tests/reference_gradients.py",
        "tests/test_odd_input.py",
        "tests/test_reference_gradients.py",
        "tests/test_worked_examples.py",
    }


def test_the_rules_of_the_house_hold(copy):
    """They ask for a reference, rows in the tables, the signature, all sections of a docstring."""
    rules = sorted((copy / "tests").glob("test_house_rules*.py"))
    assert pytest_in(copy, *rules, "-k", "center_pool") >= 8
    assert pytest_in(copy, "tests/test_docstrings.py", "-k", "center_pool") == 12
    tables = "table_has_every or changelog_has"
    assert pytest_in(copy, "tests/test_readme.py", "-k", tables) == 2


def test_it_pools_and_has_gradients(copy):
    """By the general tests, in one dtype: each more is a compilation."""
    forward = "center_pool and float64 and (equals_reference or huge or nan)"
    assert pytest_in(copy, "tests/test_forward.py", "-k", forward) == 3
    assert pytest_in(copy, "tests/test_worked_examples.py", "-k", "example0-float64") == 2
    assert pytest_in(copy, "tests/test_odd_input.py", "-k", "center_pool and reversed") == 1
    assert pytest_in(copy, "roi_numba/center_pool.py") == 2
    backward = "center_pool and equal_reference and float64"
    assert pytest_in(copy, "tests/test_backward.py", "-k", backward) == 1
