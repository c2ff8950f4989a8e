"""The memory of result arrays: NumPy's memory handlers (NEP 49), as emitted functions, and new arrays that use them.

A result owns its data like any array, and NumPy frees it through the handler that the array names. `small` is
CPython's allocator, which is quicker than asking NumPy for the handler in force at every call; `pool` is the large
buffers of `codegen/buffers.py`, with a word before the data that keeps the size: `realloc` needs it and NumPy does not
tell.

Invariant: an array's handler is the one that its data came from. Both run under the GIL, as NumPy promises.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.buffers import BUFFER_ACQUIRE, BUFFER_RELEASE
from stager.codegen.declarations import I32, I64, NULL, PTR, VOID, Value, external_data
from stager.codegen.entry_objects import Objects, checked_mul
from stager.codegen.structured import Code
from stager.ir.entry_table import NUMPY_ALIGNED, NUMPY_C_CONTIGUOUS, NUMPY_OWNDATA, NUMPY_WRITEABLE, POOL_ABOVE_BYTES

HEADER = 2048 + 64
"""Before the data of a pooled result; keeps the alignment of the pool. Half a page: NumPy's own large arrays begin 16
bytes into a page, and where a result begins a little further on, loads take what was stored a moment ago at another
page's same place for their own and wait for it."""


def emit_memory(module: Any, o: Objects) -> None:
    """The handlers' functions, and

    new_array(descr, ndim, shape, nbytes) -> a new C-contiguous array; nbytes < 0: NumPy will refuse the shape.
    """
    _emit_small(module)
    _emit_pool(module)
    _emit_new_array(module, o)


def _emit_small(module: Any) -> None:
    c = Code(module, "stager_entry_small_malloc", PTR, [("ctx", PTR), ("size", I64)])
    c.ret(c.call("PyObject_Malloc", PTR, [c.arg("size")]))
    c.finish()
    c = Code(module, "stager_entry_small_calloc", PTR, [("ctx", PTR), ("count", I64), ("size", I64)])
    c.ret(c.call("PyObject_Calloc", PTR, [c.arg("count"), c.arg("size")]))
    c.finish()
    c = Code(module, "stager_entry_small_realloc", PTR, [("ctx", PTR), ("data", PTR), ("size", I64)])
    c.ret(c.call("PyObject_Realloc", PTR, [c.arg("data"), c.arg("size")]))
    c.finish()
    c = Code(module, "stager_entry_small_free", VOID, [("ctx", PTR), ("data", PTR), ("size", I64)])
    c.call("PyObject_Free", VOID, [c.arg("data")])
    c.finish()


def _emit_pool(module: Any) -> None:
    c = Code(module, "stager_entry_pool_malloc", PTR, [("ctx", PTR), ("size", I64)])
    made = c.call(BUFFER_ACQUIRE, PTR, [c.add(c.arg("size"), HEADER)])
    c.ret_if(c.is_null(made), None)
    c.store(c.arg("size"), made)
    c.ret(c.offset(made, HEADER))
    malloc = c.finish()

    c = Code(module, "stager_entry_pool_calloc", PTR, [("ctx", PTR), ("count", I64), ("size", I64)])
    total, overflow = checked_mul(c, c.arg("count"), c.arg("size"))
    c.ret_if(overflow, None)
    made = c.call(malloc, args=[c.arg("ctx"), total])
    with c.if_(c.not_null(made)):
        c.fill(made, 0, total)
    c.ret(made)
    c.finish()

    c = Code(module, "stager_entry_pool_free", VOID, [("ctx", PTR), ("data", PTR), ("size", I64)])
    with c.if_(c.not_null(c.arg("data"))):
        start = c.offset(c.arg("data"), -HEADER)
        c.call(BUFFER_RELEASE, VOID, [start, c.add(c.load(start, I64), HEADER)])
    free = c.finish()

    c = Code(module, "stager_entry_pool_realloc", PTR, [("ctx", PTR), ("data", PTR), ("size", I64)])
    made = c.call(malloc, args=[c.arg("ctx"), c.arg("size")])
    with c.if_(c.and_(c.not_null(made), c.not_null(c.arg("data")))):
        old = c.load(c.offset(c.arg("data"), -HEADER), I64)
        c.copy(made, c.arg("data"), c.min(old, c.arg("size")))
        c.call(free, args=[c.arg("ctx"), c.arg("data"), old])
    c.ret(made)
    c.finish()


def _emit_new_array(module: Any, o: Objects) -> None:
    c = Code(
        module, "stager_entry_new_array", PTR, [("descr", PTR), ("ndim", I32), ("shape", PTR), ("nbytes", I64)],
        linkage="internal",
    )  # fmt: skip
    descr, nbytes = c.arg("descr"), c.arg("nbytes")
    type = external_data(module, "stager_numpy_PyArray_Type")

    def make(data: Value, flags: int) -> Value:
        o.incref(c, descr)  # NewFromDescr takes it over
        return c.call(
            "stager_numpy_PyArray_NewFromDescr", PTR,
            [type, descr, c.arg("ndim"), c.arg("shape"), NULL, data, c.as_type(flags, I32), NULL],
        )  # fmt: skip

    with c.if_(c.lt(nbytes, 0), likely=False):
        c.ret(make(NULL, 0))
    data, handler = c.var(PTR), c.var(PTR)
    large = c.ge(nbytes, POOL_ABOVE_BYTES)
    with c.if_(large, likely=False):
        data.set(c.call(module.globals["stager_entry_pool_malloc"], args=[NULL, nbytes]))
        handler.set(c.load(external_data(module, "stager_entry_pool_handler", PTR), PTR))
    with c.else_():
        data.set(c.call("PyObject_Malloc", PTR, [c.max(nbytes, 1)]))
        handler.set(c.load(external_data(module, "stager_entry_small_handler", PTR), PTR))
    with c.if_(c.is_null(data.get()), likely=False):
        c.call("PyErr_NoMemory", PTR)
        c.ret(NULL)
    x = make(data.get(), NUMPY_WRITEABLE | NUMPY_ALIGNED | NUMPY_C_CONTIGUOUS)
    with c.if_(c.is_null(x), likely=False):
        with c.if_(large):
            c.call(module.globals["stager_entry_pool_free"], args=[NULL, data.get(), nbytes])
        with c.else_():
            c.call("PyObject_Free", VOID, [data.get()])
        c.ret(NULL)
    o.incref(c, handler.get())
    c.store(handler.get(), c.offset(x, o.layout.array_handler))
    at = c.offset(x, o.layout.array_flags)
    c.store(c.or_(c.load(at, I32), NUMPY_OWNDATA), at)
    c.ret(x)
    c.finish()
