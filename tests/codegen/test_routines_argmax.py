"""argmax and argmin against NumPy: first of equals, NaN, infinities, extremes of every dtype, remainders of lanes."""

from __future__ import annotations

import numpy as np
import pytest

from stager.ir.dims import symbol
from stager.ir.dtypes import DTYPES
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import compiled

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
