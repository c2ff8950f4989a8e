"""Creation functions. Those that take no array are reached through call resolution (`stager.capture`)."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from stager.array import Array, as_array, check_shape, wrap
from stager.capture.table import substitute
from stager.errors import ConcretizationError, describe
from stager.interpreters.stack import nearest_stage
from stager.ir.dims import Expr
from stager.ir.dtypes import DType, dtype_of, f64
from stager.numpy.promotion import broadcast_raw, operand, result_dtype
from stager.numpy.registry import implements
from stager.numpy.rows import runs
from stager.ops import elementwise as op
from stager.ops.families import full as full_raw
from stager.ops.structural import stack_


def _dtype(dtype: Any, default: DType = f64) -> DType:
    return default if dtype is None else dtype_of(dtype)


def zeros(shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None, like: Any = None) -> Array:
    """An array of zeros."""
    return wrap(full_raw(check_shape(shape), 0, _dtype(dtype)))


def ones(shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None, like: Any = None) -> Array:
    """An array of ones."""
    return wrap(full_raw(check_shape(shape), 1, _dtype(dtype)))


def full(
    shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", *, device: Any = None, like: Any = None
) -> Array:
    """An array of one value, traced or not."""
    d = result_dtype(fill_value) if dtype is None else dtype_of(dtype)
    return wrap(broadcast_raw(operand(fill_value, d), check_shape(shape)))


@implements(np.zeros_like)
def zeros_like(
    x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Array:
    """Zeros of x's shape and dtype."""
    x = as_array(x)
    return zeros(x.shape if shape is None else shape, x.dtype if dtype is None else dtype)


@implements(np.ones_like)
def ones_like(
    x: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Array:
    """Ones of x's shape and dtype."""
    x = as_array(x)
    return ones(x.shape if shape is None else shape, x.dtype if dtype is None else dtype)


@implements(np.full_like)
def full_like(
    a: Any,
    fill_value: Any,
    dtype: Any = None,
    order: str = "K",
    subok: bool = True,
    shape: Any = None,
    *,
    device: Any = None,
) -> Array:
    """One value in x's shape and dtype."""
    x = as_array(a)
    d = x.type.dtype if dtype is None else dtype_of(dtype)
    raw = op.convert(as_array(fill_value).raw(), dtype=d)
    return wrap(broadcast_raw(raw, check_shape(x.shape if shape is None else shape)))


@implements(np.empty_like)
def empty_like(
    prototype: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, *, device: Any = None
) -> Array:
    """An array like x whose elements the function is to write; zeros until then."""
    return zeros_like(prototype, dtype, shape=shape)


def array(
    object: Any,
    dtype: Any = None,
    *,
    copy: bool | None = True,
    order: str = "K",
    subok: bool = False,
    ndmin: int = 0,
    like: Any = None,
) -> Any:
    """`np.array`: nested lists and tuples of scalars and traced values become one array."""
    object = _counted([*object] if type(object) is deque else object)
    if not _traced(object):
        if type(object) is Array:
            raise AssertionError("unreachable")
        known = np.array(object, dtype=dtype, ndmin=ndmin)
        return wrap(nearest_stage().lift(known))
    if type(object) is Array:
        raw = object.raw() if dtype is None else op.convert(object.raw(), dtype=dtype_of(dtype))
        out = wrap(op.copy(raw))
    else:
        leaves: list[Any] = []
        _leaves(object, leaves)
        d = result_dtype(*leaves) if dtype is None else dtype_of(dtype)
        out = wrap(_stacked(object, d))
    from stager.numpy.indexing import getitem

    return getitem(out, (None,) * (ndmin - out.ndim)) if out.ndim < ndmin else out


def _traced(x: Any) -> bool:
    return type(x) is Array or (isinstance(x, list | tuple) and any(_traced(i) for i in x))


def _counted(x: Any) -> Any:
    """x with traced numbers for the symbolic sizes in it."""
    if isinstance(x, Expr):
        from stager.symbols import number

        return number(x)
    if isinstance(x, list | tuple) and any(isinstance(i, Expr | list | tuple) for i in x):
        return [_counted(i) for i in x]
    return x


def _leaves(x: Any, out: list[Any]) -> None:
    if isinstance(x, list | tuple):
        for i in x:
            _leaves(i, out)
    else:
        out.append(x)


def _stacked(x: Any, dtype: DType) -> Any:
    if type(x) is list and x and isinstance(x[0], list | tuple):
        from stager.capture.packing import rows_in_list

        rows = rows_in_list(x)
        if rows is not None:
            return op.copy(operand(rows.joined(), dtype))
    if isinstance(x, list | tuple):
        found = runs(x)
        if found is not None:
            from stager.numpy.shaping import stacked_runs

            joined = stacked_runs(found, dtype)
            if joined is not None:
                return joined
        parts = [_stacked(i, dtype) for i in x]
        if not parts:
            return full_raw((0,), 0, dtype)
        shape = parts[0].type.shape
        if any(p.type.shape != shape for p in parts):
            raise ValueError("setting an array element with a sequence. The requested array has an inhomogeneous shape")
        return stack_(parts, 0)
    return operand(x, dtype)


def empty(shape: Any, dtype: Any = None, order: str = "C", *, device: Any = None, like: Any = None) -> Array:
    """An array whose elements the function is to write; zeros until then, so that nothing is undefined."""
    return zeros(shape, dtype)


def asarray(
    a: Any,
    dtype: Any = None,
    order: str | None = None,
    *,
    device: Any = None,
    copy: bool | None = None,
    like: Any = None,
) -> Any:
    """`np.asarray`: a traced array of the dtype comes back itself."""
    if type(a) is Array and (dtype is None or dtype_of(dtype) is a.type.dtype):
        return a
    return array(a, dtype)


for _original, _ours in (
    (np.zeros, zeros),
    (np.ones, ones),
    (np.full, full),
    (np.empty, empty),
    (np.array, array),
    (np.asarray, asarray),
):
    substitute(_original)(_ours)


def concrete(x: Any, name: str, argument: str) -> Any:
    """An argument that must be known while tracing. Python int arguments of the traced function specialise it."""
    if type(x) is Array:
        if not x.type.shape and x.type.dtype.is_integer:
            return x.__index__()
        raise ConcretizationError(
            describe(f"np.{name}: {argument} must be known while tracing; a traced {x.type} was given")
        )
    return x
