"""The thread pool, as an LLVM module: one per process (JIT) or per built library, over pthreads and libc alone.

    i32  stager_parallel_for(Context *, body, i64 n, i64 grain, void *env)   as ir/abi.py says
    i32  stager_pool_threads(void)        how many threads a region uses when the context does not say
    void stager_pool_set_threads(i32 n)   sets that; 0: ask the environment again
    void stager_pool_stop(void)           joins the workers; the next region starts new ones

How a region runs. Its pieces of `grain` are dealt out as one contiguous range per participant; a participant takes
from the front of its own range and, when that is empty, from the back of another's. The caller is participant 0 and
never waits for a worker that has not come, so a region makes progress whatever the workers do. A worker only ever
touches a slot while it is counted in `slot.inside`; the caller frees the slot when it is closing and nobody is inside.

Invariants: which piece is which depends on `grain` alone; every piece below the lowest failing one has run; the body
gets a copy of the context with `threads = 1`, so that nested regions run serially without thread-local state; only
participant 0's copy has `poll`. The state is private to one process: a child of fork finds another pid and starts over.

Not here: how many pieces are worth it (the kernels' emitter decides), cores of other machines, priorities. Targets
without pthreads (Windows, wasm) get the same functions, running serially.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I32, I64, NULL, PTR, RARE, VOID, Struct, array, const, global_data
from stager.codegen.structured import Code
from stager.codegen.target import Pthreads, Target
from stager.ir.abi import CONTEXT_BYTES, PARALLEL_FOR, STATUS_INTERRUPTED

MAX_THREADS = 128  # participants of one region
SLOTS = 4  # regions that run at the same time on workers; further callers run serially
SPIN_NS = 100_000  # how long a worker that has run dry looks for work before it sleeps
POLL_NS = 5_000_000  # how often a caller asks ctx->poll between pieces
STACK_BYTES = 8 << 20  # musl's default is too small for kernels with big frames

POOL_THREADS, POOL_SET_THREADS, POOL_STOP = "stager_pool_threads", "stager_pool_set_threads", "stager_pool_stop"
EXPORTS = (PARALLEL_FOR, POOL_THREADS, POOL_SET_THREADS, POOL_STOP)

FREE, CLAIMED, ACTIVE, CLOSING = range(4)

# pthread_mutex_t, pthread_cond_t, pthread_attr_t, sigset_t and cpu_set_t are opaque here: 128 bytes hold each of them
# on every target (the largest, sigset_t and cpu_set_t of Linux, have exactly 128).
OPAQUE = array(I64, 16)

CONTEXT = Struct(detail=array(I64, 4), threads=I32, interrupted=I32, allocate=PTR, user=PTR, poll=PTR)

# One participant of a region. `range` packs the pieces still to do: next in the low half, end in the high half.
RECORD = Struct(range=I64, claimed=I32, pad=array(I32, 13), context=CONTEXT)

SLOT = Struct(
    state=I32,
    inside=I32,  # workers that may touch the slot
    waiting=I32,  # the caller sleeps until inside is 0
    participants=I32,
    interrupted=I32,
    status=I32,
    failed=I64,  # the lowest failing piece; `pieces` when none
    pieces=I64,
    n=I64,
    grain=I64,
    body=PTR,
    env=PTR,
    origin=PTR,  # the caller's own context
    detail=array(I64, 4),  # of the failing piece
    pad=array(I64, 18),
    records=array(RECORD.type, MAX_THREADS),
)

POOL = Struct(
    generation=I32,  # counts posted regions and stops: what idle workers watch
    sleepers=I32,
    stopping=I32,
    pid=I32,  # the process that started the workers
    started=I32,
    configured=I32,
    detected=I32,
    start_lock=I32,  # the pid of its holder
    kept_off=I32,  # one more than the CPU that sleeping workers do not wake on; 0: none yet
    pad=array(I32, 7),
    mutex=OPAQUE,
    wake=OPAQUE,
    done=OPAQUE,
    handles=array(I64, MAX_THREADS),
    slots=array(SLOT.type, SLOTS),
)


# What tells a core that it spins: an intrinsic and its arguments (aarch64 makes a no-op of `yield`, `isb` waits).
PAUSE: dict[str, tuple[str, tuple[int, ...]]] = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.isb", (15,)),
}


def emit_pool(target: Target) -> Any:
    """The module with the four functions of `EXPORTS` for a target."""
    module = ir.Module("stager_pool")
    module.triple = target.triple
    module.data_layout = target.data_layout
    pthreads = target.system.pthreads
    if pthreads is None:
        _emit_serial_pool(module)
    else:
        _Pool(module, pthreads, PAUSE.get(target.arch)).emit()
    return module


def _emit_serial_pool(module: Any) -> None:
    run_serially = _emit_run_serially(module, None)
    c = _parallel_for(module)
    c.ret(c.call(run_serially, args=[c.arg(name) for name in ("ctx", "body", "n", "grain", "env")]))
    c.finish()
    c = Code(module, POOL_THREADS, I32, [])
    c.ret(1)
    c.finish()
    Code(module, POOL_SET_THREADS, VOID, [("n", I32)]).finish()
    Code(module, POOL_STOP, VOID, []).finish()


def _parallel_for(module: Any) -> Code:
    return Code(module, PARALLEL_FOR, I32, [("ctx", PTR), ("body", PTR), ("n", I64), ("grain", I64), ("env", PTR)])


def _emit_run_serially(module: Any, poll_due: Any) -> Any:
    """Every piece in order on the calling thread, until one fails."""
    c = Code(
        module,
        "run_serially",
        I32,
        [("ctx", PTR), ("body", PTR), ("n", I64), ("grain", I64), ("env", PTR)],
        linkage="internal",
    )
    n, grain, ctx = c.arg("n"), c.arg("grain"), c.arg("ctx")
    polled = c.var(I64, 0)
    begin = c.var(I64, 0)
    with c.while_(lambda: c.lt(begin.get(), n)):
        left = c.sub(n, begin.get())
        end = c.select(c.lt(grain, left), c.add(begin.get(), grain), n)
        status = c.call_pointer(c.arg("body"), I32, [ctx, begin.get(), end, c.arg("env")])
        c.ret_if(c.ne(status, 0), status)
        begin.set(end)
        if poll_due is not None:
            with c.if_(c.and_then(c.lt(end, n), lambda: c.ne(c.call(poll_due, args=[ctx, polled.ptr]), 0))):
                c.ret(STATUS_INTERRUPTED)
    c.ret(0)
    return c.finish()


class _Pool:
    """Emits the functions of one pool module, leaves first."""

    def __init__(self, module: Any, system: Pthreads, pause: tuple[str, tuple[int, ...]] | None) -> None:
        self.module, self.system, self.pause = module, system, pause
        self.state = global_data(module, "pool", POOL, align=128)

    def emit(self) -> None:
        self.now = self._emit_now()
        self.poll_due = self._emit_poll_due()
        self.run_serially = _emit_run_serially(self.module, self.poll_due)
        self.take = self._emit_take()
        self.interrupt = self._emit_interrupt()
        self.fail = self._emit_fail()
        self.run_pieces = self._emit_run_pieces()
        self.join_region = self._emit_join_region()
        self.worker = self._emit_worker()
        self.keep_off = self._emit_keep_off() if self.system.has_affinity else None
        self.lock = self._emit_lock()
        self.ensure_workers = self._emit_ensure_workers()
        self.read_number = self._emit_read_number()
        self.detect = self._emit_detect()
        self._emit_threads()
        self._emit_set_threads()
        self._emit_stop()
        self.wait_for_workers = self._emit_wait_for_workers()
        self._emit_parallel_for()

    # --- small pieces of code

    def _code(self, name: str, result: Any, *params: tuple[str, Any]) -> Code:
        return Code(self.module, name, result, params, linkage="internal")

    def _rare(self, name: str, result: Any, *params: tuple[str, Any]) -> Code:
        return Code(self.module, name, result, params, linkage="internal", attributes=RARE)

    def _at(self, c: Code, field: str) -> Any:
        return c.field(POOL, self.state, field)

    def _slot(self, c: Code, index: Any) -> Any:
        return c.element(self._at(c, "slots"), SLOT, index)

    def _record(self, c: Code, slot: Any, index: Any) -> Any:
        return c.element(c.field(SLOT, slot, "records"), RECORD, c.zext(index, I64))

    def _pause(self, c: Code) -> None:
        if self.pause is not None:
            intrinsic, arguments = self.pause
            c.call(intrinsic, VOID, [const(I32, a) for a in arguments])

    @contextmanager
    def _locked(self, c: Code) -> Iterator[None]:
        c.call("pthread_mutex_lock", I32, [self._at(c, "mutex")])
        yield
        c.call("pthread_mutex_unlock", I32, [self._at(c, "mutex")])

    def _spin_while(self, c: Code, busy: Callable[[], Any]) -> None:
        """Spin while `busy()`, for SPIN_NS at most; the second half gives the core away between looks."""
        deadline = c.var(I64, 0)
        rounds = c.var(I32, 0)
        with c.while_(busy):
            self._pause(c)
            rounds.set(c.add(rounds.get(), 1))
            with c.if_(c.eq(c.and_(rounds.get(), 15), 0)):
                now = c.call(self.now)
                with c.if_(c.eq(deadline.get(), 0)):
                    deadline.set(c.add(now, SPIN_NS))
                c.break_if(c.gt(now, deadline.get()))
                with c.if_(c.gt(now, c.sub(deadline.get(), SPIN_NS // 2))):
                    c.call("sched_yield", I32)

    def _emit_now(self) -> Any:
        c = self._code("now", I64)
        spec = c.alloca(array(I64, 2))
        c.call("clock_gettime", I32, [const(I32, self.system.monotonic), spec])
        c.ret(c.add(c.mul(c.at(spec, I64, 0), 1_000_000_000), c.at(spec, I64, 1)))
        return c.finish()

    def _emit_poll_due(self) -> Any:
        """Ask ctx->poll when POLL_NS have passed since `*last`: its answer, else 0."""
        c = self._code("poll_due", I32, ("ctx", PTR), ("last", PTR))
        ctx, last = c.arg("ctx"), c.arg("last")
        c.ret_if(c.ne(c.atomic_load(c.field(CONTEXT, ctx, "interrupted"), I32, "monotonic"), 0), 1)
        poll = c.get(CONTEXT, ctx, "poll")
        c.ret_if(c.is_null(poll), 0)
        now = c.call(self.now)
        with c.if_(c.eq(c.load(last, I64), 0)):
            c.store(now, last)
        c.ret_if(c.lt(c.sub(now, c.load(last, I64)), POLL_NS), 0)
        c.store(now, last)
        c.ret(c.call_pointer(poll, I32, [ctx]))
        return c.finish()

    # --- pieces

    def _emit_take(self) -> Any:
        """The number of a piece that nobody else runs, or -1: own range from the front, then others' from the back."""
        c = self._code("take", I64, ("slot", PTR), ("me", I32))
        slot, me = c.arg("slot"), c.arg("me")
        participants = c.get(SLOT, slot, "participants")
        own = c.field(RECORD, self._record(c, slot, me), "range")
        found = c.var(I64, -1)

        def take_from(range: Any, mine: bool) -> None:
            seen = c.var(I64)
            seen.set(c.atomic_load(range, I64, "monotonic"))
            with c.loop():
                first = c.and_(seen.get(), 0xFFFFFFFF)
                end = c.lshr(seen.get(), 32)
                c.break_if(c.ge(first, end))
                changed = c.add(seen.get(), 1) if mine else c.sub(seen.get(), 1 << 32)
                old, swapped = c.compare_exchange(range, seen.get(), changed, I64)
                with c.if_(swapped):
                    found.set(first if mine else c.sub(end, 1))
                    c.break_()
                seen.set(old)

        take_from(own, mine=True)
        c.ret_if(c.ge(found.get(), 0), found.get())
        with c.for_range(1, participants, type=I32) as step:
            other = c.add(me, step)
            victim = c.select(c.ge(other, participants), c.sub(other, participants), other)
            take_from(c.field(RECORD, self._record(c, slot, victim), "range"), mine=False)
            c.ret_if(c.ge(found.get(), 0), found.get())
        c.ret(-1)
        return c.finish()

    def _emit_interrupt(self) -> Any:
        """Stop a region: no further piece starts, running bodies see ctx->interrupted."""
        c = self._rare("interrupt", VOID, ("slot", PTR))
        slot = c.arg("slot")
        c.atomic_store(1, c.field(SLOT, slot, "interrupted"), I32)
        with c.for_range(0, c.get(SLOT, slot, "participants"), type=I32) as i:
            context = c.field(RECORD, self._record(c, slot, i), "context")
            c.atomic_store(1, c.field(CONTEXT, context, "interrupted"), I32, "monotonic")
        c.ret()
        return c.finish()

    def _emit_fail(self) -> Any:
        """Keep the status and the detail of the lowest failing piece."""
        c = self._rare("fail", VOID, ("slot", PTR), ("piece", I64), ("status", I32), ("ctx", PTR))
        slot, piece, status = c.arg("slot"), c.arg("piece"), c.arg("status")
        with c.if_(c.eq(status, STATUS_INTERRUPTED)):
            c.call(self.interrupt, args=[slot])
        with self._locked(c):
            failed = c.field(SLOT, slot, "failed")
            with c.if_(c.lt(piece, c.atomic_load(failed, I64, "monotonic"))):
                c.atomic_store(piece, failed, I64)
                c.put(SLOT, slot, "status", status)
                c.copy(c.field(SLOT, slot, "detail"), c.arg("ctx"), 32)
        c.ret()
        return c.finish()

    def _emit_run_pieces(self) -> Any:
        c = self._code("run_pieces", VOID, ("slot", PTR), ("me", I32))
        slot, me = c.arg("slot"), c.arg("me")
        ctx = c.field(RECORD, self._record(c, slot, me), "context")
        body, env = c.get(SLOT, slot, "body"), c.get(SLOT, slot, "env")
        n, grain = c.get(SLOT, slot, "n"), c.get(SLOT, slot, "grain")
        failed, interrupted = c.field(SLOT, slot, "failed"), c.field(SLOT, slot, "interrupted")
        stop_asked = c.field(CONTEXT, c.get(SLOT, slot, "origin"), "interrupted")
        polled = c.var(I64, 0)
        with c.loop():
            piece = c.call(self.take, args=[slot, me])
            c.break_if(c.lt(piece, 0))
            with c.if_(c.ne(c.atomic_load(stop_asked, I32, "monotonic"), 0), likely=False):
                c.call(self.interrupt, args=[slot])
            c.break_if(c.ne(c.atomic_load(interrupted, I32, "monotonic"), 0))
            with c.if_(c.gt(piece, c.atomic_load(failed, I64, "monotonic"))):
                c.continue_()
            begin = c.mul(piece, grain)
            left = c.sub(n, begin)
            end = c.select(c.lt(grain, left), c.add(begin, grain), n)
            status = c.call_pointer(body, I32, [ctx, begin, end, env])
            with c.if_(c.ne(status, 0), likely=False):
                c.call(self.fail, args=[slot, piece, status, ctx])
            with c.if_(c.ne(c.call(self.poll_due, args=[ctx, polled.ptr]), 0), likely=False):
                c.call(self.interrupt, args=[slot])
        c.ret()
        return c.finish()

    # --- workers

    def _emit_join_region(self) -> Any:
        """A worker helps with the slot's region, when there is one with room for it."""
        c = self._rare("join_region", VOID, ("slot", PTR), ("worker", I32))
        slot = c.arg("slot")
        state, inside = c.field(SLOT, slot, "state"), c.field(SLOT, slot, "inside")
        c.ret_if(c.ne(c.atomic_load(state, I32, "monotonic"), ACTIVE))
        c.atomic_rmw("add", inside, 1, I32)
        with c.if_(c.eq(c.atomic_load(state, I32), ACTIVE)):
            others = c.sub(c.get(SLOT, slot, "participants"), 1)
            # the same worker gets the same range in region after region, where it can: its part is in its cache
            with c.for_range(0, others, type=I32) as step:
                me = c.add(c.urem(c.add(c.arg("worker"), step), others), 1)
                record = self._record(c, slot, me)
                claimed = c.field(RECORD, record, "claimed")
                free = c.eq(c.atomic_load(claimed, I32, "monotonic"), 0)
                with c.if_(c.and_then(free, lambda: c.eq(c.atomic_rmw("xchg", claimed, 1, I32), 0))):
                    c.call(self.run_pieces, args=[slot, me])
                    c.break_()
        last = c.eq(c.atomic_rmw("sub", inside, 1, I32), 1)
        waiting = c.field(SLOT, slot, "waiting")
        with c.if_(c.and_then(last, lambda: c.ne(c.atomic_load(waiting, I32), 0))), self._locked(c):
            c.call("pthread_cond_broadcast", I32, [self._at(c, "done")])
        c.ret()
        return c.finish()

    def _emit_worker(self) -> Any:
        c = self._rare("worker", PTR, ("index", PTR))
        index = c.b.ptrtoint(c.arg("index"), I32)
        generation, stopping = self._at(c, "generation"), self._at(c, "stopping")
        seen = c.var(I32)
        with c.loop():
            seen.set(c.atomic_load(generation, I32))  # before the look at the slots: later posts are seen below
            c.ret_if(c.ne(c.atomic_load(stopping, I32), 0), None)
            with c.for_range(0, SLOTS) as s:
                c.call(self.join_region, args=[self._slot(c, s), index])
            self._spin_while(c, lambda: c.eq(c.atomic_load(generation, I32, "acquire"), seen.get()))
            with c.if_(c.ne(c.atomic_load(generation, I32), seen.get())):
                c.continue_()
            with self._locked(c):
                c.atomic_rmw("add", self._at(c, "sleepers"), 1, I32)  # then look again: a poster does the reverse
                with c.while_(lambda: c.eq(c.atomic_load(generation, I32), seen.get())):
                    c.call("pthread_cond_wait", I32, [self._at(c, "wake"), self._at(c, "mutex")])
                c.atomic_rmw("sub", self._at(c, "sleepers"), 1, I32)
        return c.finish()

    def _emit_keep_off(self) -> Any:
        """Keep the workers off the caller's CPU, where there are enough others.

        A worker that the scheduler wakes beside the caller, because it takes a halted virtual CPU for a busy one, runs
        when the caller's work is done. The caller goes on at once, so nothing moves the worker away in time.
        """
        c = self._rare("keep_off", VOID)
        kept_off = self._at(c, "kept_off")
        here = c.call("sched_getcpu", I32)
        c.ret_if(c.or_(c.lt(here, 0), c.eq(c.add(here, 1), c.atomic_load(kept_off, I32, "monotonic"))))
        # the workers stay while start_lock is held; who stops or starts some has it: then the next wake sees to it
        _, taken = c.compare_exchange(self._at(c, "start_lock"), 0, c.call("getpid", I32), I32)
        c.ret_if(c.eq(c.zext(taken, I32), 0))
        c.atomic_store(c.add(here, 1), kept_off, I32)
        mask = c.alloca(OPAQUE)
        c.fill(mask, 0, 128)
        known = c.call("sched_getaffinity", I32, [const(I32, 0), const(I64, 128), mask])
        count = c.var(I64, 0)
        with c.for_range(0, 16) as i:
            count.set(c.add(count.get(), c.b.ctpop(c.at(mask, I64, i))))
        workers = c.zext(c.atomic_load(self._at(c, "started"), I32), I64)
        enough = c.and_then(c.gt(count.get(), workers), lambda: c.lt(here, 1024))
        with c.if_(c.and_then(c.ge(known, 0), lambda: enough)):
            word = c.element(mask, I64, c.zext(c.lshr(here, 6), I64))
            bit = c.shl(const(I64, 1), c.zext(c.and_(here, 63), I64))
            c.store(c.and_(c.load(word, I64), c.xor(bit, -1)), word)
            with c.for_range(0, workers) as k:
                handle = c.load(c.element(self._at(c, "handles"), I64, k), I64)
                c.call("pthread_setaffinity_np", I32, [handle, const(I64, 128), mask])
        self._unlock_start(c)
        c.ret()
        return c.finish()

    def _emit_lock(self) -> Any:
        """Take start_lock. What another thread of the parent held when it forked is dead here, and taken over."""
        c = self._rare("lock_start", VOID, ("pid", I32))
        lock, pid = self._at(c, "start_lock"), c.arg("pid")
        with c.loop():
            holder, taken = c.compare_exchange(lock, 0, pid, I32)
            c.break_if(taken)
            with c.if_(c.ne(holder, pid)):
                _, taken = c.compare_exchange(lock, holder, pid, I32)
                c.break_if(taken)
            c.call("sched_yield", I32)
        c.ret()
        return c.finish()

    def _unlock_start(self, c: Code) -> None:
        c.atomic_store(0, self._at(c, "start_lock"), I32)

    def _emit_ensure_workers(self) -> Any:
        """Have `wanted` workers in this process; how many there are (fewer when the system refuses)."""
        c = self._rare("ensure_workers", I32, ("wanted", I32))
        wanted = c.arg("wanted")
        pid, started = self._at(c, "pid"), self._at(c, "started")
        me = c.call("getpid", I32)
        ours = c.eq(c.atomic_load(pid, I32), me)
        enough = c.and_then(ours, lambda: c.ge(c.atomic_load(started, I32), wanted))
        with c.if_(enough, likely=True):
            c.ret(wanted)
        c.call(self.lock, args=[me])
        with c.if_(c.ne(c.atomic_load(pid, I32), me)):  # first use, or a child: nothing of the parent's state holds
            c.fill(self._at(c, "slots"), 0, SLOTS * SLOT_BYTES)
            for field in ("generation", "sleepers", "stopping", "started", "kept_off"):
                c.atomic_store(0, self._at(c, field), I32)
            c.call("pthread_mutex_init", I32, [self._at(c, "mutex"), NULL])
            for field in ("wake", "done"):
                c.call("pthread_cond_init", I32, [self._at(c, field), NULL])
            c.atomic_store(me, pid, I32)
        with c.if_(c.lt(c.atomic_load(started, I32), wanted)):
            # workers take no signals: the interpreter and the program expect them on their own threads
            full, before, attributes = (c.alloca(OPAQUE) for _ in range(3))
            c.call("sigfillset", I32, [full])
            c.call("pthread_sigmask", I32, [const(I32, self.system.sig_setmask), full, before])
            c.call("pthread_attr_init", I32, [attributes])
            c.call("pthread_attr_setstacksize", I32, [attributes, const(I64, STACK_BYTES)])
            with c.while_(lambda: c.lt(c.atomic_load(started, I32), wanted)):
                index = c.zext(c.atomic_load(started, I32), I64)
                handle = c.element(self._at(c, "handles"), I64, index)
                made = c.call("pthread_create", I32, [handle, attributes, self.worker, c.b.inttoptr(index, PTR)])
                c.break_if(c.ne(made, 0))
                c.atomic_rmw("add", started, 1, I32)
                c.atomic_store(0, self._at(c, "kept_off"), I32)
            c.call("pthread_attr_destroy", I32, [attributes])
            c.call("pthread_sigmask", I32, [const(I32, self.system.sig_setmask), before, NULL])
        self._unlock_start(c)
        c.ret(c.min(c.atomic_load(started, I32), wanted))
        return c.finish()

    # --- how many threads

    def _emit_read_number(self) -> Any:
        """The first number in a file after `skip` words, or -1: for the cgroup's quota files."""
        c = self._rare("read_number", I64, ("path", PTR), ("skip", I32))
        file = c.call("open", I32, [c.arg("path"), const(I32, 0)], fixed=2)
        c.ret_if(c.lt(file, 0), -1)
        text = c.alloca(array(I64, 8))
        size = c.call("read", I64, [file, text, const(I64, 63)])
        c.call("close", I32, [file])
        c.ret_if(c.le(size, 0), -1)
        c.store(const(ir.IntType(8), 0), c.offset(text, size))
        end = c.var(PTR, NULL)
        at = c.var(PTR)
        at.set(text)
        with c.if_(c.ne(c.arg("skip"), 0)):
            at.set(c.call("strchr", PTR, [text, const(I32, ord(" "))]))
            c.ret_if(c.is_null(at.get()), -1)
        number = c.call("strtol", I64, [at.get(), end.ptr, const(I32, 10)])
        c.ret(c.select(c.b.icmp_unsigned("==", end.get(), at.get()), const(I64, -1), number))
        return c.finish()

    def _emit_detect(self) -> Any:
        """STAGER_NUM_THREADS, else OMP_NUM_THREADS, else the cores of the affinity mask within the cgroup's quota."""
        c = self._rare("detect", I32)
        count = c.var(I64, 0)
        for variable in ("STAGER_NUM_THREADS", "OMP_NUM_THREADS"):
            text = c.call("getenv", PTR, [c.string(variable)])
            with c.if_(c.not_null(text)):
                number = c.call("strtol", I64, [text, NULL, const(I32, 10)])
                with c.if_(c.gt(number, 0)):
                    c.ret(c.to(c.min(number, MAX_THREADS), I32))
        if self.system.has_affinity:
            mask = c.alloca(OPAQUE)
            c.fill(mask, 0, 128)
            known = c.call("sched_getaffinity", I32, [const(I32, 0), const(I64, 128), mask])
            with c.if_(c.ge(known, 0)), c.for_range(0, 16) as i:
                count.set(c.add(count.get(), c.b.ctpop(c.at(mask, I64, i))))
        with c.if_(c.le(count.get(), 0)):
            count.set(c.call("sysconf", I64, [const(I32, self.system.online)]))
        if self.system.has_affinity:
            unified = c.string("/sys/fs/cgroup/cpu.max")
            quota, period = c.var(I64), c.var(I64)
            quota.set(c.call(self.read_number, args=[unified, const(I32, 0)]))
            period.set(c.call(self.read_number, args=[unified, const(I32, 1)]))
            with c.if_(c.le(period.get(), 0)):
                old = "/sys/fs/cgroup/cpu/cpu.cfs_{}_us"
                quota.set(c.call(self.read_number, args=[c.string(old.format("quota")), const(I32, 0)]))
                period.set(c.call(self.read_number, args=[c.string(old.format("period")), const(I32, 0)]))
            with c.if_(c.and_then(c.gt(quota.get(), 0), lambda: c.gt(period.get(), 0))):
                cores = c.sdiv(c.sub(c.add(quota.get(), period.get()), 1), period.get())
                count.set(c.min(count.get(), cores))
        c.ret(c.to(c.max(c.min(count.get(), MAX_THREADS), 1), I32))
        return c.finish()

    def _emit_threads(self) -> None:
        c = Code(self.module, POOL_THREADS, I32, [])
        configured, detected = self._at(c, "configured"), self._at(c, "detected")
        known = c.atomic_load(configured, I32, "monotonic")
        c.ret_if(c.gt(known, 0), known)
        known = c.atomic_load(detected, I32, "monotonic")
        c.ret_if(c.gt(known, 0), known)
        count = c.call(self.detect)
        c.atomic_store(count, detected, I32, "monotonic")
        c.ret(count)
        c.finish()

    def _emit_set_threads(self) -> None:
        c = Code(self.module, POOL_SET_THREADS, VOID, [("n", I32)], attributes=RARE)
        c.atomic_store(0, self._at(c, "detected"), I32, "monotonic")
        wanted = c.max(c.min(c.arg("n"), MAX_THREADS), 0)
        c.atomic_store(wanted, self._at(c, "configured"), I32, "monotonic")
        c.finish()

    def _emit_stop(self) -> None:
        c = Code(self.module, POOL_STOP, VOID, [], attributes=RARE)
        started, stopping = self._at(c, "started"), self._at(c, "stopping")
        me = c.call("getpid", I32)
        c.ret_if(c.ne(c.atomic_load(self._at(c, "pid"), I32), me))  # none started in this process
        c.call(self.lock, args=[me])
        c.atomic_store(1, stopping, I32)
        c.atomic_rmw("add", self._at(c, "generation"), 1, I32)
        with self._locked(c):
            c.call("pthread_cond_broadcast", I32, [self._at(c, "wake")])
        with c.for_range(0, c.atomic_load(started, I32), type=I32) as i:
            handle = c.at(self._at(c, "handles"), I64, c.zext(i, I64))
            c.call("pthread_join", I32, [handle, NULL])
        c.atomic_store(0, started, I32)
        c.atomic_store(0, stopping, I32)
        self._unlock_start(c)
        c.finish()

    # --- regions

    def _emit_wait_for_workers(self) -> Any:
        """Until no worker is inside the slot: spin, then sleep, polling for signals where the context can."""
        c = self._rare("wait_for_workers", VOID, ("slot", PTR), ("ctx", PTR))
        slot, ctx = c.arg("slot"), c.arg("ctx")
        inside, waiting = c.field(SLOT, slot, "inside"), c.field(SLOT, slot, "waiting")
        self._spin_while(c, lambda: c.ne(c.atomic_load(inside, I32, "acquire"), 0))
        c.ret_if(c.eq(c.atomic_load(inside, I32), 0))
        mutex, done = self._at(c, "mutex"), self._at(c, "done")
        deadline = c.alloca(array(I64, 2))
        with c.loop():
            with self._locked(c):
                c.atomic_store(1, waiting, I32)  # then look again: the last worker does the reverse
                with c.if_(c.ne(c.atomic_load(inside, I32), 0)):
                    with c.if_(c.is_null(c.get(CONTEXT, ctx, "poll"))):
                        c.call("pthread_cond_wait", I32, [done, mutex])
                    with c.else_():
                        c.call("clock_gettime", I32, [const(I32, 0), deadline])
                        later = c.add(c.at(deadline, I64, 1), POLL_NS)
                        over = c.ge(later, 1_000_000_000)
                        c.put_at(deadline, I64, 0, c.add(c.at(deadline, I64, 0), c.zext(over, I64)))
                        c.put_at(deadline, I64, 1, c.select(over, c.sub(later, 1_000_000_000), later))
                        c.call("pthread_cond_timedwait", I32, [done, mutex, deadline])
                c.atomic_store(0, waiting, I32)
            c.break_if(c.eq(c.atomic_load(inside, I32), 0))
            poll = c.get(CONTEXT, ctx, "poll")
            running = c.eq(c.atomic_load(c.field(SLOT, slot, "interrupted"), I32, "monotonic"), 0)
            ask = c.and_then(running, lambda: c.not_null(poll))
            with c.if_(c.and_then(ask, lambda: c.ne(c.call_pointer(poll, I32, [ctx]), 0))):
                c.call(self.interrupt, args=[slot])
        c.ret()
        return c.finish()

    def _emit_parallel_for(self) -> None:
        c = _parallel_for(self.module)
        ctx, body, n, env = (c.arg(name) for name in ("ctx", "body", "n", "env"))
        grain = c.max(c.arg("grain"), 1)
        c.ret_if(c.le(n, 0), 0)
        with c.if_(c.le(n, grain)):
            c.ret(c.call_pointer(body, I32, [ctx, const(I64, 0), n, env]))
        serial = c.label("serial")
        pieces = c.add(c.sdiv(c.sub(n, 1), grain), 1)
        allowed = c.get(CONTEXT, ctx, "threads")
        c.goto_if(c.or_(c.eq(allowed, 1), c.ge(pieces, 1 << 31)), serial)
        threads = c.var(I32)
        threads.set(allowed)
        with c.if_(c.le(allowed, 0)):
            threads.set(c.call(self.module.globals[POOL_THREADS]))
        wanted = c.min(c.min(threads.get(), MAX_THREADS), c.to(c.min(pieces, MAX_THREADS), I32))
        c.goto_if(c.le(wanted, 1), serial)
        participants = c.add(c.call(self.ensure_workers, args=[c.sub(wanted, 1)]), 1)
        c.goto_if(c.le(participants, 1), serial)

        slot = c.var(PTR, NULL)
        with c.for_range(0, SLOTS) as s:
            candidate = self._slot(c, s)
            _, claimed = c.compare_exchange(c.field(SLOT, candidate, "state"), FREE, CLAIMED, I32)
            with c.if_(claimed):
                slot.set(candidate)
                c.break_()
        c.goto_if(c.is_null(slot.get()), serial)
        self._run_region(c, slot.get(), participants, pieces, grain)

        c.place(serial)
        c.ret(c.call(self.run_serially, args=[ctx, body, n, grain, env]))
        c.finish()

    def _run_region(self, c: Code, slot: Any, participants: Any, pieces: Any, grain: Any) -> None:
        ctx = c.arg("ctx")
        values = {"body": c.arg("body"), "env": c.arg("env"), "n": c.arg("n"), "grain": grain, "pieces": pieces}
        for name, value in {**values, "origin": ctx, "failed": pieces, "participants": participants}.items():
            c.put(SLOT, slot, name, value)
        c.put(SLOT, slot, "interrupted", 0)
        c.put(SLOT, slot, "status", 0)
        count = c.zext(participants, I64)
        with c.for_range(0, participants, type=I32) as i:
            record = self._record(c, slot, i)
            wide = c.zext(i, I64)
            low = c.udiv(c.mul(pieces, wide), count)
            high = c.udiv(c.mul(pieces, c.add(wide, 1)), count)
            c.put(RECORD, record, "range", c.or_(c.shl(high, 32), low))
            c.put(RECORD, record, "claimed", 0)
            context = c.field(RECORD, record, "context")
            c.copy(context, ctx, CONTEXT_BYTES)
            c.put(CONTEXT, context, "threads", 1)
            c.put(CONTEXT, context, "poll", None)
        own = c.field(RECORD, self._record(c, slot, const(I32, 0)), "context")
        c.put(CONTEXT, own, "poll", c.get(CONTEXT, ctx, "poll"))
        c.put(RECORD, self._record(c, slot, const(I32, 0)), "claimed", 1)

        state = c.field(SLOT, slot, "state")
        c.atomic_store(ACTIVE, state, I32)
        c.atomic_rmw("add", self._at(c, "generation"), 1, I32)
        sleepers = c.atomic_load(self._at(c, "sleepers"), I32)
        with c.if_(c.gt(sleepers, 0)):
            needed = c.sub(participants, 1)
            if self.keep_off is not None:
                c.call(self.keep_off)
            with self._locked(c):
                with c.if_(c.ge(needed, sleepers)):
                    c.call("pthread_cond_broadcast", I32, [self._at(c, "wake")])
                with c.else_(), c.for_range(0, needed, type=I32):
                    c.call("pthread_cond_signal", I32, [self._at(c, "wake")])

        c.call(self.run_pieces, args=[slot, const(I32, 0)])
        c.atomic_store(CLOSING, state, I32)
        with c.if_(c.ne(c.atomic_load(c.field(SLOT, slot, "inside"), I32), 0)):
            c.call(self.wait_for_workers, args=[slot, ctx])
        status = c.var(I32, 0)
        with c.if_(c.ne(c.atomic_load(c.field(SLOT, slot, "interrupted"), I32), 0), likely=False):
            status.set(STATUS_INTERRUPTED)
        with c.else_():
            status.set(c.get(SLOT, slot, "status"))
            with c.if_(c.ne(status.get(), 0), likely=False):
                c.copy(ctx, c.field(SLOT, slot, "detail"), 32)
        c.atomic_store(FREE, state, I32)
        c.ret(status.get())


RECORD_BYTES = 128
SLOT_BYTES = 256 + MAX_THREADS * RECORD_BYTES
