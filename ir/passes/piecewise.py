"""What is computed from arrays put together is computed piece by piece, so that they need no memory.

`concatenate(a, b) * x` reads an array that was written for it. Cut where a ends, it is a * x[:n] and then b * x[n:],
and nothing but the result is written. Here that is done to whole expressions: of elementwise operations, slices,
updates, pads and concatenations, along one axis, where it saves more arrays than it makes. Values that the rest of the
graph reads (the roots) become concatenations of their pieces. Exact: every element by the same operations.

Not in the bodies of loops, whose updates are in place. Sums of parts that lie anywhere are `sum_padded`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, evaluate, symbols_of
from stager.ir.graph import Graph, Node, Value
from stager.ir.passes.updates import spans
from stager.ir.rewrite import Replacement, Rewriter, rebuild
from stager.ir.types import Type

PIECES = 9
SHORTEST = 16  # elements of an array along the axis that is cut
AGAIN = 2  # times that operations may be done, for the shifts at which they are read
FINER = 3  # pieces of pieces for each piece, where readers are cut at places of their own
_DEAR = """exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh cbrt
hypot erf erfc erfinv sinc logaddexp logaddexp2 nextafter ldexp pow lgamma gamma digamma i0"""
DEAR = frozenset(_DEAR.split())
TYPICAL = 100  # extents that only the call knows
LAZY = ("elementwise", "view", "reduction")  # families of readers that need no memory

Place = tuple[Node, int, int]  # a piece: what of, from where to where


@dataclass(frozen=True, slots=True)
class _Cuts:
    """Where the pieces of a value begin and end along an axis, its ends included."""

    axis: int
    at: tuple[int, ...]


@dataclass
class _Plan:
    """The values to cut, with where, and the roots among them."""

    cuts: dict[Node, _Cuts]
    roots: set[Node] = field(default_factory=set)

    def together(self, n: Node, operand: Node) -> bool:
        """Whether an operand is cut with what reads it, along the same axis."""
        return operand in self.cuts and n in self.cuts and self.cuts[operand].axis == self.cuts[n].axis


def cut_pieces(graph: Graph, fast_math: bool = False) -> Graph:
    """Expressions of concatenations, updates and pads, as concatenations of expressions of their pieces."""
    plan = _plan(graph)
    if not plan.roots:
        return graph
    made: dict[Place, Value] = {}

    def replace(rw: Rewriter, node: Node) -> Replacement:
        root = rw.current
        if root is None or root not in plan.roots:
            return None
        cuts = plan.cuts[root]
        pieces = [_emitted(rw, (root, low, high), plan, made) for low, high in pairwise(cuts.at)]
        return rw.emit("concatenate", *pieces, axis=cuts.axis) if len(pieces) > 1 else pieces[0]

    return rebuild(graph, replace)


# -- what is cut -------------------------------------------------------------------------------------------------------


def _plan(graph: Graph) -> _Plan:
    if not any(n.op.name in _PUT_TOGETHER for n in graph.nodes):
        return _Plan({})
    nodes, users = list(graph.nodes), graph.users()
    outputs = {v.node for v in graph.outputs} | {d.source.node for d in graph.symbols.values() if d.kind == "data"}
    cuts: dict[Node, _Cuts] = {}
    for n in nodes:
        found = _cuts_of(n, cuts, users)
        if found is not None and len(found.at) - 1 <= PIECES:
            cuts[n] = found
    every, chosen = _Plan(cuts), _Plan({})

    def only_in_pieces(n: Node) -> bool:
        return n not in outputs and all(every.together(u, n) for u in users.get(Value(n), ()))

    def only_lazy(user: Node, n: Node) -> bool:
        return user.op.family in LAZY or every.together(user, n)

    for together in _connected(every):
        roots = {n for n in together if not only_in_pieces(n)}
        saved = sum(_bytes(n) for n in together if n not in roots and _takes_memory(n, users[Value(n)]))
        lazy = [n for n in roots if n.op.name not in _PUT_TOGETHER and n not in outputs]
        spent = sum(_bytes(n) for n in lazy if all(only_lazy(u, n) for u in users[Value(n)]))
        part = _Plan({n: cuts[n] for n in together}, roots)
        if saved > spent and _fits(part):
            chosen.cuts.update(part.cuts)
            chosen.roots |= roots
    return chosen


def _connected(plan: _Plan) -> Iterable[list[Node]]:
    """The nodes that are cut, those together that read one another."""
    leader: dict[Node, Node] = {}

    def find(n: Node) -> Node:
        while leader[n] is not n:
            leader[n] = n = leader[leader[n]]
        return n

    for n in plan.cuts:
        leader[n] = n
        for a in n.args:
            if plan.together(n, a.node):
                leader[find(a.node)] = find(n)
    groups: dict[Node, list[Node]] = {}
    for n in plan.cuts:
        groups.setdefault(find(n), []).append(n)
    return groups.values()


def _takes_memory(n: Node, users: Sequence[Node]) -> bool:
    """Whether an array is written for those that read it. What is read in small parts until the next update, is in
    place."""
    if n.op.name != "slice_update":
        return n.op.name in _PUT_TOGETHER
    return any(u.args[0].node is not n or u.op.name != "slice_update" for u in users if 2 * _bytes(u) >= _bytes(n))


def _bytes(n: Node) -> int:
    t = n.types[0]
    return int(evaluate(t.nbytes, dict.fromkeys(symbols_of((t.nbytes,)), TYPICAL)))


def _fits(plan: _Plan) -> bool:
    """Whether not much is computed several times, or in so small pieces that there are too many: in a chain of shifted
    updates they double from one to the next."""
    visited: set[Place] = set()
    most = FINER * sum(len(cuts.at) - 1 for cuts in plan.cuts.values())
    for root in plan.roots:
        todo = [(root, low, high) for low, high in pairwise(plan.cuts[root].at)]
        while todo:
            place = todo.pop()
            if place in visited:
                continue
            visited.add(place)
            if len(visited) > most:
                return False
            todo += [(v.node, low, high) for v, low, high in _read(place, plan) if plan.together(place[0], v.node)]
    long = [n for n, low, high in visited if n.op.family == "elementwise" and 2 * (high - low) > plan.cuts[n].at[-1]]
    return len(long) <= AGAIN * len(set(long))


# -- where -------------------------------------------------------------------------------------------------------------


def _cuts_of(n: Node, cuts: dict[Node, _Cuts], users: dict[Value, list[Node]]) -> _Cuts | None:
    name = n.op.name
    if name in _PUT_TOGETHER:
        return _PUT_TOGETHER[name](n, cuts)
    if name == "slice":
        return _of_slice(n, cuts)
    if n.op.family != "elementwise" or len(n.types) != 1:
        return None
    parts = [cuts[a.node] for a in n.args if a.node in cuts]
    if not parts or any(p.axis != parts[0].axis for p in parts):
        return None
    if name in DEAR and len(found := users.get(Value(n), ())) > 1 and any(u.op.name == "slice" for u in found):
        return None  # read at several places, computed once
    return _Cuts(parts[0].axis, tuple(sorted({c for p in parts for c in p.at})))


def _long_enough(t: Type, axis: int) -> int | None:
    extent = t.shape[axis]
    return extent if isinstance(extent, int) and extent >= SHORTEST else None


def _inside(cuts: _Cuts | None, axis: int, start: int, size: int, offset: int) -> set[int]:
    """The cuts of an operand that lie strictly inside of a part of it, from `offset` on in the result."""
    if cuts is None or cuts.axis != axis:
        return set()
    return {c - start + offset for c in cuts.at if start < c < start + size}


def _of_concatenation(n: Node, cuts: dict[Node, _Cuts]) -> _Cuts | None:
    axis = n.params["axis"]
    if _long_enough(n.types[0], axis) is None:
        return None
    at, position = {0}, 0
    for a in n.args:
        size = a.type.shape[axis]
        if not isinstance(size, int):
            return None
        at |= _inside(cuts.get(a.node), axis, 0, size, position) | {position + size}
        position += size
    return _Cuts(axis, tuple(sorted(at)))


def _of_update(n: Node, cuts: dict[Node, _Cuts]) -> _Cuts | None:
    base, value = n.args
    if base.node.op is not fill_op and base.node.op.family != "elementwise" and base.node not in cuts:
        return None  # what is in memory is written in place
    region = spans(n, base.type.shape)
    partial = [k for k, s in enumerate(region) if not (s.whole and s.step == 1)]
    if len(partial) != 1:
        return None
    (axis,) = partial
    s, extent = region[axis], _long_enough(n.types[0], axis)
    if extent is None or s.step != 1 or not isinstance(s.start, int) or not isinstance(s.size, int):
        return None
    at = {0, s.start, s.start + s.size, extent} | _inside(cuts.get(base.node), axis, 0, extent, 0)
    return _Cuts(axis, tuple(sorted(at | _inside(cuts.get(value.node), axis, 0, s.size, s.start))))


def _of_pad(n: Node, cuts: dict[Node, _Cuts]) -> _Cuts | None:
    x, p = n.args[0], n.params
    partial = [k for k in range(x.type.ndim) if p["low"][k] != 0 or p["high"][k] != 0]
    if len(partial) != 1 or any(p["interior"]):
        return None
    (axis,) = partial
    extent, low, size = _long_enough(n.types[0], axis), p["low"][axis], x.type.shape[axis]
    if extent is None or not isinstance(low, int) or not isinstance(size, int) or low < 0 or low + size > extent:
        return None
    return _Cuts(axis, tuple(sorted({0, low, low + size, extent} | _inside(cuts.get(x.node), axis, 0, size, low))))


_PUT_TOGETHER = {"concatenate": _of_concatenation, "slice_update": _of_update, "pad": _of_pad}


def _of_slice(n: Node, cuts: dict[Node, _Cuts]) -> _Cuts | None:
    found = cuts.get(n.args[0].node)
    if found is None:
        return None
    start, size, step = (n.params[name][found.axis] for name in ("starts", "sizes", "steps"))
    if step != 1 or not isinstance(start, int) or not isinstance(size, int) or size == 0:
        return None
    return _Cuts(found.axis, tuple(sorted({0, size} | _inside(found, found.axis, start, size, 0))))


# -- pieces ------------------------------------------------------------------------------------------------------------


def _read(place: Place, plan: _Plan) -> Sequence[tuple[Value, int, int]]:
    """What a piece is made of: parts of operands along the axis. Of a pad outside of what is padded, the scalar."""
    n, low, high = place
    name, axis = n.op.name, plan.cuts[n].axis
    if name == "concatenate":
        for a in n.args:
            size = a.type.shape[axis]
            assert isinstance(size, int)
            if low < size:
                return [(a, low, high)]
            low, high = low - size, high - size
    if name in ("slice_update", "pad"):
        outer, inner = n.args if name == "slice_update" else reversed(n.args)
        start = n.params["starts" if name == "slice_update" else "low"][axis]
        size = inner.type.shape[axis]
        return [(inner, low - start, high - start)] if start <= low < start + size else [(outer, low, high)]
    if name == "slice":
        start = n.params["starts"][axis]
        return [(n.args[0], low + start, high + start)]
    return [(a, low, high) for a in n.args]


def _emitted(rw: Rewriter, place: Place, plan: _Plan, made: dict[Place, Value]) -> Value:
    """A piece. Not by recursion: expressions may be deep."""
    todo = [place]
    while todo:
        here = todo[-1]
        if here in made:
            todo.pop()
            continue
        missing = []
        args = []
        for v, low, high in _read(here, plan):
            if not plan.together(here[0], v.node):
                args.append(_part(rw, v, plan.cuts[here[0]].axis, low, high))
            elif (found := made.get((v.node, low, high))) is None:
                missing.append((v.node, low, high))
            else:
                args.append(found)
        todo += missing
        if not missing:
            made[here] = _made(rw, here, plan, args)
    return made[place]


def _part(rw: Rewriter, v: Value, axis: int, low: int, high: int) -> Value:
    """A part of a value that is not cut."""
    if v.type.ndim == 0:
        return rw.new(v)
    shape = (*v.type.shape[:axis], high - low, *v.type.shape[axis + 1 :])
    if v.node.op is fill_op:
        return rw.fill(v.node.params["value"], Type(v.type.dtype, shape))
    if shape == v.type.shape:
        return rw.new(v)
    starts: list[Dim] = [0] * len(shape)
    starts[axis] = low
    return rw.emit("slice", rw.new(v), starts=tuple(starts), sizes=shape, steps=(1,) * len(shape))


def _made(rw: Rewriter, place: Place, plan: _Plan, args: list[Value]) -> Value:
    n, low, high = place
    axis, shape = plan.cuts[n].axis, n.types[0].shape
    if n.op.family == "elementwise":
        return rw.emit(n.op, *args, **n.params)
    (x,) = args
    shape = (*shape[:axis], high - low, *shape[axis + 1 :])
    if n.op.name == "pad" and x.type.ndim == 0:
        return rw.emit("broadcast", x, shape=shape, axes=())
    if n.op.name != "slice" or (shape == x.type.shape and all(step == 1 for step in n.params["steps"])):
        return x
    starts = (*n.params["starts"][:axis], 0, *n.params["starts"][axis + 1 :])
    return rw.emit("slice", x, starts=starts, sizes=shape, steps=n.params["steps"])
