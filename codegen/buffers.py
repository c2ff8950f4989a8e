"""Large result buffers and scratch arenas, as an LLVM module over libc alone.

    void *stager_buffer_acquire(i64 size)             64-byte aligned, not zeroed; null when there is no memory
    void  stager_buffer_release(void *, i64 size)     `size` as it was acquired
    void *stager_arena_acquire(i64 size)              the same for scratch of one call: small sizes cost no malloc
    void  stager_arena_release(void *, i64 size)
    void *stager_tape_grow(void *, i64 kept, i64 size)
    void  stager_tape_free(void *)                    tapes of loops that grow (`growth.py`)
    i64   stager_tape_room(i64 size)
    void  stager_buffer_set_limit(i64 bytes)          how much freed memory is kept for reuse
    i64   stager_buffer_kept(void)                    how much is kept now
    void  stager_buffer_trim(void)                    gives all of it back to the system

Why: fresh pages cost more than most kernels that fill them. Buffers from POOLED_BYTES on are mapped by themselves,
2 MiB aligned and with huge-page advice, and kept when freed, newest first, up to the limit.

Invariants: the capacity of a buffer follows from its size alone, so that `release` needs no header; the list of kept
buffers changes under one lock, which names its process, so that a child of fork can tell that the holder is not there.
Not here: who owns a buffer (the entry's memory handler does) and zeroing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I1, I32, I64, NULL, PTR, VOID, Struct, array, const, global_data
from stager.codegen.growth import TAPE_FREE, TAPE_GROW, TAPE_ROOM
from stager.codegen.structured import Code
from stager.codegen.target import Mapping, Target

POOLED_BYTES = 128 * 1024  # from here on a buffer has its own mapping
HUGE_BYTES = 2 << 20
PAGE_BYTES = 16384  # the largest base page of a target (macOS)
ALIGN = 64
KEPT_ENTRIES = 64
DEFAULT_LIMIT = 256 << 20
ARENA_SLOTS = 16  # idle scratch blocks of POOLED_BYTES each
HEADER = ALIGN  # before a tape: the bytes that it takes
ROOM = 1024  # a tape moves into what is kept up to so many times as large as it has to be: growing on costs more

BUFFER_ACQUIRE, BUFFER_RELEASE = "stager_buffer_acquire", "stager_buffer_release"
ARENA_ACQUIRE, ARENA_RELEASE = "stager_arena_acquire", "stager_arena_release"
BUFFER_SET_LIMIT, BUFFER_KEPT, BUFFER_TRIM = "stager_buffer_set_limit", "stager_buffer_kept", "stager_buffer_trim"
EXPORTS = (
    BUFFER_ACQUIRE, BUFFER_RELEASE, ARENA_ACQUIRE, ARENA_RELEASE, TAPE_GROW, TAPE_FREE, TAPE_ROOM,
    BUFFER_SET_LIMIT, BUFFER_KEPT, BUFFER_TRIM,
)  # fmt: skip

KEPT = Struct(data=PTR, capacity=I64)
STATE = Struct(
    lock=I32,  # the pid of its holder
    count=I32,
    total=I64,
    limit=I64,
    pad=array(I64, 5),
    kept=array(KEPT.type, KEPT_ENTRIES),  # oldest first
    arenas=array(I64, ARENA_SLOTS),  # addresses
)


def capacity_of(size: int) -> int:
    """How many bytes are mapped for a pooled buffer of `size`: eight steps per power of two, in whole pages."""
    step = max(1 << (max(size - 1, 1).bit_length() - 4), PAGE_BYTES)
    return (size + step - 1) // step * step


def emit_buffers(target: Target) -> Any:
    """The module with the functions of `EXPORTS` for a target."""
    module = ir.Module("stager_buffers")
    module.triple = target.triple
    module.data_layout = target.data_layout
    _Buffers(module, target).emit()
    return module


class _Buffers:
    def __init__(self, module: Any, target: Target) -> None:
        self.module, self.system = module, target.system
        self.size_type = ir.IntType(target.pointer_bits)
        self.state = global_data(module, "buffers", STATE, align=64)

    def emit(self) -> None:
        self.small_acquire = self._emit_small_acquire()
        self.small_release = self._emit_small_release()
        if self.system.mapping is None:
            self._emit_unpooled()
        else:
            self.lock = self._emit_lock()
            self.capacity = self._emit_capacity()
            self.map = self._emit_map(self.system.mapping)
            self.evict = self._emit_evict()
            self._emit_bounds()
            self._emit_acquire()
            self._emit_release()
        self._emit_arena()
        self._emit_tapes()

    def _at(self, c: Code, field: str) -> Any:
        return c.field(STATE, self.state, field)

    def _kept(self, c: Code, index: Any) -> Any:
        return c.element(self._at(c, "kept"), KEPT, c.zext(index, I64))

    # --- small sizes: libc's malloc

    def _emit_small_acquire(self) -> Any:
        c = Code(self.module, "small_acquire", PTR, [("size", I64)], linkage="internal")
        size = c.and_(c.add(c.max(c.arg("size"), 1), ALIGN - 1), -ALIGN)
        if self.size_type.width < 64:
            c.ret_if(c.gt(size, (1 << 32) - 1), None)
        arguments = [const(self.size_type, ALIGN), c.to(size, self.size_type)]
        c.ret(c.call(self.system.aligned_alloc, PTR, arguments[::-1] if self.system.size_first else arguments))
        return c.finish()

    def _emit_small_release(self) -> Any:
        c = Code(self.module, "small_release", VOID, [("data", PTR)], linkage="internal")
        c.call(self.system.aligned_free, VOID, [c.arg("data")])
        return c.finish()

    def _emit_unpooled(self) -> None:
        c = Code(self.module, BUFFER_ACQUIRE, PTR, [("size", I64)])
        c.ret(c.call(self.small_acquire, args=[c.arg("size")]))
        c.finish()
        c = Code(self.module, BUFFER_RELEASE, VOID, [("data", PTR), ("size", I64)])
        c.call(self.small_release, args=[c.arg("data")])
        c.finish()
        Code(self.module, BUFFER_SET_LIMIT, VOID, [("bytes", I64)]).finish()
        c = Code(self.module, BUFFER_KEPT, I64, [])
        c.ret(0)
        c.finish()
        Code(self.module, BUFFER_TRIM, VOID, []).finish()

    # --- the list of kept buffers

    def _emit_lock(self) -> Any:
        c = Code(self.module, "lock_buffers", VOID, [], linkage="internal")
        lock = self._at(c, "lock")
        me = c.call(self.system.getpid, I32)
        with c.loop():
            holder, taken = c.compare_exchange(lock, 0, me, I32)
            c.break_if(taken)
            with c.if_(c.ne(holder, me)):
                _, taken = c.compare_exchange(lock, holder, me, I32)
                with c.if_(taken):  # forked while another thread was changing the list: it may be half changed
                    c.put(STATE, self.state, "count", 0)
                    c.put(STATE, self.state, "total", 0)
                    c.break_()
            c.call("sched_yield", I32)
        c.ret()
        return c.finish()

    @contextmanager
    def _locked(self, c: Code) -> Iterator[None]:
        """Around code that neither returns nor jumps away."""
        c.call(self.lock)
        yield
        c.atomic_store(0, self._at(c, "lock"), I32)

    def _emit_capacity(self) -> Any:
        """`capacity_of`."""
        c = Code(self.module, "capacity", I64, [("size", I64)], linkage="internal")
        size = c.arg("size")
        bits = c.sub(64, c.b.ctlz(c.sub(size, 1), const(I1, 0)))
        step = c.max(c.shl(const(I64, 1), c.sub(bits, 4)), PAGE_BYTES)
        c.ret(c.and_(c.sub(c.add(size, step), 1), c.sub(0, step)))
        return c.finish()

    def _emit_map(self, mapping: Mapping) -> Any:
        """Fresh pages, 2 MiB aligned and with huge-page advice where they hold a huge page; null when refused."""
        c = Code(self.module, "map", PTR, [("capacity", I64)], linkage="internal")
        capacity = c.arg("capacity")
        huge = c.ge(capacity, HUGE_BYTES)
        slack = c.select(huge, const(I64, HUGE_BYTES), const(I64, 0))
        whole = c.add(capacity, slack)
        args = [NULL, whole, const(I32, 3), const(I32, mapping.flags), const(I32, -1), const(I64, 0)]
        base = c.call("mmap", PTR, args)
        address = c.b.ptrtoint(base, I64)
        c.ret_if(c.eq(address, -1), None)
        c.ret_if(c.not_(huge), base)
        head = c.and_(c.sub(0, address), HUGE_BYTES - 1)
        data = c.offset(base, head)
        with c.if_(c.ne(head, 0)):
            c.call("munmap", I32, [base, head])
        with c.if_(c.ne(head, HUGE_BYTES)):
            c.call("munmap", I32, [c.offset(data, capacity), c.sub(HUGE_BYTES, head)])
        if mapping.huge_advice is not None:
            c.call("madvise", I32, [data, capacity, const(I32, mapping.huge_advice)])
        c.ret(data)
        return c.finish()

    def _emit_evict(self) -> Any:
        """Give the oldest kept buffers back until at most `bytes` are kept and there is a free entry."""
        c = Code(self.module, "evict", VOID, [("bytes", I64)], linkage="internal")
        data, capacity = c.var(PTR), c.var(I64)
        with c.loop():
            data.set(NULL)
            with self._locked(c):
                count, total = c.get(STATE, self.state, "count"), c.get(STATE, self.state, "total")
                above = c.or_(c.gt(total, c.arg("bytes")), c.ge(count, KEPT_ENTRIES))
                with c.if_(c.and_(above, c.gt(count, 0))):
                    oldest = self._kept(c, const(I32, 0))
                    data.set(c.get(KEPT, oldest, "data"))
                    capacity.set(c.get(KEPT, oldest, "capacity"))
                    self._remove(c, const(I32, 0), capacity.get())
            c.break_if(c.is_null(data.get()))
            c.call("munmap", I32, [data.get(), capacity.get()])  # outside the lock: it takes long
        c.ret()
        return c.finish()

    def _remove(self, c: Code, index: Any, capacity: Any) -> None:
        count = c.sub(c.get(STATE, self.state, "count"), 1)
        with c.for_range(index, count, type=I32) as i:
            following = self._kept(c, c.add(i, 1))
            c.put(KEPT, self._kept(c, i), "data", c.get(KEPT, following, "data"))
            c.put(KEPT, self._kept(c, i), "capacity", c.get(KEPT, following, "capacity"))
        c.put(STATE, self.state, "count", count)
        c.put(STATE, self.state, "total", c.sub(c.get(STATE, self.state, "total"), capacity))

    def _emit_bounds(self) -> None:
        c = Code(self.module, "limit", I64, [], linkage="internal")
        stored = c.atomic_load(self._at(c, "limit"), I64, "monotonic")
        # stored as the bytes plus 1, so that the zeros it starts with stand for the default
        c.ret(c.select(c.eq(stored, 0), const(I64, DEFAULT_LIMIT), c.sub(stored, 1)))
        self.limit = c.finish()
        c = Code(self.module, BUFFER_SET_LIMIT, VOID, [("bytes", I64)])
        wanted = c.max(c.arg("bytes"), 0)
        c.atomic_store(c.add(wanted, 1), self._at(c, "limit"), I64, "monotonic")
        c.call(self.evict, args=[wanted])
        c.finish()
        c = Code(self.module, BUFFER_KEPT, I64, [])
        c.ret(c.atomic_load(self._at(c, "total"), I64, "monotonic"))
        c.finish()
        c = Code(self.module, BUFFER_TRIM, VOID, [])
        c.call(self.evict, args=[const(I64, 0)])
        with c.for_range(0, ARENA_SLOTS) as i:
            block = c.atomic_rmw("xchg", c.element(self._at(c, "arenas"), I64, i), 0, I64)
            c.call(self.small_release, args=[c.b.inttoptr(block, PTR)])
        c.finish()

    def _emit_acquire(self) -> None:
        c = Code(self.module, BUFFER_ACQUIRE, PTR, [("size", I64)])
        size = c.arg("size")
        with c.if_(c.lt(size, POOLED_BYTES)):
            c.ret(c.call(self.small_acquire, args=[size]))
        c.ret_if(c.gt(size, 1 << 62), None)
        capacity = c.call(self.capacity, args=[size])
        found = c.var(PTR, NULL)
        with self._locked(c):
            last = c.sub(c.get(STATE, self.state, "count"), 1)
            with c.for_range(last, -1, -1, type=I32) as i:
                fits = c.eq(c.get(KEPT, self._kept(c, i), "capacity"), capacity)
                with c.if_(fits):
                    found.set(c.get(KEPT, self._kept(c, i), "data"))
                    self._remove(c, i, capacity)
                    c.break_()
        c.ret_if(c.not_null(found.get()), found.get())
        found.set(c.call(self.map, args=[capacity]))
        with c.if_(c.is_null(found.get())):  # what is kept may be what is missing
            c.call(self.evict, args=[const(I64, 0)])
            found.set(c.call(self.map, args=[capacity]))
        c.ret(found.get())
        c.finish()

    def _emit_release(self) -> None:
        c = Code(self.module, BUFFER_RELEASE, VOID, [("data", PTR), ("size", I64)])
        data, size = c.arg("data"), c.arg("size")
        c.ret_if(c.is_null(data))
        with c.if_(c.lt(size, POOLED_BYTES)):
            c.call(self.small_release, args=[data])
            c.ret()
        capacity = c.call(self.capacity, args=[size])
        limit = c.call(self.limit)
        with c.if_(c.gt(capacity, limit)):
            c.call("munmap", I32, [data, capacity])
            c.ret()
        with c.loop():
            kept = c.var(I32, 0)
            with self._locked(c):
                count, total = c.get(STATE, self.state, "count"), c.get(STATE, self.state, "total")
                with c.if_(c.and_(c.lt(count, KEPT_ENTRIES), c.le(c.add(total, capacity), limit))):
                    entry = self._kept(c, count)
                    c.put(KEPT, entry, "data", data)
                    c.put(KEPT, entry, "capacity", capacity)
                    c.put(STATE, self.state, "count", c.add(count, 1))
                    c.put(STATE, self.state, "total", c.add(total, capacity))
                    kept.set(1)
            c.ret_if(c.ne(kept.get(), 0))
            c.call(self.evict, args=[c.sub(limit, capacity)])
        c.finish()

    # --- arenas

    def _emit_arena(self) -> None:
        """Small arenas are blocks of one size, so that any idle block serves, taken and given back by one exchange."""
        c = Code(self.module, ARENA_ACQUIRE, PTR, [("size", I64)])
        size = c.arg("size")
        with c.if_(c.gt(size, POOLED_BYTES)):
            c.ret(c.call(self.module.globals[BUFFER_ACQUIRE], args=[size]))
        with c.for_range(0, ARENA_SLOTS) as i:
            slot = c.element(self._at(c, "arenas"), I64, i)
            with c.if_(c.ne(c.atomic_load(slot, I64, "monotonic"), 0)):
                block = c.atomic_rmw("xchg", slot, 0, I64)
                c.ret_if(c.ne(block, 0), c.b.inttoptr(block, PTR))
        c.ret(c.call(self.small_acquire, args=[const(I64, POOLED_BYTES)]))
        c.finish()
        c = Code(self.module, ARENA_RELEASE, VOID, [("data", PTR), ("size", I64)])
        data, size = c.arg("data"), c.arg("size")
        c.ret_if(c.is_null(data))
        with c.if_(c.gt(size, POOLED_BYTES)):
            c.call(self.module.globals[BUFFER_RELEASE], args=[data, size])
            c.ret()
        with c.for_range(0, ARENA_SLOTS) as i:
            slot = c.element(self._at(c, "arenas"), I64, i)
            empty = c.eq(c.atomic_load(slot, I64, "monotonic"), 0)
            with c.if_(c.and_then(empty, lambda: c.compare_exchange(slot, 0, c.b.ptrtoint(data, I64), I64)[1])):
                c.ret()
        c.call(self.small_release, args=[data])
        c.finish()

    # --- tapes

    def _emit_tapes(self) -> None:
        acquire, release = self.module.globals[BUFFER_ACQUIRE], self.module.globals[BUFFER_RELEASE]
        c = Code(self.module, TAPE_FREE, VOID, [("tape", PTR)])
        c.ret_if(c.is_null(c.arg("tape")))
        start = c.offset(c.arg("tape"), -HEADER)
        c.call(release, args=[start, c.load(start, I64)])
        free = c.finish()
        c = Code(self.module, TAPE_GROW, PTR, [("tape", PTR), ("kept", I64), ("size", I64)])
        size = c.add(c.arg("size"), HEADER)
        made = c.call(acquire, args=[size])
        c.ret_if(c.is_null(made), None)
        c.store(size, made)
        with c.if_(c.not_null(c.arg("tape"))):
            c.copy(c.offset(made, HEADER), c.arg("tape"), c.arg("kept"))
            c.call(free, args=[c.arg("tape")])
        c.ret(c.offset(made, HEADER))
        c.finish()
        c = Code(self.module, TAPE_ROOM, I64, [("size", I64)])
        best = c.var(I64, c.arg("size"))
        if self.system.mapping is not None:
            with c.if_(c.ge(c.arg("size"), POOLED_BYTES)):
                most = c.mul(c.arg("size"), ROOM)
                with self._locked(c), c.for_range(0, c.get(STATE, self.state, "count"), type=I32) as i:
                    room = c.sub(c.get(KEPT, self._kept(c, i), "capacity"), HEADER)
                    better = c.and_(c.gt(room, best.get()), c.le(room, most))
                    best.set(c.select(better, room, best.get()))
        c.ret(best.get())
        c.finish()
