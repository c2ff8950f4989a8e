"""Compiled functions as pickles: graph, signature and object code travel; the Python function does where it can.

On an equal machine (same CPU, versions and sources) the object code is loaded as it is, elsewhere the graph is compiled
again. A captured array that stands at a module's global is read from there again; one in a closure travels as it is.
A call that no pickled specialisation takes traces the Python function when it can be imported, else it is an error.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from stager.errors import UnsupportedError
from stager.runtime import patterns as p

FORMAT = 1


class _Module:
    """Stands for a module's namespace in a pickle."""

    def __init__(self, name: str) -> None:
        self.name = name


def reduce(function: Any) -> tuple[Any, ...]:
    """What `__reduce__` returns."""
    from stager.compiler import compiler_of
    from stager.ir.abi_json import to_json
    from stager.ir.text import print_graph
    from stager.runtime.cache import environment

    compiler = compiler_of(function)
    entries = []
    for made in compiler.history:
        spec = made.spec
        if any(_is_local(source) for source, pattern in spec.hidden if not _of_array(pattern)):
            spec = replace(spec, hidden=tuple([(s, q) for s, q in spec.hidden if _of_array(q) or not _is_local(s)]))
        absent: Any = tuple([(_Module(d["__name__"]), n) for d, n in spec.absent if "__name__" in d])
        spec = replace(spec, hidden=tuple([(_portable(s), q) for s, q in spec.hidden if _keeps(q)]), absent=absent)
        parts = {f.name: getattr(spec, f.name) for f in fields(spec) if f.name not in ("abi", "kernel", "keepalive")}
        entries.append({
            "abi": to_json(made.code.abi), "outputs": to_json(spec.abi), "object": made.code.object,
            "key": made.code.key,
            "graph": print_graph(made.code.graph), "spec": parts, "types": made.types, "structure": made.structure,
            "arguments": made.arguments,
        })  # fmt: skip
    about = {k: function.__dict__.get(k) for k in ("__name__", "__qualname__", "__module__", "__doc__")}
    state = {
        "format": FORMAT, "about": about, "signature": compiler.signature, "threads": compiler.threads,
        "freeze": compiler.freeze, "backend": compiler.backend, "environment": environment(), "entries": entries,
    }  # fmt: skip
    return restore, (state,)


def _keeps(pattern: p.Pattern) -> bool:
    """Guards by identity on functions and modules of the tracing process mean nothing in another one."""
    return not isinstance(pattern, p.Is) or pattern.value is None


def _of_array(pattern: p.Pattern) -> bool:
    """Whether a pattern is that of a captured array."""
    return isinstance(pattern, p.Leaf | p.Opened | p.SameInput)


def _is_local(source: Any) -> bool:
    """Whether a path begins in a closure cell or at an object of this process."""
    while isinstance(source, p.Attribute | p.Item):
        source = source.of
    return isinstance(source, p.Cell | p.Constant)


def _portable(source: Any) -> Any:
    """The path with module namespaces by name, and closure cells by their content."""
    if isinstance(source, p.Global):
        return p.Global(_Module(source.namespace["__name__"]), source.name)  # type: ignore[arg-type]
    if isinstance(source, p.Cell):
        return p.Constant(source.cell.cell_contents)
    return _around(source, _portable)


def _around(source: Any, change: Callable[[Any], Any]) -> Any:
    """A path whose beginning is changed."""
    match source:
        case p.Attribute(of, name):
            return p.Attribute(change(of), name)
        case p.Item(of, key):
            return p.Item(change(of), key)
    return source


def _here(x: Any) -> Any:
    """A path of a pickle in this process."""
    if isinstance(x, p.Global) and isinstance(x.namespace, _Module):
        return p.Global(_namespace(x.namespace), x.name)
    return _around(x, _here)


def _namespace(module: _Module) -> dict[str, Any]:
    return vars(sys.modules.get(module.name) or importlib.import_module(module.name))


def restore(state: dict[str, Any]) -> Any:
    """The compiled function of a pickle."""
    import stager.opset  # noqa: F401  (its ops can be named in the graphs)
    from stager.compiler import Compilation, compile, compiler_of
    from stager.ir.abi_json import from_json
    from stager.ir.parse import parse_graph
    from stager.pipeline import executable, load_executable
    from stager.runtime.cache import environment
    from stager.runtime.entries import EntrySpec
    from stager.runtime.function import add_entry

    if state["format"] != FORMAT:
        raise UnsupportedError(
            f"this pickle of a compiled function has format {state['format']}, this stager reads {FORMAT}"
        )
    about = state["about"]
    fn = _function(about, state["signature"])
    function = compile(fn, threads=state["threads"], freeze=state["freeze"], backend=state["backend"])
    for name, value in about.items():
        function.__dict__[name] = value
    compiler = compiler_of(function)
    same_machine = state["environment"] == environment()
    for entry in state["entries"]:
        graph = parse_graph(entry["graph"])
        if same_machine:
            code = load_executable(
                graph, entry["key"], entry["object"], from_json(entry["abi"]), backend=compiler.backend
            )
        else:
            code = executable(graph, backend=compiler.backend)
        parts = dict(entry["spec"])
        parts["hidden"] = tuple([(_here(s), q) for s, q in parts["hidden"]])
        parts["absent"] = tuple([(_namespace(m), n) for m, n in parts["absent"]])
        written = from_json(entry["outputs"])
        abi = replace(code.abi, outputs=(*code.abi.outputs, *written.outputs[len(code.abi.outputs) :]))
        made = Compilation.__new__(Compilation)
        made.code, made.reason, made.structure = code, "unpickled", entry["structure"]
        made.types, made.arguments, made.declined, made.loops = entry["types"], entry["arguments"], [], []
        made.spec = EntrySpec(abi=abi, kernel=code.address, keepalive=(code,), **parts)
        add_entry(function, made.spec)
        compiler.history.append(made)
    return function


def _function(about: dict[str, Any], signature: Any) -> Callable[..., Any]:
    """The Python function by its name, unwrapped, or a stand-in that says that it cannot be had."""
    try:
        found: Any = importlib.import_module(about["__module__"])
        for part in about["__qualname__"].split("."):
            found = getattr(found, part)
        found = getattr(found, "__wrapped__", found)
        if callable(found):
            made: Callable[..., Any] = found
            return made
    except (ImportError, AttributeError, TypeError):
        pass

    def gone(*args: Any, **kwargs: Any) -> Any:
        raise UnsupportedError(
            f"{about['__qualname__']} was unpickled without its Python function; nothing in it takes these arguments"
        )

    gone.__signature__ = signature  # type: ignore[attr-defined]
    gone.__name__ = about["__name__"] or "function"
    return gone
