"""The adjoint of windows of which a product was taken: one more product, with windows of the cotangent.

The cotangent of a convolution's windows is itself a product, ct[…, k, …] w[…, j, …], and an element of the array is the
sum over j of what windows k = element - j hold of it: `ct`, padded by zeros, in windows, times `w` flipped. So neither
the cotangent of all windows nor a sum of its shifted parts is ever made. Where a weight is not finite, zeros of the
padding times it make NaN of the elements at the rim that otherwise would not see it.
"""

from __future__ import annotations

from typing import Any

from stager.ir.dims import Dim, is_static, product
from stager.ir.graph import Value
from stager.ops.views import flip, transpose, windows, zeros_like_scalar

FEW = 4
"""Columns, or terms, that do not pay for a product of its own."""


def sum_of_windows(ct: Any, *, axis: int, size: int, tail: Dim) -> Any:
    """The sum of windows along `axis`, whose elements are the last axis of `ct`, at their places; None where `ct` is no
    product of what has the one and what has the other. `tail`: elements behind the last window."""
    from stager.ops.contract import dot, free_axes
    from stager.ops.structural import pad

    if type(ct) is not Value:
        return None
    node, last = ct.node, ct.type.ndim - 1
    perm = tuple(range(last + 1))
    if node.op.name == "transpose":
        perm, node = node.params["perm"], node.args[0].node
    if node.op.name != "dot":
        return None
    contract, batch = node.params["contract"], node.params["batch"]
    n = len(batch[0])
    owners = [(-1, k) for k in range(n)]
    for side in (0, 1):
        owners += [(side, k) for k in free_axes(node.args[side].type.ndim, contract[side], batch[side])]
    (mine, place), (theirs, element) = owners[perm[axis]], owners[perm[last]]
    if min(mine, theirs) < 0 or mine == theirs:
        return None
    a, w = node.args[mine], node.args[theirs]
    count = a.type.shape[place]
    columns = product(w.type.shape[k] for s, k in owners if s == theirs and k != element)
    terms = product(a.type.shape[k] for k in contract[mine])
    if any(is_static(d) and d <= FEW for d in (columns, terms)) or (is_static(count) and count < 2 * size):
        return None
    around = []  # windows along other axes: of what is padded
    while a.node.op.name == "windows" and place < a.type.ndim - 1 and a.node.params["axis"] != place:
        around.append(a.node.params)
        a = a.node.args[0]
    low, high = ([amount if k == place else 0 for k in range(a.type.ndim)] for amount in (size - 1, size - 1 + tail))

    shown = pad(a, zeros_like_scalar(a), low=low, high=high, interior=[0] * a.type.ndim)
    for params in reversed(around):
        shown = windows(shown, **params)
    shown = windows(shown, axis=place, size=size, step=1)
    sides = [(shown, (*contract[mine], shown.type.ndim - 1)), (flip(w, [element]), (*contract[theirs], element))]
    (x, xc), (y, yc) = sides if mine == 0 else reversed(sides)
    out = dot(x, y, contract=(xc, yc), batch=batch)
    gone = perm[last]
    return transpose(out, perm=[p - (p > gone) for p in perm[:last]])
