"""Registers of the program being emitted: values with their element types, constants, and lanes.

A register holds one element or, at `width` W, a vector of W; booleans are `i1` in registers and `i8` in memory.
Invariant: types and constants are spelled the same way wherever they are made. Not here: what is done to the elements
(`arithmetic.py`, `conversions.py`, `scalar.py`; each adds to the builder of the one before).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import llvmlite.ir as ir
import numpy as np

from stager.codegen.target import Target
from stager.ir.dtypes import DTYPES, DType, b1, i32, i64, u32, u64

if TYPE_CHECKING:
    from stager.codegen.math.functions import MathFunctions


class Val(NamedTuple):
    """A register of the program being emitted: the llvmlite value and the element type that it holds."""

    ir: Any
    dtype: DType


INT_TYPES = {bits: ir.IntType(bits) for bits in (1, 8, 16, 32, 64)}
_ELEMENT_TYPES: dict[str, Any] = {"f32": ir.FloatType(), "f64": ir.DoubleType(), "b1": INT_TYPES[1]}
_ELEMENT_TYPES.update({d.name: INT_TYPES[d.bits] for d in DTYPES.values() if d.is_integer})
BITS_OF = {"f32": u32, "f64": u64}
"""The unsigned integer of the width of a float."""
SIGNED_BITS_OF = {"f32": i32, "f64": i64}


def element_type(dtype: DType) -> Any:
    """The LLVM type of one element in a register."""
    return _ELEMENT_TYPES[dtype.name]


@cache
def register_type(dtype: str, width: int) -> Any:
    """The LLVM type of so many elements in a register; one object for each, so that types compare at once."""
    t = _ELEMENT_TYPES[dtype]
    return t if width == 1 else ir.VectorType(t, width)


def memory_type(dtype: DType) -> Any:
    """The LLVM type of one element in memory (booleans take a byte)."""
    return INT_TYPES[8] if dtype is b1 else _ELEMENT_TYPES[dtype.name]


def mangled(dtype: DType, width: int) -> str:
    """`f64`, `v4f64`, `v8i1`: how LLVM's overloaded names spell a type (signedness is not part of it)."""
    element = dtype.name if dtype.kind == "f" else "i1" if dtype is b1 else f"i{dtype.bits}"
    return element if width == 1 else f"v{width}{element}"


def _literal(dtype: DType, value: Any) -> str:
    """LLVM's spelling of a constant of this dtype."""
    if dtype is b1:
        return "true" if value else "false"
    if dtype.kind == "f":
        exact = float(value)
        if dtype.bits < 64:
            with np.errstate(over="ignore"):
                exact = float(dtype.np.type(value))
        return f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016x}"
    n = int(value) & ((1 << dtype.bits) - 1)
    if n >> (dtype.bits - 1):
        n -= 1 << dtype.bits
    return str(n)


class Literal(ir.Constant):  # type: ignore[misc]
    """A constant that is already spelled; vectors of one value stay short (`splat (double …)`). `number`: it is known
    not to be NaN."""

    def __init__(self, kind: Any, text: str, number: bool = False) -> None:
        self.type = kind  # the base class would take the text for a value of each lane
        self.constant = text
        self.number = number

    def _to_string(self) -> str:
        return f"{self.type} {self.constant}"

    def _get_reference(self) -> str:
        return str(self.constant)


@lru_cache(maxsize=4096)
def _same(dtype: str, width: int, text: str, number: bool) -> Literal:
    """A constant that is spelled `text`, in every lane."""
    t = _ELEMENT_TYPES[dtype]
    return Literal(register_type(dtype, width), text if width == 1 else f"splat ({t} {text})", number)


@cache
def undefined(t: Any) -> Any:
    """Any value of an LLVM type."""
    return ir.Constant(t, ir.Undefined)


@cache
def lane_number(lane: int) -> Any:
    """What names a lane."""
    return ir.Constant(INT_TYPES[32], lane)


@lru_cache(maxsize=1024)
def lane_numbers(lanes: tuple[int, ...]) -> Any:
    """The mask of a shuffle."""
    return ir.Constant(ir.VectorType(INT_TYPES[32], len(lanes)), [lane_number(k) for k in lanes])


class RegisterBuilder:
    """Emits constants and moves between lanes. `inline` is how it calls math functions: "auto", "inline" or "call"."""

    __slots__ = ("builder", "functions", "inline", "target", "width")

    def __init__(
        self, builder: Any, width: int, target: Target, functions: MathFunctions, *, inline: str = "auto"
    ) -> None:
        self.builder = builder
        self.width = width
        self.target = target
        self.functions = functions
        self.inline = inline

    def with_width(self, width: int) -> Self:
        """A builder at the same place of the program for another number of lanes."""
        return type(self)(self.builder, width, self.target, self.functions, inline=self.inline)

    def type(self, dtype: DType) -> Any:
        """The LLVM type of a register of this builder's width."""
        return register_type(dtype.name, self.width)

    def const(self, dtype: DType, value: Any) -> Val:
        """The same value in every lane. Integers wrap into the dtype, floats round to it."""
        return Val(_same(dtype.name, self.width, _literal(dtype, value), bool(value == value)), dtype)

    def const_lanes(self, dtype: DType, values: Sequence[Any]) -> Val:
        """One value per lane."""
        if len(values) != self.width:
            raise ValueError(f"const_lanes: {len(values)} values for {self.width} lanes")
        if self.width == 1:
            return self.const(dtype, values[0])
        t = element_type(dtype)
        return Val(Literal(self.type(dtype), f"<{', '.join(f'{t} {_literal(dtype, v)}' for v in values)}>"), dtype)

    def iota(self, dtype: DType) -> Val:
        """0, 1, 2, … along the lanes."""
        return self.const_lanes(dtype, range(self.width))

    def splat(self, x: Val) -> Val:
        """A scalar in every lane."""
        if self.width == 1:
            return x
        t = self.type(x.dtype)
        if x.dtype is b1 and self.target.vector_bits == 512:  # a mask has no way from one lane to the others
            bits = self.builder.sext(x.ir, ir.IntType(self.width))
            return Val(self.builder.bitcast(bits, t), b1)
        lane0 = self.builder.insert_element(undefined(t), x.ir, lane_number(0))
        return Val(self.builder.shuffle_vector(lane0, undefined(t), lane_numbers((0,) * self.width)), x.dtype)

    def extract(self, x: Val, lane: int) -> Val:
        """One lane as a scalar."""
        if self.width == 1:
            return x
        return Val(self.builder.extract_element(x.ir, lane_number(lane)), x.dtype)

    def joined(self, parts: Sequence[Val]) -> Val:
        """Vectors, a power of two of them, as one of all their lanes."""
        while len(parts) > 1:
            pairs = list(zip(parts[::2], parts[1::2], strict=True))
            numbers = lane_numbers(tuple(range(2 * pairs[0][0].ir.type.count)))
            parts = [Val(self.builder.shuffle_vector(x.ir, y.ir, numbers), x.dtype) for x, y in pairs]
        return parts[0]

    def parts(self, x: Val, count: int) -> list[Val]:
        """What `joined` joined."""
        width, other = self.width // count, undefined(x.ir.type)
        lanes = (lane_numbers(tuple(range(k * width, (k + 1) * width))) for k in range(count))
        return [Val(self.builder.shuffle_vector(x.ir, other, numbers), x.dtype) for numbers in lanes]

    def transposed(self, rows: Sequence[Val]) -> list[Val]:
        """The columns of a square: as many rows as there are lanes."""
        now, half = [r.ir for r in rows], self.width // 2
        while half:  # blocks off the diagonal of every square of 2*half change places
            upper = lane_numbers(tuple([self.width + n - half if n & half else n for n in range(self.width)]))
            lower = lane_numbers(tuple([self.width + n if n & half else n + half for n in range(self.width)]))
            for r in (r for r in range(self.width) if not r & half):
                x, y = now[r], now[r + half]
                now[r], now[r + half] = (self.builder.shuffle_vector(x, y, numbers) for numbers in (upper, lower))
            half //= 2
        return [Val(x, rows[0].dtype) for x in now]

    def insert(self, x: Val, lane: int, value: Val) -> Val:
        """`x` with one lane replaced by a scalar."""
        if self.width == 1:
            return value
        return Val(self.builder.insert_element(x.ir, value.ir, lane_number(lane)), x.dtype)

    def map_lanes(self, f: Callable[..., Val], *args: Val) -> Val:
        """`f(scalar_builder, *scalars)` for each lane in turn: for what has no vector form."""
        if self.width == 1:
            return f(self, *args)
        scalar = self.with_width(1)
        out: Val | None = None
        for lane in range(self.width):
            value = f(scalar, *(self.extract(a, lane) for a in args))
            if out is None:
                out = Val(undefined(self.type(value.dtype)), value.dtype)
            out = self.insert(out, lane, value)
        assert out is not None
        return out

    def any(self, mask: Val) -> Val:
        """Whether a lane is true, as a scalar b1."""
        return self._reduce_mask("or", mask)

    def all(self, mask: Val) -> Val:
        """Whether every lane is true, as a scalar b1."""
        return self._reduce_mask("and", mask)

    def _reduce_mask(self, kind: str, mask: Val) -> Val:
        if self.width == 1:
            return mask
        # through an integer: `vector.reduce.or.v4i1` makes the same mask register, but not on every backend
        bits = self.builder.bitcast(mask.ir, ir.IntType(self.width))
        bound = ir.Constant(bits.type, 0 if kind == "or" else -1)
        return Val(self.builder.icmp_unsigned("!=" if kind == "or" else "==", bits, bound), b1)

    def _intrinsic(self, name: str, result: DType, *args: Val, tail: Sequence[Any] = ()) -> Val:
        """A call of an intrinsic overloaded on its first argument's type."""
        values = [a.ir for a in args] + list(tail)
        full = f"llvm.{name}.{mangled(args[0].dtype, self.width)}"
        module = self.builder.module
        function = module.globals.get(full)
        if function is None:
            function = ir.Function(module, ir.FunctionType(self.type(result), [v.type for v in values]), full)
        return Val(self.builder.call(function, values), result)
