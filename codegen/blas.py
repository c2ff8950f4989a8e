"""Holding BLAS to the threads of the call, as an LLVM module: around every BLAS call that compiled code makes.

    i32  stager_blas_enter(Context *)    non-zero when stager_blas_leave must follow the BLAS calls
    void stager_blas_leave(void)

BLAS keeps one thread count for the process. Enter sets it to what the context allows (else to the pool's default) when
it is another; the count that the first of several overlapping calls met is put back by the last of them. A body of a
parallel region has a context of one thread, so BLAS does not start threads within threads.

Invariant: where BLAS already has the right count, nothing is written. Not here: the BLAS functions, which are called
directly by the names of `runtime/blas.py`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I32, PTR, VOID, Struct, global_data
from stager.codegen.pool_state import CONTEXT, POOL_THREADS
from stager.codegen.structured import Code
from stager.codegen.target import Target

BLAS_ENTER, BLAS_LEAVE = "stager_blas_enter", "stager_blas_leave"
GET_THREADS, SET_THREADS = "stager_blas_get_threads", "stager_blas_set_threads"
EXPORTS = (BLAS_ENTER, BLAS_LEAVE)
EXTERNALS = (GET_THREADS, SET_THREADS, POOL_THREADS)

STATE = Struct(lock=I32, depth=I32, before=I32)  # lock: the pid of its holder


def emit_blas_threads(target: Target, threads: tuple[str, str] | None = (GET_THREADS, SET_THREADS)) -> Any:
    """The module with the functions of `EXPORTS`; it needs those of `EXTERNALS`.

    `threads`: what the functions are called that read and set BLAS's thread count; None where it has none to hold.
    """
    module = ir.Module("stager_blas_threads")
    module.triple = target.triple
    module.data_layout = target.data_layout
    if threads is None:
        c = Code(module, BLAS_ENTER, I32, [("ctx", PTR)])
        c.ret(0)
        c.finish()
        Code(module, BLAS_LEAVE, VOID, []).finish()
        return module
    get_threads, set_threads = threads
    state = global_data(module, "blas_threads", STATE)
    lock = _emit_lock(module, state, target.system.getpid, yields=target.system.pthreads is not None)

    c = Code(module, BLAS_ENTER, I32, [("ctx", PTR)])
    wanted = c.var(I32)
    wanted.set(c.get(CONTEXT, c.arg("ctx"), "threads"))
    with c.if_(c.le(wanted.get(), 0)):
        wanted.set(c.call(POOL_THREADS, I32))
    c.ret_if(c.eq(c.call(get_threads, I32), wanted.get()), 0)
    c.call(lock)
    depth = c.get(STATE, state, "depth")
    with c.if_(c.eq(depth, 0)):
        c.put(STATE, state, "before", c.call(get_threads, I32))
    c.put(STATE, state, "depth", c.add(depth, 1))
    c.call(set_threads, VOID, [wanted.get()])
    c.atomic_store(0, c.field(STATE, state, "lock"), I32)
    c.ret(1)
    c.finish()

    c = Code(module, BLAS_LEAVE, VOID, [])
    c.call(lock)
    depth = c.sub(c.get(STATE, state, "depth"), 1)
    c.put(STATE, state, "depth", depth)
    with c.if_(c.eq(depth, 0)):
        c.call(set_threads, VOID, [c.get(STATE, state, "before")])
    c.atomic_store(0, c.field(STATE, state, "lock"), I32)
    c.finish()
    return module


def _emit_lock(module: Any, state: Any, getpid: str, *, yields: bool) -> Any:
    """Take the lock. In a child of fork its holder, and the calls it counted, are not there: counting starts over."""
    c = Code(module, "lock_blas_threads", VOID, [], linkage="internal")
    lock = c.field(STATE, state, "lock")
    me = c.call(getpid, I32)
    with c.loop():
        holder, taken = c.compare_exchange(lock, 0, me, I32)
        c.break_if(taken)
        with c.if_(c.ne(holder, me)):
            _, taken = c.compare_exchange(lock, holder, me, I32)
            with c.if_(taken):
                c.put(STATE, state, "depth", 0)
                c.break_()
        if yields:
            c.call("sched_yield", I32)
    c.ret()
    return c.finish()
