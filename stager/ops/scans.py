"""Scans: every prefix of a monoid along one axis, from the last element on when `reverse`.

`recurrence` is the one that the derivatives of the others need: h[k] = a[k] h[k-1] + b[k] is linear in b, closed under
differentiation, and exact where a closed form would divide by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, ShapeError, describe
from stager.interpreters.stack import bind
from stager.ir.op import op_named
from stager.ir.types import Type
from stager.ops.elementwise import add, convert, div, eq, gt, lt, mul, not_, select
from stager.ops.families import OpFunction, align_batch, define, linear, zeros_like
from stager.ops.reductions import shifted_along


def _scan_type(name: str, kinds: str) -> Callable[..., Type]:
    def type_rule(*types: Type, axis: int, reverse: bool) -> Type:
        x = types[0]
        if x.dtype.kind not in kinds:
            raise DTypeError(describe(f"{name} does not take {x.dtype} operands"))
        if any(t != x for t in types):
            raise ShapeError(describe(f"{name}: operands are {' and '.join(map(str, types))}"))
        if not 0 <= axis < x.ndim:
            raise ShapeError(describe(f"{name}: {x} has no axis {axis}"))
        return x

    return type_rule


def _scan_batch(name: str) -> Callable[..., Any]:
    def batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], *, axis: int, reverse: bool) -> Any:
        args, bdim = align_batch(interp, args, bdims)
        return bind(op_named(name), *args, axis=axis + (axis >= bdim), reverse=reverse), bdim

    return batch


def _along(ufunc: np.ufunc) -> Callable[..., Any]:
    """NumPy's accumulate, from either end, in the operand's own dtype."""

    def reference(x: Any, *, axis: int, reverse: bool) -> Any:
        if not reverse:
            return ufunc.accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(ufunc.accumulate(np.flip(x, axis), axis=axis, dtype=x.dtype), axis)

    return reference


# -- recurrence -------------------------------------------------------------------------------------------------------


def _recurrence_reference(a: Any, b: Any, *, axis: int, reverse: bool) -> Any:
    out = np.empty_like(b, order="C")
    steps = [np.moveaxis(v, axis, 0) for v in (a, b, out)]
    if reverse:
        steps = [v[::-1] for v in steps]
    coefficients, terms, results = steps
    for k in range(len(results)):
        results[k] = coefficients[k] * results[k - 1] + terms[k] if k else terms[0]
    return out


def _recurrence_jvp(primals: Any, tangents: Any, *, axis: int, reverse: bool) -> Any:
    (a, b), (ta, tb) = primals, tangents
    out = recurrence(a, b, axis=axis, reverse=reverse)
    if ta is not None:
        source = mul(ta, shifted_along(out, axis, 0, reverse=reverse))
        tb = source if tb is None else add(tb, source)
    return out, recurrence(a, tb, axis=axis, reverse=reverse)


def _recurrence_vjp(ct: Any, out: Any, args: Any, needs: Any, *, axis: int, reverse: bool) -> Any:
    # The transposed system runs the other way: s[k] = ct[k] + a[k+1] s[k+1]
    a, _ = args
    s = recurrence(shifted_along(a, axis, 0, reverse=not reverse), ct, axis=axis, reverse=not reverse)
    return [mul(s, shifted_along(out, axis, 0, reverse=reverse)) if needs[0] else None, s if needs[1] else None]


# h[k] = a[k] h[k-1] + b[k] along the axis, with h[-1] = 0; a[0] is not read.
recurrence = define(
    "recurrence",
    "scan",
    type_rule=_scan_type("recurrence", "iufc"),
    reference=_recurrence_reference,
    jvp=_recurrence_jvp,
    vjp=_recurrence_vjp,
    batch=_scan_batch("recurrence"),
)

# -- sum and product --------------------------------------------------------------------------------------------------

cumsum: OpFunction = linear(
    "cumsum",
    "scan",
    type_rule=_scan_type("cumsum", "iufc"),
    reference=_along(np.add),
    transpose=lambda ct, args, needs, *, axis, reverse: [cumsum(ct, axis=axis, reverse=not reverse)],
    batch=_scan_batch("cumsum"),
)


def _cumprod_jvp(primals: Any, tangents: Any, *, axis: int, reverse: bool) -> Any:
    # y[k] = x[k] y[k-1], hence dy[k] = x[k] dy[k-1] + y[k-1] dx[k]
    (x,), (t,) = primals, tangents
    out = cumprod(x, axis=axis, reverse=reverse)
    before = shifted_along(out, axis, 1, reverse=reverse)
    return out, recurrence(x, mul(t, before), axis=axis, reverse=reverse)


def _cumprod_vjp(ct: Any, out: Any, args: Any, needs: Any, *, axis: int, reverse: bool) -> Any:
    (x,) = args
    s = recurrence(shifted_along(x, axis, 0, reverse=not reverse), ct, axis=axis, reverse=not reverse)
    return [mul(s, shifted_along(out, axis, 1, reverse=reverse))]


cumprod = define(
    "cumprod",
    "scan",
    type_rule=_scan_type("cumprod", "iufc"),
    reference=_along(np.multiply),
    jvp=_cumprod_jvp,
    vjp=_cumprod_vjp,
    batch=_scan_batch("cumprod"),
)

# -- max and min ------------------------------------------------------------------------------------------------------


def _extreme_rules(name: str, beaten: OpFunction) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Each result shares evenly among the elements so far that attain it. A NaN is attained by all that follow it."""

    def shares(x: Any, out: Any, axis: int, reverse: bool) -> tuple[Any, Any, Any]:
        attains = not_(beaten(x, out))
        # 1 where the running extreme stays what it was, 0 where a new one sets in and the sums start anew
        stays = convert(eq(out, shifted_along(out, axis, 0, reverse=reverse)), dtype=x.type.dtype)
        count = recurrence(stays, convert(attains, dtype=x.type.dtype), axis=axis, reverse=reverse)
        return attains, stays, count

    def jvp(primals: Any, tangents: Any, *, axis: int, reverse: bool) -> Any:
        (x,), (t,) = primals, tangents
        out = bind(op_named(name), x, axis=axis, reverse=reverse)
        attains, stays, count = shares(x, out, axis, reverse)
        return out, div(recurrence(stays, select(attains, t, zeros_like(t)), axis=axis, reverse=reverse), count)

    def vjp(ct: Any, out: Any, args: Any, needs: Any, *, axis: int, reverse: bool) -> Any:
        (x,) = args
        attains, stays, count = shares(x, out, axis, reverse)
        s = recurrence(
            shifted_along(stays, axis, 0, reverse=not reverse), div(ct, count), axis=axis, reverse=not reverse
        )
        return [select(attains, s, zeros_like(s))]

    return jvp, vjp


def _extreme(name: str, ufunc: np.ufunc, beaten: OpFunction) -> OpFunction:
    jvp, vjp = _extreme_rules(name, beaten)
    return define(name, "scan", type_rule=_scan_type(name, "biuf"), reference=_along(ufunc), jvp=jvp, vjp=vjp,
                  batch=_scan_batch(name))  # fmt: skip


cummax = _extreme("cummax", np.maximum, lt)
cummin = _extreme("cummin", np.minimum, gt)
