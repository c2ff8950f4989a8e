"""Sums of cotangents, taken before what multiplies them is known.

The backward pass of a normalisation sums a*c + b*d along each row, where b is made of another sum over that row. As it
stands, the sum waits for the other one, and the row is walked once more. What is one number per row leaves the sum:
a times the sum of c plus b times the sum of d are sums of what is there before. This pass writes sums so where every
sum of their round (of one shape, over the same axes, behind equally many others) can be: then the round is saved.
Where another sum needs that walk anyway, nothing is gained and nothing changes.

Float additions change their order, which is the backward pass's to choose but not a user's own sum: only nodes that the
backward pass emitted are changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, product
from stager.ir.graph import Graph, Node, Value
from stager.ir.rewrite import Replacement, Rewriter, map_regions, rebuild
from stager.ir.types import Type

SUMS = 4  # that one becomes
STEPS = 32  # nodes looked at per sum
WALKED_WITH = ("elementwise", "view", "source")  # families that cost no walk of their own


def split_sums(graph: Graph, fast_math: bool = False) -> Graph:
    """Sums of the backward pass without the factors and terms that come last."""
    splits = _splits(graph)
    if splits:

        def replace(rw: Rewriter, node: Node) -> Replacement:
            split = splits.get(rw.current) if rw.current is not None else None
            return None if split is None else split.emit(rw, node.types[0])

        graph = rebuild(graph, replace, share=True)
    return map_regions(graph, split_sums, fast_math)


def _splits(graph: Graph) -> dict[Node, _Split]:
    if not any(_may_change(n) for n in graph.nodes):
        return {}
    rounds: dict[Node, int] = {}  # how many walks a value waits for
    together: dict[tuple[tuple[Dim, ...], tuple[int, ...], int], list[Node]] = {}
    for n in graph.nodes:
        before = max([rounds[a.node] for a in n.args], default=0)
        rounds[n] = before + (n.op.family not in WALKED_WITH)
        if n.op.family == "reduction" and "axes" in n.params and before:
            together.setdefault((n.args[0].type.shape, n.params["axes"], before), []).append(n)
    found: dict[Node, _Split] = {}
    for (_, axes, before), nodes in together.items():
        if all(map(_may_change, nodes)):
            splits = [_Split(n, axes, before, rounds) for n in nodes]
            if all(s.holds for s in splits):
                found.update(zip(nodes, splits, strict=True))
    return found


def _may_change(n: Node) -> bool:
    return n.op.name == "reduce_sum" and n.in_backward and n.types[0].dtype.is_float


@dataclass
class _Split:
    """One sum in terms of sums that are there before round `before`; `holds` says whether that was found."""

    node: Node
    axes: tuple[int, ...]
    before: int
    rounds: dict[Node, int]
    order: list[Value] = field(default_factory=list)  # what is written anew, operands first
    parts: set[Value] = field(default_factory=set)  # what is summed
    alike: set[Value] = field(default_factory=set)  # what is one number for all that a sum joins
    holds: bool = False

    def __post_init__(self) -> None:
        self.holds = self._find()

    def _find(self) -> bool:
        """Walks down to what is known before."""
        done: set[Value] = set()
        todo = [(self.node.args[0], False)]
        while todo:
            v, is_ready = todo.pop()
            if is_ready:
                self.order.append(v)
                continue
            if v in done:
                continue
            done.add(v)
            if len(done) > STEPS:
                return False
            if self.rounds[v.node] < self.before:
                self.parts.add(v)
                if len(self.parts) > SUMS:
                    return False
                continue
            rest = self._rest(v)
            if rest is None:
                return False
            todo.append((v, True))
            todo += [(r, False) for r in rest]
        return True

    def _rest(self, v: Value) -> Sequence[Value] | None:
        """What has to be summed to have the sum of v; None where that is not known."""
        name, args = v.node.op.name, v.node.args
        if self._is_alike(v):
            return () if self._count(v.type) is not None else None
        if name in ("neg", "add", "sub"):
            return args
        if name == "mul" and self._is_alike(args[0]):
            return (args[1],)
        if name in ("mul", "div") and self._is_alike(args[1]):
            return (args[0],)
        return None

    def _count(self, t: Type) -> int | None:
        """How many elements one sum joins."""
        n = product([t.shape[k] for k in self.axes])
        return n if isinstance(n, int) else None

    def _is_alike(self, v: Value, depth: int = 6) -> bool:
        """Whether v does not vary along the axes."""
        if v in self.alike:
            return True
        node = v.node
        if node.op.name == "broadcast":
            (x,), axes = node.args, node.params["axes"]
            found = all(k not in self.axes or x.type.shape[d] == 1 for d, k in enumerate(axes))
        elif node.op is fill_op:
            found = True
        else:
            elementwise = node.op.family == "elementwise" and bool(node.args) and depth > 0
            found = elementwise and all(self._is_alike(a, depth - 1) for a in node.args)
        if found:
            self.alike.add(v)
        return found

    # -- the new nodes -----------------------------------------------------------------------------------------------

    def emit(self, rw: Rewriter, t: Type) -> Value:
        """The sum, of type `t`."""
        made = {v: rw.emit("reduce_sum", rw.new(v), axes=self.axes) for v in self.parts}
        for v in self.order:
            made[v] = self._emit(rw, v, made, t)
        return made[self.node.args[0]]

    def _emit(self, rw: Rewriter, v: Value, made: dict[Value, Value], t: Type) -> Value:
        name, args = v.node.op.name, v.node.args
        if v in self.alike:
            return rw.emit("mul", self._once(rw, v), rw.fill(float(self._count(v.type) or 0), t))
        if name in ("neg", "add", "sub"):
            return rw.emit(name, *[made[a] for a in args])
        return rw.emit(name, *[made[a] if a in made else self._once(rw, a) for a in args])

    def _once(self, rw: Rewriter, v: Value) -> Value:
        """v, which does not vary along the axes, without them."""
        node = v.node
        shape = tuple([d for k, d in enumerate(v.type.shape) if k not in self.axes])
        if node.op is fill_op:
            return rw.fill(node.params["value"], Type(v.type.dtype, shape))
        if node.op.name != "broadcast":
            return rw.emit(node.op, *[self._once(rw, a) for a in node.args], **node.params)
        (x,), axes = node.args, node.params["axes"]
        kept = [(d, k) for d, k in zip(x.type.shape, axes, strict=True) if k not in self.axes]
        source = rw.new(x)
        if len(kept) < len(axes):
            source = rw.emit("reshape", source, shape=tuple([d for d, _ in kept]))
        to = tuple([k - sum(a < k for a in self.axes) for _, k in kept])
        return source if source.type.shape == shape else rw.emit("broadcast", source, shape=shape, axes=to)
