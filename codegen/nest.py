"""Nest -> LLVM: the loops that the leaves of a nest share, and the units of the first one that a thread takes.

Invariant: every leaf is prepared before the shared loops and finished after them, and runs in between once for each of
their points, or for each block of lanes. What stands inside of a leaf is `leaf.py`.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.emit import FunctionEmitter, i64
from stager.codegen.leaf import LeafEmitter
from stager.codegen.program import LoopAxis, Nest
from stager.ir.dims import floordiv


def emit_nest(e: FunctionEmitter, nest: Nest) -> None:
    """The code of a nest at the current place."""
    if nest.parallel and e.m.threads:
        first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0]
        unit = nest.block if nest.block and len(nest.outer) == 1 else max(nest.chunk, nest.rows, 1)
        body = e.body()
        with body.scope():
            _NestEmitter(body, nest).run(body.begin, body.end, 1 if nest.rows else unit)
        body.finish()
        many: Any = True
        if nest.threshold is not None:
            points, enough = nest.threshold
            many = e.b.icmp_signed(">=", e.dim(points), i64(enough))
        e.call_body(body, floordiv(first.extent + (unit - 1), unit), nest.grain, many, brief=nest.brief)
        return
    with e.scope():
        _NestEmitter(e, nest).run(None, None, 1)


class _NestEmitter:
    def __init__(self, e: FunctionEmitter, nest: Nest) -> None:
        self.e = e
        self.nest = nest
        self.variables: dict[int, Any] = {}

    def run(self, begin: Any, end: Any, unit: int) -> None:
        """The nest, or its units [begin, end) of the first loop."""
        e, nest = self.e, self.nest
        for storage, nbytes, lines in nest.scratch.values():
            lanes = nest.block if nest.block else 1
            e.stack(storage, nbytes * lanes * lines)
        limits = None
        if begin is not None:
            first = nest.outer[0] if nest.outer else nest.leaves[0].loops[0]
            if unit > 1:
                b = e.b
                lo = b.mul(begin, i64(unit), flags=("nsw",))
                hi = b.mul(end, i64(unit), flags=("nsw",))
                n = e.dim(first.extent)
                hi = b.select(b.icmp_signed("<", hi, n), hi, n)
            else:
                lo, hi = begin, end
            limits = (lo, hi)
        emitters = [LeafEmitter(e, nest, leaf) for leaf in nest.leaves]
        for x in emitters:
            x.prepare()
        if nest.piece is None:
            self._outer(0, emitters, limits)
        else:
            self._pieces(nest.piece, emitters, limits)
        for x in emitters:
            x.finish()

    def _pieces(self, piece: int, emitters: list[LeafEmitter], limits: Any) -> None:
        """The first outer loop in pieces, each begun anew."""
        e, nest = self.e, self.nest
        extent = nest.outer[0].extent
        lo, hi = limits if limits is not None else (0, floordiv(extent + (nest.rows - 1), nest.rows))
        begin = [LeafEmitter(e, nest, leaf) for leaf in nest.first]
        with e.loop(lo, hi, name="piece") as p:
            self.variables[piece] = p
            for x in begin:
                with e.scope():
                    x.run(dict(self.variables), {})
            b = e.b
            start = b.mul(p, i64(nest.rows), flags=("nsw",))
            stop, top = b.add(start, i64(nest.rows), flags=("nsw",)), e.dim(extent)
            self._outer(0, emitters, (start, b.select(b.icmp_signed("<", stop, top), stop, top)))

    def _outer(self, k: int, emitters: list[LeafEmitter], limits: Any) -> None:
        e, nest = self.e, self.nest
        if k == len(nest.outer):
            for x in emitters:
                ranges = {x.loops[0].var: limits} if limits is not None and not nest.outer else {}
                with e.scope():
                    x.run(dict(self.variables), ranges)
            return
        axis = nest.outer[k]
        lo, hi = limits if limits is not None and k == 0 else (0, axis.extent)
        if nest.block and k == len(nest.outer) - 1:
            self._blocks(axis, lo, hi, emitters)
            return
        with e.loop(lo, hi, name=f"r{k}") as i:
            self.variables[axis.var] = i
            self._outer(k + 1, emitters, limits)

    def _blocks(self, axis: LoopAxis, lo: Any, hi: Any, emitters: list[LeafEmitter]) -> None:
        """The last outer loop in blocks of lanes."""
        e, nest = self.e, self.nest
        step = nest.block
        if isinstance(lo, int) and isinstance(hi, int) and lo == 0 and hi <= step:  # one block, of known limits
            if nest.block_var is not None:
                self.variables[nest.block_var] = 0
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {axis.var: (lo, hi)})
            return
        top = e._operand(hi)
        with e.loop(lo, hi, step, name="block") as start:
            b = e.b
            stop = b.add(start, i64(step), flags=("nsw",))
            stop = b.select(b.icmp_signed("<", stop, top), stop, top)
            if nest.polled:
                e.poll()
                b = e.b
            if nest.block_var is not None:
                self.variables[nest.block_var] = b.udiv(start, i64(step))
            for x in emitters:
                with e.scope():
                    x.run(dict(self.variables), {axis.var: (start, stop)})
