"""C memory for the tables of `ir/entry_table.py`: records, rows of numbers and pointers, expressions over symbols.

Invariant: what a `Memory` gave an address of lives as long as the `Memory`. Not here: what the tables mean.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from stager.ir.dims import Apply, Dim, Expr, Sym
from stager.ir.entry_table import CODE_DEPTH, Code, Record

_CODES = {"p": "Q", "l": "q", "i": "i"}


class Memory:
    """Tables in C memory, alive as long as this object, with the Python objects that they point to."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def hold(self, obj: Any) -> int:
        """The address of a Python object that stays alive."""
        self.kept.append(obj)
        return id(obj)

    def bytes(self, content: bytes) -> int:
        """The address of a copy of `content`, aligned to 8."""
        buffer = (ctypes.c_uint64 * (len(content) // 8 + 1))()
        ctypes.memmove(buffer, content, len(content))
        self.kept.append(buffer)
        return ctypes.addressof(buffer)

    def numbers(self, values: Iterable[int]) -> int:
        """The address of a row of i64."""
        row = tuple(values)
        return self.bytes(struct.pack(f"{len(row)}q", *row))

    def addresses(self, values: Iterable[int]) -> int:
        """The address of a row of pointers."""
        row = tuple(values)
        return self.bytes(struct.pack(f"{len(row)}Q", *row))

    def objects(self, values: Iterable[Any]) -> int:
        """The address of a row of pointers to objects, which stay alive."""
        return self.addresses([self.hold(v) for v in values])


def pack(record: Record, **values: int) -> bytes:
    """The bytes of a record; fields not named are zero."""
    unknown = values.keys() - record.fields.keys()
    if unknown:
        raise TypeError(f"{record.name} has no field {', '.join(sorted(unknown))}")
    codes = "".join(_CODES[code] for code in record.fields.values())
    return struct.pack("<" + codes, *(int(values.get(name, 0)) for name in record.fields))


def expression(d: Dim, symbols: Mapping[str, int]) -> list[int]:
    """A dim as code for the entry's stack machine; `symbols` numbers the symbols. ValueError when one is missing."""
    code: list[int] = []
    depth = _emit(d, symbols, code)
    if depth > CODE_DEPTH:
        raise ValueError(f"the dim {d} is too deeply nested")
    return [*code, Code.END]


def _emit(d: Dim, symbols: Mapping[str, int], code: list[int]) -> int:
    """Append code that pushes `d`; the stack depth that it needs."""
    if not isinstance(d, Expr):
        code += [Code.CONSTANT, d]
        return 1
    deepest = 0
    for i, (monomial, factor) in enumerate(d.terms):
        below = 1 if i else 0
        code += [Code.CONSTANT, factor]
        deepest = max(deepest, below + 1)
        for atom, power in monomial:
            for _ in range(power):
                deepest = max(deepest, below + 1 + _emit_atom(atom, symbols, code))
                code.append(Code.MUL)
        if i:
            code.append(Code.ADD)
    return deepest


def _emit_atom(atom: Sym | Apply, symbols: Mapping[str, int], code: list[int]) -> int:
    if isinstance(atom, Sym):
        if atom.name not in symbols:
            raise ValueError(f"the symbol {atom.name} is not among the symbols of the ABI")
        code += [Code.SYMBOL, symbols[atom.name]]
        return 1
    left = _emit(atom.a, symbols, code)
    right = _emit(atom.b, symbols, code)
    code.append(Code[atom.fn.upper()])
    return max(left, right + 1)


class Places:
    """Offsets in the memory of one call, handed out in order; `size` is the end."""

    def __init__(self) -> None:
        self.size = 0

    def room(self, count: int, align: int = 8) -> int:
        """The offset of `count` bytes more."""
        at = -(-self.size // align) * align
        self.size = at + count
        return at
