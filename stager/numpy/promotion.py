"""Dtypes and broadcasting as NumPy decides them: `ufunc.resolve_dtypes` is asked, so results agree by construction.

A Python scalar (or an array that came from one: `weak`) takes part as the Python type it is (NEP 50).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.array import Array, raw
from stager.errors import DTypeError, ShapeError, describe
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import DType, dtype_of
from stager.ops.elementwise import convert
from stager.ops.families import full
from stager.ops.views import _slice, broadcast, leading

Kind = Any  # an np.dtype, or int/float for weak operands


def kind_of(x: Any) -> Kind:
    """What an operand is to promotion: its np.dtype, or int/float when weak."""
    if type(x) is Array:
        if x.weak:
            return int if x.type.dtype.kind in "iu" else float if x.type.dtype.kind == "f" else np.dtype(bool)
        return x.type.dtype.np
    if type(x) is bool:
        return np.dtype(bool)
    if type(x) in (int, float, complex):
        return type(x)
    return np.asarray(x).dtype


@functools.lru_cache(maxsize=4096)
def resolve(
    ufunc: np.ufunc, kinds: tuple[Kind, ...], dtype: Any = None, casting: Any = "same_kind"
) -> tuple[tuple[DType, ...], tuple[DType, ...]]:
    """(operand dtypes, result dtypes) of the loop that NumPy picks."""
    if all(k in (int, float, complex) for k in kinds):  # only Python scalars: they take their default dtypes
        kinds = tuple(np.dtype(k) for k in kinds)
    settings: dict[str, Any] = (
        {} if dtype is None else {"signature": (*(None,) * ufunc.nin, *(np.dtype(dtype),) * ufunc.nout)}
    )
    try:
        found = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout), casting=casting, **settings)
    except TypeError as e:
        shown = ", ".join(str(k) if isinstance(k, np.dtype) else k.__name__ for k in kinds)
        raise DTypeError(
            describe(f"{ufunc.__name__}: not supported for operands of dtype {shown} ({type(e).__name__})")
        ) from None
    inputs, outputs = found[: ufunc.nin], found[ufunc.nin :]
    if np.float16 not in outputs:  # a half that no result shows (signbit of an int8) may be a single
        inputs = tuple([np.dtype(np.float32) if d == np.float16 else d for d in inputs])
    return tuple([_known(ufunc, d) for d in inputs]), tuple([_known(ufunc, d) for d in outputs])


def _known(ufunc: np.ufunc, d: np.dtype[Any]) -> DType:
    try:
        return dtype_of(d)
    except TypeError:
        raise DTypeError(
            describe(
                f"{ufunc.__name__}: NumPy computes this in {d}, which stager does not support",
                remedy="convert the operand first, for example x.astype(np.float32)",
            )
        ) from None


def result_dtype(*operands: Any) -> DType:
    """`np.result_type` of arrays and scalars."""
    kinds = [kind_of(x) for x in operands]
    if all(isinstance(k, type) for k in kinds):
        return dtype_of(np.result_type(*[np.dtype(k) for k in kinds]))
    samples = [k if isinstance(k, np.dtype) else (0 if k is int else 0.0 if k is float else 0j) for k in kinds]
    return dtype_of(np.result_type(*samples))


def broadcast_shapes(name: str, shapes: Sequence[tuple[Dim, ...]]) -> tuple[Dim, ...]:
    """NumPy's broadcasting; ShapeError when the shapes do not fit."""
    first = shapes[0]
    if all(s == first for s in shapes):
        return first
    ndim = max(len(s) for s in shapes)
    out: list[Dim] = []
    for k in range(ndim):
        dim: Dim = 1
        for s in shapes:
            d = s[k - ndim + len(s)] if k - ndim + len(s) >= 0 else 1
            if d == 1:
                continue
            if dim == 1:
                dim = d
            elif d != dim:
                shown = " with ".join("(" + ",".join(map(str, s)) + ("," if len(s) == 1 else "") + ")" for s in shapes)
                raise ShapeError(describe(f"{name}: cannot broadcast operands of shapes {shown}"))
        out.append(dim)
    return tuple(out)


def together(name: str, raws: Sequence[Any]) -> list[Any]:
    """Raw values broadcast together. Extents that only the run knows are checked to fit there (`symbols.agreed`)."""
    from stager.symbols import agreed

    shapes = [r.type.shape for r in raws]
    shape = agreed(name, shapes)
    if shape is None:
        shape = broadcast_shapes(name, shapes)
        return [broadcast_raw(r, shape) for r in raws]
    return [broadcast_raw(narrowed(r, shape), shape) for r in raws]


def narrowed(x: Any, shape: tuple[Dim, ...]) -> Any:
    """The leading elements of x along axes whose extent was agreed to be that of `shape`, which x broadcasts to."""
    own = x.type.shape
    wanted = shape[len(shape) - len(own) :]
    sizes = [w if isinstance(w, Expr) and d != 1 else d for d, w in zip(own, wanted, strict=True)]
    return leading(x, sizes)


def reconciled(name: str, target: Array, value: Any) -> tuple[Array, Any]:
    """A target and the value to write into it, where extents that only the run knows are checked to fit there."""
    from stager.symbols import agreed

    shape = target.type.shape
    if len(value.type.shape) <= len(shape):
        sizes = agreed(name, [shape, value.type.shape])
        if sizes is not None and not any(d == 1 and w != 1 for d, w in zip(shape, sizes, strict=True)):
            value = narrowed(value, sizes)
            target = target.view_by(_slice.op, starts=(0,) * len(shape), sizes=sizes, steps=(1,) * len(shape))
    return target, value


def broadcast_raw(x: Any, shape: tuple[Dim, ...]) -> Any:
    """A raw value broadcast to `shape` by NumPy's rule."""
    own = x.type.shape
    if own == shape:
        return x
    offset = len(shape) - len(own)
    return broadcast(x, shape=shape, axes=tuple(range(offset, len(shape))))


def operand(x: Any, dtype: DType) -> Any:
    """The raw value of an operand in `dtype`. Python scalars become literals; ints that do not fit raise."""
    if type(x) is Array:
        return convert(x.raw(), dtype=dtype)
    if type(x) in _SCALARS:
        return raw(_fitting(x, dtype), dtype)
    return convert(raw(x), dtype=dtype)


_SCALARS = (bool, int, float)


def _fitting(x: Any, dtype: DType) -> Any:
    """A Python scalar that `dtype` can hold."""
    if dtype.is_integer and type(x) is int:
        info = np.iinfo(dtype.np)
        if not info.min <= x <= info.max:
            raise OverflowError(f"Python integer {x} out of bounds for {dtype.np}")
    return x


def operands_together(name: str, operands: Sequence[Any], dtypes: Sequence[DType]) -> Sequence[Any]:
    """The raw values of operands in their dtypes, broadcast together. A Python scalar becomes a literal of the others'
    shape at once."""
    arrays = [operand(x, d) for x, d in zip(operands, dtypes, strict=True) if type(x) not in _SCALARS]
    if not arrays:
        return [operand(x, d) for x, d in zip(operands, dtypes, strict=True)]
    if len(arrays) > 1:
        arrays = together(name, arrays)
    if len(arrays) == len(operands):
        return arrays
    shape, rest = arrays[0].type.shape, iter(arrays)
    return [
        full(shape, _fitting(x, d), d) if type(x) in _SCALARS else next(rest)
        for x, d in zip(operands, dtypes, strict=True)
    ]


def promoted(name: str, *operands: Any) -> list[Any]:
    """Raw values of operands in their common dtype, broadcast together."""
    dtype = result_dtype(*operands)
    raws = [operand(x, dtype) for x in operands]
    return together(name, raws)


def is_array_like(x: Any) -> bool:
    """What NumPy takes as an array operand here: arrays, tracers, scalars, nested lists of those."""
    return type(x) is Array or isinstance(x, np.ndarray | np.generic | bool | int | float | list | tuple)
