"""The methods of ufuncs (`np.add.reduce`, `accumulate`, `reduceat`, `outer`, `at`) on traced arrays.

The common ones are one op. The others fold: associative ufuncs by halves, the rest from left to right as NumPy does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, as_array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import DType, dtype_of
from stager.numpy.comparisons import dynamic
from stager.numpy.indexing import combined_write, getitem
from stager.numpy.promotion import broadcast_raw, operand, resolve
from stager.numpy.reductions import (
    check_filled,
    deliver,
    kept,
    kept_dtype,
    masked,
    normalize_axes,
    reduced_axes,
    sum_dtype,
)
from stager.numpy.registry import FUNCTIONS
from stager.numpy.ufuncs import apply_ufunc, as_array_like, writable
from stager.ops import elementwise as op
from stager.ops import views
from stager.ops.effects import check
from stager.ops.families import full

_NO = np._NoValue

REDUCE = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}
ACCUMULATE = {np.add: np.cumsum, np.multiply: np.cumprod}
ASSOCIATIVE = {
    np.fmax,
    np.fmin,
    np.bitwise_and,
    np.bitwise_or,
    np.bitwise_xor,
    np.logical_xor,
    np.logaddexp,
    np.logaddexp2,
    np.hypot,
    np.gcd,
    np.lcm,
    np.add,
    np.multiply,
    np.maximum,
    np.minimum,
    np.logical_and,
    np.logical_or,
}
COMBINE = {np.add: "add", np.multiply: "mul", np.maximum: "max", np.minimum: "min"}
UNROLLED = 16  # folds of more elements than this, if they must go from left to right, are a loop


def apply_ufunc_method(ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`ufunc.method(*inputs, **kwargs)`."""
    rule: Any = RULES.get(method)
    if rule is None or ufunc.signature is not None:
        raise UnsupportedError(describe(f"np.{ufunc.__name__}.{method} is not supported on traced arrays"))
    if method != "at" and (ufunc.nout != 1 or ufunc.nin != 2):
        raise ValueError(
            f"{method} only supported for "
            f"{'functions returning a single value' if ufunc.nin == 2 else 'binary functions'}"
        )
    out = kwargs.pop("out", None)
    if out is not None:
        kwargs["out"] = out[0] if isinstance(out, tuple) else out
    return rule(ufunc, *inputs, **kwargs)


def fold_dtype(ufunc: Any, a: Array, dtype: Any) -> DType:
    """The dtype in which NumPy folds."""
    kind = a.type.dtype.np
    if dtype is not None:
        d = np.dtype(dtype)
        try:  # a fold goes on in what it has found
            ufunc.resolve_dtypes((d, d, None), signature=(None, None, d))
        except TypeError:
            text = f"No loop matching the specified signature and casting was found for ufunc {ufunc.__name__}"
            raise TypeError(text) from None
        return dtype_of(d)
    if ufunc in (np.add, np.multiply):
        return sum_dtype(a.type.dtype)
    return resolve(ufunc, (kind, kind), None)[1][0]


def reduce(
    ufunc: Any,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    out: Any = None,
    keepdims: Any = False,
    initial: Any = _NO,
    where: Any = _NO,
) -> Any:
    """Fold along axes."""
    a = as_array(as_array_like(array))
    identity = None if initial is None else ufunc.identity  # None says that there is none
    initial = 0 if ufunc is np.hypot and initial is _NO else _NO if initial is None else initial  # as its loop has it
    dtype = kept_dtype(a, dtype, out) if ufunc not in (np.logical_and, np.logical_or, np.logical_xor) else dtype
    if dtype is not None:
        fold_dtype(ufunc, a, dtype)
    if ufunc in REDUCE:
        if dtype is not None and ufunc in (np.maximum, np.minimum):
            a = a.astype(dtype)  # type: ignore[attr-defined]
        passed: dict[str, Any] = {} if dtype is None or ufunc not in (np.add, np.multiply) else {"dtype": dtype}
        if initial is not _NO:
            if ufunc in (np.logical_and, np.logical_or):
                found = FUNCTIONS[REDUCE[ufunc]](a, axis=axis, keepdims=keepdims, where=where)
                return deliver(apply_ufunc(ufunc, found, initial), out, ufunc.__name__)
            passed["initial"] = initial
        return FUNCTIONS[REDUCE[ufunc]](a, axis=axis, out=out, keepdims=keepdims, where=where, **passed)
    axes = reduced_axes(axis, a.ndim)
    if len(axes) > 1 and ufunc not in ASSOCIATIVE:
        raise ValueError(
            f"reduction operation '{ufunc.__name__}' is not reorderable, so at most one axis may be specified"
        )
    d = fold_dtype(ufunc, a, dtype)
    if where is not _NO and where is not True:
        base = identity if initial is _NO else initial
        if base is None:
            raise ValueError(
                f"reduction operation '{ufunc.__name__}' does not have an identity, "
                "so to use a where mask one has to specify 'initial'"
            )
        if ufunc not in ASSOCIATIVE:
            raise UnsupportedError(describe(f"np.{ufunc.__name__}.reduce: where= is not supported on traced arrays"))
        a = masked(a, where, identity if identity is not None else initial)
    r = op.convert(a.raw(), dtype=d)
    shape = r.type.shape
    rest = [k for k in range(a.ndim) if k not in axes]
    lines = views.reshape(
        views.transpose(r, perm=(*axes, *rest)), shape=(_size(shape, axes), *[shape[k] for k in rest])
    )
    n = lines.type.shape[0]
    if n == 0:
        base = identity if initial is _NO else initial
        if base is None:
            raise ValueError(f"zero-size array to reduction operation {ufunc.__name__} which has no identity")
        found = wrap(full(lines.type.shape[1:], np.asarray(base).astype(d.np)[()], d))
    else:
        x = wrap(lines)
        if initial is _NO and not isinstance(n, int):  # it may turn out to be 0
            if identity is None:
                text = f"zero-size array to reduction operation {ufunc.__name__} which has no identity"
                check_filled(lines.type.shape, (0,), text)
            else:
                initial = np.asarray(identity).astype(d.np)[()]
        if initial is not _NO:  # NumPy starts from it, so it stands on the left
            first = broadcast_raw(operand(as_array_like(initial), d), (1, *lines.type.shape[1:]))
            x = FUNCTIONS[np.concatenate]([wrap(first), x], axis=0)
        halves = ufunc in ASSOCIATIVE and isinstance(x.type.shape[0], int)
        found = _halved(ufunc, x) if halves else _left(ufunc, x, d)
        found = wrap(op.convert(found.raw(), dtype=d)) if dtype is not None else found
    if keepdims is True:
        found = wrap(kept(found.raw(), axes, shape))
    return deliver(found, out, ufunc.__name__)


def _size(shape: Any, axes: Any) -> Any:
    total: Any = 1
    for k in axes:
        total = total * shape[k]
    return total


def _halved(ufunc: Any, x: Array) -> Array:
    n: Any = x.type.shape[0]
    tail: Array | None = None
    while n > 1:
        half = n // 2
        if n % 2:
            last = getitem(x, slice(n - 1, n))
            tail = last if tail is None else apply_ufunc(ufunc, last, tail)
        x = apply_ufunc(ufunc, getitem(x, slice(0, half)), getitem(x, slice(half, 2 * half)))
        n = half
    x = x if tail is None else apply_ufunc(ufunc, x, tail)
    return wrap(op.copy(getitem(x, 0).raw()))


def _left(ufunc: Any, x: Array, d: DType) -> Array:
    n = x.type.shape[0]
    total = wrap(op.copy(getitem(x, 0).raw()))
    if isinstance(n, int) and n <= UNROLLED:
        for k in range(1, n):
            total = wrap(op.convert(apply_ufunc(ufunc, total, getitem(x, k)).raw(), dtype=d))
        return total
    import stager as st

    return st.fori_loop(  # type: ignore[no-any-return]
        1, n, lambda k, t: wrap(op.convert(apply_ufunc(ufunc, t, getitem(x, k)).raw(), dtype=d)), total
    )


def accumulate(ufunc: Any, array: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    """Running folds along an axis."""
    from stager.ops import scans

    a = as_array(as_array_like(array))
    if not a.ndim:
        raise TypeError("cannot accumulate on a scalar")
    k = normalize_axes(axis, a.ndim)[0]
    if ufunc in ACCUMULATE:
        return FUNCTIONS[ACCUMULATE[ufunc]](a, axis=k, dtype=dtype, out=out)
    d = fold_dtype(ufunc, a, dtype)
    r = op.convert(a.raw(), dtype=d)
    if ufunc in (np.maximum, np.minimum) and d.kind != "b":
        rule = scans.cummax if ufunc is np.maximum else scans.cummin
        return deliver(wrap(rule(r, axis=k, reverse=False)), out, ufunc.__name__)
    x = wrap(views.moveaxis(r, k, 0))
    n = x.type.shape[0]
    if isinstance(n, int) and n <= UNROLLED:
        lines = [getitem(x, slice(0, 1))] if n else [x]
        for i in range(1, n):
            lines.append(wrap(op.convert(apply_ufunc(ufunc, lines[-1], getitem(x, slice(i, i + 1))).raw(), dtype=d)))
        result = FUNCTIONS[np.concatenate](lines, axis=0)
    else:
        import stager as st

        buffer = wrap(op.copy(x.raw()))

        def step(i: Any, done: Any) -> Any:
            done[i] = wrap(op.convert(apply_ufunc(ufunc, done[i - 1], getitem(x, i)).raw(), dtype=d))
            return done

        result = st.fori_loop(1, n, step, buffer)
    return deliver(wrap(views.moveaxis(result.raw(), 0, k)), out, ufunc.__name__)


def reduceat(ufunc: Any, array: Any, indices: Any, axis: int = 0, dtype: Any = None, out: Any = None) -> Any:
    """Folds over segments that start at indices."""
    a = as_array(as_array_like(array))
    k = normalize_axes(axis, a.ndim)[0]
    if type(given := as_array_like(indices)) is Array:
        return deliver(_segments(ufunc, a, given, k, dtype), out, f"{ufunc.__name__}.reduceat")
    starts = np.asarray(given)
    n = a.type.shape[k]
    for i in starts.tolist():
        if isinstance(n, int) and not 0 <= i < n:
            raise IndexError(f"index {i} out-of-bounds in {ufunc.__name__}.reduceat [0, {n})")
    d = fold_dtype(ufunc, a, dtype)
    before = (slice(None),) * k
    ends = [*starts[1:].tolist(), n]
    parts = []
    for lo, hi in zip(starts.tolist(), ends, strict=True):
        segment = getitem(a, (*before, slice(lo, hi if not isinstance(hi, int) or hi > lo else lo + 1)))
        part = reduce(ufunc, segment, axis=k, dtype=dtype, keepdims=True, initial=None)
        parts.append(wrap(op.convert(part.raw(), dtype=d)))
    return deliver(FUNCTIONS[np.concatenate](parts, axis=k), out, ufunc.__name__)


def _segments(ufunc: Any, a: Array, starts: Any, k: int, dtype: Any) -> Array:
    """Folds over segments whose bounds only the run knows: one turn of a loop each."""
    import stager as st

    if starts.ndim != 1 or not starts.type.dtype.is_integer:
        raise TypeError(f"Cannot cast array data from {starts.dtype!r} to dtype('int64') according to the rule 'safe'")
    d = fold_dtype(ufunc, a, dtype)
    line = wrap(views.moveaxis(a.raw(), k, 0))
    n, (count,) = dynamic(line.type.shape[0]), starts.type.shape
    starts = starts.astype(np.int64)
    inside: Any = np.all((starts >= 0) & (starts < n))
    text = f"an index is out-of-bounds in {ufunc.__name__}.reduceat"
    check(inside.raw(), exception="IndexError", text=text)
    starts = np.clip(starts, 0, np.maximum(n - 1, 0))  # what follows reads nothing else, whatever the check finds
    ends = np.maximum(np.concatenate([starts[1:], np.reshape(n, (1,))]), starts + 1)
    found: Any = wrap(full((count, *line.type.shape[1:]), 0, d))

    def turn(i: Any, found: Any) -> Any:
        segment = getitem(line, slice(starts[i], ends[i]))
        found[i] = wrap(op.convert(reduce(ufunc, segment, axis=0, dtype=dtype, initial=None).raw(), dtype=d))
        return found

    result = st.fori_loop(0, count, turn, found) if line.type.shape[0] != 0 else found
    return wrap(views.moveaxis(result.raw(), 0, k))


def outer(ufunc: Any, A: Any, B: Any, **kwargs: Any) -> Any:
    """The ufunc of all pairs."""
    a, b = as_array_like(A), as_array_like(B)
    left = as_array(a)
    n = as_array(b).ndim
    x = left if type(a) in (int, float, bool) else left.reshape((*left.type.shape, *(1,) * n))  # type: ignore[attr-defined]
    return apply_ufunc(ufunc, x, b, **kwargs)


def at(ufunc: Any, a: Any, indices: Any, b: Any = _NO) -> None:
    """In place, without buffering: a position that comes twice is updated twice."""
    target = writable(a)
    if ufunc.nin == 2 and b is _NO:
        raise TypeError("second operand needed for ufunc")
    kinds = [target.dtype] + ([] if ufunc.nin == 1 else [as_array_like(b)])
    from stager.numpy.promotion import kind_of

    ins, outs = resolve(ufunc, (kinds[0], *[kind_of(x) for x in kinds[1:]]), None)
    if not np.can_cast(outs[0].np, target.dtype, "same_kind"):
        raise TypeError(
            f"Cannot cast ufunc '{ufunc.__name__}' output from {outs[0].np!r} to {target.dtype!r} "
            "with casting rule 'same_kind'"
        )
    d = target.type.dtype
    if ufunc in COMBINE and ins[0] is d and ins[1] is d and d.kind != "b":
        combined_write(target, indices, b, COMBINE[ufunc])
    elif ufunc is np.subtract and ins[0] is d and ins[1] is d:
        combined_write(target, indices, apply_ufunc(np.negative, wrap(operand(as_array_like(b), d))), "add")
    else:
        _one_by_one(ufunc, target, indices, b)


def _one_by_one(ufunc: Any, target: Array, indices: Any, b: Any) -> None:
    """Any ufunc: a loop over the positions in order."""
    import stager as st
    from stager.ops.structural import iota

    size = target.type.size
    places = wrap(views.reshape(iota(size), shape=target.type.shape))
    chosen = getitem(places, indices)
    count = chosen.type.size
    position = wrap(views.reshape(chosen.raw(), shape=(count,)))
    values: Any = None
    if b is not _NO:
        raw = as_array(as_array_like(b)).raw()
        values = wrap(views.reshape(broadcast_raw(raw, chosen.type.shape), shape=(count,)))
    line = wrap(op.copy(views.reshape(target.raw(), shape=(size,))))

    def step(k: Any, x: Any) -> Any:
        i = position[k]  # type: ignore[index]
        operands = [x[i]] if values is None else [x[i], values[k]]
        x[i] = apply_ufunc(ufunc, *operands)
        return x

    result = st.fori_loop(0, count, step, line)
    target.write(views.reshape(result.raw(), shape=target.type.shape))


RULES = {"reduce": reduce, "accumulate": accumulate, "reduceat": reduceat, "outer": outer, "at": at}
