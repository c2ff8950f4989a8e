"""lgamma and digamma of one negative float64, in pairs throughout.

Both have zeros between the negative integers, next to which a relative error of a few units asks for about twice the
digits of a float. Series come from tables of pairs and are summed in loops: the code is small and cold.
"""

from __future__ import annotations

import math
from typing import Any

import llvmlite.ir as ir

from stager.codegen.math import coefficients
from stager.codegen.math.exponential import hexadecimal
from stager.codegen.math.expr import Expr, fma, where, while_loop
from stager.codegen.math.functions import math_function
from stager.codegen.math.gamma import TINY, stirling
from stager.codegen.math.logarithm import split_exponent
from stager.codegen.math.split import Pair, constant, two_product
from stager.codegen.math.trigonometric import TRIG_F64
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import f64, i64

LN2 = (hexadecimal("0x1.62e42feep-1"), hexadecimal("0x1.a39ef35793c76p-33"), hexadecimal("0x1.cc01f97b57a08p-87"))


def _table(b: ScalarBuilder, name: str) -> tuple[Any, int]:
    """A generated list as a constant array, and its length."""
    values: list[float] = getattr(coefficients, name)
    module, symbol = b.builder.module, f"stager.{name.lower()}"
    made = module.globals.get(symbol)
    if made is None:
        kind = ir.ArrayType(ir.DoubleType(), len(values))
        made = ir.GlobalVariable(module, kind, symbol)
        made.initializer = ir.Constant(kind, values)
        made.global_constant = made.unnamed_addr = True
        made.linkage = "private"
    return made, len(values)


def _at(b: ScalarBuilder, table: Any, k: Expr) -> Expr:
    zero = ir.Constant(ir.IntType(64), 0)
    return Expr(b, b.load(b.builder.gep(table, [zero, k.v.ir], source_etype=table.value_type), f64))


def _series(t: Pair, name: str) -> Pair:
    """c0 + t*(c1 + t*(c2 + …))."""
    b = t.hi.b
    table, count = _table(b, name)

    def step(state: list[Expr]) -> list[Expr]:
        i = state[0] - 1
        c = Pair(_at(b, table, i << 1), _at(b, table, (i << 1) | 1))
        total = Pair(state[1], state[2]) * t + c
        return [i, total.hi, total.lo]

    zero = t.hi.const(0.0)
    start = [Expr(b, b.const(i64, count // 2)), zero, zero]
    out = while_loop(start, lambda s: s[0] > 0, step)
    return Pair(out[1], out[2])


def _log(x: Pair) -> Pair:
    """log of a positive normal pair."""
    k_bits, k, m = split_exponent(x.hi)
    down = ((k_bits.const(1023) - k_bits) << 52).as_float(f64)
    y = Pair(m, x.lo * down)
    s = (y - k.const(1.0)) / (y + k.const(1.0))
    out = s * _series(s * s, "LOG_SERIES")
    low = Pair(*two_product(k, k.const(LN2[1]))) + k * LN2[2]
    return out + low + k * LN2[0]


def _pi_parts(r: Expr) -> tuple[Pair, Pair]:
    """sin(pi*r) and cos(pi*r) for |r| <= 1/2."""
    z = Pair(*two_product(r, r))
    return _series(z, "SIN_PI_SERIES") * r, _series(z, "COS_PI_SERIES")


def _near_zero(x: Expr, a: Expr, usual: Expr) -> Expr:
    """`usual`, or digamma's Taylor series next to its zero in (-n - 1, -n), where even pairs have too few digits."""
    table, count = _table(x.b, "DIGAMMA_ZEROS")
    row, rows = 6, count // 6
    n = where(a < float(rows), a, 0.0).to(i64) * row
    root, root_low, *series = (_at(x.b, table, n + i) for i in range(row))
    d = (x - root) - root_low
    value = series[-1]
    for c in reversed(series[:-1]):
        value = fma(value, d, c)
    return where((abs(d) < 2.0**-20) & (a < float(rows)), d * value, usual)


@math_function(cold=True)
def digamma_negative(b: ScalarBuilder, v: Val) -> Val:
    # digamma(-a) = digamma(a) + 1/a + pi/tan(pi*a); digamma(a) from its series at a + n >= 24
    x = Expr(b, v)
    a = where(x < -TINY, -x, 1.0)
    a = where(a < 2.0**60, a, 2.0**60)
    zero = a.const(0.0)

    def step(state: list[Expr]) -> list[Expr]:
        y = Pair(state[0], state[1])
        total = Pair(state[2], state[3]) + Pair(a.const(1.0), zero) / y
        y = y + a.const(1.0)
        return [y.hi, y.lo, total.hi, total.lo]

    state = while_loop([a, zero, zero, zero], lambda s: s[0] < 24.0, step)
    y, total = Pair(state[0], state[1]), Pair(state[2], state[3])
    u = Pair(a.const(1.0), zero) / y
    z = u * u
    psi = _log(y) - u * a.const(0.5) - z * _series(z, "DIGAMMA_SERIES") - total
    r = a - a.rint()
    sine, cosine = _pi_parts(r)
    pi = constant(a, TRIG_F64.whole[0], TRIG_F64.whole[1])
    out = psi + Pair(a.const(1.0), zero) / a + pi * cosine / sine
    result = where(r == 0.0, math.nan, out.value())
    result = _near_zero(x, a, result)
    result = where(x > -TINY, -1.0 / x, result)
    return where(x.floor() == x, math.nan, result).v


@math_function(cold=True)
def lgamma_negative(b: ScalarBuilder, v: Val) -> Val:
    # a <= 20: -log|1/gamma(-a)| with 1/gamma(t - n) = t*(t - 1)*…*(t - n)/gamma(1 + t); above: reflection
    x = Expr(b, v)
    a = where(x < -TINY, -x, 0.5)
    low = where(a < 20.0, a, 0.5)
    n = low.rint()
    t = n - low
    zero = t.const(0.0)

    def step(state: list[Expr]) -> list[Expr]:
        product = Pair(state[1], state[2]) * (t - state[0])
        return [state[0] + 1.0, product.hi, product.lo]

    start = _series(Pair(t, zero), "RGAMMA_SERIES")
    state = while_loop([zero, start.hi, start.lo], lambda s: s[0] <= n, step)
    sign = state[1] < 0.0
    near = _log(Pair(where(sign, -state[1], state[1]), where(sign, -state[2], state[2])))
    high = where(a < 20.0, 20.5, where(a < 2.0**60, a, 20.5))
    r = abs(high - high.rint())
    sine, _ = _pi_parts(r)
    sine = sine * high
    pi = constant(a, TRIG_F64.whole[0], TRIG_F64.whole[1])
    far = _log(pi / Pair(where(r == 0.0, 1.0, sine.hi), sine.lo)) - stirling(high)
    out = where(a < 20.0, -near.value(), far.value())
    out = where(x > -TINY, -((-x).call("log")), out)
    out = where(x.floor() == x, math.inf, out)
    return where(x.isnan(), x, out).v
