"""Traced integers as dims: the bridge from a value to a symbol of the graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.array import Array, wrap
from stager.bounds import lower, simplify, upper
from stager.errors import ConcretizationError, ShapeError, describe
from stager.ir.dims import Dim, Expr, Meaning, dim_max, dim_min, evaluate, give_meaning, symbols_of
from stager.ir.dtypes import i64, u64
from stager.ops.elementwise import convert, eq, ge, minimum
from stager.ops.families import full
from stager.ops.regions import dim_of as dim_of_raw
from stager.ops.regions import dim_value


def dim_of(x: Array) -> Dim:
    """The dim whose run-time value is the traced integer scalar x."""
    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    value: Any = within_i64(x).raw()
    return dim_of_raw(value if value.type.dtype is i64 else convert(value, dtype=i64))


def within_i64(x: Array) -> Array:
    """An integer scalar as an index or a bound: one beyond int64 is beyond every axis, as int64's greatest is."""
    if x.type.dtype is not u64 or x.type.shape:
        return x
    return wrap(minimum(x.raw(), full((), (1 << 63) - 1, u64)), x.weak)


def hinted() -> dict[str, int]:
    """The sizes, in the call that traces, of the symbols that its arguments define."""
    from stager.interpreters.stack import stack

    root = stack().levels[0]
    return {name: d.hint for name, d in root.graph.symbols.items() if d.hint is not None}  # type: ignore[attr-defined]


def size_of(x: Any) -> Dim:
    """A size or bound as a dim. Python int arguments specialise the code; what only the run decides is a symbol."""
    if isinstance(x, Expr):
        return x
    if type(x) is not Array:
        return int(x.__index__())
    try:
        return x.python_index()
    except ConcretizationError:
        return dim_of(x)


def extent_of(x: Any) -> Dim:
    """`size_of` for the extent of a new array: ValueError where it is negative, now or at run time."""
    from stager.ops.effects import check

    d = size_of(x)
    text = "negative dimensions are not allowed"
    least = lower(d)
    if least is not None and least >= 0:
        return d
    if not isinstance(d, Expr):
        raise ShapeError(describe(text))
    check(ge(dim_value(d), dim_value(0)), exception="ValueError", text=text)
    return dim_max(0, d)


def agreed(name: str, shapes: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...] | None:
    """What shapes broadcast to when the run has to show that they fit, which is checked then; None in all other cases.

    Two extents of one axis that only the run knows have to be equal: ValueError at run time where they are not. (NumPy
    also takes an extent that happens to be 1.) The extent agreed on is the smaller one, so that no read can leave an
    array, whatever the check finds.
    """
    if not any(isinstance(d, Expr) for shape in shapes for d in shape):
        return None
    ndim = max(map(len, shapes))
    out: list[Dim] = []
    settled = False
    for k in range(-ndim, 0):
        found = dict.fromkeys(shape[k] for shape in shapes if len(shape) >= -k and shape[k] != 1)
        first, *others = found or [1]
        for other in others:
            if not isinstance(first - other, Expr):
                return None  # they are known to differ
            first, settled = agreed_extent(name, first, other), True
        out.append(first)
    return tuple(out) if settled else None


def agreed_extent(name: str, a: Dim, b: Dim) -> Dim:
    """The extent of an axis that has to be both, the smaller one; ValueError at run time where they are not equal."""
    from stager.ops.effects import check

    if simplify(a) == simplify(b):
        return simplify(a)
    x, y = dim_value(a), dim_value(b)
    text = f"{name}: operands could not be broadcast together: an axis of {{0}} elements meets one of {{1}}"
    check(eq(x, y), x, y, exception="ValueError", text=text)
    return simplify(dim_min(a, b))


def decide(op: str, left: Any, right: Any) -> bool:
    """A comparison of dims, answered by the sizes of the call that traces; the answer becomes a guard of the entry."""
    difference = left - right
    if isinstance(difference, int):
        return _HOLDS[op](difference)
    known = _known(op, difference)
    if known is not None:
        return known
    hints = hinted()
    missing = symbols_of(difference) - hints.keys()
    if missing:
        raise ConcretizationError(
            describe(
                f"the comparison {left} {op} {right} depends on {sorted(missing)[0]}, a size known only at run time",
                remedy="compare it in a function whose source stager reads, in an if, a while or np.where",
            )
        )
    value = evaluate(difference, hints)
    answer = _HOLDS[op](value)
    low, high = _RANGE[op if answer else _OPPOSITE[op]](value)
    _rely(difference, low, high)
    return answer


def _known(op: str, difference: Dim) -> bool | None:
    """The answer where the bounds of the symbols give it."""
    least, most = lower(difference), upper(difference)
    if least is not None and (least > 0 or (least == 0 and op in ("<", ">="))):
        return _HOLDS[op](least)
    if most is not None and (most < 0 or (most == 0 and op in (">", "<="))):
        return _HOLDS[op](most)
    return None


def _rely(d: Dim, low: int, high: int) -> None:
    """Make `low <= d <= high` a guard of the entry."""
    from stager.interpreters.stack import stack

    stack().levels[0].dim_guards.append((d, low, high))  # type: ignore[attr-defined]


def settle(d: Dim) -> int:
    """The value of d in the call that traces, which becomes a guard: the code is for that value.

    ConcretizationError where only the run knows it, or where types were given instead of arrays.
    """
    if not isinstance(d, Expr):
        return d
    from stager.interpreters.stack import stack

    hints = hinted()
    if symbols_of(d) - hints.keys() or stack().levels[0].by_type:  # type: ignore[attr-defined]
        raise ConcretizationError(
            describe(
                f"a Python integer is needed where the size is {d}, which is known only at run time",
                remedy="give this size as a number in the type of the argument",
            )
        )
    value = evaluate(d, hints)
    _rely(d, value, value)
    return value


def settled(x: Any) -> Any:
    """x with the value of each size in it, through tuples and lists; each becomes a guard."""
    if isinstance(x, Expr):
        return settle(x)
    return type(x)([settled(v) for v in x]) if type(x) in (tuple, list) else x


def number(d: Dim) -> Array:
    """d as a traced Python number: it promotes as an int does."""
    return wrap(dim_value(d), weak=True)


def size_number(size: Dim) -> Any:
    """A size as a number of the computation: a traced one where it is symbolic."""
    return number(size) if isinstance(size, Expr) else size


class _Traced(Meaning):
    """Dims while a trace is in force. Outside of one they have no value."""

    def decide(self, op: str, left: Dim, right: Dim) -> bool:
        return decide(op, left, right) if _tracing() else super().decide(op, left, right)

    def settle(self, d: Dim) -> int:
        return settle(d) if _tracing() else super().settle(d)

    def number(self, d: Dim) -> Any:
        return number(d) if _tracing() else super().number(d)


def _tracing() -> bool:
    from stager.interpreters.stack import stack

    levels = stack().levels
    return bool(levels) and hasattr(levels[0], "dim_guards")


give_meaning(_Traced())


def require_same(left: Dim, right: Dim, text: str) -> bool:
    """ValueError with the text unless both are equal: now where the call that traces shows it (True), else at run time
    (False: until then the sizes may differ)."""
    from stager.ops.effects import check

    if left == right:
        return True
    try:
        same = decide("==", left, right)
    except ConcretizationError:
        check(eq(dim_value(left), dim_value(right)), exception="ValueError", text=text)
        return False
    if not same:
        raise ShapeError(describe(text))
    return True


FAR = 1 << 62
_HOLDS: dict[str, Callable[[int], bool]] = {
    "<": lambda d: d < 0, "<=": lambda d: d <= 0, ">": lambda d: d > 0, ">=": lambda d: d >= 0,
    "==": lambda d: d == 0, "!=": lambda d: d != 0,
}  # fmt: skip
_OPPOSITE = {"<": ">=", ">=": "<", ">": "<=", "<=": ">", "==": "!=", "!=": "=="}
# What the difference must stay in for the answer to hold; beside zero, the side on which it was.
_RANGE: dict[str, Callable[[int], tuple[int, int]]] = {
    "<": lambda d: (-FAR, -1), "<=": lambda d: (-FAR, 0), ">": lambda d: (1, FAR), ">=": lambda d: (0, FAR),
    "==": lambda d: (0, 0), "!=": lambda d: (1, FAR) if d > 0 else (-FAR, -1),
}  # fmt: skip
