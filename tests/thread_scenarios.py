"""What forks, hangs or is interrupted: run by name in processes of their own (`test_threads`)."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import ml_dtypes
import numpy as np

import roi_numba
from operators import REDUCTIONS
from strategies import values


def draw_boxes(count, images, side, dtype=np.float32):
    rng = np.random.default_rng(9)
    corners = rng.uniform(-0.1 * side, 0.9 * side, (count, 2))
    sizes = np.exp(rng.uniform(np.log(side / 50), np.log(side), (count, 2)))
    numbers = rng.integers(0, images, count)
    return np.column_stack([numbers, corners, corners + sizes]).astype(dtype)


def portions_counted(monkeypatch, module):
    """A list of how many portions each ``run`` of a module gets, 100 times as small as they are."""
    from roi_numba._cpu import engine

    monkeypatch.setattr(engine, "PORTION_COST", engine.PORTION_COST // 100)
    counts, original = [], module.run

    def run(work, cuts):
        cuts = list(cuts)
        counts.append(len(cuts))
        original(work, cuts)

    monkeypatch.setattr(module, "run", run)
    return counts


def same(actual, expected):
    actual, expected = (part if isinstance(part, tuple) else (part,) for part in (actual, expected))
    return all(
        np.array_equal(np.asarray(a).view("u1"), np.asarray(b).view("u1"))
        for a, b in zip(actual, expected, strict=True)
    )


def mixed_calls():
    """Calls of all operators and their gradients, of several dtypes, each as ``() -> result``."""
    boxes = draw_boxes(40, 3, 30)
    calls = []
    for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.uint8):
        features = values(2, (3, 20, 30, 31), dtype)
        for operator, reduction in REDUCTIONS:
            options = operator.reductions[reduction]
            if reduction != "mean":
                options = options | {"return_argmax": True}
            calls.append(lambda f=operator.function, x=features, o=options: f(x, boxes, 7, **o))
            grad = values(3, (40, 20, 7, 7), np.float32 if dtype is np.uint8 else dtype)
            options = operator.reductions[reduction]
            calls.append(
                lambda f=operator.backward, g=grad, x=features, o=options: f(g, x, boxes, **o)
            )
    return calls


FEATURES = values(4, (2, 96, 70, 75), np.float32)
BOXES = draw_boxes(250, 2, 70)


def work(index):
    """A call large enough for several threads, different for every ``index``; its sum."""
    operator = (roi_numba.roi_align, roi_numba.roi_pool, roi_numba.prroi_pool)[index % 3]
    return float(operator(FEATURES, np.roll(BOXES, index, axis=0), 7, 0.9 + index / 100).sum())


def check_in_child(body):
    """Fork a child that runs ``body`` and report whether it returned True."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if body() else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def right(index=0, expected=None):
    return work(index) == (EXPECTED if expected is None else expected)


EXPECTED = None


def prepare(threads):
    """Have every thread at work once, and remember the numbers."""
    global EXPECTED
    roi_numba.set_num_threads(1)
    EXPECTED = work(0)
    roi_numba.set_num_threads(threads)
    assert right()


def children_after_a_call():
    """Children, grandchildren, and children with threads of their own."""
    prepare(3)
    assert check_in_child(right)
    assert right()
    assert all(check_in_child(right) for _ in range(5))
    assert check_in_child(lambda: right() and check_in_child(lambda: right() and right()))

    def eight_at_once():
        with ThreadPoolExecutor(8) as pool:
            return all(pool.map(lambda _: right(), range(24)))

    assert eight_at_once()
    assert check_in_child(eight_at_once)
    assert check_in_child(lambda: check_in_child(eight_at_once))
    assert right()
    print("right")


def children_while_others_call():
    """Fork, from the main thread and from another, while all the others are calling."""
    prepare(2)
    done = threading.Event()
    wrong = []

    def call():
        while not done.is_set():
            if not right():
                wrong.append("in a thread")

    def fork():
        for _ in range(8):
            if not check_in_child(lambda: right() and right()):
                wrong.append("in a child")

    threads = [threading.Thread(target=call) for _ in range(4)]
    threads.append(threading.Thread(target=fork))
    for thread in threads:
        thread.start()
    fork()
    threads[-1].join()
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong
    assert right()
    print("right")


def pool_of_processes():
    """``multiprocessing.Pool`` after the parent has called."""
    prepare(2)
    expected = [work(index) for index in range(12)]
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(work, range(12), chunksize=1) == expected
        assert work(5) == expected[5]
        assert pool.map(work, range(12)) == expected
    print("right")


def load(indices, results):
    """A worker as a DataLoader has them."""
    while (index := indices.get()) is not None:
        results.put((index, os.getpid(), work(index)))


def data_loader():
    """Workers that are forked, twice over, from a parent that goes on calling, and loop."""
    prepare(2)
    expected = [work(index) for index in range(20)]
    context = multiprocessing.get_context("fork")
    for _ in range(2):  # one epoch after the other, with new workers
        indices, results = context.Queue(), context.Queue()
        workers = [context.Process(target=load, args=(indices, results)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for index in range(20):
            indices.put(index)
        found, pids = {}, set()
        for step in range(20):
            index, pid, value = results.get(timeout=60)
            found[index] = value
            pids.add(pid)
            assert work(step) == expected[step]
        for _ in workers:
            indices.put(None)
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0
        assert [found[index] for index in range(20)] == expected
        assert os.getpid() not in pids
    print("right")


def started_children():
    """Pools of processes that are not forked from the caller, which has threads at work."""
    prepare(2)
    expected = [work(index) for index in range(6)]
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        # The server has called nothing, but imported all there is, before it forks.
        context.set_forkserver_preload(["thread_scenarios"])
        with context.Pool(2) as pool:
            assert pool.map(work, range(6), chunksize=1) == expected
            assert work(5) == expected[5]
            assert pool.map(work, range(6)) == expected
    print("right")


def first_calls():
    """Eight threads make their first call at once, two of each kind; a fork comes in between."""
    features = values(4, (1, 20, 40, 40), np.float32)
    boxes = draw_boxes(30, 1, 40)
    operators = roi_numba.roi_align, roi_numba.roi_pool
    gate = threading.Barrier(9)

    def call(index):
        gate.wait(60)
        return operators[index % 2](features, boxes, 3)

    with ThreadPoolExecutor(8) as pool:
        pending = [pool.submit(call, index) for index in range(8)]
        gate.wait(60)
        found = [future.result() for future in pending]
    again = [operators[index % 2](features, boxes, 3) for index in range(8)]
    assert all(map(same, found, again))
    assert check_in_child(lambda: same(roi_numba.roi_align(features, boxes, 3), found[0]))
    print(",".join(sorted(np.asarray(part, np.float64).sum().hex() for part in found[:2])))


def fork_while_compiling():
    """A child must not wait for a lock whose owner is compiling in the parent only."""
    features = values(4, (1, 20, 40, 40), np.float32)
    boxes = draw_boxes(30, 1, 40)
    expected = roi_numba.roi_pool(features, boxes, 3)
    compiling = threading.Thread(target=roi_numba.roi_pool, args=(features > 0, boxes, 3))
    compiling.start()
    for _ in range(5):
        time.sleep(0.1)
        assert check_in_child(lambda: same(roi_numba.roi_pool(features, boxes, 3), expected))
    compiling.join()
    print("right")


def long_call(kind, threads):
    """Seconds of work, to be interrupted; then a short call."""
    features = values(4, (1, 512, 64, 64), np.float32)
    if kind == "means of many boxes":
        call = roi_numba.roi_align, features, np.tile(draw_boxes(500, 1, 64), (100, 1)), 2
        options = {"sampling_ratio": 40}
    elif kind == "many samples":
        call = roi_numba.roi_align, features, draw_boxes(100, 1, 64), 7
        options = {"sampling_ratio": 150, "reduce": "max"}
    else:
        call = roi_numba.roi_pool, features, np.tile(draw_boxes(500, 1, 64), (200, 1)), 2
        options = {}
    function, features, boxes, size = call
    roi_numba.set_num_threads(1)
    short = function(features[:, :40], boxes[:20], 2, **options)
    roi_numba.set_num_threads(int(threads))
    # A shell's background jobs, and so their children, start with Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("calling", flush=True)
    try:
        function(features, boxes, size, **options)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    else:
        print("done", flush=True)
    again = function(features[:, :40], boxes[:20], 2, **options)
    print("right" if same(again, short) else "wrong", flush=True)
    print(threading.active_count() <= int(threads), flush=True)
