"""One run of a user function on tracers at a fresh level 0: arguments in, a graph and a recipe for the results out.

A `Trace` knows nothing of machine code: `compile` and the plain calls of transforms both start here and differ in
whether concrete values ride along.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stager import cells
from stager.array import Array, raw
from stager.concrete import Concrete
from stager.errors import REFUSALS, UnsupportedError, describe
from stager.interpreters.modes import modes_kept
from stager.interpreters.stack import push
from stager.interpreters.stage import StageInterpreter
from stager.ir.dims import Expr, symbol, symbols_of
from stager.ir.graph import Graph, SymbolDef, Value
from stager.ir.types import Type
from stager.layouts import Layout, follow
from stager.leaves import Leaf, classify, leaf_type
from stager.runtime.structure import Structure, flatten, unflatten

ATOMS = (str, bytes, bool, int, float, complex, type(None))  # what a guard compares by value


@dataclass
class Result:
    """One leaf of the results. kind "value": graph output `index`; "input": the argument leaf `index` itself;
    "view": a view (`layout`) of argument leaf `index`; "static": the object."""

    kind: str
    index: int = 0
    layout: Layout | None = None
    value: Any = None
    owner: int = -1  # "view_output": the graph output it is a view of
    path: tuple[cells.ViewStep, ...] = ()  # of a view: the ops that lead to it
    python: bool = False  # a number made of Python numbers only: a Python number again


@dataclass
class Traced:
    """What a trace leaves behind."""

    graph: Graph
    leaves: list[Leaf]
    structure: Structure
    results: list[Result]
    result_structure: Structure
    writes: list[tuple[int, int]] = field(default_factory=list)  # (leaf, graph output)
    stage: StageInterpreter | None = None
    session: Any = None  # what the function read from outside (`stager.sessions.TraceSession`)
    arguments: int = 0  # leaves[:arguments] are arguments, the rest are captured arrays


def trace(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    concrete: bool = False,
    name: str = "main",
    types: Sequence[Type] | None = None,
    static: frozenset[int] = frozenset(),
    freeze: bool = False,
    copies: bool = False,
    by_type: bool = False,
    any_int: bool = False,
    called: bool = False,
    packs: bool = False,
    commits: bool = False,
) -> Traced:
    """Run `fn` once on tracers. With `concrete`, values ride along (plain calls of transforms).

    types: the leaves' types where they differ from the given arrays'. static: leaves that are guards.
    freeze: captured arrays are constants instead of hidden arguments. copies: results have memory of their own, where
    NumPy would return a view. by_type: the arrays stand for types, so that code cannot be made for their sizes.
    any_int: nor for the value of an int: where the code needs one, ConcretizationError.
    called: this is a call under way: what `fn` wrote into the arrays before it raised stays, as in NumPy.
    commits: the graph says what the caller's arrays hold where something may raise.
    packs: lists of rows among what is returned are arrays, and lists again for the caller.
    """
    import stager.numpy.methods  # noqa: F401  (attaches NumPy's surface to Array)
    from stager.capture import convert, use
    from stager.capture.copies import result
    from stager.capture.packing import delivered
    from stager.capture.touched import given
    from stager.sessions import TraceSession

    flat, structure = flatten((args, kwargs))
    stage = StageInterpreter(Graph(name))
    stage.by_type, stage.any_int, stage.commits = by_type, any_int, commits
    if concrete:
        stage.concrete = Concrete(stage.graph)
    session = TraceSession(stage, freeze)
    with push(stage), use(session), modes_kept():
        leaves = [_enter(stage, x, i in static, None if types is None else types[i]) for i, x in enumerate(flat)]
        _refuse_undefined(stage.graph)
        stage.leaves = leaves
        for leaf in leaves:
            if leaf.array is not None and isinstance(leaf.value, np.ndarray) and not freeze:
                session.add_argument(leaf.value, leaf.array, ())
            elif leaf.kind == "static" and not isinstance(leaf.value, (*ATOMS, np.generic)):
                session.add_root(leaf.value)
        call_args, call_kwargs = unflatten(
            structure, [leaf.value if leaf.array is None else leaf.array for leaf in leaves]
        )
        containers = given(fn, call_args, call_kwargs)
        try:
            out = convert(fn, session)(*call_args, **call_kwargs)
        except REFUSALS:
            raise
        except Exception:
            if called:
                _keep_writes(stage, [*leaves, *[leaf for _, leaf in session.hidden]])
            raise
        containers.check(out)
        out = result(session, out)
        results, result_structure = flatten(delivered(out) if packs else out)
        session.finish()
        count = len(leaves)
        leaves.extend([leaf for _, leaf in session.hidden])
        traced = Traced(
            stage.graph, leaves, structure, [], result_structure, stage=stage, session=session, arguments=count
        )
        _deliver(traced, results, copies)
    return traced


def _enter(stage: StageInterpreter, x: Any, static: bool, type: Type | None) -> Leaf:
    kind = "static" if static else classify(x)
    if kind == "static":
        if not inspect.isclass(x) and not isinstance(x, np.generic) and callable(getattr(x, "__array__", None)):
            raise UnsupportedError(
                describe(f"an argument is a {x.__class__.__name__}, not an ndarray", remedy="pass np.asarray(x)")
            )
        return Leaf(kind, x)
    value = stage.input(leaf_type(x) if type is None else type)
    if type is not None:
        _define_symbols(stage, value, x)
    if stage.concrete is not None:
        stage.concrete.values[value] = np.asarray(x)
    cell = cells.Cell(value, stage)
    if kind == "array" and isinstance(x, np.ndarray):
        cell.origin = x
        cell.place = value.node.params["index"] if stage.commits else None
        cell.read_only = not x.flags.writeable
    return Leaf(kind, x, value, Array(cell, (), value.type, weak=kind != "array"))


def _keep_writes(stage: StageInterpreter, leaves: Sequence[Leaf]) -> None:
    """The caller's arrays as the function left them. A check that fails before raises, as it would have."""
    from stager.ir.evaluate import evaluate_graph

    values = {leaf.input: np.asarray(leaf.value) for leaf in leaves if leaf.array is not None}
    cells = [(leaf.array.cell, leaf.value) for leaf in leaves if leaf.array is not None]
    written = {cell.place: (cell, x) for cell, x in cells if cell.written and isinstance(x, np.ndarray)}
    if written:
        stage.graph.outputs = [cell.read() for cell, _ in written.values()]
        committed: dict[Any, Any] = {}
        try:
            results = evaluate_graph(stage.graph, [values[v] for v in stage.graph.inputs], committed=committed)
            committed.update(zip(written, results, strict=True))
        finally:
            kept = [(written[place][1], np.array(content)) for place, content in committed.items()]
            for x, content in kept:
                np.copyto(x, content)


def _define_symbols(stage: StageInterpreter, value: Value, x: Any) -> None:
    """Symbols in the shape of an argument take their values from it; its sizes now are hints."""
    for axis, d in enumerate(value.type.shape):
        for name in symbols_of(d):
            if d == symbol(name) and name not in stage.graph.symbols:
                hint = int(x.shape[axis]) if isinstance(x, np.ndarray) else None
                stage.graph.symbols[name] = SymbolDef("shape", value.node.params["index"], axis, hint)


def _refuse_undefined(graph: Graph) -> None:
    """Sizes that no axis of an argument is by itself: `2*n` where there is no `n`."""
    for value in graph.inputs:
        for d in value.type.shape:
            if symbols_of(d) - graph.symbols.keys():
                where = f"the dim {d} in the type {value.type} of an argument"
                raise UnsupportedError(describe(f"{where} must be a plain symbol, or follow from such"))


def _deliver(traced: Traced, results: Sequence[Any], copies: bool) -> None:
    """Turn result leaves into graph outputs and recipes; written arguments become outputs too."""
    graph = traced.graph
    of_cell = {id(leaf.array.cell): (i, leaf) for i, leaf in enumerate(traced.leaves) if leaf.array is not None}
    outputs: dict[Value, int] = {}

    def output(value: Any) -> int:
        value = raw(value)
        if value not in outputs:
            outputs[value] = len(graph.outputs)
            graph.outputs.append(value)
        return outputs[value]

    seen: dict[int, int] = {}
    handles = Counter(id(x.cell) for x in results if type(x) is Array)
    for x in results:
        if isinstance(x, Expr):  # a size
            traced.results.append(Result("value", output(x), python=True))
            continue
        if type(x) is not Array:
            traced.results.append(Result("static", value=x))
            continue
        known = of_cell.get(id(x.cell))
        if known is not None and isinstance(known[1].value, np.ndarray):
            viewed = copies and x.path
            found = Result("value", output(x)) if viewed else _of_argument(x, known[0], known[1], output, graph)
            traced.results.append(found)
        elif known is not None and not x.path and not x.cell.written:
            traced.results.append(Result("input", known[0]))  # a number that came in, itself
        elif not x.path:
            # two results of one cell are one array, results of different cells are different arrays
            if id(x.cell) not in seen:
                seen[id(x.cell)] = len(graph.outputs)
                graph.outputs.append(raw(x))
            traced.results.append(Result("value", seen[id(x.cell)], python=x.weak and not x.type.shape))
        else:
            traced.results.append(_of_fresh(x, not copies and handles[id(x.cell)] > 1, graph, seen))
    for i, leaf in enumerate(traced.leaves):
        if leaf.array is not None and leaf.array.cell.written and isinstance(leaf.value, np.ndarray):
            traced.writes.append((i, len(graph.outputs)))
            graph.outputs.append(leaf.array.cell.read())


def _of_argument(x: Array, index: int, leaf: Leaf, output: Callable[[Any], int], graph: Graph) -> Result:
    if not x.path:
        return Result("input", index)
    layout = follow(Layout.of_input(leaf.value, x.cell.type), x.path)
    if layout is None or _sized_by_data(layout, graph):
        return Result("value", output(x))
    return Result("view", index, layout, path=x.path)


def _sized_by_data(layout: Layout, graph: Graph) -> bool:
    """Whether values that the run computes say what a view shows. The entry makes views by sizes of arguments only."""
    named = symbols_of((layout.type, layout.offset, layout.strides))
    return any(graph.symbols[name].kind != "shape" for name in named if name in graph.symbols)


def _of_fresh(x: Array, has_siblings: bool, graph: Graph, seen: dict[int, int]) -> Result:
    """A view of an array made inside: of another result where its whole base is one, else an array of its own."""
    if has_siblings and x.holds_memory:
        base = Array(x.cell, (), x.cell.type)
        layout = follow(Layout.contiguous(base.type), x.path)
        if layout is not None and not _sized_by_data(layout, graph):
            if id(x.cell) not in seen:
                seen[id(x.cell)] = len(graph.outputs)
                graph.outputs.append(raw(base))
            return Result("view_output", layout=layout, owner=seen[id(x.cell)], path=x.path)
    graph.outputs.append(raw(x))
    return Result("value", len(graph.outputs) - 1, python=x.weak and not x.type.shape)
