"""The pool's workers: how pieces of a region are taken and run, and how threads start, wait, sleep and stop."""

from __future__ import annotations

from typing import Any

from stager.codegen.declarations import I32, I64, NULL, PTR, RARE, VOID, const
from stager.codegen.pool_count import PoolCount
from stager.codegen.pool_state import (
    ACTIVE,
    CONTEXT,
    LOOKS,
    LOOKS_BYTES,
    OPAQUE,
    POOL_STOP,
    RECORD,
    SLOT,
    SLOT_BYTES,
    SLOTS,
    STACK_BYTES,
)
from stager.codegen.structured import Code
from stager.ir.abi import STATUS_INTERRUPTED


class PoolWorkers(PoolCount):
    """Emits what a participant of a region runs, the caller's part included."""

    def emit_workers(self) -> None:
        self.take = self._emit_take()
        self.interrupt = self._emit_interrupt()
        self.fail = self._emit_fail()
        self.run_pieces = self._emit_run_pieces()
        self.join_region = self._emit_join_region()
        self.worker = self._emit_worker()
        self.keep_off = self._emit_keep_off() if self.system.has_affinity else None
        self.lock = self._emit_lock()
        self.ensure_workers = self._emit_ensure_workers()

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
        looks = c.alloca(LOOKS, align=8)
        c.fill(looks, 0, LOOKS_BYTES)
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
            with c.if_(c.ne(c.call(self.poll_due, args=[ctx, looks]), 0), likely=False):
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
