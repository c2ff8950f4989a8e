"""Statements that append to lists: traced once to learn what and how much, then with buffers in the place of the lists.

The trace that learns runs in a region that is thrown away, so that nothing has happened when the statement itself is
traced. What it computes for the lengths alone is run at once where that depends on no data (`if step % 100 == 0:`): the
lengths are known then. Where the number of turns is not known either, a second trace gives the numbers of appended
items and nothing else: it becomes part of the graph, in front of the statement.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import CellType
from typing import Any

import numpy as np

from stager.array import wrap
from stager.capture.buffers import Buffer
from stager.capture.counts import known_values, part_for
from stager.capture.owners import BARRIER, NeedsBufferError, Owner
from stager.capture.plans import DataDefinedError, LearntError, Plan, session_in_force
from stager.capture.row_lists import RowList
from stager.capture.session import cell_value, current
from stager.capture.sharing import changeable_in
from stager.capture.tables import stand_in
from stager.capture.variables import Variables, mutable_ids, with_places
from stager.cells import discard_overlays
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import stack
from stager.ir.dims import symbols_of
from stager.ir.graph import Graph
from stager.ops.regions import Captures, dim_of, dim_value, replay
from stager.staged import UserRegion, close_regions, decline, inside

PASSES = 16  # traces until what is appended is known


def buffered(
    variables: Variables, candidates: dict[int, Any], run: Callable[[], Any], data_defined: bool = True
) -> Any:
    """`run()`, with buffers in the place of lists that it appends to. They are in `variables`.

    `data_defined`: whether lists may get a length that only the run knows; DataDefinedError where they would.
    """
    s = current()
    if s is None or not candidates:
        return run()
    owner = Owner(candidates)  # counts references: before anything else takes hold of lists
    before, items = variables.snapshot(), Contents(candidates)
    plans: list[Plan] = []
    s.owners.append(owner)
    try:
        try:
            out = run()
            if owner.needs is None:
                return out
            plans.append(owner.plan(owner.needs))
        except NeedsBufferError as e:
            items.restore()
            if e.owner is not owner:
                raise
            plans.append(owner.plan(e.items))
        except BaseException:
            items.restore()
            raise
        variables.restore(before)
        items.restore()
        _learn(variables, owner, plans, run, data_defined)
        buffers = _install(variables, plans, False)
        try:
            out = run()
            holders = _take_out(variables, buffers)
        except BaseException:
            variables.restore(before)
            items.restore()
            raise
        for cells, buffer in zip(holders, buffers, strict=True):
            items = buffer.finish()
            for cell in cells:
                cell.cell_contents = items
        return out
    finally:
        s.owners.remove(owner)


class Contents:
    """What lists hold now: loops that are staged and then thrown away have appended to some of them."""

    def __init__(self, lists: dict[int, Any]) -> None:
        self.saved = [(x, list(x)) for x in lists.values() if type(x) is list or type(x) is deque]
        self.dicts = [(x, dict(x)) for x in lists.values() if type(x) is dict]

    def restore(self) -> None:
        for d, values in self.dicts:
            if [*d] != [*values] or any(d[k] is not v for k, v in values.items()):
                d.clear()
                d.update(values)
        for x, items in self.saved:
            if len(x) != len(items) or any(a is not b for a, b in zip(x, items, strict=True)):
                x.clear()
                x.extend(items)


def _install(variables: Variables, plans: Sequence[Plan], counting: bool, capacity: Any = None) -> list[Buffer]:
    buffers = [stand_in(p, counting, capacity) for p in plans]
    session_in_force().buffers += buffers
    for cell in variables.cells.values():
        for p, b in zip(plans, buffers, strict=True):
            if cell_value(cell) is p.items:
                cell.cell_contents = b
    return buffers


def _take_out(variables: Variables, buffers: Sequence[Buffer]) -> list[list[CellType]]:
    """The buffers end. The variables that hold each."""
    holders = [[c for c in variables.cells.values() if cell_value(c) is b] for b in buffers]
    for cells in holders:
        for cell in cells:
            cell.cell_contents = None
    active = session_in_force().buffers
    active[:] = [b for b in active if not any(b is x for x in buffers)]
    return holders


def _is_row_of(cell: CellType, buffers: Sequence[Buffer]) -> bool:
    value = cell_value(cell)
    return type(value) is RowList and any(value.home is b for b in buffers)


def _is_reached(buffers: Sequence[Buffer], k: int) -> bool:
    """Whether anything but the list of buffers holds one."""
    return sys.getrefcount(buffers[k]) > 2


def _learn(variables: Variables, owner: Owner, plans: list[Plan], run: Callable[[], Any], data_defined: bool) -> None:
    """Trace the statement for what it appends, in regions that are thrown away."""
    for _ in range(PASSES):
        try:
            lengths = with_places(variables, (), lambda names: _attempt(variables, owner, plans, run))
        except LearntError:
            continue
        except NeedsBufferError as e:
            if e.owner is not owner:
                raise
            plans.append(owner.plan(e.items))
            continue
        if lengths is not None:
            for p, ends in zip(plans, lengths, strict=True):
                p.ends = ends
                if not p.shrinks:
                    p.room, p.known = ends[0], True
        elif not data_defined:
            raise DataDefinedError
        if not all(p.known for p in plans):
            for p, n in zip(plans, _rooms(variables, owner, plans, run), strict=True):
                p.room, p.known = dim_of(n), True
        return
    raise ControlFlowError(describe("what a traced loop appends to a list does not settle"))


def _rooms(variables: Variables, owner: Owner, plans: list[Plan], run: Callable[[], Any]) -> list[Any]:
    """How many items each list needs room for, as numbers of the graph in front of the statement.

    Where nothing that is appended decides about them they are counted. Else the statement is tried with room for few
    items, and as long as that does not do for more: a run that finds none leaves its loops.
    """
    try:
        found: list[Any] = with_places(variables, (), lambda names: _attempt(variables, owner, plans, run, True))
        return found
    except ControlFlowError:
        pass
    from stager.capture.loops import stage_while

    room: Any = wrap(dim_value(sum([p.before for p in plans]) + 4), weak=True)
    needed: Any = room + 1

    def falls_short() -> Any:
        return needed > room

    def with_more() -> None:
        nonlocal room, needed
        room = room * 4
        most = with_places(variables, (), lambda names: _attempt(variables, owner, plans, run, capacity=room))
        counts: list[Any] = [wrap(n, weak=True) for n in most]
        needed = functools.reduce(lambda a, b: np.maximum(a, b), counts)

    stage_while(falls_short, with_more, ("room", "needed"), None, False, None)
    return [needed.raw()] * len(plans)


def _attempt(
    variables: Variables, owner: Owner, plans: list[Plan], run: Callable[[], Any], counting: bool = False,
    capacity: Any = None,
) -> Any:  # fmt: skip
    """The counts after the statement if they are known, which with the bounds of the rooms goes to the plans.

    Counting, or tried with room for `capacity` items: how many there are, as traced numbers.
    """
    s = session_in_force()
    region = UserRegion("learnt", Captures())
    variables.mark(region, mutable_ids(variables.snapshot()))
    before, items = variables.snapshot(), Contents(owner.candidates)
    active, turns = list(s.buffers), list(s.turns)
    owner.needs = None
    for p in plans:
        p.learnt = False
    try:
        with inside(region):
            buffers = _install(variables, plans, counting, capacity)
            run()
            if owner.needs is not None:
                raise NeedsBufferError(owner, owner.needs)
            if any(p.learnt for p in plans):
                raise LearntError
            if any(b.spoiled for b in buffers):
                decline("list.append")
            if counting or capacity is not None:
                counts = [b.count if b.most is None else b.most for b in buffers]
                region.graph.outputs = [region.local(x.raw()) for x in counts]
            else:
                ends = [b.ends() for b in buffers]
                _take_out(variables, buffers)
                for cell in variables.cells.values():
                    if _is_row_of(cell, buffers):
                        cell.cell_contents = None  # a row, which the variable is given again if anybody reads it later
                if any(_is_reached(buffers, k) for k in range(len(buffers))):
                    gc.collect()
                if any(_is_reached(buffers, k) for k in range(len(buffers))):
                    decline("keeping a list that is appended to")
                for buffer in buffers:
                    buffer.check_held()
                    held = {i for c in buffer.lists for i in c.ids()}
                    if held and any(id(c) in held for v in variables.snapshot().values() for c in changeable_in(v)):
                        decline("keeping a list that another one holds")
                levels: list[Any] = [x for x in stack().levels[: region.position] if x.key == "Stage"]
                around = {name for level in levels for name in level.graph.symbols}
                bounded = not any(b.unknown for b in buffers) and all(
                    name in around
                    for b in buffers
                    for name in symbols_of((b.room,))
                )
                for p, b in zip(plans, buffers, strict=True):
                    p.room, p.known = b.room, bounded
                moving = [x for b in buffers for x in b.moving()]
                marks = [b.marks for b in buffers if b.marks is not None]
                if all(type(n) is int for found in ends for n in found):
                    moving = []
                    lengths: Any = ends
                elif all(n is not None for found in ends for n in found):  # sizes and int arguments decide
                    moving = []
                    lengths = None
                if not moving and not marks:
                    return lengths
                told = [x for m in marks for x in m.outputs()]
                region.graph.outputs = [region.local(x.raw()) for x in [*moving, *told]]
            region.close()
        (graph,), _, captured = close_regions([region], [()], ())
        if counting or capacity is not None:
            part = part_for(graph, captured, range(len(plans)))
            if part is None:
                raise ControlFlowError(describe("what a traced loop appends to a list does not settle"))
            return replay(part.graph, part.captured)
        if moving:
            found = known_values(graph, captured, range(len(moving)))
            lengths = None if found is None else [[int(found.pop(0)) for _ in range(1 + p.queue)] for p in plans]
        again = False
        place = len(moving)
        for m in marks:
            after, *others = [_told(graph, captured, place + j) for j in range(len(m.outputs()))]
            place += len(m.outputs())
            if after is None:
                decline("setting items of a list of blanks, or of a dict, where the data decide which,")
            again |= m.known.learn(after, *others)
        if again:
            raise LearntError
        return lengths
    finally:
        s.buffers[:], s.turns[:] = active, turns
        discard_overlays(region)
        variables.restore(before)
        items.restore()


def _told(graph: Graph, captured: Sequence[Any], output: int) -> Any:
    """An output of a trace that is thrown away, where no data decide about it; else None."""
    try:
        values = known_values(graph, captured, [output])
    except IndexError:  # of the user's code, which will raise it when it runs
        return None
    return None if values is None else values[0]


@contextlib.contextmanager
def partly(lists: dict[int, Any], at_once: bool) -> Iterator[None]:
    """Context: an iteration runs ahead of its loop, or has run. `lists`: those that only variables reach."""
    s = current()
    if s is None or not at_once:
        yield
        return
    alone, s.alone = s.alone, lists
    s.owners.append(BARRIER)
    try:
        yield
    finally:
        s.alone = alone
        s.owners.pop()
