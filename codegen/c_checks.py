"""Validation in C entries: sizes that do not overflow, pointers, strides, and memory that may not be shared.

Invariant: every check returns the code of its error from the entry before anything is read or written through a pointer
of the caller's; all arithmetic on sizes notices overflow, so a check never passes because a number wrapped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from stager.codegen.c_interface import ERRORS, MOST_BYTES, MOST_SIZE, Function
from stager.codegen.declarations import F64, I1, I64, const
from stager.codegen.structured import Code
from stager.ir.dims import Apply, Dim, Expr, Sym
from stager.ir.types import Type

LARGEST = 1 << 60  # no size, position or count of bytes in a call is beyond


class Dims:
    """Values of dims in one function, from the sizes that came; remembers whether any of them overflowed."""

    def __init__(self, c: Code, env: dict[str, Any]) -> None:
        self.c, self.env = c, env
        self._overflowed: Any = None

    def value(self, d: Dim) -> Any:
        """The i64 value of a dim."""
        if not isinstance(d, Expr):
            return const(I64, d)
        total: Any = None
        for monomial, coefficient in d.terms:
            product: Any = None
            for atom, power in monomial:
                for _ in range(power):
                    x = self._atom(atom)
                    product = x if product is None else self.mul(product, x)
            if product is None:
                product = const(I64, coefficient)
            elif coefficient != 1:
                product = self.mul(product, const(I64, coefficient))
            total = product if total is None else self.add(total, product)
        return const(I64, 0) if total is None else total

    def mul(self, a: Any, b: Any) -> Any:
        """a * b, noticing when it is too large."""
        c = self.c
        if isinstance(a, ir.Constant) and isinstance(b, ir.Constant):
            return const(I64, a.constant * b.constant)
        # by doubles: a multiplication that tells its overflow is a library call on wasm32
        product = c.b.fmul(c.b.sitofp(a, F64), c.b.sitofp(b, F64))
        most = const(F64, float(LARGEST))
        least = const(F64, -float(LARGEST))
        self._note(c.or_(c.b.fcmp_ordered(">", product, most), c.b.fcmp_ordered("<", product, least)))
        return c.mul(a, b)

    def add(self, a: Any, b: Any) -> Any:
        """a + b, noticing when it is too large; neither is beyond LARGEST."""
        c = self.c
        total = c.add(a, b)
        self._note(c.or_(c.gt(total, LARGEST), c.lt(total, -LARGEST)))
        return total

    def _note(self, flag: Any) -> None:
        self._overflowed = flag if self._overflowed is None else self.c.or_(self._overflowed, flag)

    def _atom(self, atom: Sym | Apply) -> Any:
        c = self.c
        if isinstance(atom, Sym):
            return self.env[atom.name]
        a, b = self.value(atom.a), self.value(atom.b)
        match atom.fn:
            case "max":
                return c.max(a, b)
            case "min":
                return c.min(a, b)
        b = c.select(c.eq(b, 0), const(I64, 1), b)
        quotient = c.sdiv(a, b)
        remainder = c.sub(a, c.mul(quotient, b))
        crossed = c.and_(c.ne(remainder, 0), c.lt(c.xor(remainder, b), 0))
        if atom.fn == "floordiv":
            return c.sub(quotient, c.zext(crossed, I64))
        return c.select(crossed, c.add(remainder, b), remainder)

    def refuse_overflow(self) -> None:
        """Leaves with SIZE when anything since the last time overflowed."""
        if self._overflowed is not None:
            self.c.ret_if(self._overflowed, ERRORS["SIZE"][0])
            self._overflowed = None


def check_sizes(c: Code, f: Function, env: dict[str, Any]) -> Dims:
    """The sizes are sane."""
    for s in f.sizes:
        c.ret_if(c.b.icmp_unsigned(">", env[s], const(I64, MOST_SIZE)), ERRORS["SIZE"][0])  # negative ones are huge
    return Dims(c, env)


def check_conditions(dims: Dims, f: Function) -> None:
    """Sizes and values fulfil the function's conditions."""
    c = dims.c
    for d, low, high in f.conditions:
        value = dims.value(d)
        dims.refuse_overflow()
        if low == high:
            wrong = c.ne(value, low)
        else:
            wrong = c.lt(value, low) if high >= MOST_SIZE else c.or_(c.lt(value, low), c.gt(value, high))
        c.ret_if(wrong, ERRORS["CONDITION"][0])


@dataclass
class Array:
    """Memory that came: where it is, what it is, and the bytes [low, high) around its pointer that it covers."""

    pointer: Any
    type: Type
    shape: list[Any]
    written: bool
    low: Any
    high: Any
    count: Any
    strides: list[Any] | None = None  # values, of an input that may be strided


def dense_array(dims: Dims, pointer: Any, t: Type, written: bool) -> Array:
    """A dense array, its bytes counted; SIZE when there are too many."""
    c = dims.c
    shape = [dims.value(d) for d in t.shape]
    count: Any = const(I64, 1)
    for d, extent in zip(t.shape, shape, strict=True):
        if isinstance(d, Expr):
            c.ret_if(c.lt(extent, 0), ERRORS["SIZE"][0])
        count = dims.mul(count, extent) if not t.is_static else c.mul(count, extent)
    size = c.mul(count, t.dtype.itemsize) if t.is_static else dims.mul(count, const(I64, t.dtype.itemsize))
    dims.refuse_overflow()
    if not t.is_static:
        c.ret_if(c.gt(size, MOST_BYTES), ERRORS["SIZE"][0])
    return Array(pointer, t, shape, written, const(I64, 0), size, count)


def add_strides(dims: Dims, a: Array, given: Any) -> None:
    """Read the strides of an array (dense ones where `given` is null) and what they cover; SIZE, ALIGNMENT, OVERLAP."""
    c, item = dims.c, a.type.dtype.itemsize
    dense: list[Any] = []
    step: Any = const(I64, item)
    for extent in reversed(a.shape):
        dense.insert(0, step)
        step = c.mul(step, extent)
    slots = [c.var(I64, s) for s in dense]
    with c.if_(c.not_null(given)):
        for k, slot in enumerate(slots):
            # an axis of one element has no second one to stride to
            slot.set(c.select(c.le(a.shape[k], 1), dense[k], c.at(given, I64, k)))
    a.strides = [slot.get() for slot in slots]
    for s in a.strides:
        c.ret_if(c.or_(c.gt(s, MOST_BYTES), c.lt(s, -MOST_BYTES)), ERRORS["SIZE"][0])
        c.ret_if(c.ne(c.and_(s, item - 1), 0), ERRORS["ALIGNMENT"][0])
    low, high = const(I64, 0), const(I64, item)
    for s, extent in zip(a.strides, a.shape, strict=True):
        reach = dims.mul(s, c.max(c.sub(extent, 1), 0))
        low, high = dims.add(low, c.min(reach, const(I64, 0))), dims.add(high, c.max(reach, const(I64, 0)))
    dims.refuse_overflow()
    c.ret_if(c.or_(c.lt(low, -MOST_BYTES), c.gt(high, MOST_BYTES)), ERRORS["SIZE"][0])
    some = c.gt(a.count, 0)
    a.low, a.high = c.select(some, low, const(I64, 0)), c.select(some, high, const(I64, 0))
    if a.written:
        _refuse_self_overlap(dims, a)


def _refuse_self_overlap(dims: Dims, a: Array) -> None:
    """Every element of an array that is written has a place of its own: by rising stride, each axis steps over what the
    ones below it cover."""
    c = dims.c
    assert a.strides is not None
    axes = [(c.select(c.lt(s, 0), c.sub(0, s), s), n) for s, n in zip(a.strides, a.shape, strict=True)]
    axes = [(c.select(c.le(n, 1), const(I64, 0), s), n) for s, n in axes]
    for end in range(len(axes) - 1, 0, -1):  # bubbles: ranks are small
        for k in range(end):
            (s, n), (t, m) = axes[k], axes[k + 1]
            swap = c.gt(s, t)
            axes[k] = c.select(swap, t, s), c.select(swap, m, n)
            axes[k + 1] = c.select(swap, s, t), c.select(swap, n, m)
    reach: Any = const(I64, a.type.dtype.itemsize)
    wrong: Any = const(I1, 0)
    for s, n in axes:
        several = c.gt(n, 1)
        wrong = c.or_(wrong, c.and_(several, c.lt(s, reach)))
        reach = c.select(several, c.add(reach, c.mul(s, c.sub(n, 1))), reach)
    c.ret_if(c.and_(wrong, c.gt(a.count, 0)), ERRORS["OVERLAP"][0])


def check_pointers(c: Code, arrays: Sequence[Array], address_bits: int) -> None:
    """None is null where there is something to read or write, all are aligned to their elements, and where an address
    has 32 bits, none goes round its end."""
    for a in arrays:
        c.ret_if(c.and_(c.is_null(a.pointer), c.gt(a.count, 0)), ERRORS["NULL"][0])
    for a in arrays:
        if address_bits < 64:
            address = c.b.ptrtoint(a.pointer, I64)
            outside = c.or_(c.lt(c.add(address, a.low), 0), c.gt(c.add(address, a.high), 1 << address_bits))
            c.ret_if(outside, ERRORS["SIZE"][0])
    for a in arrays:
        if a.type.dtype.itemsize > 1:
            misaligned = c.ne(c.and_(c.b.ptrtoint(a.pointer, I64), a.type.dtype.itemsize - 1), 0)
            c.ret_if(misaligned, ERRORS["ALIGNMENT"][0])


def check_overlap(c: Code, arrays: Sequence[Array]) -> None:
    """Memory that is written is no other array's."""
    for i, a in enumerate(arrays):
        for b in arrays[:i]:
            if not (a.written or b.written):
                continue
            p, q = c.b.ptrtoint(a.pointer, I64), c.b.ptrtoint(b.pointer, I64)
            apart = c.or_(c.uge(c.add(q, b.low), c.add(p, a.high)), c.uge(c.add(p, a.low), c.add(q, b.high)))
            nothing = c.or_(c.eq(a.count, 0), c.eq(b.count, 0))
            c.ret_if(c.not_(c.or_(apart, nothing)), ERRORS["OVERLAP"][0])
