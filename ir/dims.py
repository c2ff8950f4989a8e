"""Dims: the extents, strides and bounds of the IR, each an int or a symbolic integer expression.

An `Expr` is kept in one canonical form, a sum of products of atoms with integer coefficients, so that equal
expressions are equal objects by `==` and hash. An atom is a symbol (`n`) or one of the functions below applied to
expressions. Arithmetic that folds to a constant returns a plain int; code that handles dims therefore never asks
"is this symbolic?" unless it must emit something different.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from numbers import Integral
from typing import Any, Union

Dim = Union[int, "Expr"]
Atom = Union["Sym", "Apply"]
Monomial = tuple[tuple[Atom, int], ...]

FUNCTIONS: dict[str, Callable[[int, int], int]] = {
    "floordiv": lambda a, b: a // b,
    "mod": lambda a, b: a % b,
    "max": max,
    "min": min,
}


class Sym:
    """A named symbol. Its name is unique within a graph; what defines it stands in `Graph.symbols`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def key(self) -> tuple[Any, ...]:
        return (0, self.name)


class Apply:
    """A function of two dims that the polynomial form cannot express: floordiv, mod, max, min."""

    __slots__ = ("_hash", "_text", "a", "b", "fn")

    def __init__(self, fn: str, a: Dim, b: Dim) -> None:
        self.fn, self.a, self.b = fn, a, b
        self._hash = hash((fn, a, b))
        self._text: str | None = None  # by which the canonical order sorts: made once, when it is asked for

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Apply) and (other.fn, other.a, other.b) == (self.fn, self.a, self.b)

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if self._text is None:
            self._text = f"{self.fn}({self.a}, {self.b})"
        return self._text

    def key(self) -> tuple[Any, ...]:
        return (1, str(self))


class Expr:
    """A symbolic integer: `terms` maps monomials to non-zero coefficients, in canonical order.

    >>> n = symbol("n")
    >>> str((n + 1) * 2 - n)
    'n+2'
    >>> (n + 3) - n
    3
    """

    __slots__ = ("_hash", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.terms == other.terms

    def __hash__(self) -> int:
        return self._hash

    def __add__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return _arithmetic(operator.add, self, other)
        acc = dict(self.terms)
        for m, c in _terms(other):
            acc[m] = acc.get(m, 0) + c
        return _canonical(acc)

    __radd__ = __add__

    def __neg__(self) -> Dim:
        return Expr(tuple([(m, -c) for m, c in self.terms]))  # the order is one of monomials

    def __sub__(self, other: Dim) -> Dim:
        return self + (-other)

    def __rsub__(self, other: Dim) -> Dim:
        return (-self) + other

    def __mul__(self, other: Dim) -> Dim:
        if not _is_dim(other):
            return _arithmetic(operator.mul, self, other)
        if not isinstance(other, Expr):
            return Expr(tuple([(m, c * int(other)) for m, c in self.terms])) if other else 0
        acc: dict[Monomial, int] = {}
        for m1, c1 in self.terms:
            for m2, c2 in other.terms:
                m = _monomial_product(m1, m2)
                acc[m] = acc.get(m, 0) + c1 * c2
        return _canonical(acc)

    __rmul__ = __mul__

    def __floordiv__(self, other: Dim) -> Dim:
        return floordiv(self, other) if _is_dim(other) else _arithmetic(operator.floordiv, self, other)

    def __rfloordiv__(self, other: Dim) -> Dim:
        return floordiv(other, self) if _is_dim(other) else _arithmetic(operator.floordiv, other, self)

    def __mod__(self, other: Dim) -> Dim:
        return mod(self, other) if _is_dim(other) else _arithmetic(operator.mod, self, other)

    def __rmod__(self, other: Dim) -> Dim:
        return mod(other, self) if _is_dim(other) else _arithmetic(operator.mod, other, self)

    def __str__(self) -> str:
        out = ""
        for m, c in self.terms:
            factors = [str(a) for a, power in m for _ in range(power)]
            if abs(c) != 1 or not factors:
                factors.insert(0, str(abs(c)))
            sign = "-" if c < 0 else ("+" if out else "")
            out += sign + "*".join(factors)
        return out

    def __repr__(self) -> str:
        return str(self)

    # -- as a Python number: what needs a value asks the trace in force (`Meaning`) --------------------------------

    def __bool__(self) -> bool:
        return _meaning.decide("!=", self, 0)

    def __index__(self) -> int:
        return _meaning.settle(self)

    __int__ = __index__

    def __float__(self) -> float:
        return float(_meaning.settle(self))

    def __lt__(self, other: Any) -> Any:
        return _meaning.decide("<", self, other) if isinstance(other, int | Expr) else NotImplemented

    def __le__(self, other: Any) -> Any:
        return _meaning.decide("<=", self, other) if isinstance(other, int | Expr) else NotImplemented

    def __gt__(self, other: Any) -> Any:
        return _meaning.decide(">", self, other) if isinstance(other, int | Expr) else NotImplemented

    def __ge__(self, other: Any) -> Any:
        return _meaning.decide(">=", self, other) if isinstance(other, int | Expr) else NotImplemented

    def __abs__(self) -> Dim:
        return dim_max(self, -self)

    def __round__(self, ndigits: int | None = None) -> Dim:
        return self if ndigits is None or ndigits >= 0 else round(_meaning.settle(self), ndigits)

    def __floor__(self) -> Dim:
        return self

    __ceil__ = __trunc__ = __pos__ = __floor__

    def __divmod__(self, other: Dim) -> tuple[Dim, Dim]:
        return self // other, self % other

    def __rdivmod__(self, other: Dim) -> tuple[Dim, Dim]:
        return other // self, other % self

    def __lshift__(self, other: Any) -> Any:
        return self * 2 ** other.__index__()

    def __rshift__(self, other: Any) -> Any:
        return floordiv(self, 2 ** other.__index__())

    def __pow__(self, other: Any) -> Any:
        if type(other) is int and 0 <= other <= _MOST_FACTORS:
            return product([self] * other)
        return _arithmetic(operator.pow, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _arithmetic(operator.pow, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _arithmetic(operator.truediv, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _arithmetic(operator.truediv, other, self)

    def __and__(self, other: Any) -> Any:
        return _meaning.settle(self) & int(other)

    def __or__(self, other: Any) -> Any:
        return _meaning.settle(self) | int(other)

    def __xor__(self, other: Any) -> Any:
        return _meaning.settle(self) ^ int(other)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*[_meaning.number(x) if isinstance(x, Expr) else x for x in inputs], **kwargs)


_MOST_FACTORS = 4


class Meaning:
    """What a symbolic dim is outside of dim arithmetic. Nothing, here; whoever traces derives from this."""

    def decide(self, op: str, left: Dim, right: Dim) -> bool:
        """Whether the comparison holds."""
        raise TypeError(f"the symbolic dim {left} has no concrete truth value")

    def settle(self, d: Dim) -> int:
        """The value of d."""
        raise TypeError(f"the symbolic dim {d} has no concrete value")

    def number(self, d: Dim) -> Any:
        """d as an operand of arithmetic that dims do not have."""
        raise TypeError(f"the symbolic dim {d} takes part in integer arithmetic only")


_meaning = Meaning()


def give_meaning(meaning: Meaning) -> None:
    """Say what symbolic dims mean from now on."""
    global _meaning
    _meaning = meaning


def _arithmetic(f: Callable[[Any, Any], Any], left: Any, right: Any) -> Dim:
    """Arithmetic that leaves the integers: with a float, say, or true division."""
    found: Dim = f(*[_meaning.number(x) if isinstance(x, Expr) else x for x in (left, right)])
    return found


def _is_dim(x: Any) -> bool:
    t = type(x)
    return t is int or t is Expr or isinstance(x, Integral)


def _terms(d: Dim) -> Iterable[tuple[Monomial, int]]:
    if isinstance(d, Expr):
        return d.terms
    return (((), int(d)),) if d else ()


def _monomial_product(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, p in b:
        powers[atom] = powers.get(atom, 0) + p
    return tuple(sorted(powers.items(), key=lambda ap: ap[0].key()))


def _term_order(term: tuple[Monomial, int]) -> tuple[Any, ...]:
    monomial = term[0]
    return (-sum(p for _, p in monomial), tuple((a.key(), p) for a, p in monomial))


def _canonical(acc: Mapping[Monomial, int]) -> Dim:
    terms = [(m, c) for m, c in acc.items() if c]
    if not terms:
        return 0
    if len(terms) == 1 and not terms[0][0]:
        return terms[0][1]
    if len(terms) > 1:
        terms.sort(key=_term_order)
    return Expr(tuple(terms))


def _of_atom(atom: Atom) -> Expr:
    return Expr(((((atom, 1),), 1),))


def symbol(name: str) -> Expr:
    """The dim that is just the symbol `name`."""
    return _of_atom(Sym(name))


def _constant_part(d: Dim) -> int:
    return d if not isinstance(d, Expr) else next((c for m, c in d.terms if not m), 0)


def floordiv(a: Dim, b: Dim) -> Dim:
    """`a // b`, rounded to minus infinity as in Python."""
    if not isinstance(a, Expr) and not isinstance(b, Expr):
        return a // b
    if b == 1:
        return a
    if a == b:
        return 1
    if isinstance(b, int) and isinstance(a, Expr):
        # (b*q + r) // b = q + r // b, exact for any integers: split off the divisible terms
        whole = _canonical({m: c // b for m, c in a.terms if c % b == 0})
        rest = _canonical({m: c for m, c in a.terms if c % b})
        if not isinstance(rest, Expr):
            return whole + rest // b
        if whole != 0:
            return whole + _of_atom(Apply("floordiv", rest, b))
    if isinstance(a, Expr) and isinstance(b, Expr):
        quotient = _exact_quotient(a, b)
        if quotient is not None:
            return quotient
    return _of_atom(Apply("floordiv", a, b))


def _exact_quotient(a: Expr, b: Expr) -> Dim | None:
    """a / b when b is a single term that divides every term of a (assumes b is not zero)."""
    if len(b.terms) != 1:
        return None
    (mb, cb), acc = b.terms[0], {}
    for m, c in a.terms:
        powers = dict(m)
        for atom, p in mb:
            if powers.get(atom, 0) < p:
                return None
            powers[atom] -= p
        if c % cb:
            return None
        acc[tuple((atom, p) for atom, p in powers.items() if p)] = c // cb
    return _canonical(acc)


def mod(a: Dim, b: Dim) -> Dim:
    """`a % b` with the sign of `b`, as in Python."""
    if not isinstance(a, Expr) and not isinstance(b, Expr):
        return a % b
    if b == 1 or a == b:
        return 0
    if isinstance(b, int) and isinstance(a, Expr):
        rest = _canonical({m: c % b for m, c in a.terms})
        return rest % b if not isinstance(rest, Expr) else _of_atom(Apply("mod", rest, b))
    if isinstance(a, Expr) and isinstance(b, Expr) and _exact_quotient(a, b) is not None:
        return 0
    return _of_atom(Apply("mod", a, b))


def _extreme(fn: str, a: Dim, b: Dim) -> Dim:
    difference = a - b
    if not isinstance(difference, Expr):
        return FUNCTIONS[fn](difference, 0) + b
    first, second = sorted((a, b), key=str)
    return _of_atom(Apply(fn, first, second))


def dim_max(a: Dim, b: Dim) -> Dim:
    """The larger of two dims."""
    return _extreme("max", a, b)


def dim_min(a: Dim, b: Dim) -> Dim:
    """The smaller of two dims."""
    return _extreme("min", a, b)


def slice_end(bound: Dim, size: Dim) -> Dim:
    """A bound of a slice as Python takes it, of either sign: it counts from the end where it is negative, and is cut to
    [0, size]."""
    # -1 where the bound is negative, else 0
    return dim_max(0, dim_min(bound - size * dim_min(0, dim_max(-1, bound)), size))


def slice_bound(atom: Apply) -> tuple[Dim, Dim] | None:
    """The bound and the size that `slice_end` has made an atom of."""
    if atom.fn != "max":
        return None
    for cut in _applied("min", (atom.a, atom.b)):
        for wrapped, size in ((cut.a, cut.b), (cut.b, cut.a)):
            for sign in _applied("min", (wrapped,)):
                for least in _applied("max", (sign.a, sign.b)):
                    for bound in (least.a, least.b):
                        if slice_end(bound, size) == _of_atom(atom):
                            return bound, size
    return None


def _applied(fn: str, dims: Iterable[Dim]) -> Iterator[Apply]:
    """Where the dims apply this function, outside of other functions."""
    for d in dims:
        for m, _ in _terms(d):
            yield from (a for a, _ in m if isinstance(a, Apply) and a.fn == fn)


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dims; 1 for none."""
    total: Dim = 1
    for d in dims:
        total = total * d
    return total


def is_static(d: Dim) -> bool:
    """True for a plain int."""
    return not isinstance(d, Expr)


def symbols_of(value: Any) -> set[str]:
    """The names of the symbols mentioned in a dim, a type, or those nested in tuples."""
    if isinstance(value, Expr):
        return {s for m, _ in value.terms for atom, _ in m for s in _atom_symbols(atom)}
    if isinstance(value, tuple | list):
        return {s for v in value for s in symbols_of(v)}
    return symbols_of(value.shape) if hasattr(value, "with_shape") else set()


def _atom_symbols(atom: Atom) -> set[str]:
    return {atom.name} if isinstance(atom, Sym) else symbols_of(atom.a) | symbols_of(atom.b)


def substitute(value: Any, env: Mapping[str, Dim]) -> Any:
    """Replace symbols by dims, in a dim, a type, or those nested in tuples; symbols that `env` lacks stay."""
    if isinstance(value, Expr):
        return _sum(c * product(_atom_power(_substitute_atom(a, env), p) for a, p in m) for m, c in value.terms)
    if isinstance(value, tuple) and value:
        replaced = tuple(substitute(v, env) for v in value)
        return type(value)(*replaced) if hasattr(value, "_fields") else replaced
    if hasattr(value, "with_shape"):
        return value.with_shape(substitute(value.shape, env))
    return value


def _sum(dims: Iterable[Dim]) -> Dim:
    total: Dim = 0
    for d in dims:
        total = total + d
    return total


def _atom_power(d: Dim, power: int) -> Dim:
    return product([d] * power)


_REBUILD: dict[str, Callable[[Dim, Dim], Dim]] = {
    "floordiv": floordiv, "mod": mod, "max": dim_max, "min": dim_min,
}  # fmt: skip


def _substitute_atom(atom: Atom, env: Mapping[str, Dim]) -> Dim:
    if isinstance(atom, Sym):
        return env.get(atom.name, _of_atom(atom))
    return _REBUILD[atom.fn](substitute(atom.a, env), substitute(atom.b, env))


def evaluate(d: Dim, env: Mapping[str, int]) -> int:
    """The value of `d` when every symbol has a value. KeyError names the first symbol that has none."""
    if not isinstance(d, Expr):
        return d
    total = 0
    for m, c in d.terms:
        for atom, p in m:
            if isinstance(atom, Sym):
                v = env[atom.name]
            else:
                v = FUNCTIONS[atom.fn](evaluate(atom.a, env), evaluate(atom.b, env))
            c *= v**p
        total += c
    return total


def contiguous_strides(shape: tuple[Dim, ...], itemsize: int = 1) -> tuple[Dim, ...]:
    """C-order strides of a dense array, in units of `itemsize`."""
    strides: list[Dim] = []
    step: Dim = itemsize
    for extent in reversed(shape):
        strides.append(step)
        step = step * extent
    return tuple(reversed(strides))


def parse_dim(text: str) -> Dim:
    """Parse what `str` of a dim prints: `3`, `n`, `2*n+1`, `floordiv(n, 2)`. ValueError when malformed."""
    import ast

    def walk(e: ast.expr) -> Dim:
        match e:
            case ast.Constant(value=int() as v):
                return v
            case ast.Name(id=name):
                return symbol(name)
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return -walk(a)
            case ast.BinOp(left=a, op=op, right=b):
                x, y = walk(a), walk(b)
                match op:
                    case ast.Add():
                        return x + y
                    case ast.Sub():
                        return x - y
                    case ast.Mult():
                        return x * y
                    case ast.FloorDiv():
                        return floordiv(x, y)
                    case ast.Mod():
                        return mod(x, y)
            case ast.Call(func=ast.Name(id=fn), args=[a, b]) if fn in _REBUILD:
                return _REBUILD[fn](walk(a), walk(b))
        raise ValueError(f"not a dim: {text!r}")

    try:
        return walk(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not a dim: {text!r}") from None
