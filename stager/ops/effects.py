"""Effects: check, commit, print and callback. They keep their order among each other and are never dead.

An effect has no derivative. Under vmap a check looks at all lanes and reports the first that fails; print and callback
run once per lane, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.errors import DTypeError, TransformError, describe
from stager.interpreters.stack import bind
from stager.ir.abi import exception_class
from stager.ir.dims import is_static
from stager.ir.dtypes import b1
from stager.ir.op import Op, register
from stager.ir.types import Type

# -- check ------------------------------------------------------------------------------------------------------------


def _check_type(ok: Type, *details: Type, exception: str, text: str) -> tuple[Type, ...]:
    if ok != Type(b1, ()) or any(d.shape or not d.dtype.is_integer for d in details):
        raise DTypeError(
            describe(f"check: takes a bool scalar and integer scalars, not {ok}, {', '.join(map(str, details))}")
        )
    return ()


def _check_reference(ok: Any, *details: Any, exception: str, text: str) -> tuple[Any, ...]:
    if not ok:
        raise exception_class(exception)(text.format(*[int(d) for d in details]))
    return ()


def _check_batch(interp: Any, args: Any, bdims: Any, **params: Any) -> Any:
    from stager.ops.indexed import gather
    from stager.ops.reductions import argmin, reduce_and

    (ok, *details), (ok_bdim, *detail_bdims) = args, bdims
    if is_static(interp.batch_size) and interp.batch_size == 0:
        return (), ()
    if ok_bdim is None:  # the same for all lanes, whose details it does not depend on: lane 0 speaks for all
        first: Any = None
    else:
        first = argmin(ok, axis=0)
        ok = reduce_and(ok, axes=(0,))
    shown = []
    for d, bdim in zip(details, detail_bdims, strict=True):
        if bdim is None:
            shown.append(d)
        elif first is None:
            shown.append(gather(d, _zero(), axes=(0,), batch_dims=0, mode="clip"))
        else:
            shown.append(gather(d, first, axes=(0,), batch_dims=0, mode="promise"))
    check(ok, *shown, **params)
    return (), ()


def _zero() -> Any:
    from stager.ops.regions import scalar_index

    return scalar_index(0)


check_op = register(
    Op("check", "effect", _check_type, _check_reference, batch=_check_batch, multiple_results=True, ordered=True)
)


def check(ok: Any, *details: Any, exception: str, text: str) -> None:
    """Raise what `exception` names, with `text` (its {0}, {1}, … are the integer details), unless ok."""
    bind(check_op, ok, *details, exception=exception, text=text)


# -- commit -----------------------------------------------------------------------------------------------------------

# The caller's array that is the graph's input number `input` holds `x` from here on: where something may raise behind
# it, that write has happened. The array itself is the result. `carried`: x comes out of control flow that may raise,
# which writes where the array lies. A trace of a call appends commits (`stager/committed.py`); what binds one, to run
# a graph as part of another trace, has other callers and gets the array.
commit_op = register(
    Op("commit", "effect", lambda x, input, carried: x, lambda x, *, input, carried: x,
       jvp=lambda primals, tangents, **params: (primals[0], tangents[0]), vjp=lambda ct, *rest, **params: [ct],
       batch=lambda interp, args, bdims, **params: (args[0], bdims[0]), ordered=True, facts=("of_one_call",))
)  # fmt: skip


# -- per lane, in order -----------------------------------------------------------------------------------------------


def _in_order_batch(op: Callable[[], Op]) -> Callable[..., Any]:
    def batch(interp: Any, args: Sequence[Any], bdims: Sequence[Any], **params: Any) -> Any:
        from stager.ops.control import lanes_in_order, of_lane

        def one(lane: Any) -> Any:
            return bind(op(), *[of_lane(a, b, lane) for a, b in zip(args, bdims, strict=True)], **params)

        outs = lanes_in_order(interp.batch_size, one)
        return outs, (0,) * len(outs)

    return batch


# -- print ------------------------------------------------------------------------------------------------------------


def _print_reference(*xs: Any, format: str, end: str) -> tuple[Any, ...]:
    print(format.format(*xs), end=end)
    return ()


print_op: Op = register(
    Op("print", "effect", lambda *xs, format, end: (), _print_reference, batch=_in_order_batch(lambda: print_op),
       multiple_results=True, ordered=True)
)  # fmt: skip


def print_values(*xs: Any, format: str, end: str = "\n") -> None:
    """Print values when the compiled code runs: `format` is a `str.format` text with one field per value."""
    bind(print_op, *xs, format=format, end=end)


# -- callback ---------------------------------------------------------------------------------------------------------


def _callback_reference(*xs: Any, function: Callable[..., Any], results: tuple[Type, ...]) -> tuple[Any, ...]:
    returned = function(*[np.array(x) for x in xs])
    outs = returned if isinstance(returned, tuple | list) else () if returned is None and not results else (returned,)
    arrays = [np.asarray(o, dtype=t.dtype.np) for o, t in zip(outs, results, strict=True)]
    for a, t in zip(arrays, results, strict=True):
        if a.shape != t.shape:
            raise ValueError(f"callback: {_name(function)} returned an array of shape {a.shape}, declared was {t}")
    return tuple(arrays)


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", repr(function))


def _callback_jvp(primals: Any, tangents: Any, *, function: Callable[..., Any], results: tuple[Type, ...]) -> Any:
    raise TransformError(
        describe(
            f"callback: {_name(function)} runs in Python and has no derivative",
            remedy="pass stop_gradient(x) to it, or wrap the call in custom_jvp or custom_vjp",
        )
    )


def _callback_pullback(args: Any, needs: Any, **params: Any) -> Any:
    return _callback_jvp(args, None, **params)


callback_op: Op = register(
    Op("callback", "effect", lambda *xs, function, results: tuple(results), _callback_reference, jvp=_callback_jvp,
       pullback=_callback_pullback, batch=_in_order_batch(lambda: callback_op), multiple_results=True, ordered=True)
)  # fmt: skip


def callback(*xs: Any, function: Callable[..., Any], results: Sequence[Type]) -> tuple[Any, ...]:
    """What the Python function returns for these arrays at run time: arrays of the types `results`."""
    out: tuple[Any, ...] = bind(callback_op, *xs, function=function, results=tuple(results))
    return out
