"""The pool's memory and what every function of the pool is written with. How it works is told in `codegen/pool.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stager.codegen.declarations import I32, I64, PTR, RARE, VOID, Struct, array, const, global_data
from stager.codegen.structured import Code
from stager.codegen.target import Pthreads
from stager.ir.abi import PARALLEL_BRIEF, PARALLEL_FOR

MAX_THREADS = 128  # participants of one region
SLOTS = 4  # regions that run at the same time on workers; further callers run serially
SHORT_NS = 2_000  # pieces that take less than this are not each followed by a look at the clock
MOST_SKIPPED = 7
SPIN_NS = 100_000  # how long a worker that has run dry looks for work before it sleeps
LATE_NS = 1_000_000  # a brief region that takes longer waits for a worker whose processor another program has
CROWDED_NS = 50_000_000  # for so long brief regions do without workers then
POLL_NS = 5_000_000  # how often a caller asks ctx->poll between pieces
STACK_BYTES = 8 << 20  # musl's default is too small for kernels with big frames

POOL_THREADS, POOL_SET_THREADS, POOL_STOP = "stager_pool_threads", "stager_pool_set_threads", "stager_pool_stop"
EXPORTS = (PARALLEL_FOR, PARALLEL_BRIEF, POOL_THREADS, POOL_SET_THREADS, POOL_STOP)

FREE, CLAIMED, ACTIVE, CLOSING = range(4)

# pthread_mutex_t, pthread_cond_t, pthread_attr_t, sigset_t and cpu_set_t are opaque here: 128 bytes hold each of them
# on every target (the largest, sigset_t and cpu_set_t of Linux, have exactly 128).
OPAQUE = array(I64, 16)

CONTEXT = Struct(detail=array(I64, 4), threads=I32, interrupted=I32, allocate=PTR, user=PTR, poll=PTR)

# When a participant polled and when it looked at the clock; how many pieces it goes on without, of how many at a time.
LOOKS = Struct(polled=I64, looked=I64, skip=I64, often=I64)
LOOKS_BYTES = 32

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
    pad=array(I32, 5),
    crowded=I64,  # until when brief regions run serially; 0: they do not
    mutex=OPAQUE,
    wake=OPAQUE,
    done=OPAQUE,
    handles=array(I64, MAX_THREADS),
    slots=array(SLOT.type, SLOTS),
)

RECORD_BYTES = 128
SLOT_BYTES = 256 + MAX_THREADS * RECORD_BYTES


class PoolState:
    """Emits the small functions that the others call: the clock, and whether to ask the caller."""

    def __init__(self, module: Any, system: Pthreads, pause: tuple[str, tuple[int, ...]] | None) -> None:
        self.module, self.system, self.pause = module, system, pause
        self.state = global_data(module, "pool", POOL, align=128)
        self.now = self._emit_now()
        self.poll_due = self._emit_poll_due()

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
        """Ask ctx->poll when POLL_NS have passed since the last time: its answer, else 0. `looks`: see LOOKS.

        A look at the clock takes as long as a short piece of a loop, so it is not taken at every one of those.
        """
        c = self._code("poll_due", I32, ("ctx", PTR), ("looks", PTR))
        ctx, looks = c.arg("ctx"), c.arg("looks")
        c.ret_if(c.ne(c.atomic_load(c.field(CONTEXT, ctx, "interrupted"), I32, "monotonic"), 0), 1)
        poll = c.get(CONTEXT, ctx, "poll")
        c.ret_if(c.is_null(poll), 0)
        skip = c.get(LOOKS, looks, "skip")
        with c.if_(c.gt(skip, 0)):
            c.put(LOOKS, looks, "skip", c.sub(skip, 1))
            c.ret(0)
        now = c.call(self.now)
        looked, often = c.get(LOOKS, looks, "looked"), c.get(LOOKS, looks, "often")
        short = c.lt(c.sub(now, looked), c.mul(c.add(often, 1), SHORT_NS))
        often = c.select(short, c.min(c.add(c.mul(often, 2), 1), MOST_SKIPPED), const(I64, 0))
        c.put(LOOKS, looks, "often", often)
        c.put(LOOKS, looks, "skip", often)
        c.put(LOOKS, looks, "looked", now)
        with c.if_(c.eq(c.get(LOOKS, looks, "polled"), 0)):
            c.put(LOOKS, looks, "polled", now)
        c.ret_if(c.lt(c.sub(now, c.get(LOOKS, looks, "polled")), POLL_NS), 0)
        c.put(LOOKS, looks, "polled", now)
        c.ret(c.call_pointer(poll, I32, [ctx]))
        return c.finish()
