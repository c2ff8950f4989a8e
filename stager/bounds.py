"""What is known of the values of dims: a loop index lies in its range, an extent is not negative.

With these facts clamps vanish: `A[i, :j]` inside `for j in range(i)` needs none. `lower` and `upper` give a constant
bound of a dim that holds whenever the code in force runs, or None; `simplify` drops minima and maxima that they decide.

Bounds of a symbol may mention symbols of the levels around, never of its own level or deeper ones, so taking them in
turn ends. Not here: what a symbol is (`ir/dims.py`), where it is defined (`Graph.symbols`).
"""

from __future__ import annotations

from collections.abc import Callable

from stager.interpreters.stack import stack
from stager.ir.dims import (
    Apply,
    Atom,
    Dim,
    Expr,
    Monomial,
    Sym,
    dim_max,
    dim_min,
    floordiv,
    mod,
    product,
    symbol,
    symbols_of,
)
from stager.ir.ranges import range_of

Bounds = tuple[Dim | None, Dim | None]
_DEPTH = 12
_UNKNOWN: Bounds = (None, None)


def bounds_of_symbol(name: str) -> Bounds:
    """(least, greatest) value of a symbol as dims of the levels around; None where nothing is known."""
    s = stack()
    for level in reversed(s.levels[: s.depth]):
        if level.key != "Stage":
            continue
        definition = level.graph.symbols.get(name)  # type: ignore[attr-defined]
        if definition is None:
            continue
        if definition.kind == "shape":  # sizes 0 and 1 of a call's arrays have code of their own
            return 0 if s.levels[0].by_type else 2, None  # type: ignore[attr-defined]
        if definition.kind == "value":
            known: Bounds | None = getattr(level, "bounds", {}).get(definition.source)
            if known is not None:
                return known
            if getattr(level, "takes_symbol", lambda n: False)(name):
                continue  # the symbol of a level around, under its own name
        if definition.kind == "data":
            return level.learnt.get(name) or range_of(definition.source, {})  # type: ignore[attr-defined]
        return _UNKNOWN
    return _UNKNOWN


def learn(d: Dim, bounds: Bounds) -> None:
    """Know these bounds of a dim from now on, where it is a symbol that data define."""
    if not isinstance(d, Expr) or len(symbols_of(d)) != 1 or d != symbol(name := next(iter(symbols_of(d)))):
        return
    s = stack()
    for level in reversed(s.levels[: s.depth]):
        if level.key == "Stage" and name in level.graph.symbols:  # type: ignore[attr-defined]
            level.learnt[name] = bounds  # type: ignore[attr-defined]
            return


def most(d: Dim, hidden: Callable[[str], bool], sign: int = 1) -> Dim | None:
    """A dim without hidden symbols that d is never above (below, for sign -1), or None."""
    if not isinstance(d, Expr) or not any(map(hidden, symbols_of(d))):
        return d
    total: Dim = 0
    for monomial, c in d.terms:
        term: Dim | None = c * product([_dim(a) for a, power in monomial for _ in range(power)])
        if any(hidden(name) for name in symbols_of(term)):
            if len(monomial) > 1 or monomial[0][1] > 1:
                return None
            side = sign if c > 0 else -sign
            term = _most_of(monomial[0][0], hidden, side)
        else:
            c = 1
        if term is None:
            return None
        total = total + c * term
    return total


def _most_of(atom: Atom, hidden: Callable[[str], bool], sign: int) -> Dim | None:
    if isinstance(atom, Sym):
        bound = bounds_of_symbol(atom.name)[1 if sign > 0 else 0]
        return None if bound is None else most(bound, hidden, sign)
    a, b = atom.a, atom.b
    if atom.fn in ("mod", "floordiv"):
        if not isinstance(b, int) or b <= 0:
            return None
        if atom.fn == "mod":
            return b - 1 if sign > 0 else 0
        inner = most(a, hidden, sign)
        return None if inner is None else floordiv(inner, b)
    ends = [x for x in (most(a, hidden, sign), most(b, hidden, sign)) if x is not None]
    if len(ends) == 2:
        return _BUILD[atom.fn](ends[0], ends[1])
    return ends[0] if ends and (atom.fn == "min") == (sign > 0) else None


def lower(d: Dim) -> int | None:
    """A constant that d is never below, or None."""
    return _extreme(d, -1, _DEPTH)


def upper(d: Dim) -> int | None:
    """A constant that d is never above, or None."""
    return _extreme(d, 1, _DEPTH)


def at_most(a: Dim, b: Dim) -> bool:
    """Whether a <= b is certain."""
    found = upper(a - b)
    return found is not None and found <= 0


def _extreme(d: Dim, sign: int, depth: int) -> int | None:
    """The greatest (sign 1) or least (-1) value of d, if it is known."""
    if not isinstance(d, Expr):
        return d
    if not depth:
        return None
    for monomial, c in d.terms:  # functions first: their operands share symbols with the rest
        if len(monomial) == 1 and monomial[0][1] == 1 and isinstance(monomial[0][0], Apply):
            return _of_function(d, monomial, monomial[0][0], c, sign, depth)
    best: int | None = None
    for monomial, c in d.terms:
        if not monomial:
            continue
        if len(monomial) == 1 and monomial[0][1] == 1:
            atom = monomial[0][0]
            assert isinstance(atom, Sym)
            bound = bounds_of_symbol(atom.name)[1 if c * sign > 0 else 0]
        else:  # a product of what is not negative is not negative
            bound = (
                0 if c * sign < 0 and all(_extreme(_dim(a), -1, depth - 1) in _NATURAL for a, _ in monomial) else None
            )
        if bound is None:
            continue
        found = _extreme(_without(d, monomial, c) + bound * c, sign, depth - 1)
        if found is not None and (best is None or found * sign < best * sign):
            best = found
    return best


class _Natural:
    def __contains__(self, x: object) -> bool:
        return isinstance(x, int) and x >= 0


_NATURAL = _Natural()


def _of_function(d: Expr, monomial: Monomial, f: Apply, c: int, sign: int, depth: int) -> int | None:
    rest = _without(d, monomial, c)
    if f.fn == "mod" and isinstance(f.b, int) and f.b > 0:
        return _extreme(rest + (c * (f.b - 1) if c * sign > 0 else 0), sign, depth - 1)
    if f.fn == "floordiv" and isinstance(f.b, int) and f.b > 0:
        bounds = [_extreme(f.a, sign if c > 0 else -sign, depth - 1)]  # of the function by itself
        found = [_extreme(rest + c * (b // f.b), sign, depth - 1) for b in bounds if b is not None]
        if c % f.b == 0:  # (a-b+1)/b <= a//b <= a/b: what a shares with the rest counts
            found.append(_extreme(rest + c // f.b * (f.a if c * sign > 0 else f.a - (f.b - 1)), sign, depth - 1))
        if c in (1, -1):  # with the rest under the quotient: (a + b rest) // b
            whole = _extreme(f.a + c * f.b * rest, sign * c, depth - 1)
            found.append(None if whole is None else c * (whole // f.b))
        known = [x for x in found if x is not None]
        return (min(known) if sign > 0 else max(known)) if known else None
    if f.fn not in ("min", "max"):
        return None
    found = [_extreme(rest + c * x, sign, depth - 1) for x in (f.a, f.b)]
    # min(a, b) is at most each of the two (either bound will do), and is one of the two (both have to hold)
    either = (f.fn == "min") == (c * sign > 0)
    known = [x for x in found if x is not None]
    if either:
        return (min(known) if sign > 0 else max(known)) if known else None
    if len(known) < 2:
        return None
    return max(known) if sign > 0 else min(known)


def _dim(atom: Atom) -> Dim:
    return Expr(((((atom, 1),), 1),))


def _without(d: Expr, monomial: Monomial, c: int) -> Dim:
    return d - c * product([_dim(a) for a, power in monomial for _ in range(power)])


def simplify(d: Dim) -> Dim:
    """d without the minima and maxima that known bounds decide."""
    if not isinstance(d, Expr):
        return d
    total: Dim = 0
    for monomial, c in d.terms:
        total = total + c * product([_simple_atom(a) for a, power in monomial for _ in range(power)])
    return total


_BUILD = {"floordiv": floordiv, "mod": mod, "min": dim_min, "max": dim_max}


def _simple_atom(atom: Atom) -> Dim:
    if isinstance(atom, Sym):
        return _dim(atom)
    a, b = simplify(atom.a), simplify(atom.b)
    if atom.fn in ("min", "max"):
        if at_most(a, b):
            return a if atom.fn == "min" else b
        if at_most(b, a):
            return b if atom.fn == "min" else a
    return _BUILD[atom.fn](a, b)
