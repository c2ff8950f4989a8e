"""`Ix`: an affine integer expression over the loop axes of a stage, the one form in which positions are kept.

A variable is an int: an axis of the stage, or, from `DYNAMIC` on, an instruction of its body (a data index, a
quotient, a remainder). Coefficients and the constant are dims, so one form serves static and symbolic sizes.
Invariant: terms are sorted by variable and no coefficient is 0, so equal positions are equal objects by `==` and
hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from stager.ir.dims import Apply, Atom, Dim, Expr, Sym, floordiv
from stager.ir.ranges import Range, at_worst

DYNAMIC = 1 << 20
"""Variables from here on are `DYNAMIC + instruction`; below are axes."""


class Ix:
    """`const + sum(coef * variable)`. Immutable."""

    __slots__ = ("_hash", "const", "terms")

    def __init__(self, const: Dim, terms: tuple[tuple[int, Dim], ...] = ()) -> None:
        self.const = const
        self.terms = terms
        self._hash = hash((const, terms))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Ix)
            and self._hash == other._hash
            and self.const == other.const
            and self.terms == other.terms
        )

    def __hash__(self) -> int:
        return self._hash

    def coef(self, var: int) -> Dim:
        """The factor of a variable, 0 when it does not occur."""
        return next((c for v, c in self.terms if v == var), 0)

    def plus(self, other: Ix) -> Ix:
        if not self.terms and self.const == 0:
            return other
        if not other.terms:
            return self if other.const == 0 else Ix(self.const + other.const, self.terms)
        acc = dict(self.terms)
        for v, c in other.terms:
            acc[v] = acc[v] + c if v in acc else c
        return Ix(self.const + other.const, tuple(sorted((v, c) for v, c in acc.items() if c != 0)))

    def shift(self, by: Dim) -> Ix:
        return self if by == 0 else Ix(self.const + by, self.terms)

    def scale(self, by: Dim) -> Ix:
        if by == 1:
            return self
        if by == 0:
            return ZERO
        return Ix(self.const * by, tuple((v, c * by) for v, c in self.terms))

    def rename(self, mapping: Mapping[int, int]) -> Ix:
        """Variables replaced one to one."""
        return Ix(self.const, tuple(sorted((mapping.get(v, v), c) for v, c in self.terms)))

    def replace(self, mapping: Mapping[int, Ix]) -> Ix:
        """Variables replaced by expressions."""
        out = Ix(self.const)
        for v, c in self.terms:
            out = out.plus(mapping[v].scale(c) if v in mapping else Ix(0, ((v, c),)))
        return out

    def without(self, variables: Iterable[int]) -> Ix:
        """The terms of some variables dropped."""
        drop = set(variables)
        return Ix(self.const, tuple(t for t in self.terms if t[0] not in drop))

    @property
    def is_dynamic(self) -> bool:
        """True when a variable is an instruction."""
        return bool(self.terms) and self.terms[-1][0] >= DYNAMIC

    def text(self, name: Callable[[int], str]) -> str:
        """As printed in programs, with names for the variables."""
        parts = []
        for v, c in self.terms:
            if isinstance(c, Expr):
                parts.append(f"({c})*{name(v)}" if len(c.terms) > 1 else f"{c}*{name(v)}")
            else:
                parts.append(name(v) if c == 1 else f"{c}*{name(v)}")
        if self.const != 0 or not parts:
            parts.append(str(self.const))
        return "+".join(parts).replace("+-", "-")


ZERO = Ix(0)


def variable(var: int) -> Ix:
    """The expression that is one variable."""
    return Ix(0, ((var, 1),))


def linear(index: Iterable[Ix], strides: Iterable[Dim], offset: Dim = 0) -> Ix:
    """`offset + sum(index * stride)`."""
    out = Ix(offset)
    for ix, stride in zip(index, strides, strict=True):
        out = out.plus(ix.scale(stride))
    return out


class Facts:
    """What is known of symbols: which may be negative, and the inclusive ranges of loop indices."""

    def __init__(self) -> None:
        self.signed: set[str] = set()
        self.ranges: dict[str, Range] = {}

    def non_negative(self, d: Dim) -> bool:
        """Whether `d >= 0` can be proved."""
        if not isinstance(d, Expr):
            return d >= 0
        for _ in range(4):  # a loop index may be bounded by another one
            extreme = at_worst(d, self.ranges)
            if extreme is d:
                break
            d = extreme
            if not isinstance(d, Expr):
                return d >= 0
        return all(c > 0 and all(self._atom_non_negative(a) for a, _ in m) for m, c in d.terms)

    def at_most(self, a: Dim, b: Dim) -> bool:
        """Whether `a <= b` can be proved."""
        return a == b or self.non_negative(b - a)

    def positive_sign(self, d: Dim) -> bool | None:
        """True when surely >= 0, False when surely <= 0, None when neither can be told."""
        if self.non_negative(d):
            return True
        return False if self.non_negative(-d) else None

    def bounds(self, ix: Ix, extents: Callable[[int], tuple[Dim, Dim] | None]) -> tuple[Dim, Dim] | None:
        """The least and greatest value, given inclusive ranges of variables; None when it cannot be told."""
        low: Dim = ix.const
        high: Dim = ix.const
        for v, c in ix.terms:
            r = extents(v)
            positive = self.positive_sign(c)
            if r is None or positive is None:
                return None
            a, b = (r[0] * c, r[1] * c) if positive else (r[1] * c, r[0] * c)
            low, high = low + a, high + b
        return low, high

    def maximum(self, d: Dim) -> Dim:
        """An upper bound without the loop indices whose range is known."""
        worst = -self._settled(-d)
        return worst

    def _settled(self, d: Dim) -> Dim:
        """`d` at its least over the ranged symbols in it, as far as they can be removed."""
        for _ in range(8):
            if not isinstance(d, Expr):
                return d
            lowered = at_worst(d, self.ranges)
            if lowered is d:
                return self._inside_functions(d)
            d = lowered
        return d

    def _inside_functions(self, d: Expr) -> Dim:
        """Bounds of `floordiv(e, c)` and the like by those of `e`, for positive constant `c`."""
        out: Dim = 0
        for m, c in d.terms:
            factor: Dim = c
            for atom, power in m:
                value: Dim = Expr(((((atom, 1),), 1),))
                single = isinstance(atom, Apply) and atom.fn == "floordiv" and len(m) == 1 and power == 1
                if single and isinstance(atom, Apply) and isinstance(atom.b, int) and atom.b > 0:
                    value = floordiv(self._settled(atom.a) if c > 0 else self.maximum(atom.a), atom.b)
                elif isinstance(atom, Apply) and atom.fn == "min" and c < 0 and len(m) == 1 and power == 1:
                    ends = [end for end in (self.maximum(atom.a), self.maximum(atom.b)) if isinstance(end, int)]
                    value = min(ends, default=value)
                for _ in range(power):
                    factor = factor * value
            out = out + factor
        return out

    def _atom_non_negative(self, atom: Atom) -> bool:
        if isinstance(atom, Sym):
            return atom.name not in self.signed
        a, b = self.non_negative(atom.a), self.non_negative(atom.b)
        return (a or b) if atom.fn == "max" else (a and b)

