"""A few rows times a large matrix, and a large matrix times a vector: bound by reading the matrix.

The matrix is read once, row after row, in stripes of columns; the sums of a stripe stay in the first cache.
Invariant: each sum runs over the contracted axis in order.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.accumulate import across
from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.registers import Val
from stager.codegen.routines.gemm import Matrices, Ring, lanes_of, pieces_of
from stager.codegen.routines.lines import carrying, moved_by, when
from stager.codegen.scalar import ScalarBuilder

STRIPE_BYTES = 8192
"""One row of a stripe: long enough for the prefetcher, short enough for the first cache."""


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


ROWS = 4
"""Rows that one reading of the vector serves."""


def several_dots(e: FunctionEmitter, ring: Ring, p: Matrices, a: Any, b: Any, c: Any, rows: int) -> None:
    """c[r] = sum of a[r, k] b[k] for a few rows, both contiguous along k."""
    lanes = lanes_of(e.target, ring)
    starts = [moved_by(e, a, r, p.a_row) for r in range(rows)]
    k = p.k if isinstance(p.k, int) else e.dim(p.k)
    done: Any = 0
    totals: list[Val] = []
    for width, unroll in ((lanes, 2), (lanes, 1), (1, 1)) if lanes > 1 else ((1, 1),):
        step = width * unroll
        if isinstance(k, int):
            top: Any = k // step * step
        else:
            top = e.b.sub(k, e.b.urem(k, i64(step)))
        sb = e.scalars(width)

        def terms(at: Any, sums: list[Val], sb: ScalarBuilder = sb, unroll: int = unroll) -> list[Val]:
            here = moved_by(e, b, at, ring.size)
            ys = [sb.load(e.offset(here, u * sb.width * ring.size), ring.stored) for u in range(unroll)]
            out = []
            for r, start in enumerate(starts):
                row = moved_by(e, start, at, ring.size)
                for u, y in enumerate(ys):
                    x = sb.load(e.offset(row, u * sb.width * ring.size), ring.stored)
                    out.append(ring.add_product(sb, sums[r * unroll + u], x, y))
            return out

        zero = sb.const(ring.stored, 0)
        initial = [zero] * (rows * unroll)
        if width > 1 and unroll == 1:
            initial = totals
        made = carrying(e, done, top, step, initial, terms)
        if unroll == 2:
            totals = [sb.add(made[2 * r], made[2 * r + 1]) for r in range(rows)]
        elif width > 1:
            totals = [across(e, sb, "sum", x) for x in made]
        else:
            one = e.scalars(1)
            totals = [one.add(x, y) for x, y in zip(totals, made, strict=True)] if totals else made
        done = top
    for r, total in enumerate(totals):
        e.scalars(1).store(total, moved_by(e, c, r, p.c_row))


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
