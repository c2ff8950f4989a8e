"""Built libraries: kernels, their C entries and the thread pool, linked into one module.

Every symbol that a library exports carries its name or a function's, so that several libraries go into one program; all
else is internal. Not here: object files and linking (`stager/aot/`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from llvmlite import ir

from stager.codegen.c_entry import emit_entry
from stager.codegen.c_interface import Function
from stager.codegen.cpu import emit_cpu
from stager.codegen.declarations import I64, bytes_data, const
from stager.codegen.growth import TAPE_GROW, emit_growth
from stager.codegen.pool_state import POOL_SET_THREADS, POOL_STOP
from stager.codegen.products import PRODUCTS
from stager.codegen.target import Target
from stager.codegen.variants import emit_chosen
from stager.ir.abi import PARALLEL_BRIEF, PARALLEL_FOR

METADATA, METADATA_BYTES = "stager_metadata", "stager_metadata_bytes"


def uses_pool(functions: Sequence[Function]) -> bool:
    """Whether any kernel has parallel regions, or products by BLAS, which are divided among threads."""
    needed = {e for f in functions for k in f.kernels for e in k.abi.externals}
    return bool(needed & {PARALLEL_FOR, PARALLEL_BRIEF, *PRODUCTS.values()})


def uses_tapes(functions: Sequence[Function]) -> bool:
    """Whether any kernel has tapes that grow as it runs."""
    return any(TAPE_GROW in k.abi.externals for f in functions for k in f.kernels)


def exported_pool(library: str) -> dict[str, str]:
    """The pool's functions under the names that a library exports."""
    return {POOL_SET_THREADS: f"{library}_set_threads", POOL_STOP: f"{library}_stop_threads"}


def exported_cpu(library: str, targets: Sequence[Target]) -> str | None:
    """The function that says which variant runs; only x86-64 has several."""
    return f"{library}_cpu" if targets[0].arch == "x86_64" else None


def emit_library(
    functions: Sequence[Function],
    targets: Sequence[Target],
    library: str,
    *,
    metadata: bytes = b"",
    more: Sequence[str] = (),
    kept: Callable[[str, Callable[[], bytes]], bytes] = lambda name, build: build(),
) -> Any:
    """The LLVM module (llvmlite.binding) of a whole library, optimised. `more`: LLVM text of what kernels call. `kept`
    gives the bytes of that name if they were built before: modules that are the same in every library for a target.

    `targets` are those that the kernels have variants for; all else runs on the least CPU of their architecture.
    """
    import llvmlite.binding as llvm

    from stager.codegen.compile import optimise
    from stager.codegen.pool import emit_pool

    target = targets[0].baseline
    target.machine()  # initialises LLVM
    module = ir.Module("library")
    module.triple, module.data_layout = target.triple, target.data_layout
    for f in functions:
        emit_entry(module, f, target)
    if metadata:
        data = bytes_data(module, metadata, METADATA)
        data.linkage = "weak"  # one of several stands when libraries are linked into one program
        length = ir.GlobalVariable(module, I64, METADATA_BYTES)
        length.linkage = "weak"
        length.global_constant = True
        length.initializer = const(I64, len(metadata))
    public = {name for f in functions for name in (f.name, f"{f.name}_workspace", f"{f.name}_error")}
    public |= {k.abi.name for f in functions for k in f.kernels}
    public |= {METADATA, METADATA_BYTES}
    renamed = exported_pool(library)
    cpu = exported_cpu(library, targets)
    if cpu is not None:
        emit_chosen(module, cpu, targets)
        public.add(cpu)
    linked = llvm.parse_assembly(str(module))
    for text in more:
        linked.link_in(llvm.parse_assembly(text))
    for kernel in [k for f in functions for k in f.kernels]:
        part = llvm.parse_assembly(kernel.text)
        if kernel.loops:  # alone, as the JIT does: nothing else of the library is to be changed, or looked into
            optimise(part, target, inline=True, loops=True)
        linked.link_in(part)
    linked.verify()
    _hide(linked, public, target)
    if len(targets) > 1:
        _share_constants(linked, target)
    optimise(linked, target, inline=True, loops=False)
    if uses_pool(functions):
        linked.link_in(llvm.parse_bitcode(_support(emit_pool, target, kept)))
    if uses_tapes(functions):
        linked.link_in(llvm.parse_bitcode(_support(emit_growth, target, kept)))
    if cpu is not None:
        linked.link_in(llvm.parse_bitcode(_support(emit_cpu, target, kept)))
    for value in linked.functions:
        if not value.is_declaration:
            value.name = renamed.get(value.name, value.name)
    _hide(linked, public | set(renamed.values()), target)
    _leave_rare_as_they_are(linked)
    return linked


def _hide(linked: Any, public: Iterable[str], target: Target) -> None:
    """Nothing but `public` is seen from outside."""
    for value in [*linked.functions, *linked.global_variables]:
        if value.is_declaration:
            continue
        if value.name not in public:
            if value.linkage.name == "external":
                value.linkage = "internal"
        elif target.system.format == "coff" and not value.name.startswith(METADATA):
            value.storage_class = "dllexport"  # what a DLL exports; weak data cannot be


def _leave_rare_as_they_are(linked: Any) -> None:
    """Functions that run seldom become machine code as they stand: half of the time that a small library takes."""
    for function in linked.functions:
        if not function.is_declaration and any(b"cold" in words.split() for words in function.attributes):
            for attribute in ("noinline", "optnone"):
                function.add_function_attribute(attribute)


def _support(emit: Callable[[Target], Any], target: Target, kept: Callable[..., bytes]) -> bytes:
    """A module that is the same in every library for a target, optimised, as bitcode."""
    import llvmlite.binding as llvm

    from stager.codegen.compile import optimise

    def made() -> bytes:
        module = llvm.parse_assembly(str(emit(target)))
        module.verify()
        optimise(module, target, inline=False)
        return bytes(module.as_bitcode())

    name = f"{emit.__name__} {target.triple} {target.cpu} {target.features}"
    if name not in _made:
        _made[name] = kept(name, made)
    return _made[name]


_made: dict[str, bytes] = {}


def _share_constants(linked: Any, target: Target) -> None:
    """Tables and embedded arrays of several variants stand there once."""
    import llvmlite.binding as llvm

    passes = llvm.create_new_module_pass_manager()
    passes.add_constant_merge_pass()
    passes.run(linked, llvm.create_pass_builder(target.machine(), llvm.create_pipeline_tuning_options()))
