"""Scans against NumPy's accumulate: the same bits, for every dtype, axis, direction, layout and size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.ir.dims import symbol
from stager.ir.dtypes import DTYPES
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import compiled

rng = np.random.default_rng(3)
UFUNCS = {"cumsum": np.add, "cumprod": np.multiply, "cummax": np.maximum, "cummin": np.minimum}
SHAPES = [
    (0,),
    (1,),
    (2,),
    (13,),
    (3, 0),
    (0, 3),
    (1, 1),
    (5, 3),
    (3, 5),
    (4, 9),
    (9, 4),
    (7, 33),
    (33, 7),
    (2, 3, 4),
    (3, 1, 5),
    (4, 5, 16),
    (2, 300),
]


def expected(op: str, x: np.ndarray, axis: int, reverse: bool) -> Any:
    if reverse:
        x = np.flip(x, axis)
    out = UFUNCS[op].accumulate(x, axis=axis, dtype=x.dtype)
    return np.flip(out, axis) if reverse else out


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    d = DTYPES[dtype]
    if d.kind == "f":
        x = rng.normal(size=shape)
        x[rng.random(shape) < 0.02] = np.nan
        x[rng.random(shape) < 0.05] = -0.0
        return x.astype(d.np)
    if d.kind == "b":
        return rng.random(shape) < 0.3
    return rng.integers(0 if d.kind == "u" else -100, 100, shape).astype(d.np)


def same(a: Any, b: Any) -> None:
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "i32", "i16", "u8", "b1"])
@pytest.mark.parametrize("op", list(UFUNCS))
def test_every_shape(op: str, dtype: str) -> None:
    if dtype == "b1" and op in ("cumsum", "cumprod"):
        return
    g = G()
    arrays, cases = [], []
    for shape in SHAPES:
        x = sample(dtype, shape)
        v = g.input(Type(DTYPES[dtype], shape))
        arrays.append(x)
        every = [(axis, reverse) for axis in range(len(shape)) for reverse in (False, True)]
        cases += [(g.emit(op, v, axis=k, reverse=r), expected(op, x, k, r)) for k, r in every]
    got = compiled(g.output(*(v for v, _ in cases)))(*arrays)
    for a, (_, b) in zip(got, cases, strict=True):
        same(a, b)


def test_recurrence() -> None:
    g = G()
    arrays, cases = [], []
    for shape in SHAPES:
        a, b = rng.normal(size=shape), rng.normal(size=shape)
        va, vb = g.input(Type(DTYPES["f64"], shape)), g.input(Type(DTYPES["f64"], shape))
        arrays += [a, b]
        for axis in range(len(shape)):
            for reverse in (False, True):
                steps = [np.flip(v, axis) if reverse else v for v in (a, b)]
                sa, sb = (np.moveaxis(v, axis, 0) for v in steps)
                out = np.empty_like(sb)
                for k in range(len(out)):
                    out[k] = sa[k] * out[k - 1] + sb[k] if k else sb[0]
                out = np.moveaxis(out, 0, axis)
                cases.append(
                    (g.emit("recurrence", va, vb, axis=axis, reverse=reverse), np.flip(out, axis) if reverse else out)
                )
    got = compiled(g.output(*(v for v, _ in cases)))(*arrays)
    for x, (_, y) in zip(got, cases, strict=True):
        same(x, y)


def test_views_of_buffers_are_read_where_they_are() -> None:
    g = G()
    x = g.input("f64[12,40]")
    views = [
        g.transpose(x),
        g.slice(x, slice(1, None, 2), slice(None, None, -3)),
        g.slice(x, 3),
        g.slice(x, slice(None), 7),
    ]
    views.append(g.broadcast(g.slice(x, 2), (5, 40)))
    a = rng.normal(size=(12, 40))
    arrays = [a.T, a[1::2, ::-3], a[3], a[:, 7], np.broadcast_to(a[2], (5, 40))]
    cases = []
    for v, y in zip(views, arrays, strict=True):
        for axis in range(y.ndim):
            every = [(op, reverse) for op in ("cumsum", "cummax") for reverse in (False, True)]
            cases += [(g.emit(op, v, axis=axis, reverse=r), expected(op, y, axis, r)) for op, r in every]
    got = compiled(g.output(*(v for v, _ in cases)))(a)
    for p, (_, q) in zip(got, cases, strict=True):
        same(p, q)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_symbolic_sizes(axis: int) -> None:
    g = G()
    x = g.input(Type(DTYPES["f64"], (symbol("a"), symbol("b"), symbol("c"))))
    for k, name in enumerate("abc"):
        g.symbol(name, x, k)
    out = [g.emit("cumsum", x, axis=axis, reverse=r) for r in (False, True)]
    run = compiled(g.output(*out))
    for shape in [(3, 4, 5), (1, 1, 1), (0, 2, 2), (2, 0, 2), (2, 2, 0), (5, 70, 9), (2, 3, 2050), (1, 4000, 7)]:
        a = rng.normal(size=shape)
        for got, reverse in zip(run(a), (False, True), strict=True):
            same(got, expected("cumsum", a, axis, reverse))


@pytest.mark.parametrize("shape", [(300_001,), (1000, 300), (300, 1001), (20, 5, 3000), (100_003, 3)])
def test_large_ones_are_divided(shape: tuple[int, ...]) -> None:
    g = G()
    x = g.input(Type(DTYPES["f32"], shape))
    outs = [g.emit("cumsum", x, axis=k, reverse=False) for k in range(len(shape))]
    a = rng.normal(size=shape).astype(np.float32)
    for k, got in enumerate(compiled(g.output(*outs))(a)):
        same(got, expected("cumsum", a, k, False))


def test_result_over_its_operand() -> None:
    g = G()
    x = g.input("f64[9]")
    y = g.emit("cumsum", g.slice(x, slice(None, None, -1)), axis=0, reverse=False)
    g.graph.signature.writes = ((0, 0),)
    a = rng.normal(size=9)
    want = np.cumsum(a[::-1])
    compiled(g.output(y))(a)
    same(a, want)
