"""What the forward pass of a joint region stores for its backward part: least bytes, cheap ops free to run again.

A minimum cut on the graph, between what must be stored (the inputs of an iteration, dear results) and what the backward
part reads. Sizes that depend on the iteration count by their bound over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stager.bounds import simplify, upper
from stager.interpreters.stack import stack
from stager.ir.core_ops import input_op
from stager.ir.dims import Apply, Dim, Expr, Sym, dim_max, dim_min, evaluate, floordiv, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.regions import first_operand
from stager.ops.joint import Joint, nodes_for, operands_back, operands_of

# -- what is stored ---------------------------------------------------------------------------------------------------

CHEAP = ("source", "elementwise", "view", "structural")


def is_cheap(node: Node) -> bool:
    """Fit to run again rather than be stored."""
    return node.op.family in CHEAP or node.op.name == "gather"  # to read again costs less than to write and read


@dataclass
class Residuals:
    """stored: values the forward node saves. hoisted: the same in every iteration, computed once before going back."""

    stored: list[Value]
    hoisted: list[Value]
    bounds: dict[Value, tuple[Dim, ...]]  # the largest shape of each stored value over all iterations
    nbytes: int  # about how much is stored per iteration


def stores_a_carry(joint: Joint, v: Value) -> bool:
    """Whether a stored value is a whole carried array, as it was or updated by a loop."""
    while v.node.op.name in ("for", "while", "collect") and v.index < v.node.params["n_carry"]:
        v = v.node.args[first_operand(v.node) + v.index]
    return v.type.ndim > 0 and v.node.op is input_op and 0 < v.node.params["index"] < joint.n_own


def choose_residuals(
    joint: Joint, free: set[Value], ranges: dict[str, tuple[Dim, Dim]], *, repeats: bool = True, reads_on: bool = True
) -> Residuals:
    """The cheapest set of values from which, with `free` and the captures, all that the backward part reads follows.

    repeats: the region runs many times, and what is the same each time is computed once ahead instead of stored.
    reads_on: captured arrays are there on the way back; else what is read of them is stored, where that is less.
    """
    graph = joint.graph
    own = set(joint.graph.inputs[: joint.n_own])
    varying: set[Node] = {v.node for v in own}
    for node in joint.forward:
        if any(a.node in varying for a in operands_of(graph, node)):
            varying.add(node)
    if not repeats:
        varying.update(joint.forward)
    captured = {v for v in graph.inputs if v not in own and v.node not in joint.depends}
    free = free | {v for v in captured if reads_on or v.type.ndim == 0}
    wanted: list[Value] = []
    seen: set[Value] = set()
    for node in nodes_for(joint, joint.backward, [ct for ct in joint.ct_outs if ct is not None], set()):
        for a in operands_back(joint, node):
            if a.node not in joint.depends and a not in free and a not in seen:
                seen.add(a)
                wanted.append(a)
    hoisted = [v for v in wanted if v.node not in varying and not is_cheap(v.node)]
    free |= set(hoisted)
    bounds: dict[Value, tuple[Dim, ...]] = {}
    stored = _minimum_cut(joint, [v for v in wanted if v not in free], free, varying, ranges, bounds)
    more = _invariant_frontier(joint, stored, wanted, free, varying)
    kept = {v: bounds[v] for v in stored}
    return Residuals(stored, hoisted + more, kept, sum(bytes_of(graph, v, shape) for v, shape in kept.items()))


def _invariant_frontier(
    joint: Joint, stored: list[Value], wanted: list[Value], free: set[Value], varying: set[Node]
) -> list[Value]:
    """Costly invariant values among what is run again: computed once, ahead."""
    nodes = nodes_for(joint, joint.forward, wanted, free | set(stored))
    return [Value(n, k) for n in nodes if n not in varying and not is_cheap(n) for k in range(len(n.types))]


def _minimum_cut(
    joint: Joint,
    wanted: Sequence[Value],
    free: set[Value],
    varying: set[Node],
    ranges: dict[str, tuple[Dim, Dim]],
    bounds: dict[Value, tuple[Dim, ...]],
) -> list[Value]:
    """Node-capacitated: v -> v' carries the bytes of v, a cheap node's operands lead to it, what is wanted leads on.

    Of the cuts of one size the one nearest to the end is taken, behind which least is run again.
    """
    import networkx as nx
    from networkx.algorithms.flow import boykov_kolmogorov

    if not wanted:
        return []
    flow = nx.DiGraph()
    start, end = "start", "end"
    todo = list(wanted)
    seen: set[Value] = set(todo)
    for v in todo:
        flow.add_edge((v, 1), end)
    while todo:
        v = todo.pop()
        shape = bound_shape(joint.graph, v.type.shape, ranges)
        must_store = v.node.op is input_op or v.node.op.ordered
        if shape is None:
            if must_store:
                raise AssertionError(f"internal error in stager: no bound on the size of a carried {v.type}")
            flow.add_edge((v, 0), (v, 1))
        else:
            bounds[v] = shape
            flow.add_edge((v, 0), (v, 1), capacity=bytes_of(joint.graph, v, shape))
        last = len(v.node.types) == 1 and v in joint.lasting.written
        again = not must_store and (last or is_cheap(v.node) or shape is None or v.node not in varying)
        if not again:
            flow.add_edge(start, (v, 0))
            continue
        for a in operands_back(joint, v.node):
            if a in free:
                continue
            flow.add_edge((a, 1), (v, 0))
            if a not in seen:
                seen.add(a)
                todo.append(a)
    if start not in flow:
        return []
    _, (near_start, near_end) = nx.minimum_cut(flow, start, end, flow_func=boykov_kolmogorov)
    return [v for v in _in_order(joint, seen) if (v, 0) in near_start and (v, 1) in near_end]


def _in_order(joint: Joint, values: set[Value]) -> list[Value]:
    nodes = [v.node for v in joint.graph.inputs] + joint.forward
    return [Value(n, k) for n in nodes for k in range(len(n.types)) if Value(n, k) in values]


def bytes_of(graph: Graph, v: Value, shape: Sequence[Dim]) -> int:
    total = v.type.dtype.itemsize
    for d in shape:
        total *= d if isinstance(d, int) else _likely(graph, d)
    return max(total, 1)


def _likely(graph: Graph, d: Dim) -> int:
    """About how large a symbolic extent will be: by the hints of the first call, by known bounds, or some size."""
    env = {name: graph.symbols[name].hint for name in symbols_of(d) if name in graph.symbols}
    if env.keys() == symbols_of(d) and None not in env.values():
        return max(1, evaluate(d, env))  # type: ignore[arg-type]
    bound = upper(d)
    return 64 if bound is None else max(1, bound)


# -- sizes that depend on the iteration -------------------------------------------------------------------------------


def bound_shape(graph: Graph, shape: Sequence[Dim], ranges: dict[str, tuple[Dim, Dim]]) -> tuple[Dim, ...] | None:
    """The largest extents over all iterations in terms of the graph around; None when there is no telling."""
    local = local_symbols(graph)
    out = []
    for d in shape:
        if symbols_of(d) & local:
            high = extent(d, ranges, local, upper=True)
            if high is None:
                return None
            d = simplify(dim_max(0, high))
        out.append(d)
    return tuple(out)


def local_symbols(graph: Graph) -> set[str]:
    """Symbols that mean something in this region only: its own inputs' values and its data."""
    s = stack()
    around = {name for level in s.levels[: s.depth] if level.key == "Stage" for name in level.graph.symbols}  # type: ignore[attr-defined]
    return {name for name, d in graph.symbols.items() if name not in around}


def extent(d: Dim, ranges: dict[str, tuple[Dim, Dim]], local: set[str], *, upper: bool) -> Dim | None:
    """A bound on a dim, local symbols replaced by the ends of their ranges. Interval arithmetic, linear terms only."""
    if not isinstance(d, Expr):
        return d
    total: Dim = 0
    for monomial, c in d.terms:
        factor: Dim = c
        bounded = 0
        for atom, power in monomial:
            here = symbols_of(Expr(((((atom, 1),), 1),)))
            if not here & local:
                for _ in range(power):
                    factor = factor * Expr(((((atom, 1),), 1),))
                continue
            bounded += power
            end = _atom_extent(atom, ranges, local, upper=upper == (c > 0))
            if end is None:
                return None
            factor = factor * end
        if bounded > 1:
            return None
        total = total + factor
    return total


def _atom_extent(atom: Any, ranges: dict[str, tuple[Dim, Dim]], local: set[str], *, upper: bool) -> Dim | None:
    if isinstance(atom, Sym):
        low_high = ranges.get(atom.name)
        return None if low_high is None else low_high[int(upper)]
    assert isinstance(atom, Apply)
    a = extent(atom.a, ranges, local, upper=upper)
    if atom.fn == "floordiv":
        return floordiv(a, atom.b) if a is not None and isinstance(atom.b, int) and atom.b > 0 else None
    if atom.fn == "mod":
        return (atom.b - 1 if upper else 0) if isinstance(atom.b, int) and atom.b > 0 else None
    b = extent(atom.b, ranges, local, upper=upper)
    if atom.fn == "min" and upper and (a is None or b is None):
        return a if b is None else b
    if atom.fn == "max" and not upper and (a is None or b is None):
        return a if b is None else b
    if a is None or b is None:
        return None
    return dim_max(a, b) if atom.fn == "max" else dim_min(a, b)


def index_ranges(joint: Joint, least: Dim, greatest: Dim) -> dict[str, tuple[Dim, Dim]]:
    """The least and the greatest value of the symbols that are the loop's index."""
    ends = (least, greatest)
    return {name: ends for name, d in joint.graph.symbols.items() if d.kind == "value" and d.source == 0}
