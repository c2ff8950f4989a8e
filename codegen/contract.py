"""Buffers that fusion made superfluous: stores that nobody loads vanish, and what lives for one outer point of a nest
becomes a row on the stack.

Invariant: the values that are left are computed as before. Which temporaries share memory is `codegen/inplace.py`'s and
`arena.py`'s question.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import DYNAMIC
from stager.codegen.program import (
    Buffer,
    Check,
    Instr,
    Loop,
    MapLanes,
    Move,
    Nest,
    Program,
    Read,
    Routine,
    Stage,
    Storage,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, Expr

ROW_BYTES = 1 << 15
"""A buffer that lives for one outer point may be this large."""


def contract(program: Program) -> None:
    """Stores that nobody loads vanish; temporaries that live for one outer point become rows on the stack."""
    nests: list[Nest] = []
    walk(program.steps, lambda s: nests.append(s) if isinstance(s, Nest) else None)
    users: dict[int, set[int]] = {}
    again = True
    while again:
        users, loaded = _uses(program)
        again = False
        for nest in nests:
            for stage in nest.stages():
                lists: tuple[list[Any], ...] = (stage.stores, stage.reductions)
                for items in lists:
                    for x in list(items):
                        storage = x.buffer.storage
                        if storage.kind in ("temp", "stack") and id(storage) not in loaded:
                            items.remove(x)
                            again = True
    for nest in nests:
        nest.leaves = [x for x in nest.leaves if not x.stage.is_idle]
    for nest in nests:
        if nest.outer and nest.leaves:
            keep_rows(nest, users)
    _prune(program.steps)
    used: set[int] = set()

    def mark(step: Any) -> None:
        if isinstance(step, Nest):
            for stage in step.stages():
                used.update(stage.reads() | stage.writes())
        else:
            used.update(id(b.storage) for b in touched(step))

    walk(program.steps, mark)
    rows = {sid for nest in nests for sid in nest.scratch}
    program.storages = [s for s in program.storages if id(s) in used and id(s) not in rows]


def _uses(program: Program) -> tuple[dict[int, set[int]], set[int]]:
    """Which steps touch a storage, and which storages anything reads."""
    users: dict[int, set[int]] = {}
    loaded: set[int] = set()

    def visit(step: Any) -> None:
        if not isinstance(step, Nest):
            for b in touched(step):
                users.setdefault(id(b.storage), set()).add(id(step))
                loaded.add(id(b.storage))
            return
        for stage in step.stages():
            drop_dead(stage)
            for sid in stage.reads():
                users.setdefault(sid, set()).add(id(step))
                loaded.add(sid)
            for sid in stage.writes():
                users.setdefault(sid, set()).add(id(step))

    walk(program.steps, visit)
    return users, loaded


def drop_dead(stage: Stage) -> None:
    """Instructions whose value nothing uses become literals, which cost nothing."""
    body = stage.body
    live = [False] * len(body)
    for value, at in [(s.value, s.at) for s in stage.stores] + [(r.value, r.at) for r in stage.reductions]:
        live[value] = True
        for v, _ in at.terms:
            if v >= DYNAMIC:
                live[v - DYNAMIC] = True
    for n in range(len(body) - 1, -1, -1):
        i = body[n]
        if i.op == "bound" and i.data[2] == "check":
            live[n] = True
        if live[n]:
            for a in i.args:
                live[a] = True
            for v in i.variables():
                if v >= DYNAMIC:
                    live[v - DYNAMIC] = True
        elif i.op != "const":
            body[n] = Instr("const", i.dtype, (), 0)


def _prune(steps: list[Any]) -> None:
    for s in list(steps):
        match s:
            case Nest() if not s.leaves:
                steps.remove(s)
            case Loop() | MapLanes():
                _prune(s.body)
            case While():
                _prune(s.test)
                _prune(s.body)
            case Switch():
                for b in s.branches:
                    _prune(b)


def keep_rows(nest: Nest, users: dict[int, set[int]]) -> None:
    """Temporaries of one nest that keep one row (the part of one outer point) on the stack."""
    outer = {a.var for a in nest.outer}
    extent = {a.var: a.extent for leaf in nest.leaves for a in leaf.loops}
    sizes: dict[int, int] = {}
    storages: dict[int, Storage] = {}
    bad: set[int] = set()
    for stage in nest.stages():
        accesses = [(b.storage, at, b.dtype) for b, at in stage.loads]
        accesses += [(x.buffer.storage, x.at, x.buffer.dtype) for x in stage.stores]
        accesses += [(r.buffer.storage, r.at, r.buffer.dtype) for r in stage.reductions]
        for storage, at, dtype in accesses:
            sid = id(storage)
            if storage.kind != "temp" or len(users.get(sid, ())) != 1 or sid in bad:
                continue
            storages[sid] = storage
            size: Dim = at.const + dtype.itemsize
            for v, c in at.terms:
                if v >= DYNAMIC:
                    bad.add(sid)
                elif v not in outer:
                    size = size + c * (extent[v] - 1)
            if isinstance(size, Expr) or size > ROW_BYTES or {v for v, _ in at.terms if v in outer} != outer:
                bad.add(sid)
            else:
                sizes[sid] = max(sizes.get(sid, 0), size)
    for sid, size in sizes.items():
        if sid not in bad:
            nest.scratch[sid] = (storages[sid], size, 1)


def touched(step: Any) -> list[Buffer]:
    """The buffers that a step other than a nest reads or writes itself (not its nested steps)."""
    match step:
        case Move():
            return [step.target, step.source]
        case Read():
            return [step.source]
        case Check():
            return [step.ok, *step.details]
        case Routine():
            return [*step.inputs, *step.outputs, *step.scratch]
        case Loop():
            return [b for b in (step.lower, step.upper) if isinstance(b, Buffer)]
        case While():
            return [step.condition]
        case Switch():
            return [step.index] if isinstance(step.index, Buffer) else []
    return []
