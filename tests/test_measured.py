"""The figures in the site's text are those of the benchmarks' own tables."""

import importlib.util
import json
from pathlib import Path
from statistics import median

import pytest

from benchmarks import report

pytest.importorskip("sphinx", reason="the docs extra is not installed")
ROOT = Path(__file__).parents[1]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


@pytest.fixture(scope="module")
def measured():
    path = ROOT / "docs" / "_ext" / "measured.py"
    spec = importlib.util.spec_from_file_location("measured", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def date(path):
    return json.loads(path.read_text("utf-8"))["machine"]["date"]


def timed():
    """All results, of what was measured twice the later ones, and their groups."""
    record = report.merged(sorted(RESULTS, key=date))
    return record, report.groups(record["rows"])


def test_times_and_ratios(measured):
    figures, (_, groups) = measured.figures(), timed()
    several = 0
    for (case, op, threads), group in groups.items():
        ours = report.ours_of(group)
        for row in [ours, *report.peers_of(group)]:
            name = f"{case} {op} {threads} {row['side']}"
            if not report.was_timed(row):
                continue
            number, unit = figures["ms"][name][0].split("\N{NO-BREAK SPACE}")
            seconds = float(number) * {"s": 1, "ms": 1e-3, "µs": 1e-6}[unit]
            assert seconds == pytest.approx(median(row["times"]), rel=0.006), name
            ratio = float(figures["ratio"][name][0])
            assert ratio == pytest.approx(report.ratio(ours, row), rel=0.06), name
        several += any("by" in row for row in group)
        for one in group:
            if "by" in one and one["by"]["threads"] != threads:
                speedup = float(figures["speedup"][f"{case} {op} {threads}"][0])
                assert speedup == pytest.approx(report.ratio(ours, one), rel=0.06)
                assert f"{case} {op} {threads}" in figures["single"]
    assert several > 20, "cases measured in turn with others of our own, which must not count"


def test_start_and_memory(measured):
    figures, (record, _) = measured.figures(), timed()
    assert len(figures["startup"]) == len(record["startup"])
    assert figures["startup"]["import over numpy"][0].endswith("ms")
    assert len(figures["mib"]) == len(record["memory"])
    assert set(figures["place"]) > set(figures["ms"]) | set(figures["startup"])
