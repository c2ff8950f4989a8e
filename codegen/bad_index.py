"""Indices out of bounds: what a leaf with checked indices does once one of them was, or an axis has no elements.

The loops of a leaf only notice that an index was bad. Then its index computations run again, one by one in order, so
that the error names the index that NumPy would name. Not here: the check inside the loops (`BodyEmitter._bound`).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.index import DYNAMIC
from stager.codegen.loops import LoopEmitter
from stager.codegen.program import Instr, Leaf, LoopAxis, Nest
from stager.codegen.registers import Val
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Expr
from stager.ir.dtypes import i64 as dtype_i64

INDEX_ERROR = "index {0} is out of bounds for axis {1} with size {2}"
EMPTY_ERROR = "cannot do a non-empty take from an empty axes."


def refuse_empty(e: FunctionEmitter, nest: Nest, leaf: Leaf, needed: list[int], reported: bool) -> None:
    """An axis without elements has no position that is safe to read: that is found out before the loops."""
    b, zero, body = e.b, i64(0), leaf.stage.body
    for mode, text in (("check", INDEX_ERROR), ("clip", EMPTY_ERROR), ("wrap", EMPTY_ERROR)):
        bounds = [body[n].data for n in needed if body[n].op == "bound"]
        axes = {size: axis for size, axis, m in bounds if m == mode and isinstance(size, Expr)}
        if not axes:
            continue
        empty = reduce(b.or_, [b.icmp_signed("<=", e.dim(size), zero) for size in axes])
        for extent in {a.extent for a in (*nest.outer, *leaf.loops) if isinstance(a.extent, Expr)}:
            empty = b.and_(empty, b.icmp_signed(">", e.dim(extent), zero))
        wrong, right = b.append_basic_block("empty"), b.append_basic_block("some")
        b.cbranch(empty, wrong, right)
        b.position_at_end(wrong)
        with e.scope():
            if mode == "check" and reported:
                report(e, nest, leaf)  # with the first index
        e.fail("IndexError", text, zero, i64(next(iter(axes.values()))), zero)
        b.position_at_end(right)


def report(e: FunctionEmitter, nest: Nest, leaf: Leaf) -> None:
    """Runs the index computations of a leaf again, one by one in order, and leaves at the first bad one."""
    shared = {a.var for a in nest.outer}
    loops = [*nest.outer, *(a for a in leaf.loops if a.var not in shared and not a.tile)]
    scan = _Reporter(e, nest, Leaf(loops, leaf.stage))
    scan.loops = [LoopAxis(a.var, a.extent) for a in sorted(loops, key=lambda a: a.var)]
    scan.search({}, {})


def report_point(e: FunctionEmitter, nest: Nest, leaf: Leaf, outer: dict[int, Any], limits: dict[int, Any]) -> None:
    """The same at one point of the outer loops."""
    loops = [a for a in leaf.loops if not a.tile]
    scan = _Reporter(e, nest, Leaf(loops, leaf.stage))
    scan.loops = [LoopAxis(a.var, a.extent) for a in sorted(loops, key=lambda a: a.var)]
    scan.search(dict(outer), limits)


def checked_by(body: list[Instr]) -> set[int]:
    """The instructions that a body's checked indices are made of."""
    needed: set[int] = set()
    stack = [n for n, i in enumerate(body) if i.op == "bound" and i.data[2] == "check"]
    while stack:
        n = stack.pop()
        if n not in needed:
            needed.add(n)
            stack.extend(body[n].args)
            stack.extend(v - DYNAMIC for v in body[n].variables() if v >= DYNAMIC)
    return needed


class _Reporter(LoopEmitter):
    """Emits only the bounds of a body, as scalars, each with an exit."""

    def search(self, outer: dict[int, Any], limits: dict[int, Any]) -> None:
        self.needed = sorted(checked_by(self.stage.body))
        used = {v for n in self.needed for v in self.body[n].variables() if v < DYNAMIC}
        self.loops = [a for a in self.loops if a.var in used]
        self.level_of_var = {a.var: k for k, a in enumerate(self.loops)}
        last = len(self.loops) - 1
        self.level = dict.fromkeys(self.needed, last)
        self.varies = dict.fromkeys(self.needed, False)
        self.by_level = {last: self.needed}
        self.accesses = []
        self.first_reduce = None
        self.fold_level = None
        self.run(outer, limits)

    def _unrolls(self, k: int, n: int) -> bool:
        return False

    def _innermost(self) -> None:
        return

    def _bound(self, sb: ScalarBuilder, i: Instr, u: int, width: int) -> Val:
        size, axis, mode = i.data
        if mode != "check":
            return super()._bound(sb, i, u, width)
        e, b = self.e, self.e.b
        x = self._operand(i.args[0], 0, 1)
        n = e.dim(size)
        zero = i64(0)
        wrapped = b.select(b.icmp_signed("<", x.ir, zero), b.add(x.ir, n), x.ir)
        wrong = b.icmp_unsigned(">=", wrapped, n)
        stop, on = b.append_basic_block("found"), b.append_basic_block("next")
        b.cbranch(wrong, stop, on)
        b.position_at_end(stop)
        e.fail("IndexError", INDEX_ERROR, x.ir, i64(axis), n)
        b.position_at_end(on)
        return Val(wrapped, dtype_i64)
