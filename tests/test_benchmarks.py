"""The benchmarks without their peers: cases, tables and charts from a small record."""

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest

import roi_numba
from benchmarks import memory, on_cuda, ours, peers, plot, publish, ratios, report, scaling, sides
from benchmarks.cases import CASES, HEADLINES, OPS, Workload, measured_by, stored

ROOT = Path(__file__).parents[1]


def row(case, op, threads, side, times, **more):
    common = {"case": case, "op": op, "threads": threads, "side": side, "first": 0.5}
    return common | {"times": times, "wall": 1.0, "others": 0.02} | more


def given_up(case, op, threads, side):
    row = {"case": case, "op": op, "threads": threads, "side": side}
    return row | {"failed": "more than 20 s"}


ALIGN = "c4-head", "roi_align"
POOL = "c4-head", "roi_pool"
NHWC = "c4-head", "roi_align-nhwc"
ONE_THREAD = {"case": "c4-head", "op": "roi_align", "threads": 1}
ROWS = [
    row(*ALIGN, 1, "roi_numba", [0.020, 0.021, 0.019]),
    row(*ALIGN, 1, "mnn", [0.050, 0.049, 0.051], difference=3e-6),
    row(*ALIGN, 1, "torchvision", [0.160, 0.150, 0.151], difference=1e-7),
    row(*ALIGN, 2, "roi_numba", [0.011, 0.010, 0.012]),
    given_up(*ALIGN, 2, "torchvision"),
    row(*ALIGN, 2, "roi_numba", [0.022, 0.022, 0.022], by=ONE_THREAD),
    row(*NHWC, 1, "roi_numba", [0.018, 0.018, 0.018]),
    row(*NHWC, 1, "roi_numba", [0.020, 0.020, 0.020], by=ONE_THREAD),
    row(*POOL, 1, "roi_numba", [0.025, 0.026, 0.024]),
    row(*POOL, 1, "mnn", [0.040, 0.041, 0.042], otherwise="1.5% of the values differ: why"),
    {**given_up(*POOL, 1, "paddle"), "failed": "ended with status 1"},
]
ALONG = [
    row(case, "roi_align", threads, side, [time, time])
    for side, factor in (("roi_numba", 1), ("mnn", 3))
    for case, threads, time in (
        ("boxes=30", 1, 0.002 * factor),
        ("boxes=300", 1, 0.020 * factor),
        ("boxes=300", 2, 0.011 * factor),
        ("channels=64", 1, 0.001 * factor),
    )
]
MACHINE = {
    "cpu": "a processor", "cores": 2, "system": "a system", "python": "3.11", "load": 0.1,
    "date": "2026-11-21 12:00", "commit": "abc",
}  # fmt: skip
RECORD = {
    "machine": MACHINE,
    "versions": {"roi_numba": "0.1"},
    "rows": ROWS,
    "startup": [{"what": "first call, cached", "op": "roi_align", "times": [[0.3, 0.2]]}],
    "memory": [
        {"case": "c4-head", "op": "roi_align", "threads": 2, "result": 50 << 20, "beyond": 3 << 20}
    ],
}


def cells(table, *start):
    """Of the one line of a Markdown table that begins so, the other cells."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
    (found,) = (line[len(start) :] for line in lines if line[: len(start)] == list(start))
    return found


@pytest.fixture
def record(tmp_path):
    """Of two files, the second of which measured nothing anew."""
    files = [tmp_path / "times.json", tmp_path / "scaling.json"]
    files[0].write_text(json.dumps(RECORD))
    files[1].write_text(json.dumps({"machine": MACHINE, "versions": {}, "rows": ALONG}))
    return report.merged(files)


# ---- cases ---------------------------------------------------------------------------------


def test_cases_name_operators_and_peers_that_there_are():
    for name, case in CASES.items():
        assert set(case.ops) <= set(OPS), name
        assert set(case.peers or ()) <= set(peers.NAMES)
        for op in case.ops:
            for other_case, other_op in measured_by(name, op):
                assert other_op in CASES[other_case].ops, (name, op)
    assert {op for case in CASES.values() for op in case.ops} == set(OPS)
    assert {op for _, op in memory.MEASURED} <= set(OPS)
    assert {case for case, _ in memory.MEASURED} <= set(CASES)
    assert set(HEADLINES) <= {(name, op) for name in CASES for op in CASES[name].ops}


def test_a_device_is_given_what_pools():
    """Not the hashes of `machine`, which no module of ours has."""
    assert all(hasattr(roi_numba, OPS[op].operator) for _, op in on_cuda.pooled())
    run, read = ours.prepare(CASES["machine"].build(), OPS["sha256"], 2)
    assert read(run())[0].shape == (1,)


@pytest.mark.parametrize("case", ["tiny", "c4-head-1", "fpn-mask", "off-map", "boxes=3", "side=64"])
def test_workloads_are_what_they_say_and_the_same_every_time(case):
    workload, again = scaling.workload(case), scaling.workload(case)
    for level, other in zip(workload.levels, again.levels, strict=True):
        assert level.features.dtype == level.boxes.dtype == np.float32
        assert np.array_equal(level.boxes, other.boxes)
        assert np.array_equal(level.features[:, :1], other.features[:, :1])
    boxes = np.concatenate([level.boxes for level in workload.levels])
    count = {"tiny": 1, "c4-head-1": 1, "fpn-mask": 100, "off-map": 20, "boxes=3": 3}
    assert boxes.shape == (count.get(case, 300), 5)
    if case == "side=64":
        assert np.allclose(boxes[:, 3:] - boxes[:, 1:3], 64, atol=1e-3)
    if case == "off-map":
        assert (boxes[:, 1:3] > (1088, 800)).all()


def test_boxes_of_a_batch_are_in_no_order():
    (level,) = CASES["c4-head-batch"].build().levels
    images = level.boxes[:, 0]
    assert set(images) == set(range(8))
    assert (np.diff(images) < 0).any()
    assert len(level.features) == 8


@pytest.mark.parametrize("op", ["roi_align-nhwc", "roi_align-float16"])
def test_forms_of_a_call_give_what_the_call_gives(op):
    """Read back for the comparison with peers: channels first."""
    workload = CASES["tiny"].build()
    exact = Workload([workload.levels[0]._replace(features=of_few_bits(workload))], (7, 7))
    results = []
    for name in ("roi_align", op):
        run, read = ours.prepare(exact, OPS[name], 1)
        results.append(read(run())[0])
    assert results[0].shape == results[1].shape == (1, 16, 7, 7)
    # Maps are exact in float16; a result is rounded to it once.
    assert np.allclose(*results, rtol=2**-10, atol=1e-6)


def of_few_bits(workload):
    return workload.levels[0].features.astype(np.float16).astype(np.float32)


def test_stored():
    features = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    last = stored(features, OPS["roi_pool-nhwc"])
    assert last.shape == (1, 3, 4, 2)
    assert last.flags.c_contiguous
    assert np.array_equal(last[0, :, :, 1], features[0, 1])
    assert stored(features, OPS["roi_pool-float16"]).dtype == np.float16
    assert stored(features, OPS["roi_pool"]) is features


# ---- sides ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", peers.NAMES)
def test_a_peer_can_be_asked_what_it_is_without_being_there(name):
    peer = peers.load(name)
    assert peer.NAME
    assert peer.MODULE
    assert peer.PACKAGES
    assert callable(peer.versions)
    assert callable(peer.prepare)
    assert set(getattr(peer, "OTHERWISE", {})) <= set(OPS)


def test_what_takes_turns():
    pairs = sides.in_turn("c4-head", "prroi_pool", 2, ["mnn", "torchvision"])
    own = [row["by"] for _, row in pairs if "by" in row]
    assert [row["side"] for _, row in pairs] == ["roi_numba", "mnn", "torchvision"] + [
        "roi_numba"
    ] * 2
    assert own == [
        {"case": "c4-head", "op": "roi_align-adaptive", "threads": 2},
        {"case": "c4-head", "op": "prroi_pool", "threads": 1},
    ]
    assert len({side for side, _ in pairs}) == len(pairs)
    assert [side.threads for side, _ in pairs] == [2, 2, 2, 2, 1]


def test_peers_that_never_end_are_not_asked():
    pairs = sides.in_turn("huge-boxes", "roi_align-adaptive", 1, ["mnn", "torchvision"])
    assert [row["side"] for _, row in pairs if "by" not in row] == ["roi_numba", "torchvision"]


# ---- tables --------------------------------------------------------------------------------


def test_report():
    text = report.markdown(RECORD)
    assert cells(text, *ALIGN, "1", "20 ms (19 ms)", "mnn") == [
        "50 ms (49 ms)", "**2.50×**", "3e-06",
    ]  # fmt: skip
    assert cells(text, *ALIGN, "2", "11 ms (10 ms)", "torchvision") == ["more than 20 s", "", ""]
    assert "† MNN, c4-head `roi_pool`: 1.5% of the values differ: why." in text
    assert "a processor" in text
    assert "Not a quiet machine" not in text
    busy = [row | {"others": 1.5} if "times" in row else row for row in ROWS]
    assert "Not a quiet machine: other processes had 1.50" in report.markdown(
        {**RECORD, "rows": busy}
    )


def test_columns_for_peers(record):
    table = publish.with_peers(record)
    assert cells(table, "case", "operator", "threads", "roi_numba") == [
        "MNN", "Paddle", "torchvision",
    ]  # fmt: skip
    assert cells(table, "c4-head", "`roi_align`", "1", "20 ms (19 ms)") == [
        "50 ms **2.50×**", "", "151 ms **7.55×**",
    ]  # fmt: skip
    assert cells(table, "c4-head", "`roi_pool`", "1", "25 ms (24 ms)") == [
        "41 ms† **1.64×**", "ended with status 1", "",
    ]  # fmt: skip
    assert "nhwc" not in table
    assert "boxes=" not in table


def test_ours_beside_ours(record):
    table = report.among_ourselves(publish.of_cases(record))
    assert cells(table, "c4-head", "`roi_align-nhwc`", "1")[1:] == [
        "`roi_align`", "20 ms (20 ms)", "**0.90×**",
    ]  # fmt: skip
    table = report.scaling(publish.of_cases(record))
    assert cells(table, "c4-head", "`roi_align`", "22 ms (22 ms)", "2")[-1] == "**2.00×**"


def test_headlines_name_the_fastest_peer(record):
    table = publish.headlines(record)
    title = HEADLINES["c4-head", "roi_align"]
    assert cells(table, title, "1")[1:] == ["MNN 50 ms (49 ms)", "**2.50×**"]


def test_memory_and_startup(record):
    assert cells(report.memory(record["memory"]), "c4-head", "`roi_align`", "2") == [
        "50.0", "3.0", "8.5",
    ]  # fmt: skip
    assert cells(report.startup(record["startup"]), "first call, cached", "roi_align") == [
        "300 ms", "300 ms", "200 ms",
    ]  # fmt: skip


def test_the_later_of_two_files_counts(tmp_path):
    files = [tmp_path / "first.json", tmp_path / "again.json"]
    files[0].write_text(json.dumps(RECORD))
    again = [row(*ALIGN, 1, "roi_numba", [0.030])]
    files[1].write_text(json.dumps(RECORD | {"rows": again}))
    rows = report.groups(report.merged(files)["rows"])
    assert rows["c4-head", "roi_align", 1] == again
    assert len(rows["c4-head", "roi_align", 2]) == 3


def test_regions_are_rewritten_and_nothing_else(record):
    text = "before\n<!-- benchmarks: memory -->\nold\n<!-- benchmarks end -->\nafter\n"
    new = publish.rewritten(text, record)
    assert new.startswith("before\n<!-- benchmarks: memory -->\n| case |")
    assert new.endswith("|\n<!-- benchmarks end -->\nafter\n")
    assert "old" not in new
    assert publish.rewritten(new, record) == new


def test_the_page_has_every_table():
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<!-- benchmarks: (\S+) -->", text)) == set(publish.REGIONS)
    assert len(publish.REGION.findall(text)) == len(publish.REGIONS)


# ---- charts --------------------------------------------------------------------------------


def texts(file):
    root = xml.etree.ElementTree.parse(file).getroot()
    return " ".join("".join(each.itertext()) for each in root.iter() if each.tag.endswith("text"))


def test_charts(record, tmp_path, monkeypatch):
    monkeypatch.setattr(plot, "FOLDER", tmp_path)
    files = plot.draw(record)
    assert [file.name for file in files] == [
        "benchmarks-ratios-1.svg",
        "benchmarks-ratios-2.svg",
        "benchmarks-scaling-roi_align.svg",
    ]
    assert all(scaling.UNITS[axis] in texts(files[2]) for axis in ("boxes", "channels", "threads"))
    assert scaling.UNITS["side"] not in texts(files[2])
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in plot.draw(record)] == before, "no date, no chance"


def bars(svg):
    """Each number of a chart, where it begins, and the length of the bar below it."""
    found, last = [], None
    for each in xml.etree.ElementTree.fromstring(svg).iter():
        if each.tag.endswith("text") and each.text and "×" in each.text:
            last = each
        elif each.get("class") == "bar":
            found.append((last.text, float(last.get("x")), float(each.get("width"))))
    return found


def test_ratios(record):
    found = {key[:2]: group for key, group in report.groups(publish.of_cases(record)).items()}
    chart = ratios.draw({ALIGN: ROWS[:3], POOL: found[POOL]}, 1)
    (near, x, short), (far, other_x, long), (pool, pool_x, _) = bars(chart)
    assert (near, far, pool) == ("2.5×", "7.5×", "1.6×†")
    assert x == pool_x < other_x, "a column for each peer"
    assert long / short == pytest.approx(7.55 / 2.5, rel=0.02)
    assert "one thread" in chart
    assert "† other values in some places" in chart
    assert "none" in chart, "Paddle ended with an error"
    assert chart.count("prefers-color-scheme: dark") == 1
    assert "quiet" not in chart


def test_ratios_of_whoever_is_faster():
    """A bar shorter than the strip that is ours."""
    slow = [row(*ALIGN, 2, "roi_numba", [1.0]), row(*ALIGN, 2, "mnn", [0.97])]
    slow.append(row(*ALIGN, 2, "torchvision", [0.01]))
    chart = ratios.draw({ALIGN: slow}, 2)
    (near, _, long), (far, _, short) = bars(chart)
    assert (near, far) == ("0.97×", "0.01×")
    (strip, _) = re.findall(r'<rect class="ours" .* width="([\d.]+)"', chart)
    assert 0 < short < long < float(strip)
    assert "2 threads" in chart


def test_cases_with_other_peers_have_columns_of_their_own():
    crops = "crop-float32", "crop_and_resize"
    found = {
        key: [row(*key, 1, side, [1.0]) for side in ("roi_numba", *sides_of_it)]
        for key, sides_of_it in ((ALIGN, ("mnn", "paddle")), (POOL, ("mnn",)), (crops, ("opencv",)))
    }
    assert ratios.blocks(found) == [([ALIGN, POOL], ["mnn", "paddle"]), ([crops], ["opencv"])]
