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

from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import numpy as np

from stager import cells
from stager.array import Array
from stager.capture import operators
from stager.capture.branches import (
    CONTINUED,
    FELL,
    I64,
    RETURNED,
    Merged,
    Signal,
    Variables,
    after_iteration,
    as_bool,
    codes_of,
    settle,
    stage_branches,
    static_signal,
    unshared,
    value_of,
    with_places,
    wrapped_where,
)
from stager.capture.carries import Spec, UnsteadyError
from stager.capture.iterables import Indexed, TracedRange, indexed
from stager.capture.operators import BREAK, CONTINUE, Return, tested
from stager.capture.session import UNBOUND, Session, current
from stager.cells import Cell
from stager.errors import ConcretizationError, ControlFlowError, describe
from stager.interpreters.stack import bind
from stager.ir.dtypes import b1, i64
from stager.ir.types import Type
from stager.ops.checkpoints import checkpointing, loop_params
from stager.ops.families import zeros_of
from stager.ops.regions import Captures
from stager.runtime.structure import flatten
from stager.staged import UserRegion, as_raw, close_regions, handle, inside

Closure = Callable[..., Any]
Names = tuple[str, ...]

BOOL = Type(b1, ())
FEW = 4  # a loop of so few iterations is unrolled: it fuses with its neighbours
MOST = 10_000  # a loop that cannot be staged is unrolled up to here
ATTEMPTS = 8  # traces of one body until the types of what it carries are settled


# -- deciding ---------------------------------------------------------------------------------------------------------


def plan_for(
    s: Session, iterable: Any, body: Closure, names: Names, jumps: bool
) -> Callable[[Closure | None], Any] | None:
    """How to run a `for` statement, or None to run it as Python does."""
    if type(iterable) is range:
        if len(iterable) <= FEW or not touches_traced(body):
            return None
        return lambda orelse: _with_fallback(_of_range(iterable), iterable, body, names, orelse, jumps)
    found = indexed(iterable)
    if found is None:
        return None
    length = found.length
    if type(length) is int:
        if length <= FEW:
            return None
        return lambda orelse: _with_fallback(Course(0, length, 1, found.at), iterable, body, names, orelse, jumps)
    return lambda orelse: _with_fallback(_of_traced(found), found, body, names, orelse, jumps)


def _with_fallback(
    course: Course, iterable: Any, body: Closure, names: Names, orelse: Closure | None, jumps: bool
) -> Any:
    """Stage the loop; where that fails and the number of iterations can be had, run it in Python."""
    variables = Variables(body, orelse)
    own = unshared(variables, names)
    before = variables.snapshot()
    try:
        return stage_for(course, body, names, orelse, jumps, 0, own)
    except (ControlFlowError, ConcretizationError) as e:
        variables.restore(before)
        known = _known_range(iterable)
        if known is None or len(known) > MOST:
            raise
        decline_loop(body, e)
    return operators.plain_for(iter(known), body, names, orelse)


def decline_loop(body: Closure, why: Exception) -> None:
    """Notes for `explain` why a loop is not staged."""
    s = current()
    if s is not None:
        s.declined.append((body.__code__.co_filename, body.__code__.co_firstlineno, str(why).partition("\n")[0]))


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


# -- where a loop goes ------------------------------------------------------------------------------------------------


class Course:
    """The values of the loop index, `range(lower, upper, step)`, and the element at each."""

    __slots__ = ("at", "lower", "step", "upper")

    def __init__(self, lower: Any, upper: Any, step: int, at: Callable[[Any], Any]) -> None:
        self.lower = lower
        self.upper = upper
        self.step = step
        self.at = at

    @property
    def count(self) -> int | None:
        """The number of iterations where it is known."""
        if type(self.lower) is int and type(self.upper) is int:
            return len(range(self.lower, self.upper, self.step))
        return None

    def goes_on(self, i: Any) -> Any:
        return i < self.upper if self.step > 0 else i > self.upper

    def bounds(self) -> tuple[Any, Any]:
        """The least and the greatest index of an iteration that runs, as dims; None where unknown."""
        ends = [_as_dim(x) for x in (self.lower, self.upper)]
        if self.step < 0:
            return (None if ends[1] is None else ends[1] + 1), ends[0]
        return ends[0], (None if ends[1] is None else ends[1] - 1)

    def items(self) -> Iterator[Any]:
        """The elements of a course whose count is known."""
        return map(self.at, range(self.lower, self.upper, self.step))

    def rest(self) -> Course:
        return Course(self.lower + self.step, self.upper, self.step, self.at)


def _as_dim(x: Any) -> Any:
    if not isinstance(x, Array):
        return x
    from stager.symbols import dim_of

    try:
        return dim_of(x)
    except ConcretizationError:
        return None


def _of_range(r: range) -> Course:
    return Course(r.start, r.stop, r.step, lambda i: i)


def _of_traced(x: Indexed) -> Course:
    if type(x) is TracedRange:
        return Course(x.start, x.stop, x.step, lambda i: i)
    return Course(0, x.length, 1, x.at)


class OnceError(ControlFlowError):
    """The body always ends the loop."""

    def __init__(self) -> None:
        super().__init__(describe("a traced loop whose body always ends it", remedy="write it as an if"))


# -- for --------------------------------------------------------------------------------------------------------------


def stage_for(course: Course, body: Closure, names: Names, orelse: Closure | None, jumps: bool, ahead: int = 0,
              fresh: frozenset[int] = frozenset()) -> Any:  # fmt: skip
    """Stage a `for` statement; its signal."""
    variables = Variables(body, orelse)
    fresh = fresh or unshared(variables, names)
    before = variables.snapshot()

    def attempt(names: Names) -> Any:
        if jumps:
            return _WhileNode(variables, names, None, body, course, True, None, fresh).stage()
        return _plain_for_node(variables, names, body, course, fresh)

    try:
        signal = with_places(variables, names, attempt)
    except (UnsteadyError, OnceError, NameError) as e:  # NameError: a variable that the first iteration makes
        variables.restore(before)
        if ahead >= 3 or course.count == 0 or (course.count is None and orelse is not None):
            raise
        first = e
    else:
        return _after_loop(signal, orelse, names)
    if course.count is not None:
        return _one_ahead(course, body, names, orelse, jumps, ahead)
    try:
        start = as_bool(course.goes_on(course.lower))
        return stage_branches(start, (None, lambda: _one_ahead(course, body, names, None, jumps, ahead)), names, [body])
    except UnsteadyError:
        raise first from None  # an iteration ahead did not help: the first reason is the one to read


def _one_ahead(course: Course, body: Closure, names: Names, orelse: Closure | None, jumps: bool, ahead: int) -> Any:
    """The first iteration outside the loop: it gives the variables the kind they keep."""
    variables = Variables(body)
    older = _cells_of(variables)
    signal = settle(body(course.at(course.lower)))
    fresh = frozenset(_cells_of(variables) - older)
    rest = course.rest()

    def go_on() -> Any:
        if rest.count == 0:
            return None if orelse is None else orelse()
        try:
            return stage_for(rest, body, names, orelse, jumps, ahead + 1, fresh)
        except (ControlFlowError, ConcretizationError) as e:
            # what the iterations ahead wrote stays written: the others follow them in Python
            if rest.count is None or rest.count > MOST:
                raise
            decline_loop(body, e)
        return operators.plain_for(rest.items(), body, names, orelse)

    if type(signal) is Signal:
        return after_iteration(signal, go_on, names, [body])
    if signal is None or signal is CONTINUE:
        return go_on()
    return None if signal is BREAK else signal


def _cells_of(variables: Variables) -> set[int]:
    """The ids of the cells that the variables' arrays stand on."""
    values = [v for v in variables.snapshot().values() if v is not UNBOUND]
    return {id(x.cell) for v in values for x in flatten(v)[0] if type(x) is Array}


def _plain_for_node(variables: Variables, names: Names, body: Closure, course: Course, fresh: frozenset[int]) -> None:
    from stager.ops.control import for_op

    spec = Spec(variables, names, fresh, course.count)
    start = variables.snapshot()
    bounds = course.bounds()
    for _ in range(ATTEMPTS):
        variables.restore(start)
        region = UserRegion("body", Captures(), spec.declared)
        with inside(region), checkpointing(None):
            i = region.input(I64)
            region.bounds[0] = bounds
            values = spec.inputs(region)
            region.declare()
            signal = settle(body(course.at(handle(i, True))))
            if signal is not None and signal is not CONTINUE and codes_of(signal) - {FELL, CONTINUED}:
                raise OnceError
            if _retry(spec, [region]):
                continue
            late = spec.late()
            written = list(region.written())
            outputs = [o for c in spec.carries for o in c.outputs(variables.get(c.name))]
            outputs += [o for n, m in late for o in m.outputs(variables.get(n))]
            values += [region.input(t) for _, m in late for t in m.types()]  # only hold the place
            carried = [*spec.declared, *[c for c in written if c not in spec.declared]]
            outputs += [c.read() for c in carried]
            region.graph.outputs = [region.local(o) for o in outputs]
            region.close()
        graphs, cell_raws, captured = close_regions([region], [[i, *values]], carried)
        operands = [*spec.starts(), *_zeros(late), *[c.read() for c in spec.declared], *cell_raws]
        ends = [as_raw(b, i64) for b in (course.lower, course.upper)]
        params = {"step": course.step, "n_carry": len(operands), **loop_params()}
        results = bind(for_op, *ends, *operands, *captured, regions=graphs, **params)
        _assign(spec, late, carried, iter(results), variables)
        return
    raise ControlFlowError(describe("the types of what a traced loop carries do not settle"))


def _retry(spec: Spec, regions: Sequence[UserRegion]) -> bool:
    """Whether the trace showed something that the regions have to be traced again with. Drops what it wrote then."""
    written = dict.fromkeys(c for r in regions for c in r.written())
    again = spec.settle_types() or spec.settle_writes(regions)
    conflicts = dict.fromkeys(c for r in regions for c in r.conflicts(list(written)))
    if conflicts:
        spec.declared += [c for c in conflicts if c not in spec.declared]
        again = True
    if again:
        for r in regions:
            cells.discard_overlays(r)
    return again


Late = Sequence[tuple[str, Merged]]


def _zeros(late: Late) -> list[Any]:
    return [zeros_of(t) for _, m in late for t in m.types()]


def _assign(spec: Spec, late: Late, carried: Sequence[Cell], results: Any, variables: Variables) -> None:
    for c in spec.carries:
        variables.assign(c.name, c.leave(results))
    for n, m in late:
        variables.assign(n, m.rebuild(results))
    for cell in carried:
        cell.write(next(results))
    spec.give_back(spec.count)
    _follow(spec, [m for _, m in late], not spec.count)


def _follow(spec: Spec, merged: Sequence[Merged], may_not_run: bool) -> None:
    origins = {k: cell for c in spec.carries for k, cell in c.origins().items()}
    for c in spec.carries:
        c.follow(origins, may_not_run)
    for m in merged:
        m.follow()


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
) -> Any:
    """Stage a `while` statement, of which an iteration may have run already with a traced signal; its signal."""
    variables = Variables(test, body, orelse)
    fresh = fresh or unshared(variables, names)
    before = variables.snapshot()

    def attempt(names: Names) -> Any:
        return _WhileNode(variables, names, test, body, None, jumps, signal, fresh).stage()

    try:
        return _after_loop(with_places(variables, names, attempt), orelse, names)
    except (UnsteadyError, OnceError):
        variables.restore(before)
        if signal is not None or ahead_by >= 3:
            raise
        if orelse is not None:
            what = "a traced while loop with an else clause changes the kind of a variable"
            remedy = "give every variable its final shape and dtype before the loop"
            raise ControlFlowError(describe(what, remedy=remedy)) from None

    def ahead() -> Any:  # one iteration ahead, under the test
        older = _cells_of(variables)
        first = settle(body())
        fresh = frozenset(_cells_of(variables) - older)
        if type(first) is Signal:
            return stage_while(test, body, names, None, jumps, first, ahead_by + 1, fresh)
        if first is None or first is CONTINUE:
            return stage_while(test, body, names, None, jumps, None, ahead_by + 1, fresh)
        return None if first is BREAK else first

    return stage_branches(as_bool(test()), (None, ahead), names, [test, body])


class _TestBindsError(Exception):
    """The test assigns variables: it has to run behind the body, where they can be carried."""


class _WhileNode:
    """A `while` node in the making.

    It carries, as far as there is a need: the index (a `for` with jumps), the code of the last iteration (jumps), the
    test's value (a test that assigns), then the variables, what is returned, variables that the loop makes, and cells.
    """

    def __init__(self, variables: Variables, names: Names, test: Closure | None, body: Closure, course: Course | None,
                 jumps: bool, signal: Any, fresh: frozenset[int] = frozenset()) -> None:  # fmt: skip
        self.variables = variables
        self.spec = Spec(variables, names, fresh)
        self.test = test
        self.body = body
        self.course = course
        self.coded = jumps or signal is not None
        self.signal = signal
        self.flagged = False
        self.never_falls = False
        self.bounds = None if course is None else course.bounds()

    def stage(self) -> Any:
        """Trace, bind, assign; the signal of how the loop ended: FELL when its test failed, BROKE, or RETURNED."""
        start = self.variables.snapshot()
        for _ in range(ATTEMPTS):
            self.variables.restore(start)
            try:
                done, signal = self._attempt()
            except _TestBindsError:
                if self.coded:
                    raise ControlFlowError(describe("the test of a traced while loop with a jump assigns a variable",
                                                    remedy="assign it in the body")) from None  # fmt: skip
                self.flagged = True
                continue
            if done:
                return signal
        raise ControlFlowError(describe("the types of what a traced loop carries do not settle"))

    def _enter(self, region: UserRegion) -> tuple[list[Any], Any, Any, Any]:
        """Own inputs of a region, and its index, code and flag."""
        own = [
            region.input(t)
            for t, there in ((I64, self.course is not None), (I64, self.coded), (BOOL, self.flagged))
            if there
        ]
        it = iter(own)
        index = handle(next(it), True) if self.course is not None else None
        code = handle(next(it), True) if self.coded else None
        flag = handle(next(it), False) if self.flagged else None
        own += self.spec.inputs(region)
        region.declare()
        return own, index, code, flag

    def _attempt(self) -> tuple[bool, Any]:
        captures = Captures()
        cond, main = UserRegion("cond", captures, self.spec.declared), UserRegion("body", captures, self.spec.declared)
        try:
            return self._trace(cond, main)
        finally:
            cells.discard_overlays(cond)
            cells.discard_overlays(main)

    def _trace(self, cond: UserRegion, main: UserRegion) -> tuple[bool, Any]:
        from stager.ops.control import while_op

        variables, spec, course = self.variables, self.spec, self.course
        flag_before = None
        if self.flagged:
            assert self.test is not None
            flag_before = as_bool(tested(self.test()))
        start = variables.snapshot()
        with inside(cond):
            own_cond = self._condition(cond)
        variables.restore(start)
        with inside(main), checkpointing(None):
            own, index, _, _ = self._enter(main)
            if self.bounds is not None:
                main.bounds[0] = self.bounds
            ended = settle(self.body() if course is None else self.body(course.at(index)))
            codes = codes_of(ended)
            if not codes & {FELL, CONTINUED}:
                raise OnceError
            flag_after = as_bool(tested(self.test())) if self.flagged and self.test is not None else None
            if _retry(spec, [cond, main]):
                variables.restore(start)
                return False, None
            late = spec.late()
            values = [v for v in (value_of(ended), value_of(self.signal)) if v is not UNBOUND]
            returned = Merged("the returned value", values) if values else None
            carried = [*spec.declared, *[c for c in main.written() if c not in spec.declared]]
            outputs = []
            if course is not None:
                outputs.append(as_raw(index + course.step, i64))
            if self.coded:
                outputs.append(as_raw(ended.code if type(ended) is Signal else next(iter(codes)), i64))
            if flag_after is not None:
                outputs.append(as_raw(flag_after, b1))
            outputs += [o for c in spec.carries for o in c.outputs(variables.get(c.name))]
            if returned is not None:
                outputs += returned.outputs(value_of(ended))
            outputs += [o for n, m in late for o in m.outputs(variables.get(n))]
            # nobody reads what is returned, and what the loop makes, while it goes on: their inputs only hold the place
            places = [*(returned.types() if returned is not None else ()), *[t for _, m in late for t in m.types()]]
            own += [main.input(t) for t in places]
            own_cond += [cond.input(t) for t in places]
            outputs += [c.read() for c in carried]
            main.graph.outputs = [main.local(o) for o in outputs]
            main.close()
        graphs, cell_raws, captured = close_regions([cond, main], [own_cond, own], carried)
        operands = self._starts(flag_before)
        if returned is not None:
            operands += returned.outputs(value_of(self.signal))
        operands += [*_zeros(late), *[c.read() for c in spec.declared], *cell_raws]
        params = {"n_carry": len(operands), **loop_params()}
        results = iter(bind(while_op, *operands, *captured, regions=graphs, **params))
        if course is not None:
            next(results)
        code_after = handle(next(results), False) if self.coded else None
        if self.flagged:
            next(results)
        for c in spec.carries:
            variables.assign(c.name, c.leave(results))
        value = returned.rebuild(results) if returned is not None else UNBOUND
        for n, m in late:
            variables.assign(n, m.rebuild(results))
        for cell in carried:
            cell.write(next(results))
        _follow(spec, [*[m for _, m in late], *([] if returned is None else [returned])], True)
        return True, self._signal(codes, code_after, value)

    def _condition(self, region: UserRegion) -> list[Any]:
        own, index, code, flag = self._enter(region)
        entered = self.variables.snapshot()
        going = None if code is None else code <= CONTINUED
        if flag is not None:
            asked: Any = flag
        elif self.course is not None:
            asked = self.course.goes_on(index)
        else:
            asked = True if self.test is None else tested(self.test())
        if any(self.variables.get(n) is not v for n, v in entered.items()):
            raise _TestBindsError
        if region.written():
            raise ControlFlowError(describe("the test of a traced while loop writes into an array",
                                            remedy="compute the test in the body, into a variable"))  # fmt: skip
        self.never_falls = not isinstance(asked, Array) and bool(asked)
        if isinstance(asked, Array):
            going = as_bool(asked) if going is None else going & as_bool(asked)
        elif not asked:
            raise ControlFlowError(describe("the test of a traced loop turns into a constant that is false"))
        if going is None:
            raise ControlFlowError(describe("a traced loop that never ends"))
        region.graph.outputs = [region.local(as_raw(going, b1))]
        region.close()
        return own

    def _starts(self, flag: Any) -> list[Any]:
        out = [] if self.course is None else [as_raw(self.course.lower, i64)]
        if self.coded:
            s = self.signal
            out.append(as_raw(FELL if s is None else s.code if type(s) is Signal else next(iter(codes_of(s))), i64))
        if self.flagged:
            out.append(as_raw(flag, b1))
        return [*out, *self.spec.starts()]

    def _signal(self, codes: frozenset[int], code_after: Any, value: Any) -> Any:
        if code_after is None:
            return None
        can = (codes | codes_of(self.signal)) - {CONTINUED}
        if self.never_falls:
            can -= {FELL}
        if len(can) == 1:
            return static_signal(can, value)
        return Signal(wrapped_where(code_after == CONTINUED, FELL, code_after), value, can)


def _after_loop(signal: Any, orelse: Closure | None, names: Names) -> Any:
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
