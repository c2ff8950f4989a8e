"""What a program does, in numbers: for `explain` and for the decisions of its caller.

flops count one for every arithmetic instruction of a body and every element that a reduction takes in; bytes are those
of the arrays that a kernel touches outside its own row storage, each once. Both are dims: sizes may be symbols. Inside
loops they are for one iteration.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.program import Move, Nest, Program, Routine, domain_size, walk
from stager.ir.dims import Dim, product


def describe(program: Program) -> dict[str, Any]:
    """Per kernel: its name, the ops that are fused in it, flops and bytes; and the copies that remain."""
    kernels: list[dict[str, Any]] = []
    copies: list[str] = []

    def visit(step: object) -> None:
        if isinstance(step, Nest):
            kernels.append(_nest(step))
        elif isinstance(step, Routine):
            buffers = {id(b.storage): product(b.shape) * b.dtype.itemsize for b in (*step.inputs, *step.outputs)}
            kernels.append(
                {"name": step.name, "fused": step.node.op.name, "flops": _routine_flops(step), "bytes": _total(buffers)}
            )
        elif isinstance(step, Move) and not step.swap:
            size = product(step.target.shape) * step.target.dtype.itemsize
            copies.append(f"{step.source} -> {step.target}: {size} bytes")

    walk(program.steps, visit)
    return {"kernels": kernels, "copies": copies}


def _nest(nest: Nest) -> dict[str, Any]:
    flops: Dim = 0
    fused: list[str] = []
    buffers: dict[int, Dim] = {}
    for stage in nest.stages():
        arithmetic = [i for i in stage.body if i.op == "apply"]
        flops = flops + domain_size(stage.axes) * (len(arithmetic) + len(stage.reductions))
        fused += [i.data.op.name for i in arithmetic] + [f"reduce_{r.kind}" for r in stage.reductions]
        touched = [b for b, _ in stage.loads] + [s.buffer for s in stage.stores] + [r.buffer for r in stage.reductions]
        for b in touched:
            if id(b.storage) not in nest.scratch:
                buffers[id(b.storage)] = product(b.shape) * b.dtype.itemsize
    return {
        "name": nest.name, "fused": "+".join(fused) or "copy", "flops": flops, "bytes": _total(buffers),
        "passes": len(nest.leaves), "parallel": nest.parallel,
    }  # fmt: skip


def _routine_flops(step: Routine) -> Dim:
    """Two per multiply-add of a product; for the others the elements that come in."""
    if step.node.op.name == "dot":
        (summed, _) = step.node.params["contract"]
        inner = product(step.node.args[0].shape[k] for k in summed)
        return product(step.node.types[0].shape) * inner * 2
    return product(step.inputs[0].shape) if step.inputs else 0


def _total(sizes: dict[int, Dim]) -> Dim:
    total: Dim = 0
    for size in sizes.values():
        total = total + size
    return total
