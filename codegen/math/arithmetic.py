"""Float and integer arithmetic that takes more than a few instructions: remainders, neighbours, scaling, gcd, powers.

All are exact: they give NumPy's bits for every input, subnormals, infinities and NaN included.
"""

from __future__ import annotations

import math

from stager.codegen.math.expr import Expr, fma, when_any, where, while_loop
from stager.codegen.math.functions import math_function
from stager.codegen.math.split import two_product
from stager.codegen.registers import SIGNED_BITS_OF, Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dtypes import DTYPES, DType, f64, i32, i64

# -- remainders of floats --------------------------------------------------------------------------------------------


def _fmod_of_magnitudes(a: Expr, c: Expr) -> Expr:
    """a mod c for a, c >= 0: exact from one rounded quotient while that is an exact integer, else `fmod_far`."""
    if a.dtype is not f64:
        wide, modulus = a.to(f64), c.to(f64)
        q = (wide / modulus).trunc()
        r = wide - q * modulus  # exact: 24 bits of modulus and 29 of q
        near = q < 2.0**29
    else:
        wide, modulus = a, c
        q = (a / c).trunc()
        if a.b.target.has_fma:
            r = fma(q, -c, a)
            near = q < 2.0**53
        else:
            high, low = two_product(q, c)
            r = (a - high) - low
            near = (q < 2.0**53) & (a < 2.0**990)
    r = where(r < 0.0, r + modulus, r)  # the quotient was rounded up
    r = where(wide < modulus, wide, r)
    near = near | (wide < modulus)

    def rare() -> Expr:
        b = a.b
        far = b.map_lanes(lambda s, x, y: s.functions.call(s, "fmod_far", x, y), wide.v, modulus.v)
        return where(near, r, Expr(b, far))

    return when_any(~near, r, rare).to(a.dtype)


@math_function(cold=True)
def fmod_far(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    """Scalar a mod c for a >= c or anything odd: long division of the mantissas, eleven bits at a time."""
    x, y = Expr(b, xv), Expr(b, yv)
    x_bits, y_bits = x.bits(), y.bits()

    def parts(bits: Expr) -> tuple[Expr, Expr]:
        field = bits >> 52
        normal = field != 0
        fraction = bits & ((1 << 52) - 1)
        return where(normal, field, 1), where(normal, fraction | (1 << 52), fraction)

    (ex, mx), (ey, my) = parts(x_bits), parts(y_bits)
    wrong = ~(x < math.inf) | (y == 0.0) | y.isnan()
    my = where(wrong, 1, my)
    ey = where(wrong, ex, ey)
    ex = where(ex < ey, ey, ex)
    state = while_loop(
        [Expr(b, b.mod(mx.v, my.v)), ex - ey],
        lambda s: s[1] > 0,
        lambda s: _divide_step(s[0], s[1], my),
    )
    out = state[0].to(f64)
    half = (ey.to(i64) - 1075) >> 1
    rest = (ey.to(i64) - 1075) - half
    out = out * ((half + 1023) << 52).as_float(f64) * ((rest + 1023) << 52).as_float(f64)
    return where(wrong, math.nan, out).v


def _divide_step(r: Expr, n: Expr, m: Expr) -> list[Expr]:
    shift = where(n < 11, n, 11)
    return [Expr(r.b, r.b.mod(r.shift_left(shift).v, m.v)), n - shift]


@math_function()
def fmod(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    out = _fmod_of_magnitudes(abs(x), abs(y)).copysign(x)
    return where(x.isnan() | y.isnan(), x + y, out).v


def _divmod(x: Expr, y: Expr) -> tuple[Expr, Expr, Expr]:
    """fmod, `np.remainder`, and whether the remainder took a step of the divisor (as `npy_divmod`)."""
    f = x.call("fmod", y)
    step = (f != 0.0) & ((y < 0.0) ^ (f < 0.0))
    zero = f.const(0.0).copysign(y)
    r = where(step, f + y, where(f == 0.0, zero, f))
    return f, r, step


@math_function()
def mod(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    return _divmod(x, y)[1].v


@math_function()
def floordiv(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    f, _, step = _divmod(x, y)
    q = (x - f) / y
    q = where(step, q - 1.0, q)
    whole = q.floor()
    whole = where(q - whole > 0.5, whole + 1.0, whole)
    ratio = x / y
    out = where(q == 0.0, ratio.const(0.0).copysign(ratio), whole)
    return where(y == 0.0, ratio, out).v


# -- neighbours and scaling ------------------------------------------------------------------------------------------


@math_function()
def nextafter(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, y = Expr(b, xv), Expr(b, yv)
    bits = x.bits()
    away = (x < y) ^ (x < 0.0)
    moved = where(away, bits + 1, bits - 1).as_float(x.dtype)
    least = bits.const(1).as_float(x.dtype).copysign(y)
    out = where(x == 0.0, least, moved)
    out = where(x == y, y, out)
    return where(x.isnan() | y.isnan(), x + y, out).v


@math_function()
def spacing(b: ScalarBuilder, xv: Val) -> Val:
    x = Expr(b, xv)
    out = (x.bits() + 1).as_float(x.dtype) - x
    least = x.bits().const(1).as_float(x.dtype)
    out = where(x == 0.0, least, out)
    return where(abs(x) < math.inf, out, math.nan).v


def _lifted(x: Expr) -> tuple[Expr, Expr]:
    """The bits of |x| made normal, and the biased exponent less that lift, as a signed integer."""
    wide = x.dtype is f64
    a = abs(x)
    small = a < (2.0**-1022 if wide else 2.0**-126)
    bits = where(small, a * (2.0**54 if wide else 2.0**25), a).signed_bits()
    field = (bits >> (52 if wide else 23)) - where(small, bits.const(54 if wide else 25), 0)
    return bits, field


@math_function()
def frexp_mantissa(b: ScalarBuilder, xv: Val) -> Val:
    x = Expr(b, xv)
    wide = x.dtype is f64
    bits, _ = _lifted(x)
    half = 1022 << 52 if wide else 126 << 23
    m = ((bits & ((1 << (52 if wide else 23)) - 1)) | half).as_float(x.dtype).copysign(x)
    return where((x == 0.0) | ~(abs(x) < math.inf), x, m).v


@math_function(result=lambda dtypes: i32)
def frexp_exponent(b: ScalarBuilder, xv: Val) -> Val:
    x = Expr(b, xv)
    _, field = _lifted(x)
    e = (field - (1022 if x.dtype is f64 else 126)).to(i32)
    return where((x == 0.0) | ~(abs(x) < math.inf), 0, e).v


@math_function()
def ldexp(b: ScalarBuilder, xv: Val, nv: Val) -> Val:
    # factors 2**most and 2**less keep every product but the last exact (less leaves a mantissa's room above the
    # smallest normal, so a result that becomes subnormal early is one that ends as zero)
    x, n = Expr(b, xv), Expr(b, nv)
    wide = x.dtype is f64
    most, least, less = (1023, -1022, -969) if wide else (127, -126, -102)
    for _ in range(2):
        up, down = n > most, n < least
        x = x * where(up, x.const(2.0**most), where(down, x.const(2.0**less), 1.0))
        n = n - where(up, n.const(most), where(down, n.const(less), 0))
    n = where(n > most, most, n)
    n = where(n < least, least, n)
    bits = n.to(SIGNED_BITS_OF[x.dtype.name])
    factor = ((bits + (1023 if wide else 127)) << (52 if wide else 23)).as_float(x.dtype)
    return (x * factor).v


# -- integers --------------------------------------------------------------------------------------------------------


def _unsigned(dtype: DType) -> DType:
    return DTYPES["u" + dtype.name[1:]]


def _gcd_scalar(b: ScalarBuilder, x: Val, y: Val) -> Val:
    state = while_loop(
        [Expr(b, x), Expr(b, y)],
        lambda s: s[1] != 0,
        lambda s: [s[1], Expr(b, b.mod(s[0].v, s[1].v))],
    )
    return state[0].v


@math_function()
def gcd(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    kind = _unsigned(xv.dtype)
    if b.width > 1:
        return b.map_lanes(lambda s, x, y: s.functions.call(s, "gcd", x, y), xv, yv)
    x, y = b.convert(b.abs(xv), kind), b.convert(b.abs(yv), kind)
    return b.convert(_gcd_scalar(b, x, y), xv.dtype)


@math_function()
def lcm(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    kind = _unsigned(xv.dtype)
    g = b.convert(b.functions.call(b, "gcd", xv, yv), kind)
    x, y = b.convert(b.abs(xv), kind), b.convert(b.abs(yv), kind)
    return b.convert(b.mul(b.trunc_div(x, g), y), xv.dtype)


@math_function()
def ipow(b: ScalarBuilder, xv: Val, yv: Val) -> Val:
    x, n = Expr(b, xv), Expr(b, yv)
    signed = xv.dtype.kind == "i"
    one = x.const(1)
    state = while_loop(
        [one, x, where(n < 0, 0, n) if signed else n],
        lambda s: s[2] != 0,
        lambda s: [where((s[2] & 1) != 0, s[0] * s[1], s[0]), s[1] * s[1], s[2] >> 1],
    )
    out = state[0]
    if signed:  # 1/x**|n| toward zero
        inverse = where(x == 1, one, where(x == -1, where((n & 1) != 0, one.const(-1), 1), 0))
        out = where(n < 0, inverse, out)
    return out.v
