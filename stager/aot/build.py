"""`build`: functions into an object file, a shared library and a C header that need neither Python nor stager."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stager.aot.errors import BuildError
from stager.aot.functions import library_function
from stager.aot.linking import archive_static, link_shared, system_compiler, write
from stager.aot.specs import parse_spec

METADATA_FORMAT = 1
WEIGHTS = ("argument", "embed")


@dataclass
class Built:
    """What a build wrote."""

    name: str
    files: dict[str, Path]  # "object", "library", "header", "llvm", "assembly"
    functions: tuple[str, ...]
    seconds: float
    summary: str = ""


def build(
    functions: dict[str, tuple[Callable[..., Any], Sequence[Any]]],
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    target: str = "host",
    weights: str = "argument",
    shared: bool = True,
    static: bool = False,
    llvm: bool = False,
    assembly: bool = False,
    progress: Callable[[str], None] = lambda text: None,
) -> Built:
    """Write an object file, a header and (where the system has `cc`) a shared library.

    functions: public name -> (function, one type or nesting of types per parameter). Types may name sizes ('f64[n,3]'),
    which the C caller passes. weights: captured arrays are arguments of the C function ("argument", behind the others)
    or constants in the object ("embed"). BuildError says what cannot be built.

    >>> import tempfile, numpy as np, stager as st
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     built = st.build({"double_it": (lambda x: x * 2, ["f64[n]"])}, folder)
    ...     sorted(built.files)[:2]
    ['header', 'library']
    """
    import stager
    from stager.codegen.header import header
    from stager.codegen.library import emit_library
    from stager.codegen.target import Target
    from stager.ir.abi_json import to_json

    start = time.perf_counter()
    if weights not in WEIGHTS:
        raise ValueError(f"weights is {' or '.join(map(repr, WEIGHTS))}, not {weights!r}")
    try:
        machine_target = Target.named(target)
    except KeyError as e:
        raise BuildError(e.args[0]) from None
    library = name or next(iter(functions))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for public, (fn, specs) in functions.items():
        if not public.isidentifier():
            raise BuildError(f"{public!r} is no name for a C function")
        progress(f"compiling {public}")
        given = [parse_spec(s) if isinstance(s, str) else s for s in specs]
        made.append(library_function(fn, given, public, machine_target, weights))
    metadata = {
        "format": METADATA_FORMAT, "stager": stager.__version__,
        "functions": [
            {"name": f.name, "abi": to_json(f.abi), "inputs": f.inputs, "outputs": f.outputs, "graph": f.graph_hash}
            for f in made
        ],
    }  # fmt: skip
    progress("emitting the library")
    module = emit_library(made, machine_target, metadata=json.dumps(metadata, sort_keys=True).encode())
    machine = machine_target.machine(opt=3, reloc="pic", codemodel="small")
    object = bytes(machine.emit_object(module))
    files = {"object": folder / f"{library}.o", "header": folder / f"{library}.h"}
    write(files["object"], object)
    write(files["header"], header(library, made, stager.__version__).encode())
    if llvm:
        files["llvm"] = folder / f"{library}.ll"
        write(files["llvm"], str(module).encode())
    if assembly:
        files["assembly"] = folder / f"{library}.s"
        write(files["assembly"], machine.emit_assembly(module).encode())
    compiler = system_compiler()
    if shared and target == "host" and compiler:
        progress("linking")
        files["library"] = folder / f"lib{library}.so"
        link_shared(compiler, files["object"], files["library"])
    if static and shutil.which("ar"):
        files["static"] = folder / f"lib{library}.a"
        archive_static(files["object"], files["static"])
    seconds = time.perf_counter() - start
    built = Built(library, files, tuple([f.name for f in made]), seconds)
    built.summary = _summary(built, made)
    return built


def _summary(built: Built, functions: Sequence[Any]) -> str:
    lines = [f"{path} ({path.stat().st_size:,} bytes)" for path in built.files.values()]
    for f in functions:
        arena = f.abi.arena_bytes
        lines.append(f"{f.name}: {len(f.inputs)} inputs, {len(f.outputs)} outputs, workspace {arena} bytes")
    lines.append(f"built in {built.seconds:.2f} s")
    return "\n".join(lines)
