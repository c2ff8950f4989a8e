"""Traced integers as dims: the bridge from a value to a symbol of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.array import Array
from stager.errors import ConcretizationError, describe
from stager.ir.dims import Dim, evaluate, symbols_of
from stager.ir.dtypes import i64
from stager.ops.elementwise import convert
from stager.ops.regions import dim_of as dim_of_raw


def dim_of(x: Array) -> Dim:
    """The dim whose run-time value is the traced integer scalar x."""
    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    value: Any = x.raw()
    return dim_of_raw(value if value.type.dtype is i64 else convert(value, dtype=i64))


def hinted() -> dict[str, int]:
    """The sizes, in the call that traces, of the symbols that its arguments define."""
    from stager.interpreters.stack import stack

    root = stack().levels[0]
    return {name: d.hint for name, d in root.graph.symbols.items() if d.hint is not None}  # type: ignore[attr-defined]


def decide(op: str, left: Any, right: Any) -> bool:
    """A comparison of dims, answered by the sizes of the call that traces; the answer becomes a guard of the entry."""
    from stager.interpreters.stack import stack

    difference = left - right
    if isinstance(difference, int):
        return _HOLDS[op](difference)
    root = stack().levels[0]
    hints = hinted()
    missing = symbols_of(difference) - hints.keys()
    if missing:
        raise ConcretizationError(
            describe(
                f"the comparison {left} {op} {right} depends on {sorted(missing)[0]}, a size known only at run time"
            )
        )
    value = evaluate(difference, hints)
    answer = _HOLDS[op](value)
    low, high = _RANGE[op if answer else _OPPOSITE[op]](value)
    root.dim_guards.append((difference, low, high))  # type: ignore[attr-defined]
    return answer


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
