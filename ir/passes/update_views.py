"""Updates of views: the update moves before the view, so that the array itself is written, in place where it can be.

    update(transpose x, v) -> transpose(update(x, v transposed back))
    update(reshape x, v)   -> reshape(update(x, v reshaped back))     where every axis that it cuts is one axis of x

A write through several views so becomes one update of their base between views that cancel. All rows are exact.
"""

from __future__ import annotations

from stager.ir.graph import Node
from stager.ir.passes.views import region_before_reshape
from stager.ir.rewrite import Replacement, Rewriter, Rules, made_by


def update_of_transpose(rw: Rewriter, node: Node) -> Replacement:
    """update(transpose x, v) -> transpose(update(x, v transposed back))"""
    x, value = node.args
    if not made_by(x, "transpose"):
        return None
    perm = x.node.params["perm"]
    place = {p: k for k, p in enumerate(perm)}  # axis of the base -> axis of the view
    back = tuple([place[k] for k in range(len(perm))])
    region = {name: tuple([values[k] for k in back]) for name, values in node.params.items()}
    inner = rw.emit("slice_update", x.node.args[0], rw.emit("transpose", value, perm=back), **region)
    return rw.emit("transpose", inner, perm=perm)


def update_of_reshape(rw: Rewriter, node: Node) -> Replacement:
    """update(reshape x, v) -> reshape(update(x, v reshaped back)) when every axis that it cuts is one axis of x"""
    x, value = node.args
    if not made_by(x, "reshape"):
        return None
    (y,) = x.node.args
    region = region_before_reshape(y.type.shape, x.type.shape, node.params)
    if region is None:
        return None
    inner = rw.emit("slice_update", y, rw.emit("reshape", value, shape=region["sizes"]), **region)
    return rw.emit("reshape", inner, shape=x.type.shape)


UPDATE_VIEWS: Rules = {"slice_update": (update_of_transpose, update_of_reshape)}
