"""Concrete values of traced arrays, outside `compile`.

There a trace carries its inputs' values. `bool(x)`, `int(x)`, `print(x)` and their kin run the part of the graph that
x needs (its networkx ancestors); what has been run is remembered, so it is an input of what follows.
Under `compile` the same uses are an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from stager.errors import ConcretizationError, describe
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import stack
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.dims import symbols_of
from stager.ir.graph import Graph, Node, SymbolDef, Value

if TYPE_CHECKING:
    from stager.array import Array


class Concrete:
    """The known values of one graph's nodes: inputs first, then whatever has been run."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[Value, np.ndarray[Any, Any]] = {}

    def run(self, wanted: list[Value]) -> list[np.ndarray[Any, Any]]:
        """The values of `wanted`, running only ancestors that have not been run. Does not recurse."""
        from stager.ir.evaluate import evaluate_node

        needed: list[Node] = []
        seen: set[Node] = set()
        pending = [v.node for v in wanted if v not in self.values]
        while pending:
            node = pending.pop()
            if node in seen:
                continue
            seen.add(node)
            needed.append(node)
            pending.extend(a.node for a in node.args if a not in self.values)
            pending.extend(d.source.node for d in self._symbols_of(node) if d.source not in self.values)
        order = {n: i for i, n in enumerate(self.graph.nodes)} if len(needed) > 1 else {}
        for node in sorted(needed, key=lambda n: order.get(n, 0)):
            env = {name: int(self.values[d.source]) for name, d in self.graph.symbols.items() if d.source in self.values}
            for value, array in zip(node.outputs, evaluate_node(node, [self.values[a] for a in node.args], env), strict=True):
                self.values[value] = array
        return [self.values[v] for v in wanted]

    def _symbols_of(self, node: Node) -> list[SymbolDef]:
        symbols = self.graph.symbols
        if not symbols:
            return []
        names = symbols_of(tuple([t.shape for t in node.types])) | symbols_of(tuple(node.params.values()))
        return [symbols[n] for n in names if symbols[n].kind == "data"]


def _peel(x: Array) -> tuple[Any, str]:
    """The level-0 value under grad, jvp and functionalize levels, or the name of the level that hides it."""
    value = x.raw()
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if isinstance(interp, VmapInterpreter):
            if type(value) is BatchTracer and value.interp is interp:
                return None, "vmap"
        elif interp.key == "Stage":
            if type(value) is Value and value.node in interp.graph.nx._node:  # type: ignore[attr-defined]
                return (interp, value), ""
        else:
            value = interp.lower_value(value)
    return None, "compile"


def peek(x: Array) -> Any:
    """The concrete value if it can be had without an error, else None. For printing."""
    if not stack().depth or (x.cell.owner is not None and not x.cell.owner.alive):
        return None
    found, _ = _peel(x)
    if found is None or getattr(found[0], "concrete", None) is None:
        return None
    return found[0].concrete.run([found[1]])[0]


def concrete_value(x: Array, use: str) -> np.ndarray[Any, Any]:
    """The value of x as an ndarray. ConcretizationError where there is none."""
    found, hidden = _peel(x)
    if found is not None and getattr(found[0], "concrete", None) is not None:
        value: np.ndarray[Any, Any] = found[0].concrete.run([found[1]])[0]
        if use == "bool()" and value.size != 1:
            raise ValueError("The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()")
        return value
    if found is not None:
        for leaf in found[0].leaves:  # a Python int argument: the code is specialised on its value
            if leaf.kind == "int" and leaf.input == found[1]:
                leaf.specialized = True
                return np.asarray(leaf.value)
    _no_value(x, use, hidden)


def _no_value(x: Array, use: str, hidden: str) -> NoReturn:
    value = x.raw()
    while not isinstance(value, Value):
        value = value.value
    made = f"; it was made at {value.node.loc}" if value.node.loc else ""
    reason = "it differs between the lanes of a vmap" if hidden == "vmap" else "it has no value while the function is compiled"
    remedy = (
        "use np.where or st.cond so that both outcomes are traced"
        if use == "bool()"
        else "keep it an array (NumPy functions take it as it is), or compute it outside the traced function"
    )
    raise ConcretizationError(describe(f"{use} needs the value of a traced {x.type}, but {reason}{made}", remedy=remedy))


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
                        "otherwise keep it an array (write into an array made by the traced function, use np.* instead of math.*)",
                    )
                )
            value = inner
        elif isinstance(interp, VmapInterpreter):
            value = interp.unwrap(value)[0]
