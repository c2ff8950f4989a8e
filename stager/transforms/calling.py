"""What every transform shares: plain calls on concrete arrays, entering a level, leaving it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager import cells
from stager.array import Array, as_array, is_value, raw
from stager.capture import convert, current
from stager.capture.touched import given
from stager.errors import StagerError, TransformError, describe
from stager.interpreters.stack import Interpreter, active
from stager.stand_ins import refuse_overlap
from stager.tracebacks import trimmed
from stager.tracing import Traced, trace


def call_user(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any] | None = None) -> Any:
    """Run a user function, converted from its source where that can be done."""
    session = current()
    return (fn if session is None else convert(fn, session))(*args, **(kwargs or {}))


def call_on_copies(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], keys: Sequence[Any] | None = None
) -> Any:
    """Run a user function on arguments that are copies of the caller's containers. keys: of those that are."""
    only = args if keys is None else [x if k in keys else None for k, x in enumerate(args)]
    containers = given(fn, only, {k: v for k, v in kwargs.items() if keys is None or k in keys})
    result = call_user(fn, args, kwargs)
    containers.check(result)
    return result


def plainly(body: Callable[..., Any]) -> Callable[..., Any]:
    """`body` as it is under a trace; outside one, traced with concrete values and run."""

    @functools.wraps(body)
    def call(*args: Any, **kwargs: Any) -> Any:
        if active():
            return body(*args, **kwargs)
        try:
            traced = trace(body, args, kwargs, concrete=True, packs=True)
        except StagerError as e:
            raise trimmed(e) from e.__cause__
        refuse_overlap(traced)
        return run_traced(traced)

    return call


def run_traced(traced: Traced) -> Any:
    """The results of a concrete trace, written-back arguments included."""
    from stager.runtime.structure import unflatten

    assert traced.stage is not None
    arrays = traced.stage.concrete.run(traced.graph.outputs)
    for leaf, index in traced.writes:
        np.copyto(traced.leaves[leaf].value, arrays[index])
    out: list[Any] = []
    fresh: dict[int, Any] = {}
    for r in traced.results:
        if r.kind == "static":
            out.append(r.value)
        elif r.kind == "input":
            out.append(traced.leaves[r.index].value)
        elif r.kind == "value":
            if r.index not in fresh:
                fresh[r.index] = own(arrays[r.index])
            out.append(fresh[r.index].item() if r.python else fresh[r.index])
        else:
            base = traced.leaves[r.index].value if r.kind == "view" else fresh.setdefault(r.owner, own(arrays[r.owner]))
            out.append(strided_view(base, r.layout))
    return unflatten(traced.result_structure, out)


def own(x: np.ndarray[Any, Any]) -> Any:
    """A result of the caller's own: a writable C-contiguous copy, or a NumPy scalar for 0-d."""
    return x[()] if x.ndim == 0 else np.array(x, order="C")


def strided_view(base: np.ndarray[Any, Any], layout: Any) -> np.ndarray[Any, Any]:
    """The view of `base` that a layout describes; it keeps `base` alive."""
    return np.asarray(_Memory(base, base.__array_interface__["data"][0] + layout.offset, layout))


class _Memory:
    """Exposes a stretch of `base`'s memory through the array interface and keeps `base` alive."""

    def __init__(self, base: np.ndarray[Any, Any], address: int, layout: Any) -> None:
        self.base = base
        self.__array_interface__ = {
            "version": 3,
            "typestr": base.dtype.str,
            "shape": tuple(layout.type.shape),
            "strides": tuple(layout.strides),
            "data": (address, not base.flags.writeable),
        }


class Entered:
    """An argument leaf inside a level: the outer handle, and the handle that user code gets."""

    __slots__ = ("inner", "outer")

    def __init__(self, outer: Array, inner: Array) -> None:
        self.outer = outer
        self.inner = inner


def outer_handle(x: Any) -> Array:
    """An argument leaf as a handle of the level in force."""
    return as_array(x)


def enter(interp: Interpreter, outer: Array, value: Any, lane: int | None = None) -> Entered:
    """A handle of `interp` (which has been pushed) on its own cell holding `value`. lane: the axis that is mapped."""
    cell = cells.Cell(value, interp, outer.cell.label)
    cell.read_only = outer.cell.read_only
    if not outer.type.shape and not outer.path:
        cell.origin = outer.cell.origin  # a 0-d array stays one: it is changed in place where a number is bound anew
    cell.lent, cell.lane = outer, lane
    for other in (outer.cell, *[c for c, _, _ in outer.cell.may_be if not c.is_returned()]):
        if other.lent is None or other is outer.cell or not cells.apart(outer, other.lent):
            cell.stand_beside(other)
    return Entered(outer, Array(cell, (), value.type, outer.weak))


def write_back(entered: Sequence[Entered], lower: Callable[[Any], Any]) -> None:
    """Writes of the function into its arguments reach the caller's handles. The level below is in force."""
    for e in entered:
        e.inner.cell.lent = cells.RETURNED
    for e in entered:
        if e.inner.cell.written:
            e.outer.write(lower(e.inner.cell.value))


def result_value(name: str, x: Any) -> Any:
    """The raw value of a result that a transform differentiates. TransformError for what is no array."""
    if not is_value(x):
        text = f"{name}: the function returned a {type(x).__name__}, which has no derivative"
        raise TransformError(describe(text, remedy="return it as aux, with has_aux=True"))
    return raw(x)
