"""The scalar builder against NumPy: integers, rounding, casts, order, bits; every value that traps or wraps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stager.codegen.registers import Val
from stager.ir.dtypes import DTYPES, DType, b1, f32, f64, i8, i32, i64, u8, u32, u64
from tests.codegen.array_loop import HOST, NO_FMA, ArrayLoop

INTEGERS = [d for d in DTYPES.values() if d.is_integer]
FLOATS = [f32, f64]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def hard(dtype: DType) -> Any:
    """Values where something happens."""
    if dtype is b1:
        return np.array([False, True])
    if dtype.is_integer:
        info = np.iinfo(dtype.np)
        low = [info.min, info.min + 1, info.min // 2]
        values = [0, 1, 2, 3, 5, 7, 10, 63, 64, 100, info.max, info.max - 1, info.max // 2, info.max // 3, *low]
        values += [] if dtype.kind == "u" else [-1, -2, -3, -7, -63, -64, -100]
        return np.array([v for v in values if info.min <= v <= info.max], dtype.np)
    limits = np.finfo(dtype.np)
    reals = [0.0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 7, 10, 1e-3, 100.5, 127.5, 255, 300, 32768, 70000]
    reals += [0.1, 1 / 3, 2.0**31, 2.0**31 - 1, 2.0**31 - 0.5, 2.0**32, 2.0**52 + 1, 2.0**53]
    reals += [2.0**62, 2.0**63, 2.0**64]
    reals += [1e10, 1e20, 0.49999999999999994, 1e30]
    reals += [float(limits.max), float(limits.tiny), float(limits.smallest_subnormal), np.inf]
    out = np.array(reals, np.float64).astype(dtype.np)
    return np.concatenate([out, -out, [dtype.np.type(np.nan)]])


def pairs(dtype: DType, rng: np.random.Generator) -> tuple[Any, Any]:
    """Every pair of hard values, and random ones."""
    values = hard(dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    if dtype.is_integer:
        info = np.iinfo(dtype.np)
        more = rng.integers(info.min, info.max, (2, 333), dtype.np, endpoint=True)
        small = rng.integers(max(info.min, -9), 9, (2, 333)).astype(dtype.np)
        more = np.concatenate([more, small, np.stack([more[0], small[0]])], axis=1)
    else:
        bits = rng.integers(0, 2**dtype.bits - 1, (2, 1500), np.uint64).astype(f"u{dtype.itemsize}")
        more = np.concatenate([bits.view(dtype.np), rng.normal(size=(2, 500)).astype(dtype.np) * 100], axis=1)
    return np.concatenate([x, more[0]]), np.concatenate([y, more[1]])


def same(got: Any, want: Any, *inputs: Any) -> None:
    """Equal bits; any NaN equals any NaN."""
    assert got.dtype == want.dtype
    if want.dtype.kind == "f":
        bits = f"u{want.itemsize}"
        ok = (got.view(bits) == want.view(bits)) | (np.isnan(got) & np.isnan(want))
    else:
        ok = got == want
    bad = np.flatnonzero(~ok)[:5]
    assert ok.all(), [([x[i] for x in inputs], got[i], want[i]) for i in bad]


def check(
    emit: Callable[..., Val], reference: Callable[..., Any], dtype: DType, rng: np.random.Generator, arity: int = 2
) -> None:
    args: tuple[Any, ...] = pairs(dtype, rng)[:arity]
    want = reference(*args)
    for target, width in ((HOST, 8), (NO_FMA, 4))[: 2 if dtype.kind == "f" else 1]:
        same(ArrayLoop(emit, [dtype] * arity, width, target)(*args), want, *args)


BINARY_INTEGER: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "floordiv": np.floor_divide, "mod": np.remainder,
    "fmod": np.fmod, "minimum": np.minimum, "maximum": np.maximum, "fmin": np.fmin, "fmax": np.fmax,
    "and_": np.bitwise_and, "or_": np.bitwise_or, "xor": np.bitwise_xor, "shl": np.left_shift, "shr": np.right_shift,
    "gcd": np.gcd, "lcm": np.lcm, "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
UNARY_INTEGER: dict[str, Any] = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "not_": np.invert, "popcount": np.bitwise_count,
    "floor": np.floor, "rint": lambda x: x, "square": np.square, "reciprocal": np.reciprocal,
}  # fmt: skip
BINARY_FLOAT: dict[str, Any] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "fmod": np.fmod, "copysign": np.copysign, "nextafter": np.nextafter,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip
UNARY_FLOAT: dict[str, Any] = {
    "neg": np.negative, "abs": np.abs, "sign": np.sign, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "trunc": np.trunc, "rint": np.rint, "isnan": np.isnan, "isinf": np.isinf, "isfinite": np.isfinite,
    "signbit": np.signbit, "spacing": np.spacing, "reciprocal": np.reciprocal,
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY_INTEGER)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_binary(name: str, dtype: DType, rng: np.random.Generator) -> None:
    check(lambda b, x, y: getattr(b, name)(x, y), BINARY_INTEGER[name], dtype, rng)


@pytest.mark.parametrize("name", UNARY_INTEGER)
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_unary(name: str, dtype: DType, rng: np.random.Generator) -> None:
    def reference(x: Any) -> Any:
        return UNARY_INTEGER[name](x).astype(np.uint8 if name == "popcount" else x.dtype)

    check(lambda b, x: getattr(b, name)(x), reference, dtype, rng, 1)


@pytest.mark.parametrize("name", BINARY_FLOAT)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_binary(name: str, dtype: DType, rng: np.random.Generator) -> None:
    check(lambda b, x, y: getattr(b, name)(x, y), BINARY_FLOAT[name], dtype, rng)


@pytest.mark.parametrize("name", UNARY_FLOAT)
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_unary(name: str, dtype: DType, rng: np.random.Generator) -> None:
    check(lambda b, x: getattr(b, name)(x), UNARY_FLOAT[name], dtype, rng, 1)


@pytest.mark.parametrize("literal", [0.0, -0.0, 1.5, np.inf, np.nan])
@pytest.mark.parametrize("name", ["minimum", "maximum"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_extreme_of_a_literal(dtype: DType, name: str, literal: float) -> None:
    """The short code for a literal gives the bits of the general code, on either side of it."""
    x = hard(dtype)
    y = np.full_like(x, literal)
    general = ArrayLoop(lambda b, x, y: getattr(b, name)(x, y), [dtype, dtype], 8, HOST)
    right = ArrayLoop(lambda b, x: getattr(b, name)(x, b.const(dtype, literal)), [dtype], 8, HOST)
    left = ArrayLoop(lambda b, x: getattr(b, name)(b.const(dtype, literal), x), [dtype], 8, HOST)
    same(right(x), general(x, y), x)
    same(left(x), general(y, x), x)


@pytest.mark.parametrize("name", ["minimum", "maximum", "fmin", "fmax"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_float_order(name: str, dtype: DType, rng: np.random.Generator) -> None:
    # the sign of a zero that meets the other zero is not defined by NumPy
    check(lambda b, x, y: b.add(getattr(b, name)(x, y), b.const(dtype, 0)),
          lambda x, y: getattr(np, name)(x, y) + dtype.np.type(0), dtype, rng)  # fmt: skip


@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
@pytest.mark.parametrize("src", DTYPES.values(), ids=str)
def test_convert(src: DType, to: DType, rng: np.random.Generator) -> None:
    x = hard(b1) if src is b1 else pairs(src, rng)[0]
    # one element at a time: NumPy's own vector loops give other values than its scalar ones for float64 to uint32
    want = np.array([v.astype(to.np) for v in x], to.np)
    same(ArrayLoop(lambda b, v: b.convert(v, to), [src], 8)(x), want, x)


@pytest.mark.parametrize("dtype", [i8, u8, i32, i64, u64], ids=str)
def test_integer_power(dtype: DType, rng: np.random.Generator) -> None:
    x = np.repeat(hard(dtype), 70)
    n = np.tile(np.arange(70), len(x) // 70).astype(dtype.np)
    for target in (HOST, NO_FMA):
        same(ArrayLoop(lambda b, v, e: b.pow(v, e), [dtype] * 2, 4, target)(x, n), x**n, x, n)


def test_integer_power_of_negative_exponent() -> None:
    x, n = np.array([1, -1, -1, 2, -5, 0]), np.array([-3, -3, -2, -1, -1, -1])
    assert ArrayLoop(lambda b, v, e: b.pow(v, e), [i64] * 2)(x, n).tolist() == [1, -1, 1, 0, 0, 0]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_frexp_and_ldexp(dtype: DType, rng: np.random.Generator) -> None:
    x = np.concatenate(pairs(dtype, rng))
    mantissa, exponent = np.frexp(x)
    n = rng.integers(-2300, 2300, len(x)).astype(np.int32)
    n[::3] = rng.integers(-160, 160, len(n[::3]))
    n[:4] = [2**31 - 1, -(2**31), 2**30, -(2**30)]
    for target in (HOST, NO_FMA):
        same(ArrayLoop(lambda b, v: b.frexp(v)[0], [dtype], 4, target)(x), mantissa, x)
        same(ArrayLoop(lambda b, v: b.frexp(v)[1], [dtype], 4, target)(x), exponent, x)
        same(ArrayLoop(lambda b, v, e: b.ldexp(v, e), [dtype, i32], 4, target)(x, n), np.ldexp(x, n), x, n)
        wide = n.astype(np.int64) * 2**20
        want = np.ldexp(x, np.clip(wide, -9999, 9999))
        same(ArrayLoop(lambda b, v, e: b.ldexp(v, e), [dtype, i64], 4, target)(x, wide), want, x, wide)
        small = (n % 200).astype(np.uint8)
        same(ArrayLoop(lambda b, v, e: b.ldexp(v, e), [dtype, u8], 4, target)(x, small), np.ldexp(x, small), x, small)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_modf(dtype: DType, rng: np.random.Generator) -> None:
    x = np.concatenate(pairs(dtype, rng))
    for i in range(2):
        same(ArrayLoop(lambda b, v: b.modf(v)[i], [dtype])(x), np.modf(x)[i], x)


@pytest.mark.parametrize("dtype", [f32, f64, i32, u32], ids=str)
def test_clip_and_select(dtype: DType, rng: np.random.Generator) -> None:
    x, y = pairs(dtype, rng)
    z = rng.permutation(y)
    same(ArrayLoop(lambda b, v, lo, hi: b.clip(v, lo, hi), [dtype] * 3)(x, y, z),
         np.minimum(np.maximum(x, y), z), x, y, z)  # fmt: skip
    same(ArrayLoop(lambda b, c, v, w: b.select(c, v, w), [b1, dtype, dtype])(z > y, x, y), np.where(z > y, x, y))


def test_booleans_are_bytes_in_memory() -> None:
    x, y = np.array([0, 0, 1, 1, 1] * 3, bool), np.array([0, 1, 0, 1, 1] * 3, bool)
    for name, want in {"and_": x & y, "or_": x | y, "xor": x ^ y, "add": x + y, "mul": x * y, "lt": x < y}.items():
        same(ArrayLoop(lambda b, v, w: getattr(b, name)(v, w), [b1, b1])(x, y), want, x, y)
    same(ArrayLoop(lambda b, v: b.not_(v), [b1])(x), ~x, x)
    odd_bytes = np.array([0, 1, 2, 255, 128], np.uint8).view(bool)
    assert ArrayLoop(lambda b, v: b.convert(v, f64), [b1])(odd_bytes).tolist() == [0, 1, 1, 1, 1]


def test_no_contraction_unless_asked(rng: np.random.Generator) -> None:
    x, y = rng.normal(size=(2, 999))
    assert not ArrayLoop(lambda b, v, w: b.sub(b.mul(v, w), b.mul(v, w)), [f64] * 2)(x, y).any()
    same(ArrayLoop(lambda b, v, w: b.add(b.mul(v, w), v), [f64] * 2)(x, y), x * y + x, x, y)
    assert "vfmadd" in ArrayLoop(lambda b, v, w: b.fma(v, w, v), [f64] * 2).assembly() or not HOST.has_fma
    assert "fma" not in ArrayLoop(lambda b, v, w: b.fma(v, w, v), [f64] * 2, 4, NO_FMA).assembly()


def test_one_private_function_per_name_dtype_and_width() -> None:
    loop = ArrayLoop(lambda b, x: b.exp(b.exp(x)), [f64])
    assert loop.text.count("define private") == 2
    assert '@"stager.exp.v4f64"' in loop.text
    assert '@"stager.exp.f64"' in loop.text
