"""Consecutive loops over one range become one loop, so that what the first writes is still at hand for the second.

Legal when no turn of the first loop touches what an earlier turn of the second one does: then the second loop's turn i
finds everything as it would behind the first loop. That is seen from the intervals of bytes that a turn touches
(`codegen/independent.py`). Only loops that touch a common array are joined, and effects keep their order.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.independent import Body, body_of, interval, strides_of
from stager.codegen.index import Facts
from stager.codegen.program import Buffer, Loop, MapLanes, Nest, Program, Switch, While
from stager.ir.dims import Dim, substitute, symbol

Names = dict[str, Dim]


def join(program: Program) -> None:
    """Joins loops that follow one another, in all bodies."""
    program.steps = _joined(program.steps, program.facts, {})


def _joined(steps: list[Any], facts: Facts, names: Names) -> list[Any]:
    """`names`: the symbols that stand for one index, by what they stand for, of the loops around."""
    out: list[Any] = []
    for s in steps:
        match s:
            case Loop() | MapLanes():
                s.body = _joined(s.body, facts, names)
            case While():
                s.body = _joined(s.body, facts, names)
            case Switch():
                s.branches = [_joined(b, facts, names) for b in s.branches]
        if not isinstance(s, Loop):
            out.append(s)
            continue
        at = _partner(out, s, facts, names)
        if at is None:
            out.append(s)
            continue
        first = out[at]
        first.also += [s.symbol, *s.also]
        same: Names = {name: symbol(first.symbol) for name in first.also}
        first.body = _joined(first.body + s.body, facts, names | same)
        out.append(out.pop(at))  # behind the nests between: they touch nothing of the first loop
    return out


def _partner(before: list[Any], second: Loop, facts: Facts, names: Names) -> int | None:
    """Where the loop stands that takes a second one in: right before it, but for nests that could stand before both."""
    for at in range(len(before) - 1, -1, -1):
        s = before[at]
        if isinstance(s, Loop):
            return at if _fits(s, second, before[at + 1 :], facts, names) else None
        if not isinstance(s, Nest):
            return None
    return None


def _fits(first: Loop, second: Loop, between: list[Nest], facts: Facts, names: Names) -> bool:
    if first.step != second.step or not _same(first.lower, second.lower) or not _same(first.upper, second.upper):
        return False
    if first.moving or second.moving:
        return False
    one, two = body_of(first, names), body_of(second, names)
    if one is None or two is None:
        return False
    touched, written = set(one.accesses), {k for k, found in one.accesses.items() if any(a.write for a in found)}
    for nest in between:
        if any(stage.writes() & touched or stage.reads() & written for stage in nest.stages()):
            return False
    common = one.accesses.keys() & two.accesses.keys()
    return bool(common) and all(_in_step(one, two, k, first, second, facts) for k in common)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Buffer) or isinstance(b, Buffer):
        return False
    return bool(a == b)


def _in_step(one: Body, two: Body, storage: int, first: Loop, second: Loop, facts: Facts) -> bool:
    """Whether later turns of the first loop keep off what earlier turns of the second one touch of a storage."""
    pairs = [(a, b) for a in one.accesses[storage] for b in two.accesses[storage] if a.write or b.write]
    if not pairs:
        return True
    i = symbol(first.symbol)
    later = {first.symbol: i + first.step}
    for stride in strides_of([*one.accesses[storage], *two.accesses[storage]], one.inner | two.inner):
        found = True
        for a, b in pairs:
            x, y = interval(a, stride, facts, one.inner), interval(b, stride, facts, two.inner)
            if x is None or y is None:
                found = False
                break
            low, high = x
            start, end = (substitute(d, {second.symbol: i}) for d in y)
            if stride and not _within(low, high + a.itemsize, start, end + b.itemsize, stride, facts):
                found = False
                break
            upwards = _grows(low, later, facts) and facts.non_negative(substitute(low, later) - end - b.itemsize)
            falling = _grows(-high, later, facts) and facts.non_negative(start - substitute(high, later) - a.itemsize)
            if not upwards and not falling:
                found = False
                break
        if found:
            return True
    return False


def _grows(d: Dim, later: dict[str, Any], facts: Facts) -> bool:
    return facts.non_negative(substitute(d, later) - d)


def _within(low: Dim, high: Dim, start: Dim, end: Dim, stride: int, facts: Facts) -> bool:
    """Whether both intervals stay, over all turns, between two multiples of the stride."""
    lows = [-facts.maximum(-d) for d in (low, start)]
    ends = [facts.maximum(d) for d in (high, end)]
    return all(facts.non_negative(stride - (e - d)) for d in lows for e in ends)
