"""A few rows times a large matrix: vector-matrix products and the like, bound by reading the matrix.

The matrix is read once, row after row, in stripes of columns; the sums of a stripe stay in the first cache.
Invariant: each sum runs over the contracted axis in order.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.routines.gemm import Matrices, Ring, lanes_of, pieces_of
from stager.codegen.routines.lines import moved_by, when
from stager.codegen.scalar import Val
from stager.ir.dims import Dim

STRIPE_BYTES = 8192
"""One row of a stripe: long enough for the prefetcher, short enough for the first cache."""


def stripe_columns(n: Dim, size: int) -> int:
    """Columns of a stripe; fewer where a second thread would have none."""
    narrow = isinstance(n, int) and n * size < 2 * STRIPE_BYTES
    return STRIPE_BYTES // size // (2 if narrow else 1)


def stripe(e: FunctionEmitter, ring: Ring, p: Matrices, a: Any, b: Any, c: Any, columns: Any) -> None:
    """c = a b for `columns` (an int or an i64) adjacent columns; `p.m` is a small int."""
    assert isinstance(p.m, int)
    deep = max(1, 8 // p.m)
    k = p.k if isinstance(p.k, int) else e.dim(p.k)
    whole: Any = k // deep * deep if isinstance(k, int) else e.b.sub(k, e.b.urem(k, i64(deep)))
    if not isinstance(k, int):
        with when(e, e.b.icmp_signed("<", k, i64(1))), e.loop(0, columns, name="j") as j:
            one = e.scalars(1)
            for r in range(p.m):
                one.store(one.const(ring.stored, 0), moved_by(e, moved_by(e, c, r, p.c_row), j, ring.size))
    with e.loop(0, whole, deep, name="k") as at:
        _rows(e, ring, p, a, b, c, columns, at, deep)
    if deep > 1 and not (isinstance(k, int) and whole == k):
        with e.loop(whole, k, name="k") as at:
            _rows(e, ring, p, a, b, c, columns, at, 1)


def _rows(
    e: FunctionEmitter, ring: Ring, p: Matrices, a: Any, b: Any, c: Any, columns: Any, at: Any, deep: int
) -> None:
    """Adds the products with `deep` rows of the matrix from row `at` on."""
    assert isinstance(p.m, int)
    lanes = lanes_of(e.target, ring)
    one = e.scalars(1)
    a, b = moved_by(e, a, at, p.a_step), moved_by(e, b, at, p.b_step)
    factors = [
        [one.load(moved_by(e, moved_by(e, a, r, p.a_row), d, p.a_step), ring.stored) for d in range(deep)]
        for r in range(p.m)
    ]
    matrix = [moved_by(e, b, d, p.b_step) for d in range(deep)]
    results = [moved_by(e, c, r, p.c_row) for r in range(p.m)]
    first = e.b.icmp_signed("==", at, i64(0)) if not isinstance(at, int) else at == 0
    unroll = 2 if p.m <= 2 else 1

    def block(j: Any, pieces: list[tuple[int, int]]) -> None:
        by = e.b.mul(j, i64(ring.size)) if not isinstance(j, int) else j * ring.size
        for start, width in pieces:
            sb = e.scalars(width)
            ys = [sb.load(e.offset(e.offset(q, by), start * ring.size), ring.stored) for q in matrix]
            for r, result in enumerate(results):
                place = e.offset(e.offset(result, by), start * ring.size)
                zero = sb.const(ring.stored, 0)
                total = Val(e.b.select(first, zero.ir, sb.load(place, ring.stored).ir), ring.stored)
                for y, x in zip(ys, spread[width][r], strict=True):
                    total = ring.add_product(sb, total, x, y)
                sb.store(ring.result(sb, total) if ring.dtype.kind == "b" else total, place)

    done: Any = 0
    for width in dict.fromkeys((lanes * unroll, lanes, 1)):
        if isinstance(columns, int):
            top: Any = columns // width * width
            if top == done:
                continue
        else:
            top = e.b.sub(columns, e.b.urem(columns, i64(width)))
        pieces = pieces_of(width, lanes)
        spread = {w: [[ring.spread(e.scalars(w), x) for x in row] for row in factors] for w in {w for _, w in pieces}}
        with e.loop(done, top, width, name="j") as j:
            block(j, pieces)
        done = top
