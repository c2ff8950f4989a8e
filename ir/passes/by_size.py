"""Code of its own for arrays whose named sizes are not tiny.

`x[1:]` of n elements begins at min(1, n) and has max(0, n-1): where n may be 0, what lies where cannot be told, and
what is put together from such parts is put together in memory. Where n is at least 16, say, these are 1 and n-1, and
parts of n elements are told apart as those of a number are. So a graph in which that saves much becomes a switch
between two: as it was for small extents, and with the functions of dims resolved, cut along those axes, for others.

Not for graphs with effects, with regions, or that write into arguments: what these do has one place. Checks that sizes
are equal stay in the small branch, and must hold in the large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stager.ir.core_ops import dim_op
from stager.ir.dim_order import Order
from stager.ir.dims import Apply, Dim, Expr, dim_min, floordiv, symbol, symbols_of
from stager.ir.dtypes import i64
from stager.ir.graph import Graph, Node, Value
from stager.ir.op import op_named
from stager.ir.passes.named import cut_named
from stager.ir.types import Type

LARGEST = 400  # nodes of a graph that is there twice
LEAST = 16  # extents from which on it counts, more where numbers in the dims are larger
FARTHEST = 4096  # numbers in dims
WORTH = 0.8  # of what is put together in memory, at most


def split_by_size(graph: Graph, simplify: Callable[[Graph], Graph]) -> Graph:
    """A switch between the graph and one for large extents, where that puts less together in memory."""
    if not _may_be_split(graph):
        return graph
    places = _places(graph)
    far = max(map(_number, places), default=0)
    if not places or far > FARTHEST:
        return graph
    names = symbols_of(tuple(places))
    order = Order(graph, {name: LEAST + 2 * far for name in graph.symbols if name in names})
    large = _resolved(graph, order)
    large = None if large is None else simplify(large)
    if large is None or any(n.ordered for n in large.nodes):
        return graph
    large = simplify(cut_named(large, order))
    if _written(large, order) > WORTH * _written(graph, order):
        return graph
    return _switched(graph, large, order)


def _may_be_split(graph: Graph) -> bool:
    if not graph.symbols or any(d.kind != "shape" for d in graph.symbols.values()) or len(graph) > LARGEST:
        return False
    s = graph.signature
    if s.writes or s.aliases or s.donated:
        return False
    if any(n.regions or (n.ordered and n.op.name != "check") for n in graph.nodes):
        return False
    return any(n.op.name in ("slice_update", "concatenate") and not n.types[0].is_static for n in graph.nodes)


def _functions(graph: Graph) -> set[Apply]:
    """The functions in the dims of types and params."""
    dims = {d for n in graph.nodes for t in n.types for d in t.shape if isinstance(d, Expr)}
    for n in graph.nodes:
        for value in n.params.values():
            dims |= {d for d in (value if isinstance(value, tuple) else (value,)) if isinstance(d, Expr)}
    return {f for d in dims for f in _applied(d)}


def _places(graph: Graph) -> set[Expr]:
    """The dims that say where something lies in what is put together, or is cut: of axes of named sizes."""
    found: set[Expr] = set()
    for n in graph.nodes:
        if n.op.name in ("slice", "slice_update"):
            extents = n.args[0].type.shape
            for start, size, extent in zip(n.params["starts"], n.params["sizes"], extents, strict=True):
                if size != extent:
                    found |= {d for d in (start, size, extent) if isinstance(d, Expr)}
    return found


def _applied(d: Dim) -> Iterator[Apply]:
    todo = [d]
    while todo:
        d = todo.pop()
        if isinstance(d, Expr):
            for atom in (a for m, _ in d.terms for a, _ in m):
                if isinstance(atom, Apply):
                    yield atom
                    todo += [atom.a, atom.b]


def _number(d: Expr) -> int:
    """The largest number in a dim and the functions in it."""
    found = [0]
    for x in (d, *[x for f in _applied(d) for x in (f.a, f.b)]):
        found += [abs(x)] if isinstance(x, int) else [abs(c) for m, c in x.terms if not m]
    return max(found)


def _resolved(graph: Graph, order: Order) -> Graph | None:
    """The graph with the functions of dims that are known resolved; None where its results would have other types, or
    where something is divided by a size: code around the switch asks how much memory it takes."""
    if any(order.simplest(t) != t for t in (*graph.input_types, *graph.output_types)):
        return None
    new = Graph(graph.name)
    new.symbols, new.signature = dict(graph.symbols), graph.signature
    made: dict[Node, Node] = {}
    for n in graph.nodes:
        args = tuple([Value(made[a.node], a.index) for a in n.args])
        params = {k: order.simplest(v) for k, v in n.params.items()}
        made[n] = new.add(Node(n.op, args, params, order.simplest(n.types), (), n.loc, n.path))
    new.inputs = [Value(made[v.node], v.index) for v in graph.inputs]
    new.outputs = [Value(made[v.node], v.index) for v in graph.outputs]
    return new if all(f.fn in ("max", "min") or isinstance(f.b, int) for f in _functions(new)) else None


def _written(graph: Graph, order: Order) -> int:
    """The bytes that are put together in memory, with what is written below updates."""
    parts = {a.node for n in graph.nodes if n.op.name == "concatenate" for a in n.args}  # written where they go
    total = 0
    for n in graph.nodes:
        if n.op.name in ("slice_update", "pad") or (n.op.name == "concatenate" and n not in parts):
            free = n.op.name == "slice_update" and n.args[0].node.op.name != "slice_update"
            total += order.usual(n.types[0].nbytes) * (2 if free else 1)
    return total


def _switched(graph: Graph, large: Graph, order: Order) -> Graph:
    """A switch between two graphs of the same inputs, symbols and results."""
    new = Graph(graph.name)
    new.meta, new.symbols, new.signature = dict(graph.meta), dict(graph.symbols), graph.signature
    new.inputs = [Value(new.add(Node(v.node.op, (), v.node.params, v.node.types))) for v in graph.inputs]
    index: Dim | None = None  # from 1 on the large ones are meant
    for name, n in order.least.items():
        times = floordiv(symbol(name), n)
        index = times if index is None else dim_min(index, times)
    which = new.add(Node(dim_op, (), {"dim": index}, (Type(i64, ()),)))
    regions = (_region(graph, "small"), _region(large, "large"))
    node = Node(op_named("switch"), (Value(which), *new.inputs), {}, graph.output_types, regions)
    new.outputs = list(new.add(node).outputs)
    return new


def _region(graph: Graph, name: str) -> Graph:
    region = Graph(name)
    region.symbols = dict(graph.symbols)
    for n in graph.nodes:
        region.add(n)
    region.inputs, region.outputs = list(graph.inputs), list(graph.outputs)
    return region
