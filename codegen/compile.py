"""`compile_graph`: graph -> program -> LLVM module -> object, and the record of what came out.

The pipeline is the lists in `plan_program` and `compile_graph`, top to bottom: lower, fuse (then share buffers),
schedule, plan; emit, optimise, assemble. Nothing here executes code or knows addresses; the same object serves the JIT
and a built library.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from stager.codegen.program import Program
from stager.codegen.target import Target, kernel_options
from stager.ir.abi import Abi, InputAbi, OutputAbi, StatusAbi, SymbolAbi
from stager.ir.dims import Dim, contiguous_strides, substitute, symbols_of
from stager.ir.graph import Graph

TYPICAL_SIZE = 1024  # elements, of a dim that only the data decides


@dataclass(slots=True)
class Compiled:
    """The object code of one function, its calling convention, and the levels it came through."""

    name: str
    object: bytes
    abi: Abi
    program: Program
    stats: dict[str, Any]
    target: Target
    text: str = field(repr=False, default="")  # LLVM IR as emitted
    plain_addresses: bool = False  # see `kernel_options`

    @property
    def llvm(self) -> str:
        """The optimised LLVM IR."""
        return str(_optimised(self.text, self.target, loops=self.program.has_loops))

    @property
    def assembly(self) -> str:
        """The machine code as text."""
        module = _optimised(self.text, self.target, loops=self.program.has_loops)
        with kernel_options(plain_addresses=self.plain_addresses):
            return str(_machine(self.target).emit_assembly(module))


def compile_graph(
    graph: Graph,
    target: Target,
    *,
    name: str = "f",
    threads: bool = True,
    blas: bool = False,
    assemble: bool = True,
) -> Compiled:
    """Compiles a verified graph. The ABI's names are those of `stager/ir/abi.py`. `blas`: the functions of
    `runtime/blas.py` are there where the code will run; without them large products are generated too. `assemble`:
    False leaves it at LLVM text, for what links it with more."""
    from stager.codegen.module import emit_program

    clock = _Clock()
    program = plan_program(graph, target, name=name, threads=threads, blas=blas, clock=clock)
    emitted = emit_program(program, target, threads=threads, blas=blas)
    plain = not program.has_loops and (bool(program.symbols) or not emitted.by_element)
    clock("emit")
    text = str(emitted.module)
    clock("print")
    code = b""
    if assemble:
        module = _optimised(text, target, loops=program.has_loops)
        clock("optimise")
        with kernel_options(plain_addresses=plain):
            code = bytes(_machine(target).emit_object(module))
        clock("assemble")
    from stager.codegen.foreign import symbols_from_outside

    statuses, externals = emitted.status_table(), (*emitted.externals, *symbols_from_outside(emitted.module))
    abi = abi_of(graph, name, program.symbols, statuses, externals, program.arena_bytes, program.work)
    from stager.codegen.stats import describe

    stats = describe(program) | {"phases": clock.times, "arena": program.arena_bytes, "object": len(code)}
    return Compiled(name, code, abi, program, stats, target, text, plain)


def plan_program(
    graph: Graph, target: Target, *, name: str, threads: bool, blas: bool, clock: _Clock | None = None
) -> Program:
    """The loop nests of a graph, with memory, as they are emitted."""
    from stager.codegen.abreast import abreast
    from stager.codegen.arena import plan
    from stager.codegen.blocks import blocks
    from stager.codegen.fills import hoist_fills
    from stager.codegen.fuse import fuse
    from stager.codegen.homes import settle
    from stager.codegen.inplace import share
    from stager.codegen.inward import inward
    from stager.codegen.join import join
    from stager.codegen.late import mark_late
    from stager.codegen.lower import lower
    from stager.codegen.overwritten import drop_overwritten
    from stager.codegen.recalled import mark_recalled
    from stager.codegen.rotate import rotate
    from stager.codegen.schedule import schedule
    from stager.codegen.sideways import sideways
    from stager.codegen.usual import mark_usual

    clock = clock or _Clock()
    program = lower(graph, name, target, blas=blas)
    drop_overwritten(program)
    clock("lower")
    fuse(program)
    join(program)
    rotate(program)
    share(program)
    hoist_fills(program)
    inward(program)
    sideways(program, target)
    blocks(program)
    settle(program)
    mark_late(program)
    mark_usual(program)
    clock("fuse")
    schedule(program, target, threads=threads)
    mark_recalled(program)
    abreast(program)
    clock("schedule")
    plan(program)
    clock("plan")
    return program


class _Clock:
    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, phase: str) -> None:
        now = time.perf_counter()
        self.times[phase] = now - self._last
        self._last = now


@cache
def _machine(target: Target) -> Any:
    return target.machine(opt=2)


def _optimised(text: str, target: Target, *, loops: bool) -> Any:
    """The module, parsed and optimised."""
    import llvmlite.binding as llvm

    machine = _machine(target)  # initialises LLVM
    assert machine is not None
    module = llvm.parse_assembly(text)
    optimise(module, target, inline='@"stager.' in text, loops=loops)
    return module


def optimise(module: Any, target: Target, *, inline: bool, loops: bool = False) -> None:
    """The passes of the emitter's own code: of the JIT's modules and of a built library's, so that both run alike.
    `inline`: there are functions that must be inlined or dropped. `loops`: there are loops that were written one
    element at a time. What one iteration stores and the next one loads again stays in a register there, what no
    iteration changes is loaded before, and short loops are unrolled. Vector code needs none of that: it is emitted as
    it shall be."""
    import llvmlite.binding as llvm

    options = llvm.create_pipeline_tuning_options(speed_level=2 if loops else 1)
    options.loop_vectorization = False
    options.slp_vectorization = False
    options.loop_unrolling = loops
    builder = llvm.create_pass_builder(_machine(target), options)
    passes = llvm.create_new_module_pass_manager()
    if inline:
        passes.add_always_inliner_pass()
        passes.add_global_dead_code_eliminate_pass()
    passes.add_sroa_pass()
    passes.add_instruction_combine_pass()
    passes.add_simplify_cfg_pass()
    passes.run(module, builder)
    if loops:
        builder.getModulePassManager().run(module, builder)


def abi_of(
    graph: Graph,
    name: str,
    known: Iterable[str],
    statuses: tuple[StatusAbi, ...],
    externals: tuple[str, ...],
    arena_bytes: Dim = 0,
    work: Dim = 0,
) -> Abi:
    """The calling convention of a graph's code. `known`: the symbols that have their values before it runs."""
    signature, known = graph.signature, set(known)
    written = {i for i, _ in signature.writes}
    inputs = []
    for n, v in enumerate(graph.inputs):
        strides: tuple[Dim, ...] = signature.layouts.get(n) or contiguous_strides(v.shape, v.type.dtype.itemsize)
        inputs.append(InputAbi(v.type, strides, n in written, v.type.dtype.itemsize))
    written_by = {o: i for i, o in signature.writes}
    outputs = []
    for n, v in enumerate(graph.outputs):
        if n in written_by:
            outputs.append(OutputAbi(v.type, "input", written_by[n]))
        elif n in signature.aliases:
            kind, *rest = signature.aliases[n]
            outputs.append(OutputAbi(v.type, kind, *rest))
        else:
            outputs.append(OutputAbi(v.type, "fresh" if symbols_of(v.shape) <= known else "sized"))
    position = {id(v.node): n for n, v in enumerate(graph.inputs)}
    symbols = []
    for s, d in graph.symbols.items():
        if d.kind != "data":
            source = d.source if isinstance(d.source, int) else position[id(d.source.node)]
            symbols.append(SymbolAbi(s, d.kind, source, d.axis))
    # the caller decides by `work` before the data has said any size: typical ones stand in
    work = substitute(work, {s: TYPICAL_SIZE for s, d in graph.symbols.items() if d.kind == "data"})
    return Abi(name, tuple(inputs), tuple(outputs), tuple(symbols), arena_bytes, statuses, externals, work)
