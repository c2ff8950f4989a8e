"""How many threads a region of the pool uses: what was set, the environment, the affinity mask, the cgroup's quota."""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I32, I64, NULL, PTR, RARE, VOID, array, const
from stager.codegen.pool_state import MAX_THREADS, OPAQUE, POOL_SET_THREADS, POOL_THREADS, PoolState
from stager.codegen.structured import Code


class PoolCount(PoolState):
    """Emits the functions that find out, set and tell the number."""

    def emit_count(self) -> None:
        self.read_number = self._emit_read_number()
        self.detect = self._emit_detect()
        self._emit_threads()
        self._emit_set_threads()

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
