"""What Python's builtins that make one value of many do with traced values: `sum`, `min`, `max`, `any`, `all`.

Each stand-in answers as the original does when nothing traced is among its arguments. Rows of one array are folded by
one node, in Python's order.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.capture.comprehensions import all_of, collected
from stager.capture.ordering import keyed_extreme
from stager.capture.row_lists import ROWS, rows_in
from stager.capture.scalars import counted, truth
from stager.capture.session import TRACERS, holds_tracer
from stager.capture.table import SUBSTITUTES, substitute
from stager.ir.dims import Expr, dim_max, dim_min
from stager.ir.types import Type
from stager.numpy.rows import Run, extreme, runs, summed, whole


def _extreme(original: Callable[..., Any], less: bool) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        key = kwargs.get("key")
        if key is not None:
            default = [kwargs["default"]] if "default" in kwargs else []
            return keyed_extreme(args[0] if len(args) == 1 else args, key, less, default)
        args = (all_of(args[0]),) if len(args) == 1 else args
        if len(args) == 1 and type(args[0]) in TRACERS and args[0].ndim == 1:
            return args[0].min() if less else args[0].max()
        if len(args) == 1 and type(args[0]) in ROWS:
            rows_of_it = rows_in(args[0])
            rows_of_it.check_filled(ValueError(f"{original.__name__}() arg is an empty sequence"))
            return extreme(rows_of_it.joined(), rows_of_it.at(0), less, rows_of_it.weak[0])
        items = list(args[0]) if len(args) == 1 else list(args)
        rows = whole(items)
        if rows is not None and rows.ndim == 1:
            return extreme(rows, items[0], less, items[0].weak)
        if items and any(type(v) is Expr for v in items):
            if all(type(v) in (Expr, int) for v in items):
                return functools.reduce(dim_min if less else dim_max, items)
            items = [counted(v) for v in items]
        if not holds_tracer(items, 2):
            return original(items, **kwargs) if len(args) == 1 else original(*items, **kwargs)
        if not items and "default" in kwargs:
            return original(items, **kwargs)
        if all(isinstance(v, tuple) for v in items):
            return keyed_extreme(items, lambda v: v, less, [])
        best = items[0]
        for x in items[1:]:  # Python keeps the first unless the next is truly beyond it, NaN included
            best = np.where(x < best if less else x > best, x, best)
        return best

    return stand_in


SUBSTITUTES[builtins.min] = _extreme(builtins.min, True)
SUBSTITUTES[builtins.max] = _extreme(builtins.max, False)


@substitute(builtins.sum)
def sum_(x: Any, /, start: Any = 0) -> Any:
    x = all_of(x)
    if type(x) in ROWS:
        from stager.array import wrap
        from stager.ops.families import zeros_of

        x = rows_in(x)
        block = x.joined()
        zero: Any = wrap(zeros_of(Type(block.type.dtype, block.type.shape[1:])))
        return summed(block, start + zero, x.weak[0], 0)
    if type(x) in TRACERS:
        if x.ndim == 0:
            raise TypeError("iteration over a 0-d array")
        total = np.sum(x, axis=0, dtype=np.int64 if x.dtype == np.bool_ else x.dtype)
        return total if type(start) is int and start == 0 else start + total
    if type(x) is list:
        found = runs(x)
        total = start
        for part in found or ():
            if type(part) is Run:
                total = summed(part.block, total + part.row, part.row.weak)
            else:
                total = total + part
        if found is not None:
            return total
    return sum(x, start)


@substitute(builtins.any)
def any_(x: Any, /) -> Any:
    return _first_truth(x, True)


@substitute(builtins.all)
def all_(x: Any, /) -> Any:
    return _first_truth(x, False)


def _first_truth(x: Any, sought: bool) -> Any:
    """Whether there is an item of the truth that is sought; told as `any` (True) and `all` (False) tell it."""
    x = collected(x)
    if type(x) in ROWS:
        x = rows_in(x).joined()
    rows = x if type(x) in TRACERS else whole(x)
    if rows is not None and rows.ndim == 1:
        return np.any(rows) if sought else np.all(rows)
    found: Any = None
    for v in x:
        if type(v) in TRACERS:
            t = truth(v)
            found = t if found is None else found | t if sought else found & t
        elif bool(v) is sought:
            return sought
    return (not sought) if found is None else found
