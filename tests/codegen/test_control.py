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


def test_invariants_leave_the_loop() -> None:
    g = G()
    x, y = g.input("f64[300]"), g.input("f64[300]")

    def body(h: G, i: object, s: object, acc: object, y: object) -> object:
        return h.add(h.mul(acc, 0.5), h.exp(h.sin(y)))

    graph = g.output(g.loop(0, 9, [x], body, [y]))
    run = compiled(graph)
    check(graph, rng.random(300), rng.random(300), rtol=1e-13)
    text = str(run.compiled.program)
    assert text.index("exp") < text.index("fold")


def test_a_captured_buffer_is_not_overwritten() -> None:
    g = G()
    x, z = g.input("f64[30]"), g.input("f64[30]")
    base = g.exp(x)

    def body(h: G, i: object, s: object, acc: object, base: object) -> object:
        changed = h.update(base, h.slice(acc, slice(0, 3)), slice(4, 7))
        return h.add(acc, h.mul(changed, 0.1))

    graph = g.output(g.loop(0, 4, [z], body, [base]))
    check(graph, rng.random(30), rng.random(30), rtol=1e-13)


def test_carries_change_places() -> None:
    g = G()
    x, y = g.input("f64[50]"), g.input("f64[50]")

    def body(h: G, i: object, s: object, a: object, b: object) -> object:
        m = h.slice(a, slice(1, -1))
        smooth = h.mul(h.add(h.slice(a, slice(0, -2)), h.slice(a, slice(2, None))), 0.5)
        return h.update(b, h.add(smooth, m), slice(1, 49)), h.sin(a)

    out = g.loop(0, 7, [x, y], body)
    check(g.output(*out), rng.random(50), rng.random(50), rtol=1e-11)


def test_jacobi_swaps_its_buffers() -> None:
    g = G()
    x = g.input("f64[64]")

    def body(h: G, i: object, s: object, a: object) -> object:
        inner = h.add(h.slice(a, slice(0, -2)), h.slice(a, slice(2, None)))
        return h.emit("concatenate", h.slice(a, slice(0, 1)), h.mul(inner, 0.5), h.slice(a, slice(63, 64)), axis=0)

    for steps in (0, 1, 4, 5):
        h = G()
        x = h.input("f64[64]")
        graph = h.output(h.loop(0, steps, [x], body))
        check(graph, rng.random(64), rtol=1e-13)
        assert "swap" in str(compiled(graph).compiled.program)


def test_fibonacci_of_scalars() -> None:
    g = G()
    a, b = g.input("i64[]"), g.input("i64[]")
    out = g.loop(0, 10, [a, b], lambda h, i, s, a, b: (b, h.add(a, b)))
    check(g.output(*out), np.asarray(1), np.asarray(1))
