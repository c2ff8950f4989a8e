"""Which dims of a call's arguments are symbols: `compile(..., dynamic=...)`."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from stager.ir.dims import Dim, Expr, evaluate, symbol, symbols_of
from stager.ir.dtypes import dtype_of
from stager.ir.types import Type, parse_type
from stager.runtime.structure import broadcast_prefix, flatten


def dynamic_types(dynamic: Any, bound: inspect.BoundArguments) -> list[Type | None] | None:
    """A type per argument leaf, None where the array's own type holds. None for a call that cannot be symbolic.

    ValueError when a spec does not fit the argument.
    """
    leaves, structure = flatten((bound.args, bound.kwargs))
    arrays = [x for x in leaves if isinstance(x, np.ndarray)]
    if not arrays or any(not x.flags.c_contiguous for x in arrays):
        return None
    if dynamic is True:
        return [_any_size(x) if isinstance(x, np.ndarray) else None for x in leaves]
    specs = _by_parameter(dynamic, bound)
    wanted: list[Any] = []
    for name, value in bound.arguments.items():
        _, own = flatten(value)
        wanted.extend(broadcast_prefix(specs.get(name), own, name=f"dynamic[{name!r}]"))
    found = [None if s is None else _fitted(s, x) for s, x in zip(wanted, leaves, strict=True)]
    typed = [(t.shape, np.shape(x)) for t, x in zip(found, leaves, strict=True) if t is not None]
    named = [(d, n) for dims, shape in typed for d, n in zip(dims, shape, strict=True) if isinstance(d, Expr)]
    sizes = {str(d): n for d, n in named if d == symbol(str(d))}
    for d, n in named:
        known = symbols_of(d) <= sizes.keys()
        if n < 2 or (known and evaluate(d, sizes) != n):
            return None  # a size with code of its own, or two sizes under one name: traced as it is
    assert structure.leaves == len(found)
    return found


def _any_size(x: np.ndarray[Any, Any]) -> Type | None:
    """Every dim of at least 2 is the symbol of its size: equal sizes are one symbol."""
    shape: list[Dim] = [symbol(f"n{d}") if d >= 2 else d for d in x.shape]
    return Type(dtype_of(x.dtype), tuple(shape)) if any(isinstance(d, Expr) for d in shape) else None


def _by_parameter(dynamic: Any, bound: inspect.BoundArguments) -> dict[str, Any]:
    if isinstance(dynamic, dict):
        unknown = set(dynamic) - set(bound.signature.parameters)
        if unknown:
            raise ValueError(f"dynamic names the parameters {sorted(unknown)}, which the function does not have")
        return dynamic
    items = dynamic if isinstance(dynamic, tuple | list) else (dynamic,)
    return dict(zip(bound.signature.parameters, items, strict=False))


def _fitted(spec: Any, x: Any) -> Type | None:
    """A spec that has been checked against its argument."""
    t = spec if isinstance(spec, Type) else parse_type(spec)
    if not isinstance(x, np.ndarray):
        raise ValueError(f"dynamic says {t} for an argument that is a {type(x).__name__}")
    if t.dtype is not dtype_of(x.dtype) or len(t.shape) != x.ndim:
        return None
    if any(isinstance(d, int) and d != n for d, n in zip(t.shape, x.shape, strict=True)):
        return None
    return t
