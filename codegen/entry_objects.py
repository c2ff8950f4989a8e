"""Reading CPython and NumPy objects from emitted code: reference counts, fields at measured offsets, checked types.

Invariant: every offset comes from the `PythonLayout`, so this file holds no knowledge of a Python version but the rule
of immortal objects. Not here: what is done with the objects.
"""

from __future__ import annotations

from llvmlite import ir

from stager.codegen.declarations import I1, I8, I32, I64, PTR, VOID, Struct, Value, external_data
from stager.codegen.structured import Code
from stager.ir.entry_table import (
    ARRAY,
    AXIS,
    CALL_STATE,
    ENTRY,
    FUNCTION,
    INSTRUCTION,
    OUTPUT,
    SIGNATURE,
    PythonLayout,
    Record,
)

_TYPES = {"p": PTR, "i": I32, "l": I64}


def struct_of(record: Record) -> Struct:
    """The LLVM struct of a table record."""
    return Struct(**{name: _TYPES[code] for name, code in record.fields.items()})


FUNCTION_STRUCT = struct_of(FUNCTION)
SIGNATURE_STRUCT = struct_of(SIGNATURE)
ENTRY_STRUCT = struct_of(ENTRY)
INSTRUCTION_STRUCT = struct_of(INSTRUCTION)
ARRAY_STRUCT = struct_of(ARRAY)
AXIS_STRUCT = struct_of(AXIS)
OUTPUT_STRUCT = struct_of(OUTPUT)
STATE = struct_of(CALL_STATE)

# The bound arguments of one call.
CALL = Struct(slots=PTR, positional=I64, extra_count=I64, extra=PTR,
              keyword_count=I64, keyword_names=PTR, keyword_values=PTR)  # fmt: skip

MISS = 1  # as a pointer: no entry took the arguments

CONTEXT = Struct(
    detail0=I64, detail1=I64, detail2=I64, detail3=I64, threads=I32, interrupted=I32, allocate=PTR, user=PTR, poll=PTR
)


class Objects:
    """Access to objects whose layout is `layout`."""

    def __init__(self, layout: PythonLayout) -> None:
        self.layout = layout

    # --- references

    def incref(self, c: Code, obj: Value) -> None:
        """One more reference; immortal objects are left alone."""
        if not self.layout.split_refcount:
            c.store(c.add(c.load(obj, I64), 1), obj)
            return
        count = c.load(obj, I32)
        with c.if_(c.ge(count, 0)):
            c.store(c.add(count, 1), obj)

    def decref(self, c: Code, obj: Value) -> None:
        """One reference less; the last one frees the object, which may run Python code."""
        if not self.layout.split_refcount:
            left = c.sub(c.load(obj, I64), 1)
            c.store(left, obj)
            with c.if_(c.eq(left, 0), likely=False):
                c.call("_Py_Dealloc", VOID, [obj])
            return
        count = c.load(obj, I32)
        with c.if_(c.ge(count, 0)):
            left = c.sub(count, 1)
            c.store(left, obj)
            with c.if_(c.eq(left, 0), likely=False):
                c.call("_Py_Dealloc", VOID, [obj])

    # --- any object

    def type_of(self, c: Code, obj: Value) -> Value:
        return c.load(c.offset(obj, 8), PTR)

    def has_type(self, c: Code, obj: Value, name: str) -> Value:
        """Whether its exact type is the external type object `name`."""
        return c.eq(self.type_of(c, obj), external_data(c.module, name))

    def size(self, c: Code, obj: Value) -> Value:
        """ob_size of a tuple or list."""
        return c.load(c.offset(obj, 16), I64)

    def tuple_item(self, c: Code, obj: Value, index: Value) -> Value:
        return c.at(c.offset(obj, self.layout.tuple_items), PTR, index)

    def put_tuple_item(self, c: Code, obj: Value, index: Value, value: Value) -> None:
        """Fill an item of a new tuple."""
        c.put_at(c.offset(obj, self.layout.tuple_items), PTR, index, value)

    def list_items(self, c: Code, obj: Value) -> Value:
        return c.load(c.offset(obj, self.layout.list_items), PTR)

    def same_text(self, c: Code, a: Value, b: Value) -> Value:
        """Whether two strings are equal; a failed comparison is not, and leaves no error."""
        order = c.call("PyUnicode_Compare", I32, [a, b])
        return c.eq(order, 0)

    def raise_(self, c: Code, exception: str, text: str) -> None:
        """Set an exception of the external class `exception`."""
        c.call("PyErr_SetString", VOID, [c.load(external_data(c.module, exception, PTR), PTR), c.string(text)])

    # --- arrays

    def data(self, c: Code, x: Value) -> Value:
        return c.load(c.offset(x, self.layout.array_data), PTR)

    def ndim(self, c: Code, x: Value) -> Value:
        return c.load(c.offset(x, self.layout.array_ndim), I32)

    def shape(self, c: Code, x: Value) -> Value:
        """The address of its dims."""
        return c.load(c.offset(x, self.layout.array_shape), PTR)

    def strides(self, c: Code, x: Value) -> Value:
        """The address of its byte strides."""
        return c.load(c.offset(x, self.layout.array_strides), PTR)

    def descr(self, c: Code, x: Value) -> Value:
        return c.load(c.offset(x, self.layout.array_descr), PTR)

    def flags(self, c: Code, x: Value) -> Value:
        return c.load(c.offset(x, self.layout.array_flags), I32)

    def same_dtype(self, c: Code, descr: Value, kind: Value, itemsize: Value) -> Value:
        """Whether a descr is a builtin number type of this kind and size in native byte order."""
        at = self.layout
        order = c.load(c.offset(descr, at.descr_byteorder), I8)
        native = c.or_(c.or_(c.eq(order, ord("=")), c.eq(order, ord("|"))), c.eq(order, ord("<")))
        same_kind = c.eq(c.zext(c.load(c.offset(descr, at.descr_kind), I8), I32), kind)
        same_size = c.eq(c.load(c.offset(descr, at.descr_itemsize), I64), itemsize)
        builtin = c.ult(c.load(c.offset(descr, at.descr_type_num), I32), 24)
        return c.and_(c.and_(native, same_kind), c.and_(same_size, builtin))


def checked_mul(c: Code, a: Value, b: Value) -> tuple[Value, Value]:
    """(a * b, whether it overflowed), signed 64 bits."""
    return _checked(c, "llvm.smul.with.overflow.i64", a, b)


def checked_add(c: Code, a: Value, b: Value) -> tuple[Value, Value]:
    """(a + b, whether it overflowed), signed 64 bits."""
    return _checked(c, "llvm.sadd.with.overflow.i64", a, b)


def _checked(c: Code, intrinsic: str, a: Value, b: Value) -> tuple[Value, Value]:
    pair = c.call(intrinsic, ir.LiteralStructType([I64, I1]), [c.as_type(a, I64), c.as_type(b, I64)])
    return c.b.extract_value(pair, 0), c.b.extract_value(pair, 1)

