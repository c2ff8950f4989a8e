"""Traced `if`: the closures of both sides become branches of one `switch`; what they assign is merged.

A *signal* of traced code says how control leaves a statement: a `Signal` holds a traced code (0 fell through,
1 continue, 2 break, 3 return) and the value to return. `Pending` is an `if` that may signal, held back until what
follows it in its block is known: a side that never falls through then needs no flag, the rest simply becomes part of
the other side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from stager.array import Array, as_array
from stager.capture import operators
from stager.capture.appending import buffered
from stager.capture.counts import counts, marks, moved_by, step_of
from stager.capture.extents import Merges
from stager.capture.growing import growing_lists
from stager.capture.merged import Merged, alike
from stager.capture.operators import BREAK, CONTINUE, Jump, Return
from stager.capture.optional import Maybe, decided
from stager.capture.plans import EmptyListError, learning
from stager.capture.raising import check, needs_region, raise_inside
from stager.capture.session import UNBOUND
from stager.capture.sharing import changeable_in, choose
from stager.capture.variables import Names, Variables, mutable_ids, unshared, with_places
from stager.cells import Cell
from stager.committed import commit_carried
from stager.errors import ConcretizationError, ControlFlowError, describe
from stager.interpreters.stack import bind
from stager.ir.dtypes import i64
from stager.ir.types import Type
from stager.ops.regions import Captures
from stager.staged import (
    UserRegion,
    as_raw,
    close_regions,
    handle,
    inside,
)

Closure = Callable[..., Any]
I64 = Type(i64, ())
FELL, CONTINUED, BROKE, RETURNED = 0, 1, 2, 3


# -- signals ----------------------------------------------------------------------------------------------------------


class Signal:
    """A traced signal. `can` are the codes it may have; `value` is what is returned where the code is RETURNED."""

    __slots__ = ("can", "code", "value")

    def __init__(self, code: Any, value: Any, can: frozenset[int]) -> None:
        self.code = code
        self.value = value
        self.can = can

    def without(self, *codes: int) -> Any:
        """The signal where the code is known to be none of these."""
        can = self.can - set(codes)
        return static_signal(can, self.value) if len(can) == 1 else Signal(self.code, self.value, can)


class Pending:
    """An `if` that may signal, before it is staged."""

    __slots__ = ("names", "orelse", "orelse_falls", "test", "then", "then_falls")

    def __init__(
        self, test: Any, then: Closure, orelse: Closure | None, names: Names, then_falls: bool, orelse_falls: bool
    ) -> None:
        self.test = test
        self.then = then
        self.orelse = orelse
        self.names = names
        self.then_falls = then_falls
        self.orelse_falls = orelse_falls


def static_signal(can: frozenset[int], value: Any) -> Any:
    (code,) = can
    return (None, CONTINUE, BREAK, None)[code] if code != RETURNED else Return(value)


def codes_of(signal: Any) -> frozenset[int]:
    """The codes that a settled signal may have."""
    if type(signal) is Signal:
        return signal.can
    if signal is None:
        return frozenset((FELL,))
    if type(signal) is Return:
        return frozenset((RETURNED,))
    return frozenset((CONTINUED if signal is CONTINUE else BROKE,))


def value_of(signal: Any) -> Any:
    """What a settled signal returns; UNBOUND when it never does."""
    return signal.value if type(signal) is Signal or type(signal) is Return else UNBOUND


def settle(signal: Any) -> Any:
    """A signal with nothing pending: None, a Jump, a Return or a Signal."""
    if type(signal) is Pending:
        return stage_if(signal.test, signal.then, signal.orelse, signal.names)
    return signal


def ended(signal: Any) -> Any:
    """The signal of an iteration: None where the next one follows in any case, whether it fell through or went on."""
    signal = settle(signal)
    return None if codes_of(signal) <= {FELL, CONTINUED} else signal


def then(signal: Any, rest: Closure, names: Names) -> Any:
    """The signal of a statement followed by `rest`."""
    if type(signal) is Pending and not (signal.then_falls and signal.orelse_falls):
        p = signal

        def side(closure: Closure | None, falls: bool) -> Closure:
            def run() -> Any:
                signal = None if closure is None else closure()
                return operators.then(signal, rest, names) if falls else signal

            return run

        closures = [f for f in (p.then, p.orelse, rest) if f is not None]
        return stage_if(
            p.test, side(p.then, p.then_falls), side(p.orelse, p.orelse_falls), tuple({*p.names, *names}), closures
        )
    signal = settle(signal)
    if type(signal) is not Signal:
        return operators.then(signal, rest, names)
    if FELL not in signal.can:
        return signal
    return stage_branches(as_bool(signal.code == FELL), (lambda: signal.without(FELL), rest), names, (rest,))


def after_iteration(signal: Any, rest: Closure, names: Names, closures: Sequence[Closure]) -> Any:
    """An iteration gave a traced signal; `rest` runs the remaining ones and gives theirs."""
    stop = signal.without(FELL, CONTINUED)
    go = as_bool(signal.code <= CONTINUED)
    final = {BREAK: None}.get(stop, stop) if isinstance(stop, Jump) else stop
    if type(final) is Signal:
        left = Signal(wrapped_where(signal.code == RETURNED, RETURNED, FELL), final.value, frozenset((FELL, RETURNED)))
        return stage_branches(go, (lambda: left, rest), names, closures)
    return stage_branches(go, (lambda: final, rest), names, closures)


def leave(signal: Any) -> Any:
    """A signal that leaves a `with`, `try` or `match`."""
    signal = settle(signal)
    if type(signal) is Signal:
        raise ControlFlowError(
            describe(
                "a return, break or continue under a traced condition leaves a try with else or a match by structure",
                remedy="set a variable inside it and return, break or continue after it",
            )
        )
    return signal


def finish(signal: Any) -> Any:
    """The result of the function."""
    signal = settle(signal)
    if signal is None:
        return None
    if type(signal) is Return:
        return signal.value
    if signal.value is None:
        return None
    return decided(Maybe(signal.value, as_bool(signal.code == RETURNED)))


# -- staging ----------------------------------------------------------------------------------------------------------


def as_bool(x: Any) -> Any:
    """A traced test as a bool scalar; NumPy's own error for an array of several elements."""
    x = cast(Any, as_array(x))
    if x.ndim:
        if x.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        x = x.reshape(())
    return x if x.dtype == np.bool_ else x != 0


def wrapped_where(test: Any, a: Any, b: Any) -> Any:
    return np.where(test, a, b)


def stage_if(test: Any, then: Closure, orelse: Closure | None, names: Names, shared: Sequence[Closure] = ()) -> Any:
    """Stage both sides; where that fails and the test has a concrete value, run the side it picks."""
    closures = shared or [f for f in (then, orelse) if f is not None]
    variables = Variables(*closures)
    own, lists = unshared(variables, names), growing_lists(variables, names)
    before = variables.snapshot()
    condition = as_bool(test)
    try:
        return buffered(variables, lists, lambda: stage_branches(condition, (orelse, then), names, closures, own))
    except (ControlFlowError, ConcretizationError):
        variables.restore(before)
        try:
            picked = bool(condition)
        except ConcretizationError:
            picked = None
        if picked is None:
            raise
    return settle(then() if picked else None if orelse is None else orelse())


class Side:
    """One branch, traced."""

    def __init__(
        self, closure: Closure | None, captures: Captures, name: str, variables: Variables, names: Names
    ) -> None:
        self.region = UserRegion(name, captures)
        older = mutable_ids(variables.snapshot())
        variables.mark(self.region, older)
        self.older = frozenset(older)  # ids of the containers that are older than the branch
        self.error: Exception | None = None
        self.signal: Any = None
        own = marks()
        before = [m.log for m in own]
        for m in own:
            m.log = []
        self.logs: list[Any] = []  # what it does with lists and dicts that begin blank
        with inside(self.region):
            try:
                self.signal = None if closure is None else settle(closure())
            except RecursionError:
                text = "a function calls itself under a traced condition, of which both sides are traced, without end"
                raise ControlFlowError(describe(text, remedy="write it as a while loop")) from None
            except Exception as e:
                if getattr(e, "__stager_raise__", None) is not self.region:
                    raise
                self.error = e
            finally:
                for m, log in zip(own, before, strict=True):
                    self.logs.append(m.log)
                    m.log = log
            self.finals = {n: variables.get(n) for n in names}
            self.written = self.region.written()


def stage_branches(condition: Any, closures: tuple[Closure | None, ...], names: Names, sharing: Sequence[Closure],
                   own: frozenset[int] | None = None) -> Any:  # fmt: skip
    """Run `closures[condition]()` in compiled code; assigns the merged variables, returns the merged signal.

    `condition` is a bool for two closures (what is false comes first), or an integer.
    """
    variables = Variables(*sharing)
    names = tuple([n for n in (n.lstrip("+") for n in names) if variables.knows(n)])
    own = unshared(variables, names) if own is None else own
    return with_places(variables, names, lambda names: _attempt(condition, closures, variables, names, own))


def _attempt(
    condition: Any, closures: Sequence[Closure | None], variables: Variables, names: Names, own: frozenset[int]
) -> Any:
    before = variables.snapshot()
    captures = Captures()
    sides: list[Side] = []
    try:
        for k, closure in enumerate(closures):
            try:
                sides.append(Side(closure, captures, f"branch{k}", variables, names))
            except EmptyListError:  # while it is learnt what the list holds: the other side may tell, or what follows
                if len(closures) != 2 or not learning():
                    raise
                variables.restore(before)
                other = closures[1 - k]
                return None if other is None else settle(other())
            variables.restore(before)
        failing = [side.error is not None for side in sides]
        if len(sides) > 2 and any(failing):
            error = sides[failing.index(True)].error
            assert error is not None
            raise error
        if any(failing):
            return _refused(condition, sides, failing, closures)
        return _merge(condition, sides, variables, before, names, own)
    except BaseException:
        variables.restore(before)
        raise
    finally:
        from stager import cells

        for side in sides:
            cells.discard_overlays(side.region)


def _refused(condition: Any, sides: list[Side], failing: list[bool], closures: Sequence[Closure | None]) -> Any:
    """A side raises: a check that control does not come there, then the other side as it is."""
    from stager import cells

    k = len(failing) - 1 - failing[::-1].index(True)
    side, other = sides[k], closures[1 - k]
    assert side.error is not None
    cells.discard_overlays(sides[1 - k].region)
    if needs_region(side.region, list(side.written)):
        raise_inside(condition, k, side.region, list(side.written), side.error)
    else:
        check(condition if k == 0 else ~condition, side.error)
    cells.discard_overlays(side.region)
    return None if other is None else settle(other())


def _from_around(sides: Sequence[Side], values: Sequence[Any]) -> list[Any]:
    """The lists and dicts in values that are older than their side of the branch."""
    found = [(side, c) for side, v in zip(sides, values, strict=True) for c in changeable_in(v)]
    return [c for side, c in found if type(c) in (list, dict) and id(c) in side.older]


def _merge(
    condition: Any, sides: list[Side], variables: Variables, before: dict[str, Any], names: Names, own: frozenset[int]
) -> Any:
    changed = [n for n in names if any(side.finals[n] is not before[n] for side in sides)]
    merged = {}
    merges = Merges([side.region for side in sides])
    older = [side.older for side in sides]
    for n in changed:
        values = [side.finals[n] for side in sides]
        if all(v is UNBOUND for v in values):
            continue
        if any(v is UNBOUND for v in values):
            variables.set_on_some_paths(n)
        kept = before[n]
        alone = kept.cell if type(kept) is Array and id(kept.cell) in own else None
        merged[n] = Merged(variables.text(n), values, merges, alone, older)
    codes = [codes_of(side.signal) for side in sides]
    one_code = codes[0] if all(c == codes[0] for c in codes) and len(codes[0]) == 1 else None
    values = [value_of(side.signal) for side in sides]
    returned = None
    if any(v is not UNBOUND for v in values):
        returned = Merged("the returned value", values, merges, None, older)
    written = list(dict.fromkeys(c for side in sides for c in side.written))
    moved: dict[Cell, set[Any]] = {c: set() for c in counts() if c in written}

    for k, side in enumerate(sides):
        with inside(side.region):
            for cell, steps in moved.items():
                steps.add(step_of(side.region, cell))
            outputs = merges.counts(k)
            for n, m in merged.items():
                outputs += m.outputs(side.finals[n])
            outputs += [cell.read() for cell in written]
            if returned is not None:
                outputs += returned.outputs(value_of(side.signal))
            if one_code is None:
                s = side.signal
                code = s.code if type(s) is Signal else next(iter(codes_of(s)))
                outputs.append(as_raw(code, i64))
            side.region.graph.outputs = [side.region.local(o) for o in outputs]
            side.region.close()
    graphs, _, captured = close_regions([s.region for s in sides], [()] * len(sides), ())
    pairs = alike(list(merged.values()))
    results: Any = ()
    if graphs[0].outputs or any(n.ordered for g in graphs for n in g.nodes):
        from stager.ops.control import switch_op

        results = bind(switch_op, as_raw(condition, i64), *captured, regions=graphs)
    raws = iter(results)
    begun = {c: c.read() for c in moved}
    marked = [(m, m.begin()) for m in marks()]
    merges.settle(raws)
    for n in changed:
        variables.assign(n, merged[n].rebuild(raws) if n in merged else UNBOUND)
        if n in merged:
            choose(_from_around(sides, [side.finals[n] for side in sides]), variables.get(n))
    for cell in written:
        cell.take(next(raws))
        commit_carried(cell)
    for k, (m, first) in enumerate(marked):
        if any(c in written for c in m.cells()):
            m.agree(first, [side.logs[k] for side in sides], [side.region for side in sides])
    for cell, steps in moved.items():
        if len(steps) == 1 and None not in steps:  # each side appends as much
            cell.write(moved_by(begun[cell], steps.pop()))
    value = returned.rebuild(raws) if returned is not None else UNBOUND
    if returned is not None:
        choose(_from_around(sides, values), value)
    for m in merged.values():
        m.follow()
    for (one, k), (other, j) in pairs:
        if k in one.cells and j in other.cells:
            one.cells[k].stand_beside(other.cells[j])
    if returned is not None:
        returned.follow()
    if one_code is not None:
        return static_signal(one_code, value)
    return Signal(handle(next(raws), False), value, frozenset().union(*codes))
