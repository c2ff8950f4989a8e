"""The reference evaluator: any graph, run by the NumPy references of its ops.

It is the oracle of the tests, the constant folder, and what runs a graph that is not worth compiling. Its one promise:
the results have exactly the types that the graph says, or EvaluationError (an internal bug) names the node. It is
written for being right; arguments are never written to, but results may share memory with them or with each other.
Floating-point warnings are off, as in compiled code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stager.ir.abi import exception_class
from stager.ir.core_ops import input_op
from stager.ir.dims import Expr, evaluate, substitute, symbols_of
from stager.ir.graph import Graph, Node
from stager.ir.types import Type

Array = np.ndarray[Any, Any]


class EvaluationError(RuntimeError):
    """A reference that disagrees with its type rule: always a bug in stager."""


def evaluate_graph(
    graph: Graph,
    arrays: Sequence[Any],
    symbols: Mapping[str, int] | None = None,
    committed: dict[int, Array] | None = None,
) -> list[Array]:
    """The outputs of `graph` on `arrays`, one per graph input; `symbols` overrides the values of symbols.

    committed: receives what the caller's arrays hold, by input, as far as the graph says so: also where a check raises.

    ValueError when an array does not have its input's type. Checks in the graph raise their own exceptions.
    """
    with np.errstate(all="ignore"):
        return _Evaluator(committed).run(graph, [np.asarray(a) for a in arrays], symbols or {})


class _Plan:
    """What a graph needs for many runs: its nodes, operand slots, which slots die after each node, symbols."""

    def __init__(self, graph: Graph) -> None:
        slots: dict[Node, int] = {}
        self.count = 0
        last_use: dict[int, int] = {}
        self.steps: list[tuple[Node, list[int], int]] = []
        data: dict[Node, list[tuple[str, int]]] = {}
        self.free: list[list[int]] = []
        for node in graph.nodes:
            slots[node] = self.count
            self.count += len(node.types)
            if node.op is input_op:
                continue
            operands = [slots[a.node] + a.index for a in node.args]
            step = len(self.steps)
            self.steps.append((node, operands, slots[node]))
            self.free.append([])
            for slot in range(slots[node], self.count):
                last_use[slot] = step
            for slot in operands:
                last_use[slot] = step
        self.inputs = [slots[v.node] for v in graph.inputs]
        self.outputs = [slots[v.node] + v.index for v in graph.outputs]
        self.facts: list[tuple[str, str, int, int]] = []
        for name, d in graph.symbols.items():
            if d.kind == "data":
                last_use.pop(slots[d.source.node] + d.source.index, None)
                data.setdefault(d.source.node, []).append((name, slots[d.source.node] + d.source.index))
            else:
                self.facts.append((name, d.kind, d.source, d.axis))
        self.data = data
        for slot in self.outputs:
            last_use.pop(slot, None)
        for slot, step in last_use.items():
            self.free[step].append(slot)


class _Evaluator:
    def __init__(self, committed: dict[int, Array] | None = None) -> None:
        self.plans: dict[Graph, _Plan] = {}
        self.committed = {} if committed is None else committed

    def run(self, graph: Graph, arrays: Sequence[Array], overrides: Mapping[str, int]) -> list[Array]:
        plan = self.plans.get(graph)
        if plan is None:
            plan = self.plans[graph] = _Plan(graph)
        if len(arrays) != len(plan.inputs):
            raise ValueError(f"graph {graph.name!r} takes {len(plan.inputs)} arrays, {len(arrays)} were given")
        env = _bind_symbols(plan, arrays, overrides)
        values: list[Any] = [None] * plan.count
        for i, (slot, array) in enumerate(zip(plan.inputs, arrays, strict=True)):
            expected = graph.inputs[i].type
            if not _has_type(array, expected, env):
                got = f"{array.dtype}{list(array.shape)}"
                where = f" with {env}" if env else ""
                raise ValueError(f"input {i} of graph {graph.name!r} is a {expected}{where}; a {got} was given")
            values[slot] = array
        for (node, operands, first), free in zip(plan.steps, plan.free, strict=True):
            results = self.apply(node, [values[s] for s in operands], env)
            values[first : first + len(results)] = results
            for name, slot in plan.data.get(node, ()):
                if name not in overrides:
                    env[name] = int(values[slot])
            for t, result in zip(node.types, results, strict=True):
                if not _has_type(result, t, env):
                    raise _wrong_type(node, t, result, env)
            for slot in free:
                values[slot] = None
        return [values[s] for s in plan.outputs]

    def apply(self, node: Node, args: list[Array], env: dict[str, int]) -> tuple[Array, ...]:
        params = node.params
        if env:
            own = ("size",) if "counts_turns" in node.op.facts else ()  # which the node itself defines
            params = {k: _concrete(v, env) for k, v in params.items() if k not in own}
        control = CONTROL.get(node.op.name)
        if control is not None:
            return tuple(np.asarray(r) for r in control(self, node, args, params, env))
        if node.op.name == "check":
            _check(*args, **params)
            return ()
        if node.op.name == "commit":
            self.committed[params["input"]] = args[0]
        results = node.op.reference(*args, **params)
        if len(node.types) == 1 and not isinstance(results, tuple | list):
            return (np.asarray(results),)
        if results is None:
            results = ()
        if len(results) != len(node.types):
            raise EvaluationError(f"internal error: {node.op.name} has {len(node.types)} results, not {len(results)}")
        return tuple(np.asarray(r) for r in results)


def _bind_symbols(plan: _Plan, arrays: Sequence[Array], overrides: Mapping[str, int]) -> dict[str, int]:
    env = dict(overrides)
    for name, kind, source, axis in plan.facts:
        if name in env:
            continue
        array = arrays[source]
        if kind in ("shape", "stride") and axis >= array.ndim:
            raise ValueError(f"symbol {name} is axis {axis} of input {source}, which has the shape {array.shape}")
        if kind == "shape":
            env[name] = array.shape[axis]
        else:
            env[name] = array.strides[axis] if kind == "stride" else int(array)
    return env


def _concrete(value: Any, env: Mapping[str, int]) -> Any:
    if isinstance(value, Expr):
        return evaluate(value, env)
    if isinstance(value, tuple | Type):
        return substitute(value, env)
    return value


def _has_type(array: Array, t: Type, env: Mapping[str, int]) -> bool:
    if array.dtype != t.dtype.np:
        return False
    shape: tuple[int, ...] = array.shape
    return shape == t.shape or shape == tuple(evaluate(d, env) for d in t.shape)


def _fits(array: Array, t: Type, env: Mapping[str, int]) -> bool:
    """As `_has_type`, but a dim whose symbols have no value yet (data symbols of the node itself) fits anything."""
    dims = [d if symbols_of(d) <= env.keys() else n for d, n in zip(t.shape, array.shape, strict=False)]
    return array.ndim == t.ndim and _has_type(array, t.with_shape(tuple(dims)), env)


def _wrong_type(node: Node, t: Type, result: Array, env: Mapping[str, int]) -> EvaluationError:
    from stager.ir.text import format_param

    params = ", ".join(f"{k}={format_param(v)}" for k, v in node.params.items())
    operands = ", ".join(str(a.type) for a in node.args)
    got = f"{result.dtype}{list(result.shape)}"
    where = f" with {dict(env)}" if env else ""
    what = f"{node.op.name}({operands}; {params})"
    return EvaluationError(f"internal error: {what} is a {t}{where}, its reference gave {got}")


def evaluate_node(node: Node, args: Sequence[Any], env: Mapping[str, int] | None = None) -> tuple[Array, ...]:
    """The results of one node on concrete operands; `env` gives the symbols that its params mention."""
    symbols = dict(env or {})
    with np.errstate(all="ignore"):
        results = _Evaluator().apply(node, [np.asarray(a) for a in args], symbols)
    for t, result in zip(node.types, results, strict=True):
        if not _fits(result, t, symbols):
            raise _wrong_type(node, t, result, symbols)
    return results


def _check(ok: Array, *details: Array, exception: str, text: str) -> None:
    if not ok:
        raise exception_class(exception)(text.format(*(int(d) for d in details)))


# -- control: (evaluator, node, operands, params with symbols replaced, symbols) -> results ---------------------------


def _for(e: _Evaluator, node: Node, args: list[Array], params: dict[str, Any], env: dict[str, int]) -> list[Array]:
    (body,), n = node.regions, params["n_carry"]
    carries, captures = args[2 : 2 + n], args[2 + n :]
    for i in range(int(args[0]), int(args[1]), params["step"]):
        carries = e.run(body, [np.asarray(i, dtype=np.int64), *carries, *captures], {})
    return carries


def _while(e: _Evaluator, node: Node, args: list[Array], params: dict[str, Any], env: dict[str, int]) -> list[Array]:
    (cond, body), n = node.regions, params["n_carry"]
    carries, captures = args[:n], args[n:]
    while e.run(cond, [*carries, *captures], {})[0]:
        carries = e.run(body, [*carries, *captures], {})
    return carries


def _collect(e: _Evaluator, node: Node, args: list[Array], params: dict[str, Any], env: dict[str, int]) -> list[Array]:
    (cond, body), n = node.regions, params["n_carry"]
    carries, captures = args[:n], args[n:]
    rows: list[list[Array]] = []
    while e.run(cond, [*carries, *captures], {})[0]:
        outs = e.run(body, [*carries, *captures], {})
        carries = outs[:n]
        rows.append([np.array(row) for row in outs[n:]])
    tapes = []
    for k, t in enumerate(node.types[n + 1 :]):
        here = {**env, **{name: len(rows) for name in symbols_of(t.shape[0])}}
        shape = tuple(evaluate(d, here) for d in t.shape)
        tapes.append(np.array([row[k] for row in rows], dtype=t.dtype.np).reshape(shape))
    return [*carries, np.asarray(len(rows), dtype=np.int64), *tapes]


def _switch(e: _Evaluator, node: Node, args: list[Array], params: dict[str, Any], env: dict[str, int]) -> list[Array]:
    index = min(max(int(args[0]), 0), len(node.regions) - 1)
    return e.run(node.regions[index], args[1:], {})


def _map(e: _Evaluator, node: Node, args: list[Array], params: dict[str, Any], env: dict[str, int]) -> list[Array]:
    (body,) = node.regions
    lanes = [e.run(body, [np.asarray(i, dtype=np.int64), *args], {}) for i in range(params["size"])]
    if lanes:
        return [np.stack(column) for column in zip(*lanes, strict=True)]
    return [np.empty(tuple(evaluate(d, env) for d in t.shape), dtype=t.dtype.np) for t in node.types]


CONTROL: dict[str, Callable[[_Evaluator, Node, list[Array], dict[str, Any], dict[str, int]], list[Array]]] = {
    "for": _for, "while": _while, "collect": _collect, "switch": _switch, "map": _map,
}  # fmt: skip
