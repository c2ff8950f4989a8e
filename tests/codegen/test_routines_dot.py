"""Products against NumPy: dtypes, sizes around every tile and threshold, transposed and strided operands, batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stager.codegen.program import Routine
from stager.codegen.routines.dot import methods
from stager.codegen.routines.gemm import Matrices, tile_shape
from stager.codegen.target import Target
from stager.ir.dims import symbol
from stager.ir.dtypes import DTYPES
from stager.ir.evaluate import evaluate_graph
from stager.ir.types import Type
from stager.pipeline import executable
from stager.runtime import blas
from stager.runtime.call import call
from tests.codegen.build import G
from tests.codegen.run import compiled

rng = np.random.default_rng(11)


def sample(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    d = DTYPES[dtype]
    if d.kind == "f":
        return rng.normal(size=shape).astype(d.np)
    if d.kind == "b":
        return rng.random(shape) < 0.3
    return rng.integers(0 if d.kind == "u" else -9, 10, shape).astype(d.np)


def close(got: Any, want: Any, terms: int = 1) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind != "f":
        np.testing.assert_array_equal(got, want)
        return
    eps = np.finfo(got.dtype).eps
    np.testing.assert_allclose(
        got, want, rtol=4 * eps, atol=8 * eps * np.sqrt(terms) * max(1, np.abs(want).max(initial=0))
    )


def matmul(g: G, x: Any, y: Any) -> Any:
    n = x.type.ndim
    batch = tuple(range(n - 2))
    return g.emit("dot", x, y, contract=((n - 1,), (y.type.ndim - 2,)), batch=(batch, batch))


SIZES = [
    (2, 3, 4),
    (1, 7, 5),
    (7, 1, 5),
    (5, 9, 1),
    (8, 8, 8),
    (6, 16, 12),
    (13, 17, 19),
    (4, 33, 65),
    (65, 2, 9),
    (32, 32, 32),
    (3, 40, 300),
    (70, 70, 70),
    (97, 65, 101),
    (150, 70, 203),
    (33, 70, 4100),
    (130, 530, 300),
]


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "i32", "i8", "u16", "b1"])
def test_sizes(dtype: str) -> None:
    for sizes in (SIZES[:8], SIZES[8:]):
        g = G()
        arrays, outs, wants = [], [], []
        for m, n, k in sizes:
            x, y = sample(dtype, (m, k)), sample(dtype, (k, n))
            arrays += [x, y]
            outs.append(matmul(g, g.input(Type(DTYPES[dtype], x.shape)), g.input(Type(DTYPES[dtype], y.shape))))
            wants.append((x @ y, k))
        for got, (want, k) in zip(compiled(g.output(*outs))(*arrays), wants, strict=True):
            close(got, want, k)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(9, 10, 11), (70, 90, 80), (1, 300, 200), (300, 1, 200), (301, 1, 131), (1, 303, 129), (3, 400, 100)],
)
def test_views(m: int, n: int, k: int) -> None:
    g = G()
    arrays = [sample("f64", s) for s in ((m, k), (k, m), (k, n), (n, k), (2 * m, 3 * k), (k, 2 * n))]
    x, xt, y, yt, wide, gaps = (g.input(Type(DTYPES["f64"], a.shape)) for a in arrays)
    lefts = [
        (x, arrays[0]),
        (g.transpose(xt), arrays[1].T),
        (g.slice(wide, slice(None, None, 2), slice(None, None, 3)), arrays[4][::2, ::3]),
    ]
    lefts += [
        (g.slice(x, slice(None), slice(None, None, -1)), arrays[0][:, ::-1]),
        (g.broadcast(g.slice(x, 0), (m, k)), np.broadcast_to(arrays[0][0], (m, k))),
    ]
    rights = [
        (y, arrays[2]),
        (g.transpose(yt), arrays[3].T),
        (g.slice(gaps, slice(None), slice(None, n)), arrays[5][:, :n]),
    ]
    rights += [(g.slice(gaps, slice(None, None, -1), slice(None, None, 2)), arrays[5][::-1, ::2])]
    outs, wants = [], []
    for a, p in lefts:
        for b, q in rights:
            outs.append(matmul(g, a, b))
            wants.append(p @ q)
    for got, want in zip(compiled(g.output(*outs))(*arrays), wants, strict=True):
        close(got, want, k)


@pytest.mark.parametrize("dtype", ["f64", "f32", "i64", "b1"])
def test_last_columns_run_along_adjacent_rows(dtype: str) -> None:
    g = G()
    outs, arrays = [], []
    for m, k, n in ((64, 33, 10), (37, 40, 3), (16, 48, 26), (35, 20, 33)):
        x, y = sample(dtype, (m, k)), sample(dtype, (k, n))
        arrays += [x, np.ascontiguousarray(x.T), y, np.ascontiguousarray(y.T)]
        a, at, b, bt = (g.input(Type(DTYPES[dtype], v.shape)) for v in arrays[-4:])
        outs += [matmul(g, a, b), matmul(g, g.transpose(at), b), matmul(g, g.transpose(at), g.transpose(bt))]
    got = compiled(g.output(*outs))(*arrays)
    for i in range(0, len(got), 3):
        x, y = arrays[i // 3 * 4], arrays[i // 3 * 4 + 2]
        close(got[i], x @ y, x.shape[1])
        assert got[i].tobytes() == got[i + 1].tobytes() == got[i + 2].tobytes()  # the same sums in the same order


@pytest.mark.parametrize("dtype", ["f64", "f32", "i32", "b1"])
def test_small_products_with_a_transposed_operand_pack_that_alone(dtype: str) -> None:
    g = G()
    arrays = [sample(dtype, s) for s in ((7, 9), (37, 9), (9, 7), (3, 5, 6), (3, 4, 6))]
    x, yt, xt, a, bt = (g.input(Type(DTYPES[dtype], v.shape)) for v in arrays)
    graph = g.output(
        matmul(g, x, g.transpose(yt)),
        matmul(g, g.transpose(xt), g.transpose(yt)),
        g.emit("dot", a, bt, contract=((2,), (2,)), batch=((0,), (0,))),
    )
    run = compiled(graph)
    products = [s for s in run.compiled.program.steps if isinstance(s, Routine)]
    assert len(products) == 3
    assert [len(s.scratch) for s in products] == [1, 1, 1]
    p, q, r, s, t = arrays
    for got, want in zip(run(*arrays), (p @ q.T, r.T @ q.T, s @ t.transpose(0, 2, 1)), strict=True):
        close(got, want, 9)


@pytest.mark.parametrize(
    ("bits", "n", "k", "way"),
    [(512, 128, 128, "direct"), (512, 256, 256, "blas"), (512, 10, 5000, "blas"), (256, 128, 128, "blas")],
)
def test_medium_products_are_direct_where_registers_are_wide(bits: int, n: int, k: int, way: str) -> None:
    target = replace(Target.named("x86-64-v4"), vector_bits=bits)
    g = G()
    x, y = g.input(Type(DTYPES["f64"], (128, k))), g.input(Type(DTYPES["f64"], (k, n)))
    p = Matrices(128, n, k, 8 * k, 8, 8 * n, 8, 8 * n)
    assert methods(matmul(g, x, y).node, p, target, True) == (way, way)


@pytest.mark.parametrize(
    ("m", "many", "few"),
    [(5, 5, 5), (8, 8, 4), (18, 6, 6), (20, 4, 4), (50, 8, 6), (60, 6, 6), (64, 8, 4), (100, 8, 6)],
)
def test_rows_of_tiles(m: int, many: int, few: int) -> None:
    """Rows that divide m, as many as registers hold; `few` where those are 16."""
    for bits, rows in ((512, many), (256, few)):
        target = replace(Target.named("x86-64-v4"), vector_bits=bits)
        assert tile_shape(target, 8, m, 64) == (rows, 2)
        assert rows * 2 + 2 + 1 <= target.vector_registers


def test_batches_and_orders() -> None:
    g = G()
    shapes = [(5, 4, 6), (5, 6, 3), (3, 4, 5, 6), (4, 3, 6, 2), (4, 5, 6, 7), (6, 7, 5, 9)]
    arrays = [sample("f64", s) for s in shapes]
    a, b, c, d, e, f = (g.input(Type(DTYPES["f64"], s)) for s in shapes)
    cases = [
        (a, b, ((2,), (1,)), ((0,), (0,)), "bmk,bkn->bmn"),
        (c, d, ((3,), (2,)), ((0, 1), (1, 0)), "abmk,bakn->abmn"),
        (c, d, ((3,), (2,)), ((1,), (0,)), "xbmk,bykn->bxmyn"),
        (e, f, ((2, 3), (0, 1)), ((), ()), "abcd,cdef->abef"),
        (e, f, ((3, 2), (1, 0)), ((), ()), "abcd,cdef->abef"),
        (e, f, ((1, 2), (2, 0)), ((), ()), "abcd,cxbf->adxf"),
        (c, c, ((0, 1, 2, 3), (0, 1, 2, 3)), ((), ()), "abcd,abcd->"),
        (e, e, ((0,), (0,)), ((2,), (2,)), "abcd,axcy->cbdxy"),
    ]
    outs = [g.emit("dot", x, y, contract=con, batch=bat) for x, y, con, bat, _ in cases]
    value = {id(v): arr for v, arr in zip((a, b, c, d, e, f), arrays, strict=True)}
    for got, (x, y, _, _, text) in zip(compiled(g.output(*outs))(*arrays), cases, strict=True):
        close(got, np.einsum(text, value[id(x)], value[id(y)]), 50)


@pytest.mark.parametrize("transposed", [False, True])
def test_symbolic(transposed: bool) -> None:
    g = G()
    m, n, k = symbol("m"), symbol("n"), symbol("k")
    x = g.input(Type(DTYPES["f32"], (m, k)))
    y = g.input(Type(DTYPES["f32"], (n, k) if transposed else (k, n)))
    g.symbol("m", x, 0)
    g.symbol("k", x, 1)
    g.symbol("n", y, 0 if transposed else 1)
    run = compiled(g.output(matmul(g, x, g.transpose(y) if transposed else y)))
    for sizes in [
        (1, 1, 1),
        (0, 3, 4),
        (3, 0, 4),
        (3, 4, 0),
        (5, 6, 7),
        (33, 1, 20),
        (1, 33, 20),
        (64, 64, 64),
        (100, 90, 81),
        (7, 700, 90),
    ]:
        a, b = sample("f32", (sizes[0], sizes[2])), sample("f32", (sizes[2], sizes[1]))
        close(run(a, b.T.copy() if transposed else b)[0], a @ b, sizes[2])


def test_products_fuse_what_they_read_and_feed() -> None:
    g = G()
    x, w, b = g.input("f64[20,30]"), g.input("f64[30,40]"), g.input("f64[40]")
    y = g.maximum(g.add(matmul(g, g.mul(x, x), w), b), 0.0)
    graph = g.output(y, matmul(g, g.transpose(y), x))
    arrays = [sample("f64", s) for s in ((20, 30), (30, 40), (40,))]
    for got, want in zip(compiled(graph)(*arrays), evaluate_graph(graph, arrays), strict=True):
        close(got, want, 30)


def test_result_over_its_operand() -> None:
    g = G()
    x = g.input("f64[40,40]")
    g.output(matmul(g, x, x)).signature.writes = ((0, 0),)
    a = sample("f64", (40, 40))
    want = a @ a
    compiled(g.graph)(a)
    close(a, want, 40)


def test_no_sums_and_no_results() -> None:
    g = G()
    x, y = g.input("f64[3,0]"), g.input("f64[0,4]")
    got = compiled(g.output(matmul(g, x, y), matmul(g, y, g.transpose(y)), matmul(g, g.transpose(y), y)))(
        np.ones((3, 0)), np.ones((0, 4))
    )
    close(got[0], np.zeros((3, 4)))
    assert got[1].shape == (0, 0)
    close(got[2], np.zeros((4, 4)))


@pytest.mark.skipif(not blas.provides("stager_blas_dgemm"), reason="NumPy was built without its bundled OpenBLAS")
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_blas(dtype: str) -> None:
    """Large products as compiled code gets them: every orientation, batches, sizes that threads share unevenly."""
    g = G()
    cases = [
        ((70, 80), (80, 90)),
        ((300, 130), (130, 520)),
        ((520, 130), (130, 70)),
        ((2, 90, 70), (2, 70, 80)),
        ((5, 90, 70), (5, 70, 80)),
    ]
    arrays, outs, wants = [], [], []
    for sx, sy in cases:
        for tx in (False, True):
            for ty in (False, True):
                x, y = sample(dtype, sx), sample(dtype, sy)
                values = []
                for a, flip in ((x, tx), (y, ty)):
                    stored = np.ascontiguousarray(np.swapaxes(a, -1, -2)) if flip else a
                    v = g.input(Type(DTYPES[dtype], stored.shape))
                    n = stored.ndim
                    values.append(g.transpose(v, *range(n - 2), n - 1, n - 2) if flip else v)
                    arrays.append(stored)
                outs.append(matmul(g, *values))
                wants.append((x @ y, sx[-1]))
    x = g.input(Type(DTYPES[dtype], (200, 300)))
    arrays.append(sample(dtype, (200, 300)))
    part = g.slice(x, slice(20, 120), slice(100, 300))
    outs.append(matmul(g, part, g.transpose(part)))
    wants.append((arrays[-1][20:120, 100:300] @ arrays[-1][20:120, 100:300].T, 200))
    made = executable(g.output(*outs))
    assert any(name.startswith("stager_blas_product") for name in made.abi.externals)
    for got, (want, k) in zip(made(arrays), wants, strict=True):
        close(got, want, k)


@pytest.mark.skipif(not blas.provides("stager_blas_dgemm"), reason="NumPy was built without its bundled OpenBLAS")
def test_blas_gives_the_same_bits_for_any_number_of_threads() -> None:
    g = G()
    x, y = g.input("f64[517,300]"), g.input("f64[300,430]")
    graph = g.output(matmul(g, x, y), matmul(g, g.transpose(y), g.transpose(x)))
    made = executable(graph)
    arrays = [sample("f64", (517, 300)), sample("f64", (300, 430))]
    one, two, three = (call(made.abi, made.address, arrays, threads=n) for n in (1, 2, 3))
    for a, b, c in zip(one, two, three, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
