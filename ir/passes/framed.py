"""Elementwise ops of framed arrays: what is one literal but for a region (`0; [1:-1] = v`) is computed in the region.

    f(framed(c, v), framed(d, w), e, …) -> framed(f(c, d, e, …), f(v, w, e, …))     of one region; e is a literal
    x & framed(false, v)                -> framed(false, x there & v)               and others whose literal decides

A mask or count that is known around the inside then stays so through all that is computed of it: a stencil and what
follows it become one walk over the inside. All rows are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.ir.core_ops import fill_op
from stager.ir.graph import Node, Value
from stager.ir.passes.updates import spans
from stager.ir.rewrite import Replacement, Rewriter, Rules, literal, made_by
from stager.ir.types import Type

DECIDED: dict[str, Callable[[Any], bool]] = {
    "and_": lambda c: c == 0,
    "or_": lambda c: c is True or c == -1,
    "mul": lambda c: c == 0,
}
"""Literals of integers and truths that decide the result, whatever the other operand is."""


def framed(v: Value) -> bool:
    """Whether a value is one literal but for a region."""
    return made_by(v, "slice_update") and v.node.args[0].node.op is fill_op


def of_framed(rw: Rewriter, node: Node) -> Replacement:
    """f(framed(c, v), …) -> framed(f(c, …), f(v, …))"""
    found = [a for a in node.args if framed(a)]
    if not found or len(node.types) != 1 or node.ordered:
        return None
    decides = next((a for a in found if _decides(node, a)), None)
    first = found[0] if decides is None else decides
    region = spans(first.node, first.type.shape)
    inside: list[Value] = []
    around: list[Value] = []
    shape = first.node.args[1].type.shape
    for a in node.args:
        if a.type.shape != first.type.shape:
            return None
        if framed(a) and spans(a.node, a.type.shape) == region:
            around.append(a.node.args[0])
            inside.append(a.node.args[1])
        elif a.node.op is fill_op:
            around.append(a)
            inside.append(rw.fill(a.node.params["value"], Type(a.type.dtype, shape)))
        elif decides is not None:
            around.append(first.node.args[0])  # the result is the same whatever stands here
            inside.append(rw.emit("slice", a, **first.node.params))
        else:
            return None
    frame = rw.emit(node.op, *around, **node.params)
    if frame.node.op is not fill_op:
        return None
    return rw.emit("slice_update", frame, rw.emit(node.op, *inside, **node.params), **first.node.params)


def _decides(node: Node, operand: Value) -> bool:
    """Whether the literal of a framed operand is the result around its region."""
    test = DECIDED.get(node.op.name)
    return test is not None and node.types[0].dtype.kind in "biu" and test(literal(operand.node.args[0]))


FRAMED: Rules = {"family:elementwise": (of_framed,)}
