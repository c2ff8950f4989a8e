"""Masked updates: `x[m] = f(x[m])` and `x[m] += f(y[m])` compute f at every element and select; nothing is packed.

Packed, a value is read at the positions of a mask's true elements; unpacked, it is read at the rank of every element
in the mask, under a select by that mask. When everything between is elementwise, the element at the rank of a true
element is f of the element itself. Exact: the elements that the mask leaves out are computed and dropped, which no op
here can notice. What is dear for one element stays packed.
"""

from __future__ import annotations

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, dim_max
from stager.ir.graph import Node, Value
from stager.ir.rewrite import Replacement, Rewriter, Rules, literal, made_by
from stager.ir.types import Type

MOST = 40  # elementwise ops between packing and unpacking
DEAR = frozenset({"pow", "gamma", "lgamma", "digamma", "i0", "erfinv", "nextafter"})
_OPPOSITE = {"lt": "ge", "ge": "lt", "gt": "le", "le": "gt", "eq": "ne", "ne": "eq"}


def masked(rw: Rewriter, node: Node) -> Replacement:
    """select(m, unpack(f(pack x)), y) -> select(m, f x, y)"""
    mask, *sides = node.args
    for k, side in enumerate(sides):
        packed = _unpacked(side)
        if packed is None:
            continue
        value, inside = packed
        if not (_same(inside, mask) if k == 0 else _opposite(inside, mask)):
            continue
        whole = _Whole(rw, inside, value.type.shape[0]).of(value)
        if whole is None:
            continue
        args = [rw.emit("reshape", whole, shape=node.types[0].shape) if s is side else s for s in sides]
        return rw.emit("select", mask, *args)
    return None


def _unpacked(v: Value) -> tuple[Value, Value] | None:
    """(packed value, mask) of a value that is read at every element's rank in a mask."""
    v = _laid_out(v)
    if not made_by(v, "gather") or v.node.params["axes"] != (0,) or v.node.params["batch_dims"] != 0:
        return None
    if v.node.params["mode"] not in ("clip", "promise") or v.node.args[0].type.ndim != 1:
        return None
    packed, index = v.node.args
    mask = _mask_of_rank(index)
    return None if mask is None else (_never_empty(packed), mask)


def _never_empty(packed: Value) -> Value:
    """What is packed, without the element that stands in where nothing is."""
    if not made_by(packed, "concatenate") or len(packed.node.args) != 2:
        return packed
    given, one = packed.node.args
    (n,) = given.type.shape
    return given if one.node.op is fill_op and one.type.shape == (dim_max(n, 1) - n,) else packed


def _laid_out(v: Value) -> Value:
    while made_by(v, "reshape"):
        (v,) = v.node.args
    return v


def _mask_of_rank(v: Value) -> Value | None:
    """The mask m of cumsum(m) - 1."""
    v = _laid_out(v)
    if not made_by(v, "sub") or literal(v.node.args[1]) != 1:
        return None
    total = _laid_out(v.node.args[0])
    if not made_by(total, "cumsum") or total.node.params["reverse"]:
        return None
    counted = total.node.args[0]
    if counted.type.ndim != 1:
        return None
    counted = _laid_out(counted)
    if not made_by(counted, "convert"):
        return None
    (mask,) = counted.node.args
    return mask if mask.type.dtype.kind == "b" else None


def _mask_of_positions(v: Value) -> Value | None:
    """The mask whose true elements' positions these are."""
    return v.node.args[0] if made_by(v, "positions") and v.type.ndim == 1 else None


def _same(a: Value, b: Value) -> bool:
    return _laid_out(a) == _laid_out(b)


def _opposite(a: Value, b: Value) -> bool:
    """Whether one mask is the other's negation."""
    a, b = _laid_out(a), _laid_out(b)
    for x, y in ((a, b), (b, a)):
        if made_by(x, "not_") and _same(x.node.args[0], y):
            return True
    if _OPPOSITE.get(a.node.op.name) != b.node.op.name or a.node.args != b.node.args:
        return False
    return a.node.op.name in ("eq", "ne") or a.node.args[0].type.dtype.kind != "f"  # neither holds for a NaN


class _Whole:
    """Packed values computed at every element."""

    def __init__(self, rw: Rewriter, mask: Value, count: Dim) -> None:
        self.rw = rw
        self.mask = mask
        self.count = count
        self.size = mask.type.size
        self.done: dict[Value, Value | None] = {}
        self.left = MOST

    def of(self, v: Value) -> Value | None:
        if v not in self.done:
            self.done[v] = self._of(v)
        return self.done[v]

    def _of(self, v: Value) -> Value | None:
        rw, node = self.rw, v.node
        if v.type.shape != (self.count,) or self.left == 0:
            return None
        self.left -= 1
        if node.op is fill_op:
            return rw.fill(node.params["value"], Type(v.type.dtype, (self.size,)))
        if node.op.name == "broadcast" and node.params["axes"] == ():
            return rw.emit("broadcast", node.args[0], shape=(self.size,), axes=())
        if node.op.name == "gather":
            return self._read(node)
        first = node.op.name == "slice" and node.params["starts"] == (0,) and node.params["steps"] == (1,)
        ranks = node.args[0].node if first else node  # of no elements, they are summed in one place all the same
        if ranks.op.name == "scatter":
            return self._summed(ranks)
        if node.op.family != "elementwise" or node.op.name in DEAR or node.op.multiple_results:
            return None
        args = []
        for a in node.args:
            whole = self.of(a)
            if whole is None:
                return None
            args.append(whole)
        return rw.emit(node.op, *args, **node.params)

    def _summed(self, node: Node) -> Value | None:
        """Values added at every element's rank, zeros where the mask is false: 0 + the values themselves."""
        zeros, values, *indices = node.args
        if literal(zeros) != 0 or node.params["combine"] != "add" or node.params["mode"] not in ("clip", "promise"):
            return None
        mask = _mask_of_rank(indices[0]) if node.params["axes"] == (0,) and node.params["batch_dims"] == 0 else None
        values = _laid_out(values)
        if mask is None or not _same(mask, self.mask) or not made_by(values, "select"):
            return None
        chosen, a, b = values.node.args
        if _opposite(chosen, mask):
            a, b = b, a
        elif not _same(chosen, mask):
            return None
        if literal(b) != 0 or a.type.size != self.size:
            return None
        whole = self.rw.emit("reshape", a, shape=(self.size,))
        return self.rw.emit("add", self.rw.fill(0.0, whole.type), whole)

    def _read(self, node: Node) -> Value | None:
        """x at the positions of the mask's true elements: x itself."""
        x, *indices = node.args
        if node.params["batch_dims"] != 0 or node.params["axes"] != tuple(range(x.type.ndim)):
            return None
        at = _flat_position(indices, x.type.shape)
        mask = None if at is None else _mask_of_positions(at)
        if mask is None or not _same(mask, self.mask):
            return None
        whole = self.rw.emit("reshape", x, shape=(self.size,)) if x.type.ndim > 1 else x
        return whole if whole.type.shape == (self.size,) else None


def _flat_position(indices: list[Value], shape: tuple[Dim, ...]) -> Value | None:
    """p when the indices are those of the element at position p: p // d % e, …, p % d."""
    last = indices[-1]
    if len(indices) == 1:
        return last
    flat = last.node.args[0] if made_by(last, "mod") and literal(last.node.args[1]) == shape[-1] else None
    part = flat
    for k in range(len(indices) - 2, -1, -1):
        index = indices[k]
        if k:
            if not made_by(index, "mod") or literal(index.node.args[1]) != shape[k]:
                return None
            (index, _) = index.node.args
        if part is None or not made_by(index, "floordiv") or index.node.args[0] != part:
            return None
        if literal(index.node.args[1]) != shape[k + 1]:
            return None
        part = index
    return flat


def masked_sum(rw: Rewriter, node: Node) -> Replacement:
    """scatter(x, f(pack y), the mask's positions, add) -> select(m, x + f y, x)"""
    x, value, *indices = node.args
    if node.params["combine"] != "add" or node.params["batch_dims"] != 0:
        return None
    if node.params["axes"] != tuple(range(x.type.ndim)) or value.type.ndim != 1:
        return None
    at = _flat_position(indices, x.type.shape)
    mask = None if at is None else _mask_of_positions(at)
    whole = None if mask is None else _Whole(rw, mask, value.type.shape[0]).of(value)
    if mask is None or whole is None or whole.type.size != x.type.size:
        return None
    shape = x.type.shape
    total = rw.emit("add", x, rw.emit("reshape", whole, shape=shape))
    return rw.emit("select", rw.emit("reshape", mask, shape=shape), total, x)


MASKS: Rules = {"select": (masked,), "scatter": (masked_sum,)}
