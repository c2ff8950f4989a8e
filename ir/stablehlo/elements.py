"""Elementwise code in StableHLO: the scalar builder of op lowerings, whose "scalars" are whole arrays of one shape.

It inherits from the builder over arith and math what that composes of other methods, and says the rest in StableHLO's
own ops. A method that needs something StableHLO lacks raises `Uncovered`.
"""

from __future__ import annotations

import math
from typing import Any

from stager.ir.dtypes import DType, b1
from stager.ir.mlir import special
from stager.ir.mlir.scalars import Scalars, literal
from stager.ir.mlir.writer import Scalar, Writer
from stager.ir.types import Type


class Uncovered(NotImplementedError):  # noqa: N818  (what is missing, caught where the op is known)
    """Something that has no StableHLO form; its text says what."""


def element(dtype: DType) -> str:
    """The type of an element; unsigned integers have types of their own here."""
    return {"b": "i1", "f": f"f{dtype.bits}", "i": f"i{dtype.bits}", "u": f"ui{dtype.bits}"}[dtype.kind]


def tensor(t: Type) -> str:
    """The type of an array. Uncovered where a size is not a number."""
    for d in t.shape:
        if not isinstance(d, int):
            raise Uncovered(f"the size {d}, which only the run knows,")
    return f"tensor<{''.join(f'{d}x' for d in t.shape)}{element(t.dtype)}>"


def element_text(dtype: DType, value: Any) -> str:
    """One element as a dense constant writes it."""
    return str(int(value) % 2**dtype.bits) if dtype.kind == "u" else literal(dtype, value)


_OPS = {
    "arith.addf": "add", "arith.addi": "add", "arith.subf": "subtract", "arith.subi": "subtract",
    "arith.mulf": "multiply", "arith.muli": "multiply", "arith.divf": "divide", "arith.divui": "divide",
    "arith.negf": "negate", "arith.remf": "remainder", "arith.remsi": "remainder", "arith.remui": "remainder",
    "arith.maximumf": "maximum", "arith.maxsi": "maximum", "arith.maxui": "maximum",
    "arith.minimumf": "minimum", "arith.minsi": "minimum", "arith.minui": "minimum",
    "arith.andi": "and", "arith.ori": "or", "arith.xori": "xor",
    "arith.shli": "shift_left", "arith.shrsi": "shift_right_arithmetic", "arith.shrui": "shift_right_logical",
    "math.absf": "abs", "math.sqrt": "sqrt", "math.cbrt": "cbrt", "math.exp": "exponential",
    "math.expm1": "exponential_minus_one", "math.log": "log", "math.log1p": "log_plus_one", "math.sin": "sine",
    "math.cos": "cosine", "math.tan": "tan", "math.tanh": "tanh", "math.atan2": "atan2", "math.powf": "power",
    "math.floor": "floor", "math.ceil": "ceil", "math.roundeven": "round_nearest_even", "math.ctpop": "popcnt",
}  # fmt: skip


class Elements(Scalars):
    """Emits elementwise ops on arrays of one shape."""

    def __init__(self, writer: Writer, shape: tuple[Any, ...]) -> None:
        super().__init__(writer)
        self.shape = shape

    def type(self, dtype: DType) -> str:
        return tensor(Type(dtype, self.shape))

    # -- what the inherited methods are made of --------------------------------------------------------------------

    def const(self, dtype: DType, value: Any) -> Scalar:
        text = f"stablehlo.constant dense<{element_text(dtype, value)}> : {self.type(dtype)}"
        return Scalar(self.w.op(text), dtype)

    def _do(self, name: str, *args: Scalar, dtype: DType | None = None) -> Scalar:
        op = _OPS.get(name)
        if op is None:
            raise Uncovered(name.partition(".")[2])
        names = ", ".join(a.name for a in args)
        return Scalar(self.w.op(f"stablehlo.{op} {names} : {self.type(args[0].dtype)}"), dtype or args[0].dtype)

    def _cast(self, name: str, x: Scalar, dtype: DType) -> Scalar:
        op = "bitcast_convert" if name == "arith.bitcast" else "convert"
        text = f"stablehlo.{op} {x.name} : ({self.type(x.dtype)}) -> {self.type(dtype)}"
        return Scalar(self.w.op(text), dtype)

    def _libm(self, name: str, *args: Scalar) -> Scalar:
        raise Uncovered(name)

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        return x if x.dtype is dtype else self._cast("arith.bitcast", x, dtype)

    def _compare(self, name: str, x: Scalar, y: Scalar) -> Scalar:
        kind = "FLOAT" if x.dtype.is_float else "SIGNED" if x.dtype.kind == "i" else "UNSIGNED"
        t = self.type(x.dtype)
        text = f"stablehlo.compare {name.upper()}, {x.name}, {y.name}, {kind} : ({t}, {t}) -> {self.type(b1)}"
        return Scalar(self.w.op(text), b1)

    def select(self, c: Scalar, x: Scalar, y: Scalar) -> Scalar:
        text = f"stablehlo.select {c.name}, {x.name}, {y.name} : {self.type(b1)}, {self.type(x.dtype)}"
        return Scalar(self.w.op(text), x.dtype)

    # -- what differs ----------------------------------------------------------------------------------------------

    def isnan(self, x: Scalar) -> Scalar:
        return self.ne(x, x) if x.dtype.is_float else self.const(b1, False)

    def fmax(self, x: Scalar, y: Scalar) -> Scalar:
        return self.select(self.isnan(x), y, self.select(self.isnan(y), x, self.maximum(x, y)))

    def fmin(self, x: Scalar, y: Scalar) -> Scalar:
        return self.select(self.isnan(x), y, self.select(self.isnan(y), x, self.minimum(x, y)))

    def floordiv(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_float:
            return special.float_divmod(self, x, y)[0]
        divisor, by_zero = self._safe(x, y)
        quotient = self._do("arith.divui", x, divisor)
        zero, one = self.const(x.dtype, 0), self.const(x.dtype, 1)
        if x.dtype.kind == "i":
            rest = self._do("arith.remsi", x, divisor)
            down = self.and_(self.ne(rest, zero), self.ne(self.lt(rest, zero), self.lt(divisor, zero)))
            quotient = self.select(down, self.sub(quotient, one), quotient)
        return self.select(by_zero, zero, quotient)

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        if x.dtype.is_float:
            raise Uncovered("a multiplication and addition with one rounding")
        return super().fma(x, y, z)

    def pow(self, x: Scalar, y: Scalar) -> Scalar:
        if not x.dtype.is_float:
            raise Uncovered("an integer power")
        return self._math("powf", x, y)

    def gcd(self, x: Scalar, y: Scalar) -> Scalar:
        raise Uncovered("gcd")

    def lcm(self, x: Scalar, y: Scalar) -> Scalar:
        raise Uncovered("lcm")

    def erfinv(self, x: Scalar) -> Scalar:
        raise Uncovered("erfinv")

    def digamma(self, x: Scalar) -> Scalar:
        raise Uncovered("digamma")

    def _too_far(self, y: Scalar) -> Scalar:
        far = self.ge(y, self.const(y.dtype, y.dtype.bits))
        return self.or_(far, self.lt(y, self.const(y.dtype, 0))) if y.dtype.kind == "i" else far

    def convert(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype is dtype:
            return x
        if dtype is b1:
            return self.ne(x, self.const(x.dtype, 0))
        if x.dtype.is_float and not dtype.is_float:
            return self._float_to_int(x, dtype)
        return self._cast("convert", x, dtype)

    def trunc(self, x: Scalar) -> Scalar:
        return self.select(self.lt(x, self.const(x.dtype, 0.0)), self.ceil(x), self.floor(x))

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        whole = special.integer_of(x.dtype)
        sign = self.const(whole, -(2 ** (whole.bits - 1)))
        bits = self.and_(self.bitcast(x, whole), self.const(whole, 2 ** (whole.bits - 1) - 1))
        return self.bitcast(self.or_(bits, self.and_(self.bitcast(y, whole), sign)), x.dtype)

    def exp2(self, x: Scalar) -> Scalar:
        return self.pow(self.const(x.dtype, 2.0), x)

    def log2(self, x: Scalar) -> Scalar:
        return self.div(self.log(x), self.const(x.dtype, math.log(2.0)))

    def log10(self, x: Scalar) -> Scalar:
        return self.div(self.log(x), self.const(x.dtype, math.log(10.0)))

    def atan(self, x: Scalar) -> Scalar:
        return self.atan2(x, self.const(x.dtype, 1.0))

    def _other_leg(self, x: Scalar) -> Scalar:
        one = self.const(x.dtype, 1.0)
        return self.sqrt(self.mul(self.sub(one, x), self.add(one, x)))

    def asin(self, x: Scalar) -> Scalar:
        return self.atan2(x, self._other_leg(x))

    def acos(self, x: Scalar) -> Scalar:
        return self.atan2(self._other_leg(x), x)
