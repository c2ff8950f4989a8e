"""Whether two positions can meet, against all pairs of points."""

from __future__ import annotations

import itertools

import pytest

from stager.codegen.dependence import apart, order_of
from stager.codegen.index import Facts, Ix
from stager.ir.dims import symbol

CASES = [
    (Ix(0, ((0, 8),)), Ix(8, ((0, 8),)), False),  # x[i], x[i + 1]
    (Ix(0, ((0, 16),)), Ix(8, ((0, 16),)), True),  # even and odd
    (Ix(0, ((0, 80),)), Ix(8, ((0, 80), (1, 8))), True),  # a column beside a block
    (Ix(0, ((0, 80),)), Ix(0, ((0, 80), (1, 8))), False),  # the block holds the column
    (Ix(0, ((1, 8),)), Ix(80, ((0, 80), (1, 8))), True),  # a row above a block
    (Ix(0, ((0, 80), (1, 8))), Ix(40, ((0, 80), (1, 8))), True),  # left and right halves
    (Ix(0, ((0, 80), (1, 8))), Ix(24, ((0, 80), (1, 8))), False),
    (Ix(72, ((0, -8),)), Ix(80, ((0, 8),)), True),
]
EXTENTS = (7, 5)


def extents(v: int) -> tuple[int, int]:
    return 0, EXTENTS[v] - 1


def positions(ix: Ix) -> set[int]:
    points = itertools.product(*map(range, EXTENTS))
    return {int(ix.const + sum(c * p[v] for v, c in ix.terms)) for p in points}  # type: ignore[misc, operator]


@pytest.mark.parametrize(("a", "b", "expected"), CASES)
def test_apart(a: Ix, b: Ix, expected: bool) -> None:
    assert apart(a, b, extents, extents, Facts()) is expected
    assert apart(b, a, extents, extents, Facts()) is expected
    assert expected == positions(a).isdisjoint(positions(b))


def test_symbolic_offsets_use_ranges() -> None:
    """Column k and the block right of it, for k in a loop over rows of 80 bytes."""
    k = symbol("k")
    facts = Facts()
    facts.ranges["k"] = (0, 8)

    def of_block(v: int) -> tuple[object, object]:
        return (0, 8 - k) if v == 1 else (0, 6)

    column, block = Ix(8 * k, ((0, 80),)), Ix(8 * k + 8, ((0, 80), (1, 8)))
    assert apart(column, block, extents, of_block, facts)  # type: ignore[arg-type]
    assert not apart(column, block.shift(-8), extents, of_block, facts)  # type: ignore[arg-type]


ROW = Ix(80, ((0, 80), (1, 8)))


@pytest.mark.parametrize(
    ("written", "reads", "expected"),
    [
        (ROW, [ROW.shift(-8), ROW], -1),
        (ROW, [ROW.shift(8), ROW.shift(72)], 1),
        (ROW, [ROW.shift(-72), ROW.shift(-8)], -1),
        (ROW, [ROW.shift(8), ROW.shift(-8)], 0),
        (ROW, [ROW.shift(4)], 0),  # half an element
        (ROW, [Ix(0, ((0, 80), (1, 16)))], 0),
        (Ix(0, ((0, 8), (1, 80))), [Ix(-8, ((0, 8), (1, 80)))], 0),  # columns first: addresses do not only grow
        (Ix(0, ((0, 16), (1, 8))), [Ix(-8, ((0, 16), (1, 8)))], 0),  # rows that share elements
        (Ix(0, ((0, -80), (1, 8))), [Ix(-8, ((0, -80), (1, 8)))], 0),
    ],
)
def test_order_in_place(written: Ix, reads: list[Ix], expected: int) -> None:
    assert order_of(written, reads, EXTENTS, 8, Facts()) == expected
