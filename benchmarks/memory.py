"""Resident memory of one call beyond its result: the peak of a fresh process, over what it was.

A call with the first box alone goes before, so that compiled code is there.  Linux alone tells the
peak, and forgets it when asked.
"""

import json
import subprocess
import sys
from typing import Any

from . import environments
from .startup import Failed

MEASURED = (
    ("c4-head", "roi_align"),
    ("c4-head", "roi_align-adaptive"),
    ("c4-head", "roi_align-nhwc"),
    ("c4-head", "roi_align-float16"),
    ("c4-head", "roi_pool"),
    ("c4-head", "roi_pool-argmax"),
    ("c4-head", "roi_warp"),
    ("c4-head", "prroi_pool"),
    ("c4-head", "roi_align-gradient"),
    ("c4-head", "roi_pool-gradient"),
    ("c4-head", "roi_align-boxes"),
    ("c4-head", "prroi_pool-boxes"),
    ("fpn-box", "roi_align"),
    ("fpn-pyramid", "pyramid_pool"),
    ("fpn-mask", "roi_align"),
    ("crop", "crop_and_resize"),
    ("crop-float32", "crop_and_resize"),
    ("huge-boxes", "roi_align-adaptive"),
)
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""For glibc: what is freed is not resident, so no result can lie in what was freed before.  Nor in
what results leave to later ones, and scratch is new: the child lets go of both."""

# Printed by the child: bytes of the result, and of the peak beyond what was resident before.
CHILD = """
import json, os, sys
from pathlib import Path
import numpy as np
from benchmarks import ours
from benchmarks.cases import CASES, OPS
from roi_numba._cpu.pages import Loan
from roi_numba._cpu.scratch import let_go

def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

def size(result):
    if isinstance(result, np.ndarray):
        return result.nbytes
    return sum(map(size, result))

def of_one_box(workload):
    levels = [level._replace(boxes=level.boxes[:1]) for level in workload.levels]
    boxes = None if workload.boxes is None else workload.boxes[:1]
    return workload._replace(levels=levels, boxes=boxes)

workload, op, threads = CASES[sys.argv[1]].build(), OPS[sys.argv[2]], int(sys.argv[3])
first, _ = ours.prepare(of_one_box(workload), op, threads)
first()
run, _ = ours.prepare(workload, op, threads)
Loan.kept.clear()
let_go()
Path("/proc/self/clear_refs").write_text("5")
start = resident("VmRSS:")
result = run()
print(json.dumps([size(result), resident("VmHWM:") - start]))
"""


def child(case: str, op: str, threads: int) -> tuple[int, int]:
    """Bytes of the result, and of resident memory that the call took at most."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, case, op, str(threads)],
        cwd=environments.ROOT,
        env=environments.with_threads(threads) | GIVE_BACK,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed
    result, peak = json.loads(done.stdout)
    return result, peak


def measure(threads: list[int], repeats: int = 1) -> list[dict[str, Any]]:
    """Rows of bytes: of the result and of what the call took beyond it, the largest of repeats."""
    rows = []
    for case, op in MEASURED:
        for count in threads:
            row: dict[str, Any] = {"case": case, "op": op, "threads": count}
            try:
                figures = [child(case, op, count) for _ in range(repeats)]
            except Failed:
                rows.append(row | {"failed": "ended with an error"})
                continue
            result = figures[0][0]
            rows.append(row | {"result": result, "beyond": max(p for _, p in figures) - result})
    return rows
