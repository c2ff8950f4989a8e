"""One body after another: the second stage's instructions behind the first's, with what both compute shared.

Positions are renamed to the variables of the group that the stages run in. Invariant: instructions keep their order and
use earlier instructions only. Which stages may share a body is `codegen/fuse.py`'s question.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.modes import weight
from stager.codegen.program import Instr, Stage, Store
from stager.ir.dtypes import DType


def rename(s: Stage, mapping: dict[int, int]) -> None:
    """The variables of a stage replaced by those of its group."""
    if all(a == v for a, v in mapping.items()):
        return
    s.move(lambda at: at.rename(mapping))


def append_body(
    target: Stage, s: Stage, mapping: dict[int, int], identity: bool, stored: dict[tuple[int, Ix], int]
) -> None:
    """s's body after target's; equal loads, constants and operations are shared."""
    body = target.body
    known: dict[Any, int] = {}
    for n, i in enumerate(body):
        key = _key(i, i.args)
        if key is not None:
            known.setdefault(key, n)
    place: list[int] = []
    for i in s.body:
        args = tuple(place[a] for a in i.args) if i.args else ()
        data = i.data
        if (ix := i.position) is not None:
            if not identity or ix.is_dynamic:
                full = mapping
                if ix.is_dynamic:
                    full = dict(mapping)
                    for v, _ in ix.terms:
                        if v >= DYNAMIC:
                            full[v] = DYNAMIC + place[v - DYNAMIC]
                ix = ix.rename(full)
                data = i.at(ix)
            if i.op == "load":
                found = stored.get((id(data[0].storage), ix))
                if found is not None:
                    place.append(found)
                    continue
        new = Instr(i.op, i.dtype, args, data)
        key = _key(new, args)
        found = known.get(key) if key is not None else None
        if found is None:
            found = len(body)
            body.append(new)
            if key is not None:
                known[key] = found
        place.append(found)

    def moved(at: Ix) -> Ix:
        if identity and not at.is_dynamic:
            return at
        full = dict(mapping)
        for v, _ in at.terms:
            if v >= DYNAMIC:
                full[v] = DYNAMIC + place[v - DYNAMIC]
        return at.rename(full)

    for st in s.stores:
        target.stores.append(Store(st.buffer, moved(st.at), place[st.value], st.combine))
    for r in s.reductions:
        r.at, r.value = moved(r.at), place[r.value]
        if r.index is not None:
            r.index = moved(r.index)
        target.reductions.append(r)


def _key(i: Instr, args: tuple[int, ...]) -> Any:
    if i.op == "load":
        return ("load", id(i.data[0].storage), i.data[1], i.dtype.name)
    if i.op == "const":
        return ("const", i.dtype.name, _bits(i.dtype, i.data))
    if i.op == "apply":
        node = i.data
        params = node.params
        return (node.op.name, i.dtype.name, args, tuple(params.items()) if params else None)
    if i.op == "index":
        return ("index", i.dtype.name, i.data)
    return None


def _bits(dtype: DType, value: Any) -> bytes:
    return bytes(dtype.np.type(value).tobytes())


def added_weight(target: Stage, s: Stage, mapping: dict[int, int]) -> int:
    """What s's body would add to target's, in additions."""
    both = Stage(target.axes, list(target.body))
    append_body(both, Stage(s.axes, s.body), mapping, False, {})
    return sum(weight(i) + (i.op == "load") for i in both.body[len(target.body) :])
