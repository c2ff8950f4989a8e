"""Control nodes in native code: loops that update in place, while, switch, lanes with sizes of their own."""

from __future__ import annotations

import numpy as np

import stager.ops.control  # noqa: F401  (registers the control ops)
from stager.ir.dtypes import i64
from stager.ir.graph import SymbolDef
from tests.codegen.build import G
from tests.codegen.run import compiled
from tests.codegen.test_kernels import check

rng = np.random.default_rng(8)


def test_loop_updates_rows() -> None:
    g = G()
    x = g.input("f64[8,5]")

    def body(h: G, i: object, s: object, acc: object, x: object) -> object:
        row = h.slice(x, s)
        before = h.slice(acc, s - 1)
        return h.update(acc, h.add(h.mul(before, 0.5), row), s)

    out = g.loop(1, 8, [x], body, [x])
    check(g.output(out), rng.random((8, 5)))


def test_cholesky_like_loop() -> None:
    n = 6
    g = G()
    a = g.input(f"f64[{n},{n}]")

    def outer(h: G, i: object, si: object, a: object) -> object:
        def inner(k: G, j: object, sj: object, a: object, i: object) -> object:
            s = k.graph.new_symbol(SymbolDef("value", 2), "r")
            left = k.emit("slice", a, starts=(s, 0), sizes=(1, sj), steps=(1, 1))
            right = k.emit("slice", a, starts=(sj, 0), sizes=(1, sj), steps=(1, 1))
            dot = k.sum(k.mul(left, right))
            old = k.slice(a, s, sj)
            diag = k.slice(a, sj, sj)
            new = k.div(k.sub(old, dot), diag)
            return k.update(a, new, s, sj)

        a = h.loop(0, i, [a], inner, [i])
        row = h.emit("slice", a, starts=(si, 0), sizes=(1, si), steps=(1, 1))
        d = h.sqrt(h.sub(h.slice(a, si, si), h.sum(h.mul(row, row))))
        return h.update(a, d, si, si)

    graph = g.output(g.loop(0, n, [a], outer))
    m = rng.random((n, n))
    m = m @ m.T + n * np.eye(n)
    run = compiled(graph)
    (got,) = run(m)
    np.testing.assert_allclose(np.tril(got), np.linalg.cholesky(m), rtol=1e-12)
    assert "copy" not in str(run.compiled.program)


def test_while_and_switch() -> None:
    g = G()
    x = g.input("i64[]")
    cond, body = G("cond"), G("body")
    c = cond.input("i64[]")
    cond.output(cond.lt(c, 100))
    b = body.input("i64[]")
    body.output(body.mul(b, 3))
    w = g.emit("while", x, regions=(cond.graph, body.graph), n_carry=1)
    branches = []
    for k in range(3):
        r = G(f"b{k}")
        v = r.input("i64[]")
        branches.append(r.output(r.add(v, k)))
    s = g.emit("switch", x, w, regions=tuple(branches))
    graph = g.output(w, s)
    for k in (1, 2, 7):
        check(graph, np.asarray(k))


def test_map_of_ragged_lanes() -> None:
    g = G()
    x = g.input("f64[6,6]")
    r = G("lane")
    i = r.input("i64[]")
    x2 = r.input("f64[6,6]")
    s = r.graph.new_symbol(SymbolDef("value", 0), "i")
    row = r.emit("slice", x2, starts=(s, 0), sizes=(1, s), steps=(1, 1))
    r.output(r.sum(r.exp(row)), r.emit("convert", i, dtype=i64))
    out = g.emit("map", x, size=6, regions=(r.graph,))
    check(g.output(*out), rng.random((6, 6)), rtol=1e-13)
