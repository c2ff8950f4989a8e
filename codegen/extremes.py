"""Minima and maxima of integers in the order in which their operands come.

    D[i, j] = min(D[i - 1, j] + 1, D[i, j - 1] + 1, D[i - 1, j - 1] + change)

Two of the three are there long before the turn, one is what the turn before computes. Taken last, it waits for one
comparison and not for two. Of integers the order does not matter; of floats it does, where NaN is among them.
"""

from __future__ import annotations

from typing import NamedTuple

from stager.codegen.index import DYNAMIC
from stager.codegen.program import Instr, Stage

ABOVE = {"gt": True, "ge": True, "lt": False, "le": False}


class Extreme(NamedTuple):
    """An instruction as the smaller or larger of two others; `compare` is its comparison."""

    largest: bool
    operands: tuple[int, int]
    compare: int


def put_last(stage: Stage, late: list[bool]) -> None:
    """Reorders what a body takes minima and maxima of, so that late operands come last."""
    body = stage.body
    uses = [0] * len(body)
    for i in body:
        for a in (*i.args, *(v - DYNAMIC for v in i.variables() if v >= DYNAMIC)):
            uses[a] += 1
    for value in (*(s.value for s in stage.stores), *(r.value for r in stage.reductions)):
        uses[value] += 1
    for at in (*(s.at for s in stage.stores), *(r.at for r in stage.reductions)):
        for v, _ in at.terms:
            if v >= DYNAMIC:
                uses[v - DYNAMIC] += 1
    for n, i in enumerate(body):
        outer = _extreme(body, n) if late[n] and i.op == "apply" else None
        if outer is None:
            continue
        for early, inner in (outer.operands, outer.operands[::-1]):
            found = _extreme(body, inner)
            if found is None or found.largest != outer.largest or late[early] or early > found.compare:
                continue
            if uses[found.compare] > 1 or uses[inner] > 2 or late[found.operands[0]] == late[found.operands[1]]:
                continue
            last, other = sorted(found.operands, key=lambda a: not late[a])
            _set(body, inner, found, early, other)
            _set(body, n, outer, last, inner)
            late[found.compare] = late[inner] = False
            break


def _extreme(body: list[Instr], n: int) -> Extreme | None:
    select = body[n]
    if select.op != "apply" or select.data.op.name != "select" or select.dtype.kind not in "iu":
        return None
    condition, a, b = select.args
    compare = body[condition]
    above = ABOVE.get(compare.data.op.name) if compare.op == "apply" else None
    if above is None or compare.args not in ((a, b), (b, a)):
        return None
    return Extreme(above == (compare.args == (a, b)), (a, b), condition)


def _set(body: list[Instr], n: int, e: Extreme, a: int, b: int) -> None:
    """Makes instruction n the extreme of a and b, with the comparison that it has."""
    above = ABOVE[body[e.compare].data.op.name]
    body[e.compare].args = (a, b)
    body[n].args = (e.compare, a, b) if above == e.largest else (e.compare, b, a)
