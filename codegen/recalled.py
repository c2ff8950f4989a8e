"""Short loops of unknown length that are so few that the processor knows how long each will be.

A row of a sparse matrix has few elements, and how many is the matrix's secret: a loop over them one by one ends where
nobody expected it, so a row is rather one step under a mask (`leaf.py`). But the same rows come again, with every
product of an iteration or every call, and a processor keeps the history of some ten thousands of branches. Rows that
fit in it are guessed right, and one by one takes two thirds of the time then. All rows of the program share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stager.codegen.program import Buffer, Leaf, Loop, MapLanes, Nest, Program, Switch, While, walk
from stager.ir.dims import Dim, Expr, floordiv, product, symbols_of

RECALLED = 24_000
"""So many short loops are known again: of 20,000 with four turns each the ends are, of 30,000 they are not."""


def mark_recalled(program: Program) -> None:
    """Marks the leaves that look up short rows, where all the rows of the program together are so few."""
    found = list(_short_loops(program.steps, 1))
    if not any(_looks_up(leaf) for leaf, _ in found):
        return
    total: Dim = 0
    for _, rows in found:
        if rows is None:
            return
        total = total + program.facts.maximum(rows)
    if isinstance(total, int) and total <= RECALLED:
        for leaf, _ in found:
            leaf.recalled = _looks_up(leaf)


def _short_loops(steps: list[Any], rows: Dim | None) -> Iterator[tuple[Leaf, Dim | None]]:
    """The leaves whose innermost loops are as long as the data says, and how many different rows they have.

    `rows`: how many there are of what stands around, where that is known."""
    for s in steps:
        match s:
            case Nest():
                for leaf in s.leaves:
                    if leaf.loops and isinstance(leaf.loops[-1].extent, Expr):
                        around = product(a.extent for a in (*s.outer, *leaf.loops[:-1]))
                        yield leaf, rows if rows is None else rows * around
            case MapLanes():
                yield from _short_loops(s.body, _rows(rows, s, s.size))
            case Loop() if not isinstance(s.lower, Buffer) and not isinstance(s.upper, Buffer):
                yield from _short_loops(s.body, _rows(rows, s, floordiv(s.upper - s.lower, s.step)))
            case Loop() | While():
                yield from _short_loops(s.body, None)
            case Switch():
                for b in s.branches:
                    yield from _short_loops(b, rows)


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


def _looks_up(leaf: Leaf) -> bool:
    """Whether it reduces along its lanes, and looks up what it reduces."""
    inner = leaf.loops[-1]
    return inner.reduce and inner.var == leaf.vector and any(at.is_dynamic for _, at in leaf.stage.loads)
