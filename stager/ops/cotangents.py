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
    if op.name == "slice_update" and _is_small(params["sizes"], part.type.shape):
        return bind(op, whole, add(slice_(whole, **params), part.node.args[1]), **params)
    return None


def _is_small(sizes: Sequence[Dim], shape: Sequence[Dim]) -> bool:
    """A part worth adding by itself; one of about the size of the whole fuses better as a padded sum (stencils)."""
    if all(map(is_static, (*sizes, *shape))):
        return 2 * product(sizes) <= product(shape)  # type: ignore[operator]
    return any(size == 1 and extent != 1 for size, extent in zip(sizes, shape, strict=True))


def is_zeros(x: Any) -> bool:
    """True for a literal zero of any shape."""
    return type(x) is Value and x.node.op is fill_op and x.node.params["value"] == 0
