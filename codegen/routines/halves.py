"""Symmetric products, a half at a time: the tiles on and below the diagonal, and what stands above it is copied.

Where an element was not finite, the tiles above the diagonal are computed after all: NaN and infinities stand where the
whole product has them. Invariant: as for all products, which tiles there are depends on shapes, layouts and target.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.routines.gemm import Matrices, Piece, Ring, Tile, lanes_of, pieces_of, tile_shape
from stager.codegen.routines.lines import carrying, moved_by, smaller, when
from stager.codegen.target import Target


def half_tile(target: Target, ring: Ring, p: Matrices) -> tuple[int, int]:
    """Rows and columns of a tile: small ones cover little more than the half; panels have a width of their own."""
    lanes = lanes_of(target, ring)
    if p.b_column == ring.size:
        return 8, lanes
    rows, vectors = tile_shape(target, lanes, p.m, p.n)
    return rows, vectors * lanes


def half(e: FunctionEmitter, ring: Ring, p: Matrices, at: Sequence[Any], block: Any, below: bool) -> None:
    """Of c = a b, square, the tiles of one block of rows: those on and below the diagonal, or those above it.

    `at`: the block's first row of a, all of b, the block's first row of c. `block`: its number, an i64.
    """
    assert isinstance(p.m, int)
    assert isinstance(p.n, int)
    a, b, c = at
    rows, width = half_tile(e.target, ring, p)
    k = p.k if isinstance(p.k, int) else e.dim(p.k)
    unroll = 2 if isinstance(k, int) and k % 2 == 0 else 1
    whole, last = p.n // width * width, p.n % width
    end = e.b.mul(block, i64(rows), flags=("nsw",))
    end = e.b.add(
        end, i64(rows), flags=("nsw",)
    )  # the first row behind the block: columns below the diagonal end there

    def tile(count: int, j: Any, pieces: Sequence[Piece]) -> None:
        t = Tile(e, ring, count, pieces)
        t.run(k, a, p.a_row, p.a_step, moved_by(e, b, j, p.b_column), p.b_step, unroll)
        t.store(moved_by(e, c, j, ring.size), p.c_row)

    def tiles(count: int) -> None:
        behind = e.b.add(end, i64(width - 1))
        behind = e.b.sub(behind, e.b.srem(behind, i64(width)))  # the first column of the tiles above the diagonal
        low, high = (i64(0), smaller(e, behind, i64(whole))) if below else (behind, i64(whole))
        with e.loop(low, high, width, name="j") as j:
            tile(count, j, pieces_of(width, lanes_of(e.target, ring)))
        if last:
            with when(e, e.b.icmp_signed(">" if below else "<=", end, i64(whole))):
                tile(count, whole, pieces_of(last, lanes_of(e.target, ring)))

    rest = p.m % rows
    if p.m >= rows:
        with when(e, e.b.icmp_signed("<=", end, i64(p.m))):
            tiles(rows)
    if rest:
        with when(e, e.b.icmp_signed(">", end, i64(p.m))):
            tiles(rest)


def mirror(e: FunctionEmitter, ring: Ring, p: Matrices, c: Any) -> None:
    """What stands below the diagonal is copied above it."""
    one = e.scalars(1)
    with e.loop(1, p.m, name="i") as i:
        row, column = moved_by(e, c, i, p.c_row), moved_by(e, c, i, ring.size)
        with e.loop(0, i, name="j") as j:
            one.store(one.load(moved_by(e, row, j, ring.size), ring.stored), moved_by(e, column, j, p.c_row))


def is_finite(e: FunctionEmitter, ring: Ring, p: Matrices, c: Any) -> Any:
    """i1: whether all of the diagonal is finite."""
    one = e.scalars(1)
    zero = one.const(ring.stored, 0)

    def step(i: Any, sums: list[Any]) -> list[Any]:
        x = one.load(moved_by(e, moved_by(e, c, i, p.c_row), i, ring.size), ring.stored)
        return [one.add(sums[0], one.mul(x, zero))]  # 0 times infinity is NaN

    (total,) = carrying(e, 0, p.m, 1, [zero], step)
    return e.b.fcmp_ordered("ord", total.ir, total.ir)
