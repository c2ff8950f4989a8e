"""Matching of arguments in the native entry: the interpreter of the match program, and of expressions over symbols.

Invariant: a register that the program filled holds its own reference and lies below `top`, whatever happens next, so
the caller can release all of them at any time. Data pointers are read after all instructions that can run Python code
(`runtime/entries.py` orders them so). Not here: what follows a match.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I1, I8, I16, I32, I64, NULL, PTR, Value, const, external_data
from stager.codegen.entry_objects import (
    ARRAY_STRUCT,
    AXIS_STRUCT,
    CALL,
    ENTRY_STRUCT,
    INSTRUCTION_STRUCT,
    MISS,
    Objects,
    checked_add,
    checked_mul,
)
from stager.codegen.structured import Code, Label, Switch
from stager.ir.entry_table import ARRAY, AXIS, CODE_DEPTH, INSTRUCTION, ArrayLayout, Op
from stager.ir.entry_table import Code as Expression

# What match returns; the other values are what `run` returns, as a number.
MATCHED, FAILED = 2, 0
PY_EQ = 2


def emit_evaluate(module: Any) -> None:
    """evaluate(code, symbols, i64 *out) -> i1: false when it overflows or divides by zero."""
    c = Code(
        module, "stager_entry_evaluate", I1, [("code", PTR), ("symbols", PTR), ("out", PTR)],
        linkage="internal", attributes=("nounwind", "noinline"),
    )  # fmt: skip
    stack = c.alloca(ir.ArrayType(I64, CODE_DEPTH))
    depth = c.var(I64, 0)
    pc = c.var(PTR, c.arg("code"))

    def push(value: Value) -> None:
        c.put_at(stack, I64, depth.get(), value)
        depth.set(c.add(depth.get(), 1))

    def pop() -> Value:
        depth.set(c.sub(depth.get(), 1))
        return c.at(stack, I64, depth.get())

    def operand() -> Value:
        value = c.load(pc.get(), I64)
        pc.set(c.offset(pc.get(), 8))
        return value

    def pair() -> tuple[Value, Value]:
        b = pop()
        return pop(), b

    with c.loop(), c.switch(operand()) as s:
        with s.case(Expression.END):
            c.store(pop(), c.arg("out"))
            c.ret(1)
        with s.case(Expression.CONSTANT):
            push(operand())
        with s.case(Expression.SYMBOL):
            push(c.at(c.arg("symbols"), I64, operand()))
        for code, checked in ((Expression.ADD, checked_add), (Expression.MUL, checked_mul)):
            with s.case(code):
                value, overflow = checked(c, *pair())
                c.ret_if(overflow, 0)
                push(value)
        for code in (Expression.FLOORDIV, Expression.MOD):
            with s.case(code):
                a, b = pair()
                smallest = c.and_(c.eq(a, -(1 << 63)), c.eq(b, -1))
                c.ret_if(c.or_(c.eq(b, 0), smallest), 0)
                rest = c.srem(a, b)
                # C rounds to zero: one step more when the remainder has the wrong sign
                wrong = c.and_(c.ne(rest, 0), c.lt(c.xor(rest, b), 0))
                if code is Expression.FLOORDIV:
                    push(c.sub(c.sdiv(a, b), c.zext(wrong, I64)))
                else:
                    push(c.add(rest, c.select(wrong, b, 0)))
        with s.case(Expression.MAX):
            push(c.max(*pair()))
        with s.case(Expression.MIN):
            push(c.min(*pair()))
        with s.default():
            c.ret(0)
    c.finish()


def emit_match(module: Any, o: Objects) -> None:
    """match(entry, call, frame, i64 *top) -> MATCHED, MISS or FAILED (an exception is set)."""
    _emit_extent(module, o)
    _Match(module, o).emit()


def _emit_extent(module: Any, o: Objects) -> None:
    """extent(array, i64 *bounds) -> i1: bounds[0] <= address < bounds[1] of its bytes; false for an empty array."""
    c = Code(module, "stager_entry_extent", I1, [("x", PTR), ("bounds", PTR)], linkage="internal")
    x, bounds = c.arg("x"), c.arg("bounds")
    data = c.b.ptrtoint(o.data(c, x), I64)
    low, high = c.var(I64, data), c.var(I64, data)
    shape, strides = o.shape(c, x), o.strides(c, x)
    with c.for_range(0, c.zext(o.ndim(c, x), I64)) as i:
        extent, stride = c.at(shape, I64, i), c.at(strides, I64, i)
        c.ret_if(c.eq(extent, 0), 0)
        span = c.mul(c.sub(extent, 1), stride)
        low.set(c.add(low.get(), c.min(span, const(I64, 0))))
        high.set(c.add(high.get(), c.max(span, const(I64, 0))))
    itemsize = c.load(c.offset(o.descr(c, x), o.layout.descr_itemsize), I64)
    c.put_at(bounds, I64, 0, low.get())
    c.put_at(bounds, I64, 1, c.add(high.get(), itemsize))
    c.ret(1)
    c.finish()


class _Match:
    """The emitter of the match program's interpreter: one method per group of opcodes."""

    def __init__(self, module: Any, o: Objects) -> None:
        self.o = o
        self.c = c = Code(
            module, "stager_entry_match", I32, [("entry", PTR), ("call", PTR), ("frame", PTR), ("top", PTR)],
            linkage="internal", attributes=("nounwind", "alwaysinline"),
        )  # fmt: skip
        self.entry, self.call, self.registers, self.top = (c.arg(k) for k in ("entry", "call", "frame", "top"))
        self.objects = self._part("objects_at")
        self.buffers = self._part("buffers_at")
        self.symbols = self._part("symbols_at")
        self.scalars = self._part("scalars_at")
        self.pc = c.var(PTR, c.get(ENTRY_STRUCT, self.entry, "match"))
        self.miss: Label = c.label("miss")
        self.error: Label = c.label("error")

    def _part(self, field: str) -> Value:
        return self.c.offset(self.registers, self.c.zext(self.c.get(ENTRY_STRUCT, self.entry, field), I64))

    def emit(self) -> None:
        c = self.c
        with c.loop():
            with c.switch(self.at("op")) as s:
                with s.case(Op.END):
                    c.ret(MATCHED)
                self.leaves(s)
                self.objects_checked(s)
                self.unpacking(s)
                self.roots(s)
                self.symbol_rules(s)
                with s.default():
                    c.goto(self.miss)
            self.pc.set(c.offset(self.pc.get(), INSTRUCTION.size))
        c.place(self.error)
        with c.if_(c.not_null(c.call("PyErr_Occurred", PTR))):
            # An attribute that is gone is a miss; KeyboardInterrupt and its like are not ours to swallow.
            exception = c.load(external_data(c.module, "PyExc_Exception", PTR), PTR)
            c.ret_if(c.eq(c.call("PyErr_ExceptionMatches", I32, [exception]), 0), FAILED)
            c.call("PyErr_Clear")
        c.goto(self.miss)
        c.place(self.miss)
        c.put(ENTRY_STRUCT, self.entry, "failed", self.pc.get())
        c.ret(MISS)
        c.finish()

    # --- the parts of the instruction

    def at(self, field: str) -> Value:
        return self.c.get(INSTRUCTION_STRUCT, self.pc.get(), field)

    def count(self) -> Value:
        return self.c.to(self.at("n"), I64)

    def source(self) -> Value:
        """The object in register src."""
        return self.c.at(self.registers, PTR, self.c.zext(self.at("src"), I64))

    def input(self, field: str) -> Value:
        """The object of the input that a field numbers."""
        return self.c.at(self.objects, PTR, self.c.zext(self.at(field), I64))

    def unless(self, condition: Value) -> None:
        """A miss when it does not hold."""
        self.c.goto_if(self.c.not_(condition), self.miss, likely=False)

    def fill(self, register: Value, obj: Value) -> None:
        """A register takes over a new reference."""
        self.c.put_at(self.registers, PTR, register, obj)
        self.c.store(self.c.add(register, 1), self.top)

    def fill_borrowed(self, register: Value, obj: Value) -> None:
        self.o.incref(self.c, obj)
        self.fill(register, obj)

    def fill_new(self, obj: Value) -> None:
        """The register dst takes what a C API call returned; null is its error."""
        self.c.goto_if(self.c.is_null(obj), self.error)
        self.fill(self.c.zext(self.at("dst"), I64), obj)

    # --- leaves

    def leaf(self, obj: Value, data: Value) -> None:
        n = self.count()
        self.c.put_at(self.objects, PTR, n, obj)
        self.c.put_at(self.buffers, PTR, n, data)

    def leaves(self, s: Switch) -> None:
        c, o = self.c, self.o
        with s.case(Op.ARRAY):
            self.array()
        with s.case(Op.FLOAT):
            x = self.source()
            self.unless(o.has_type(c, x, "PyFloat_Type"))
            self.leaf(x, c.offset(x, o.layout.float_value))
        with s.case(Op.INT):
            x = self.source()
            self.unless(o.has_type(c, x, "PyLong_Type"))
            overflow = c.alloca(I32)
            value = c.call("PyLong_AsLongLongAndOverflow", I64, [x, overflow])
            self.unless(c.eq(c.load(overflow, I32), 0))
            place = c.offset(self.scalars, c.b.ptrtoint(self.at("b"), I64))
            c.store(value, place)
            self.leaf(x, place)
        with s.case(Op.BOOL):
            x = self.source()
            true = c.eq(x, external_data(c.module, "_Py_TrueStruct"))
            self.unless(c.or_(true, c.eq(x, external_data(c.module, "_Py_FalseStruct"))))
            place = c.offset(self.scalars, c.b.ptrtoint(self.at("b"), I64))
            c.store(c.zext(true, I8), place)
            self.leaf(x, place)
        with s.case(Op.SCALAR):
            x = self.source()
            self.unless(c.eq(o.type_of(c, x), self.at("a")))
            self.leaf(x, c.offset(x, o.layout.scalar_value))

    def array(self) -> None:
        c, o = self.c, self.o
        x, spec = self.source(), self.at("a")

        def want(field: str) -> Value:
            return c.get(ARRAY_STRUCT, spec, field)

        self.unless(o.has_type(c, x, "stager_numpy_PyArray_Type"))
        descr = o.descr(c, x)
        same = c.or_else(
            c.eq(descr, want("descr")), lambda: o.same_dtype(c, descr, want("kind"), want("itemsize"))
        )
        self.unless(same)
        self.unless(c.eq(o.ndim(c, x), want("ndim")))
        self.unless(c.eq(c.and_(o.flags(c, x), want("flags")), want("flags")))
        data = o.data(c, x)
        self.unless(c.eq(c.and_(c.b.ptrtoint(data, I64), want("align_mask")), 0))
        shape = o.shape(c, x)
        axes = c.offset(spec, ARRAY.size)
        ndim = c.zext(want("ndim"), I64)
        with c.for_range(0, ndim) as i:
            axis = c.offset(axes, c.mul(i, AXIS.size))
            any_dim = c.ne(c.get(AXIS_STRUCT, axis, "any_dim"), 0)
            self.unless(c.or_(any_dim, c.eq(c.at(shape, I64, i), c.get(AXIS_STRUCT, axis, "dim"))))
        with c.if_(c.eq(want("layout"), int(ArrayLayout.STRIDES))):
            strides = o.strides(c, x)
            wrong, empty = c.var(I1, 0), c.var(I1, 0)
            with c.for_range(0, ndim) as i:
                axis = c.offset(axes, c.mul(i, AXIS.size))
                extent = c.at(shape, I64, i)
                differs = c.ne(c.at(strides, I64, i), c.get(AXIS_STRUCT, axis, "stride"))
                counts = c.and_(c.eq(c.get(AXIS_STRUCT, axis, "any_stride"), 0), c.gt(extent, 1))
                wrong.set(c.or_(wrong.get(), c.and_(differs, counts)))
                empty.set(c.or_(empty.get(), c.eq(extent, 0)))
            self.unless(c.or_(c.not_(wrong.get()), empty.get()))
        self.leaf(x, data)

    # --- checks

    def objects_checked(self, s: Switch) -> None:
        c, o = self.c, self.o
        with s.case(Op.IS):
            self.unless(c.eq(self.source(), self.at("a")))
        with s.case(Op.EQUAL):
            self.equal(self.source(), self.at("a"))
        with s.case(Op.SAME_FLOAT):
            x = self.source()
            self.unless(o.has_type(c, x, "PyFloat_Type"))
            at = o.layout.float_value
            self.unless(c.eq(c.load(c.offset(x, at), I64), c.load(c.offset(self.at("a"), at), I64)))
        with s.case(Op.CHECK):
            answer = self.call_one(self.source())
            c.goto_if(c.is_null(answer), self.error)
            truth = c.call("PyObject_IsTrue", I32, [answer])
            o.decref(c, answer)
            c.goto_if(c.lt(truth, 0), self.error)
            self.unless(c.ne(truth, 0))
        with s.case(Op.TYPE):
            self.unless(c.eq(o.type_of(c, self.source()), self.at("a")))
        with s.case(Op.LENGTH):
            size = c.call("PyObject_Size", I64, [self.source()])
            c.goto_if(c.lt(size, 0), self.error)
            self.unless(c.eq(size, self.count()))
        with s.case(Op.SAME_INPUT):
            self.unless(c.eq(self.source(), self.input("n")))
        with s.case(Op.POSITIONAL):
            self.unless(c.eq(c.get(CALL, self.call, "positional"), self.count()))

    def equal(self, x: Value, expected: Value) -> None:
        """Identity, or the same type and equal; the type's comparison must run no Python code."""
        c, o = self.c, self.o
        with c.if_(c.ne(x, expected)):
            self.unless(c.eq(o.type_of(c, x), o.type_of(c, expected)))
            same = c.call("PyObject_RichCompareBool", I32, [x, expected, const(I32, PY_EQ)])
            c.goto_if(c.lt(same, 0), self.error)
            self.unless(c.ne(same, 0))

    def call_one(self, x: Value) -> Value:
        c = self.c
        one = c.alloca(PTR)
        c.store(x, one)
        return c.call("PyObject_Vectorcall", PTR, [self.at("a"), one, const(I64, 1), NULL])

    # --- containers and attributes

    def unpacking(self, s: Switch) -> None:
        c, o = self.c, self.o

        def fill_all(item: Callable[[Value], Value]) -> None:
            first = c.zext(self.at("dst"), I64)
            with c.for_range(0, self.count()) as i:
                self.fill_borrowed(c.add(first, i), item(i))

        with s.case(Op.TUPLE):
            x = self.source()
            self.unless(c.eq(o.type_of(c, x), self.at("a")))
            self.unless(c.eq(o.size(c, x), self.count()))
            fill_all(lambda i: o.tuple_item(c, x, i))
        with s.case(Op.LIST):
            y = self.source()
            self.unless(o.has_type(c, y, "PyList_Type"))
            self.unless(c.eq(o.size(c, y), self.count()))
            items = o.list_items(c, y)
            fill_all(lambda i: c.at(items, PTR, i))
        with s.case(Op.DICT):
            self.dictionary()
        with s.case(Op.ATTRIBUTE):
            self.fill_new(c.call("PyObject_GetAttr", PTR, [self.source(), self.at("a")]))
        with s.case(Op.ITEM):
            self.fill_new(c.call("PyObject_GetItem", PTR, [self.source(), self.at("a")]))
        with s.case(Op.CALL):
            self.fill_new(self.call_one(self.source()))
        with s.case(Op.VARARGS):
            self.unless(c.eq(c.get(CALL, self.call, "extra_count"), self.count()))
            extra = c.get(CALL, self.call, "extra")
            fill_all(lambda i: c.at(extra, PTR, i))
        with s.case(Op.VARKW):
            self.unless(c.eq(c.get(CALL, self.call, "keyword_count"), self.count()))
            names, values = c.get(CALL, self.call, "keyword_names"), c.get(CALL, self.call, "keyword_values")
            expected = self.at("a")
            with c.for_range(0, self.count()) as i:
                name, wanted = c.at(names, PTR, i), c.at(expected, PTR, i)
                self.unless(c.or_else(c.eq(name, wanted), lambda: o.same_text(c, name, wanted)))
            fill_all(lambda i: c.at(values, PTR, i))

    def dictionary(self) -> None:
        """The keys at a, in order; they are compared by value where b says that this runs no Python code."""
        c, o = self.c, self.o
        x, keys, first = self.source(), self.at("a"), c.zext(self.at("dst"), I64)
        self.unless(o.has_type(c, x, "PyDict_Type"))
        self.unless(c.eq(c.call("PyDict_Size", I64, [x]), self.count()))
        position, key, value = c.alloca(I64), c.alloca(PTR), c.alloca(PTR)
        c.store(const(I64, 0), position)
        by_value = c.not_null(self.at("b"))
        with c.for_range(0, self.count()) as i:
            self.unless(c.ne(c.call("PyDict_Next", I32, [x, position, key, value]), 0))
            found, wanted = c.load(key, PTR), c.at(keys, PTR, i)
            with c.if_(c.ne(found, wanted)):
                self.unless(by_value)
                self.equal(found, wanted)
            self.fill_borrowed(c.add(first, i), c.load(value, PTR))

    # --- what is reached from outside the arguments

    def roots(self, s: Switch) -> None:
        c = self.c

        def look_up() -> Value:
            found = c.call("PyDict_GetItemWithError", PTR, [self.at("a"), self.at("b")])
            with c.if_(c.is_null(found)):
                c.goto_if(c.not_null(c.call("PyErr_Occurred", PTR)), self.error)
            return found

        with s.case(Op.CONSTANT):
            self.fill_borrowed(c.zext(self.at("dst"), I64), self.at("a"))
        with s.case(Op.GLOBAL):
            found = look_up()
            self.unless(c.not_null(found))
            self.fill_borrowed(c.zext(self.at("dst"), I64), found)
        with s.case(Op.ABSENT):
            self.unless(c.is_null(look_up()))
        with s.case(Op.CELL):
            content = c.call("PyCell_Get", PTR, [self.at("a")])
            c.goto_if(c.is_null(content), self.error)
            self.fill(c.zext(self.at("dst"), I64), content)
        with s.case(Op.FUNCTION_CODE):
            self.fill_borrowed(c.zext(self.at("dst"), I64), c.call("PyFunction_GetCode", PTR, [self.at("a")]))

    # --- symbols

    def symbol_rules(self, s: Switch) -> None:
        c, o = self.c, self.o
        for op, read in ((Op.SYMBOL_DIM, o.shape), (Op.SYMBOL_STRIDE, o.strides)):
            with s.case(op):
                value = c.at(read(c, self.input("src")), I64, self.count())
                c.put_at(self.symbols, I64, c.zext(self.at("dst"), I64), value)
        with s.case(Op.SYMBOL_VALUE):
            data = c.at(self.buffers, PTR, c.zext(self.at("src"), I64))
            value = c.var(I64, 0)
            with c.switch(self.at("n")) as width:
                for type in (I8, I16, I32, I64):
                    size = type.width // 8
                    with width.case(size):
                        value.set(c.zext(c.load(data, type), I64))
                    with width.case(-size):
                        value.set(c.to(c.load(data, type), I64))
            c.put_at(self.symbols, I64, c.zext(self.at("dst"), I64), value.get())
        with s.case(Op.DIM_EQUAL):
            self.unless(c.eq(c.at(o.shape(c, self.input("src")), I64, self.count()), self.evaluate()))
        with s.case(Op.STRIDE_EQUAL):
            x = self.input("src")
            shape, axis = o.shape(c, x), self.count()
            free = c.var(I1, c.le(c.at(shape, I64, axis), 1))
            with c.for_range(0, c.zext(o.ndim(c, x), I64)) as i:
                free.set(c.or_(free.get(), c.eq(c.at(shape, I64, i), 0)))
            with c.if_(c.not_(free.get())):
                self.unless(c.eq(c.at(o.strides(c, x), I64, axis), self.evaluate()))
        with s.case(Op.RANGE):
            found, bounds = self.evaluate(), self.at("b")
            self.unless(c.and_(c.ge(found, c.at(bounds, I64, 0)), c.le(found, c.at(bounds, I64, 1))))
        with s.case(Op.DISJOINT):
            first, second = c.alloca(ir.ArrayType(I64, 2)), c.alloca(ir.ArrayType(I64, 2))
            extent = c.module.globals["stager_entry_extent"]
            filled = c.and_(
                c.call(extent, args=[self.input("src"), first]), c.call(extent, args=[self.input("n"), second])
            )
            with c.if_(filled):
                before = c.le(c.at(first, I64, 1), c.at(second, I64, 0))
                after = c.le(c.at(second, I64, 1), c.at(first, I64, 0))
                self.unless(c.or_(before, after))

    def evaluate(self) -> Value:
        """The expression a; what cannot be computed is a miss."""
        c = self.c
        place = c.alloca(I64)
        self.unless(c.call(c.module.globals["stager_entry_evaluate"], args=[self.at("a"), self.symbols, place]))
        return c.load(place, I64)
