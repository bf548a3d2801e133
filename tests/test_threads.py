"""Any number of threads gives the same bits, in any process, whoever else is calling.

What forks, hangs or is interrupted runs in a process of its own, which has a time limit.
"""

import itertools
import os
import queue
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import roi_numba
from operators import REDUCTIONS, ids
from strategies import values
from subprocesses import kill, start
from subprocesses import run as run_python
from thread_scenarios import draw_boxes, mixed_calls, portions_counted, same, work

MATRIX = pytest.mark.parametrize(("operator", "reduction"), REDUCTIONS, ids=ids)
SECONDS = 60 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 0
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def in_process(scenario, timeout=60, **environment):
    code = f"import thread_scenarios; thread_scenarios.{scenario}()"
    return run_python(code, timeout=timeout, **environment).strip()


@pytest.fixture
def portions(monkeypatch):
    """Into how many portions each call has been cut; small calls are cut like large ones."""
    from roi_numba._cpu import engine

    return portions_counted(monkeypatch, engine)


@pytest.mark.parametrize(("dtype", "channel_axis"), [(np.float32, 1), (np.float64, -1)], ids=ids)
@MATRIX
def test_bits_do_not_depend_on_threads(operator, reduction, channel_axis, dtype, portions):
    """Many boxes over several images, cut into portions for all threads."""
    features = np.moveaxis(values(4, (3, 129, 40, 45), dtype), 1, channel_axis)
    boxes = draw_boxes(100, 3, 45)
    options = operator.reductions[reduction] | {"channel_axis": channel_axis}
    if operator.name in ("roi_align", "roi_warp"):
        options["sampling_ratio"] = 3
    if reduction != "mean":
        options["return_argmax"] = True
    roi_numba.set_num_threads(1)
    expected = operator.function(features, boxes, 3, **options)
    assert max(portions) >= 5
    for threads in (2, 3, 4, 5):
        roi_numba.set_num_threads(threads)
        assert same(operator.function(features, boxes, 3, **options), expected)


def test_one_box_is_shared_out(portions):
    features = values(4, (1, 600, 90, 91), np.float32)
    boxes = np.array([(0, -2, 3, 88, 95)], np.float32)
    roi_numba.set_num_threads(1)
    expected = roi_numba.roi_align(features, boxes, 7)
    assert max(portions) >= 5
    for threads in (2, 3, 4, 5):
        roi_numba.set_num_threads(threads)
        assert same(roi_numba.roi_align(features, boxes, 7), expected)


@pytest.mark.parametrize("reduce", ["mean", "max", "max_corner"])
def test_a_large_call(reduce):
    """As above, with nothing changed inside the library."""
    features, boxes = values(4, (2, 512, 50, 60), np.float32), draw_boxes(1000, 2, 60)
    found = []
    for threads in (1, 2, 5):
        roi_numba.set_num_threads(threads)
        found.append(roi_numba.roi_align(features, boxes, 3, sampling_ratio=2, reduce=reduce))
    assert same(found[1], found[0])
    assert same(found[2], found[0])


def test_threads_write_to_strided_out():
    features, boxes = values(4, (2, 64, 60, 64), np.float32), draw_boxes(200, 2, 60)
    expected = roi_numba.roi_align(features, boxes, 7)
    whole = np.full([2 * n for n in expected.shape], 77, np.float32)
    out = whole[::2, 1::2, ::-2, ::2]
    for threads in (1, 4):
        roi_numba.set_num_threads(threads)
        whole[...] = 77
        assert roi_numba.roi_align(features, boxes, 7, out=out) is out
        np.testing.assert_array_equal(out, expected)
        assert np.count_nonzero(whole != 77) == np.count_nonzero(expected != 77)


def test_set_num_threads():
    for n in (1, 3, np.int64(2), 64):
        roi_numba.set_num_threads(n)
        assert roi_numba.get_num_threads() == n
        assert type(roi_numba.get_num_threads()) is int


@pytest.mark.parametrize(
    ("n", "exception", "pattern"),
    [
        (0, ValueError, "^n must be at least 1, got 0$"),
        (-2, ValueError, "^n must be at least 1, got -2$"),
        (1.0, TypeError, "^n must be an integer, got float$"),
        ("2", TypeError, "^n must be an integer, got str$"),
        (None, TypeError, "^n must be an integer, got NoneType$"),
        (True, TypeError, "^n must be an integer, got bool$"),
    ],
)
def test_set_num_threads_refuses(n, exception, pattern):
    before = roi_numba.get_num_threads()
    with pytest.raises(exception, match=pattern):
        roi_numba.set_num_threads(n)
    assert roi_numba.get_num_threads() == before


SHOW = "import roi_numba; print(roi_numba.get_num_threads())"


@pytest.mark.parametrize(("text", "threads"), [("1", 1), ("7", 7), (" 3 ", 3), ("", None)])
def test_environment_variable(text, threads):
    printed = int(run_python(SHOW, ROI_NUMBA_NUM_THREADS=text))
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else printed
    assert printed == threads


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "2 3"])
def test_bad_environment_variable(text):
    complaint = run_python(SHOW, ROI_NUMBA_NUM_THREADS=text, status=1).splitlines()[-1]
    assert complaint.startswith("ValueError: ROI_NUMBA_NUM_THREADS must be a positive integer")
    assert repr(text) in complaint


@pytest.mark.parametrize("threads", [1, 3])
def test_sixteen_callers_at_once(threads):
    """Each makes every call, in an order of its own, and goes on so for `SECONDS`."""
    calls = mixed_calls()
    roi_numba.set_num_threads(1)
    expected = [call() for call in calls]
    roi_numba.set_num_threads(threads)
    gate = threading.Barrier(16)

    def caller(number):
        gate.wait(60)
        rng, until = np.random.default_rng(number), time.monotonic() + SECONDS
        while True:
            for i in rng.permutation(len(calls)):
                if not same(calls[i](), expected[i]):
                    return False
            if time.monotonic() >= until:
                return True

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(caller, range(16)))


def test_threads_may_change_while_others_call():
    expected, done, wrong = work(0), threading.Event(), []

    def call():
        while not done.is_set():
            if work(0) != expected:
                wrong.append(1)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    for n in itertools.islice(itertools.cycle([1, 5, 2, 3]), 40):
        roi_numba.set_num_threads(n)
        time.sleep(0.01)
    done.set()
    for caller in callers:
        caller.join(60)
        assert not caller.is_alive()
    assert not wrong


def test_an_exception_in_a_portion_reaches_the_caller():
    """And drops the portions that wait; the pool lives on."""
    from roi_numba._cpu import threads

    roi_numba.set_num_threads(4)
    for failing in (0, 5, 99):
        seen = queue.SimpleQueue()

        def portion(first, last, failing=failing, seen=seen):
            seen.put(first)
            if first == failing:
                raise MemoryError("no room")

        with pytest.raises(MemoryError, match="no room"):
            threads.run(portion, [(i, i + 1) for i in range(100)])
        assert len({seen.get() for _ in range(seen.qsize())}) <= 100
    done = []
    threads.run(lambda first, last: done.append(first), [(i, i + 1) for i in range(100)])
    assert sorted(done) == list(range(100))


@FORK
@pytest.mark.parametrize(
    "scenario",
    ["children_after_a_call", "children_while_others_call", "pool_of_processes", "data_loader"],
)
def test_forked_children(scenario):
    assert in_process(scenario) == "right"


@FORK
def test_started_children():
    assert in_process("started_children", timeout=100) == "right"


@FORK
def test_first_calls_at_once(tmp_path):
    """Everything is compiled during the race; then a fork meets another compilation."""
    cold = in_process("first_calls", NUMBA_CACHE_DIR=tmp_path)
    assert in_process("first_calls") == cold
    assert in_process("fork_while_compiling", NUMBA_CACHE_DIR=tmp_path) == "right"


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is no signal to a process there")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kind", ["means of many boxes", "maxima of many boxes", "many samples"])
def test_interrupt(kind, threads):
    """Ctrl-C ends a long call within seconds and leaves the library in order."""
    code = "import sys, thread_scenarios; thread_scenarios.long_call(*sys.argv[1:])"
    with start(code, kind, threads) as process:
        try:
            assert process.stdout.readline() == "calling\n", process.stderr.read()
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
            sent = time.monotonic()
            assert process.stdout.readline() == "interrupted\n"
            assert time.monotonic() - sent < 10  # portions are milliseconds, machines may be busy
            # Not `finish`: communicate() passes over what readline() has buffered.
            assert process.stdout.read() == "right\nTrue\n"
            assert process.wait(30) == 0
        finally:
            kill(process)
