"""Scalar code in MLIR: the builder that elementwise ops are lowered through, over the dialects arith and math.

It has the methods of the builder that generates LLVM, so `op.lower(b, *scalars)` serves both; the answers where arith
leaves the result open (division by 0, shifts, casts out of range) are NumPy's. What no dialect offers is composed in
`special.py` or, for a few of C's functions (lgamma, hypot, …), called from libm.
"""

from __future__ import annotations

import math
import struct
from typing import Any

from stager.ir.dtypes import DType, b1, f64, i32, i64, u8, u32, u64
from stager.ir.mlir import special
from stager.ir.mlir.writer import Scalar, Writer, element


def literal(dtype: DType, value: Any) -> str:
    """One element as MLIR reads it; floats by their bits where decimal text could lose some."""
    if dtype.kind == "b":
        return "true" if value else "false"
    if dtype.kind != "f":
        bits = int(value) % 2**dtype.bits
        return str(bits - 2**dtype.bits if bits >= 2 ** (dtype.bits - 1) else bits)
    v = float(value)
    if v == int(v) if math.isfinite(v) and abs(v) < 1e6 else False:
        return f"{'-' if math.copysign(1, v) < 0 else ''}{abs(v):.1f}"
    return "0x" + struct.pack({16: ">e", 32: ">f", 64: ">d"}[dtype.bits], v).hex().upper()


class Scalars:
    """Emits scalar ops through a writer."""

    def __init__(self, writer: Writer) -> None:
        self.w = writer

    # -- building blocks -------------------------------------------------------------------------------------------

    def const(self, dtype: DType, value: Any) -> Scalar:
        t = element(dtype)
        text = literal(dtype, value)
        return Scalar(self.w.op(f"arith.constant {text}" + ("" if t == "i1" else f" : {t}")), dtype)

    def _do(self, name: str, *args: Scalar, dtype: DType | None = None) -> Scalar:
        names = ", ".join(a.name for a in args)
        return Scalar(self.w.op(f"{name} {names} : {element(args[0].dtype)}"), dtype or args[0].dtype)

    def _cast(self, name: str, x: Scalar, dtype: DType) -> Scalar:
        return Scalar(self.w.op(f"{name} {x.name} : {element(x.dtype)} to {element(dtype)}"), dtype)

    def _libm(self, name: str, *args: Scalar) -> Scalar:
        x = args[0]
        called = name + ("f" if x.dtype.bits == 32 else "")
        (result,) = self.w.call(called, [(a.name, element(a.dtype)) for a in args], [element(x.dtype)])
        return Scalar(result, x.dtype)

    def _math(self, name: str, *args: Scalar) -> Scalar:
        return self._do(f"math.{name}", *args)

    def bitcast(self, x: Scalar, dtype: DType) -> Scalar:
        if element(x.dtype) == element(dtype):
            return Scalar(x.name, dtype)
        return self._cast("arith.bitcast", x, dtype)

    # -- arithmetic ------------------------------------------------------------------------------------------------

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.ori" if x.dtype is b1 else "arith.addf" if x.dtype.is_float else "arith.addi", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.subf" if x.dtype.is_float else "arith.subi", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.andi" if x.dtype is b1 else "arith.mulf" if x.dtype.is_float else "arith.muli", x, y)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.divf", x, y)

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return self._math("fma", x, y, z) if x.dtype.is_float else self.add(self.mul(x, y), z)

    def neg(self, x: Scalar) -> Scalar:
        return self._do("arith.negf", x) if x.dtype.is_float else self.sub(self.const(x.dtype, 0), x)

    def abs(self, x: Scalar) -> Scalar:
        if x.dtype.is_float:
            return self._math("absf", x)
        if x.dtype.kind != "i":
            return x
        return self.select(self.lt(x, self.const(x.dtype, 0)), self.neg(x), x)

    def sign(self, x: Scalar) -> Scalar:
        zero, one = self.const(x.dtype, 0), self.const(x.dtype, 1)
        up = self.select(self.gt(x, zero), one, zero)
        if x.dtype.kind == "u" or x.dtype is b1:
            return up
        both = self.select(self.lt(x, zero), self.const(x.dtype, -1), up)
        return self.select(self.isnan(x), x, both) if x.dtype.is_float else both

    def _safe(self, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
        """A divisor that never traps, and whether y is 0."""
        by_zero = self.eq(y, self.const(y.dtype, 0))
        bad = by_zero
        if x.dtype.kind == "i":  # the smallest integer by -1
            least = self.eq(x, self.const(x.dtype, -(2 ** (x.dtype.bits - 1))))
            bad = self.or_(bad, self.and_(least, self.eq(y, self.const(y.dtype, -1))))
        return self.select(bad, self.const(y.dtype, 1), y), by_zero

    def floordiv(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_float:
            return special.float_divmod(self, x, y)[0]
        divisor, by_zero = self._safe(x, y)
        quotient = self._do("arith.floordivsi" if x.dtype.kind == "i" else "arith.divui", x, divisor)
        return self.select(by_zero, self.const(x.dtype, 0), quotient)

    def fmod(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_float:
            return self._do("arith.remf", x, y)
        divisor, by_zero = self._safe(x, y)
        rest = self._do("arith.remsi" if x.dtype.kind == "i" else "arith.remui", x, divisor)
        return self.select(by_zero, self.const(x.dtype, 0), rest)

    def mod(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_float:
            return special.float_divmod(self, x, y)[1]
        rest = self.fmod(x, y)
        if x.dtype.kind != "i":
            return rest
        zero = self.const(x.dtype, 0)
        other_sign = self.lt(self.xor(rest, y), zero)
        return self.select(self.and_(other_sign, self.ne(rest, zero)), self.add(rest, y), rest)

    def gcd(self, x: Scalar, y: Scalar) -> Scalar:
        return special.gcd(self, x, y)

    def lcm(self, x: Scalar, y: Scalar) -> Scalar:
        return special.lcm(self, x, y)

    def pow(self, x: Scalar, y: Scalar) -> Scalar:
        return self._math("powf", x, y) if x.dtype.is_float else special.integer_power(self, x, y)

    # -- comparison, logic, bits -----------------------------------------------------------------------------------

    def _compare(self, name: str, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_float:
            predicate = {"ne": "une"}.get(name, f"o{name}")
            return self._do(f"arith.cmpf {predicate},", x, y, dtype=b1)
        if name not in ("eq", "ne"):
            name = ("s" if x.dtype.kind == "i" else "u") + name
        return self._do(f"arith.cmpi {name},", x, y, dtype=b1)

    def eq(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("eq", x, y)

    def ne(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("ne", x, y)

    def lt(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("lt", x, y)

    def le(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("le", x, y)

    def gt(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("gt", x, y)

    def ge(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("ge", x, y)

    def select(self, c: Scalar, x: Scalar, y: Scalar) -> Scalar:
        return Scalar(self.w.op(f"arith.select {c.name}, {x.name}, {y.name} : {element(x.dtype)}"), x.dtype)

    def _extreme(self, name: str, x: Scalar, y: Scalar) -> Scalar:
        sign = "f" if x.dtype.is_float else "si" if x.dtype.kind == "i" else "ui"
        stem = {"f": {"max": "maximum", "min": "minimum"}[name]}.get(sign, name)
        return self._do(f"arith.{stem}{sign}", x, y)

    def maximum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._extreme("max", x, y)

    def minimum(self, x: Scalar, y: Scalar) -> Scalar:
        return self._extreme("min", x, y)

    def fmax(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.maxnumf", x, y) if x.dtype.is_float else self.maximum(x, y)

    def fmin(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.minnumf", x, y) if x.dtype.is_float else self.minimum(x, y)

    def and_(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.andi", x, y)

    def or_(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.ori", x, y)

    def xor(self, x: Scalar, y: Scalar) -> Scalar:
        return self._do("arith.xori", x, y)

    def not_(self, x: Scalar) -> Scalar:
        return self.xor(x, self.const(x.dtype, -1 if x.dtype is not b1 else True))

    def _too_far(self, y: Scalar) -> Scalar:
        """Shift amounts beyond the width; negative ones count as huge."""
        width = self.const(y.dtype, y.dtype.bits)
        return self._do("arith.cmpi uge,", y, width, dtype=b1)

    def shl(self, x: Scalar, y: Scalar) -> Scalar:
        far, zero = self._too_far(y), self.const(x.dtype, 0)
        amount = self.select(far, zero, y)
        return self.select(far, zero, self._do("arith.shli", x, amount))

    def shr(self, x: Scalar, y: Scalar) -> Scalar:
        far, signed = self._too_far(y), x.dtype.kind == "i"
        amount = self.select(far, self.const(y.dtype, y.dtype.bits - 1), y)
        shifted = self._do("arith.shrsi" if signed else "arith.shrui", x, amount)
        return shifted if signed else self.select(far, self.const(x.dtype, 0), shifted)

    def popcount(self, x: Scalar) -> Scalar:
        return self.convert(self._math("ctpop", self.abs(x)), u8)

    # -- conversion ------------------------------------------------------------------------------------------------

    def convert(self, x: Scalar, dtype: DType) -> Scalar:
        src = x.dtype
        if src is dtype:
            return x
        if dtype is b1:
            return self.ne(x, self.const(src, 0))
        if dtype.is_float:
            if src.is_float:
                return self._cast("arith.extf" if dtype.bits > src.bits else "arith.truncf", x, dtype)
            return self._cast("arith.sitofp" if src.kind == "i" else "arith.uitofp", x, dtype)
        if src.is_float:
            return self._float_to_int(x, dtype)
        if src is not b1 and src.bits == dtype.bits:
            return self.bitcast(x, dtype)
        if src is not b1 and src.bits > dtype.bits:
            return self._cast("arith.trunci", x, dtype)
        return self._cast("arith.extsi" if src.kind == "i" else "arith.extui", x, dtype)

    def _float_to_int(self, x: Scalar, dtype: DType) -> Scalar:
        # C on x86-64, which NumPy inherits: narrow integers through i32, u32 through i64, u64 in two halves
        if dtype.bits < 32:
            return self.convert(self._float_to_int(x, i32), dtype)
        if dtype is u32:
            return self.convert(self._float_to_int(x, i64), u32)
        if dtype is u64:
            half = self.const(x.dtype, 2.0**63)
            high = self.xor(self._float_to_int(self.sub(x, half), i64), self.const(i64, -(2**63)))
            low = self._float_to_int(x, i64)
            return self.bitcast(self.select(self.ge(x, half), high, low), u64)
        inside = self.lt(self.abs(x), self.const(x.dtype, 2.0 ** (dtype.bits - 1)))
        whole = self._cast("arith.fptosi", self.select(inside, x, self.const(x.dtype, 0)), dtype)
        return self.select(inside, whole, self.const(dtype, -(2 ** (dtype.bits - 1))))

    # -- parts of floats -------------------------------------------------------------------------------------------

    def floor(self, x: Scalar) -> Scalar:
        return self._math("floor", x)

    def ceil(self, x: Scalar) -> Scalar:
        return self._math("ceil", x)

    def trunc(self, x: Scalar) -> Scalar:
        return self._math("trunc", x)

    def rint(self, x: Scalar) -> Scalar:
        return self._math("roundeven", x)

    def isnan(self, x: Scalar) -> Scalar:
        if not x.dtype.is_float:
            return self.const(b1, False)
        return self._do("arith.cmpf uno,", x, x, dtype=b1)

    def isinf(self, x: Scalar) -> Scalar:
        return self.eq(self.abs(x), self.const(x.dtype, math.inf))

    def isfinite(self, x: Scalar) -> Scalar:
        return self.lt(self.abs(x), self.const(x.dtype, math.inf))

    def signbit(self, x: Scalar) -> Scalar:
        whole = special.integer_of(x.dtype)
        return self.lt(self.bitcast(x, whole), self.const(whole, 0))

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        return self._math("copysign", x, y)

    def nextafter(self, x: Scalar, y: Scalar) -> Scalar:
        return self._libm("nextafter", x, y)

    def spacing(self, x: Scalar) -> Scalar:
        outwards = self.copysign(self.const(x.dtype, math.inf), x)
        return self.sub(self.nextafter(x, outwards), x)

    def ldexp(self, x: Scalar, n: Scalar) -> Scalar:
        limit = self.const(n.dtype, min(1 << 20, 2 ** (n.dtype.bits - 1) - 1))
        n = self.minimum(n, limit)
        if n.dtype.kind == "i":
            n = self.maximum(n, self.neg(limit))
        return self._libm("ldexp", x, self.convert(n, i32))

    def frexp(self, x: Scalar) -> tuple[Scalar, Scalar]:
        return special.frexp(self, x)

    # -- functions that it lacks ----------------------------------------------------------------------------------

    def lgamma(self, x: Scalar) -> Scalar:
        return self._libm("lgamma", x)

    def gamma(self, x: Scalar) -> Scalar:
        return self._libm("tgamma", x)

    def hypot(self, x: Scalar, y: Scalar) -> Scalar:
        return self._libm("hypot", x, y)

    def _in_double(self, f: Any, x: Scalar, *args: Any) -> Scalar:
        return self.convert(f(self, self.convert(x, f64), *args), x.dtype)

    def erfinv(self, x: Scalar) -> Scalar:
        return self._in_double(special.erfinv, x)

    def digamma(self, x: Scalar) -> Scalar:
        return self._in_double(special.digamma, x)

    def polygamma(self, x: Scalar, n: int) -> Scalar:
        return self._in_double(special.polygamma, x, n)

    def logaddexp(self, x: Scalar, y: Scalar) -> Scalar:
        return special.logaddexp(self, x, y, "exp", 1.0)

    def logaddexp2(self, x: Scalar, y: Scalar) -> Scalar:
        return special.logaddexp(self, x, y, "exp2", 1 / math.log(2))

    # -- functions that the dialect math has ------------------------------------------------------------------------

    def sqrt(self, x: Scalar) -> Scalar:
        return self._math("sqrt", x)

    def cbrt(self, x: Scalar) -> Scalar:
        return self._math("cbrt", x)

    def exp(self, x: Scalar) -> Scalar:
        return self._math("exp", x)

    def exp2(self, x: Scalar) -> Scalar:
        return self._math("exp2", x)

    def expm1(self, x: Scalar) -> Scalar:
        return self._math("expm1", x)

    def log(self, x: Scalar) -> Scalar:
        return self._math("log", x)

    def log2(self, x: Scalar) -> Scalar:
        return self._math("log2", x)

    def log10(self, x: Scalar) -> Scalar:
        return self._math("log10", x)

    def log1p(self, x: Scalar) -> Scalar:
        return self._math("log1p", x)

    def sin(self, x: Scalar) -> Scalar:
        return self._math("sin", x)

    def cos(self, x: Scalar) -> Scalar:
        return self._math("cos", x)

    def tan(self, x: Scalar) -> Scalar:
        return self._math("tan", x)

    def asin(self, x: Scalar) -> Scalar:
        return self._math("asin", x)

    def acos(self, x: Scalar) -> Scalar:
        return self._math("acos", x)

    def atan(self, x: Scalar) -> Scalar:
        return self._math("atan", x)

    def sinh(self, x: Scalar) -> Scalar:
        return self._math("sinh", x)

    def cosh(self, x: Scalar) -> Scalar:
        return self._math("cosh", x)

    def tanh(self, x: Scalar) -> Scalar:
        return self._math("tanh", x)

    def asinh(self, x: Scalar) -> Scalar:
        return self._math("asinh", x)

    def acosh(self, x: Scalar) -> Scalar:
        return self._math("acosh", x)

    def atanh(self, x: Scalar) -> Scalar:
        return self._math("atanh", x)

    def erf(self, x: Scalar) -> Scalar:
        return self._math("erf", x)

    def erfc(self, x: Scalar) -> Scalar:
        return self._math("erfc", x)

    def atan2(self, y: Scalar, x: Scalar) -> Scalar:
        return self._math("atan2", y, x)
