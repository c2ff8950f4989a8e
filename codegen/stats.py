"""What a program does, in numbers: for `explain` and for the decisions of its caller."""

from __future__ import annotations

from typing import Any

from stager.codegen.program import Nest, Program, walk


def describe(program: Program) -> dict[str, Any]:
    """Per kernel: what it computes and moves."""
    kernels: list[dict[str, Any]] = []

    def visit(step: object) -> None:
        if isinstance(step, Nest):
            kernels.append({"name": step.name, "leaves": len(step.leaves)})

    walk(program.steps, visit)
    return {"kernels": kernels}
