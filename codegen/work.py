"""What steps cost, in rough nanoseconds: what decides whether threads are worth waking and how often loops look up.

Shapes alone decide. Not here: what lanes make of it (`modes.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stager.codegen.index import Facts, Ix
from stager.codegen.modes import weight
from stager.codegen.program import Buffer, Loop, MapLanes, Nest, Program, Routine, Stage, Switch, While
from stager.ir.dims import Dim, Expr, floordiv, product, symbols_of


def body_work(steps: list[Any], facts: Facts) -> float:
    """Nanoseconds of one run, roughly; loops of unknown length count as a hundred turns."""
    total = 5.0
    for s in steps:
        match s:
            case Nest():
                total += cost_of(s) * guess(facts.maximum(points_of(s)))
            case Loop():
                turns: Dim = 100
                if not isinstance(s.lower, Buffer) and not isinstance(s.upper, Buffer):
                    turns = facts.maximum(floordiv(s.upper - s.lower, s.step))
                total += guess(turns) * body_work(s.body, facts)
            case MapLanes():
                total += guess(s.size) * body_work(s.body, facts)
            case While():
                total += 100 * (body_work(s.test, facts) + body_work(s.body, facts))
            case Switch():
                total += max((body_work(b, facts) for b in s.branches), default=0.0)
            case _:
                total += 100.0
    return total


PRODUCT_NS = 0.03
"""Of one term of a product on one thread."""


def products_work(steps: list[Any], facts: Facts) -> float:
    """Nanoseconds of the products that stand in no loop, roughly: `body_work` takes them for short."""
    total = 0.0
    for s in steps:
        if isinstance(s, Routine) and s.node.op.name == "dot":
            x, (inner, _) = s.node.args[0], s.node.params["contract"]
            terms = product(x.shape[a] for a in inner) * product(s.outputs[0].shape)
            total += PRODUCT_NS * guess(facts.maximum(terms))
    return total


def total_work(steps: list[Any], program: Program) -> Dim:
    """The nanoseconds of one run as a dim of the function's own symbols."""
    total: Dim = 0
    for s in steps:
        match s:
            case Nest():
                total = total + floordiv(_known(program, points_of(s)) * max(1, int(cost_of(s) * 16)), 16)
            case Loop():
                turns: Dim = 100
                if not isinstance(s.lower, Buffer) and not isinstance(s.upper, Buffer):
                    turns = _known(program, floordiv(s.upper - s.lower, s.step))
                total = total + turns * total_work(s.body, program)
            case MapLanes():
                total = total + _known(program, s.size) * total_work(s.body, program)
            case While():
                total = total + 100 * (total_work(s.test, program) + total_work(s.body, program))
            case Switch():
                total = total + (total_work(s.branches[-1], program) if s.branches else 0)
            case Routine():
                total = total + _known(program, product(s.outputs[0].shape) if s.outputs else 1)
    return total


def _known(program: Program, d: Dim) -> Dim:
    """A bound in the function's own symbols; a hundred where there is none."""
    bound = program.facts.maximum(d)
    return bound if symbols_of(bound) <= set(program.symbols) else 100


def guess(d: Dim) -> float:
    """A dim as a number; a hundred where it is not known."""
    return float(d) if isinstance(d, int) else 100.0


def points_of(nest: Nest) -> Dim:
    """The points of the largest leaf."""
    outer = product(a.extent for a in nest.outer)
    best: Dim = 1
    for leaf in nest.leaves:
        size = product(
            a.extent for a in leaf.loops if not a.tile and not (nest.block and a.var == nest.outer[-1].var)
        )
        if isinstance(size, Expr) or (isinstance(best, int) and size > best):
            best = size
    return outer * best


def cost_of(nest: Nest) -> float:
    """Nanoseconds of one point, roughly."""
    ops = sum(weight(i) for leaf in nest.leaves for i in leaf.stage.body)
    moved = {id(b.storage): b.dtype.itemsize for leaf in nest.leaves for b, _, _ in accesses(leaf.stage)}
    folds = (r.buffer for leaf in nest.leaves if leaf.stage.folds for r in leaf.stage.reductions)
    moved.update((id(b.storage), b.dtype.itemsize) for b in folds)
    return 0.08 * ops + 0.02 * sum(moved.values())


def accesses(stage: Stage) -> Iterator[tuple[Buffer, Ix, bool]]:
    """Every access of memory: buffer, position, whether it is a store at every point."""
    for b, at in stage.loads:
        yield b, at, False
    for s in stage.stores:
        yield s.buffer, s.at, True
