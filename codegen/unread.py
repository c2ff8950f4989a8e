"""Carried arrays whose content before a loop is never read: the loop writes every row, one turn after the other.

So do the tapes of reverse mode, the results of a scan, and `np.zeros` that a loop fills. Such an array needs memory,
and nothing that fills it before. Tapes of rows that grow or shrink are not written whole, but read by nothing except
loops that go over the same turns and read in each of them what the same turn has written. What cannot be shown is
filled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stager.codegen.pull import value_key
from stager.ir.dims import Dim, dim_max, floordiv, is_static, substitute, symbol, symbols_of
from stager.ir.graph import Graph, Node, Value

if TYPE_CHECKING:
    from stager.codegen.lower import Walk


def never_read(w: Walk, node: Node, k: int) -> bool:
    """Whether carry k of a `for` is written whole, and read by nothing in the loop."""
    body = node.regions[0]
    x, update = body.inputs[1 + k], body.outputs[k].node
    if update.op.name != "slice_update" or update.args[0] != x or update.args[1] == x or x in body.outputs:
        return False
    if any(user is not update for user in body.nx.succ[x.node]):
        return False
    if _read_as_written(w, node, k, update):
        return True
    names = _names(w, node, body)
    index = {name: d for name, d in body.symbols.items() if d.kind == "value" and d.source == 0}
    shape = Value(node, k).type.shape
    moving: list[int] = []
    p = update.params
    for axis, extent in enumerate(shape):
        place = (p["starts"][axis], p["sizes"][axis])
        used = symbols_of(place)
        if not used <= names.keys() | index.keys() or p["steps"][axis] != 1:
            return False
        if used & index.keys():
            moving.append(axis)
        elif substitute(place, names) != (0, extent):
            return False
    if len(moving) != 1 or not is_static(p["sizes"][moving[0]]):
        return False
    (axis,) = moving
    start, rows = p["starts"][axis], p["sizes"][axis]
    i = symbol("%i")
    first, second = (substitute(start, names | dict.fromkeys(index, d)) for d in (i, i + 1))
    return _covers(w, node, first, second - first, rows, shape[axis])


def _read_as_written(w: Walk, node: Node, k: int, update: Node) -> bool:
    """Whether only loops over the same turns read the array, in each of them no more than the same turn has written."""
    key = value_key(Value(node, k))
    users = w.users.get(key, [])
    turns, written = _turns(w, node), _place(w, node, update)
    if not users or key in w.output_keys or turns is None or written is None:
        return False
    for reader in {id(w.nodes[n]): w.nodes[n] for n in users}.values():
        captured = [n for n, a in enumerate(reader.args) if a == Value(node, k)]
        if reader.op.name != "for" or len(captured) != 1 or captured[0] < 2 + reader.params["n_carry"]:
            return False
        body = reader.regions[0]
        x = body.inputs[captured[0] - 1]
        reads = list(body.nx.succ[x.node])
        if x in body.outputs or _turns(w, reader) != turns or any(r.op.name != "slice" for r in reads):
            return False
        if any(_place(w, reader, r) != written for r in reads):
            return False
    return True


def _turns(w: Walk, node: Node) -> tuple[Dim, Dim] | None:
    """The least and the greatest index of a loop that leaves out none between them."""
    lower, upper = _dim(w, node.args[0]), _dim(w, node.args[1])
    step: int = node.params.get("step", 1)
    if lower is None or upper is None or abs(step) != 1:
        return None
    return (lower, upper - 1) if step > 0 else (upper + 1, lower)


def _place(w: Walk, node: Node, part: Node) -> tuple[Any, ...] | None:
    """Where a slice or update in a loop's body lies, in terms of the index %i and of what is around the loop."""
    body = node.regions[0]
    names = _names(w, node, body)
    names |= {n: symbol("%i") for n, d in body.symbols.items() if d.kind == "value" and d.source == 0}
    place = tuple(part.params[name] for name in ("starts", "sizes", "steps"))
    return substitute(place, names) if symbols_of(place) <= names.keys() else None


def _covers(w: Walk, node: Node, start: Dim, stride: Dim, rows: int, extent: Dim) -> bool:
    """Whether the rows from `start` on, linear in the index %i with this stride, are all rows after the loop."""
    lower, upper = _dim(w, node.args[0]), _dim(w, node.args[1])
    step: int = node.params.get("step", 1)
    if lower is None or upper is None or not is_static(stride) or abs(stride * step) != rows:
        return False
    span = upper - lower if step > 0 else lower - upper
    trips = floordiv(span + (abs(step) - 1), abs(step))
    if extent not in (trips * rows, dim_max(0, trips) * rows):
        return False
    first = substitute(start, {"%i": lower})
    return bool(first == 0 if stride * step > 0 else first + rows == extent)


def _names(w: Walk, node: Node, body: Graph) -> dict[str, Dim]:
    """What symbols of the body are around the loop."""
    first = 1 + node.params["n_carry"]
    names: dict[str, Dim] = {}
    for name, d in body.symbols.items():
        if d.kind not in ("value", "shape") or d.source == 0:
            continue
        operand = node.args[d.source + 1]
        if d.kind == "shape":
            names[name] = operand.type.shape[d.axis]
        elif d.source >= first and (known := _dim(w, operand)) is not None:
            names[name] = known
    return names


def _dim(w: Walk, v: Value) -> Dim | None:
    """An integer scalar as a dim: by its definition, or the symbol that an argument defines."""
    v = w.origin(v)
    known = w.scalar_dim(v)
    if known is not None or v.node.op.name != "input":
        return known
    graph = w.ctx.graph
    named = (name for name, d in graph.symbols.items() if d.kind == "value" and graph.inputs[d.source] == v)
    return next((symbol(name) for name in named), None)
