"""The native CPython entry: the type slots and the vectorcall of every compiled function, as one LLVM module.

The module is made once per machine and Python build and kept by the object cache: it holds no address and knows no
function. What differs between compiled functions stands in the tables of `ir/entry_table.py`; this code walks them.
Externals (CPython's C API by its own names, NumPy's as `stager_numpy_…`, the buffers of `codegen/buffers.py`) are bound
at load. Matching is in `entry_match.py`, results in `entry_result.py`.

Invariant: no argument, however wrong, is read before its type has been checked, and nothing read from one object is
trusted after Python code may have run. What does not match is a miss, and the Python slow path answers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I1, I32, I64, NULL, PTR, VOID, Value, const, external_data
from stager.codegen.entry_match import MATCHED, emit_evaluate, emit_match
from stager.codegen.entry_memory import emit_memory
from stager.codegen.entry_objects import (
    CALL,
    ENTRY_STRUCT,
    FUNCTION_STRUCT,
    MISS,
    SIGNATURE_STRUCT,
    Objects,
)
from stager.codegen.entry_result import emit_execute
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.entry_table import STACK_FRAME_BYTES, EntryFlags, PythonLayout, SignatureFlags


def entry_module(layout: PythonLayout, target: Target | None = None) -> Any:
    """The llvmlite module of the entry for objects laid out as `layout` says. `ENTRY_EXPORTS` are its functions."""
    target = target or Target.host()
    module = ir.Module("stager_entry")
    module.triple = target.triple
    module.data_layout = target.data_layout
    objects = Objects(layout)
    emit_evaluate(module)
    emit_match(module, objects)
    emit_memory(module, objects)
    emit_execute(module, objects)
    _emit_run(module, objects)
    _emit_bind(module, objects)
    _emit_try_entries(module, objects)
    _emit_slow(module, objects)
    _emit_general(module, objects)
    _emit_vectorcall(module, objects)
    _emit_clear(module, objects)
    _emit_traverse(module, objects)
    _emit_dealloc(module, objects)
    _emit_descr_get(module, objects)
    return module


def entry_object(layout: PythonLayout, target: Target | None = None) -> bytes:
    """The module optimised, as object code."""
    import llvmlite.binding as llvm

    target = target or Target.host()
    machine = target.machine(opt=2)
    parsed = llvm.parse_assembly(str(entry_module(layout, target)))
    parsed.verify()
    # The default pipeline takes ten times as long and gains nothing: no loop here is worth unrolling.
    passes = llvm.create_new_module_pass_manager()
    passes.add_always_inliner_pass()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    passes.run(parsed, llvm.create_pass_builder(machine, options))
    return bytes(machine.emit_object(parsed))


def _emit_run(module: Any, o: Objects) -> None:
    """run(entry, call) -> result, NULL with an exception set, or MISS: one try of one entry."""
    c = Code(module, "stager_entry_run", PTR, [("entry", PTR), ("call", PTR)], linkage="internal")
    entry, call = c.arg("entry"), c.arg("call")
    size = c.get(ENTRY_STRUCT, entry, "frame_bytes")
    base = c.var(PTR)
    small = c.le(size, STACK_FRAME_BYTES)
    with c.if_(small, likely=True):
        stack = c.b.alloca(ir.IntType(8), size=size)
        stack.align = 64
        base.set(stack)
    with c.else_():
        heap = c.call("PyMem_RawMalloc", PTR, [c.add(size, 64)])
        with c.if_(c.is_null(heap)):
            c.call("PyErr_NoMemory", PTR)
            c.ret(NULL)
        base.set(heap)
    aligned = c.offset(base.get(), c.and_(c.sub(0, c.b.ptrtoint(base.get(), I64)), 63))
    parameters = c.zext(c.get(ENTRY_STRUCT, entry, "parameters"), I64)
    slots = c.get(CALL, call, "slots")
    with c.for_range(0, parameters) as i:
        c.put_at(aligned, PTR, i, c.at(slots, PTR, i))
    top = c.alloca(I64)
    c.store(parameters, top)
    outcome = c.call(module.globals["stager_entry_match"], args=[entry, call, aligned, top])
    result = c.var(PTR)
    with c.if_(c.eq(outcome, MATCHED), likely=True):
        result.set(c.call(module.globals["stager_entry_execute"], args=[entry, aligned]))
    with c.else_():
        result.set(c.b.inttoptr(c.zext(outcome, I64), PTR))  # a miss is MISS, an error is null
    with c.for_range(parameters, c.load(top, I64)) as i:
        o.decref(c, c.at(aligned, PTR, i))
    with c.if_(c.not_(small), likely=False):
        c.call("PyMem_RawFree", VOID, [base.get()])
    c.ret(result.get())
    c.finish()


def _emit_try_entries(module: Any, o: Objects) -> None:
    """try_entries(self, call) -> as run: the entry that hit last, then all others.

    The reference to `keep` holds the entry's memory while it runs: another thread may retire it meanwhile, and then its
    `next` is null.
    """
    run = module.globals["stager_entry_run"]
    others = Code(
        module, "stager_entry_try_others", PTR, [("self", PTR), ("call", PTR), ("tried", PTR)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    c = others
    this, tried = c.arg("self"), c.arg("tried")
    current = c.var(PTR, c.get(FUNCTION_STRUCT, this, "first"))
    with c.while_(lambda: c.not_null(current.get())):
        entry = current.get()
        keep = c.get(ENTRY_STRUCT, entry, "keep")
        o.incref(c, keep)
        result = c.var(PTR, c.b.inttoptr(const(I64, MISS), PTR))
        with c.if_(c.ne(entry, tried)):
            result.set(c.call(run, args=[entry, c.arg("call")]))
        hit = c.ne(c.b.ptrtoint(result.get(), I64), MISS)
        retired = c.and_(c.get(ENTRY_STRUCT, entry, "flags"), int(EntryFlags.RETIRED))
        with c.if_(c.and_then(hit, lambda: c.eq(retired, 0))):
            c.put(FUNCTION_STRUCT, this, "hot", entry)
        current.set(c.get(ENTRY_STRUCT, entry, "next"))
        o.decref(c, keep)
        c.ret_if(hit, result.get())
    c.ret(c.b.inttoptr(const(I64, MISS), PTR))
    c.finish()

    c = Code(module, "stager_entry_try", PTR, [("self", PTR), ("call", PTR)], linkage="internal")
    entry = c.get(FUNCTION_STRUCT, c.arg("self"), "hot")
    with c.if_(c.not_null(entry), likely=True):
        keep = c.get(ENTRY_STRUCT, entry, "keep")
        o.incref(c, keep)
        result = c.call(run, args=[entry, c.arg("call")])
        o.decref(c, keep)
        c.ret_if(c.ne(c.b.ptrtoint(result, I64), MISS), result)
    c.ret(c.call(others.function, args=[c.arg("self"), c.arg("call"), entry]))
    c.finish()


def _emit_bind(module: Any, o: Objects) -> None:
    """bind(signature, args, nargs, kwnames, call) -> i1: the caller's arguments in the places of the parameters.

    `call` comes with room for the slots and for the extra keywords. False: Python's own error text is due.
    """
    c = Code(
        module, "stager_entry_bind", I1,
        [("signature", PTR), ("args", PTR), ("nargs", I64), ("kwnames", PTR), ("call", PTR)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    signature, args, nargs, kwnames, call = (c.arg(k) for k in ("signature", "args", "nargs", "kwnames", "call"))

    def number(field: str) -> Value:
        return c.zext(c.get(SIGNATURE_STRUCT, signature, field), I64)

    positional, parameters, only = number("positional"), number("parameters"), number("positional_only")
    flags = c.get(SIGNATURE_STRUCT, signature, "flags")
    names, defaults = c.get(SIGNATURE_STRUCT, signature, "names"), c.get(SIGNATURE_STRUCT, signature, "defaults")
    slots = c.get(CALL, call, "slots")
    c.put(CALL, call, "positional", nargs)
    given = c.min(nargs, positional)
    with c.for_range(0, given) as i:
        c.put_at(slots, PTR, i, c.at(args, PTR, i))
    with c.for_range(given, parameters) as i:
        c.put_at(slots, PTR, i, None)
    extra = c.sub(nargs, given)
    takes_varargs = c.ne(c.and_(flags, int(SignatureFlags.VARARGS)), 0)
    c.ret_if(c.and_(c.gt(extra, 0), c.not_(takes_varargs)), 0)
    c.put(CALL, call, "extra_count", extra)
    c.put(CALL, call, "extra", c.element(args, PTR, given))
    keyword_values = c.element(args, PTR, nargs)
    more = c.var(I64, 0)  # extra keywords so far
    with c.if_(c.not_null(kwnames)), c.for_range(0, o.size(c, kwnames)) as k:
        name, value = o.tuple_item(c, kwnames, k), c.at(keyword_values, PTR, k)
        found = c.var(I64, -1)
        with c.for_range(only, parameters) as i, c.if_(c.eq(c.at(names, PTR, i), name)):
            found.set(i)
            c.break_()
        with c.if_(c.lt(found.get(), 0)), c.for_range(only, parameters) as i:
            equal = o.same_text(c, c.at(names, PTR, i), name)
            found.set(c.select(equal, i, found.get()))
            c.break_if(equal)
        at = found.get()
        with c.if_(c.ge(at, 0)):
            c.ret_if(c.not_null(c.at(slots, PTR, at)), 0)  # given twice
            c.put_at(slots, PTR, at, value)
        with c.else_():
            c.ret_if(c.eq(c.and_(flags, int(SignatureFlags.VARKW)), 0), 0)
            c.put_at(c.get(CALL, call, "keyword_names"), PTR, more.get(), name)
            c.put_at(c.get(CALL, call, "keyword_values"), PTR, more.get(), value)
            more.set(c.add(more.get(), 1))
    c.put(CALL, call, "keyword_count", more.get())
    with c.for_range(given, parameters) as i, c.if_(c.is_null(c.at(slots, PTR, i))):
        default = c.at(defaults, PTR, i)
        c.ret_if(c.is_null(default), 0)
        c.put_at(slots, PTR, i, default)
    c.ret(1)
    c.finish()


def _emit_slow(module: Any, o: Objects) -> None:
    """slow(self, args, nargs, kwnames) -> what miss(self, tuple, dict) returns."""
    c = Code(
        module, "stager_entry_slow", PTR, [("self", PTR), ("args", PTR), ("nargs", I64), ("kwnames", PTR)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    this, args, nargs, kwnames = (c.arg(k) for k in ("self", "args", "nargs", "kwnames"))
    miss = c.get(FUNCTION_STRUCT, this, "miss")
    with c.if_(c.is_null(miss)):
        o.raise_(c, "PyExc_RuntimeError", "this compiled function was torn down by the garbage collector")
        c.ret(NULL)
    positional = c.call("PyTuple_New", PTR, [nargs])
    c.ret_if(c.is_null(positional), None)
    with c.for_range(0, nargs) as i:
        value = c.at(args, PTR, i)
        o.incref(c, value)
        o.put_tuple_item(c, positional, i, value)
    keywords = c.call("PyDict_New", PTR)
    with c.if_(c.is_null(keywords)):
        o.decref(c, positional)
        c.ret(NULL)
    with c.if_(c.not_null(kwnames)), c.for_range(0, o.size(c, kwnames)) as k:
        value = c.at(args, PTR, c.add(nargs, k))
        failed = c.call("PyDict_SetItem", I32, [keywords, o.tuple_item(c, kwnames, k), value])
        with c.if_(c.ne(failed, 0)):
            o.decref(c, positional)
            o.decref(c, keywords)
            c.ret(NULL)
    three = c.alloca(ir.ArrayType(PTR, 3))
    for k, value in enumerate((this, positional, keywords)):
        c.put_at(three, PTR, k, value)
    o.incref(c, miss)
    result = c.call("PyObject_Vectorcall", PTR, [miss, three, const(I64, 3), NULL])
    o.decref(c, miss)
    o.decref(c, positional)
    o.decref(c, keywords)
    c.ret(result)
    c.finish()


def _emit_general(module: Any, o: Objects) -> None:
    """general(self, args, nargs, kwnames, again): any call; `again`: miss has asked to have the entries tried anew."""
    c = Code(
        module, "stager_entry_general", PTR,
        [("self", PTR), ("args", PTR), ("nargs", I64), ("kwnames", PTR), ("again", I1)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    this, args, nargs, kwnames = (c.arg(k) for k in ("self", "args", "nargs", "kwnames"))
    call = c.alloca(CALL)
    again = c.var(I1, c.arg("again"))
    keywords = c.var(I64, 0)
    with c.if_(c.not_null(kwnames)):
        keywords.set(c.call("PyTuple_Size", I64, [kwnames]))
    # More keywords than a stack should hold can only be a **dict of data: the slow path takes it.
    with c.if_(c.gt(keywords.get(), 1024), likely=False):
        c.ret(c.call(module.globals["stager_entry_slow"], args=[this, args, nargs, kwnames]))
    with c.loop():
        signature = c.get(FUNCTION_STRUCT, this, "signature")
        miss = c.label("miss")
        c.goto_if(c.is_null(signature), miss)
        parameters = c.zext(c.get(SIGNATURE_STRUCT, signature, "parameters"), I64)
        count = c.add(parameters, c.mul(keywords.get(), 2))
        room = c.b.alloca(PTR, size=c.add(count, 1))
        c.put(CALL, call, "slots", room)
        c.put(CALL, call, "keyword_names", c.element(room, PTR, parameters))
        c.put(CALL, call, "keyword_values", c.element(room, PTR, c.add(parameters, keywords.get())))
        bound = c.call(module.globals["stager_entry_bind"], args=[signature, args, nargs, kwnames, call])
        c.goto_if(c.not_(bound), miss)
        result = c.call(module.globals["stager_entry_try"], args=[this, call])
        c.ret_if(c.ne(c.b.ptrtoint(result, I64), MISS), result)
        c.place(miss)
        with c.if_(again.get()):
            o.raise_(c, "PyExc_RuntimeError", "an entry made for these arguments does not take them")
            c.ret(NULL)
        answer = c.call(module.globals["stager_entry_slow"], args=[this, args, nargs, kwnames])
        c.ret_if(c.ne(answer, c.get(FUNCTION_STRUCT, this, "retry")), answer)
        o.decref(c, answer)
        again.set(1)
    c.finish()


def _emit_vectorcall(module: Any, o: Objects) -> None:
    c = Code(
        module, "stager_entry_vectorcall", PTR, [("self", PTR), ("args", PTR), ("nargsf", I64), ("kwnames", PTR)]
    )
    this, args, kwnames = c.arg("self"), c.arg("args"), c.arg("kwnames")
    nargs = c.and_(c.arg("nargsf"), (1 << 63) - 1)  # without PY_VECTORCALL_ARGUMENTS_OFFSET
    call = c.alloca(CALL)
    signature = c.get(FUNCTION_STRUCT, this, "signature")
    general = c.label("general")
    c.goto_if(c.or_(c.is_null(signature), c.not_null(kwnames)), general, likely=False)
    direct = c.ne(c.and_(c.get(SIGNATURE_STRUCT, signature, "flags"), int(SignatureFlags.DIRECT)), 0)
    complete = c.eq(nargs, c.zext(c.get(SIGNATURE_STRUCT, signature, "parameters"), I64))
    c.goto_if(c.not_(c.and_(direct, complete)), general, likely=False)
    c.put(CALL, call, "slots", args)
    c.put(CALL, call, "positional", nargs)
    result = c.call(module.globals["stager_entry_try"], args=[this, call])
    c.ret_if(c.ne(c.b.ptrtoint(result, I64), MISS), result)
    answer = c.call(module.globals["stager_entry_slow"], args=[this, args, nargs, kwnames])
    c.ret_if(c.ne(answer, c.get(FUNCTION_STRUCT, this, "retry")), answer)
    o.decref(c, answer)
    c.ret(c.call(module.globals["stager_entry_general"], args=[this, args, nargs, kwnames, const(I1, 1)]))
    c.place(general)
    c.ret(c.call(module.globals["stager_entry_general"], args=[this, args, nargs, kwnames, const(I1, 0)]))
    c.finish()


# --- the other slots of the type

OWNED = ("dict", "miss", "owner")


def _emit_clear(module: Any, o: Objects) -> None:
    c = Code(module, "stager_entry_clear", I32, [("self", PTR)])
    this = c.arg("self")
    for field in ("first", "hot", "signature"):  # they lead to memory that `owner` holds
        c.put(FUNCTION_STRUCT, this, field, None)
    for field in OWNED:
        value = c.get(FUNCTION_STRUCT, this, field)
        c.put(FUNCTION_STRUCT, this, field, None)
        with c.if_(c.not_null(value)):
            o.decref(c, value)
    c.ret(0)
    c.finish()


def _emit_traverse(module: Any, o: Objects) -> None:
    c = Code(module, "stager_entry_traverse", I32, [("self", PTR), ("visit", PTR), ("arg", PTR)])
    for field in (*OWNED, "type"):
        value = c.get(FUNCTION_STRUCT, c.arg("self"), field)
        with c.if_(c.not_null(value)):
            stopped = c.call_pointer(c.arg("visit"), I32, [value, c.arg("arg")])
            c.ret_if(c.ne(stopped, 0), stopped)
    c.ret(0)
    c.finish()


def _emit_dealloc(module: Any, o: Objects) -> None:
    c = Code(module, "stager_entry_dealloc", VOID, [("self", PTR)])
    this = c.arg("self")
    c.call("PyObject_GC_UnTrack", VOID, [this])
    with c.if_(c.not_null(c.get(FUNCTION_STRUCT, this, "weakrefs"))):
        c.call("PyObject_ClearWeakRefs", VOID, [this])
    c.call(module.globals["stager_entry_clear"], args=[this])
    type = c.get(FUNCTION_STRUCT, this, "type")
    c.call("PyObject_GC_Del", VOID, [this])
    o.decref(c, type)
    c.finish()


def _emit_descr_get(module: Any, o: Objects) -> None:
    """As of a function: through a class itself, through an instance a bound method."""
    c = Code(module, "stager_entry_descr_get", PTR, [("self", PTR), ("obj", PTR), ("type", PTR)])
    this, obj = c.arg("self"), c.arg("obj")
    none = external_data(module, "_Py_NoneStruct")
    with c.if_(c.or_(c.is_null(obj), c.eq(obj, none))):
        o.incref(c, this)
        c.ret(this)
    c.ret(c.call("PyMethod_New", PTR, [this, obj]))
    c.finish()
