"""Several machine codes of one kernel, for several CPUs, behind one name: what a library for x86-64 holds.

Each variant is compiled for its own target, its functions marked with that target's CPU; the module itself is for the
least CPU of the architecture. The kernel proper asks for the CPU's features and goes on to the first variant that needs
no others; STATUS_CPU when there is none. Invariant: nothing outside a variant needs more than the baseline, so a
library answers on every CPU. Other architectures have one variant, and no check.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

from llvmlite import ir

from stager.codegen.compile import Compiled, compile_graph
from stager.codegen.cpu import CPU_FEATURES, required
from stager.codegen.declarations import I32, I64, PTR, RARE
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.abi import STATUS_CPU, Abi, StatusAbi
from stager.ir.dims import dim_max
from stager.ir.graph import Graph

DEFINITION = re.compile(r"^(define [^\n]*)\n\{", re.MULTILINE)
PARAMETERS = (("ctx", PTR), ("buffers", PTR), ("symbols", PTR), ("arena", PTR))


def compile_variants(
    graph: Graph, targets: Sequence[Target], *, name: str, threads: bool = True, blas: bool = False
) -> Compiled:
    """Compiles a verified graph for each target, the preferred one first, into one module of LLVM text.

    The text needs `stager_cpu_features` where the targets are x86-64. `program` and `stats` are the first variant's.
    """
    import llvmlite.binding as llvm

    if targets[0].arch != "x86_64":
        [target] = targets
        return compile_graph(graph, target, name=name, threads=threads, blas=blas, assemble=False)
    variants = [
        compile_graph(graph, t, name=f"{name}_{_word(t.name)}", threads=threads, blas=blas, assemble=False)
        for t in targets
    ]
    abi = _joined([v.abi for v in variants], name)
    baseline = targets[0].baseline
    linked = llvm.parse_assembly(str(_emit_choice(abi, variants, baseline)))
    for v in variants:
        linked.link_in(llvm.parse_assembly(marked(v.text, v.target)))
        linked.get_function(v.abi.name).linkage = "internal"
    return replace(variants[0], name=name, abi=abi, target=baseline, text=str(linked))


def _word(name: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "_", name)


def marked(text: str, target: Target) -> str:
    """LLVM text whose functions are compiled for a target, whatever the module's machine is."""
    attributes = f'"target-cpu"="{target.cpu}"'
    if target.features:
        attributes += f' "target-features"="{target.features}"'
    return DEFINITION.sub(rf"\1 {attributes}\n{{", text)


def _joined(abis: Sequence[Abi], name: str) -> Abi:
    """What holds of every variant: the largest workspace, all errors."""
    statuses: dict[StatusAbi, None] = {}
    for abi in abis:
        statuses.update(dict.fromkeys(abi.statuses))
    arena = reduce(dim_max, [abi.arena_bytes for abi in abis])
    externals = tuple(dict.fromkeys([e for abi in abis for e in abi.externals]))
    return replace(abis[0], name=name, statuses=tuple(statuses), arena_bytes=arena, externals=externals)


def _emit_choice(abi: Abi, variants: Sequence[Compiled], baseline: Target) -> Any:
    """The module with the kernel's own name."""
    module = ir.Module(abi.name)
    module.triple, module.data_layout = baseline.triple, baseline.data_layout
    c = Code(module, abi.name, I32, PARAMETERS)
    arguments = [c.arg(p) for p, _ in PARAMETERS]
    found = c.call(CPU_FEATURES, I64)
    for v in variants:
        needed = required(v.target)
        with c.if_(c.eq(c.and_(found, needed), needed)):
            status = c.call(v.abi.name, I32, arguments)
            if v.abi.statuses == abi.statuses[: len(v.abi.statuses)]:
                c.ret(status)
                continue
            for k, s in enumerate(v.abi.statuses, 1):
                c.ret_if(c.eq(status, k), abi.statuses.index(s) + 1)
            c.ret(status)
    c.ret(STATUS_CPU)
    c.finish()
    return module


def emit_chosen(module: Any, function: str, targets: Sequence[Target]) -> None:
    """const char *FUNCTION(void): the CPU whose variant calls take on this x86-64; null when there is none."""
    c = Code(module, function, PTR, [], attributes=RARE)
    found = c.call(CPU_FEATURES, I64)
    for t in targets:
        needed = required(t)
        c.ret_if(c.eq(c.and_(found, needed), needed), c.string(t.cpu))
    c.ret(None)
    c.finish()
