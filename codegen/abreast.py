"""Loops one element at a time inside of loops: some turns of the outer one run side by side, each a step behind.

`R[i, j] = f(R[i, j - 1], R[i - 1, j], R[i - 1, j - 1])`, as dynamic programming and Gauss-Seidel have it, waits for one
element after the other and keeps little of the processor busy. While a row runs, the next one can follow it, one
element behind: every element still finds what it would find, and is computed by the same operations, but several chains
are under way at once. Legal when no turn of a later row comes before a turn of an earlier one that touches the same
bytes, which is seen from the positions: they are linear in the indices of both loops. How such a loop is emitted stands
in `rows.py`.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.book import buffers_of
from stager.codegen.index import Facts, Ix
from stager.codegen.modes import weight
from stager.codegen.program import Buffer, Loop, MapLanes, Nest, Program, Stage, Switch, While, walk
from stager.ir.dims import Dim, Expr, Sym, symbols_of

SOME_ROWS, MANY_ROWS = 2, 4
FEW_OPS = 24
"""Turns of no more operations than this go with those of three more rows."""
MOST_OPS = 160
"""More operations keep the processor busy by themselves, and are emitted several times."""
LEAST_TURNS = 8


def abreast(program: Program) -> None:
    """Marks the loops whose turns run side by side."""
    users: dict[int, set[int]] = {}
    fixed = {id(b.storage) for b in (*program.inputs, *program.outputs)}

    def note(step: Any) -> None:
        for b in buffers_of(step):
            users.setdefault(id(b.storage), set()).add(id(step))

    walk(program.steps, note)

    def visit(steps: list[Any]) -> None:
        for s in steps:
            match s:
                case Loop():
                    s.abreast = _rows(s, users, fixed, program.facts)
                    if not s.abreast:
                        visit(s.body)
                case MapLanes() | While():
                    visit(s.body)
                case Switch():
                    for branch in s.branches:
                        visit(branch)

    visit(program.steps)


def _rows(outer: Loop, users: dict[int, set[int]], fixed: set[int], facts: Facts) -> int:
    """How many turns of a loop run side by side; 0 for none."""
    if len(outer.body) != 1 or not isinstance(outer.body[0], Loop) or outer.moving or outer.also:
        return 0
    inner: Loop = outer.body[0]
    if inner.moving or inner.also or abs(inner.step) != 1:
        return 0
    if isinstance(outer.lower, Buffer) or isinstance(outer.upper, Buffer):
        return 0
    if isinstance(inner.lower, Buffer) or isinstance(inner.upper, Buffer):
        return 0
    turns = (inner.upper - inner.lower) * inner.step
    if outer.symbol in symbols_of((inner.lower, inner.upper)) or not facts.non_negative(turns - LEAST_TURNS):
        return 0
    stages = _stages(inner.body)
    ops = sum(weight(i) for s in stages or () for i in s.body)
    if stages is None or ops > MOST_OPS:
        return 0
    mine = {id(n) for n in inner.body}
    positions: dict[int, list[tuple[Ix, int, bool]]] = {}
    inputs = {id(b.storage) for s in stages for b, _ in s.loads if b.storage.kind == "input"}
    inputs |= {id(store.buffer.storage) for s in stages for store in s.stores if store.buffer.storage.kind == "input"}
    if len(inputs) > 1 and any(inputs & s.writes() for s in stages):
        return 0  # the caller's arrays may overlap
    for s in stages:
        for b, at in s.loads:
            positions.setdefault(id(b.storage), []).append((at, b.dtype.itemsize, False))
        for store in s.stores:
            positions.setdefault(id(store.buffer.storage), []).append((store.at, store.buffer.dtype.itemsize, True))
    shared = [
        found
        for sid, found in positions.items()
        if any(write for _, _, write in found)
        and (sid in fixed or not users[sid] <= mine or not _begins_anew(stages, sid))
    ]
    for rows in (MANY_ROWS, SOME_ROWS) if ops <= FEW_OPS else (SOME_ROWS,):
        if all(_apart(found, k, outer, inner, turns, facts) for found in shared for k in range(1, rows)):
            return rows
    return 0


def _stages(steps: list[Any]) -> list[Stage] | None:
    """The stages of a turn that is one element; None for other turns."""
    out: list[Stage] = []
    for n in steps:
        if not isinstance(n, Nest) or n.outer or n.first or n.parallel:
            return None
        for leaf in n.leaves:
            checked = any(i.op == "bound" and i.data[2] == "check" for i in leaf.stage.body)
            if leaf.loops or leaf.stage.reductions or checked:
                return None
            out.append(leaf.stage)
    return out


def _begins_anew(stages: list[Stage], sid: int) -> bool:
    """Whether every turn writes a storage of one element before it reads it."""
    places: set[Ix] = set()
    for s in stages:
        if any(id(b.storage) == sid and at not in places for b, at in s.loads):
            return False
        for store in s.stores:
            if id(store.buffer.storage) == sid:
                if store.combine != "set" or store.at.terms or symbols_of(store.at.const):
                    return False
                places.add(store.at)
    return True


def _apart(
    found: list[tuple[Ix, int, bool]], rows: int, outer: Loop, inner: Loop, turns: Dim, facts: Facts
) -> bool:
    """Whether what turns of one row touch after a turn of the row that follows `rows` later is none of its bytes."""
    lines = [(_line(at, outer.symbol, inner.symbol), size, write) for at, size, write in found]
    for a, size_a, write_a in lines:
        for b, size_b, write_b in lines:
            if not write_a and not write_b:
                continue
            if a is None or b is None or a[1:] != b[1:]:
                return False
            # from the first element of the one row that comes too late to the element of the other one, and at the ends
            ahead: Dim = b[0] - a[0] + rows * a[1] * outer.step - (rows + 1) * a[2] * inner.step
            last: Dim = ahead - a[2] * inner.step * (turns - rows - 2)
            above = facts.non_negative(ahead - size_a) and facts.non_negative(last - size_a)
            below = facts.non_negative(-ahead - size_b) and facts.non_negative(-last - size_b)
            if not above and not below:
                return False
    return True


def _line(at: Ix, i: str, j: str) -> tuple[Dim, int, int] | None:
    """A position as `rest + by_i * i + by_j * j`."""
    if at.terms:
        return None
    rest: Dim = 0
    by = {i: 0, j: 0}
    for m, c in at.const.terms if isinstance(at.const, Expr) else (((), at.const),):
        if len(m) == 1 and isinstance(m[0][0], Sym) and m[0][1] == 1 and m[0][0].name in by:
            by[m[0][0].name] = c
        else:
            part: Dim = Expr(((m, c),)) if m else c
            if symbols_of(part) & {i, j}:
                return None
            rest = rest + part
    return rest, by[i], by[j]

