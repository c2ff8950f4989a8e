"""Traced loops: a `for` or `while` statement becomes one node that carries its variables and the arrays it writes.

Variables that an iteration rebinds are carried by value; arrays that it only writes in place are carried as cells
(`stager/staged.py`), so every name for them sees the writes. The types of carried variables are found by tracing the
body until they do not change; a variable whose first value is of another kind (None, unbound, another shape) costs one
iteration run ahead of the loop. `break` and `return` under a traced condition make the node a `while` that also carries
how the loop ended.

A loop over a plain `range` whose body needs the index as a Python int, or does what cannot be staged, runs in Python
and is unrolled; the reason is kept for `explain`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import FunctionType, GeneratorType
from typing import Any

import numpy as np

from stager.array import Array
from stager.capture import generators, operators
from stager.capture.appending import buffered, partly
from stager.capture.branches import (
    CONTINUED,
    FELL,
    I64,
    RETURNED,
    Signal,
    after_iteration,
    as_bool,
    codes_of,
    ended,
    settle,
    stage_branches,
    wrapped_where,
)
from stager.capture.buffers import UNKNOWN
from stager.capture.carries import Spec
from stager.capture.carry import UnboundedError, UnsteadyError
from stager.capture.counts import (
    counts,
    held_over_turns,
    hold_left,
    moved_by,
    part_for,
    rooms_taken,
    running,
    step_of,
    take_rooms,
    total,
)
from stager.capture.courses import Course, of_range, of_traced
from stager.capture.extents import Merges
from stager.capture.growing import GrowsError, Growth, growing_lists, unchanged
from stager.capture.iterables import ENDLESS, Indexed, TracedRange, indexed, listed_in
from stager.capture.operators import BREAK, CONTINUE, Return
from stager.capture.owners import need_buffer
from stager.capture.plans import DataDefinedError, EmptyListError, learning
from stager.capture.session import UNBOUND, Session, current
from stager.capture.settled import settled_of, tracing
from stager.capture.variables import Names, Variables, mutable_ids, unshared, with_places
from stager.capture.while_node import (
    ATTEMPTS,
    Counting,
    OnceError,
    TestBindsError,
    WhileNode,
    assign,
    late_types,
    retry,
    zeros,
)
from stager.cells import discard_overlays
from stager.errors import ConcretizationError, ControlFlowError, MutationError, StagerError, describe
from stager.interpreters.stack import bind
from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ops.checkpoints import checkpointing, loop_params
from stager.ops.regions import Captures, dim_of, replay
from stager.runtime.structure import flatten
from stager.staged import LEFT, DeclinedError, UserRegion, as_raw, close_regions, handle, inside

Closure = Callable[..., Any]

NO_LISTS: dict[int, list[Any]] = {}
FEW = 4  # a loop of so few iterations is unrolled: it fuses with its neighbours
MOST = 10_000  # a loop that cannot be staged is unrolled up to here


# -- deciding ---------------------------------------------------------------------------------------------------------


def plan_for(
    s: Session, iterable: Any, body: Closure, names: Names, jumps: bool
) -> Callable[[Closure | None], Any] | None:
    """How to run a `for` statement, or None to run it as Python does."""
    if type(iterable) is range:
        if len(iterable) <= FEW or not touches_traced(body):
            return None
        return lambda orelse: _with_fallback(of_range(iterable), iterable, body, names, orelse, jumps)
    if type(iterable) is GeneratorType:
        return generators.plan_for(s, iterable, body, names, jumps)
    if hasattr(type(iterable), "by_position"):
        found = None if jumps else iterable.by_position()
        if found is None:
            return generators.plan_for_expression(s, iterable, body, names, jumps)
        iterable = found
    else:
        found = indexed(iterable)
    if found is None:
        return None
    length = found.length
    if type(length) is int:
        if found.is_endless() and not jumps:
            return None
        if length <= FEW or (found.is_plain and not touches_traced(body)):
            return None
        return lambda orelse: _with_fallback(Course(0, length, 1, found.at), iterable, body, names, orelse, jumps)
    return lambda orelse: _with_fallback(of_traced(found), found, body, names, orelse, jumps)


def _with_fallback(
    course: Course,
    iterable: Any,
    body: Closure,
    names: Names,
    orelse: Closure | None,
    jumps: bool,
    lists: dict[int, list[Any]] | None = None,
) -> Any:
    """Stage the loop; where that fails and the number of iterations can be had, run it in Python."""
    variables = Variables(body, orelse)
    own = unshared(variables, names)
    lists = growing_lists(variables, names) if lists is None else lists
    before = variables.snapshot()

    def staged() -> Any:
        with walking(iterable):
            return stage_for(course, body, names, orelse, jumps, 0, own, lists)

    try:
        return buffered(variables, lists, staged, data_defined=False)
    except Exception as e:
        variables.restore(before)
        if not _may_run(e):
            raise
        known = _known_range(iterable)
        if isinstance(e, DataDefinedError) and course.is_endless:
            return buffered(variables, lists, staged)
        if isinstance(e, DataDefinedError) and (known is None or course.count is not None or len(known) <= FEW):
            return buffered(variables, lists, staged)
        if known is not None and course.count is None and not course.is_endless and lists:
            # as many rows as turns: what a list grows by needs a known number
            by_number = of_range(known) if type(known) is range else Course(0, len(known), 1, known.at)
            if len(known) > FEW:
                return _with_fallback(by_number, known, body, names, orelse, jumps, lists)
        if known is None or MOST < len(known) < ENDLESS:
            raise
        decline_loop(body, e)
        first = e
    try:
        return operators.plain_for(iter(known), body, names, orelse)
    except DeclinedError as e:
        if course.is_endless or (lists and not isinstance(first, DeclinedError)):
            raise first from None  # in Python the list cannot grow at all: why it is not staged says more
        raise e
    except (ControlFlowError, ConcretizationError):
        if course.is_endless:  # nothing but data end it
            raise first from None
        raise


def _may_run(e: Exception) -> bool:
    """Whether a loop that failed so, staged, may do in Python: there it raises where and when the program does."""
    if isinstance(e, StagerError):
        return isinstance(e, ControlFlowError | ConcretizationError | MutationError)
    return hasattr(e, LEFT)


@contextlib.contextmanager
def walking(iterable: Any) -> Iterator[None]:
    """Context: a staged loop runs over these elements."""
    s = current()
    found = list(listed_in(iterable)) if s is not None else []
    if s is not None:
        s.walked += found
    try:
        yield
    finally:
        if s is not None and found:
            del s.walked[-len(found) :]


def decline_loop(body: Closure, why: Exception) -> None:
    """Notes for `explain` why a loop is not staged."""
    s = current()
    if s is not None:
        s.decline(body.__code__, why)


def _known_range(iterable: Any) -> Any:
    """The iterable with a known length: Python int arguments are specialised for it. None where there is none."""
    if not isinstance(iterable, Indexed):
        return iterable
    try:
        if not isinstance(iterable, TracedRange):
            len(iterable)
            return iterable
        return range(iterable.start.__index__(), iterable.stop.__index__(), iterable.step)
    except (ConcretizationError, TypeError):
        return None


_INERT = (
    type,
    FunctionType,
    str,
    bytes,
    int,
    float,
    bool,
    complex,
    type(None),
    type(np),
    np.dtype,
    np.ufunc,
    np.generic,
)


def touches_traced(body: Closure, depth: int = 3) -> bool:
    """Whether a loop body can reach traced arrays: through its variables, or globals that are not plain constants."""
    values = Variables(body).snapshot().values()
    return any(_may_hold(v, depth) for v in values if v is not UNBOUND) or _reads_arrays(
        body.__code__, body.__globals__
    )


def _may_hold(x: Any, depth: int) -> bool:
    """Whether a value is, or may lead to, a traced array."""
    if isinstance(x, list | tuple | set | dict):
        return not depth or any(_may_hold(v, depth - 1) for v in (x.values() if isinstance(x, dict) else x))
    if type(x) is FunctionType:
        return depth > 0 and x.__closure__ is not None and touches_traced(x, depth - 1)
    return not isinstance(x, _INERT)


def _reads_arrays(code: Any, namespace: dict[str, Any]) -> bool:
    for name in code.co_names:
        value = namespace.get(name)
        if value is not None and not isinstance(value, _INERT) and not callable(value):
            return True
    return any(_reads_arrays(c, namespace) for c in code.co_consts if type(c) is type(code))


# -- for --------------------------------------------------------------------------------------------------------------


def stage_for(course: Course, body: Closure, names: Names, orelse: Closure | None, jumps: bool, ahead: int = 0,
              fresh: frozenset[int] = frozenset(), lists: dict[int, list[Any]] = NO_LISTS) -> Any:  # fmt: skip
    """Stage a `for` statement; its signal. `lists`: those that only its variables can reach, by id."""
    variables = Variables(body, orelse)
    fresh = fresh or unshared(variables, names)
    before = variables.snapshot()

    def attempt(names: Names) -> Any:
        if jumps:
            return WhileNode(variables, names, None, body, course, True, None, fresh).stage()
        growth, entered = Growth(variables, lists, course), variables.snapshot()
        while True:
            try:
                return _plain_for_node(variables, growth.others(names), body, course, fresh, growth)
            except GrowsError as e:
                variables.restore(entered)
                if not growth.takes(e):
                    need_buffer(e.items)
                    raise

    try:
        signal = with_places(variables, names, attempt)
    except (UnsteadyError, OnceError, NameError) as e:  # NameError: a variable that the first iteration makes
        variables.restore(before)
        if ahead >= 3 or course.count == 0 or (course.count is None and orelse is not None):
            raise
        first = e.with_traceback(None)  # it would hold the frames that hold it
    else:
        return after_loop(signal, orelse, names)
    if course.count is not None or course.is_endless:
        return _one_ahead(course, body, names, orelse, jumps, ahead, lists)
    try:
        start = as_bool(course.goes_on(course.lower))
        return stage_branches(start, (None, lambda: _one_ahead(course, body, names, None, jumps, ahead)), names, [body])
    except UnsteadyError:
        raise first from None  # an iteration ahead did not help: the first reason is the one to read


def _one_ahead(course: Course, body: Closure, names: Names, orelse: Closure | None, jumps: bool, ahead: int,
               lists: dict[int, list[Any]] = NO_LISTS) -> Any:  # fmt: skip
    """The first iteration outside the loop: it gives the variables the kind they keep."""
    variables = Variables(body)
    older = _cells_of(variables)
    # else this stands in a branch, where nothing has happened yet
    at_once = course.count is not None or course.is_endless
    with partly(lists, at_once):
        signal, lists = unchanged(lists, lambda: ended(body(course.at(course.lower))))
    fresh = frozenset(_cells_of(variables) - older)
    rest = course.rest()

    def go_on() -> Any:
        if rest.count == 0:
            return None if orelse is None else orelse()
        variables = Variables(body, orelse)
        found = {**lists, **growing_lists(variables, names)}
        try:
            with partly(found, at_once):
                return buffered(
                    variables, found, lambda: stage_for(rest, body, names, orelse, jumps, ahead + 1, fresh, found)
                )
        except (ControlFlowError, ConcretizationError) as e:
            # what the iterations ahead wrote stays written: the others follow them in Python
            if not rest.is_endless and (rest.count is None or rest.count > MOST):
                raise
            decline_loop(body, e)
        return operators.plain_for(rest.items(), body, names, orelse)

    if type(signal) is Signal:
        return after_iteration(signal, go_on, names, [body])
    if signal is None:
        return go_on()
    return None if signal is BREAK else signal


def _cells_of(variables: Variables) -> set[int]:
    """The ids of the cells that the variables' arrays stand on."""
    values = [v for v in variables.snapshot().values() if v is not UNBOUND]
    return {id(x.cell) for v in values for x in flatten(v)[0] if type(x) is Array}


def _plain_for_node(variables: Variables, names: Names, body: Closure, course: Course, fresh: frozenset[int],
                    growth: Growth) -> None:  # fmt: skip
    from stager.ops.control import for_op

    spec = Spec(variables, names, fresh, course.count, course.turns)
    spec.declared += counts()  # a count is never the number that it begins with
    start, rooms = variables.snapshot(), rooms_taken()
    bounds, settled = course.bounds(), settled_of(body)
    settled.begin(spec)
    for _ in range(ATTEMPTS):
        variables.restore(start)
        take_rooms(rooms)
        region = UserRegion("body", Captures(), spec.declared)
        with running(course), inside(region), checkpointing(None), tracing(settled):
            i = region.input(I64)
            region.bounds[0] = bounds
            values = spec.inputs(region)
            region.declare()
            growth.enter(region)
            signal = settle(body(course.at(handle(i, True))))
            growth.leave(region, i)
            if signal is not None and signal is not CONTINUE and codes_of(signal) - {FELL, CONTINUED}:
                raise OnceError
            if retry(spec, [region]):
                continue
            settled.end(spec)
            merges = Merges([region])
            late = spec.late(merges)
            written = list(region.written())
            rows = [region.input(t) for t in growth.types()]
            outputs = growth.outputs(rows, course.turn(handle(i, True)))
            outputs += [*spec.outputs(), *merges.counts(0)]
            outputs += [o for n, m in late for o in m.outputs(variables.get(n))]
            spec.mark_shared(late, region, written)
            growth.settle(spec.carries, {n: variables.get(n) for n in [*[c.name for c in spec.carries], *dict(late)]})
            values += [region.input(t) for t in late_types(merges, late)]  # only hold the place
            carried = [*spec.declared, *[c for c in written if c not in spec.declared]]
            outputs += [c.read() for c in carried]
            held = held_over_turns(spec.carries)
            moved = {c: total(step_of(region, c), course, i) for c in counts() if c in carried}
            region.graph.outputs = [region.local(o) for o in outputs]
            region.close()
        begun = {c: c.read() for c in moved}
        graphs, cell_raws, captured = close_regions([region], [[i, *rows, *values]], carried)
        operands = [*growth.starts(), *spec.starts(), *zeros(merges, late)]
        operands += [*[c.read() for c in spec.declared], *cell_raws]
        ends = [as_raw(b, i64) for b in (course.lower, course.upper)]
        params = {"step": course.step, "n_carry": len(operands), **loop_params()}
        results = iter(bind(for_op, *ends, *operands, *captured, regions=graphs, **params))
        growth.rebuild(results)
        assign(spec, merges, late, carried, results, variables, bool(course.count) or course.ran)
        hold_left(spec.carries, held)
        for cell, by in moved.items():
            if by is not None:
                cell.write(moved_by(begun[cell], by))
        growth.extend()
        return
    raise ControlFlowError(describe("the types of what a traced loop carries do not settle"))


# -- while, and for with break or return ------------------------------------------------------------------------------


def stage_while(
    test: Closure,
    body: Closure,
    names: Names,
    orelse: Closure | None,
    jumps: bool,
    signal: Any,
    ahead_by: int = 0,
    fresh: frozenset[int] = frozenset(),
    turns: Dim | None = None,
    entry: Any = None,
) -> Any:
    """Stage a `while` statement, of which an iteration may have run already with a traced signal; its signal.

    `turns`: how many there are at most, where that is known. `entry`: what its test said at first, likewise.
    """
    variables = Variables(test, body, orelse)
    fresh = fresh or unshared(variables, names)
    before = variables.snapshot()

    def attempt(names: Names) -> Any:
        entered = variables.snapshot()
        try:
            return WhileNode(variables, names, test, body, None, jumps, signal, fresh, turns, entry).stage()
        except TestBindsError:
            if orelse is not None:
                what = "the test of a traced while loop with an else clause assigns a variable"
                raise ControlFlowError(describe(what, remedy="assign it in the body")) from None
        variables.restore(entered)

        def turn() -> Any:  # begins with the test
            return stage_branches(as_bool(operators.tested(test())), (lambda: BREAK, body), names, [test, body])

        turn.__dict__["body"] = body  # by which the loop is known again
        return WhileNode(variables, names, None, turn, None, True, signal, fresh, turns).stage()

    try:
        return after_loop(with_places(variables, names, attempt), orelse, names)
    except EmptyListError:  # while it is learnt what the list holds: the first time nothing is there to run it for
        if signal is not None or not learning():
            raise
        variables.restore(before)
        return None
    except (UnsteadyError, OnceError) as e:
        variables.restore(before)
        if isinstance(e, UnboundedError) and turns is None:
            found = turns_of(variables, test, body, names, jumps, signal)
            if found is None:
                raise
            return stage_while(test, body, names, orelse, jumps, signal, ahead_by, fresh, dim_of(found), entry)
        if signal is not None or ahead_by >= 3:
            raise
        first_error = e.with_traceback(None)
        if orelse is not None:
            what = "a traced while loop with an else clause changes the kind of a variable"
            remedy = "give every variable its final shape and dtype before the loop"
            raise ControlFlowError(describe(what, remedy=remedy)) from None

    uncounted = turns if turns == UNKNOWN else None  # what counts the turns is not counted itself

    def ahead() -> Any:  # one iteration ahead, under the test
        older = _cells_of(variables)
        first = ended(body())
        fresh = frozenset(_cells_of(variables) - older)
        if type(first) is Signal:
            return stage_while(test, body, names, None, jumps, first, ahead_by + 1, fresh, uncounted)
        if first is None:
            return stage_while(test, body, names, None, jumps, None, ahead_by + 1, fresh, uncounted)
        return None if first is BREAK else first

    try:
        return stage_branches(as_bool(test()), (None, ahead), names, [test, body])
    except UnsteadyError:
        raise first_error from None


def turns_of(
    variables: Variables, test: Closure, body: Closure, names: Names, jumps: bool, signal: Any
) -> Any:
    """How many turns a `while` takes, computed in front of it by what decides about them alone.

    None where what grows in it decides.
    """
    region = UserRegion("counted", Captures())
    variables.mark(region, mutable_ids(variables.snapshot()))
    before = variables.snapshot()
    try:
        with inside(region):
            counting = Counting(body)
            stage_while(test, counting, names, None, jumps, signal, turns=UNKNOWN)
            region.graph.outputs = [region.local(counting.turns.raw())]
            region.close()
        (graph,), _, captured = close_regions([region], [()], ())
    finally:
        discard_overlays(region)
        variables.restore(before)
    part = part_for(graph, captured, [0])
    return None if part is None else replay(part.graph, part.captured)[0]


def after_loop(signal: Any, orelse: Closure | None, names: Names) -> Any:
    """How the loop ended, told to the statement after it: `else` runs when it was not left by break or return."""
    if signal is None or signal is CONTINUE:
        return None if orelse is None else orelse()
    if signal is BREAK:
        return None
    if type(signal) is Return:
        return signal
    broke = signal.without(FELL)
    if type(broke) is Signal:  # break or return
        broke = Signal(wrapped_where(broke.code == RETURNED, RETURNED, FELL), broke.value, frozenset((FELL, RETURNED)))
    elif broke is BREAK:
        broke = None
    if FELL not in signal.can:
        return broke
    if orelse is not None:
        return stage_branches(as_bool(signal.code == FELL), (lambda: broke, orelse), names, [orelse])
    if broke is None:
        return None
    return Signal(wrapped_where(signal.code == RETURNED, RETURNED, FELL), signal.value, frozenset((FELL, RETURNED)))
