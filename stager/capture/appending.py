"""Statements that append to lists: traced once to learn what and how much, then with buffers in the place of the lists.

The trace that learns runs in a region that is thrown away, so that nothing has happened when the statement itself is
traced. What it computes for the lengths alone is run at once where that depends on no data (`if step % 100 == 0:`): the
lengths are known then. Where the number of turns is not known either, a second trace gives the numbers of appended
items and nothing else: it becomes part of the graph, in front of the statement.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CellType
from typing import Any

from stager.capture.buffers import (
    BARRIER,
    Buffer,
    DataDefinedError,
    LearntError,
    NeedsBufferError,
    Owner,
    Plan,
    session_in_force,
)
from stager.capture.counts import known_lengths
from stager.capture.row_lists import RowList
from stager.capture.session import cell_value, current
from stager.capture.sharing import changeable_in
from stager.capture.variables import Variables, mutable_ids, with_places
from stager.cells import discard_overlays
from stager.errors import ControlFlowError, describe
from stager.interpreters.stack import stack
from stager.ir.dims import symbols_of
from stager.ops.regions import Captures, dim_of, replay
from stager.ops.silence import silenced
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
            plans.append(Plan(owner.needs))
        except NeedsBufferError as e:
            items.restore()
            if e.owner is not owner:
                raise
            plans.append(Plan(e.items))
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
        self.saved = [(x, list(x)) for x in lists.values() if type(x) is list]

    def restore(self) -> None:
        for x, items in self.saved:
            if len(x) != len(items) or any(a is not b for a, b in zip(x, items, strict=True)):
                x[:] = items


def _install(variables: Variables, plans: Sequence[Plan], counting: bool) -> list[Buffer]:
    buffers = [Buffer(p, counting) for p in plans]
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
            known, lengths = with_places(variables, (), lambda names: _attempt(variables, owner, plans, run, False))
        except LearntError:
            continue
        except NeedsBufferError as e:
            if e.owner is not owner:
                raise
            plans.append(Plan(e.items))
            continue
        if lengths is not None:
            for p, n in zip(plans, lengths, strict=True):
                p.known = True
                if not p.changes:  # else there may be more items on the way
                    p.room = p.length = n
            return
        if not data_defined:
            raise DataDefinedError
        if not known:
            counts = with_places(variables, (), lambda names: _attempt(variables, owner, plans, run, True))
            for p, n in zip(plans, counts, strict=True):
                p.room, p.known = dim_of(n), True
        return
    raise ControlFlowError(describe("what a traced loop appends to a list does not settle"))


def _attempt(variables: Variables, owner: Owner, plans: list[Plan], run: Callable[[], Any], counting: bool) -> Any:
    """(whether the room is known, the lengths if they are), or the lengths as traced numbers when counting."""
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
            buffers = _install(variables, plans, counting)
            run()
            if owner.needs is not None:
                raise NeedsBufferError(owner, owner.needs)
            if any(p.learnt for p in plans):
                raise LearntError
            if any(b.spoiled for b in buffers):
                decline("list.append")
            if not counting:
                ends = [b.end() for b in buffers]
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
                if all(type(n) is int for n in ends):
                    return True, ends
                if all(n is not None for n in ends):  # sizes and int arguments decide
                    return bounded, None
            region.graph.outputs = [region.local(b.count.raw()) for b in buffers]
            region.close()
        (graph,), _, captured = close_regions([region], [()], ())
        if counting:
            return replay(silenced(graph), captured)
        return bounded, None if any(p.changes for p in plans) else known_lengths(graph, captured)
    finally:
        s.buffers[:], s.turns[:] = active, turns
        discard_overlays(region)
        variables.restore(before)
        items.restore()


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
