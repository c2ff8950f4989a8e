"""From a match to the result in the native entry: outputs, the call of the kernel, its status, the result object.

Invariant: between the allocation of the outputs and their release nothing returns early; every path leaves through the
release at the end of `execute`. Not here: the registers, which belong to the caller of `execute`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.buffers import ARENA_ACQUIRE, ARENA_RELEASE
from stager.codegen.declarations import F64, I1, I8, I32, I64, NULL, PTR, VOID, Value, const, external_data
from stager.codegen.entry_objects import (
    CONTEXT,
    ENTRY_STRUCT,
    INSTRUCTION_STRUCT,
    OUTPUT_STRUCT,
    STATE,
    Objects,
    checked_mul,
)
from stager.codegen.structured import Code, Switch
from stager.ir.abi import CONTEXT_BYTES, STATUS_INTERRUPTED, STATUS_NO_MEMORY
from stager.ir.entry_table import (
    INSTRUCTION,
    NUMPY_WRITEABLE,
    RELEASE_ABOVE_NS,
    STACK_ARENA_BYTES,
    EntryFlags,
    Op,
    OutputKind,
    ScalarForm,
)

POLLS_OF_SHORT = 64  # so often a kernel that was thought short may poll before it lets go of the GIL
POLLS_SKIPPED = 8  # kernels poll every few ms; taking the GIL that often would slow the other threads down


def emit_execute(module: Any, o: Objects) -> None:
    """execute(entry, frame) -> the result, or NULL with an exception set."""
    _emit_allocate(module, o)
    _emit_poll(module)
    _emit_status(module, o)
    _emit_build(module, o)
    _Execute(module, o).emit()


def _emit_allocate(module: Any, o: Objects) -> None:
    """The context's `allocate`: the array of an output whose shape the kernel has just found."""
    c = Code(
        module, "stager_entry_allocate", PTR, [("ctx", PTR), ("output", I32), ("ndim", I64), ("shape", PTR)],
        linkage="internal",
    )  # fmt: skip
    state = c.get(CONTEXT, c.arg("ctx"), "user")
    entry = c.get(STATE, state, "entry")
    k = c.zext(c.arg("output"), I64)
    out = c.element(c.get(ENTRY_STRUCT, entry, "outputs"), OUTPUT_STRUCT, k)
    nbytes = c.var(I64, c.get(OUTPUT_STRUCT, out, "itemsize"))
    with c.for_range(0, c.arg("ndim")) as i:
        product, overflow = checked_mul(c, nbytes.get(), c.at(c.arg("shape"), I64, i))
        wrong = c.or_(c.or_(overflow, c.lt(product, 0)), c.lt(nbytes.get(), 0))
        nbytes.set(c.select(wrong, -1, product))
    thread = c.get(STATE, state, "thread")
    with c.if_(c.not_null(thread)):
        c.call("PyEval_RestoreThread", VOID, [thread])
    x = c.call(
        module.globals["stager_entry_new_array"],
        args=[c.get(OUTPUT_STRUCT, out, "descr"), c.to(c.arg("ndim"), I32), c.arg("shape"), nbytes.get()],
    )
    data = c.var(PTR, NULL)
    with c.if_(c.not_null(x)):
        inputs = c.zext(c.get(ENTRY_STRUCT, entry, "inputs"), I64)
        place = c.element(c.get(STATE, state, "objects"), PTR, c.add(inputs, k))
        before = c.load(place, PTR)
        c.store(x, place)
        data.set(o.data(c, x))
        with c.if_(c.not_null(before)):
            o.decref(c, before)
    with c.if_(c.not_null(thread)):
        c.put(STATE, state, "thread", c.call("PyEval_SaveThread", PTR))
    c.ret(data.get())
    c.finish()


def _emit_poll(module: Any) -> None:
    """The context's `poll`: runs pending signal handlers; non-zero when one raised.

    A kernel that was thought short and polls again and again is a long one: it lets go of the GIL.
    """
    c = Code(module, "stager_entry_poll", I32, [("ctx", PTR)], linkage="internal")
    state = c.get(CONTEXT, c.arg("ctx"), "user")
    thread = c.get(STATE, state, "thread")
    skipped = c.get(STATE, state, "skipped_polls")
    c.put(STATE, state, "skipped_polls", c.add(skipped, 1))
    with c.if_(c.is_null(thread)):
        stop = c.call("PyErr_CheckSignals", I32)
        c.ret_if(c.or_(c.ne(stop, 0), c.lt(skipped, POLLS_OF_SHORT)), stop)
        c.put(STATE, state, "thread", c.call("PyEval_SaveThread", PTR))
        c.ret(0)
    c.ret_if(c.lt(skipped, POLLS_SKIPPED), 0)
    c.put(STATE, state, "skipped_polls", 0)
    c.call("PyEval_RestoreThread", VOID, [thread])
    stop = c.call("PyErr_CheckSignals", I32)
    c.put(STATE, state, "thread", c.call("PyEval_SaveThread", PTR))
    c.ret(stop)
    c.finish()


def _emit_status(module: Any, o: Objects) -> None:
    """status(entry, ctx, status): sets the exception of a status."""
    c = Code(
        module, "stager_entry_status", VOID, [("entry", PTR), ("ctx", PTR), ("status", I32)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    status = c.arg("status")
    c.ret_if(c.not_null(c.call("PyErr_Occurred", PTR)))  # a callback or a signal handler raised
    with c.if_(c.eq(status, STATUS_INTERRUPTED)):
        c.call("PyErr_SetNone", VOID, [c.load(external_data(module, "PyExc_KeyboardInterrupt", PTR), PTR)])
        c.ret()
    with c.if_(c.eq(status, STATUS_NO_MEMORY)):
        c.call("PyErr_NoMemory", PTR)
        c.ret()
    details = ("detail0", "detail1", "detail2", "detail3")
    numbers = [c.to(status, I64), *(c.get(CONTEXT, c.arg("ctx"), d) for d in details)]
    arguments = c.alloca(ir.ArrayType(PTR, len(numbers)))
    failed = c.var(I1, 0)
    for i, value in enumerate(numbers):
        number = c.call("PyLong_FromLongLong", PTR, [value])
        failed.set(c.or_(failed.get(), c.is_null(number)))
        c.put_at(arguments, PTR, i, number)
    with c.if_(c.not_(failed.get())):
        answer = c.call(
            "PyObject_Vectorcall", PTR,
            [c.get(ENTRY_STRUCT, c.arg("entry"), "error"), arguments, const(I64, len(numbers)), NULL],
        )  # fmt: skip
        with c.if_(c.not_null(answer)):
            o.decref(c, answer)
            system_error = c.load(external_data(module, "PyExc_SystemError", PTR), PTR)
            c.call("PyErr_SetString", VOID, [system_error, c.string("a status of a compiled function raised nothing")])
    for i in range(len(numbers)):
        number = c.at(arguments, PTR, i)
        with c.if_(c.not_null(number)):
            o.decref(c, number)
    c.finish()


def _emit_build(module: Any, o: Objects) -> None:
    """build(entry, frame) -> what the build program makes."""
    c = Code(
        module, "stager_entry_build", PTR, [("entry", PTR), ("frame", PTR)], linkage="internal",
        attributes=("nounwind", "noinline"),
    )  # fmt: skip
    entry, frame = c.arg("entry"), c.arg("frame")
    inputs = c.zext(c.get(ENTRY_STRUCT, entry, "inputs"), I64)
    objects = c.offset(frame, c.zext(c.get(ENTRY_STRUCT, entry, "objects_at"), I64))
    results = c.element(objects, PTR, inputs)
    stack = c.offset(frame, c.zext(c.get(ENTRY_STRUCT, entry, "stack_at"), I64))
    depth = c.var(I64, 0)
    pc = c.var(PTR, c.get(ENTRY_STRUCT, entry, "build"))
    failed = c.label("failed")

    def at(field: str) -> Value:
        return c.get(INSTRUCTION_STRUCT, pc.get(), field)

    def push(value: Value) -> None:
        """Takes over a reference; null is an error."""
        c.goto_if(c.is_null(value), failed)
        c.put_at(stack, PTR, depth.get(), value)
        depth.set(c.add(depth.get(), 1))

    def push_borrowed(value: Value) -> None:
        o.incref(c, value)
        push(value)

    def count() -> Value:
        return c.zext(at("n"), I64)

    def top_items() -> Value:
        """The address of the n items on top, which leave the stack."""
        depth.set(c.sub(depth.get(), count()))
        return c.element(stack, PTR, depth.get())

    def release(items: Value, n: Value) -> None:
        with c.for_range(0, n) as i:
            o.decref(c, c.at(items, PTR, i))

    def cases(s: Switch) -> None:
        with s.case(Op.END):
            c.ret(c.load(stack, PTR))
        with s.case(Op.OUTPUT):
            push_borrowed(c.at(results, PTR, count()))
        with s.case(Op.REGISTER):
            push_borrowed(c.at(frame, PTR, count()))
        with s.case(Op.PUSH):
            push_borrowed(at("a"))
        with s.case(Op.MAKE_TUPLE):
            made = c.call("PyTuple_New", PTR, [count()])
            c.goto_if(c.is_null(made), failed)
            items = top_items()
            with c.for_range(0, count()) as i:
                o.put_tuple_item(c, made, i, c.at(items, PTR, i))
            push(made)
        with s.case(Op.MAKE_LIST):
            made = c.call("PyList_New", PTR, [count()])
            c.goto_if(c.is_null(made), failed)
            items, storage = top_items(), o.list_items(c, made)
            with c.for_range(0, count()) as i:
                c.put_at(storage, PTR, i, c.at(items, PTR, i))
            push(made)
        with s.case(Op.MAKE_DICT):
            made = c.call("PyDict_New", PTR)
            c.goto_if(c.is_null(made), failed)
            first = c.element(stack, PTR, c.sub(depth.get(), count()))
            wrong = c.var(I1, 0)
            with c.for_range(0, count()) as i:
                status = c.call("PyDict_SetItem", I32, [made, c.at(at("a"), PTR, i), c.at(first, PTR, i)])
                wrong.set(c.or_(wrong.get(), c.ne(status, 0)))
            with c.if_(wrong.get()):
                o.decref(c, made)
                c.goto(failed)
            release(top_items(), count())
            push(made)
        with s.case(Op.INVOKE):
            first = c.element(stack, PTR, c.sub(depth.get(), count()))
            names, n = at("b"), c.var(I64, count())
            with c.if_(c.not_null(names)):
                n.set(c.sub(n.get(), o.size(c, names)))
            made = c.call("PyObject_Vectorcall", PTR, [at("a"), first, n.get(), names])
            release(top_items(), count())
            push(made)
        with s.default():
            c.goto(failed)

    with c.loop():
        with c.switch(at("op")) as s:
            cases(s)
        pc.set(c.offset(pc.get(), INSTRUCTION.size))
    c.place(failed)
    release(stack, depth.get())
    c.ret(NULL)
    c.finish()


class _Execute:
    """The emitter of `execute`: one method per step of a call."""

    def __init__(self, module: Any, o: Objects) -> None:
        self.o = o
        self.module = module
        self.c = c = Code(
            module, "stager_entry_execute", PTR, [("entry", PTR), ("frame", PTR)],
            linkage="internal", attributes=("nounwind", "alwaysinline"),
        )  # fmt: skip
        self.entry, self.frame = c.arg("entry"), c.arg("frame")
        self.objects, self.buffers, self.symbols, self.scalars, self.arena = (
            c.offset(self.frame, c.zext(self.get(f), I64))
            for f in ("objects_at", "buffers_at", "symbols_at", "scalars_at", "arena_at")
        )
        self.inputs = c.zext(self.get("inputs"), I64)
        self.output_count = c.zext(self.get("output_count"), I64)
        self.results = c.element(self.objects, PTR, self.inputs)
        self.outputs = self.get("outputs")
        self.made = c.var(I64, 0)  # this many results are objects or null, and ours to release
        self.result = c.var(PTR, NULL)
        self.done = c.label("done")
        # NumPy's own limit of axes
        self.shape_room, self.strides_room = c.alloca(ir.ArrayType(I64, 64)), c.alloca(ir.ArrayType(I64, 64))

    def get(self, field: str) -> Value:
        return self.c.get(ENTRY_STRUCT, self.entry, field)

    def emit(self) -> None:
        c, o = self.c, self.o
        self.allocate_outputs()
        state, ctx = self.make_context()
        status = self.call_kernel(state, ctx)
        with c.if_(c.ne(status, 0), likely=False):
            c.call(self.module.globals["stager_entry_status"], args=[self.entry, ctx, status])
            c.goto(self.done)
        self.finish_outputs()
        single = c.ne(c.and_(self.get("flags"), int(EntryFlags.SINGLE)), 0)
        with c.if_(single, likely=True):
            c.ret(c.load(self.results, PTR))
        self.result.set(c.call(self.module.globals["stager_entry_build"], args=[self.entry, self.frame]))
        c.place(self.done)
        with c.for_range(0, self.made.get()) as k:
            x = c.at(self.results, PTR, k)
            with c.if_(c.not_null(x)):
                o.decref(c, x)
        c.ret(self.result.get())
        c.finish()

    # --- outputs before the call

    def allocate_outputs(self) -> None:
        c = self.c
        with c.for_range(0, self.output_count) as k:
            out = c.element(self.outputs, OUTPUT_STRUCT, k)
            c.put_at(self.results, PTR, k, None)
            self.made.set(c.add(k, 1))
            place = c.element(self.buffers, PTR, c.add(self.inputs, k))
            with c.switch(self.of(out, "kind")) as s:
                with s.case(OutputKind.ARRAY):
                    x = self.new_array(out)
                    c.goto_if(c.is_null(x), self.done)
                    c.put_at(self.results, PTR, k, x)
                    c.store(self.o.data(c, x), place)
                with s.case(OutputKind.SCALAR):
                    c.store(c.offset(self.scalars, self.of(out, "scalar_at")), place)
                with s.default():
                    c.store(NULL, place)

    def of(self, out: Value, field: str) -> Value:
        return self.c.get(OUTPUT_STRUCT, out, field)

    def new_array(self, out: Value) -> Value:
        c = self.c
        shape, nbytes = c.var(PTR, self.of(out, "shape")), c.var(I64, self.of(out, "nbytes"))
        with c.if_(c.is_null(shape.get())):
            computed = self.shape_room
            nbytes.set(self.of(out, "itemsize"))
            with c.for_range(0, c.zext(self.of(out, "ndim"), I64)) as i:
                extent = self.evaluate(c.at(self.of(out, "shape_code"), PTR, i))
                c.put_at(computed, I64, i, extent)
                product, overflow = checked_mul(c, nbytes.get(), extent)
                # NumPy refuses negative and too large shapes itself, in its own words
                wrong = c.or_(c.or_(overflow, c.lt(extent, 0)), c.lt(nbytes.get(), 0))
                nbytes.set(c.select(wrong, -1, product))
            shape.set(computed)
        return c.call(
            self.module.globals["stager_entry_new_array"],
            args=[self.of(out, "descr"), self.of(out, "ndim"), shape.get(), nbytes.get()],
        )

    def evaluate(self, code: Value) -> Value:
        """The value of an expression; one that overflows is more than memory holds."""
        c = self.c
        place = c.alloca(I64)
        held = c.call(self.module.globals["stager_entry_evaluate"], args=[code, self.symbols, place])
        with c.if_(c.not_(held), likely=False):
            c.call("PyErr_NoMemory", PTR)
            c.goto(self.done)
        return c.load(place, I64)

    # --- the call

    def make_context(self) -> tuple[Value, Value]:
        c = self.c
        state, ctx = c.alloca(STATE), c.alloca(CONTEXT)
        c.put(STATE, state, "entry", self.entry)
        c.put(STATE, state, "objects", self.objects)
        c.put(STATE, state, "thread", None)
        c.put(STATE, state, "skipped_polls", 0)
        c.fill(ctx, 0, CONTEXT_BYTES)
        c.put(CONTEXT, ctx, "threads", self.get("threads"))
        c.put(CONTEXT, ctx, "allocate", self.module.globals["stager_entry_allocate"])
        c.put(CONTEXT, ctx, "user", state)
        c.put(CONTEXT, ctx, "poll", self.module.globals["stager_entry_poll"])
        return state, ctx

    def call_kernel(self, state: Value, ctx: Value) -> Value:
        c = self.c
        size = c.var(I64, self.get("arena_bytes"))
        with c.if_(c.not_null(self.get("arena_code")), likely=False):
            size.set(self.evaluate(self.get("arena_code")))
        arena = c.var(PTR, self.arena)
        acquired = c.var(PTR, NULL)
        with c.if_(c.gt(size.get(), STACK_ARENA_BYTES), likely=False):
            acquired.set(c.call(ARENA_ACQUIRE, PTR, [size.get()]))
            with c.if_(c.is_null(acquired.get())):
                c.call("PyErr_NoMemory", PTR)
                c.goto(self.done)
            arena.set(acquired.get())
        long = c.var(I1, c.ne(c.and_(self.get("flags"), int(EntryFlags.RELEASE)), 0))
        with c.if_(c.not_null(self.get("work_code")), likely=False):
            place = c.alloca(I64)
            held = c.call(
                self.module.globals["stager_entry_evaluate"], args=[self.get("work_code"), self.symbols, place]
            )
            long.set(c.or_else(c.not_(held), lambda: c.gt(c.load(place, I64), RELEASE_ABOVE_NS)))
        with c.if_(long.get(), likely=False):
            c.put(STATE, state, "thread", c.call("PyEval_SaveThread", PTR))
        status = c.call_pointer(self.get("kernel"), I32, [ctx, self.buffers, self.symbols, arena.get()])
        released = c.get(STATE, state, "thread")
        with c.if_(c.not_null(released), likely=False):
            c.call("PyEval_RestoreThread", VOID, [released])
        with c.if_(c.not_null(acquired.get()), likely=False):
            c.call(ARENA_RELEASE, VOID, [acquired.get(), size.get()])
        return status

    # --- outputs after the call

    def finish_outputs(self) -> None:
        c, o = self.c, self.o

        def take(k: Value, obj: Value) -> None:
            """Result k is obj, a new reference; null is an error."""
            c.goto_if(c.is_null(obj), self.done)
            c.put_at(self.results, PTR, k, obj)

        def borrow(k: Value, obj: Value) -> None:
            o.incref(c, obj)
            take(k, obj)

        with c.for_range(0, self.output_count) as k:
            out = c.element(self.outputs, OUTPUT_STRUCT, k)
            source = c.zext(self.of(out, "source"), I64)
            with c.switch(self.of(out, "kind")) as s:
                with s.case(OutputKind.ARRAY):
                    pass
                with s.case(OutputKind.SCALAR):
                    take(k, self.scalar(out))
                with s.case(OutputKind.SIZED), c.if_(c.is_null(c.at(self.results, PTR, k))):
                    system_error = c.load(external_data(self.module, "PyExc_SystemError", PTR), PTR)
                    c.call("PyErr_SetString", VOID, [system_error, c.string("a compiled function left a result out")])
                    c.goto(self.done)
                with s.case(OutputKind.INPUT):
                    borrow(k, c.at(self.objects, PTR, source))
                with s.case(OutputKind.OUTPUT):
                    borrow(k, c.at(self.results, PTR, source))
                with s.case(OutputKind.VIEW_INPUT):
                    take(k, self.view(out, c.at(self.objects, PTR, source)))
                with s.case(OutputKind.VIEW_OUTPUT):
                    take(k, self.view(out, c.at(self.results, PTR, source)))

    def scalar(self, out: Value) -> Value:
        """The object of a scalar output."""
        c, o = self.c, self.o
        data = c.offset(self.scalars, self.of(out, "scalar_at"))
        made = c.var(PTR, NULL)
        with c.switch(self.of(out, "form")) as s:
            with s.case(ScalarForm.NUMPY):
                type = self.of(out, "scalar_type")
                obj = c.call_pointer(self.of(out, "allocate"), PTR, [type, const(I64, 0)])
                made.set(obj)
                with c.if_(c.not_null(obj)):
                    value = c.offset(obj, o.layout.scalar_value)
                    with c.switch(self.of(out, "itemsize")) as width:
                        for type in (I8, I32, I64):
                            with width.case(type.width // 8):
                                c.store(c.load(data, type), value)
                        with width.default():
                            c.copy(value, data, self.of(out, "itemsize"))
            with s.case(ScalarForm.NUMPY_BOOL):
                truth = c.ne(c.load(data, I8), 0)
                made.set(c.select(truth, self.of(out, "allocate"), self.of(out, "scalar_type")))
                o.incref(c, made.get())
            with s.case(ScalarForm.FLOAT):
                made.set(c.call("PyFloat_FromDouble", PTR, [c.load(data, F64)]))
            with s.case(ScalarForm.INT):
                made.set(c.call("PyLong_FromLongLong", PTR, [c.load(data, I64)]))
            with s.case(ScalarForm.UNSIGNED):
                made.set(c.call("PyLong_FromUnsignedLongLong", PTR, [c.load(data, I64)]))
            with s.case(ScalarForm.BOOL):
                truth = c.ne(c.load(data, I8), 0)
                true, false = (external_data(self.module, n) for n in ("_Py_TrueStruct", "_Py_FalseStruct"))
                made.set(c.select(truth, true, false))
                o.incref(c, made.get())
        return made.get()

    def view(self, out: Value, base: Value) -> Value:
        """A view of an array: writeable when the array is; NumPy shortens the chain of bases."""
        c, o = self.c, self.o
        shape, strides = self.shape_room, self.strides_room
        with c.for_range(0, c.zext(self.of(out, "ndim"), I64)) as i:
            c.put_at(shape, I64, i, self.evaluate(c.at(self.of(out, "shape_code"), PTR, i)))
            c.put_at(strides, I64, i, self.evaluate(c.at(self.of(out, "strides_code"), PTR, i)))
        data = c.offset(o.data(c, base), self.evaluate(self.of(out, "offset_code")))
        descr = self.of(out, "descr")
        o.incref(c, descr)
        writeable = c.and_(o.flags(c, base), NUMPY_WRITEABLE)
        type = external_data(self.module, "stager_numpy_PyArray_Type")
        x = c.call(
            "stager_numpy_PyArray_NewFromDescr", PTR,
            [type, descr, self.of(out, "ndim"), shape, strides, data, writeable, NULL],
        )  # fmt: skip
        made = c.var(PTR, x)
        with c.if_(c.not_null(x)):
            o.incref(c, base)
            failed = c.call("stager_numpy_PyArray_SetBaseObject", I32, [x, base])
            with c.if_(c.ne(failed, 0)):
                o.decref(c, x)
                made.set(NULL)
        return made.get()


