"""Loops whose turns are independent and lie side by side in memory become the shared axis of one nest.

`for j in range(k + 1, n): R[k, j] = dot(Q[:, k], A[:, j]); A[:, j] -= Q[:, k] * R[k, j]` walks down one column a turn,
an element of every row at a time. As a nest with j outside it runs blocks of columns, with lanes along j, and reads
whole pieces of rows. What one turn has for itself every column of a block has for itself. What turns add to one and
the same place becomes a sum over a block, where their order is free (`adding.py`).

Only where lanes along the turns are cheaper than what each turn could do alone (`modes.py`).
"""

from __future__ import annotations

from typing import Any

from stager.codegen.adding import taken_apart
from stager.codegen.book import buffers_of
from stager.codegen.contract import keep_rows
from stager.codegen.independent import independent
from stager.codegen.index import Ix
from stager.codegen.modes import column_axis
from stager.codegen.program import (
    Buffer,
    Instr,
    Leaf,
    Loop,
    LoopAxis,
    MapLanes,
    Nest,
    Program,
    Reduction,
    Stage,
    Storage,
    Store,
    Switch,
    While,
    walk,
)
from stager.codegen.target import Target
from stager.codegen.turns import Turns, free_variable


def sideways(program: Program, target: Target) -> None:
    """Makes nests of loops, in all bodies."""
    if target.vector_bits:
        program.steps = _steps(program.steps, program, target)


def _steps(steps: list[Any], program: Program, target: Target) -> list[Any]:
    out: list[Any] = []
    for s in steps:
        match s:
            case Loop():
                s.body = _steps(s.body, program, target)
                nest = _beside(s, program, target)
                if nest is not None:
                    out.append(nest)
                    continue
            case MapLanes():
                s.body = _steps(s.body, program, target)
            case While():
                s.body = _steps(s.body, program, target)
            case Switch():
                s.branches = [_steps(b, program, target) for b in s.branches]
        out.append(s)
    return out


def _beside(loop: Loop, program: Program, target: Target) -> Nest | None:
    """The nest that does what a loop does, lanes along its turns; None where that may not be, or does not pay."""
    nests = [s for s in loop.body if isinstance(s, Nest)]
    if loop.moving or not nests or len(nests) != len(loop.body) or any(s.outer or s.first or s.scratch for s in nests):
        return None
    leaves = [leaf for s in nests for leaf in s.leaves]
    if isinstance(loop.lower, Buffer) or isinstance(loop.upper, Buffer) or not all(_is_plain(x.stage) for x in leaves):
        return None
    turns = Turns(loop, program.facts)
    turns.upwards()
    var = free_variable(leaves)
    own = _own(loop, program)
    if any(not isinstance(s.nbytes, int) for s in own.values()):
        return None
    shared = _touched_by_several(leaves)

    def stays(s: Store) -> bool:
        sid = id(s.buffer.storage)
        return sid not in own and sid not in shared and not turns.follows(s.at)

    apart = [x for leaf in leaves for x in taken_apart(leaf, stays)]
    added = {id(r.buffer.storage) for leaf in apart if leaf.adds for r in leaf.stage.reductions}
    made = [_leaf(leaf, turns, var, own) for leaf in apart]
    whole = [leaf for leaf in made if leaf is not None]
    nest = Nest([LoopAxis(var, turns.count)], whole, polled=True)
    if len(whole) != len(made) or column_axis(nest, target.vector_bits // 64, False) is None:
        return None
    if not independent(loop, program, added):
        return None
    for s in own.values():
        s.kind = "temp"
        s.nbytes = s.nbytes * turns.count
    keep_rows(nest, {key: {id(nest)} for key in own})
    program.storages = [s for s in program.storages if id(s) not in nest.scratch]
    return nest


def _is_plain(stage: Stage) -> bool:
    """Whether a stage may run for many turns at once, as far as it alone decides."""
    if stage.sequential or any(i.op == "bound" for i in stage.body) or any(s.combine != "set" for s in stage.stores):
        return False
    return not any(at.is_dynamic for at in stage.positions)


def _own(loop: Loop, program: Program) -> dict[int, Storage]:
    """The storages that nothing but the loop uses."""
    mine: dict[int, Storage] = {}
    inside: set[int] = set()

    def note(step: Any) -> None:
        inside.add(id(step))
        mine.update((id(b.storage), b.storage) for b in buffers_of(step))

    walk(loop.body, note)
    others = {id(b.storage) for b in (*program.inputs, *program.outputs)}

    def look(step: Any) -> None:
        if id(step) not in inside:
            others.update(id(b.storage) for b in buffers_of(step))

    walk(program.steps, look)
    return {key: s for key, s in mine.items() if key not in others and s.kind in ("temp", "stack")}


def _leaf(leaf: Leaf, turns: Turns, var: int, own: dict[int, Storage]) -> Leaf | None:
    """A leaf for all turns; None where it is another one in every turn."""
    if turns.follows(tuple(a.extent for a in leaf.loops)):
        return None

    def place(buffer: Buffer, at: Ix) -> Ix | None:
        s = own.get(id(buffer.storage))
        if s is None:
            return turns.at(at, var)
        return None if turns.follows(at) else at.plus(Ix(0, ((var, s.nbytes),)))

    body: list[Instr] = []
    for i in leaf.stage.body:
        moved: Instr | None
        if i.op == "load":
            at = place(*i.data)
            moved = None if at is None else Instr(i.op, i.dtype, i.args, (i.data[0], at))
        else:
            moved = turns.instr(i, var)
        if moved is None:
            return None
        body.append(moved)
    stores, reductions = [], []
    for s in leaf.stage.stores:
        at = place(s.buffer, s.at)
        if at is None:
            return None
        stores.append(Store(s.buffer, at, s.value))
    for r in leaf.stage.reductions:
        at = place(r.buffer, r.at)
        index = None if r.index is None else turns.at(r.index, var)
        if at is None or (index is None) != (r.index is None):
            return None
        reductions.append(Reduction(r.kind, r.buffer, at, r.value, index, r.combine, r.first))
    stage = Stage([], body, stores, reductions, label=leaf.stage.label)
    return Leaf(list(leaf.loops), stage, adds=leaf.adds)


def _touched_by_several(leaves: list[Leaf]) -> set[int]:
    """The storages that more than one leaf reads or writes."""
    seen: set[int] = set()
    again: set[int] = set()
    for leaf in leaves:
        touched = leaf.stage.reads() | leaf.stage.writes()
        again |= seen & touched
        seen |= touched
    return again
