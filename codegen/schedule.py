"""Loop orders, vector axes, unrolling and parallel loops of nests."""

from __future__ import annotations

from stager.codegen.program import Leaf, Nest, Program, walk
from stager.codegen.target import Target


def schedule(program: Program, target: Target, *, threads: bool = True) -> None:
    """Decides how every nest runs."""
    count = 0

    def visit(step: object) -> None:
        nonlocal count
        if isinstance(step, Nest):
            step.name = f"k{count}"
            count += 1
            for leaf in step.leaves:
                _leaf(leaf, target)

    walk(program.steps, visit)


def _leaf(leaf: Leaf, target: Target) -> None:
    leaf.loops.sort(key=lambda a: a.reduce)
    if leaf.stage.sequential or not leaf.loops:
        return
    best, score = None, 0.0
    for a in leaf.loops:
        s = sum(at.coef(a.var) == b.dtype.itemsize for b, at in leaf.stage.loads)
        s += sum(2 * (x.at.coef(a.var) == x.buffer.dtype.itemsize) for x in (*leaf.stage.stores, *leaf.stage.reductions))
        if s > score:
            best, score = a, s
    if best is None:
        return
    leaf.vector = best.var
    leaf.loops.sort(key=lambda a: (a.reduce, a is best))
    leaf.unroll = 4
