"""Error-free transforms and double-double arithmetic: a number as an unevaluated sum hi + lo.

With FMA the error of a product is one instruction; without it Dekker's splitting gives the same bits (as long as
nothing overflows, so for |x| below 2**990). Invariant: every `Pair` that a function returns has |lo| <= ulp(hi).
"""

from __future__ import annotations

from dataclasses import dataclass

from stager.codegen.math.expr import Expr, fma
from stager.ir.dtypes import f64


def two_sum(x: Expr, y: Expr) -> tuple[Expr, Expr]:
    """x + y rounded, and its error."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def fast_two_sum(x: Expr, y: Expr) -> tuple[Expr, Expr]:
    """The same for |x| >= |y| (or x = 0)."""
    s = x + y
    return s, y - (s - x)


def split(x: Expr) -> tuple[Expr, Expr]:
    """Two halves of half the digits each."""
    c = x * (134217729.0 if x.dtype is f64 else 4097.0)
    high = c - (c - x)
    return high, x - high


def upper_half(x: Expr) -> Expr:
    """x cut to half of its digits: products of two such values are exact, and so is x minus it."""
    keep = ((1 << 64) - (1 << 27)) if x.dtype is f64 else ((1 << 32) - (1 << 12))
    return (x.bits() & keep).as_float(x.dtype)


def two_product(x: Expr, y: Expr) -> tuple[Expr, Expr]:
    """x * y rounded, and its error."""
    p = x * y
    if x.b.target.has_fma:
        return p, fma(x, y, -p)
    x1, x2 = split(x)
    y1, y2 = (x1, x2) if y is x else split(y)
    return p, ((x1 * y1 - p) + x1 * y2 + x2 * y1) + x2 * y2


@dataclass(frozen=True, slots=True)
class Pair:
    """hi + lo. `+`, `-`, `*`, `/` take pairs and plain values; errors are a few units of the last place of lo."""

    hi: Expr
    lo: Expr

    def __add__(self, other: Pair | Expr) -> Pair:
        if isinstance(other, Expr):
            s, e = two_sum(self.hi, other)
            return Pair(*fast_two_sum(s, e + self.lo))
        s, e = two_sum(self.hi, other.hi)
        t, f = two_sum(self.lo, other.lo)
        s, e = fast_two_sum(s, e + t)
        return Pair(*fast_two_sum(s, e + f))

    def __neg__(self) -> Pair:
        return Pair(-self.hi, -self.lo)

    def __sub__(self, other: Pair | Expr) -> Pair:
        return self + (-other)

    def __mul__(self, other: Pair | Expr) -> Pair:
        if isinstance(other, Expr):
            p, e = two_product(self.hi, other)
            return Pair(*fast_two_sum(p, fma(self.lo, other, e)))
        p, e = two_product(self.hi, other.hi)
        return Pair(*fast_two_sum(p, fma(self.hi, other.lo, fma(self.lo, other.hi, e))))

    def __truediv__(self, other: Pair | Expr) -> Pair:
        hi = other if isinstance(other, Expr) else other.hi
        q = self.hi / hi
        p, e = two_product(q, hi)
        rest = ((self.hi - p) - e) + self.lo
        if isinstance(other, Pair):
            rest = rest - q * other.lo
        return Pair(*fast_two_sum(q, rest / hi))

    def value(self) -> Expr:
        return self.hi + self.lo


def constant(like: Expr, hi: float, lo: float) -> Pair:
    """A constant in two parts."""
    return Pair(like.const(hi), like.const(lo))
