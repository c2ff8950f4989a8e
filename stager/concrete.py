"""Concrete values of traced arrays, outside `compile`.

There a trace carries its inputs' values. `bool(x)`, `int(x)`, `print(x)` and their kin run the part of the graph that
x needs (its networkx ancestors); what has been run is remembered, so it is an input of what follows.
Under `compile` the same uses are an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from stager.errors import ConcretizationError, describe
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import stack
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.dims import is_static, symbols_of
from stager.ir.graph import Graph, GraphBuilder, Node, SymbolDef, Value
from stager.ir.types import Type

if TYPE_CHECKING:
    from stager.array import Array


class Concrete:
    """The known values of one graph's nodes: inputs first, then whatever has been run.

    What is asked for is run as a segment: the nodes that are missing, as a graph of their own with the known values as
    inputs. The first time a segment is met the reference evaluator runs it; when it comes again, or when its work is
    large, it runs as machine code, found by its structural hash.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[Value, np.ndarray[Any, Any]] = {}
        self.effects_done: set[Node] = set()

    def hold(self) -> None:
        """What is known now stays so, whatever becomes of the caller's arrays: for traces that go on later."""
        for v, x in self.values.items():
            self.values[v] = np.array(x)

    def run(self, wanted: list[Value]) -> list[np.ndarray[Any, Any]]:
        """The values of `wanted`, running only what has not been run, and the effects that stand before."""
        effects = (
            [n for n in self.graph.nodes if n.op.ordered and n not in self.effects_done]
            if self.graph._last_ordered
            else []
        )
        missing = [v for v in dict.fromkeys(wanted) if v not in self.values]
        if missing or effects:
            needed = self._needed([*[v.node for v in missing], *effects])
            segment, known, made = self._segment(needed, missing)
            results = run_segment(segment, [self.values[v] for v in known])
            self.values.update(zip(made, results, strict=True))
            self.effects_done.update(effects)
        return [self.values[v] for v in wanted]

    def _needed(self, roots: list[Node]) -> set[Node]:
        """The nodes that must run. Does not recurse: graphs may be deep."""
        seen: set[Node] = set()
        pending = list(roots)
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            pending.extend(a.node for a in node.args if a not in self.values)
            pending.extend(d.source.node for d in self._symbols_of(node) if d.source not in self.values)
        return seen

    def _segment(self, needed: set[Node], missing: list[Value]) -> tuple[Graph, list[Value], list[Value]]:
        """(the graph of the nodes in order, the known values it takes, the values it gives)."""
        builder = GraphBuilder(name="segment")
        graph = builder.graph
        here: dict[Value, Value] = {}
        known: list[Value] = []

        def operand(v: Value) -> Value:
            if v not in here:
                here[v] = builder.input(v.type)
                known.append(v)
            return here[v]

        for name, d in self.graph.symbols.items():
            source = d.source if d.kind == "data" else self.graph.inputs[d.source] if d.kind == "value" else None
            if source is not None and source in self.values:
                graph.symbols[name] = SymbolDef("value", len(known))
                builder.input(source.type)
                known.append(source)
        for node in self.graph.nodes:
            if node not in needed:
                continue
            copy = Node(
                node.op,
                tuple([operand(a) for a in node.args]),
                node.params,
                node.types,
                node.regions,
                node.loc,
                node.path,
            )
            graph.add(copy)
            here.update(zip(node.outputs, copy.outputs, strict=True))
            for name, d in self.graph.symbols.items():
                if d.kind == "data" and d.source.node is node:
                    graph.symbols[name] = SymbolDef("data", Value(copy, d.source.index))
        graph.outputs = [here[v] for v in missing]
        return graph, known, missing

    def _symbols_of(self, node: Node) -> list[SymbolDef]:
        symbols = self.graph.symbols
        if not symbols:
            return []
        names = symbols_of(tuple([t.shape for t in node.types])) | symbols_of(tuple(node.params.values()))
        return [symbols[n] for n in names if symbols[n].kind == "data"]


_seen: set[str] = set()
_SEEN_LIMIT = 10_000
LARGE_WORK = 1 << 18  # elements that a segment touches: from here machine code pays at once


def run_segment(graph: Graph, arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Run a graph once: by the evaluator when it is new and small, else as machine code."""
    from stager.ir.evaluate import evaluate_graph
    from stager.ir.hash import structural_hash

    key = structural_hash(graph)
    if key not in _seen and _work(graph) < LARGE_WORK:
        if len(_seen) >= _SEEN_LIMIT:
            _seen.clear()
        _seen.add(key)
        return evaluate_graph(graph, arrays)
    from stager.pipeline import executable

    return executable(graph, key)([np.ascontiguousarray(a) if a.ndim else a for a in arrays])


def replay_traced(graph: Graph, arrays: Sequence[Any]) -> list[Array] | None:
    """A graph called on traced arrays: its nodes join the trace. None where no array is traced."""
    from stager.array import Array, raw, wrap
    from stager.ops.regions import replay

    if not any(type(a) is Array for a in arrays):
        return None
    given = [raw(a, v.type.dtype) for a, v in zip(arrays, graph.inputs, strict=True)]
    for n, (a, v) in enumerate(zip(given, graph.inputs, strict=True)):
        if not _fits(a.type, v.type):
            raise TypeError(describe(f"graph {graph.name}: input {n} is {v.type}, not {a.type}"))
    return [wrap(o) for o in replay(graph, given)]


def _fits(came: Type, wanted: Type) -> bool:
    same = all(d == w or not is_static(w) for d, w in zip(came.shape, wanted.shape, strict=False))
    return came.dtype is wanted.dtype and len(came.shape) == len(wanted.shape) and same


Graph.runner = staticmethod(run_segment)
Graph.replayer = staticmethod(replay_traced)


def _work(graph: Graph) -> int:
    total = 0
    for node in graph.nodes:
        if node.op.family == "control":
            return LARGE_WORK
        for t in node.types:
            size = t.size
            total += size if isinstance(size, int) else LARGE_WORK
    return total


def _peel(x: Array) -> tuple[Any, str]:
    """The level-0 value under grad, jvp and functionalize levels, or the name of the level that hides it."""
    from stager.ops.regions import RegionInterpreter

    value = x.raw()
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if isinstance(interp, VmapInterpreter):
            if type(value) is BatchTracer and value.interp is interp:
                return None, "vmap"
        elif interp.key == "Stage":
            if type(value) is Value and value.node in interp.graph:  # type: ignore[attr-defined]
                around = interp.outer(value) if isinstance(interp, RegionInterpreter) else None
                if around is None or isinstance(around, str):
                    return (interp, value), ""
                value = around  # what a region takes from around is known there
        else:
            value = interp.lower_value(value)
    return None, "compile"


def knows_values() -> bool:
    """Whether the trace carries its inputs' values, whatever is asked: Python can go the way that they go."""
    s = stack()
    levels = s.levels[: s.depth]
    if any(isinstance(interp, VmapInterpreter) for interp in levels):
        return False
    return any(getattr(interp, "concrete", None) is not None for interp in levels)


def peek(x: Array) -> Any:
    """The concrete value if it can be had without an error, else None. For printing."""
    if not stack().depth or (x.cell.owner is not None and not x.cell.owner.alive):
        return None
    found, _ = _peel(x)
    if found is None or getattr(found[0], "concrete", None) is None:
        return None
    return found[0].concrete.run([found[1]])[0]


def settled_value(x: Array) -> np.ndarray[Any, Any] | None:
    """The value where it follows from constants and integer scalars among the arguments, which become guards."""
    if not stack().depth or (x.cell.owner is not None and not x.cell.owner.alive):
        return None
    found, _ = _peel(x)
    if found is None or getattr(found[0], "leaves", None) is None:
        return None
    return _from_known(*found)


def concrete_value(x: Array, use: str, scalars: bool = True) -> np.ndarray[Any, Any]:
    """The value of x as an ndarray. ConcretizationError where there is none.

    scalars: NumPy's integer scalars among the arguments specialise the code too, as Python ints do.
    """
    found, hidden = _peel(x)
    if found is not None and getattr(found[0], "concrete", None) is not None:
        value: np.ndarray[Any, Any] = found[0].concrete.run([found[1]])[0]
        if use == "bool()" and value.size != 1:
            raise ValueError(
                "The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()"
            )
        return value
    if found is not None:
        known = _from_known(found[0], found[1], scalars)
        if known is not None:
            return known
    raise _no_value(x, use, hidden)


def _from_known(stage: Any, value: Value, scalars: bool = True) -> np.ndarray[Any, Any] | None:
    """The value where it follows from constants and integer arguments alone: the code is specialised on the ints."""
    ints = {
        leaf.input: leaf
        for leaf in stage.leaves
        if leaf.kind == "int" or (scalars and isinstance(leaf.value, np.integer | np.bool_))
    }
    used: dict[Value, Any] = {}
    order: dict[Node, None] = {}
    todo = [value.node]
    while todo:
        node = todo.pop()
        if node in order:
            continue
        order[node] = None
        if node.regions or node.mentioned_symbols() or len(order) > 1000:
            return None
        if node.op.name == "input":
            leaf = ints.get(Value(node, 0))
            if leaf is None:
                return None
            used[Value(node, 0)] = leaf
        todo += [a.node for a in node.args]
    from stager.ir.evaluate import evaluate_node

    values = {v: np.asarray(leaf.value) for v, leaf in used.items()}
    for node in [n for n in stage.graph.nodes if n in order and n.op.name != "input"]:
        values.update(zip(node.outputs, evaluate_node(node, [values[a] for a in node.args], {}), strict=True))
    if stage.any_int and used:
        text = "the value of an int argument is needed"
        raise ConcretizationError(describe(text, remedy="give the number as its spec"))
    for leaf in used.values():
        leaf.specialized = True
    return values[value]


def _as_it_is() -> str:
    """Why the code of the user that is running has no traced control flow; "" where it has."""
    import sys

    from stager.capture.convert import refusal_of

    frame: Any = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).split(".")[0] in ("stager", "numpy"):
        frame = frame.f_back
    if frame is None:
        return ""
    code = frame.f_code
    if code.co_flags & inspect.CO_GENERATOR:
        return f"{code.co_name} is a generator, which is traced as it is"
    reason = refusal_of(code)
    return f"{code.co_name} is traced as it is, because {reason}" if reason else ""


def _no_value(x: Array, use: str, hidden: str) -> ConcretizationError:
    """The error for a use that needs a value which there is not."""
    value = x.raw()
    while not isinstance(value, Value):
        value = value.value
    made = f"; it was made at {value.node.loc}" if value.node.loc else ""
    reason = (
        "it differs between the lanes of a vmap"
        if hidden == "vmap"
        else "it has no value while the function is compiled"
    )
    as_it_is = _as_it_is() if use == "bool()" else ""
    if as_it_is:
        text = f"{use} needs the value of a traced {x.type}, but {reason}{made}; {as_it_is}"
        remedy = "use np.where or st.cond, or a plain function in a file, whose source can be read"
        return ConcretizationError(describe(text, remedy=remedy))
    remedy = (
        "use np.where or st.cond so that both outcomes are traced"
        if use == "bool()"
        else "keep it an array (NumPy functions take it as it is), or compute it outside the traced function"
    )
    return ConcretizationError(
        describe(f"{use} needs the value of a traced {x.type}, but {reason}{made}", remedy=remedy)
    )


def refuse_text(x: Array) -> ConcretizationError:
    """The error for text made of a value that there is not."""
    text = f"text is made of a traced {x.type}, whose value is only known when the compiled code runs"
    return ConcretizationError(describe(text, remedy="print the value itself, or return it and format it outside"))


def refuse_derivative(x: Array, use: str) -> None:
    """Raise where answering would silently drop a derivative that a live level computes."""
    value = x.raw()
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if isinstance(interp, GradInterpreter | JvpInterpreter):
            inner, tracked = interp.unwrap(value)
            if tracked is not None:
                raise ConcretizationError(
                    describe(
                        f"{use} of a traced {x.type} would drop its derivative: {interp.key.lower()} differentiates it",
                        remedy="use st.stop_gradient(x) if the derivative is meant to be zero here; "
                        "otherwise keep it an array (write into one made by the traced function, use np.*, not math.*)",
                    )
                )
            value = inner
        elif isinstance(interp, VmapInterpreter):
            value = interp.unwrap(value)[0]
