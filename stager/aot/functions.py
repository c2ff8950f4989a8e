"""From a Python function and its specs to a function of a library: traced, optimised, compiled to LLVM."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from stager.aot.errors import BuildError
from stager.aot.specs import c_name, leaf_names
from stager.runtime.structure import flatten


def plain_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a compiled one; any other callable (a transform of a function, say) itself."""
    from stager.runtime.function import is_compiled_function

    plain: Callable[..., Any] = fn.__wrapped__ if is_compiled_function(fn) else fn  # type: ignore[attr-defined]
    return plain


def library_function(fn: Callable[..., Any], specs: Sequence[Any], name: str, target: Any, weights: str) -> Any:
    """The function as codegen takes it: traced, optimised and compiled to LLVM."""
    from stager.capture.session import path_text
    from stager.codegen.c_entry import Function
    from stager.codegen.compile import compile_graph
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
    inputs = [n for p, spec in zip(parameters, specs, strict=False) for n in leaf_names(p, flatten(spec)[1])]
    inputs += [c_name(path_text(path), inputs) for path, _ in traced.session.hidden]
    results = leaf_names("out", traced.result_structure)
    fresh = [k for k, o in enumerate(compiled.abi.outputs) if o.kind == "fresh"]
    by_index = {r.index: n for n, r in zip(results, traced.results, strict=True) if r.kind == "value"}
    outputs = tuple([by_index.get(k, f"out_{k}") for k in fresh])
    return Function(name, compiled.abi, compiled.text, tuple(inputs), outputs, structural_hash(graph))


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
