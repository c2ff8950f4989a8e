"""Products: views of operands become other axes of the same product, sums over nothing and identities vanish.

All rows are exact but two: a product with the unit vectors that a Jacobian pushes through a function is what the unit
vectors select, where zeros times infinity would add NaN (`unit_vectors`), and one with a diagonal matrix is rows that
are scaled. They hold for derivative code only.
"""

from __future__ import annotations

from stager.ir.core_ops import fill_op
from stager.ir.graph import Node, Value
from stager.ir.passes.views import unit_axes_only, windows_in_front
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


def windows_first(rw: Rewriter, node: Node) -> Replacement:
    """dot(a, windows) -> transpose(dot(windows, a)): rows of windows are read where they are"""
    (x, y), contract, batch = node.args, node.params["contract"], node.params["batch"]
    n, mine, theirs = len(batch[0]), (*contract[0], *batch[0]), (*contract[1], *batch[1])
    rows, columns = x.type.ndim - len(mine), y.type.ndim - len(theirs)
    if rows == 0 or not windows_in_front(y, x, columns):
        return None
    product = rw.emit("dot", y, x, contract=(contract[1], contract[0]), batch=(batch[1], batch[0]))
    perm = (*range(n), *range(n + columns, n + columns + rows), *range(n, n + columns))
    return rw.emit("transpose", product, perm=perm)


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


def with_diagonal(rw: Rewriter, node: Node) -> Replacement:
    """dot(diagonal matrix of v, x) -> v * x along the contracted axis, in derivative code"""
    contract, batch = node.params["contract"], node.params["batch"]
    if len(contract[0]) != 1 or not node.in_derivative:
        return None
    n, t = len(batch[0]), node.types[0]
    for side, operand in enumerate(node.args):
        if not _is_diagonal(operand) or operand.type.ndim != n + 2:
            continue
        if {operand.node.params["axis1"], operand.node.params["axis2"]} & set(batch[side]):
            continue
        v, x, (axis,) = operand.node.args[1], node.args[1 - side], contract[1 - side]
        free = [k for k in range(x.type.ndim) if k != axis and k not in batch[1 - side]]
        order = (axis, *free) if side == 0 else (*free, axis)
        laid_out = rw.emit("transpose", x, perm=(*batch[1 - side], *order))
        kept = sorted(batch[side])  # the axes of v, before the diagonal's
        scale = rw.emit("transpose", v, perm=(*[kept.index(k) for k in batch[side]], n))
        place = n if side == 0 else t.ndim - 1
        scale = rw.emit("broadcast", scale, shape=t.shape, axes=(*range(n), place))
        return rw.emit("mul", scale, laid_out)
    return None


WIDE = 16
"""Columns of each matrix of a batch from where on a product for each is as good as one of all of them."""


def of_batch_in_front(rw: Rewriter, node: Node) -> Replacement:
    """transpose(dot(a, x)) that brings x's first axis to the front -> products of a with each matrix of x

    One product of all would need x with its contracted axis in front, in memory, and the result turned around.
    """
    (product,), perm = node.args, node.params["perm"]
    if not made_by(product, "dot"):
        return None
    (a, x), contract, batch = product.node.args, product.node.params["contract"], product.node.params["batch"]
    n, total = len(batch[0]), product.type.ndim
    free = [k for k in range(x.type.ndim) if k not in contract[1] and k not in batch[1]]
    place = total - len(free)
    if not n < place < total - 1 or list(perm) != [*range(n), place, *range(n, place), *range(place + 1, total)]:
        return None
    if not free[0] < min(contract[1]) or not max(contract[1]) < free[1]:
        return None
    columns = x.type.shape[free[-1]]
    if isinstance(columns, int) and columns < WIDE:
        return None
    extent = x.type.shape[free[0]]
    repeated = rw.emit("broadcast", a, shape=(extent, *a.type.shape), axes=tuple(range(1, a.type.ndim + 1)))
    there = (tuple([k + 1 for k in contract[0]]), contract[1])
    lanes = ((*[k + 1 for k in batch[0]], 0), (*batch[1], free[0]))
    return rw.emit("dot", repeated, x, contract=there, batch=lanes)


def _is_diagonal(v: Value) -> bool:
    """Whether a value is zero but for the diagonals of square matrices."""
    if not made_by(v, "diagonal_update"):
        return False
    around, p = v.node.args[0].node, v.node.params
    rows, cols = v.type.shape[p["axis1"]], v.type.shape[p["axis2"]]
    return (
        rows == cols == v.node.args[1].type.shape[-1]
        and p["offset"] == 0
        and around.op is fill_op
        and around.params["value"] == 0
    )


def diagonal_of_product(rw: Rewriter, node: Node) -> Replacement:
    """diagonal(dot(a, b)) of a's axes and b's -> the products of a's rows with b's columns alone"""
    (x,), p = node.args, node.params
    if not made_by(x, "dot"):
        return None
    contract, batch = x.node.params["contract"], x.node.params["batch"]
    n, owner = len(batch[0]), []  # of the axes of the product: (operand, its axis)
    for side, operand in enumerate(x.node.args):
        bound = (*contract[side], *batch[side])
        owner += [(side, k) for k in range(operand.type.ndim) if k not in bound]
    at = [owner[p[name] - n] if p[name] >= n else None for name in ("axis1", "axis2")]
    if None in at or {side for side, _ in filter(None, at)} != {0, 1}:
        return None
    starts = (max(-p["offset"], 0), max(p["offset"], 0))
    size = node.types[0].shape[-1]
    args, places = list(x.node.args), [0, 0]
    for (side, k), start in zip(filter(None, at), starts, strict=True):
        shape = args[side].type.shape
        args[side] = rw.emit(
            "slice",
            args[side],
            starts=tuple([start if d == k else 0 for d in range(len(shape))]),
            sizes=tuple([size if d == k else extent for d, extent in enumerate(shape)]),
            steps=(1,) * len(shape),
        )
        places[side] = k
    lanes = tuple([(*batch[side], places[side]) for side in (0, 1)])
    rows = rw.emit("dot", *args, contract=contract, batch=lanes)
    return rw.emit("transpose", rows, perm=(*range(n), *range(n + 1, rows.type.ndim), n))


PRODUCTS: Rules = {
    "dot": (product_without_sum, of_transpose, windows_first, of_unit_axes, with_unit_vectors, with_diagonal),
    "diagonal": (diagonal_of_product,),
    "transpose": (of_batch_in_front,),
}
