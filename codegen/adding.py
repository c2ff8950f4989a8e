"""What every turn of a loop adds to places that stay: a sum over the turns, where their order is the code's to choose.

The way back through `for j in range(k + 1, n): A[:, j] -= Q[:, k] * R[k, j]` adds to the cotangent of Q[:, k] in every
turn. As written, each turn waits for the one before; as a sum over j the turns may run side by side. Float additions
then change their order, so only those that the backward pass emitted are taken so (`docs/decisions/0019`).
"""

from __future__ import annotations

from collections.abc import Callable

from stager.codegen.contract import drop_dead
from stager.codegen.index import DYNAMIC
from stager.codegen.program import Instr, Leaf, LoopAxis, Reduction, Stage, Store
from stager.ir.graph import Node
from stager.ir.op import op_named
from stager.ir.types import Type


def taken_apart(leaf: Leaf, stays: Callable[[Store], bool]) -> list[Leaf]:
    """A leaf with what it adds to places that stay as sums over turns: in a leaf before it, where it reduces itself."""
    added = {id(s): terms for s in leaf.stage.stores if stays(s) and (terms := _terms(leaf.stage, s))}
    if not added:
        return [leaf]
    old = leaf.stage
    body = list(old.body)
    sums = [_sum(body, s, added[id(s)]) for s in old.stores if id(s) in added]
    rest = [s for s in old.stores if id(s) not in added]
    loops = [LoopAxis(a.var, a.extent) for a in leaf.loops]
    if not old.reductions:
        return [_leaf(loops, Stage([], body, rest, sums, label=old.label), adds=True)]
    first = _leaf(loops, Stage([], body, [], sums, label=old.label), adds=True)
    second = Stage([], list(old.body), rest, list(old.reductions), label=old.label)
    return [first, _leaf(leaf.loops, second, adds=False)]


def _leaf(loops: list[LoopAxis], stage: Stage, *, adds: bool) -> Leaf:
    drop_dead(stage)
    return Leaf(list(loops), stage, adds=adds)


def _terms(stage: Stage, s: Store) -> list[tuple[int, bool]] | None:
    """What a store adds to the number that is there, each with whether it is taken away; None where it does more."""
    body = stage.body
    if s.combine != "set" or s.buffer.dtype.kind != "f":
        return None
    mine = [n for n, i in enumerate(body) if i.op == "load" and i.data[0].storage is s.buffer.storage]
    if len(mine) != 1 or body[mine[0]].data[1] != s.at or body[mine[0]].dtype is not s.buffer.dtype:
        return None
    others = [x.buffer for x in stage.stores if x is not s] + [r.buffer for r in stage.reductions]
    if any(b.storage is s.buffer.storage for b in others):
        return None
    before = _made_of(body, mine[0])
    used = _uses(stage)
    terms: list[tuple[int, bool]] = []
    n = s.value
    while n != mine[0]:
        i = body[n]
        if i.op != "apply" or i.data.op.name not in ("add", "sub") or not i.data.in_backward or used[n] != 1:
            return None
        minus = i.data.op.name == "sub"
        a, b = i.args
        if before[b] and not minus:
            a, b = b, a
        if before[b] or not before[a]:
            return None
        terms.append((b, minus))
        n = a
    return terms if used[n] == 1 and terms else None


def _made_of(body: list[Instr], n: int) -> list[bool]:
    """Which instructions need instruction n."""
    out = [False] * len(body)
    out[n] = True
    for k, i in enumerate(body):
        dynamic = (v - DYNAMIC for v in i.variables() if v >= DYNAMIC)
        out[k] = out[k] or any(out[a] for a in (*i.args, *dynamic))
    return out


def _uses(stage: Stage) -> list[int]:
    """How often each instruction is used."""
    out = [0] * len(stage.body)
    for i in stage.body:
        for a in i.args:
            out[a] += 1
    for n in [s.value for s in stage.stores] + [r.value for r in stage.reductions]:
        out[n] += 1
    for at in stage.positions:
        for v, _ in at.terms:
            if v >= DYNAMIC:
                out[v - DYNAMIC] += 1
    return out


def _sum(body: list[Instr], s: Store, terms: list[tuple[int, bool]]) -> Reduction:
    """The sum that adds up the terms of a store; adds what it takes to the body."""
    dtype = s.buffer.dtype

    def apply(name: str, *args: int) -> int:
        body.append(Instr("apply", dtype, args, Node(op_named(name), (), {}, (Type(dtype, ()),))))
        return len(body) - 1

    (total, minus), *others = sorted(terms, key=lambda term: term[1])
    if minus:
        total = apply("neg", total)
    for n, taken in others:
        total = apply("sub" if taken else "add", total, n)
    return Reduction("sum", s.buffer, s.at, total, combine="sum")
