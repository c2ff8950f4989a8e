"""What stands after each stage of a function's way to machine code, as text: `f.show`, `python -m stager show`."""

from __future__ import annotations

from stager.errors import UnsupportedError
from stager.ir.graph import Graph
from stager.pipeline import generate, optimize

STAGES = ("graph", "passes", "kernels", "mlir", "stablehlo", "llvm", "asm")


def stage_text(traced: Graph, stage: str, backend: str = "native") -> str:
    """The printed form of a traced graph at a stage. ValueError for a stage that does not exist."""
    if stage not in STAGES:
        raise ValueError(f"no stage is called {stage!r}; the stages are {', '.join(STAGES)}")
    if stage == "graph":
        return str(traced)
    optimized = optimize(traced)
    if stage == "passes":
        return str(optimized)
    if stage == "mlir":
        from stager.ir.mlir import to_mlir

        return to_mlir(optimized)
    if stage == "stablehlo":
        from stager.ir.stablehlo import StableHLOError

        try:
            return optimized.to_stablehlo()
        except StableHLOError as e:
            raise UnsupportedError(str(e)) from None
    compiled = generate(optimized, backend)
    if stage == "kernels":
        if backend == "mlir":
            raise ValueError("the mlir backend makes no kernels of stager's; look at the stage mlir or llvm")
        return str(compiled.program)
    return str(compiled.llvm if stage == "llvm" else compiled.assembly)
