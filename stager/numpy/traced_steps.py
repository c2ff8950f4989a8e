"""Slices whose step is traced, `x[i * i :: i]`: views at positions that the run computes.

Everything else of an index is `indexing.py`'s; here a slice with a traced step becomes a view of the array, along its
own axis, and a plain `:`. Bounds and length are Python's: cut to the axis, for either sign of the step; a step of 0
raises when the code runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, as_array, raw, wrap
from stager.cells import PickStep
from stager.errors import ConcretizationError
from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.numpy.promotion import broadcast_raw
from stager.ops import elementwise as op
from stager.ops.effects import check
from stager.ops.indexed import gather
from stager.ops.structural import iota
from stager.ops.views import _transpose


def has_traced_step(item: Any) -> bool:
    """Whether an item of an index is a slice with a step that has no value while tracing."""
    if type(item) is not slice or type(item.step) is not Array:
        return False
    try:
        item.step.python_index()
    except ConcretizationError:
        return True
    return False


def strided(x: Array, s: slice, axis: int) -> Array:
    """The view `x[s]` along one axis."""
    positions = _positions(s, x.type.shape[axis])
    (size,) = positions.type.shape
    rest = (*x.type.shape[:axis], *x.type.shape[axis + 1 :])
    step = PickStep(gather.op, (axis,), [positions], mode="promise")
    taken = Array(x.cell, (*x.path, step), Type(x.type.dtype, (size, *rest)), x.weak)
    if axis == 0:
        return taken
    return taken.view_by(_transpose.op, perm=(*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1)))


def _positions(s: slice, n: Dim) -> Any:
    """The positions that a slice of an axis of n elements selects, as i64[size]."""
    from stager.ops.regions import dim_value
    from stager.symbols import dim_of

    step: Any = _integer(s.step)
    length: Any = wrap(dim_value(n))
    check(raw(step != 0), exception="ValueError", text="slice step cannot be zero")
    back = step < 0
    least, greatest = np.where(back, -1, 0), np.where(back, length - 1, length)

    def bound(b: Any, default: Any) -> Any:
        if b is None:
            return default
        b = _integer(b)
        return np.minimum(np.maximum(np.where(b < 0, b + length, b), least), greatest)

    start = bound(s.start, np.where(back, greatest, least))
    stop = bound(s.stop, np.where(back, least, greatest))
    span = np.where(back, start - stop, stop - start)
    stride = np.abs(step)
    size = dim_of(np.maximum((span + (stride - 1)) // stride, 0))
    steps = op.mul(broadcast_raw(raw(step), (size,)), iota(size, dtype=i64))
    return op.add(broadcast_raw(raw(start), (size,)), steps)


def _integer(x: Any) -> Any:
    return wrap(op.convert(raw(as_array(x)), dtype=i64))
