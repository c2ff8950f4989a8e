"""Short loops of unknown length that a program runs so seldom that the processor knows how long each will be.

A row of a sparse matrix has few elements, and how many is the matrix's secret: a loop over them one by one ends where
nobody expected it, so a row is rather one step under a mask (`leaf.py`). But the same rows come again, with every
product of an iteration or every call, and a processor keeps the history of some ten thousands of branches. Rows that
fit in it are guessed right, and one by one takes two thirds of the time then.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.index import Facts
from stager.codegen.program import Buffer, Leaf, Loop, MapLanes, Nest, Program, Switch
from stager.ir.dims import Dim, Expr, floordiv, product

RECALLED = 24_000
"""So many short loops are known again: of 20,000 with four turns each the ends are, of 30,000 they are not."""


def mark_recalled(program: Program) -> None:
    """Marks the leaves that run at most so often in a call."""
    _mark(program.steps, 1, program.facts)


def _is_short(leaf: Leaf) -> bool:
    """Whether it reduces, along its lanes, as many elements as the data says."""
    inner = leaf.loops[-1] if leaf.loops else None
    return inner is not None and inner.reduce and inner.var == leaf.vector and isinstance(inner.extent, Expr)


def _mark(steps: list[Any], times: Dim, facts: Facts) -> None:
    for s in steps:
        match s:
            case Nest():
                often = facts.maximum(times * product(a.extent for a in s.outer))
                if isinstance(often, int) and often <= RECALLED:
                    for leaf in s.leaves:
                        leaf.recalled = _is_short(leaf)
            case MapLanes():
                _mark(s.body, times * s.size, facts)
            case Loop() if not isinstance(s.lower, Buffer) and not isinstance(s.upper, Buffer):
                _mark(s.body, times * facts.maximum(floordiv(s.upper - s.lower, s.step)), facts)
            case Switch():
                for b in s.branches:
                    _mark(b, times, facts)
