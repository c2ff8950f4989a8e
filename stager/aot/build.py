"""`build`: functions into an object file, a shared library and a C header that need neither Python nor stager."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stager.aot.errors import BuildError
from stager.aot.functions import Options, library_function, plain_function
from stager.aot.linking import archive_static, find_linker, link_shared, links_here, write
from stager.aot.specs import checked_name, read_spec
from stager.ir.dims import is_static

METADATA_FORMAT = 3
WEIGHTS = ("argument", "embed")


@dataclass(frozen=True)
class Member:
    """A function as a library shall hold it: with one spec per parameter, and with transforms of it beside it.

    transforms: names of transforms; argnums, in_dims: what those of derivatives and `vmap` are given. strided: arrays
    may come with strides.

    >>> import stager as st
    >>> st.Member(abs, ["f64[n]"], transforms=("vmap",), strided=True).specs
    ['f64[n]']
    """

    function: Callable[..., Any]
    specs: Sequence[Any]
    transforms: Sequence[str] = ()
    argnums: Any = 0  # which arguments the derivatives are by
    in_dims: Any = 0  # which axes `vmap` maps
    strided: bool = False  # arrays may come with strides


@dataclass
class Built:
    """What a build wrote."""

    name: str
    files: dict[str, Path]  # "object", "library", "header", "static", "llvm", "assembly", "mlir"
    functions: tuple[str, ...]
    seconds: float
    summary: str = ""


def build(
    functions: Mapping[str, Member | tuple[Callable[..., Any], Sequence[Any]]],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    target: str = "host",
    cpu: str | None = None,
    weights: str = "argument",
    threads: bool = True,
    blas: str | None = None,
    shared: bool = True,
    static: bool = False,
    llvm: bool = False,
    assembly: bool = False,
    mlir: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Built:
    """Write an object file, a header and, for this kind of machine, a shared library.

    functions: public name -> (function, specs) or a `Member`, which can say more. A spec is a type or a nesting of
    types, as text or as containers; types may name sizes ('f64[n,3]'), which the C caller passes. weights: captured
    arrays are arguments of the C function ("argument", behind the others) or constants in the object ("embed").
    target: "host", a row of the target table or a triple. cpu: for x86-64, the CPUs that get code of their own, among
    which the library chooses when it runs: "x86-64-v2,v3,v4", "v2,native". threads: False leaves the thread pool out.
    blas: large matrix products by this BLAS (a name or the path of a shared library), else by generated code.
    shared: a shared library too, where the target is of this machine's kind, by the system's C compiler or the package
    ziglang (the extra `link`). static, llvm, assembly, mlir: write these forms too. BuildError says what cannot be
    built.

    >>> import tempfile, numpy as np, stager as st
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     built = st.build({"double_it": (lambda x: x * 2, ["f64[n]"])}, folder)
    ...     sorted(built.files)[:2]
    ['header', 'library']
    """
    import stager
    from stager.codegen.cpu import cpu_targets
    from stager.codegen.header import header
    from stager.codegen.library import emit_library, exported_cpu
    from stager.codegen.target import Target, kernel_options
    from stager.support import kept

    start = time.perf_counter()
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {' or '.join(map(repr, WEIGHTS))}, not {weights!r}")
    try:
        row = Target.named(target)
    except KeyError as e:
        raise BuildError(e.args[0]) from None
    targets = cpu_targets(row, cpu) if cpu is not None else (row,)
    linker = find_linker(row) if shared and links_here(row) else None
    library = checked_name(name or next(iter(functions)))
    found = None
    if blas is not None:
        from stager.aot.blas import find_blas

        if not (threads and links_here(row)):
            raise BuildError("blas is for libraries with threads, for this kind of machine")
        found = find_blas(blas)
    made = []
    for public, fn, specs, strided in _expanded(functions):
        progress(f"compiling {public}")
        options = Options(targets, weights, strided, threads, blas=found is not None)
        made.append(library_function(fn, specs, checked_name(public), options))
    _refuse_clashes(library, made)
    progress("emitting the library")
    cpu_function = exported_cpu(library, targets)
    metadata = json.dumps(
        _metadata(made, stager.__version__, [t.cpu for t in targets], cpu_function), sort_keys=True
    ).encode()
    more = found.modules(row.baseline) if found else ()
    module = emit_library(made, targets, library, metadata=metadata, more=more, kept=kept)
    machine = row.baseline.machine(opt=2, reloc="pic", codemodel="small")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    files = {"object": folder / f"{library}.o", "header": folder / f"{library}.h"}
    plain = all(k.plain_addresses for f in made for k in f.kernels)
    with kernel_options(plain_addresses=plain):
        write(files["object"], bytes(machine.emit_object(module)))
    write(files["header"], header(library, made, stager.__version__, targets).encode())
    if llvm:
        files["llvm"] = folder / f"{library}.ll"
        write(files["llvm"], str(module).encode())
    if assembly:
        files["assembly"] = folder / f"{library}.s"
        with kernel_options(plain_addresses=plain):
            write(files["assembly"], machine.emit_assembly(module).encode())
    if mlir:
        files["mlir"] = folder / f"{library}.mlir"
        write(files["mlir"], "// -----\n\n".join(f.stats["graph"].to_mlir() + "\n" for f in made).encode())
    if linker is not None:
        progress(f"linking with {linker.name}")
        files["library"] = folder / row.system.shared.format(library)
        link_shared(linker, files["object"], files["library"], found.link if found else ())
    if static:
        files["static"] = folder / f"lib{library}.a"
        archive_static(files["object"], files["static"])
    seconds = time.perf_counter() - start
    built = Built(library, files, tuple([f.name for f in made]), seconds)
    built.summary = "\n".join(_summary(built, made, targets))
    return built


def _expanded(functions: Mapping[str, Any]) -> Iterator[tuple[str, Callable[..., Any], list[Any], bool]]:
    """(name, function, specs, strided) of every function of the library, transforms among them."""
    for public, given in functions.items():
        member = given if isinstance(given, Member) else Member(*given)
        specs = [read_spec(s) for s in member.specs]
        yield public, member.function, specs, member.strided
        if member.transforms:
            from stager.aot.transforms import transformed

        for kind in member.transforms:
            fn, wanted = transformed(
                plain_function(member.function), kind, specs, argnums=member.argnums, in_dims=member.in_dims
            )
            yield f"{public}_{kind}", fn, wanted, member.strided


def _refuse_clashes(library: str, functions: Sequence[Any]) -> None:
    taken: dict[str, str] = {f"{library}_set_threads": library, f"{library}_stop_threads": library}
    taken[f"{library}_cpu"] = library
    for f in functions:
        for symbol in (f.name, f"{f.name}_workspace", f"{f.name}_error", *[k.abi.name for k in f.kernels]):
            if symbol in taken:
                raise BuildError(f"{f.name} and {taken[symbol]} both export {symbol}: rename one")
            taken[symbol] = f.name


def _metadata(functions: Sequence[Any], version: str, cpus: Sequence[str], cpu: str | None) -> dict[str, Any]:
    """What `load` reads. cpu: the function that says which of the CPUs is used."""
    from stager.ir.abi_json import to_json

    def of(f: Any) -> dict[str, Any]:
        return {
            "name": f.name,
            "graph": f.graph_hash,
            "inputs": f.inputs,
            "kernels": [to_json(k.abi) for k in f.kernels],
            "conditions": [[str(d), low, high] for d, low, high in f.conditions],
            "python": f.python,
        }

    listed = [of(f) for f in functions]
    return {"format": METADATA_FORMAT, "stager": version, "cpus": list(cpus), "cpu": cpu, "functions": listed}


def _summary(built: Built, functions: Sequence[Any], targets: Sequence[Any]) -> Iterator[str]:
    """Sizes, target, symbols, kernels, workspace."""
    for path in built.files.values():
        yield f"{path} ({path.stat().st_size:,} bytes)"
    yield f"for {targets[0].triple}, CPU {', '.join(t.cpu for t in targets)}"
    for f in functions:
        kernels = len(f.stats["kernels"])
        layouts = f" for {len(f.kernels)} layouts" if len(f.kernels) > 1 else ""
        space = max(f.workspaces, key=lambda d: (not is_static(d), d if isinstance(d, int) else 0))
        yield (
            f"{f.name}: {len(f.inputs)} inputs, {len(f.results)} results, sizes {', '.join(f.sizes) or 'fixed'}, "
            f"{kernels} kernel{'s' * (kernels != 1)}{layouts}, workspace {space} bytes, "
            f"exports {f.name}, {f.name}_workspace, {f.name}_error"
        )
    yield f"built in {built.seconds:.2f} s"
