"""Traced integers as dims: the bridge from a value to a symbol of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.array import Array
from stager.ir.dims import Dim, dim_max, dim_min, floordiv, mod
from stager.ir.dtypes import i64
from stager.ir.graph import Value
from stager.ops.elementwise import convert


def dim_of(x: Array) -> Dim:
    """The dim whose run-time value is the traced integer scalar x."""
    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    value: Any = x.raw()
    return _dim(value if value.type.dtype is i64 else convert(value, dtype=i64), 16)


_ARITHMETIC: dict[str, Callable[..., Dim]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b, "neg": lambda a: -a,
    "floordiv": floordiv, "mod": mod, "minimum": dim_min, "maximum": dim_max,
}  # fmt: skip


def _dim(value: Any, depth: int) -> Dim:
    """Sums and products of dims stay expressions, so that `A[i + 1:]` and `x[i + 1:]` have one size."""
    from stager.ops.regions import dim_of as dim_of_raw

    if type(value) is Value and depth:
        rule = _ARITHMETIC.get(value.node.op.name)
        constant_divisor = value.node.op.name not in ("floordiv", "mod") or _divides(value.node.args[1])
        if rule is not None and constant_divisor and all(a.type.dtype is i64 for a in value.node.args):
            return rule(*[_dim(a, depth - 1) for a in value.node.args])
    return dim_of_raw(value)


def _divides(value: Value) -> bool:
    return value.node.op.name == "fill" and bool(value.node.params["value"])
