"""Views whose elements may stand in memory that other elements of the same view show: windows, and any strides."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, check_shape, dims_of, wrap
from stager.capture.session import is_tracer
from stager.capture.table import substitute
from stager.cells import PickStep, ViewStep
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.layouts import Layout, follow, is_contiguous
from stager.numpy.array_methods import strides as strides_of
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of, handle, locked
from stager.ops import elementwise as op
from stager.ops import views
from stager.ops.families import full
from stager.ops.indexed import gather
from stager.ops.structural import iota_along
from stager.symbols import decide


@implements(np.lib.stride_tricks.sliding_window_view)
def sliding_window_view(
    x: Any, window_shape: Any, axis: Any = None, *, subok: bool = False, writeable: bool = False
) -> Array:
    """Windows as new last axes: a view, read-only unless `writeable`."""
    a = handle(x)
    sizes = check_shape(window_shape)
    axes = (
        tuple(range(a.ndim))
        if axis is None
        else tuple([axis_of(k, a.ndim) for k in (axis if isinstance(axis, tuple | list) else (axis,))])
    )
    if len(sizes) != len(axes):
        raise ValueError("Must provide matching length window_shape and axis")
    for size, k in zip(sizes, axes, strict=True):
        n = a.type.shape[k]
        if decide(">", size, n):
            raise ValueError("window shape cannot be larger than input array shape")
        a = a.view_by(views.windows.op, axis=k, size=size, step=1)
    return a if writeable else locked(a)


@substitute(np.lib.stride_tricks.as_strided)
def as_strided(x: Any, shape: Any = None, strides: Any = None, subok: bool = False, writeable: bool = True) -> Any:
    """A view with any shape and byte strides of the memory that x lies in, which begins where x does.

    ValueError where it would show memory that is not the array's. Sizes and strides must be known while tracing.
    """
    if not is_tracer(x):
        return _as_strided(x, shape, strides, subok, writeable)
    base, start = _memory(x)
    sizes = x.shape if shape is None else check_shape([_number(d) for d in dims_of(shape)])
    steps = strides_of(x) if strides is None else tuple([_number(s) for s in dims_of(strides)])
    if len(sizes) != len(steps):
        raise ValueError("mismatch in length of strides and shape")
    if not all(isinstance(d, int) for d in (*sizes, *steps, start, base.size)):
        text = "np.lib.stride_tricks.as_strided needs sizes and strides that are known while tracing"
        raise UnsupportedError(describe(text, remedy="np.lib.stride_tricks.sliding_window_view takes any size"))
    reach = [(n - 1) * s for n, s in zip(sizes, steps, strict=True)]
    low, high = start + sum(r for r in reach if r < 0), start + sum(r for r in reach if r > 0)
    if 0 not in sizes and (low < 0 or high > (base.size - 1) * x.itemsize):
        raise ValueError(describe(f"as_strided: shape {sizes} with strides {steps} reaches beyond the array {x.type}"))
    if any(s % x.itemsize for s in (start, *steps)):
        text = f"as_strided: strides {steps} are not multiples of the {x.itemsize} bytes of an element"
        raise UnsupportedError(describe(text))
    positions = full(sizes, start // x.itemsize, i64)
    for axis, step in enumerate(steps):
        positions = op.add(positions, op.mul(iota_along(sizes, axis), full(sizes, step // x.itemsize, i64)))
    flat = ViewStep(views._reshape.op, {"shape": (base.size,)})
    pick = PickStep(gather.op, (0,), [positions], mode="promise")
    shown = Array(base.cell, (*base.path, flat, pick), Type(x.type.dtype, sizes), x.weak)
    return shown if writeable else locked(shown)


def _number(x: Any) -> Any:
    """A size or stride; the code specialises on one that came as an argument."""
    return x.python_index() if type(x) is Array else x


_as_strided = np.lib.stride_tricks.as_strided


def _memory(x: Array) -> tuple[Array, Any]:
    """(an array whose memory x shows, C-contiguous; at which byte of it x begins)."""
    base = Array(x.cell, (), x.cell.type)
    if not is_contiguous(base):
        text = f"as_strided: the array {x.type} is a view of the caller's array, whose memory around it is not known"
        raise UnsupportedError(describe(text, remedy="make an array of its own: np.ascontiguousarray(x)"))
    found = follow(Layout.contiguous(x.cell.type), list(x.path))
    if found is None:
        return wrap(op.copy(x.raw())), 0
    return base, found.offset
