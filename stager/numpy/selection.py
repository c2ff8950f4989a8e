"""Choosing between values: where, clip, round and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import as_array, wrap
from stager.ir.dtypes import b1
from stager.numpy.promotion import operand, result_dtype, together
from stager.numpy.registry import implements
from stager.numpy.ufuncs import apply_ufunc, as_array_like, truth
from stager.ops import elementwise as op

_NO = np._NoValue


@implements(np.where)
def where(condition: Any, x: Any = _NO, y: Any = _NO, /) -> Any:
    """x where the condition holds, else y."""
    if (x is _NO) != (y is _NO):
        raise ValueError("either both or neither of x and y should be given")
    c = as_array_like(condition)
    if x is _NO:
        from stager.numpy.registry import FUNCTIONS

        return FUNCTIONS[np.nonzero](c)
    x, y = as_array_like(x), as_array_like(y)
    d = result_dtype(x, y)
    raws = [truth(operand(c, b1) if isinstance(c, bool) else _raw(c)), operand(x, d), operand(y, d)]
    return wrap(op.select(*together("where", raws)))


def _raw(x: Any) -> Any:
    return as_array(x).raw()


@implements(np.clip, method="clip")
def clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None, **kwargs: Any
) -> Any:
    """Values limited to [a_min, a_max]; None leaves a side open."""
    low, high = (a_min if a_min is not None else min), (a_max if a_max is not None else max)
    d = as_array(as_array_like(a)).type.dtype
    if d.is_integer:  # a bound beyond what the dtype holds is none
        low = None if type(low) is int and low <= np.iinfo(d.np).min else low
        high = None if type(high) is int and high >= np.iinfo(d.np).max else high
    if low is None and high is None:
        return apply_ufunc(np.positive, a, out=out)
    if low is None:
        return apply_ufunc(np.minimum, a, high, out=out)
    raised = apply_ufunc(np.maximum, a, low, out=out if high is None else None)
    return raised if high is None else apply_ufunc(np.minimum, raised, high, out=out)
