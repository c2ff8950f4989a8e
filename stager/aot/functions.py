"""From a Python function and its specs to a function of a library: traced, optimised, compiled to LLVM."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

from stager.aot.errors import BuildError
from stager.aot.record import encode_result, encode_structure
from stager.aot.specs import CNames, fresh_symbol, leaf_names
from stager.ir.dims import Dim, contiguous_strides, symbol, symbols_of
from stager.ir.graph import Graph, Node, SymbolDef
from stager.runtime.structure import flatten

NO_IDENTITY = frozenset({"reduce_max", "reduce_min", "argmax", "argmin"})  # of no elements these have no value


def plain_function(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The Python function behind a compiled one; any other callable (a transform of a function, say) itself."""
    if isinstance(fn, FunctionType):
        return fn
    from stager.runtime.function import is_compiled_function

    plain: Callable[..., Any] = fn.__wrapped__ if is_compiled_function(fn) else fn  # type: ignore[attr-defined]
    return plain


class Options:
    """How functions are compiled: for which targets, with captured arrays as arguments or embedded, with strides."""

    def __init__(self, targets: Sequence[Any], weights: str, strided: bool, threads: bool, blas: bool) -> None:
        self.targets, self.weights, self.strided = targets, weights, strided
        self.threads, self.blas = threads, blas


def library_function(fn: Callable[..., Any], specs: Sequence[Any], name: str, options: Options) -> Any:
    """The function as codegen takes it. BuildError when C cannot call such a function."""
    from stager.capture.session import path_text
    from stager.codegen.c_interface import Function, Kernel, results_of
    from stager.codegen.stats import describe
    from stager.ir.hash import structural_hash
    from stager.transforms.shapes import trace_types

    fn = plain_function(fn)
    bound = bound_specs(fn, specs, name)
    traced = trace_types(fn, bound.args, bound.kwargs, freeze=options.weights == "embed", copies=True,
                         any_int=True, commits=True)  # fmt: skip
    graph = traced.graph
    graph.name = name
    position = {leaf.input: k for k, leaf in enumerate(x for x in traced.leaves if x.input is not None)}
    graph.signature.writes = tuple([(position[traced.leaves[i].input], o) for i, o in traced.writes])
    names = CNames(s for s, d in graph.symbols.items() if d.kind == "shape")
    paths = [n for p, value in bound.arguments.items() for n in leaf_names(p, flatten(value)[1])]
    paths += [path_text(path) for path, _ in traced.session.hidden]
    inputs = [names(p) for p, leaf in zip(paths, traced.leaves, strict=True) if leaf.input is not None]
    strided = frozenset(k for k, v in enumerate(graph.inputs) if options.strided and v.shape)
    kernels: list[Kernel] = []
    stats: dict[str, Any] = {}
    for layout in _layouts(graph, strided):
        of = _with_layout(graph, layout, strided)
        kernel = f"{name}_kernel" if layout == "dense" else f"{name}_kernel_{layout}"
        compiled = _compile(of, kernel, options)
        if "stager_print" in compiled.abi.externals:
            raise BuildError(f"{name}: print of values that only the run knows needs Python: leave it out")
        stats = stats or describe(compiled.program)
        loops, plain = compiled.program.has_loops, compiled.plain_addresses
        kernels.append(Kernel(layout, compiled.abi, compiled.text, loops, plain))
    out_names = {
        r.index: names(n)
        for n, r in zip(leaf_names("out", traced.result_structure), traced.results, strict=True)
        if r.kind == "value"
    }
    return Function(
        name,
        tuple(inputs),
        tuple(kernels),
        results_of(kernels[0].abi, out_names),
        strided,
        _conditions(traced),
        structural_hash(graph),
        tuple(_notes(traced, inputs, position)),
        _python_record(fn, bound, traced, position),
        {**stats, "graph": graph},
    )


def bound_specs(fn: Callable[..., Any], specs: Sequence[Any], name: str) -> inspect.BoundArguments:
    """The specs by parameter. BuildError when they do not fit."""
    signature = inspect.signature(fn)
    kinds = [p.kind for p in signature.parameters.values()]
    named = [p.name for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY]
    first = kinds.index(inspect.Parameter.KEYWORD_ONLY) if named else len(specs)  # a spec per parameter, in order
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        first = len(specs) - len(named)
    last = first + len(named)
    try:
        return signature.bind(*specs[:first], *specs[last:], **dict(zip(named, specs[first:last], strict=False)))
    except TypeError as e:
        raise BuildError(f"{name}: the specs do not fit the parameters {signature}: {e}") from None


def _compile(graph: Graph, name: str, options: Options) -> Any:
    from stager.codegen.variants import compile_variants
    from stager.pipeline import optimize

    return compile_variants(
        optimize(graph), options.targets, name=name, threads=options.threads, blas=options.blas
    )


# -- strides -----------------------------------------------------------------------------------------------------------


def _layouts(graph: Graph, strided: frozenset[int]) -> list[str]:
    """The layouts that get a kernel: the most general one last."""
    if not strided:
        return ["dense"]
    # rows of one-dimensional arrays are dense arrays
    return ["dense", "rows", "any"] if any(len(graph.inputs[k].shape) > 1 for k in strided) else ["dense", "any"]


def _with_layout(graph: Graph, layout: str, strided: frozenset[int]) -> Graph:
    """The graph with the layouts of its strided inputs; their strides are symbols."""
    graph.signature.layouts.clear()
    for s in [s for s, d in graph.symbols.items() if d.kind == "stride"]:
        del graph.symbols[s]
    if layout == "dense":
        return graph
    for k in sorted(strided):
        t = graph.inputs[k].type
        strides: list[Dim] = []
        for axis in range(len(t.shape)):
            if layout == "rows" and axis == len(t.shape) - 1:
                strides.append(t.dtype.itemsize)
                continue
            s = fresh_symbol(f"stride{k}_{axis}", [v.type for v in graph.inputs])
            graph.symbols[s] = SymbolDef("stride", k, axis)
            strides.append(symbol(s))
        if tuple(strides) != contiguous_strides(t.shape, t.dtype.itemsize):
            graph.signature.layouts[k] = tuple(strides)
    return graph


# -- what a caller must know -------------------------------------------------------------------------------------------


def _conditions(traced: Any) -> tuple[tuple[Dim, int, int], ...]:
    """What the sizes must fulfil: what comparisons relied on, and that reductions have something to reduce."""
    entry = {s for s, d in traced.graph.symbols.items() if d.kind in ("shape", "value")}
    found: dict[tuple[Dim, int, int], None] = dict.fromkeys(traced.stage.dim_guards)
    for node in _nodes(traced.graph):
        if node.op.name in NO_IDENTITY:
            axes: Any = node.params.get("axes") or (node.params["axis"],)
            for axis in axes:
                d = node.args[0].type.shape[axis]
                if symbols_of(d) and symbols_of(d) <= entry:
                    found[(d, 1, 1 << 62)] = None
    return tuple(found)


def _nodes(graph: Graph) -> Iterator[Node]:
    """All nodes, those of regions too."""
    todo = [graph]
    while todo:
        for node in todo.pop().nodes:
            yield node
            todo.extend(node.regions)


def _notes(traced: Any, inputs: Sequence[str], position: dict[Any, int]) -> list[str]:
    """Results that no parameter stands for."""
    paths = leaf_names("result", traced.result_structure)
    notes = []
    for name, r in zip(paths, traced.results, strict=True):
        if r.kind == "input":
            notes.append(f"{name} is the argument {inputs[position[traced.leaves[r.index].input]]}")
        elif r.kind == "static":
            notes.append(f"{name} is always {r.value!r}")
    return notes


def _python_record(
    fn: Callable[..., Any], bound: inspect.BoundArguments, traced: Any, position: dict[Any, int]
) -> dict[str, Any]:
    """What `load` makes a Python function of. Whatever JSON cannot hold makes the function one for C only."""
    try:
        parameters = []
        for p in bound.signature.parameters.values():
            given = p.name in bound.arguments
            if not given and p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
                continue
            record: dict[str, Any] = {"name": p.name, "kind": p.kind.name}
            has_default = isinstance(p.default, str | bool | int | float | type(None))
            if given:
                record["structure"] = encode_structure(flatten(bound.arguments[p.name])[1])
            elif not has_default:
                continue
            if has_default:
                record["default"] = p.default
            parameters.append(record)
        leaves: list[dict[str, Any]] = []
        for leaf in traced.leaves[: traced.arguments]:
            if leaf.input is None:
                if not isinstance(leaf.value, str | bool | int | float | type(None)):
                    raise TypeError(f"an argument that is always {leaf.value!r}")
                leaves.append({"fixed": leaf.value})
            else:
                leaves.append({"input": position[leaf.input], "kind": leaf.kind})
        results = [encode_result(r, traced, position) for r in traced.results]
        return {
            "parameters": parameters,
            "leaves": leaves,
            "results": results,
            "structure": encode_structure(traced.result_structure),
            "module": getattr(fn, "__module__", None),
            "doc": getattr(fn, "__doc__", None),
        }
    except TypeError as e:
        return {"reason": str(e)}
