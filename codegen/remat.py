"""Which values are kept for later kernels, and which are computed again there.

Values pass from kernel to kernel through memory where something stands between that no kernel reaches across: a matrix
product, a reduction over the outermost axis, a sort, a loop. The forward pass of a gradient is on one side, its
backward pass on the other. Every lazy value that is used beyond can be stored, or computed again from what is in
memory. A minimum cut finds the cheapest choice for all of them together: to store and load costs what `DEAR` says, to
compute again what the operation weighs. Values that no later kernel uses are left to the rule of `lower.py`.

What a loop takes and gives is in memory. The body of a loop is code of its own: what its nodes take from around it is
in memory too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stager.codegen.pull import value_key
from stager.ir.dims import evaluate, symbols_of
from stager.ir.dtypes import b1
from stager.ir.graph import Node, Value

LOAD = 4
"""What it costs to read a value, in elementary operations on it."""
STORE = 8
TYPICAL = 100  # extents that only the call knows
LAZY = ("elementwise", "view", "source")


class _Reach:
    """How many barriers stand before each node, and beyond which of them its value is used."""

    def __init__(self, nodes: Sequence[Node], outputs: set[int]) -> None:
        self.at: dict[Node, int] = {}  # the level where a node is computed
        self.level: dict[Node, int] = {}  # that where its results are known
        self.used: dict[Node, int] = {}  # a bit per level where its results may be needed
        self._lazy = {n for n in nodes if n.op.family in LAZY and n.op.name != "input"}
        for n in nodes:
            self.at[n] = max([self.level.get(a.node, 0) for a in n.args], default=0)
            self.level[n] = self.at[n] + (n not in self._lazy and _is_barrier(n))
        for n in reversed(nodes):
            here = self.used.get(n, 0)
            if any(value_key(v) in outputs for v in n.outputs):
                here |= 1 << self.level[n]
            self.used[n] = here
            needed = here if n in self._lazy else 1 << self.at[n]
            for a in n.args:
                self.used[a.node] = self.used.get(a.node, 0) | needed

    def is_lazy(self, n: Node) -> bool:
        """Whether a node is computed where it is used, unless it is kept. What stands around a region is in memory."""
        return n in self._lazy

    def later(self, n: Node) -> int:
        """In how many later levels the value may be needed."""
        return (self.used[n] >> (self.level.get(n, 0) + 1)).bit_count()

    def crosses(self, n: Node, user: Node) -> bool:
        return self.at[user] > self.level[n]


def _is_barrier(n: Node) -> bool:
    """Whether what uses the result of a node in memory cannot be in one kernel with what makes its operands."""
    if n.op.name == "input" or n.op.name in ("gather", "concatenate"):
        return False
    if n.op.family == "reduction" and "axes" in n.params:
        shape = n.args[0].type.shape
        return all(d == 1 for k, d in enumerate(shape) if k < min(n.params["axes"], default=0))
    return True


def _elements(v: Value) -> int:
    shape = v.type.shape
    return int(evaluate(v.type.size, dict.fromkeys(symbols_of(shape), TYPICAL)))


def choose(nodes: Sequence[Node], outputs: Sequence[Value], weights: Mapping[str, int], dear: int) -> dict[int, bool]:
    """For the values that later kernels use: whether they are stored there. `weights` of ops, 1 where there is none.

    `nodes`: a graph's, or those of a region. What a loop keeps of each turn for another loop is chosen where it is
    differentiated (`stager/ops/residuals.py`).
    """
    kept = {value_key(v) for v in outputs}
    reach = _Reach(nodes, kept)
    users: dict[Node, list[Node]] = {}
    weight: dict[Node, int] = {}
    wanted: dict[Node, None] = {}
    worth = False
    for n in nodes:
        weight[n] = sum([weight.get(a.node, 0) for a in n.args]) + _weight(n, weights) if reach.is_lazy(n) else 0
        weight[n] = min(weight[n], 1 << 30)
        for a in n.args:
            users.setdefault(a.node, []).append(n)
            if reach.is_lazy(a.node) and reach.crosses(a.node, n):
                wanted[a.node] = None
                worth = worth or weight[a.node] >= dear
    if not worth:
        return {}
    return _cut(wanted, users, kept, reach, weights)


def _weight(n: Node, weights: Mapping[str, int]) -> int:
    return weights.get(n.op.name, 1) if n.op.family == "elementwise" else 0


def _cut(
    wanted: Mapping[Node, None],
    users: Mapping[Node, list[Node]],
    kept: set[int],
    reach: _Reach,
    weights: Mapping[str, int],
) -> dict[int, bool]:
    import networkx as nx
    from networkx.algorithms.flow import boykov_kolmogorov

    start, end = "memory", "later kernels"
    flow = nx.DiGraph()
    todo = [Value(n) for n in wanted]
    seen = set(todo)
    for v in todo:
        flow.add_edge((v, 1), end)
    while todo:
        v = todo.pop()
        n = v.node
        elements = _elements(v)
        times = max(reach.later(n), 1)
        size = elements * v.type.dtype.itemsize
        if not reach.is_lazy(n):  # in memory anyway: a loop's results among them
            flow.add_edge(start, (v, 1), capacity=LOAD * size * times)
            continue
        if n.op.family == "source":
            flow.add_edge(start, (v, 1), capacity=0)
            continue
        # lanes of a vector are as many as the widest operand allows
        widest = max([t.dtype.itemsize for t in (v.type, *[a.type for a in n.args])])
        again = _weight(n, weights) * elements * widest * times
        flow.add_edge(start, (v, 0), capacity=again)
        if n.op.family == "elementwise" and v.type.dtype is not b1:  # masks live in registers
            there = value_key(v) in kept or any(u.op.family not in (*LAZY, "reduction") for u in users[n])
            flow.add_edge((v, 0), (v, 1), capacity=(LOAD * times + (0 if there else STORE)) * size)
        else:
            flow.add_edge((v, 0), (v, 1))
        for a in n.args:
            flow.add_edge((a, 1), (v, 0))
            if a not in seen:
                seen.add(a)
                todo.append(a)
    _, (near, far) = nx.minimum_cut(flow, start, end, flow_func=boykov_kolmogorov)
    return {
        value_key(v): (v, 0) in near
        for v in seen
        if v.node.op.family == "elementwise" and (v, 1) in far and (v, 0) in flow
    }
