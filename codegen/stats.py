"""What a program does, in numbers: for `explain`.

Counts are per call where sizes are known, else dims of the function's symbols. Bytes are those of the arrays that a
kernel reads and writes once each: what it must move, not what its loops touch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stager.codegen.arena import STACK_BYTES
from stager.codegen.program import (
    Buffer,
    Leaf,
    Loop,
    MapLanes,
    Move,
    Nest,
    Program,
    Routine,
    Stage,
    Storage,
    Switch,
    While,
    walk,
)
from stager.ir.dims import Dim, product


def describe(program: Program) -> dict[str, Any]:
    """Per kernel its name, points, operations, bytes and what was fused; the copies that remain; what loops keep."""
    kernels: list[dict[str, Any]] = []
    copies = list(program.copies)

    def visit(step: object) -> None:
        if isinstance(step, Nest):
            kernels.append(_kernel(step))
        elif isinstance(step, Move) and product(step.target.shape) != 1:
            how = "swap" if step.swap else "copy"
            why = "changes places in every iteration" if step.swap else "computed elsewhere, returns"
            copies.append(f"{how} {step.target.name} <- {step.source.name}: {why}")

    walk(program.steps, visit)
    return {"kernels": kernels, "copies": copies, "kept": _kept(program.steps)}


def _is_large(storage: Storage) -> bool:
    """Whether it is an array that every thread has on its stack."""
    return storage.kind == "stack" and isinstance(storage.nbytes, int) and storage.nbytes > STACK_BYTES


def _kept(steps: list[Any], inside: str = "") -> list[str]:
    """The memory that loops keep for later ones: written in one and read in another alone, like tapes.

    So do loops inside of a loop that reads such memory, in each of its turns.
    """
    storages: dict[int, Storage] = {}
    written: dict[int, dict[str, None]] = {}
    read: dict[int, dict[str, None]] = {}
    bodies: dict[str, list[Any]] = {}

    def note(of: dict[int, dict[str, None]], buffers: Iterable[Buffer], loop: str) -> None:
        for b in buffers:
            if b.storage.kind in ("temp", "heap", "tape") or _is_large(b.storage):
                storages[id(b.storage)] = b.storage
                of.setdefault(id(b.storage), {})[loop] = None

    def visit(steps: list[Any], loop: str) -> None:
        for step in steps:
            match step:
                case Nest():
                    for stage in step.stages():
                        note(read, (b for b, _ in stage.loads), loop)
                        note(written, (s.buffer for s in stage.stores), loop)
                        note(written, (r.buffer for r in stage.reductions), loop)
                case Move():
                    note(read, [step.source], loop)
                    note(written, [step.target], loop)
                case Routine():
                    note(read, step.inputs, loop)
                    note(written, step.outputs, loop)
                case MapLanes() if step.block:
                    visit(step.body, loop)
                case Loop() | MapLanes():
                    if not loop:
                        bodies[step.symbol] = step.body
                    visit(step.body, loop or step.symbol)
                case While():
                    visit([*step.test, *step.body], loop or step.condition.name)
                case Switch():
                    for branch in step.branches:
                        visit(branch, loop)

    visit(steps, "")
    found: list[str] = []
    readers: dict[str, None] = {}
    for k, storage in storages.items():
        loops, later = [set(of.get(k, ())) - {""} for of in (written, read)]
        if storage.kind == "tape":  # the turn that writes a row may read it too
            later -= loops
        if loops and later and not loops & later:
            where = f"from {', '.join(sorted(loops))} to {', '.join(sorted(later))}{inside}"
            each = " per block" if _is_large(storage) else ""
            found.append(f"{storage.name}: {storage.nbytes} bytes{each} {where}")
            readers |= dict.fromkeys(sorted(later))
    for loop in readers:
        if loop in bodies and not inside:
            found += _kept(bodies[loop], f" in every turn of {loop}")
    return found


def _kernel(nest: Nest) -> dict[str, Any]:
    flops: Dim = 0
    ops: dict[str, int] = {}
    for leaf in nest.leaves:
        points = _points(nest, leaf)
        flops = flops + points * (leaf.stage.ops() + len(leaf.stage.reductions))
        for name in _names(leaf.stage):
            ops[name] = ops.get(name, 0) + 1
    return {
        "name": nest.name,
        "flops": flops,
        "bytes": _bytes(nest),
        "fused": " ".join(name if n == 1 else f"{n}*{name}" for name, n in ops.items()) or "copy",
        "parallel": nest.parallel,
    }


def _points(nest: Nest, leaf: Leaf) -> Dim:
    """How often the body of a leaf runs."""
    extents = {a.var: a.extent for a in (*nest.outer, *leaf.loops)}
    return product(extents.values())


def _names(stage: Stage) -> list[str]:
    names = [i.data.op.name if i.op == "apply" else i.op for i in stage.body if i.op in ("apply", "mul", "bound")]
    return names + [r.kind for r in stage.reductions]


def _bytes(nest: Nest) -> Dim:
    """The arrays that are read and written, once each; rows that stay in the cache do not count."""
    sizes: dict[int, Dim] = {}
    for stage in nest.stages():
        buffers = [b for b, _ in stage.loads] + [s.buffer for s in stage.stores] + [r.buffer for r in stage.reductions]
        for b in buffers:
            if id(b.storage) not in nest.scratch and b.storage.kind != "stack":
                sizes[id(b.storage)] = b.storage.nbytes
    total: Dim = 0
    for size in sizes.values():
        total = total + size
    return total
