"""Looking: `f.graph(*args)`, `f.show(*args)` and `f.explain(*args)` of a compiled function."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stager.compiler import Compilation, Compiler, compiler_of
from stager.ir.graph import Graph
from stager.pipeline import Executable, executable, optimize
from stager.stages import stage_text


def graph(self: Any, *args: Any, stage: str = "passes", **kwargs: Any) -> Graph:
    """The graph of this function for these arguments: as traced (stage="graph") or after the passes.

    Nothing runs. The graph prints as text; `.nx` is its networkx digraph.
    """
    traced = compiler_of(self).trace(compiler_of(self).bind(args, kwargs)).graph
    if stage == "graph":
        return traced
    if stage != "passes":
        raise ValueError(f"a graph has the stages 'graph' and 'passes', not {stage!r}")
    return optimize(traced)


def show(self: Any, *args: Any, stage: str = "passes", **kwargs: Any) -> str:
    """What stands after a stage, as text: graph, passes, kernels, mlir, stablehlo, llvm or asm."""
    compiler = compiler_of(self)
    return stage_text(compiler.trace(compiler.bind(args, kwargs)).graph, stage, compiler.backend)


@dataclass
class Explanation:
    """What `explain` reports. Prints as a page; the fields are there for programs."""

    name: str
    reason: str  # why the last call traced, or that it did not
    origin: str  # "compiled", "memory" or "disk"
    times: dict[str, float]  # seconds by phase
    stats: dict[str, Any]
    declined: list[tuple[str, int, str]] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    loops: list[tuple[str, int, str]] = field(default_factory=list)  # whose way back runs in stretches, and how

    def __str__(self) -> str:
        lines = [f"{self.name}"]
        lines.append(f"  last trace: {self.reason}")
        lines.append(f"  code: {self.origin}")
        for phase, seconds in self.times.items():
            lines.append(f"    {phase:<10} {seconds * 1e3:8.2f} ms")
        lines.append("  specialisations:")
        lines.extend(f"    {i}: {text}" for i, text in enumerate(self.entries))
        lines.append("  kernels:")
        kernels = self.stats.get("kernels", [])
        lines.extend("    " + "  ".join(f"{key}={value}" for key, value in k.items()) for k in kernels)
        rest = {k: v for k, v in self.stats.items() if k != "kernels"}
        for key, value in rest.items():
            lines.append(f"  {key}: {value}")
        for file, line, how in self.loops:
            lines.append(f"  loop: {file}:{line}: {how}")
        for file, line, why in self.declined:
            lines.append(f"  not staged: {file}:{line}: {why}")
        return "\n".join(lines)


def explain(self: Any, *args: Any, **kwargs: Any) -> Explanation:
    """How this function is compiled for these arguments (without arguments: for the last call that traced).

    Kernels with their flops, bytes and what was fused, arena size, what loops keep for later ones (the tapes of a
    gradient), which loops run again in stretches on the way back and what memory that saves, compile time by phase,
    cache hits, and why the last call traced or compiled again.
    """
    compiler = compiler_of(self)
    if not args and not kwargs:
        if not compiler.history:
            raise ValueError(f"{self.__name__} has not been called yet: give explain the arguments of a call")
        last = compiler.history[-1]
        return _explanation(compiler, last.code, last)
    bound = compiler.bind(args, kwargs)
    traced = compiler.trace(bound)
    code = executable(traced.graph, backend=compiler.backend)
    return _explanation(compiler, code, Compilation(compiler, traced, code, bound, "explain"))


def _explanation(compiler: Compiler, code: Executable, of: Compilation) -> Explanation:
    reason = compiler.history[-1].reason if compiler.history else "not called yet"
    return Explanation(
        getattr(compiler.fn, "__name__", "function"),
        reason,
        code.origin,
        dict(code.times),
        dict(code.compiled.stats),
        list(of.declined),
        [", ".join(c.types) for c in compiler.history],
        list(of.loops),
    )


def attach(cls: type) -> None:
    """Give the native type its Python methods."""
    for method in (graph, explain, show):
        setattr(cls, method.__name__, method)
