"""The thread pool, as an LLVM module: one per process (JIT) or per built library, over pthreads and libc alone.

    i32  stager_parallel_for(Context *, body, i64 n, i64 grain, void *env)   as ir/abi.py says
    i32  stager_parallel_brief(...)       the same for short regions
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

from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I32, I64, NULL, PTR, VOID, array, const
from stager.codegen.pool_state import (
    ACTIVE,
    CLAIMED,
    CLOSING,
    CONTEXT,
    CROWDED_NS,
    FREE,
    LATE_NS,
    LOOKS,
    LOOKS_BYTES,
    MAX_THREADS,
    POLL_NS,
    POOL_SET_THREADS,
    POOL_STOP,
    POOL_THREADS,
    RECORD,
    SLOT,
    SLOTS,
)
from stager.codegen.pool_workers import PoolWorkers
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.abi import CONTEXT_BYTES, PARALLEL_BRIEF, PARALLEL_FOR, STATUS_INTERRUPTED

# What tells a core that it spins: an intrinsic and its arguments (aarch64 makes a no-op of `yield`, `isb` waits).
PAUSE: dict[str, tuple[str, tuple[int, ...]]] = {
    "x86_64": ("llvm.x86.sse2.pause", ()),
    "aarch64": ("llvm.aarch64.isb", (15,)),
}

ARGUMENTS = ("ctx", "body", "n", "grain", "env")


def emit_pool(target: Target) -> Any:
    """The module with the functions of `EXPORTS` for a target."""
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
    for name in (PARALLEL_FOR, PARALLEL_BRIEF):
        c = _parallel_for(module, name)
        c.ret(c.call(run_serially, args=[c.arg(x) for x in ARGUMENTS]))
        c.finish()
    c = Code(module, POOL_THREADS, I32, [])
    c.ret(1)
    c.finish()
    Code(module, POOL_SET_THREADS, VOID, [("n", I32)]).finish()
    Code(module, POOL_STOP, VOID, []).finish()


def _parallel_for(module: Any, name: str = PARALLEL_FOR) -> Code:
    return Code(module, name, I32, [("ctx", PTR), ("body", PTR), ("n", I64), ("grain", I64), ("env", PTR)])


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
    looks = c.alloca(LOOKS, align=8)
    c.fill(looks, 0, LOOKS_BYTES)
    begin = c.var(I64, 0)
    with c.while_(lambda: c.lt(begin.get(), n)):
        left = c.sub(n, begin.get())
        end = c.select(c.lt(grain, left), c.add(begin.get(), grain), n)
        status = c.call_pointer(c.arg("body"), I32, [ctx, begin.get(), end, c.arg("env")])
        c.ret_if(c.ne(status, 0), status)
        begin.set(end)
        if poll_due is not None:
            with c.if_(c.and_then(c.lt(end, n), lambda: c.ne(c.call(poll_due, args=[ctx, looks]), 0))):
                c.ret(STATUS_INTERRUPTED)
    c.ret(0)
    return c.finish()


class _Pool(PoolWorkers):
    """Emits the functions of one pool module, leaves first."""

    def emit(self) -> None:
        self.run_serially = _emit_run_serially(self.module, self.poll_due)
        self.emit_workers()
        self.emit_count()
        self._emit_stop()
        self.wait_for_workers = self._emit_wait_for_workers()
        self._emit_parallel_for()
        self._emit_parallel_brief()

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

    def _emit_parallel_brief(self) -> None:
        """A worker that another program keeps from its piece holds the caller up for a slice of the scheduler, a
        hundred times what a brief region takes. One such wait tells that the processors are not free, for a while."""
        c = _parallel_for(self.module, PARALLEL_BRIEF)
        arguments = [c.arg(name) for name in ARGUMENTS]
        run = self.module.globals[PARALLEL_FOR]
        with c.if_(c.eq(c.get(CONTEXT, c.arg("ctx"), "threads"), 1)):
            c.ret(c.call(run, args=arguments))
        crowded = self._at(c, "crowded")
        until, start = c.atomic_load(crowded, I64, "monotonic"), c.call(self.now)
        with c.if_(c.gt(until, start), likely=False):
            c.ret(c.call(self.run_serially, args=arguments))
        status = c.call(run, args=arguments)
        end = c.call(self.now)
        with c.if_(c.gt(c.sub(end, start), LATE_NS), likely=False):
            c.atomic_store(c.add(end, CROWDED_NS), crowded, I64, "monotonic")
        c.ret(status)
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
