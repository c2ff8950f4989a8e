"""`linearize` and `linear_transpose`: the derivative as a function of its own, linear functions turned round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager import cells
from stager.array import as_array, wrap
from stager.errors import TransformError, describe
from stager.interpreters.stack import active, push, stack
from stager.ir.core_ops import fill_op, input_op
from stager.ir.graph import Graph, GraphBuilder, Node, SymbolDef, Value
from stager.ir.types import Type
from stager.numpy.promotion import operand
from stager.ops.families import zeros_like, zeros_of
from stager.ops.marks import MARKED, carries_batch, dependent_outputs
from stager.ops.regions import Captures, finish, replay, trace_region
from stager.runtime.structure import flatten, unflatten
from stager.stand_ins import refuse_overlap
from stager.transforms.calling import own, plainly, run_traced
from stager.transforms.differentiation import Selected
from stager.transforms.grad import Recorded, _cotangents
from stager.transforms.jvp import push_forward


class Linearized:
    """f at a point: raw results, and the linear part as a graph of tangents and residuals."""

    def __init__(self, f: Callable[..., Any], primals: tuple[Any, ...]) -> None:
        self.selected = Selected("linearize", f, primals, {}, tuple(range(len(primals))))
        self.nested = flatten(primals)[1]
        types = [x.type for x in self.selected.leaves]
        captures = Captures()
        kept: dict[str, Any] = {}

        def both(*tangents: Any) -> list[Any]:
            values, moved, kept["structure"], _ = push_forward(f, self.selected, list(tangents), False)
            s = stack()
            kept["written"] = written = cells.take_writes(s.levels[s.depth - 1])
            kept["values"] = len(values)
            results = [*values, *[value for _, value in written]]
            return [*results, *[zeros_like(v) if t is None else t for v, t in zip(values, moved, strict=True)]]

        region = trace_region(both, types, captures, "linearized")
        (graph,), operands = finish([region], len(types))
        self.structure = kept["structure"]
        n_out, n_values = kept["values"] + len(kept["written"]), kept["values"]
        first, residuals, self.linear = _split(graph, len(types), n_out)
        done = replay(first, operands)
        self.values, self.residuals = done[:n_values], done[n_out:]
        for (cell, _), value in zip(kept["written"], done[n_values:n_out], strict=True):
            cell.take(value)
        assert len(self.residuals) == len(residuals)
        self.types = types

    def checked(self, tangents: Any) -> list[Any]:
        """Raw tangents of the primals from tangents nested as they are."""
        flat, structure = flatten(tangents)
        if structure != self.nested:
            raise TransformError(describe(f"linearize: tangents have structure {structure}, primals {self.nested}"))
        raws = []
        for x, t in zip(flat, self.types, strict=True):
            r = operand(as_array(x), t.dtype)
            if r.type.shape != t.shape:
                raise TransformError(
                    describe(f"linearize: a tangent of shape {tuple(r.type.shape)} came for a primal {t}")
                )
            raws.append(r)
        return raws

    def push(self, tangents: Sequence[Any]) -> list[Any]:
        """Raw tangents of the results for raw ones of the primals."""
        return replay(self.linear, [*tangents, *self.residuals])


def _split(graph: Graph, n_own: int, n_out: int) -> tuple[Graph, list[Value], Graph]:
    """(what does not depend on the first n_own inputs, its values that the rest reads, the rest).

    A loop or branch that computes primals and tangents together stands in both: among the primals with tangents of
    zero, which the passes take out.
    """
    dependent: set[Value] = set(graph.inputs[:n_own])
    first, rest = GraphBuilder(name="primal"), GraphBuilder(name="linear")
    here: dict[Value, Value] = {v: first.input(v.type) for v in graph.inputs[n_own:]}
    there: dict[Value, Value] = {v: rest.input(v.type) for v in graph.inputs[:n_own]}
    residuals: list[Value] = []

    def residual(v: Value) -> Value:
        if v not in there:
            there[v] = rest.input(v.type)
            residuals.append(v)
        return there[v]

    def zeros(t: Type) -> Value:
        return first.emit(fill_op, (), {"value": 0.0, "shape": t.shape, "dtype": t.dtype})[0]

    def symbols_of_rest(node: Node) -> None:
        for name in node.mentioned_symbols() - rest.graph.symbols.keys():
            d = graph.symbols[name]
            source = residual(d.source if d.kind == "data" else graph.inputs[d.source])
            kind = "value" if d.kind == "data" else d.kind
            rest.graph.symbols[name] = SymbolDef(kind, rest.graph.inputs.index(source), d.axis, d.hint)

    for name, d in graph.symbols.items():
        if d.kind == "value" and isinstance(d.source, int):
            first.graph.symbols[name] = SymbolDef(d.kind, d.source - n_own, d.axis, d.hint)
    for node in graph.nodes:
        if node.op is input_op:
            continue
        operands = [a in dependent for a in node.args]
        rule = MARKED.get(node.op.name)
        marks = rule(node, operands, carries_batch) if rule else [any(operands)] * len(node.types)
        if any(marks) or (any(operands) and not marks):
            symbols_of_rest(node)
            copied = _copied(node, [residual(a) for a in node.args])
            rest.graph.add(copied)
            found = [(v, c) for v, c, on in zip(node.outputs, copied.outputs, marks, strict=True) if on]
            dependent.update([v for v, _ in found])
            there.update(found)
        if not all(marks) or not any(operands):
            copied = _copied(
                node, [zeros(a.type) if on else here[a] for a, on in zip(node.args, operands, strict=True)]
            )
            first.graph.add(copied)
            here.update((v, c) for v, c, on in zip(node.outputs, copied.outputs, marks, strict=True) if not on)
            for name, d in graph.symbols.items():
                if d.kind == "data" and d.source in here and name not in first.graph.symbols:
                    first.graph.symbols[name] = SymbolDef("data", here[d.source], d.axis, d.hint)
    rest.graph.outputs = [residual(v) for v in graph.outputs[n_out:]]
    first.graph.outputs = [here[v] for v in [*graph.outputs[:n_out], *residuals]]
    return first.graph, residuals, rest.graph


def _copied(node: Node, operands: list[Value]) -> Node:
    return Node(node.op, tuple(operands), node.params, node.types, node.regions, node.loc, node.path)


def linearize(f: Callable[..., Any], *primals: Any) -> Any:
    """(f(*primals), its derivative there as a function of tangents).

    What the derivative needs of the primals is computed once. The function takes one tangent per primal.

    >>> import numpy as np, stager as st
    >>> y, push = st.linearize(np.sin, 0.0)
    >>> float(push(3.0))
    3.0
    """
    if active():
        made = Linearized(f, primals)
        out = unflatten(made.structure, [wrap(v) for v in made.values])
        return out, lambda *tangents: unflatten(made.structure, [wrap(t) for t in made.push(made.checked(tangents))])
    return _plain(f, primals)


def _plain(f: Callable[..., Any], primals: tuple[Any, ...]) -> Any:
    """Outside a trace: f runs now; its trace stays so that later calls extend it."""
    from stager.tracing import trace
    from stager.transforms.later import inside_another_trace

    kept: dict[str, Any] = {}

    def forward(*p: Any) -> Any:
        kept["made"] = made = Linearized(f, p)
        return unflatten(made.structure, [wrap(v) for v in made.values])

    traced = trace(forward, primals, {}, concrete=True)
    assert traced.stage is not None
    traced.stage.concrete.hold()
    refuse_overlap(traced)
    out = run_traced(traced)
    stage, made = traced.stage, kept["made"]

    def later(*tangents: Any) -> Any:
        if active():
            return unflatten(made.structure, inside_another_trace(stage, made.push, made.checked(tangents)))
        with push(stage):
            arrays = stage.concrete.run(made.push(made.checked(tangents)))
            return unflatten(made.structure, [own(a) for a in arrays])

    return out, later


def linear_transpose(f: Callable[..., Any], *primals: Any) -> Callable[..., Any]:
    """The transpose of a linear function: maps cotangents of its results to a tuple of cotangents of its arguments.

    primals give shapes and dtypes only. TransformError when the derivative of f depends on where it is taken.

    >>> import numpy as np, stager as st
    >>> A = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> st.linear_transpose(lambda x: A @ x, np.zeros(2))(np.array([1.0, 0.0]))
    (array([1., 2.]),)
    """

    @plainly
    def transposed(ct: Any) -> Any:
        leaves, structure = flatten(primals)
        types = [as_array(x).type for x in leaves]
        cts, ct_structure = flatten(ct)
        given = [as_array(x).raw() for x in cts]
        kept: dict[str, Any] = {}

        def pulled(*raws: Any) -> list[Any]:
            handles = [wrap(r) for r in raws]
            at, back = unflatten(structure, handles[: len(types)]), unflatten(ct_structure, handles[len(types) :])
            selected = kept["selected"] = Selected("linear_transpose", f, at, {}, tuple(range(len(at))))
            record = Recorded("linear_transpose", f, selected, False, scalar=False)
            return [x.raw() for x in record.end(lambda: record.pull_back(_cotangents(record, back)))]

        region = trace_region(pulled, [*types, *[g.type for g in given]], Captures(), "transposed")
        (graph,), captured = finish([region], len(types) + len(given))
        where = [True] * len(types) + [False] * (len(given) + len(captured))
        if any(dependent_outputs(graph, where, carries_batch)):
            text = "linear_transpose: the function is not linear: its derivative depends on its argument"
            raise TransformError(describe(text, remedy="st.vjp transposes the derivative at a point"))
        found = replay(graph, [*[zeros_of(t) for t in types], *given, *captured])
        return tuple(kept["selected"].trees([wrap(x) for x in found]))

    return transposed
