"""The node of a `while`, or of a `for` with jumps, in the making; and what it shares with the node of a plain `for`.

What a loop carries is found by tracing its regions until the types settle (`carries.py`); then the node is bound, and
its results are assigned to the variables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager import cells
from stager.array import Array, wrap
from stager.capture.branches import (
    CONTINUED,
    FELL,
    I64,
    Signal,
    as_bool,
    codes_of,
    settle,
    static_signal,
    value_of,
    wrapped_where,
)
from stager.capture.carries import Spec
from stager.capture.counts import (
    counts,
    has_room,
    held_over_turns,
    hold_left,
    moved_by,
    rooms_taken,
    running,
    take_rooms,
)
from stager.capture.courses import Course
from stager.capture.extents import Merges
from stager.capture.merged import Merged
from stager.capture.operators import tested
from stager.capture.session import UNBOUND
from stager.capture.settled import settled_of, tracing
from stager.capture.variables import Names, Variables
from stager.cells import Cell
from stager.committed import commit_carried
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import bind
from stager.ir.dims import Dim
from stager.ir.dtypes import b1, i64
from stager.ir.types import Type
from stager.ops.checkpoints import checkpointing, loop_params
from stager.ops.families import zeros_of
from stager.ops.regions import Captures, dim_value
from stager.staged import UserRegion, as_raw, close_regions, handle, inside

Closure = Callable[..., Any]

BOOL = Type(b1, ())
ATTEMPTS = 8  # traces of one body until the types of what it carries are settled


class OnceError(ControlFlowError):
    """The body always ends the loop."""

    def __init__(self) -> None:
        super().__init__(describe("a traced loop whose body always ends it", remedy="write it as an if"))


def retry(spec: Spec, regions: Sequence[UserRegion]) -> bool:
    """Whether the trace showed something that the regions have to be traced again with. Drops what it wrote then."""
    written = dict.fromkeys(c for r in regions for c in r.written())
    again = spec.settle_bound(regions[-1]) or spec.settle_types(regions[-1]) or spec.settle_writes(regions)
    conflicts = dict.fromkeys(c for r in regions for c in r.conflicts(list(written)))
    if conflicts:
        spec.declared += [c for c in conflicts if c not in spec.declared]
        again = True
    if again:
        for r in regions:
            cells.discard_overlays(r)
    return again


Late = Sequence[tuple[str, Merged]]


def late_types(merges: Merges, late: Late) -> list[Type]:
    """Types of what the node carries for variables that the loop makes."""
    return [*merges.types(), *[t for _, m in late for t in m.types()]]


def zeros(merges: Merges, late: Late) -> list[Any]:
    return [zeros_of(t) for t in late_types(merges, late)]


def assign(
    spec: Spec, merges: Merges, late: Late, carried: Sequence[Cell], results: Any, variables: Variables, ran: Any
) -> None:
    spec.assign(results)
    merges.settle(results)
    for n, m in late:
        variables.assign(n, m.rebuild(results))
        if not spec.count:
            variables.set_on_some_paths(n)
    for cell in carried:
        cell.take(next(results))
        commit_carried(cell)
    spec.give_back(spec.count)
    follow(spec, [m for _, m in late], ran)


def follow(spec: Spec, merged: Sequence[Merged], ran: Any) -> None:
    """Let what the loop has set stand for what it may be. ran: True where it took a turn, else a function that gives
    whether it did; None where nothing tells."""
    origins = {k: cell for c in spec.carries for k, cell in c.origins().items()}
    for c in spec.carries:
        c.follow(origins, ran is not True)
    for m in merged:
        m.follow()
    for cell in spec.relied:
        for reach in cell.reaches:
            reach.check()
    if ran is not True:
        firsts = [id(cell) for c in spec.carries for cell in c.first_cells() if cell is not None]
        alone = {k for k in spec.fresh if firsts.count(k) < 2}
        for c in spec.carries:
            c.reach(ran, alone)


class Counting:
    """A loop's body that counts its turns. The loop carries the count from its first trace on."""

    def __init__(self, body: Closure) -> None:
        self.body = body
        self.__closure__, self.__code__, self.__globals__ = body.__closure__, body.__code__, body.__globals__
        self.turns: Any = wrap(dim_value(0), weak=True)

    def __call__(self) -> Any:
        signal = settle(self.body())
        self.turns.write(moved_by(self.turns.raw(), 1))
        return signal


class TestBindsError(Exception):
    """The test assigns variables: it has to run in the body, where they can be carried."""


class WhileNode:
    """A `while` node in the making.

    It carries, as far as there is a need: the index (a `for` with jumps), the code of the last iteration (jumps), then
    the variables, what is returned, variables that the loop makes, and cells.
    """

    def __init__(self, variables: Variables, names: Names, test: Closure | None, body: Closure, course: Course | None,
                 jumps: bool, signal: Any, fresh: frozenset[int] = frozenset(),
                 turns: Dim | None = None, entry: Any = None) -> None:  # fmt: skip
        """Of a loop without a course, `turns`: how many there are at most, `entry`: what its test said at first."""
        self.variables = variables
        self.spec = Spec(variables, names, fresh, turns=turns if course is None else course.turns)
        self.spec.declared += counts()  # a count is never the number that it begins with
        if isinstance(body, Counting):
            self.spec.declared.append(body.turns.cell)
        self.test = test
        self.body = body
        self.course = course
        self.entry = entry
        self.coded = jumps or signal is not None
        self.signal = signal
        self.never_falls = self.endless = False
        self.bounds = None if course is None else course.bounds()
        self.settled = settled_of(body)
        self.settled.begin(self.spec)

    def stage(self) -> Any:
        """Trace, bind, assign; the signal of how the loop ended: FELL when its test failed, BROKE, or RETURNED."""
        start, rooms = self.variables.snapshot(), rooms_taken()
        for _ in range(ATTEMPTS):
            self.variables.restore(start)
            take_rooms(rooms)
            done, signal = self._attempt()
            if done:
                return signal
        raise ControlFlowError(describe("the types of what a traced loop carries do not settle"))

    def _enter(self, region: UserRegion) -> tuple[list[Any], Any, Any]:
        """Own inputs of a region, and its index and code."""
        own = [
            region.input(t)
            for t, there in ((I64, self.course is not None), (I64, self.coded))
            if there
        ]
        it = iter(own)
        index = handle(next(it), True) if self.course is not None else None
        code = handle(next(it), True) if self.coded else None
        own += self.spec.inputs(region)
        region.declare()
        return own, index, code

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
        start = variables.snapshot()
        with inside(cond):
            own_cond = self._condition(cond)
        variables.restore(start)
        with running(course), inside(main), checkpointing(None), tracing(self.settled):
            own, index, _ = self._enter(main)
            if self.bounds is not None:
                main.bounds[0] = self.bounds
            ended = settle(self.body() if course is None else self.body(course.at(index)))
            codes = codes_of(ended)
            if not codes & {FELL, CONTINUED}:
                raise OnceError
            if retry(spec, [cond, main]):
                variables.restore(start)
                return False, None
            self.settled.end(spec)
            if self.endless:
                raise ControlFlowError(describe("a traced loop that never ends"))
            merges, ends = Merges([main]), Merges([main, None])
            late = spec.late(merges)
            values = [value_of(ended), value_of(self.signal)]
            returned = None if all(v is UNBOUND for v in values) else Merged("the returned value", values, ends)
            carried = [*spec.declared, *[c for c in main.written() if c not in spec.declared]]
            outputs = []
            if course is not None:
                outputs.append(as_raw(index + course.step, i64))
            if self.coded:
                outputs.append(as_raw(ended.code if type(ended) is Signal else next(iter(codes)), i64))
            outputs += spec.outputs()
            if returned is not None:
                outputs += [*ends.counts(0), *returned.outputs(value_of(ended))]
            outputs += merges.counts(0)
            outputs += [o for n, m in late for o in m.outputs(variables.get(n))]
            spec.mark_shared(late, main, list(main.written()))
            # nobody reads what is returned, and what the loop makes, while it goes on: their inputs only hold the place
            places = [*ends.types(), *(returned.types() if returned is not None else ()), *late_types(merges, late)]
            own += [main.input(t) for t in places]
            own_cond += [cond.input(t) for t in places]
            outputs += [c.read() for c in carried]
            held = held_over_turns(spec.carries)
            main.graph.outputs = [main.local(o) for o in outputs]
            main.close()
        graphs, cell_raws, captured = close_regions([cond, main], [own_cond, own], carried)
        operands = self._starts()
        if returned is not None:
            operands += [*ends.counts(1), *returned.outputs(value_of(self.signal))]
        operands += [*zeros(merges, late), *[c.read() for c in spec.declared], *cell_raws]
        params = {"n_carry": len(operands), **loop_params()}
        results = iter(bind(while_op, *operands, *captured, regions=graphs, **params))
        if course is not None:
            next(results)
        code_after = handle(next(results), False) if self.coded else None
        spec.assign(results)
        ends.settle(results)
        hold_left(spec.carries, held)
        value = returned.rebuild(results) if returned is not None else UNBOUND
        merges.settle(results)
        for n, m in late:
            variables.assign(n, m.rebuild(results))
            if course is None or not course.count:
                variables.set_on_some_paths(n)
        for cell in carried:
            cell.take(next(results))
            commit_carried(cell)
        follow(spec, [*[m for _, m in late], *([] if returned is None else [returned])], self._ran())
        return True, self._signal(codes, code_after, value)

    def _condition(self, region: UserRegion) -> list[Any]:
        own, index, code = self._enter(region)
        entered = self.variables.snapshot()
        going = None if code is None else code <= CONTINUED
        if self.course is not None:
            asked: Any = self.course.goes_on(index)
        else:
            asked = True if self.test is None else tested(self.test())
        if any(self.variables.get(n) is not v for n, v in entered.items()):
            raise TestBindsError
        if region.written():
            raise ControlFlowError(describe("the test of a traced while loop writes into an array",
                                            remedy="compute the test in the body, into a variable"))  # fmt: skip
        self.never_falls = not isinstance(asked, Array) and bool(asked)
        if isinstance(asked, Array):
            going = as_bool(asked) if going is None else going & as_bool(asked)
        elif not asked:
            raise ControlFlowError(describe("the test of a traced loop turns into a constant that is false"))
        fits = has_room()
        if fits is not None:
            going = as_bool(fits) if going is None else going & as_bool(fits)
        self.endless = going is None  # as far as it is known what the loop carries
        region.graph.outputs = [region.local(as_raw(True if going is None else going, b1))]
        region.close()
        return own

    def _starts(self) -> list[Any]:
        out = [] if self.course is None else [as_raw(self.course.lower, i64)]
        if self.coded:
            s = self.signal
            out.append(as_raw(FELL if s is None else s.code if type(s) is Signal else next(iter(codes_of(s))), i64))
        return [*out, *self.spec.starts()]

    def _ran(self) -> Any:
        """What tells whether the loop took a turn; True where it does, None where nothing tells."""
        if self.signal is not None:
            return None
        if self.course is not None:
            return self.course.is_endless or bool(self.course.count) or self.course.ran
        return (lambda: as_bool(self.entry)) if isinstance(self.entry, Array) else self.entry

    def _signal(self, codes: frozenset[int], code_after: Any, value: Any) -> Any:
        if code_after is None:
            return None
        can = (codes | codes_of(self.signal)) - {CONTINUED}
        if self.never_falls:
            can -= {FELL}
        if len(can) == 1:
            return static_signal(can, value)
        return Signal(wrapped_where(code_after == CONTINUED, FELL, code_after), value, can)
