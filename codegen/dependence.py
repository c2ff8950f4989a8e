"""Whether two accesses of one array can meet: positions compared over all points of their loops.

Positions are affine (`codegen/index.py`). Two of them, at independent points of their loops, differ by multiples of
the strides that they share and by what is left, which lies in a range. They are apart when that range lies between two
neighbouring multiples: a column written beside a column read, though their bytes interleave. What cannot be shown is
not apart. Nothing here knows stages or LLVM.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd

from stager.codegen.index import Facts, Ix
from stager.ir.dims import Dim

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
