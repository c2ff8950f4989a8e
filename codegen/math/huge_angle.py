"""sin, cos and tan of scalars far from zero: the fraction of |x|/(2*pi) in integer arithmetic (Payne and Hanek).

Cold scalar paths for float64; float32 comes through float64. Invariant: right for every |x| >= 2**17, inf and NaN.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import llvmlite.ir as ir

from stager.codegen.math.expr import Expr, fma, where
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import two_product, two_sum
from stager.codegen.math.trigonometric import TRIG_F64, sign_bit, sin_kernel, tan_kernel
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f64, i64, u64

_WORDS = 22


@cache
def one_over_two_pi(bits: int) -> int:
    """floor(2**bits / (2*pi)), by Machin's formula in integers."""
    guard = bits + 64

    def arctan_inverse(n: int) -> int:
        power = total = (1 << guard) // n
        i = 1
        while power:
            power //= n * n
            i += 2
            total += power // i if i % 4 == 1 else -(power // i)
        return total

    two_pi = 8 * (4 * arctan_inverse(5) - arctan_inverse(239))
    return (1 << (guard + bits)) // two_pi


def _table(b: ScalarBuilder) -> Any:
    """The bits of 1/(2*pi) after the binary point as 64-bit words, behind one word of zeros."""
    module, name = b.builder.module, "stager.one_over_two_pi"
    made = module.globals.get(name)
    if made is not None:
        return made
    digits = 64 * (_WORDS - 1)
    value = one_over_two_pi(digits)
    words = [0] + [(value >> (digits - 64 * (i + 1))) & (2**64 - 1) for i in range(_WORDS - 1)]
    kind = ir.ArrayType(ir.IntType(64), _WORDS)
    table = ir.GlobalVariable(module, kind, name)
    table.initializer = ir.Constant(kind, words)
    table.global_constant = table.unnamed_addr = True
    table.linkage = "private"
    return table


def multiply_high(x: Expr, y: Expr) -> Expr:
    """The upper 64 bits of a product of unsigned words."""
    b = x.b
    if b.target.arch != "wasm32":
        double = ir.IntType(128)
        product = b.builder.mul(*(b.builder.zext(e.v.ir, double) for e in (x, y)))
        return Expr(b, Val(b.builder.trunc(b.builder.lshr(product, ir.Constant(double, 64)), ir.IntType(64)), u64))
    mask = (1 << 32) - 1
    x0, x1, y0, y1 = x & mask, x >> 32, y & mask, y >> 32
    middle = x1 * y0 + (x0 * y0 >> 32)
    other = x0 * y1 + (middle & mask)
    return x1 * y1 + (middle >> 32) + (other >> 32)


def _turns(x: Expr) -> tuple[Expr, Expr]:
    """|x| / (2*pi) modulo 1, a 128-bit fraction in two words."""
    b, table = x.b, _table(x.b)
    bits = abs(x).bits()
    exponent = bits >> 52
    exponent = where(exponent > 2046, 2046, where(exponent < 1023, 1023, exponent))  # stay in the table for any lane
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # |x| = mantissa * 2**(exponent - 1075): bits of 1/(2*pi) before that place contribute whole turns
    start = exponent - (1075 - 64)
    word, shift = start >> 6, start & 63
    zero = ir.Constant(ir.IntType(64), 0)

    def at(i: int) -> Expr:
        pointer = b.builder.gep(table, [zero, (word + i).v.ir], inbounds=True, source_etype=table.value_type)
        return Expr(b, b.load(pointer, u64))

    w = [at(i) for i in range(4)]
    back = 63 - shift
    w2, w1, w0 = (w[i].shift_left(shift) | (w[i + 1] >> 1).shift_right(back) for i in range(3))
    carry = multiply_high(w0, mantissa)
    low = w1 * mantissa + carry
    high = w2 * mantissa + multiply_high(w1, mantissa) + where(low < carry, low.const(1), 0)
    return high, low


def _angle(high: Expr, low: Expr, unit: float) -> tuple[Expr, Expr]:
    """The angle of a signed 128-bit fraction of unit*pi, as a pair."""
    mask = (1 << 32) - 1
    signed = Expr(high.b, high.b.bitcast(high.v, i64))
    s, e = two_sum((signed >> 32).to(f64) * 2.0**-32, (high & mask).to(f64) * 2.0**-64)
    s2, e2 = two_sum(e, (low >> 32).to(f64) * 2.0**-96)
    h, e = two_sum(s, s2)
    h, lo = two_sum(h, e + (e2 + (low & mask).to(f64) * 2.0**-128))
    pi_hi, pi_lo = (part * unit for part in TRIG_F64.whole[:2])
    r, error = two_product(h, h.const(pi_hi))
    return r, error + fma(h, pi_lo, lo * pi_hi)


def _huge_sin(b: ScalarBuilder, v: Val, cosine: bool) -> Val:
    x = Expr(b, v)
    high, low = _turns(x)
    high = high + ((1 << 63) if cosine else (1 << 62))
    # twice the turns, less half a turn: a signed fraction of pi
    out = sin_kernel(*_angle(((high << 1) | (low >> 63)) ^ (1 << 63), low << 1, 1.0))
    sign = high & (1 << 63)
    out = (out.bits() ^ (sign if cosine else sign ^ sign_bit(x))).as_float(f64)
    return where(abs(x) < math.inf, out, math.nan).v


@math_function(cold=True)
def sin_huge(b: ScalarBuilder, v: Val) -> Val:
    return _huge_sin(b, v, False)


@math_function(cold=True)
def cos_huge(b: ScalarBuilder, v: Val) -> Val:
    return _huge_sin(b, v, True)


@math_function(cold=True)
def tan_huge(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    high, low = _turns(x)
    high = high + (1 << 61)
    r, lo = _angle(((high << 2) | (low >> 62)) ^ (1 << 63), low << 2, 0.5)
    out = tan_kernel(r, lo, (high & (1 << 62)) != 0)
    out = (out.bits() ^ sign_bit(x)).as_float(f64)
    return where(abs(x) < math.inf, out, math.nan).v
