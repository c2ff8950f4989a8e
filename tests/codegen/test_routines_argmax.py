"""argmax and argmin against NumPy: first of equals, NaN, infinities, extremes of every dtype, remainders of lanes."""

from __future__ import annotations

import numpy as np
import pytest

from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.ir.dims import symbol
from stager.ir.dtypes import DTYPES
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import Runner, compiled

rng = np.random.default_rng(13)


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    d = DTYPES[dtype]
    if d.kind == "b":
        return rng.random(shape) < 0.1
    if d.kind == "f":
        x = rng.choice(
            [-np.inf, np.inf, np.nan, -0.0, 0.0, 1.0, -1.0, 2.0], shape, p=[0.02, 0.01, 0.01, 0.2, 0.2, 0.2, 0.2, 0.16]
        )
        return x.astype(d.np)
    info = np.iinfo(d.np)
    return rng.choice(np.array([info.min, info.max, 0, 1, 2], d.np), shape, p=[0.02, 0.02, 0.3, 0.3, 0.36])


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "i32", "i8", "u16", "b1"])
def test_positions(dtype: str) -> None:
    g = G()
    arrays, outs, wants = [], [], []
    info = DTYPES[dtype]
    low = -np.inf if info.kind == "f" else False if info.kind == "b" else np.iinfo(info.np).min
    high = np.inf if info.kind == "f" else True if info.kind == "b" else np.iinfo(info.np).max
    for n in (1, 2, 5, 8, 15, 33, 70, 131):
        for a in (
            sample(dtype, (6, n)),
            sample(dtype, (n, 6)),
            np.full((3, n), low, info.np),
            np.full((3, n), high, info.np),
        ):
            x = g.input(Type(info, a.shape))
            arrays.append(a)
            for axis in (0, 1):
                for kind in ("argmax", "argmin"):
                    outs.append(g.emit(kind, x, axis=axis))
                    wants.append(getattr(np, kind)(a, axis=axis))
    for got, want in zip(compiled(g.output(*outs))(*arrays), wants, strict=True):
        np.testing.assert_array_equal(got, want)


def test_symbolic_size() -> None:
    g = G()
    x = g.input(Type(DTYPES["f32"], (symbol("m"), symbol("n"))))
    g.symbol("m", x, 0)
    g.symbol("n", x, 1)
    run = compiled(g.output(g.emit("argmax", x, axis=1), g.emit("argmin", x, axis=0)))
    for shape in [(1, 1), (3, 7), (7, 3), (40, 1000), (1000, 40)]:
        a = sample("f32", shape)
        got = run(a)
        np.testing.assert_array_equal(got[0], np.argmax(a, axis=1))
        np.testing.assert_array_equal(got[1], np.argmin(a, axis=0))


def lines(dtype: str, n: int) -> list[np.ndarray]:
    d = DTYPES[dtype]
    if d.kind == "f":
        x = rng.standard_normal((5, n)).astype(d.np)
        x[1, rng.integers(n, size=3)] = np.nan
        x[2] = -np.inf
        x[3] = np.round(x[3])
        x[4, -1] = np.inf
        return [*x, np.full(n, np.nan, d.np), np.where(np.arange(n) < n - 1, -0.0, 0.0).astype(d.np)]
    info = np.iinfo(d.np)
    x = rng.integers(info.min, info.max, (3, n), d.np, endpoint=True)
    x[1] = x[1] // 16
    x[2] = info.min
    return [*x, np.full(n, info.max, d.np), np.arange(n).astype(d.np)]


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "i32", "i8", "u16"])
@pytest.mark.parametrize("n", [256, 257, 1000, 4099, 70_001])
def test_long_lines(dtype: str, n: int) -> None:
    g = G()
    one, many = g.input(Type(DTYPES[dtype], (n,))), g.input(Type(DTYPES[dtype], (3, n)))
    outs = [g.emit(kind, one, axis=0) for kind in ("argmax", "argmin")]
    outs += [g.emit(kind, many, axis=1) for kind in ("argmax", "argmin")]
    run = compiled(g.output(*outs))
    for a in lines(dtype, n):
        stack = np.stack([a, np.roll(a, n // 2), a[::-1]])
        for got, want in zip(
            run(a, stack),
            (np.argmax(a), np.argmin(a), np.argmax(stack, axis=1), np.argmin(stack, axis=1)),
            strict=True,
        ):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("target", ["x86-64-v2", "x86-64-v3"])
def test_long_lines_on_lesser_vectors(target: str) -> None:
    g = G()
    x = g.input(Type(DTYPES["f64"], (1003,)))
    run = Runner(compile_graph(g.output(g.emit("argmax", x, axis=0)), Target.named(target)))
    for a in lines("f64", 1003):
        np.testing.assert_array_equal(run(a)[0], np.argmax(a))
