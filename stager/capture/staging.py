"""Traced decisions: what `operators.py` hands over when a test, a bound or an index is traced. Loads with a trace."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array
from stager.capture import operators
from stager.capture.appending import buffered
from stager.capture.branches import (
    Pending,
    Side,
    after_iteration,
    as_bool,
    ended,
    finish,
    leave,
    settle,
    stage_branches,
    stage_if,
    then,
    value_of,
    wrapped_where,
)
from stager.capture.counted import counted_while
from stager.capture.growing import appends, growing_lists
from stager.capture.iterables import Indexed, SteppedRange, TracedRange
from stager.capture.loops import MOST, plan_for, stage_while, touches_traced
from stager.capture.optional import Maybe
from stager.capture.plans import EmptyListError, learning
from stager.capture.raising import check as check_error
from stager.capture.row_lists import ROWS
from stager.capture.session import current
from stager.capture.variables import Variables, unshared
from stager.cells import discard_overlays
from stager.errors import ConcretizationError, ControlFlowError, describe
from stager.ir.dims import Expr
from stager.ir.dtypes import b1
from stager.ops.regions import Captures, replay
from stager.staged import MismatchError, as_raw, close_regions, handle, inside, region_in_force

Closure = Callable[..., Any]
Names = tuple[str, ...]


# -- statements -------------------------------------------------------------------------------------------------------


def if_(test: Any, body: Closure, orelse: Closure | None, names: Names) -> None:
    """An `if` without signals."""
    stage_if(test, body, orelse, names)


def while_(
    value: Any, test: Closure, body: Closure, names: Names, orelse: Closure | None, jumps: bool,
    before: dict[str, Any] | None, stuck: bool,
) -> Any:  # fmt: skip
    """A `while` whose test is traced. Where staging fails and the test has a value, the loop runs in Python.

    before: the variables as the test has found them, where it has changed them. stuck: it has changed objects, too.
    """
    variables = Variables(test, body, orelse)
    own, lists = unshared(variables, names), growing_lists(variables, names)
    after = variables.snapshot()
    if before is not None:
        variables.restore(before)

    def staged() -> Any:
        if stuck:
            what = "the test of a traced while loop writes into an object, a list or an array"
            raise ControlFlowError(describe(what, remedy="compute the test in the body, into a variable"))
        return stage_while(test, body, names, orelse, jumps, None, fresh=own, entry=value)

    try:
        return buffered(variables, lists, staged)
    except (ControlFlowError, ConcretizationError) as e:
        variables.restore(after)
        known = _known_truth(value)
        if known is None:
            raise
        s = current()
        if s is not None:
            s.decline(body.__code__, e)
        first = e
    for _ in range(MOST):
        if not known:
            return None if orelse is None else orelse()
        signal = ended(body())
        if type(signal) is operators.Return:
            return signal
        if signal is operators.BREAK:
            return None
        if signal is not None:
            return rest_of_while(signal, test, body, names, orelse)
        value = test()
        known = bool(value) if type(value) is not Array else _known_truth(value)
        if known is None:
            return stage_while(test, body, names, orelse, jumps, None, entry=value)
    raise first


def _known_truth(value: Any) -> bool | None:
    try:
        return bool(value)
    except ConcretizationError:
        return None


def rest_of_while(signal: Any, test: Closure, body: Closure, names: Names, orelse: Closure | None) -> Any:
    """A `while` whose iteration gave a traced signal."""
    variables = Variables(test, body, orelse)
    lists = growing_lists(variables, names)
    return buffered(variables, lists, lambda: stage_while(test, body, names, orelse, True, signal))


def raised(error: Any) -> Any:
    """Mark what a `raise` statement of the user raises inside a branch."""
    region = region_in_force()
    if region is None:
        return error
    made = error() if isinstance(error, type) and issubclass(error, Exception) else error
    if isinstance(made, Exception):
        made.__stager_raise__ = region  # type: ignore[attr-defined]
    return made


def check(test: Any, error: type[Exception], text: Any) -> None:
    """A traced `assert`."""
    check_error(as_bool(test), error(text) if text != "" else error())


# -- expressions ------------------------------------------------------------------------------------------------------


def _pick(condition: Array, when_false: Closure, when_true: Closure) -> Any:
    """The value of one of two expressions."""

    def side(f: Closure) -> Closure:
        return lambda: operators.Return(f())

    sharing = [*getattr(when_false, "__closures__", (when_false,)), *getattr(when_true, "__closures__", (when_true,))]
    try:
        out = stage_branches(condition, (side(when_false), side(when_true)), (), sharing)
    except (ControlFlowError, ConcretizationError):
        try:
            picked = bool(condition)
        except ConcretizationError:
            picked = None
        if picked is None:
            raise
        return when_true() if picked else when_false()
    return operators.finish(out)


def _logical(value: Any, others: Sequence[Closure], stop_at: bool, original: Any) -> Any:
    """`and` (stops at a false value) and `or` (at a true one)."""
    operator = operators.or_ if stop_at else operators.and_

    def rest() -> Any:
        return operator(others[0](), *others[1:])

    rest.__closures__ = others  # type: ignore[attr-defined]
    condition = as_bool(value)
    cheap = None
    if type(original) is Maybe:
        value = original.value if stop_at else original  # what is true is there
    else:
        try:
            cheap = _speculated(rest, others)
        except EmptyListError:  # while it is learnt what the list holds: the first time nothing is there to look at
            if not learning():
                raise
            return condition
    if cheap is not None and type(original) is Array and original.dtype != np.bool_:
        number: Any = original
        kept = number.reshape(())
        return wrapped_where(condition, kept, cheap) if stop_at else wrapped_where(condition, cheap, kept)
    if cheap is not None:
        return condition | cheap if stop_at else condition & cheap
    if type(original) in ROWS:  # a list whose length only the run knows
        try:
            return _decided(condition, original, rest, stop_at)
        except MismatchError:  # with what is none: no more than a test
            pass
    return _decided(condition, value, rest, stop_at)


def _decided(condition: Array, value: Any, rest: Closure, stop_at: bool) -> Any:
    if stop_at:
        return _pick(condition, (lambda: rest()), (lambda: value))
    return _pick(condition, (lambda: value), (lambda: rest()))


CHEAP = ("source", "elementwise", "view")
SPECULATED_OPS = 12  # so many cheap scalar ops are dearer to jump around than to compute


def _speculated(rest: Closure, sharing: Sequence[Closure]) -> Array | None:
    """The rest of an `and` or `or` computed unconditionally, when that is cheap and cannot fail; else None."""
    try:
        side = Side(lambda: operators.Return(rest()), Captures(), "rest", Variables(*sharing), ())
    except (ControlFlowError, ConcretizationError):
        if region_in_force() is not None:
            raise
        return None
    try:
        value = value_of(side.signal)
        if (
            side.error is not None
            or side.written
            or not (type(value) is bool or (type(value) is Array and value.dtype == np.bool_))
        ):
            return None
        nodes = list(side.region.graph.nodes)
        total = len(nodes) <= SPECULATED_OPS and all(
            n.op.family in CHEAP and all(t.size == 1 for t in n.types) for n in nodes
        )
        if not total:
            return None
        with inside(side.region):
            side.region.graph.outputs = [side.region.local(as_raw(value, b1))]
            side.region.close()
        (graph,), _, captured = close_regions([side.region], [()], ())
        return handle(replay(graph, captured)[0], False)
    finally:
        discard_overlays(side.region)


def and_(test: Any, others: Sequence[Closure], value: Any) -> Any:
    """`value and …` of a traced value, or of one that is None on some paths, as `test` tells."""
    return _logical(test, others, False, value)


def or_(test: Any, others: Sequence[Closure], value: Any) -> Any:
    """`value or …` of a traced value, or of one that is None on some paths, as `test` tells."""
    return _logical(test, others, True, value)


def not_(value: Any) -> Any:
    """`not value`."""
    return ~as_bool(value)


def ifexp(test: Any, body: Closure, orelse: Closure) -> Any:
    """`body() if test else orelse()`."""
    return _pick(as_bool(test), orelse, body)


# -- numbers and sequences --------------------------------------------------------------------------------------------


def weakened(x: Array) -> Array:
    """A traced scalar that promotes as a Python number does."""
    return Array(x.cell, x.path, x.type, True)


def _known_int(x: Any) -> int | None:
    if isinstance(x, Expr):
        return None
    if type(x) is not Array:
        return int(x.__index__())
    from stager.symbols import dim_of

    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    try:
        d = dim_of(x)
    except ConcretizationError:  # it differs between the lanes of a vmap
        return None
    return d if isinstance(d, int) else None


def traced_range(start: Any, stop: Any, step: Any) -> Any:
    """`range` of ints, dims and traced integers."""
    known = [_known_int(x) for x in (start, stop)]
    error = ValueError("range() arg 3 must not be zero")
    by = _known_int(step)
    if by is None:
        try:
            by = int(step.python_index() if type(step) is Array else step.__index__())
        except ConcretizationError:
            check_error(as_bool(step != 0), error)
            ends = [weakened(as_array(x)) if k is None else k for x, k in zip((start, stop), known, strict=True)]
            return SteppedRange(ends[0], ends[1], weakened(as_array(step)))
    if by == 0:
        raise error
    if known[0] is not None and known[1] is not None:
        return range(known[0], known[1], by)
    bounds = [
        k if k is not None else x if isinstance(x, Expr) else weakened(as_array(x))
        for x, k in zip((start, stop), known, strict=True)
    ]
    return TracedRange(bounds[0], bounds[1], by)


def shortest(lengths: Sequence[Any]) -> Any:
    """The length of `zip`."""
    out = lengths[0]
    for n in lengths[1:]:
        out = np.minimum(as_array(out), n)
    return out


__all__ = [
    "MOST", "Indexed", "Pending", "Variables", "after_iteration", "and_", "appends", "check", "counted_while", "ended",
    "finish", "if_", "ifexp", "leave", "not_", "or_", "plan_for", "raised", "rest_of_while", "settle", "shortest",
    "then", "touches_traced", "traced_range", "weakened", "while_",
]  # fmt: skip
