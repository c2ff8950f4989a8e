"""Reductions over the rows of a nest: in the pass over the rows, right for any extent, the same bits on any thread."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from stager.codegen.program import Nest
from stager.ir.dtypes import DTYPES
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import Runner, compiled

rng = np.random.default_rng(11)


def nests(run: Runner) -> list[Nest]:
    return [s for s in run.compiled.program.steps if isinstance(s, Nest)]


def rows_and_columns(dtype: str, n: int, m: int, kind: str = "sum") -> Graph:
    """Rows normalised by their sums; what is left reduced over rows, and over everything."""
    g = G()
    x = g.input(f"{dtype}[{n},{m}]")
    y = g.div(x, g.broadcast(g.sum(x, 1), (n, m), (0,)))
    return g.output(y, g.sum(y, 0, kind=kind), g.sum(g.mul(y, x), kind=kind))


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("shape", [(64, 96), (100, 131), (300, 20), (97, 64)])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_reductions_over_rows_ride_along(dtype: str, shape: tuple[int, int], kind: str) -> None:
    graph = rows_and_columns(dtype, *shape, kind)
    a = (rng.random(shape) + 0.5).astype(DTYPES[dtype].np)
    run = compiled(graph)
    (rows, *totals) = nests(run)
    assert rows.piece is not None
    assert all(leaf.stage.loads for nest in totals for leaf in nest.leaves)
    assert not [b for nest in totals for s in nest.stages() for b, _ in s.loads if b.storage.kind == "input"]
    for got, want in zip(run(a), evaluate_graph(graph, [a]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12 if dtype == "f64" else 2e-5, atol=1e-30)


def test_bits_do_not_depend_on_threads() -> None:
    graph = rows_and_columns("f64", 1000, 300)
    a = rng.random((1000, 300)) + 0.5
    pieces, whole = compiled(graph), compiled(graph, threads=False)
    for one, two in zip(pieces(a), whole(a), strict=True):
        np.testing.assert_array_equal(one, two)


def test_any_number_of_rows() -> None:
    g = G()
    f64 = DTYPES["f64"]
    x = g.builder.input(Type(f64, (5, 7)))
    n, m = g.symbol("n", 0, 0), g.symbol("m", 0, 1)
    x.node.types = (Type(f64, (n, m)),)
    x.type = x.node.types[0]
    y = g.div(x, g.broadcast(g.sum(x, 1), (n, m), (0,)))
    graph = g.output(y, g.sum(y, 0), g.sum(g.mul(y, x)))
    run = compiled(graph)
    for shape in [(0, 3), (1, 1), (31, 7), (32, 8), (33, 9), (500, 17)]:
        a = rng.random(shape) + 0.5
        for got, want in zip(run(a), evaluate_graph(graph, [a]), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13)


def test_negative_zeros_are_kept() -> None:
    g = G()
    x, y = g.input("f64[64,96]"), g.input("f64[64,96]")
    z = g.mul(x, g.broadcast(g.sum(y, 1), (64, 96), (0,)))
    run = compiled(g.output(z, g.sum(z, 0)))
    out = run(np.full((64, 96), -0.0), np.ones((64, 96)))[1]
    assert np.signbit(out).all()


def test_a_reader_of_the_total_comes_after_it() -> None:
    """y - mean over rows of y: the mean is complete only when all rows are done."""
    g = G()
    x = g.input("f64[128,64]")
    y = g.div(x, g.broadcast(g.sum(x, 1), (128, 64), (0,)))
    centred = g.sub(y, g.broadcast(g.div(g.sum(y, 0), 128.0), (128, 64), (1,)))
    graph = g.output(centred, g.sum(g.mul(centred, centred), 0))
    a = rng.random((128, 64)) + 0.5
    for got, want in zip(compiled(graph)(a), evaluate_graph(graph, [a]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


def test_normalisation_gradient_is_one_pass() -> None:
    import stager as st

    def loss(x: Any, g: Any, b: Any, t: Any) -> Any:
        c = x - np.mean(x, axis=-1, keepdims=True)
        v = np.mean(c * c, axis=-1, keepdims=True)
        return np.sum((c / np.sqrt(v + 1e-5) * g + b) * t)

    args = [rng.standard_normal(s) for s in ((96, 200), (200,), (200,), (96, 200))]
    made = st.compile(st.grad(loss, argnums=(0, 1, 2)))
    dx, dg, db = made(*args)
    text = made.show(*args, stage="kernels")
    kernels = [line for line in text.splitlines() if line.startswith("  k")]
    assert len([k for k in kernels if "pieces" in k]) == 1
    body = text[text.index("k1:") :]
    assert "x0[" not in body, "totals read partial results only"
    assert "x3[" not in body
    x, g, _, t = args
    c = x - x.mean(1, keepdims=True)
    s = 1 / np.sqrt((c * c).mean(1, keepdims=True) + 1e-5)
    z, ct = c * s, t * g
    np.testing.assert_allclose(dg, (t * z).sum(0), rtol=1e-10)
    np.testing.assert_allclose(db, t.sum(0), rtol=1e-10)
    want = s * (ct - ct.mean(1, keepdims=True) - z * (ct * z).mean(1, keepdims=True))
    np.testing.assert_allclose(dx, want, rtol=1e-9, atol=1e-11)


def test_sums_over_points_of_windows_are_taken_row_by_row() -> None:
    g = G()
    x, w = g.input("f64[40,150]"), g.input("f64[3,3]")
    shown = g.emit("windows", g.emit("windows", x, axis=0, size=3, step=1), axis=1, size=3, step=1)
    y = g.cos(g.emit("dot", shown, w, contract=((2, 3), (0, 1)), batch=((), ())))
    graph = g.output(g.emit("dot", shown, y, contract=((0, 1), (0, 1)), batch=((), ())))
    run = compiled(graph)
    rows = nests(run)[0]
    assert rows.piece is not None
    assert len(rows.outer) == 1, "lanes run along rows"
    assert all(leaf.vector is not None for leaf in rows.leaves)
    arrays = [rng.normal(size=(40, 150)), rng.normal(size=(3, 3))]
    (got,) = run(*arrays)
    np.testing.assert_allclose(got, evaluate_graph(graph, arrays)[0], rtol=1e-12, atol=1e-12)
