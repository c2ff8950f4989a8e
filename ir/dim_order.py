"""What is known of the order of dims whatever the call brings: extents are not negative, or not below a given number.

`Order` proves `a >= b` of symbolic dims by cases of the functions in them: max(0, n-1) is one of its two arguments,
and not below either. What it cannot prove may hold all the same. Not here: ranges of loop indices (`ranges.py`), and
the stronger facts of code generation (`codegen/index.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from stager.ir.dims import (
    Apply,
    Dim,
    Expr,
    Monomial,
    Sym,
    dim_max,
    dim_min,
    evaluate,
    floordiv,
    mod,
    product,
    substitute,
    symbol,
    symbols_of,
)
from stager.ir.graph import Graph
from stager.ir.types import Type

DEPTH = 6  # functions that one proof looks into


USUAL = 1000  # extents that only the call knows


class Order:
    """The order of the dims of one graph. Symbols that stand for an extent are at least 0, or what `least` says; others
    may be anything."""

    def __init__(self, graph: Graph, least: Mapping[str, int] | None = None) -> None:
        self.least = dict(least or {})
        self._extents = {name for name, d in graph.symbols.items() if d.kind == "shape"}
        self._above: dict[str, Dim] = {name: symbol(name) + n for name, n in self.least.items()}
        self._proved: dict[Dim, bool] = {}
        self._simplest: dict[Dim, Dim] = {}

    def at_least(self, a: Dim, b: Dim) -> bool:
        """Whether a >= b can be proved."""
        d = a - b
        return self._non_negative(substitute(d, self._above) if self._above else d, DEPTH)

    def usual(self, d: Dim) -> int:
        """A number that the dim usually is like: for what is worth it, never for what is right."""
        return int(evaluate(d, {name: max(USUAL, 4 * self.least.get(name, 0)) for name in symbols_of((d,))}))

    def simplest(self, value: Any) -> Any:
        """A dim, a type, or those nested in tuples, without the functions whose result is known."""
        if isinstance(value, Expr):
            known: Dim | None = self._simplest.get(value)
            if known is None:
                terms = [[c, *[self._simplest_atom(a) for a, power in m for _ in range(power)]] for m, c in value.terms]
                known = self._simplest[value] = sum(map(product, terms))
            return known
        if isinstance(value, tuple):
            return tuple([self.simplest(v) for v in value])
        return value.with_shape(self.simplest(value.shape)) if isinstance(value, Type) else value

    def _simplest_atom(self, atom: Sym | Apply) -> Dim:
        if isinstance(atom, Sym):
            return symbol(atom.name)
        a: Dim = self.simplest(atom.a)
        b: Dim = self.simplest(atom.b)
        if atom.fn in ("max", "min"):
            return self.largest([a, b]) if atom.fn == "max" else self.smallest([a, b])
        if atom.fn == "floordiv":
            return floordiv(a, b)
        for d in (a, a + b):  # it lies in [0, b) already, or in [-b, 0)
            if self.at_least(d, 0) and self.at_least(b, d + 1):
                return d
        return mod(a, b)

    def largest(self, dims: Iterable[Dim]) -> Dim:
        """The largest of some dims, without those that are known to be no larger than another."""
        first, *others = dims
        for d in others:
            first = first if self.at_least(first, d) else d if self.at_least(d, first) else dim_max(first, d)
        return first

    def smallest(self, dims: Iterable[Dim]) -> Dim:
        """The smallest of some dims, likewise."""
        first, *others = dims
        for d in others:
            first = d if self.at_least(first, d) else first if self.at_least(d, first) else dim_min(first, d)
        return first

    def _non_negative(self, d: Dim, depth: int) -> bool:
        if not isinstance(d, Expr):
            return d >= 0
        known = self._proved.get(d)
        if known is None:
            known = self._by_terms(d, depth) or (depth > 0 and self._by_cases(d, depth - 1))
            if known or depth == DEPTH:  # what a shorter look does not see, a longer one may
                self._proved[d] = known
        return known

    def _by_terms(self, d: Expr, depth: int) -> bool:
        """Sums of products of what is not negative are not."""
        return all(c > 0 and all(self._atom_non_negative(a, depth) for a, _ in m) for m, c in d.terms)

    def _atom_non_negative(self, atom: Sym | Apply, depth: int) -> bool:
        if isinstance(atom, Sym):
            return atom.name in self._extents
        if depth == 0:
            return False
        a, b = self._non_negative(atom.a, depth - 1), self._non_negative(atom.b, depth - 1)
        if atom.fn in ("floordiv", "mod") and not self._non_negative(atom.b - 1, depth - 1):
            return False
        return (a or b) if atom.fn == "max" else b if atom.fn == "mod" else (a and b)

    def _by_cases(self, d: Expr, depth: int) -> bool:
        """One function after the other replaced by what it is, or by what it is at worst."""
        for m, c in d.terms:
            if len(m) != 1 or m[0][1] != 1 or not isinstance(m[0][0], Apply):
                continue
            rest = _without(d, m)
            atom = m[0][0]
            if atom.fn in ("max", "min"):
                cases = (self._non_negative(rest + c * x, depth) for x in (atom.a, atom.b))
                # max is not below either argument, and is one of them: where it may be less than another, all must do
                if any(cases) if (atom.fn == "max") == (c > 0) else all(cases):
                    return True
            elif atom.fn == "floordiv" and isinstance(atom.b, int) and atom.b > 0:
                k = atom.b  # k * floordiv(a, k) lies in [a - k + 1, a]
                if self._non_negative(k * rest + c * (atom.a if c < 0 else atom.a - (k - 1)), depth):
                    return True
            elif atom.fn == "mod" and self._non_negative(atom.b - 1, depth):  # it lies in [0, b)
                worst = rest + c * (atom.b - 1) if c < 0 else rest
                if self._non_negative(worst, depth):
                    return True
        return False


def _without(d: Expr, monomial: Monomial) -> Dim:
    """A dim without one of its terms."""
    rest = tuple([t for t in d.terms if t[0] != monomial])
    if not rest:
        return 0
    return rest[0][1] if len(rest) == 1 and not rest[0][0] else Expr(rest)
