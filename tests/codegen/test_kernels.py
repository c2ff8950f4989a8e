"""Kernels against the reference evaluator: elementwise chains, views, reductions, updates, loops, symbolic sizes."""

from __future__ import annotations

import numpy as np
import pytest

from stager.codegen.compile import compile_graph
from stager.codegen.target import Target
from stager.ir.dtypes import DTYPES
from stager.ir.evaluate import evaluate_graph
from stager.ir.graph import Graph, SymbolDef
from stager.ir.types import Type
from tests.codegen.build import G
from tests.codegen.run import CompiledError, compiled

rng = np.random.default_rng(7)


def check(graph: Graph, *arrays: np.ndarray, rtol: float = 0.0, **options: object) -> list[np.ndarray]:
    """Compiled and reference results agree, exactly unless `rtol` is given."""
    want = evaluate_graph(graph, arrays)
    run = compiled(graph, **options)
    got = run(*arrays)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if rtol:
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)
        else:
            np.testing.assert_array_equal(a, b)
    return got


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 16, 17, 100])
@pytest.mark.parametrize("dtype", ["f64", "f32", "i32", "i8", "b1"])
def test_chain(n: int, dtype: str) -> None:
    g = G()
    x, y = g.input(f"{dtype}[{n}]"), g.input(f"{dtype}[{n}]")
    graph = g.output(g.maximum(g.add(x, g.mul(x, y)), y))
    a = rng.integers(0, 50, (2, n)).astype(DTYPES[dtype].np)
    check(graph, a[0], a[1])


def test_broadcast_and_transpose() -> None:
    g = G()
    x, y, z = g.input("f64[7,9]"), g.input("f64[9,7]"), g.input("f64[9]")
    graph = g.output(g.add(g.add(x, g.transpose(y)), z))
    check(graph, rng.random((7, 9)), rng.random((9, 7)), rng.random(9))


def test_views() -> None:
    g = G()
    x = g.input("f64[12,10]")
    a = g.slice(x, slice(None, None, 2), slice(None, None, -1))
    b = g.reshape(g.add(x, 1.0), (6, 20))
    c = g.emit("diagonal", x, axis1=0, axis2=1, offset=2)
    d = g.emit("windows", x, axis=1, size=3, step=2)
    e = g.reshape(g.transpose(x), (5, 24))
    f = g.reshape(g.slice(x, slice(1, 5), slice(2, 8)), (24,))
    graph = g.output(g.neg(a), g.neg(b), g.neg(c), g.neg(d), g.neg(e), g.neg(f))
    check(graph, rng.random((12, 10)))


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
@pytest.mark.parametrize("dtype", ["f64", "f32", "i32", "u8"])
def test_reductions(kind: str, axes: tuple[int, ...], dtype: str) -> None:
    g = G()
    x = g.input(f"{dtype}[5,7,19]")
    graph = g.output(g.sum(x, *axes, kind=kind))
    a = (rng.random((5, 7, 19)) * 3).astype(DTYPES[dtype].np) + 1
    check(graph, a, rtol=1e-12 if dtype == "f64" else 1e-5 if dtype == "f32" else 0)


@pytest.mark.parametrize("n", [1, 5, 31, 1000, 4099])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_sum_is_accurate(n: int, dtype: str) -> None:
    g = G()
    x = g.input(f"{dtype}[{n}]")
    graph = g.output(g.sum(x))
    a = np.random.default_rng(n).standard_normal(n).astype(DTYPES[dtype].np)  # the same, whatever ran before
    (got,) = compiled(graph)(a)
    exact = np.sum(a.astype(np.longdouble))
    assert abs(got - exact) <= 2 * np.finfo(a.dtype).eps * np.sum(np.abs(a)) / 8


def test_nan_and_inf_sums() -> None:
    g = G()
    x = g.input("f64[4,5000]")
    graph = g.output(g.sum(x, 1), g.max(x, 1))
    a = rng.random((4, 5000))
    a[0, 70], a[1, 3], a[2, 9], a[2, 4000] = np.nan, np.inf, np.inf, -np.inf
    check(graph, a, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1])
def test_arg_reductions(axis: int) -> None:
    g = G()
    x = g.input("f64[13,29]")
    graph = g.output(g.emit("argmax", x, axis=axis), g.emit("argmin", x, axis=axis))
    a = rng.integers(0, 5, (13, 29)).astype(float)
    check(graph, a)
    a[3, 7] = a[3, 20] = np.nan
    check(graph, a)


def test_softmax() -> None:
    g = G()
    x = g.input("f64[6,40]")
    e = g.exp(g.sub(x, g.max(x, 1, keepdims=True)))
    graph = g.output(g.div(e, g.sum(e, 1, keepdims=True)))
    check(graph, rng.standard_normal((6, 40)), rtol=1e-14)


def test_symbolic_sizes() -> None:
    g = G()
    x = g.builder.input(Type(DTYPES["f64"], (5, 7)))
    n = g.symbol("n", 0, 0)
    m = g.symbol("m", 0, 1)
    x.node.types = (Type(DTYPES["f64"], (n, m)),)
    x.type = x.node.types[0]
    y = g.add(x, g.emit("convert", g.broadcast(g.iota(m), (n, m)), dtype=DTYPES["f64"]))
    graph = g.output(y, g.sum(y, 1), g.sum(y, 0), g.sum(y), g.reshape(g.neg(x), (n * m,)))
    run = compiled(graph)
    for shape in [(5, 7), (1, 1), (0, 3), (33, 130)]:
        a = rng.random(shape)
        for got, want in zip(run(a), evaluate_graph(graph, [a]), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13)


def test_gather_and_its_errors() -> None:
    g = G()
    x, i = g.input("f64[10,3]"), g.input("i64[6]")
    graph = g.output(g.gather(x, i), g.gather(x, i, axes=(0,), mode="clip"), g.gather(x, i, mode="wrap"))
    a = rng.random((10, 3))
    check(graph, a, np.array([0, 9, -1, -10, 3, 3]))
    run = compiled(graph)
    with pytest.raises(CompiledError, match="index 10 is out of bounds for axis 0 with size 10"):
        run(a, np.array([0, 9, -1, 10, 11, 3]))
    with pytest.raises(CompiledError, match="index -11 is out of bounds for axis 0 with size 10"):
        run(a, np.array([0, -11, -1, 10, 11, 3]))


@pytest.mark.parametrize("combine", ["set", "add", "max"])
def test_scatter(combine: str) -> None:
    g = G()
    x, i, u = g.input("f64[10,3]"), g.input("i64[6]"), g.input("f64[6,3]")
    graph = g.output(g.emit("scatter", x, u, i, axes=(0,), batch_dims=0, mode="check", combine=combine))
    a = rng.random((10, 3))
    check(graph, a, np.array([0, 9, -1, -10, 3, 3]), rng.random((6, 3)))
    with pytest.raises(CompiledError, match="index 12 is out of bounds"):
        compiled(graph)(a, np.array([0, 9, -1, 12, 3, 3]), rng.random((6, 3)))


def test_concatenate_and_pad() -> None:
    g = G()
    x, y = g.input("f64[4,3]"), g.input("f64[4,5]")
    c = g.emit("concatenate", g.exp(x), g.neg(y), axis=1)
    zero = g.fill(9.0)
    p = g.emit("pad", x, zero, low=(1, 0), high=(2, 3), interior=(0, 0))
    q = g.emit("pad", x, zero, low=(1, 0), high=(2, 3), interior=(1, 2))
    check(g.output(c, p, q), rng.random((4, 3)), rng.random((4, 5)), rtol=1e-14)


def test_concatenations_of_concatenations() -> None:
    """The inner ones are written where the outer one wants them, one that is read elsewhere too where it is read."""
    g = G()
    x, y = g.input("f64[4,3]"), g.input("f64[4,5]")
    row = g.emit("concatenate", g.exp(x), g.neg(y), axis=1)
    middle = g.emit("concatenate", g.mul(row, 2.0), row, axis=0)
    left, right = g.emit("concatenate", y, g.exp(y), axis=0), g.emit("concatenate", y, y, axis=0)
    deep = g.emit("concatenate", left, right, axis=1)
    whole = g.emit("concatenate", g.fill(1.0, (1, 10)), deep, axis=0)
    graph = g.output(middle, whole)
    check(graph, rng.random((4, 3)), rng.random((4, 5)), rtol=1e-14)
    assert compiled(graph).compiled.program.storages == []


def test_updates_of_slices() -> None:
    g = G()
    x, v = g.input("f64[10]"), g.input("f64[4]")
    y = g.update(x, v, slice(2, 6))
    z = g.update(y, g.mul(g.slice(y, slice(0, 5)), 2.0), slice(1, 6))  # overlapping: reads before it writes
    w = g.emit("diagonal_update", g.fill(0.0, (4, 4)), v, axis1=0, axis2=1, offset=0)
    check(g.output(g.add(x, 1.0), y, z, w), rng.random(10), rng.random(4))


def test_swap_through_updates() -> None:
    g = G()
    x = g.input("f64[6]")
    a, b = g.slice(x, slice(1, 2)), g.slice(x, slice(4, 5))
    y = g.update(g.update(x, b, slice(1, 2)), a, slice(4, 5))
    check(g.output(y), rng.random(6))


def test_written_input() -> None:
    g = G()
    x = g.input("f64[20]")
    y = g.add(g.mul(x, 2.0), 1.0)
    graph = g.output(y, g.sum(x))
    graph.signature.writes = ((0, 0),)
    a = rng.random(20)
    want = a.copy()
    out = compiled(graph)(a)
    assert np.array_equal(a, want * 2 + 1)
    assert np.allclose(out[1], want.sum())


def test_sizes_from_data() -> None:
    g = G()
    x = g.input("f64[50]")
    count = g.sum(g.convert(g.gt(x, 0.5), np.int64))
    k = g.graph.new_symbol(SymbolDef("data", count), "k")
    e = g.exp(g.convert(g.iota(k), np.float64))
    total = g.sum(e)
    scaled = g.div(e, g.broadcast(total, (k,), ()))
    graph = g.output(g.sub(scaled, g.broadcast(g.max(scaled), (k,), ())), total, g.iota(k))
    run = compiled(graph)
    for a in (rng.random(50) * 0.7, np.zeros(50), np.ones(50)):
        for got, want in zip(run(a), evaluate_graph(graph, [a]), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13)
    assert run.compiled.abi.outputs[0].kind == "sized"


def test_strided_inputs() -> None:
    g = G()
    x, y = g.input("f64[6,8]"), g.input("f32[6,8]")
    graph = g.output(g.sum(x, 1), g.mul(x, g.convert(y, np.float64)), g.sum(x))
    a = np.asfortranarray(rng.random((6, 8)))
    big = rng.random((20, 24)).astype(np.float32)
    b = big[10:4:-1, ::2][:, :8]
    graph.signature.layouts = {0: a.strides, 1: b.strides}
    check(graph, a, b, rtol=1e-13)


def test_donated_inputs_are_reused() -> None:
    g = G()
    x, v = g.input("f64[1000]"), g.input("f64[3]")
    graph = g.output(g.sum(g.update(x, v, slice(5, 8))))
    graph.signature.donated = frozenset({0})
    run = compiled(graph)
    a, b = rng.random(1000), rng.random(3)
    want = a.copy()
    want[5:8] = b
    np.testing.assert_allclose(run(a, b)[0], want.sum())
    assert run.compiled.abi.arena_bytes == 0


@pytest.mark.parametrize("shape", [(130, 257), (64, 640), (257, 131)])
@pytest.mark.parametrize("dtype", ["f64", "f32", "i32", "i8"])
def test_transposed_tiles(shape: tuple[int, int], dtype: str) -> None:
    n, m = shape
    g = G()
    x, y = g.input(f"{dtype}[{n},{m}]"), g.input(f"{dtype}[{m},{n}]")
    graph = g.output(g.add(x, g.transpose(y)), g.add(g.transpose(x), g.mul(y, y)))
    a = rng.integers(0, 100, shape).astype(DTYPES[dtype].np)
    b = rng.integers(0, 100, shape[::-1]).astype(DTYPES[dtype].np)
    check(graph, a, b)


def test_squares_of_narrow_elements_are_small() -> None:
    """What is transposed in registers is no larger for bytes, of which a register holds 64, than for floats."""

    def code(dtype: str) -> str:
        g = G()
        x, y = g.input(f"{dtype}[256,256]"), g.input(f"{dtype}[256,256]")
        return compile_graph(g.output(g.add(x, g.transpose(y))), Target.host(), assemble=False).text

    assert code("i8").count("shufflevector") <= code("f32").count("shufflevector")


@pytest.mark.parametrize("axis", [0, 1])
def test_softmax_of_any_size(axis: int) -> None:
    g = G()
    f64 = DTYPES["f64"]
    x = g.builder.input(Type(f64, (5, 7)))
    n, m = g.symbol("n", 0, 0), g.symbol("m", 0, 1)
    x.node.types = (Type(f64, (n, m)),)
    x.type = x.node.types[0]
    e = g.exp(g.sub(x, g.broadcast(g.max(x, axis, keepdims=True), (n, m))))
    graph = g.output(g.div(e, g.broadcast(g.sum(e, axis, keepdims=True), (n, m))))
    run = compiled(graph)
    for shape in [(1, 1), (5, 7), (33, 70), (129, 3), (2, 300)]:
        a = rng.standard_normal(shape)
        e_ref = np.exp(a - a.max(axis, keepdims=True))
        np.testing.assert_allclose(run(a)[0], e_ref / e_ref.sum(axis, keepdims=True), rtol=1e-13)


@pytest.mark.parametrize("shape", [(300000,), (500, 700), (3, 100000)])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_sums_have_the_same_bits_on_any_thread_and_alignment(shape: tuple[int, ...], dtype: str) -> None:
    g = G()
    x = g.input(f"{dtype}[{','.join(map(str, shape))}]")
    graph = g.output(g.sum(x), g.sum(x, 0), g.sum(g.mul(x, x), len(shape) - 1))
    a = rng.standard_normal(shape).astype(DTYPES[dtype].np)
    shifted = np.empty(a.size + 3, a.dtype)[3:].reshape(shape)
    shifted[...] = a
    pieces, whole = compiled(graph), compiled(graph, threads=False)
    for one, two, three in zip(pieces(a), whole(a), pieces(shifted), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("shape", [(512, 32), (100, 10), (37, 17), (1000, 5)])
def test_short_rows_with_costly_numbers_between(shape: tuple[int, int], dtype: str) -> None:
    """Blocks of rows: each row is reduced along itself, what is one number per row runs along the block's lanes."""
    n, m = shape
    g = G()
    x, w = g.input(f"{dtype}[{n},{m}]"), g.input(f"{dtype}[{m}]")
    z = g.sum(g.mul(x, g.broadcast(w, shape, (1,))), 1)
    s = g.exp(g.neg(g.log1p(g.exp(z))))
    y = g.mul(x, g.broadcast(s, shape, (0,)))
    graph = g.output(y, g.sum(g.exp(y), 1))
    a, b = (rng.standard_normal(k).astype(DTYPES[dtype].np) for k in (shape, (m,)))
    check(graph, a, b, rtol=1e-13 if dtype == "f64" else 1e-5)


def test_tiles_are_divided_among_threads() -> None:
    g = G()
    x, y = g.input(Type(DTYPES["f64"], (500, 700))), g.input(Type(DTYPES["f64"], (700, 500)))
    run = compiled(g.output(g.add(x, g.transpose(y))))
    (nest,) = run.compiled.program.steps
    assert nest.parallel
    assert nest.leaves[0].loops[0].tile == nest.chunk
    a, b = np.random.default_rng(3).standard_normal((2, 700, 500))
    np.testing.assert_array_equal(run(a.reshape(500, 700), b)[0], a.reshape(500, 700) + b.T)
