"""Products: views of operands become other axes of the same product, sums over nothing and identities vanish.

All rows are exact but one: a product with the unit vectors that a Jacobian pushes through a function is what the unit
vectors select, where zeros times infinity would add NaN (`unit_vectors`). It holds for derivative code only.
"""

from __future__ import annotations

from stager.ir.core_ops import fill_op
from stager.ir.graph import Node, Value
from stager.ir.passes.views import unit_axes_only
from stager.ir.rewrite import Replacement, Rewriter, Rules, made_by


def product_without_sum(rw: Rewriter, node: Node) -> Replacement:
    """dot over nothing, or over one element -> a product of broadcasts; over an empty axis -> 0"""
    contract, batch = node.params["contract"], node.params["batch"]
    x, y = node.args
    extents = [x.type.shape[k] for k in contract[0]]
    t = node.types[0]
    if any(d == 0 for d in extents):
        return rw.fill(0, t)
    if any(d != 1 for d in extents):
        return None
    n = len(batch[0])
    sides = []
    place = n
    for side, operand in enumerate((x, y)):
        free = [k for k in range(operand.type.ndim) if k not in contract[side] and k not in batch[side]]
        laid_out = rw.emit("transpose", operand, perm=(*batch[side], *free, *contract[side]))
        kept = laid_out.type.shape[: n + len(free)]
        axes = (*range(n), *range(place, place + len(free)))
        sides.append(rw.emit("broadcast", rw.emit("reshape", laid_out, shape=kept), shape=t.shape, axes=axes))
        place += len(free)
    return rw.emit("and_" if t.dtype.kind == "b" else "mul", *sides)


def of_transpose(rw: Rewriter, node: Node) -> Replacement:
    """dot(transpose a, b) -> dot(a, b) on other axes, when a's free axes keep their order"""
    contract, batch = node.params["contract"], node.params["batch"]
    for side, operand in enumerate(node.args):
        if not made_by(operand, "transpose"):
            continue
        perm = operand.node.params["perm"]
        bound = (*contract[side], *batch[side])
        free = [perm[k] for k in range(len(perm)) if k not in bound]
        if free != sorted(free):
            continue
        args = list(node.args)
        args[side] = operand.node.args[0]
        new_contract, new_batch = list(contract), list(batch)
        new_contract[side] = tuple([perm[k] for k in contract[side]])
        new_batch[side] = tuple([perm[k] for k in batch[side]])
        return rw.emit("dot", *args, contract=tuple(new_contract), batch=tuple(new_batch))
    return None


def of_unit_axes(rw: Rewriter, node: Node) -> Replacement:
    """dot(reshape a, b) -> reshape(dot(a, b)) when the reshape only adds unit axes that stay in the result"""
    contract, batch = node.params["contract"], node.params["batch"]
    for side, operand in enumerate(node.args):
        if not made_by(operand, "reshape"):
            continue
        (source,) = operand.node.args
        places = unit_axes_only(source.type.shape, operand.type.shape)
        if places is None or None in places:
            continue
        back = {p: k for k, p in enumerate(places)}
        if any(k not in back for k in (*contract[side], *batch[side])):
            continue
        args = list(node.args)
        args[side] = source
        new_contract, new_batch = list(contract), list(batch)
        new_contract[side] = tuple([back[k] for k in contract[side]])
        new_batch[side] = tuple([back[k] for k in batch[side]])
        product = rw.emit("dot", *args, contract=tuple(new_contract), batch=tuple(new_batch))
        return rw.emit("reshape", product, shape=node.types[0].shape)
    return None


def with_unit_vectors(rw: Rewriter, node: Node) -> Replacement:
    """dot(x, unit vectors) -> x with the contracted axis at the unit vectors' place, in derivative code"""
    contract, batch = node.params["contract"], node.params["batch"]
    if batch != ((), ()) or len(contract[0]) != 1 or not node.in_derivative:
        return None
    for side, operand in enumerate(node.args):
        if not unit_vectors(operand):
            continue
        x, (axis,) = node.args[1 - side], contract[1 - side]
        free = [k for k in range(x.type.ndim) if k != axis]
        return rw.emit("transpose", x, perm=(axis, *free) if side == 0 else (*free, axis))
    return None


def unit_vectors(v: Value) -> bool:
    """Whether a value is what Jacobians differentiate along: select(i == j, 1, 0)."""
    if not made_by(v, "select") or v.type.ndim != 2 or v.type.shape[0] != v.type.shape[1]:
        return False  # those of several arguments together stand in rectangles, with a place for the others
    here, one, zero = v.node.args
    if one.node.op is not fill_op or zero.node.op is not fill_op or not made_by(here, "eq"):
        return False
    if one.node.params["value"] != 1 or zero.node.params["value"] != 0:
        return False
    axes = set()
    for side in here.node.args:
        if not made_by(side, "broadcast") or not made_by(side.node.args[0], "iota"):
            return False
        axes.add(side.node.params["axes"])
    return axes == {(0,), (1,)}


PRODUCTS: Rules = {"dot": (product_without_sum, of_transpose, of_unit_axes, with_unit_vectors)}
