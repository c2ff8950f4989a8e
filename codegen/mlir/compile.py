"""`compile_mlir`: graph -> MLIR -> LLVM IR (by LLVM's tools) -> object, with the calling convention of `ir/abi.py`."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from stager.codegen.compile import abi_of
from stager.codegen.mlir.adapter import emit_adapter
from stager.codegen.mlir.support import ALLOCATE, FREE, POLL, RAISE, SUPPORT
from stager.codegen.mlir.tools import lower
from stager.codegen.target import Target
from stager.ir.abi import Abi, StatusAbi
from stager.ir.dims import Dim
from stager.ir.graph import Graph
from stager.ir.mlir import Module, runnable

CALLEE = "stager_mlir_function"
RECORD = "%stager"  # the call's record, in the text of the lowered function

# Functions of the lowered text that need the call's record: their names there and in `support.py`, with declarations.
_CALLS = {
    "_mlir_memref_to_llvm_alloc": ALLOCATE,
    "_mlir_memref_to_llvm_free": FREE,
    RAISE: RAISE,
    POLL: POLL,
}
_DEFINITION = re.compile(rf"^define ([^\n]*)@{CALLEE}\(", re.MULTILINE)
_DECLARED = re.compile(r"^declare [^@\n]*@([\w.]+)\(", re.MULTILINE)


@dataclass(slots=True)
class MlirCompiled:
    """The object code of one function, its calling convention, and the texts it came through."""

    name: str
    object: bytes
    abi: Abi
    stats: dict[str, Any]
    target: Target
    mlir: str = field(repr=False, default="")
    text: str = field(repr=False, default="")  # LLVM IR as mlir-translate gave it

    @property
    def llvm(self) -> str:
        """The optimised LLVM IR."""
        return str(_linked(self.abi, self.text, self.target))

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        return str(_machine(self.target).emit_assembly(_linked(self.abi, self.text, self.target)))


def compile_mlir(graph: Graph, target: Target, *, name: str = "f") -> MlirCompiled:
    """Compiles a verified graph. MlirError when the tools are absent, NotImplementedError for an op without a form."""
    return compile_many([graph], target, name=name)[0]


def compile_many(graphs: Sequence[Graph], target: Target, *, name: str = "f", opt: int = 2) -> list[MlirCompiled]:
    """Compiles graphs one by one, with one run of the tools for all of them; `opt` as in `cc -O`."""
    start = time.perf_counter()
    modules = [runnable(graph, CALLEE, RAISE, POLL) for graph in graphs]
    printed = time.perf_counter()
    texts = lower([m.text for m in modules])
    lowered = time.perf_counter()
    times = {"mlir": printed - start, "lower": lowered - printed}
    return [_assembled(g, m, t, target, name, opt, times) for g, m, t in zip(graphs, modules, texts, strict=True)]


def _assembled(
    graph: Graph, module: Module, text: str, target: Target, name: str, opt: int, times: dict[str, float]
) -> MlirCompiled:
    start = time.perf_counter()
    externals = tuple([f for f in _DECLARED.findall(text) if not f.startswith("llvm.") and f not in _HERE])
    statuses = tuple([StatusAbi(exception, message) for exception, message in module.errors])
    symbols = [s for s, d in graph.symbols.items() if d.kind != "data"]
    abi = abi_of(graph, name, symbols, statuses, (*externals, "_setjmp", "longjmp"), work=_work(graph))
    code = bytes(_machine(target, opt).emit_object(_linked(abi, text, target, opt)))
    phases = times | {"assemble": time.perf_counter() - start}
    return MlirCompiled(name, code, abi, {"phases": phases, "object": len(code)}, target, module.text, text)


_HERE = frozenset({*_CALLS, "memrefCopy", "malloc", "free", "longjmp"})


def _work(graph: Graph) -> Dim:
    """Rough nanoseconds: one per element of every value."""
    total: Dim = 0
    for node in graph.nodes:
        for t in node.types:
            total = total + t.size
    return total


@cache
def _machine(target: Target, opt: int = 2) -> Any:
    return target.machine(opt=opt)


def _linked(abi: Abi, text: str, target: Target, opt: int = 2) -> Any:
    """The lowered function, its support and its adapter as one optimised module with one visible function."""
    import llvmlite.binding as llvm

    module = llvm.parse_assembly(str(emit_adapter(abi, CALLEE, target).module))
    module.link_in(llvm.parse_assembly(SUPPORT))
    module.link_in(llvm.parse_assembly(_with_record(text)))
    for function in module.functions:
        if not function.is_declaration and function.name != abi.name:
            function.linkage = "internal"
    if opt:
        # Unrolled and vectorised, the many small loops of linalg take a hundred times as long to compile.
        options = llvm.create_pipeline_tuning_options(speed_level=opt)
        options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = False
        builder = llvm.create_pass_builder(_machine(target, opt), options)
        builder.getModulePassManager().run(module, builder)
    return module


def _with_record(text: str) -> str:
    """The text with the call's record as the first parameter, and as the first argument of support functions."""
    text = _DEFINITION.sub(rf"define \1@{CALLEE}(ptr {RECORD}, ", text)
    for name, support in _CALLS.items():
        text = re.sub(rf"(declare [^@\n]*)@{name}\(", rf"\1@{support}(ptr, ", text)
        text = re.sub(rf"(call [^@\n]*)@{name}\(", rf"\1@{support}(ptr {RECORD}, ", text)
    return text.replace(f"(ptr {RECORD}, )", f"(ptr {RECORD})").replace("(ptr, )", "(ptr)")
