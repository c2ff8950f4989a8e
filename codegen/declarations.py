"""Types, constants and globals of LLVM modules that are written by hand: structs as C lays them out, functions, data.

Invariant: a name is declared once per module, with one type; globals are addresses (`ptr`), whatever they hold. Code is
`structured.py`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

Value = Any  # ir.Value

VOID = ir.VoidType()
I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F32, F64 = ir.FloatType(), ir.DoubleType()
PTR = ir.PointerType()
NULL = ir.Constant(PTR, None)

RARE = ("nounwind", "cold")  # attributes of functions that run seldom: a library is built sooner without tuning them


def const(type: Any, value: int | float | None) -> Value:
    """A constant of `type`; None is a null pointer or all zeros."""
    return ir.Constant(type, value)


def array(type: Any, count: int) -> Any:
    """The type of `count` elements in a row."""
    return ir.ArrayType(type, count)


class Struct:
    """A C struct with named fields, laid out as C does. Padding, where a foreign header has it, is a field like others.

    >>> point = Struct(x=F64, y=F64)
    >>> point.index("y")
    1
    """

    def __init__(self, **fields: Any) -> None:
        self.fields = fields
        self.type: Any = ir.LiteralStructType([f.type if isinstance(f, Struct) else f for f in fields.values()])
        self._index = {name: i for i, name in enumerate(fields)}

    def index(self, field: str) -> int:
        """The position of a field."""
        return self._index[field]

    def field_type(self, field: str) -> Any:
        """The LLVM type of a field."""
        found = self.fields[field]
        return found.type if isinstance(found, Struct) else found


def declare(module: Any, name: str, result: Any, params: Sequence[Any], *, vararg: bool = False) -> Any:
    """The function `name` of `module`, declared external when it is not there yet. TypeError when the types differ."""
    type = ir.FunctionType(result, params, var_arg=vararg)
    found = module.globals.get(name)
    if found is None:
        return ir.Function(module, type, name)
    if found.function_type != type:
        raise TypeError(f"{name} is declared as {found.function_type} and used as {type}")
    return found


def external_data(module: Any, name: str, type: Any = I8) -> Any:
    """The address of an external variable (`PyExc_TypeError`, `PyArray_Type`): load from it to read it."""
    found = module.globals.get(name)
    if found is None:
        found = ir.GlobalVariable(module, type, name)
        found.type = PTR
    return found


def global_data(
    module: Any, name: str, type: Any, initial: Any = None, *, align: int = 0, constant: bool = False
) -> Any:
    """A private variable of the module: zeros, or `initial` (an ir.Constant, or what `ir.Constant(type, …)` takes)."""
    found = ir.GlobalVariable(module, type.type if isinstance(type, Struct) else type, name)
    type, found.type = found.value_type, PTR
    found.linkage = "internal"
    found.global_constant = constant
    found.initializer = initial if isinstance(initial, ir.Constant) else ir.Constant(type, initial)
    if align:
        found.align = align
    return found


def bytes_data(module: Any, content: bytes, name: str = ".str") -> Any:
    """The address of constant bytes; equal contents are stored once."""
    texts = module.__dict__.setdefault("_stager_texts", {})
    found = texts.get(content)
    if found is None:
        type = ir.ArrayType(I8, len(content))
        found = ir.GlobalVariable(module, type, module.get_unique_name(name))
        found.type = PTR
        found.linkage = "private"
        found.global_constant = True
        found.unnamed_addr = True
        found.initializer = ir.Constant(type, bytearray(content))
        texts[content] = found
    return found


def cstring(module: Any, text: str) -> Any:
    """The address of a NUL-terminated UTF-8 string; equal texts are stored once."""
    return bytes_data(module, text.encode() + b"\0")
