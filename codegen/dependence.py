"""Whether two accesses of one array can meet: positions compared over all points of their loops.

Positions are affine (`codegen/index.py`). Two of them, at independent points of their loops, differ by multiples of
the strides that they share and by what is left, which lies in a range. They are apart when that range lies between two
neighbouring multiples: a column written beside a column read, though their bytes interleave. What cannot be shown is
not apart. Nothing here knows stages or LLVM.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import gcd

from stager.codegen.index import Facts, Ix
from stager.ir.dims import Dim, mod

Extents = Callable[[int], tuple[Dim, Dim] | None]


def apart(a: Ix, b: Ix, of_a: Extents, of_b: Extents, facts: Facts) -> bool:
    """True when `a` at any point of its loops is never `b` at any point of its loops. Extents give inclusive ranges."""
    if a.is_dynamic or b.is_dynamic:
        return False
    shared = sorted((abs(c) for v, c in a.terms if isinstance(c, int) and b.coef(v) == c), reverse=True)
    for count in range(len(shared) + 1):
        if count and count < len(shared) and shared[count] == shared[count - 1]:
            continue
        stride = gcd(*shared[:count]) if count else 0
        if _between(a, b, stride, shared[count - 1] if count else None, of_a, of_b, facts):
            return True
    return False


def _between(a: Ix, b: Ix, stride: int, least: int | None, of_a: Extents, of_b: Extents, facts: Facts) -> bool:
    """The difference without the shared terms of at least `least` per step lies between multiples of `stride`."""
    low: Dim = a.const - b.const
    high = low
    for ix, other, extents, sign in ((a, b, of_a, 1), (b, a, of_b, -1)):
        for v, c in ix.terms:
            if least is not None and isinstance(c, int) and abs(c) >= least and other.coef(v) == c:
                continue
            r, positive = extents(v), facts.positive_sign(sign * c)
            if r is None or positive is None:
                return False
            ends = (r[0], r[1]) if positive else (r[1], r[0])
            low, high = low + sign * c * ends[0], high + sign * c * ends[1]
    if stride == 0:
        return facts.non_negative(low - 1) or facts.non_negative(-1 - high)
    if facts.non_negative(low - 1):
        return facts.non_negative(stride - 1 - high)
    return facts.non_negative(-1 - high) and facts.non_negative(low + stride - 1)


def order_of(written: Ix, reads: Iterable[Ix], extents: Sequence[Dim], item: int, facts: Facts) -> int:
    """How the points of nested loops can run so that each reads what it needs before another point writes it: 1 in
    order, -1 from the last to the first, 0 when neither is shown. Every point writes one element of `item` bytes.

    In order, the addresses written only grow: what lies ahead of the element that a point writes is not written yet.
    """
    if written.is_dynamic:
        return 0
    inside: Dim = item  # from the first byte that the inner loops write to behind their last one
    for v in reversed(range(len(extents))):
        stride = written.coef(v)
        if not facts.at_most(inside, stride):
            return 0
        inside = inside + stride * (extents[v] - 1)
    signs = set()
    for ix in reads:
        if ix == written:
            continue
        distance = ix.const - written.const
        ahead = facts.positive_sign(distance)
        if ix.terms != written.terms or ahead is None or mod(distance, item) != 0:
            return 0
        signs.add(1 if ahead else -1)
    return signs.pop() if len(signs) == 1 else 0
