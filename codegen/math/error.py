"""erf: an odd polynomial below 1, 1 - exp(-g(x)) above, where g = -log(erfc) is smooth."""

from __future__ import annotations

from stager.codegen.math.exponential import exp_tail, power_of_two, reduce_exp
from stager.codegen.math.expr import Expr, estrin, fits, fma, smaller, where
from stager.codegen.math.functions import math_function
from stager.codegen.scalar import ScalarBuilder, Val
from stager.ir.dtypes import f64


@math_function()
def erf(b: ScalarBuilder, v: Val) -> Val:
    x = Expr(b, v)
    wide = x.dtype is f64
    a = smaller(abs(x), 6.0 if wide else 4.0)
    z = x * x
    near = fma(x, estrin(z, fits("ERF", x)), x)
    g = estrin(a, fits("ERFC_LOG", x))
    k_bits, _, r = reduce_exp(-g)
    e = fma(r * r, exp_tail(r), r) + 1.0
    far = (1.0 - e * power_of_two(k_bits, x.dtype)).copysign(x)
    return where(a < 1.0, near, far).v
