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
from stager.ir.graph import Value
from stager.ir.types import Type
from stager.ops.families import zeros_of


class Totals(NamedTuple):
    """A pull that adds to what its operands have so far: run(ct, totals) -> new totals.

    totals[k] is the cotangent of operand k up to now, None for zero; a result of None leaves it.
    """

    run: Callable[[Any, Sequence[Any]], Sequence[Any]]


def accumulate(a: Any, b: Any) -> Any:
    """a + b."""
    from stager.ops.elementwise import add

    for whole, part in ((a, b), (b, a)):
        summed = _into(whole, part)
        if summed is not None:
            return summed
    return add(a, b)


def _into(whole: Any, part: Any) -> Any:
    """whole + part when `part` is an update of zeros; else None."""
    from stager.ops.elementwise import add
    from stager.ops.views import slice_

    if type(part) is not Value or not part.node.args or not is_zeros(part.node.args[0]):
        return None
    op, params = part.node.op, part.node.params
    if op.name == "scatter" and params["combine"] == "add":
        return bind(op, whole, *part.node.args[1:], **params)
    if op.name == "slice_update":
        rows = _rows_of_slice(whole, part)
        if rows is not None:
            return rows
        if _is_small(params["sizes"], part.type.shape):
            return bind(op, whole, add(slice_(whole, **params), part.node.args[1]), **params)
    return None


def _rows_of_slice(whole: Any, part: Value) -> Any:
    """For a few picked rows of a slice (`A[:, a:b][i]`): as rows of the whole, padded with zeros. Else None."""
    from stager.ops.structural import slice_update

    inner, where = part.node.args[1].node, part.node.params
    if inner.op.name != "scatter" or inner.params["combine"] != "add" or not is_zeros(inner.args[0]):
        return None
    _, updates, *idx = inner.args
    axes, shape = inner.params["axes"], part.type.shape
    if inner.params["batch_dims"] or idx[0].type.shape:
        return None
    if any((where["starts"][a], where["sizes"][a], where["steps"][a]) != (0, shape[a], 1) for a in axes):
        return None
    rest = [k for k in range(len(shape)) if k not in axes]
    zeros = zeros_of(Type(part.type.dtype, tuple([shape[k] for k in rest])))
    params = {name: tuple([where[name][k] for k in rest]) for name in ("starts", "sizes", "steps")}
    return bind(inner.op, whole, slice_update(zeros, updates, **params), *idx, **inner.params)


def _is_small(sizes: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """A part worth adding by itself; one of about the size of the whole fuses better as a padded sum (stencils)."""
    if all(map(is_static, (*sizes, *shape))):
        return 2 * product(sizes) <= product(shape)  # type: ignore[operator]
    return any(size == 1 and extent != 1 for size, extent in zip(sizes, shape, strict=True))


def is_zeros(x: Any) -> bool:
    """True for a literal zero of any shape."""
    return type(x) is Value and x.node.op is fill_op and x.node.params["value"] == 0
