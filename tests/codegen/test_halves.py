"""Symmetric products, of which one half is computed: which they are, their values, and where they are not finite."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.symmetric import Symmetry
from stager.ir.dtypes import DTYPES
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import compiled
from tests.codegen.test_routines_dot import close, sample


def products(g: G, x: Any, d: Any) -> list[tuple[Any, bool]]:
    """Products with x of shape (k, m) and d of shape (k,), and whether they are symmetric."""
    k, m = x.shape
    rows = g.broadcast(d, (k, m), (0,))
    columns = g.broadcast(g.slice(x, 0), (k, m), (1,))
    weighted = g.sub(x, g.mul(rows, x))
    chosen = g.select(g.lt(rows, g.fill(0.0, (k, m), x.type.dtype)), g.fill(0.0, (k, m), x.type.dtype), weighted)
    flipped = g.transpose(x)

    def dot(a: Any, b: Any, axis: int = 0) -> Any:
        return g.emit("dot", a, b, contract=((axis,), (0,)), batch=((), ()))

    return [
        (dot(x, x), True),
        (dot(x, g.mul(x, rows)), True),
        (dot(weighted, g.div(x, g.exp(rows))), True),
        (dot(x, g.neg(g.add(chosen, x))), True),
        (dot(g.mul(flipped, g.transpose(rows)), x, 1), True),
        (dot(flipped, x, 1), True),
        (g.emit("dot", x, x, contract=((1,), (1,)), batch=((), ())), True),
        (dot(x, g.mul(x, columns)), False),
        (dot(x, g.add(x, rows)), False),
        (dot(x, g.mul(x, x)), False),
        (dot(x, g.slice(x, slice(None), slice(None, None, -1))), False),
        (dot(x, rows), False),
    ]


@pytest.mark.parametrize(("dtype", "k", "m"), [("f64", 40, 37), ("f32", 33, 48), ("f64", 32, 16)])
def test_products_with_themselves(dtype: str, k: int, m: int) -> None:
    arrays = [sample(dtype, (k, m)), sample(dtype, (k,))]
    g = G()
    made = products(g, *(g.input(Type(DTYPES[dtype], a.shape)) for a in arrays))
    assert [Symmetry(v.node).holds for v, _ in made] == [holds for _, holds in made]
    run = compiled(g.output(*(v for v, _ in made)))
    x, d = arrays
    rows = d[:, None]
    weighted = x - rows * x
    wants = [
        x.T @ x, x.T @ (x * rows), weighted.T @ (x / np.exp(rows)), x.T @ -(np.where(rows < 0, 0, weighted) + x),
        (x.T * d) @ x, x.T @ x, x @ x.T, x.T @ (x * x[0]), x.T @ (x + rows), x.T @ (x * x), x.T @ x[:, ::-1],
        x.T @ np.broadcast_to(rows, x.shape),
    ]  # fmt: skip
    for got, want, (_, symmetric) in zip(run(*arrays), wants, made, strict=True):
        close(got, want, k)
        if symmetric:
            np.testing.assert_array_equal(got, got.T)


def test_values_that_are_not_finite() -> None:
    """What is not finite stands where it stands in the whole product: a factor of an infinity may be NaN."""

    @st.compile
    def both(x: Any, d: Any) -> Any:
        y = x - d[:, None] * x
        return x.T @ y, x.T @ (y + 0 * x[:, :1])  # the same sums, which nobody takes for symmetric

    for bad in (np.inf, np.nan, 1e200):
        x, d = sample("f64", (40, 32)), np.linspace(0.5, 0.9, 40)
        x[3, 21] = x[30, 9] = bad
        got, want = both(x, d)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got[np.isfinite(want)], want[np.isfinite(want)], rtol=1e-12)


def test_batches_and_threads() -> None:
    x, y = sample("f64", (6, 64, 40)), sample("f64", (300, 150))

    def gram(x: Any, y: Any) -> Any:
        return np.swapaxes(x, 1, 2) @ x, x @ np.swapaxes(x, 1, 2), y.T @ (2.5 * y)

    one, two = (st.compile(gram, threads=n)(x, y) for n in (1, 2))
    for a, b, want in zip(one, two, (x.swapaxes(1, 2) @ x, x @ x.swapaxes(1, 2), y.T @ (2.5 * y)), strict=True):
        close(a, want, 300)
        np.testing.assert_array_equal(a, b)
