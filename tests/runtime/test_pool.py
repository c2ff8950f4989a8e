"""The emitted thread pool: the split, statuses, nesting, concurrent callers, fork, stop, settings."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stager.ir.abi import STATUS_INTERRUPTED
from stager.runtime.engine import Engine, Loaded
from tests.runtime.objects import compiled, pool_object

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the pool runs serially there")


class Context(ctypes.Structure):
    _fields_ = (
        ("detail", ctypes.c_int64 * 4),
        ("threads", ctypes.c_int32),
        ("interrupted", ctypes.c_int32),
        ("allocate", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
        ("poll", ctypes.c_void_p),
    )


Body = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(Context), ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
Poll = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(Context))

# add_one counts every index of a piece once and burns a little time; nest runs an inner region per piece;
# fail_from returns index+1 of the first bad index, with the index as detail
BODIES = """
declare i32 @stager_parallel_for(ptr, ptr, i64, i64, ptr)

define i32 @add_one(ptr %ctx, i64 %begin, i64 %end, ptr %env) {
entry: br label %loop
loop:
  %i = phi i64 [%begin, %entry], [%next, %loop]
  %p = getelementptr i64, ptr %env, i64 %i
  %v = load i64, ptr %p
  %w = add i64 %v, 1
  store i64 %w, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out: ret i32 0 }

define i32 @nest(ptr %ctx, i64 %begin, i64 %end, ptr %env) {
  %p = getelementptr i64, ptr %env, i64 %begin
  %n = sub i64 %end, %begin
  %s = call i32 @stager_parallel_for(ptr %ctx, ptr @add_one, i64 %n, i64 3, ptr %p)
  ret i32 %s }

define i32 @fail_from(ptr %ctx, i64 %begin, i64 %end, ptr %env) {
  %bad = load i64, ptr %env
  %low = icmp slt i64 %begin, %bad
  br i1 %low, label %good, label %fails
good: ret i32 0
fails:
  store i64 %begin, ptr %ctx
  %t = trunc i64 %begin to i32
  %s = add i32 %t, 1
  ret i32 %s }

define i32 @spin(ptr %ctx, i64 %begin, i64 %end, ptr %env) {
entry: br label %loop
loop:
  %i = phi i64 [0, %entry], [%next, %go]
  %next = add i64 %i, 1
  %flag = getelementptr i8, ptr %ctx, i64 36
  %stop = load atomic i32, ptr %flag monotonic, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %interrupted, label %go
go:
  %limit = load atomic i64, ptr %env monotonic, align 8
  %more = icmp slt i64 %next, %limit
  br i1 %more, label %loop, label %out
out: ret i32 0
interrupted: ret i32 -1 }
"""


@cache
def bodies_object() -> bytes:
    return compiled(BODIES)


class Pool:
    """One pool module loaded for itself, with the bodies above."""

    def __init__(self) -> None:
        engine = Engine()
        self.loaded = engine.load(pool_object())
        parallel_for = self.loaded.address("stager_parallel_for")
        self.bodies: Loaded = engine.load(bodies_object(), {"stager_parallel_for": parallel_for})
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        self.run_raw = self.loaded.function(
            "stager_parallel_for", ctypes.c_int32, ctypes.POINTER(Context), pointer, number, number, pointer
        )
        self.threads = self.loaded.function("stager_pool_threads", ctypes.c_int32)
        self.set_threads = self.loaded.function("stager_pool_set_threads", None, ctypes.c_int32)
        self.stop = self.loaded.function("stager_pool_stop", None)

    def run(self, body: str | Any, n: int, grain: int, env: Any = None, context: Context | None = None) -> int:
        context = context or Context(threads=4)
        address = self.bodies.address(body) if isinstance(body, str) else ctypes.cast(body, ctypes.c_void_p).value
        data = env.ctypes.data if isinstance(env, np.ndarray) else env
        return int(self.run_raw(context, address, n, grain, data))


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    made.stop()


def workers() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("threads", [0, 1, 2, 3, 7, 200])
@pytest.mark.parametrize(("n", "grain"), [(0, 4), (1, 4), (4, 4), (5, 4), (1000, 1), (1001, 7), (64, 0), (10, 1 << 62)])
def test_every_index_once(pool: Pool, threads: int, n: int, grain: int) -> None:
    counts = np.zeros(n + 1, np.int64)
    for _ in range(20):
        assert pool.run("add_one", n, grain, counts, Context(threads=threads)) == 0
    assert (counts[:n] == 20).all()
    assert counts[n] == 0


def test_the_split_depends_on_the_grain_alone(pool: Pool) -> None:
    lock = threading.Lock()

    def pieces(threads: int, n: int, grain: int) -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []

        @Body
        def body(ctx: Any, begin: int, end: int, env: Any) -> int:
            with lock:
                seen.append((begin, end))
            return 0

        assert pool.run(body, n, grain, None, Context(threads=threads)) == 0
        return sorted(seen)

    for n, grain in [(100, 7), (100, 100), (100, 1), (23, 5)]:
        expected = [(b, min(b + grain, n)) for b in range(0, n, grain)]
        for threads in (1, 2, 3, 8):
            assert pieces(threads, n, grain) == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_the_lowest_failing_piece_decides(pool: Pool, threads: int) -> None:
    for bad in (0, 1, 37, 99, 100):
        for _ in range(20):
            context = Context(threads=threads)
            env = np.array([bad])
            expected = bad + 1 if bad < 100 else 0
            assert pool.run("fail_from", 100, 1, env, context) == expected
            if expected:
                assert context.detail[0] == bad


def test_nested_regions_run_serially_and_right(pool: Pool) -> None:
    counts = np.zeros(5000, np.int64)
    for _ in range(10):
        assert pool.run("nest", 5000, 100, counts) == 0
    assert (counts == 10).all()


def test_concurrent_callers(pool: Pool) -> None:
    wrong: list[Any] = []

    def work() -> None:
        counts = np.zeros(3000, np.int64)
        for round in range(1, 200):
            if pool.run("add_one", 3000, 50, counts, Context(threads=3)) or not (counts == round).all():
                wrong.append(round)
                return

    callers = [threading.Thread(target=work) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_threads_start_late_and_stop(pool: Pool) -> None:
    before = workers()
    counts = np.zeros(100, np.int64)
    pool.run("add_one", 100, 10, counts, Context(threads=1))
    pool.run("add_one", 10, 10, counts, Context(threads=4))
    assert workers() == before
    pool.run("add_one", 100, 10, counts, Context(threads=3))
    assert workers() == before + 2
    pool.stop()
    deadline = time.monotonic() + 5
    while workers() != before and time.monotonic() < deadline:
        time.sleep(0.001)  # the kernel removes a joined thread a little later
    assert workers() == before
    pool.stop()
    assert pool.run("add_one", 100, 10, counts, Context(threads=3)) == 0
    assert workers() == before + 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_starts_its_own_workers(pool: Pool) -> None:
    counts = np.zeros(1000, np.int64)
    pool.run("add_one", 1000, 10, counts)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            counts[:] = 0
            for _ in range(50):
                pool.run("add_one", 1000, 10, counts)
            grandchild = os.fork()
            if grandchild == 0:
                counts[:] = 50
                os._exit(pool.run("add_one", 1000, 10, counts) or int(not (counts == 51).all()))
            pool.stop()
            status = os.waitpid(grandchild, 0)[1] or int(not (counts == 50).all())
        finally:
            os._exit(status)
    deadline = time.monotonic() + 20
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.01)
    assert done[1] == 0
    assert pool.run("add_one", 1000, 10, counts) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_while_other_threads_run_regions(pool: Pool) -> None:
    going = True

    def work() -> None:
        counts = np.zeros(2000, np.int64)
        while going:
            pool.run("add_one", 2000, 5, counts)

    callers = [threading.Thread(target=work) for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(20):
            child = os.fork()
            if child == 0:
                counts = np.zeros(2000, np.int64)
                status = pool.run("add_one", 2000, 5, counts) or int(not (counts == 1).all())
                os._exit(status)
            deadline = time.monotonic() + 20
            while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
                if time.monotonic() > deadline:
                    os.kill(child, 9)
                    os.waitpid(child, 0)
                    pytest.fail("the child hangs")
                time.sleep(0.001)
            assert done[1] == 0
    finally:
        going = False
        for caller in callers:
            caller.join()


def test_interruption_by_the_flag(pool: Pool) -> None:
    context = Context(threads=2)
    limit = np.array([1 << 62])
    threading.Timer(0.05, lambda: setattr(context, "interrupted", 1)).start()

    @Poll
    def poll(ctx: Any) -> int:
        return context.interrupted

    spin = ctypes.cast(pool.bodies.address("spin"), Body)
    context.poll = ctypes.cast(poll, ctypes.c_void_p).value
    started = time.monotonic()
    body_threads = []

    @Body
    def body(ctx: Any, begin: int, end: int, env: Any) -> int:
        body_threads.append(threading.get_ident())
        if threading.get_ident() == caller:  # the caller's piece ends; it then waits for the worker's
            return 0
        return int(spin(ctx, begin, end, env))

    caller = threading.get_ident()
    status = pool.run(body, 2, 1, limit, context)
    if len(set(body_threads)) == 2:
        assert status == STATUS_INTERRUPTED
        assert time.monotonic() - started < 10
    else:  # the worker never got a core, so nothing was endless
        assert status == 0


def test_a_poll_between_pieces_stops_the_region(pool: Pool) -> None:
    for threads in (1, 2):
        ran = []

        @Poll
        def poll(ctx: Any) -> int:
            return 1

        @Body
        def slow(ctx: Any, begin: int, end: int, env: Any) -> int:
            ran.append(begin)
            time.sleep(0.003)
            return 0

        context = Context(threads=threads)
        context.poll = ctypes.cast(poll, ctypes.c_void_p).value
        assert pool.run(slow, 1000, 1, None, context) == STATUS_INTERRUPTED
        assert len(ran) < 100


def test_settings(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    pool.set_threads(5)
    assert pool.threads() == 5
    pool.set_threads(100_000)
    assert pool.threads() == 128
    monkeypatch.setenv("OMP_NUM_THREADS", "3,2")
    pool.set_threads(0)
    assert pool.threads() == 3
    monkeypatch.setenv("STAGER_NUM_THREADS", "7")
    assert pool.threads() == 3, "asked once"
    pool.set_threads(0)
    assert pool.threads() == 7
    monkeypatch.setenv("STAGER_NUM_THREADS", "nonsense")
    pool.set_threads(0)
    assert pool.threads() == 3
    monkeypatch.delenv("STAGER_NUM_THREADS")
    monkeypatch.delenv("OMP_NUM_THREADS")
    pool.set_threads(0)
    assert 1 <= pool.threads() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity")
def test_affinity_bounds_the_threads() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from tests.runtime.test_pool import Pool; print(Pool().threads())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=os.getcwd()
    )
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="one CPU, or no affinity"
)
def test_sleeping_workers_wake_on_other_cpus_than_the_callers() -> None:
    code = (
        "import os, time, numpy as np, stager as st\n"
        "x, before = np.ones((2000, 500)), set(os.listdir('/proc/self/task'))\n"
        "f = st.compile(lambda x: np.exp(x).sum(1), threads=2)\n"
        "for _ in range(3): f(x); time.sleep(0.02)\n"
        "workers = set(os.listdir('/proc/self/task')) - before\n"
        "free = len(os.sched_getaffinity(0))\n"
        "print(len(workers), [free - len(os.sched_getaffinity(int(w))) for w in workers])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.getcwd())
    assert done.stdout.strip() == "1 [1]"


def test_the_module_is_the_same_every_time() -> None:
    from stager.codegen.pool import emit_pool
    from stager.codegen.target import TARGETS

    for target in TARGETS.values():
        assert str(emit_pool(target)) == str(emit_pool(target))


def test_every_target_compiles() -> None:
    import llvmlite.binding as llvm

    from stager.codegen.blas import emit_blas_threads
    from stager.codegen.buffers import emit_buffers
    from stager.codegen.pool import emit_pool
    from stager.codegen.target import TARGETS

    emitters: list[Callable[[Any], Any]] = [emit_pool, emit_buffers, emit_blas_threads]
    for target in TARGETS.values():
        for emit in emitters:
            parsed = llvm.parse_assembly(str(emit(target)))
            parsed.verify()
            assert len(target.machine().emit_object(parsed)) > 500


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="links a shared library with cc")
def test_the_object_is_a_library_of_its_own(tmp_path: Path) -> None:
    """Nothing but libc and pthread is needed, and no address of this process is inside."""
    (tmp_path / "pool.o").write_bytes(pool_object())
    flags = ["-shared", "-pthread", "-nostartfiles", "-Wl,--no-undefined"]
    subprocess.run(["cc", *flags, "-o", "libpool.so", "pool.o"], cwd=tmp_path, check=True)
    library = ctypes.CDLL(str(tmp_path / "libpool.so"))
    library.stager_pool_set_threads(3)
    assert library.stager_pool_threads() == 3
    seen: list[int] = []

    def count(ctx: Any, begin: int, end: int, env: Any) -> int:
        seen.append(begin)
        return 0

    body = Body(count)
    context = Context()
    run = library.stager_parallel_for
    run.argtypes = [ctypes.POINTER(Context), Body, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    assert run(context, body, 40, 1, None) == 0
    assert sorted(seen) == list(range(40))
    library.stager_pool_stop()


def test_brief_regions_do_without_workers_for_a_while_after_one_came_late(pool: Pool) -> None:
    """A worker whose processor another program has would hold each of them up for a slice of the scheduler."""
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    brief = pool.loaded.function(
        "stager_parallel_brief", ctypes.c_int32, ctypes.POINTER(Context), pointer, number, number, pointer
    )
    slow = 0.0
    ran: set[int] = set()

    @Body
    def body(_context: Any, _begin: int, _end: int, _env: Any) -> int:
        ran.add(threading.get_ident())
        time.sleep(slow)
        return 0

    def threads_of(pieces: int) -> int:
        ran.clear()
        assert brief(Context(threads=2), ctypes.cast(body, ctypes.c_void_p).value, pieces, 1, None) == 0
        return len(ran)

    slow = 0.01
    assert threads_of(8) == 2
    slow = 0.0002
    start = time.monotonic()
    crowded = threads_of(8)
    if time.monotonic() - start < 0.04:  # else this machine itself was late
        assert crowded == 1
    slow = 0.01
    time.sleep(0.1)
    assert threads_of(8) == 2
