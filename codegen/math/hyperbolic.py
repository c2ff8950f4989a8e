"""tanh."""

from __future__ import annotations

from stager.codegen.math import coefficients
from stager.codegen.math.exponential import exp_tail, power_of_two, split_exp
from stager.codegen.math.expr import Expr, fma, horner, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64

TANH_SMALL = 0.55


@math_function()
def tanh(b: ScalarBuilder, v: Val) -> Val:
    # below 0.55: x + x*z*P(z)/Q(z) with z = x*x; above: 1 - 2/(exp(2|x|) + 1); one division serves both
    x = Expr(b, v)
    a = smaller(abs(x), 22.0)
    small = a < TANH_SMALL
    k_bits, _, r = split_exp(a + a)
    e = fma(r * r, exp_tail(r), r) + 1.0
    e = e * power_of_two(k_bits, x.dtype)
    z = a * a
    p, q = (coefficients.TANH_P_F64, coefficients.TANH_Q_F64) if x.dtype is f64 else (coefficients.TANH_P_F32, coefficients.TANH_Q_F32)
    numerator = where(small, a * z * horner(z, p), -2.0)
    denominator = where(small, horner(z, q), e + 1.0)
    out = where(small, a, 1.0) + numerator / denominator
    return out.copysign(x).v
