"""`build`: functions into an object file, a shared library and a C header that need neither Python nor stager.

`load` gives a Python function of a built library back, on the same native entry as compiled functions.
"""

from __future__ import annotations

import ast
import ctypes
import inspect
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stager.errors import StagerError, UnsupportedError
from stager.ir.types import Type, parse_type
from stager.runtime.structure import Structure, flatten

METADATA_FORMAT = 1


class BuildError(StagerError, RuntimeError):
    """A library cannot be built or loaded."""


@dataclass
class Built:
    """What a build wrote."""

    name: str
    files: dict[str, Path]  # "object", "library", "header", "llvm", "assembly"
    functions: tuple[str, ...]
    seconds: float
    summary: str = ""


def parse_spec(text: str) -> Any:
    """A type, or a nesting of types: `f64[n,784]`, `{'w': f64[3], 'b': (f64[], i32[2])}`. ValueError when malformed.

    >>> parse_spec("{'w': f64[n,3], 'b': [f64[]]}")
    {'w': f64[n,3], 'b': [f64[]]}
    """

    def walk(e: ast.expr) -> Any:
        match e:
            case ast.Dict(keys=keys, values=values):
                return {ast.literal_eval(k): walk(v) for k, v in zip(keys, values, strict=True) if k is not None}
            case ast.Tuple(elts=items):
                return tuple([walk(i) for i in items])
            case ast.List(elts=items):
                return [walk(i) for i in items]
            case ast.Subscript():
                return parse_type(ast.unparse(e).replace("()", "").replace("[(", "[").replace(")]", "]"))
            case ast.Constant(value=None):
                return None
        raise ValueError(f"not a type or a nesting of types: {ast.unparse(e)!r}")

    try:
        return walk(ast.parse(text.replace("[]", "[()]"), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not a type or a nesting of types: {text!r}") from None


def _leaf_names(prefix: str, s: Structure) -> list[str]:
    """C names for the leaves of an argument: `params_w`, `layers_0`."""
    if s.kind == "leaf":
        return [prefix]
    keys = s.keys if s.keys is not None else range(len(s.children))
    out = []
    for k, child in zip(keys, s.children, strict=True):  # type: ignore[call-overload]
        part = "".join(ch if ch.isalnum() else "_" for ch in str(k))
        out.extend(_leaf_names(f"{prefix}_{part}" if prefix else part, child))
    return out


def plain_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a compiled one; any other callable (a transform of a function, say) itself."""
    from stager.runtime.function import is_compiled_function

    plain: Callable[..., Any] = fn.__wrapped__ if is_compiled_function(fn) else fn  # type: ignore[attr-defined]
    return plain


WEIGHTS = ("argument", "embed")


def library_function(fn: Callable[..., Any], specs: Sequence[Any], name: str, target: Any, weights: str) -> Any:
    """The function as codegen takes it: traced, optimised and compiled to LLVM."""
    from stager.capture.session import path_text
    from stager.codegen.compile import compile_graph
    from stager.codegen.library import Function
    from stager.ir.hash import structural_hash
    from stager.pipeline import optimize
    from stager.transforms.shapes import trace_types

    fn = plain_function(fn)
    parameters = list(inspect.signature(fn).parameters)
    if len(specs) > len(parameters):
        raise BuildError(f"{name}: {len(specs)} specs came for {len(parameters)} parameters")
    traced = trace_types(fn, tuple(specs), {}, freeze=weights == "embed")
    if any(r.kind == "view" for r in traced.results):
        raise BuildError(f"{name}: a result is a view of an argument; a built function returns memory of its own")
    graph = traced.graph
    position = {id(x): k for k, x in enumerate(x for x in traced.leaves if x.input is not None)}
    graph.signature.writes = tuple([(position[id(traced.leaves[i])], o) for i, o in traced.writes])
    compiled = compile_graph(optimize(graph), target, name=f"{name}_kernel")
    inputs = [n for p, spec in zip(parameters, specs, strict=False) for n in _leaf_names(p, flatten(spec)[1])]
    inputs += [_c_name(path_text(path), inputs) for path, _ in traced.session.hidden]
    results = _leaf_names("out", traced.result_structure)
    fresh = [k for k, o in enumerate(compiled.abi.outputs) if o.kind == "fresh"]
    by_index = {r.index: n for n, r in zip(results, traced.results, strict=True) if r.kind == "value"}
    outputs = tuple([by_index.get(k, f"out_{k}") for k in fresh])
    return Function(name, compiled.abi, compiled.text, tuple(inputs), outputs, structural_hash(graph))


def _c_name(text: str, taken: Sequence[str]) -> str:
    """A C name for a captured array (`model.layers[0].w` is `model_layers_0_w`), different from those taken."""
    name = "_".join(filter(None, "".join(ch if ch.isalnum() else " " for ch in text).split()))
    name = name if name and not name[0].isdigit() else f"captured_{name}"
    while name in taken:
        name += "_"
    return name


TRANSFORMS = ("grad", "value_and_grad", "vmap", "jvp", "vjp")


def transformed(fn: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """The function that a library holds beside f: its gradient, batched form, jvp or vjp."""
    import stager as st

    fn = plain_function(fn)
    if kind == "jvp":
        return lambda primals, tangents: st.jvp(fn, primals, tangents)
    if kind == "vjp":
        return lambda primals, ct: st.vjp(fn, *primals)[1](ct)
    made: Callable[..., Any] = getattr(st, kind)(fn)
    return made


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
    machine_target = Target.named(target)
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
    _write(files["object"], object)
    _write(files["header"], header(library, made, stager.__version__).encode())
    if llvm:
        files["llvm"] = folder / f"{library}.ll"
        _write(files["llvm"], str(module).encode())
    if assembly:
        files["assembly"] = folder / f"{library}.s"
        _write(files["assembly"], machine.emit_assembly(module).encode())
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if shared and target == "host" and compiler:
        progress("linking")
        files["library"] = folder / f"lib{library}.so"
        _link(compiler, files["object"], files["library"])
    if static and shutil.which("ar"):
        files["static"] = folder / f"lib{library}.a"
        files["static"].unlink(missing_ok=True)
        subprocess.run(["ar", "rcsD", str(files["static"]), str(files["object"])], check=True, capture_output=True)
    seconds = time.perf_counter() - start
    built = Built(library, files, tuple([f.name for f in made]), seconds)
    built.summary = _summary(built, made)
    return built


def _write(path: Path, content: bytes) -> None:
    """Replace a file in one step: a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _link(compiler: str, object: Path, library: Path) -> None:
    temporary = library.with_name(f".{library.name}.{os.getpid()}")
    command = [
        compiler,
        "-shared",
        "-o",
        str(temporary),
        str(object),
        "-Wl,--no-undefined",
        "-Wl,--build-id=none",
        "-lm",
        "-pthread",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        temporary.unlink(missing_ok=True)
        raise BuildError(f"the linker failed: {done.stderr.strip()}")
    os.replace(temporary, library)


def _summary(built: Built, functions: Sequence[Any]) -> str:
    lines = [f"{path} ({path.stat().st_size:,} bytes)" for path in built.files.values()]
    for f in functions:
        arena = f.abi.arena_bytes
        lines.append(f"{f.name}: {len(f.inputs)} inputs, {len(f.outputs)} outputs, workspace {arena} bytes")
    lines.append(f"built in {built.seconds:.2f} s")
    return "\n".join(lines)


def load(path: str | os.PathLike[str], function: str | None = None) -> Any:
    """A function of a built library, as a Python function with native checks of its arguments.

    function: its name, where the library has several. BuildError when the file is no library of stager's.
    """
    from stager.ir.abi_json import from_json
    from stager.runtime import patterns as p
    from stager.runtime.entries import EntrySpec
    from stager.runtime.function import add_entry, make_function
    from stager.support import install_entry

    path = os.path.abspath(path)
    try:
        library = ctypes.CDLL(path)
        size = ctypes.c_int64.in_dll(library, "stager_metadata_bytes").value
        text = bytes((ctypes.c_char * size).in_dll(library, "stager_metadata"))
    except (OSError, ValueError) as e:
        raise BuildError(f"{path} is not a library that stager built: {e}") from None
    metadata = json.loads(text)
    if metadata["format"] != METADATA_FORMAT:
        raise BuildError(f"{path} has format {metadata['format']}; this stager reads {METADATA_FORMAT}")
    by_name = {f["name"]: f for f in metadata["functions"]}
    if function is None and len(by_name) > 1:
        raise BuildError(f"{path} holds {', '.join(by_name)}: say which")
    record = by_name.get(function or next(iter(by_name)))
    if record is None:
        raise BuildError(f"{path} holds {', '.join(by_name)}, not {function!r}")
    abi = from_json(record["abi"])
    address = ctypes.cast(getattr(library, abi.name), ctypes.c_void_p).value
    assert address is not None
    names = record["inputs"]
    signature = inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_OR_KEYWORD) for n in names])
    install_entry()

    def miss(self: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        signature.bind(*args, **kwargs)
        wanted = ", ".join(f"{n}: {i.type}" for n, i in zip(names, abi.inputs, strict=True))
        raise UnsupportedError(f"{record['name']} of {os.path.basename(path)} takes ({wanted}), C-contiguous")

    made = make_function(
        miss, name=record["name"], signature=signature, module=None, reduce=lambda self: (load, (path, record["name"]))
    )
    fresh = tuple([p.Output(k) for k, o in enumerate(abi.outputs) if o.kind == "fresh"])
    result = fresh[0] if len(fresh) == 1 else p.MakeTuple(fresh)
    leaves = tuple([p.Leaf(k) for k in range(len(names))])
    add_entry(made, EntrySpec(abi, address, leaves, result, keepalive=(library,)))
    return made


__all__ = ["BuildError", "Built", "Type", "build", "load", "parse_spec"]
