"""What the kernels of a program move, and the least that they could: tests compare the two, without a clock."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from stager.codegen.compile import plan_program
from stager.codegen.program import Move, Nest, Program, Routine, Storage, Switch, walk
from stager.codegen.target import Target
from stager.ir.dims import Expr, evaluate, symbols_of
from stager.pipeline import optimize
from stager.transforms.shapes import trace_types

SIZE = 64  # of extents that only the call knows


def plan(f: Callable[..., Any], *specs: str) -> Program:
    """The kernels of a function, as they would be emitted."""
    graph = optimize(trace_types(f, specs, {}).graph)
    return plan_program(graph, Target.host(), name="f", threads=False, blas=False)


def number(d: Any) -> int:
    return int(evaluate(d, dict.fromkeys(symbols_of((d,)), SIZE)))


def kernels(p: Program) -> list[Nest | Routine]:
    """The nests and routines, those in loops too."""
    return [s for s in _taken(p) if isinstance(s, Nest | Routine)]


def _taken(p: Program) -> list[Any]:
    """The steps, those in loops too; of a switch by sizes, those for extents of SIZE."""
    found: list[Any] = []
    skipped: set[int] = set()

    def visit(s: Any) -> None:
        if id(s) in skipped:
            return
        found.append(s)
        if isinstance(s, Switch) and isinstance(s.index, Expr):
            taken = min(max(number(s.index), 0), len(s.branches) - 1)
            for k, branch in enumerate(s.branches):
                if k != taken:
                    walk(branch, lambda other: skipped.add(id(other)))

    walk(p.steps, visit)
    return found


def moved(p: Program) -> int:
    """The bytes that kernels read and write: of an array once per kernel that reads it, every time it is written. Rows
    that stay in the cache do not count."""
    total = 0
    for k in kernels(p):
        total += _by_nest(k) if isinstance(k, Nest) else _by_routine(k)
    moves = [s for s in _taken(p) if isinstance(s, Move) and not s.swap]
    return total + sum(2 * _elements(m.target) for m in moves)


def least(p: Program) -> int:
    """The bytes of the inputs that are read and of the outputs, once each."""
    read = {id(b.storage) for k in kernels(p) for b in _read(k)}
    inputs = sum(number(b.storage.nbytes) for b in p.inputs if id(b.storage) in read)
    return inputs + sum(number(b.storage.nbytes) for b in p.outputs)


def temporaries(p: Program) -> int:
    """The bytes of the largest array that is neither input nor output nor a row of a kernel or room for a routine."""
    room = {id(b.storage) for k in kernels(p) if isinstance(k, Routine) for b in k.scratch}
    return max([number(s.nbytes) for s in p.storages if s.kind in ("temp", "heap") and id(s) not in room], default=0)


def _elements(b: Any) -> int:
    return prod(number(d) for d in b.shape) * b.dtype.itemsize


def _read(k: Nest | Routine) -> list[Any]:
    return k.inputs if isinstance(k, Routine) else [b for stage in k.stages() for b, _ in stage.loads]


def _by_routine(k: Routine) -> int:
    inputs = [min(_elements(b), number(b.storage.nbytes)) for b in k.inputs]  # what is repeated is read once
    return sum(inputs) + sum(map(_elements, k.outputs))


def _by_nest(nest: Nest) -> int:
    read: dict[int, int] = {}
    written = 0

    def counts(storage: Storage) -> bool:
        return storage.kind != "stack" and id(storage) not in nest.scratch

    for leaf in nest.leaves:
        extents = [(number(a.extent), a.reduce) for a in leaf.stage.axes]
        points, kept = prod(n for n, _ in extents), prod(n for n, reduce in extents if not reduce)
        for b, _ in leaf.stage.loads:
            if counts(b.storage):
                size = min(points * b.dtype.itemsize, number(b.storage.nbytes))
                read[id(b.storage)] = max(read.get(id(b.storage), 0), size)
        stored = [(s.buffer, points, s.combine) for s in leaf.stage.stores]
        stored += [(r.buffer, kept, r.combine) for r in leaf.stage.reductions]
        for b, n, combine in stored:
            if counts(b.storage):  # what sums are added to stays in the cache
                size = n * b.dtype.itemsize
                written += size if combine == "set" else min(size, number(b.storage.nbytes))
    return sum(read.values()) + written
