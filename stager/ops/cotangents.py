"""Summing cotangents. A cotangent that is zero but for a few elements is added at those elements alone.

The transposes of gather and slice write into zeros. In a loop whose body reads one row of an array, adding such a
cotangent as a whole would touch the whole array in every iteration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from stager.interpreters.stack import bind
from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, is_static, product
from stager.ir.graph import Node, Value
from stager.ops.families import zeros_like

PARTS = 16  # looked at
UPDATES = ("scatter", "slice_update", "diagonal_update")


class Totals(NamedTuple):
    """A pull that adds to what its operands have so far: run(ct, totals) -> new totals.

    totals[k] is the cotangent of operand k up to now, None for zero; a result of None leaves it.
    """

    run: Callable[[Any, Sequence[Any]], Sequence[Any]]


def accumulate(a: Any, b: Any) -> Any:
    """a + b."""
    from stager.ops.elementwise import add

    for whole, part in ((a, b), (b, a)):
        if is_zeros(whole):
            return part
        summed = _into(whole, part)
        if summed is not None:
            return summed
    return add(a, b)


def _into(whole: Any, part: Any) -> Any:
    """whole + part when `part` is an update of zeros, or such laid out anew; else None."""
    if type(part) is not Value or not part.node.args:
        return None
    if part.node.op.name in ("reshape", "transpose"):
        inner = part.node.args[0]
        if not _is_laid_out_zeros(inner):
            return None
        summed = _into(_laid_out_as(inner, whole, part.node), inner)
        return None if summed is None else bind(part.node.op, summed, **part.node.params)
    if not is_zeros(part.node.args[0]):
        return None
    op, params = part.node.op, part.node.params
    if op.name == "scatter" and params["combine"] == "add":
        _, updates, *idx = part.node.args
        one = idx[0].type.shape == () and not params["batch_dims"]
        if one and _same_place(whole, part):  # zero there
            return bind(op, whole.node.args[0], updates, *idx, **{**params, "combine": "set"})
        if one and _is_update_of_zeros(updates):  # a row's part
            return _row_summed(whole, updates, idx, params)
        return bind(op, whole, updates, *idx, **params)
    if op.name == "slice_update":
        return _slice_summed(whole, part)
    if op.name == "diagonal_update":
        from stager.ops.views import diagonal

        value = part.node.args[1]
        if _same_place(whole, part):  # zero there
            return bind(op, whole.node.args[0], value, **params)
        return bind(op, whole, accumulate(diagonal(whole, **params), value), **params)
    return None


def _is_laid_out_zeros(x: Value) -> bool:
    """Whether x is an update of zeros behind reshapes and transposes."""
    while type(x) is Value and x.node.op.name in ("reshape", "transpose"):
        x = x.node.args[0]
    return _is_update_of_zeros(x)


def _laid_out_as(inner: Value, whole: Any, node: Node) -> Any:
    """`whole`, which has the layout that `node` gives to `inner`, in the layout of `inner`."""
    same_op = type(whole) is Value and whole.node.op is node.op and whole.node.params == node.params
    if same_op and whole.node.args[0].type == inner.type:
        return whole.node.args[0]
    if node.op.name == "reshape":
        return bind(node.op, whole, shape=inner.type.shape)
    perm = node.params["perm"]
    return bind(node.op, whole, perm=tuple([perm.index(k) for k in range(len(perm))]))


def _row_summed(whole: Any, updates: Value, idx: Sequence[Value], params: dict[str, Any]) -> Any:
    from stager.ops.indexed import gather, scatter

    where = {k: v for k, v in params.items() if k != "combine"}
    return scatter(whole, accumulate(gather(whole, *idx, **where), updates), *idx, **where, combine="set")


def _slice_summed(whole: Any, part: Value) -> Any:
    from stager.ops.elementwise import add
    from stager.ops.views import slice_

    op, params, value = part.node.op, part.node.params, part.node.args[1]
    if _same_place(whole, part):  # zero there
        return bind(op, whole.node.args[0], value, **params)
    if _is_apart(whole, part):
        return bind(op, whole, value, **params)
    if not _is_update_of_zeros(value) and not _is_small(params["sizes"], part.type.shape):
        before = _large_part(whole)
        if before is not None:  # several: one sum of padded parts
            base, padded = before
            return add(base if padded is None else add(base, padded), part)
    return bind(op, whole, accumulate(slice_(whole, **params), value), **params)


def _is_apart(whole: Any, part: Value) -> bool:
    """Whether `whole` is zeros but for parts that are known to share nothing with `part`."""
    from stager.ir.passes.updates import regions_apart, spans

    here = spans(part.node, part.type.shape)
    for _ in range(PARTS):
        if is_zeros(whole):
            return True
        if type(whole) is not Value or whole.node.op.name != "slice_update":
            return False
        if not regions_apart(here, spans(whole.node, whole.type.shape)):
            return False
        whole = whole.node.args[0]
    return False


def _large_part(whole: Any) -> tuple[Any, Any] | None:
    """(x, padded) for what is x with one large part added in place, or a sum with such a part; (part, None) for such a
    part itself."""
    if type(whole) is not Value:
        return None
    node = whole.node
    if _is_padded(whole) and not _is_small(node.params["sizes"], whole.type.shape):
        return whole, None
    if node.op.name == "add" and any(_is_padded(a) for a in node.args):
        return node.args[0], node.args[1]
    if node.op.name != "slice_update" or node.args[1].node.op.name != "add":
        return None
    base, (there, value) = node.args[0], node.args[1].node.args
    if there.node.op.name != "slice" or there.node.args[0] != base or there.node.params != node.params:
        return None
    if _is_small(node.params["sizes"], whole.type.shape):
        return None
    return base, bind(node.op, zeros_like(base), value, **node.params)


def _is_padded(x: Value) -> bool:
    return _is_update_of_zeros(x) and x.node.op.name == "slice_update"


def _same_place(whole: Any, part: Value) -> bool:
    """True when `whole` was just set to zero where `part` adds."""
    if type(whole) is not Value or whole.node.op is not part.node.op or not is_zeros(whole.node.args[1]):
        return False
    params = {**part.node.params, "combine": "set"} if "combine" in part.node.params else part.node.params
    same: bool = whole.node.params == params and whole.node.args[2:] == part.node.args[2:]
    return same


def _is_update_of_zeros(x: Any) -> bool:
    if type(x) is not Value or x.node.op.name not in UPDATES or not is_zeros(x.node.args[0]):
        return False
    return "combine" not in x.node.params or bool(x.node.params["combine"] == "add")


def _is_small(sizes: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """A part worth adding by itself; one of about the size of the whole fuses better as a padded sum (stencils)."""
    if all(map(is_static, (*sizes, *shape))):
        return 2 * product(sizes) <= product(shape)
    one = any(size == 1 and extent != 1 for size, extent in zip(sizes, shape, strict=True))
    return one or not all(is_static(extent - size) for size, extent in zip(sizes, shape, strict=True))


def is_zeros(x: Any) -> bool:
    """True for a literal zero of any shape."""
    return type(x) is Value and x.node.op is fill_op and x.node.params["value"] == 0
