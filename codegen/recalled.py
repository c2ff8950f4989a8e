"""Short loops of unknown length that are so few that the processor knows how long each will be.

A row of a sparse matrix has few elements, and how many is the matrix's secret: a loop over them one by one ends where
nobody expected it, so a row is rather one step under a mask (`leaf.py`). But the same rows come again, with every
product of an iteration or every call, and a processor keeps the history of some ten thousands of branches. Rows that
fit in it are guessed right, and one by one takes two thirds of the time then.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import Facts
from stager.codegen.program import Buffer, Leaf, Loop, MapLanes, Nest, Program, Switch, While, walk
from stager.ir.dims import Dim, Expr, floordiv, product, symbols_of

RECALLED = 24_000
"""So many short loops are known again: of 20,000 with four turns each the ends are, of 30,000 they are not."""


def mark_recalled(program: Program) -> None:
    """Marks the leaves whose rows are so few."""
    if any(_is_short(leaf) for nest in _nests(program.steps) for leaf in nest.leaves):
        _mark(program.steps, 1, program.facts)


def _mark(steps: list[Any], rows: Dim | None, facts: Facts) -> None:
    """`rows`: how many different ones there are of what stands around, where that is known."""
    for s in steps:
        match s:
            case Nest() if rows is not None:
                most = facts.maximum(rows * product(a.extent for a in s.outer))
                if isinstance(most, int) and most <= RECALLED:
                    for leaf in s.leaves:
                        leaf.recalled = _is_short(leaf)
            case MapLanes():
                _mark(s.body, _rows(rows, s, s.size), facts)
            case Loop() if not isinstance(s.lower, Buffer) and not isinstance(s.upper, Buffer):
                _mark(s.body, _rows(rows, s, facts.maximum(floordiv(s.upper - s.lower, s.step))), facts)
            case Loop() | While():
                _mark(s.body, None, facts)
            case Switch():
                for b in s.branches:
                    _mark(b, rows, facts)


def _rows(around: Dim | None, s: Loop | MapLanes, turns: Dim) -> Dim:
    """Turns that all read the same, as those of an iteration do, come to the same rows again."""
    around = 1 if around is None else around
    return around * turns if _reads_by(s.body, {s.symbol, *s.also}) else around


def _reads_by(steps: list[Any], names: set[str]) -> bool:
    """Whether one of the symbols says where something is read."""
    for nest in _nests(steps):
        for stage in nest.stages():
            for b, at in stage.loads:
                if any(names & symbols_of(d) for d in (b.offset, at.const, *(c for _, c in at.terms))):
                    return True
    return False


def _nests(steps: list[Any]) -> list[Nest]:
    found: list[Nest] = []

    def look(step: Any) -> None:
        if isinstance(step, Nest):
            found.append(step)

    walk(steps, look)
    return found


def _is_short(leaf: Leaf) -> bool:
    """Whether it looks up, and reduces along its lanes, as many elements as the data says."""
    inner = leaf.loops[-1] if leaf.loops else None
    if inner is None or not inner.reduce or inner.var != leaf.vector or not isinstance(inner.extent, Expr):
        return False
    return any(at.is_dynamic for _, at in leaf.stage.loads)
