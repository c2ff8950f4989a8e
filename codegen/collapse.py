"""Neighbouring axes that every access of a nest crosses as one become one loop.

Invariant: a nest touches the same positions as before; only how many loops count its points changes. Two axes merge
where a step along one moves every position as far as a whole run along the other.
"""

from __future__ import annotations

from stager.codegen.program import LoopAxis, Nest, Stage


def collapse(nest: Nest) -> None:
    """Neighbouring axes that every access crosses as one become one loop."""
    if len(nest.outer) > 1 and nest.piece is None:
        _collapse(nest.outer, [leaf.stage for leaf in nest.leaves])
    for leaf in (*nest.first, *nest.leaves):
        if len(leaf.loops) > 1:
            _collapse(leaf.loops, [leaf.stage])


def _collapse(loops: list[LoopAxis], stages: list[Stage]) -> None:
    positions = [ix for s in stages for ix in s.positions]
    ordered = any(s.folds for s in stages)
    again = True
    while again and len(loops) > 1:
        again = False
        for a in loops:
            for b in loops:
                if a is b or a.reduce != b.reduce or (a.reduce and ordered):
                    continue
                if all(ix.coef(a.var) == ix.coef(b.var) * b.extent for ix in positions):
                    _drop(stages, a.var)
                    b.extent = a.extent * b.extent
                    loops.remove(a)
                    positions = [ix for s in stages for ix in s.positions]
                    again = True
                    break
            if again:
                break


def _drop(stages: list[Stage], var: int) -> None:
    """Removes a variable's terms: another variable takes its part."""
    for s in stages:
        s.move(lambda at: at.without((var,)))
