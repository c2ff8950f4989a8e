"""The vocabulary of lowering rules: one call per scalar operation, emitted for one element or for a vector of them.

`ScalarBuilder(irbuilder, width, target, functions)` wraps an llvmlite builder. With `width=1` its methods emit scalars,
with `width=W` they emit `<W x T>`; a lowering rule (`lambda b, x, y: b.mul(x, y)`) cannot tell which. Invariants: no
method emits anything that is poison or traps for any input, results are NumPy's on x86-64, and the bits of a lane do
not depend on `width`. Arguments of one call have one dtype (promotion is the graph's work), except where a method says
otherwise. Booleans are `i1` in registers and `i8` in memory. No fast-math flag and no contraction is ever set; `fma`
asks for one.

Functions that are more than a few instructions stand in `codegen/math/` and are reached through `functions`
(`MathFunctions`), which materialises each once per module, dtype and width. What is one instruction or a few comes from
`arithmetic.py` and `conversions.py`.
"""

from __future__ import annotations

from stager.codegen.conversions import ConversionBuilder
from stager.codegen.registers import SIGNED_BITS_OF, Val
from stager.ir.dtypes import DType, b1, f32, f64, i8, i32, i64, u8, u32


class ScalarBuilder(ConversionBuilder):
    """Emits elementwise arithmetic on `Val`s: everything that a lowering rule may call."""

    __slots__ = ()

    # -- division of integers and floats with NumPy's meaning ---------------------------------------------------------

    def _safe_division(self, x: Val, y: Val) -> tuple[Val, Val, Val]:
        """Quotient and remainder toward zero with a divisor of 1 where the machine would trap, and that divisor."""
        one, zero = self.const(x.dtype, 1), self.const(x.dtype, 0)
        traps = self.eq(y, zero)
        if x.dtype.kind == "i":
            smallest = self.eq(x, self.const(x.dtype, -(2 ** (x.dtype.bits - 1))))
            traps = self.or_(traps, self.and_(smallest, self.eq(y, self.const(x.dtype, -1))))
        d = self.select(traps, one, y)
        if self.width > 1 and x.dtype.bits <= 32 and self.target.vector_bits:
            # no vector unit divides integers; a float with more than twice the digits divides them exactly
            wide = f32 if x.dtype.bits == 8 else f64
            q = self.convert(self.trunc(self.div(self.convert(x, wide), self.convert(d, wide))), _whole(x.dtype))
            q = self.convert(q, x.dtype)
        elif x.dtype.kind == "i":
            q = Val(self.builder.sdiv(x.ir, d.ir), x.dtype)
        else:
            q = Val(self.builder.udiv(x.ir, d.ir), x.dtype)
        return q, self.sub(x, self.mul(q, d)), d

    def trunc_div(self, x: Val, y: Val) -> Val:
        """Integer quotient rounded toward zero; /0 gives 0, MIN/-1 gives MIN."""
        q, _, _ = self._safe_division(x, y)
        return self.select(self.eq(y, self.const(y.dtype, 0)), self.const(x.dtype, 0), q)

    def floordiv(self, x: Val, y: Val) -> Val:
        """`np.floor_divide`: integers /0 give 0 and MIN//-1 gives MIN; floats as `npy_divmod`."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "floordiv", x, y)
        if x.dtype is b1:
            return self.convert(self.and_(x, y), i8)
        zero = self.const(x.dtype, 0)
        q, r, d = self._safe_division(x, y)
        if x.dtype.kind == "i":
            down = self.and_(self.ne(r, zero), self.lt(self.xor(r, d), zero))
            q = self.sub(q, self.convert(down, x.dtype))
        return self.select(self.eq(y, zero), zero, q)

    def mod(self, x: Val, y: Val) -> Val:
        """`np.remainder`: the sign of the divisor; integers % 0 give 0."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "mod", x, y)
        zero = self.const(x.dtype, 0)
        _, r, d = self._safe_division(x, y)
        if x.dtype.kind == "i":
            up = self.and_(self.ne(r, zero), self.lt(self.xor(r, d), zero))
            r = self.select(up, self.add(r, d), r)
        return self.select(self.eq(y, zero), zero, r)

    def fmod(self, x: Val, y: Val) -> Val:
        """`np.fmod`: the sign of the dividend; integers % 0 give 0."""
        if x.dtype.kind == "f":
            return self.functions.call(self, "fmod", x, y)
        zero = self.const(x.dtype, 0)
        _, r, _ = self._safe_division(x, y)
        return self.select(self.eq(y, zero), zero, r)

    def gcd(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "gcd", x, y)

    def lcm(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "lcm", x, y)

    def reciprocal(self, x: Val) -> Val:
        if x.dtype.kind == "f":
            return self.div(self.const(x.dtype, 1), x)
        # np.reciprocal(0) of integers is what the C cast of inf gives
        by_zero = self._float_to_int(self.const(f64, float("inf")), x.dtype)
        return self.select(self.eq(x, self.const(x.dtype, 0)), by_zero, self.trunc_div(self.const(x.dtype, 1), x))

    # -- rounding and the parts of a float --------------------------------------------------------------------------

    def floor(self, x: Val) -> Val:
        return self._round("floor", x)

    def ceil(self, x: Val) -> Val:
        return self._round("ceil", x)

    def trunc(self, x: Val) -> Val:
        return self._round("trunc", x)

    def rint(self, x: Val) -> Val:
        """To nearest, ties to even."""
        return self._round("rint", x)

    def _round(self, name: str, x: Val) -> Val:
        return self._intrinsic(name, x.dtype, x) if x.dtype.kind == "f" else x

    def copysign(self, x: Val, y: Val) -> Val:
        return self._intrinsic("copysign", x.dtype, x, y)

    def signbit(self, x: Val) -> Val:
        bits = SIGNED_BITS_OF[x.dtype.name]
        return self.lt(self.bitcast(x, bits), self.const(bits, 0))

    def isinf(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, False)
        return self.eq(self.abs(x), self.const(x.dtype, float("inf")))

    def isfinite(self, x: Val) -> Val:
        if x.dtype.kind != "f":
            return self.const(b1, True)
        return self.lt(self.abs(x), self.const(x.dtype, float("inf")))

    def nextafter(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "nextafter", x, y)

    def spacing(self, x: Val) -> Val:
        """`np.spacing`: the distance to the next number away from zero, with the sign of `x`."""
        return self.functions.call(self, "spacing", x)

    def frexp(self, x: Val) -> tuple[Val, Val]:
        """Mantissa in [0.5, 1) and exponent (i32)."""
        return self.functions.call(self, "frexp_mantissa", x), self.functions.call(self, "frexp_exponent", x)

    def ldexp(self, x: Val, n: Val) -> Val:
        """`x * 2**n`, rounded once. `n` is any integer dtype."""
        if n.dtype is not i32:
            wide = self.convert(n, i64) if n.dtype.bits < 64 else n
            limit = self.const(wide.dtype, 1 << 20)
            wide = self.minimum(wide, limit)
            if wide.dtype.kind == "i":
                wide = self.maximum(wide, self.neg(limit))
            n = self.convert(wide, i32)
        return self.functions.call(self, "ldexp", x, n)

    def modf(self, x: Val) -> tuple[Val, Val]:
        """Fraction and whole part, both with the sign of `x`."""
        whole = self.trunc(x)
        fraction = self.select(self.isinf(x), self.const(x.dtype, 0), self.sub(x, whole))
        return self.copysign(fraction, x), whole

    # -- bits ---------------------------------------------------------------------------------------------------------

    def popcount(self, x: Val) -> Val:
        """`np.bitwise_count`: the ones of |x|, as u8."""
        return self.convert(self._intrinsic("ctpop", x.dtype, self.abs(x)), u8)

    # -- powers and transcendentals -----------------------------------------------------------------------------------

    def pow(self, x: Val, y: Val) -> Val:
        """`x**y`. Floats: C's pow. Integers: wrapping squares; a negative exponent gives the truncated quotient."""
        return self.functions.call(self, "pow" if x.dtype.kind == "f" else "ipow", x, y)

    def call(self, name: str, *args: Val) -> Val:
        """Any function of `codegen/math/` by name."""
        return self.functions.call(self, name, *args)

    def exp(self, x: Val) -> Val:
        return self.functions.call(self, "exp", x)

    def exp2(self, x: Val) -> Val:
        return self.functions.call(self, "exp2", x)

    def expm1(self, x: Val) -> Val:
        return self.functions.call(self, "expm1", x)

    def log(self, x: Val) -> Val:
        return self.functions.call(self, "log", x)

    def log2(self, x: Val) -> Val:
        return self.functions.call(self, "log2", x)

    def log10(self, x: Val) -> Val:
        return self.functions.call(self, "log10", x)

    def log1p(self, x: Val) -> Val:
        return self.functions.call(self, "log1p", x)

    def logaddexp(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "logaddexp", x, y)

    def logaddexp2(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "logaddexp2", x, y)

    def sin(self, x: Val) -> Val:
        return self.functions.call(self, "sin", x)

    def cos(self, x: Val) -> Val:
        return self.functions.call(self, "cos", x)

    def tan(self, x: Val) -> Val:
        return self.functions.call(self, "tan", x)

    def asin(self, x: Val) -> Val:
        return self.functions.call(self, "asin", x)

    def acos(self, x: Val) -> Val:
        return self.functions.call(self, "acos", x)

    def atan(self, x: Val) -> Val:
        return self.functions.call(self, "atan", x)

    def atan2(self, y: Val, x: Val) -> Val:
        return self.functions.call(self, "atan2", y, x)

    def sinh(self, x: Val) -> Val:
        return self.functions.call(self, "sinh", x)

    def cosh(self, x: Val) -> Val:
        return self.functions.call(self, "cosh", x)

    def tanh(self, x: Val) -> Val:
        return self.functions.call(self, "tanh", x)

    def asinh(self, x: Val) -> Val:
        return self.functions.call(self, "asinh", x)

    def acosh(self, x: Val) -> Val:
        return self.functions.call(self, "acosh", x)

    def atanh(self, x: Val) -> Val:
        return self.functions.call(self, "atanh", x)

    def cbrt(self, x: Val) -> Val:
        return self.functions.call(self, "cbrt", x)

    def hypot(self, x: Val, y: Val) -> Val:
        return self.functions.call(self, "hypot", x, y)

    def erf(self, x: Val) -> Val:
        return self.functions.call(self, "erf", x)

    def erfc(self, x: Val) -> Val:
        return self.functions.call(self, "erfc", x)

    def erfinv(self, x: Val) -> Val:
        return self.functions.call(self, "erfinv", x)

    # -- C functions ------------------------------------------------------------------------------------------------

    def c_call(self, symbol: str, *args: Val) -> Val:
        """The external C function `symbol`, whose parameters and result all have the arguments' type; lane by lane."""
        from stager.codegen.foreign import call_c

        return call_c(self, symbol, args)

    # -- the gamma family ----------------------------------------------------------------------------------------------

    def lgamma(self, x: Val) -> Val:
        """log |gamma(x)|."""
        return self.functions.call(self, "lgamma", x)

    def gamma(self, x: Val) -> Val:
        """gamma(x); NaN at negative integers and -inf, a signed infinity at zeros."""
        return self.functions.call(self, "gamma", x)

    def digamma(self, x: Val) -> Val:
        """The derivative of log gamma."""
        return self.functions.call(self, "digamma", x)

    def sinc(self, x: Val) -> Val:
        """`np.sinc`: sin(pi x)/(pi x)."""
        return self.functions.call(self, "sinc", x)

    def i0(self, x: Val) -> Val:
        """The modified Bessel function of the first kind of order 0."""
        return self.functions.call(self, "i0", x)


def _whole(dtype: DType) -> DType:
    """The integer through which quotients of `dtype` come back from a float: all of its values fit."""
    return i64 if dtype is u32 else i32
