"""sort and searchsorted against NumPy: dtypes, NaN and zeros, several operands and keys, layouts, sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.ir.dims import symbol
from stager.ir.dtypes import DTYPES
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import compiled

rng = np.random.default_rng(5)


def sample(dtype: str, shape: tuple[int, ...], few: bool = False) -> np.ndarray:
    d = DTYPES[dtype]
    if d.kind == "f":
        x = (
            np.rint(rng.normal(size=shape, scale=2))
            if few
            else rng.normal(size=shape) * 10.0 ** rng.integers(-20, 20, shape)
        )
        x = np.asarray(x)
        x[rng.random(shape) < 0.05] = np.nan
        x[rng.random(shape) < 0.05] = -np.nan
        x[rng.random(shape) < 0.1] = -0.0
        x[rng.random(shape) < 0.1] = 0.0
        x[rng.random(shape) < 0.05] = np.inf
        x[rng.random(shape) < 0.05] = -np.inf
        return x.astype(d.np)
    if d.kind == "b":
        return rng.random(shape) < 0.4
    info = np.iinfo(d.np)
    low, high = (0 if d.kind == "u" else -3, 4) if few else (info.min, info.max)
    return rng.integers(low, high, shape, dtype=d.np)


def bits(x: np.ndarray) -> np.ndarray:
    return x.view(f"u{x.itemsize}") if x.dtype.kind == "f" else x


def same(a: Any, b: Any) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    np.testing.assert_array_equal(bits(a), bits(b))


def sort(g: G, *operands: Any, axis: int = -1, num_keys: int = 1) -> list[Any]:
    out = g.emit("sort", *operands, axis=axis % operands[0].type.ndim, num_keys=num_keys, stable=True)
    return out if isinstance(out, list | tuple) else [out]


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_values_and_order(dtype: str) -> None:
    g = G()
    arrays, outs = [], []
    for n in (0, 1, 2, 20, 48, 49, 300, 1000):
        for few in (False, True):
            arrays.append(sample(dtype, (n,), few))
            x = g.input(Type(DTYPES[dtype], (n,)))
            outs += sort(g, x)
            outs += sort(g, x, g.iota(n))
    got = iter(compiled(g.output(*outs))(*arrays))
    for x in arrays:
        order = np.argsort(x, kind="stable")
        same(next(got), x[order])
        same(next(got), x[order])
        same(next(got), order)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_axes(axis: int) -> None:
    g = G()
    x, y = g.input("f64[7,60,5]"), g.input("i16[7,60,5]")
    ins = (sample("f64", (7, 60, 5), few=True), sample("i16", (7, 60, 5)))
    got = compiled(g.output(*sort(g, x, y, axis=axis), *sort(g, g.transpose(x), axis=axis)))(*ins)
    order = np.argsort(ins[0], axis=axis, kind="stable")
    same(got[0], np.take_along_axis(ins[0], order, axis))
    same(got[1], np.take_along_axis(ins[1], order, axis))
    t = ins[0].T
    same(got[2], np.take_along_axis(t, np.argsort(t, axis=axis, kind="stable"), axis))


@pytest.mark.parametrize("shape", [(30,), (200,), (6, 70)])
def test_several_keys(shape: tuple[int, ...]) -> None:
    g = G()
    dtypes = ["f32", "u8", "i64", "f64", "b1"]
    arrays = [sample(d, shape, few=True) for d in dtypes]
    ins = [g.input(Type(DTYPES[d], shape)) for d in dtypes]
    got = compiled(g.output(*sort(g, *ins, num_keys=3), *sort(g, *ins[:2], num_keys=2), *sort(g, *ins[2:])))(*arrays)
    for result, operands, keys in ((got[:5], arrays, 3), (got[5:7], arrays[:2], 2), (got[7:], arrays[2:], 1)):
        order = np.lexsort(operands[:keys][::-1], axis=-1)
        for a, b in zip(result, operands, strict=True):
            same(a, np.take_along_axis(b, order, -1))


def test_symbolic_and_large() -> None:
    g = G()
    x = g.input(Type(DTYPES["f32"], (symbol("n"), symbol("m"))))
    g.symbol("n", x, 0)
    g.symbol("m", x, 1)
    run = compiled(g.output(*sort(g, x), *sort(g, x, axis=0)))
    for shape in [(0, 3), (3, 0), (1, 1), (4, 9), (5, 4000), (300, 700)]:
        a = sample("f32", shape)
        got = run(a)
        same(got[0], np.take_along_axis(a, np.argsort(a, axis=1, kind="stable"), 1))
        same(got[1], np.take_along_axis(a, np.argsort(a, axis=0, kind="stable"), 0))


def test_result_over_its_operand() -> None:
    g = G()
    x = g.input("f64[90]")
    (y,) = sort(g, x)
    g.output(y).signature.writes = ((0, 0),)
    a = sample("f64", (90,))
    want = a[np.argsort(a, kind="stable")]
    compiled(g.graph)(a)
    same(a, want)


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "u8", "b1"])
def test_searchsorted(dtype: str) -> None:
    g = G()
    arrays, outs, wants = [], [], []
    for lines, n, vs in [
        ((), 0, (3,)),
        ((), 1, (5,)),
        ((), 7, ()),
        ((), 100, (9, 5)),
        ((3,), 20, (3, 2, 3)),
        ((2, 2), 33, (2, 2)),
        ((5,), 8, (5, 0)),
    ]:
        a, v = np.sort(sample(dtype, (*lines, n), few=True)), sample(dtype, vs, few=True)
        va, vv = g.input(Type(DTYPES[dtype], a.shape)), g.input(Type(DTYPES[dtype], v.shape))
        arrays += [a, v]
        for side in ("left", "right"):
            outs.append(g.emit("searchsorted", va, vv, side=side))
            want = np.empty(v.shape, np.int64)
            for k in np.ndindex(*lines):
                want[k] = np.searchsorted(a[k], v[k], side=side)
            wants.append(want)
    for got, want in zip(compiled(g.output(*outs))(*arrays), wants, strict=True):
        same(got, want)


def test_searchsorted_views() -> None:
    g = G()
    a, v = g.input("f64[40,6]"), g.input("f64[8,50]")
    x, y = np.sort(sample("f64", (40, 6)), axis=0), sample("f64", (8, 50))
    out = g.emit("searchsorted", g.slice(a, slice(None, None, 2), 3), g.transpose(v), side="left")
    same(compiled(g.output(out))(x, y)[0], np.searchsorted(x[::2, 3], y.T))


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("few", [False, True])
def test_unstable_floats_alone(dtype: str, few: bool) -> None:
    g = G()
    sizes = (1, 48, 49, 128, 2500)
    ins = [g.input(Type(DTYPES[dtype], (n,))) for n in sizes]
    arrays = [sample(dtype, (n,), few) for n in sizes]
    outs = [g.emit("sort", x, axis=0, num_keys=1, stable=False) for x in ins]
    for got, x in zip(
        compiled(g.output(*(o if not isinstance(o, list | tuple) else o[0] for o in outs)))(*arrays),
        arrays,
        strict=True,
    ):
        np.testing.assert_array_equal(got, np.sort(x))


def test_many_equal_upper_bytes() -> None:
    g = G()
    x = g.input("i64[3000]")
    a = np.where(rng.random(3000) < 0.5, rng.integers(0, 1 << 20, 3000), (1 << 62) + rng.integers(0, 1 << 20, 3000))
    values, order = compiled(g.output(*sort(g, x, g.iota(3000))))(a)
    want = np.argsort(a, kind="stable")
    same(order, want)
    same(values, a[want])
