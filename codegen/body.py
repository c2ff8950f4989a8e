"""The body of a leaf: its instructions, for one lane or a vector of them, in some copies.

`BodyEmitter` emits single instructions when told to. Which loops run around it, and in which versions, is
`codegen/loops.py`. Invariant: a lane computes the same operations whatever the width, so elementwise results do not
depend on it.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir
import numpy as np

from stager.codegen.access import AccessEmitter
from stager.codegen.emit import i64
from stager.codegen.index import DYNAMIC
from stager.codegen.levels import Lane
from stager.codegen.modes import is_dear
from stager.codegen.program import Instr
from stager.codegen.registers import Val, element_type, lane_number, memory_type, undefined
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import i64 as dtype_i64

AT_ONCE = {4: 4, 8: 2}
"""Vectors that a function is computed for together, by the bytes of an element: LLVM takes turns with them, operation
by operation. Each operation waits for the one before it, and a processor does not look far enough ahead to find those
of the next vector. Functions of f64 have twice as many constants; none has room for two vectors in 16 registers. Few
points, as one step of a recurrence has, are slower so."""
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class BodyEmitter(AccessEmitter):
    """Emits the instructions of one leaf."""

    def _instr(self, n: int) -> None:
        i = self.body[n]
        varies = self.varies[n]
        copies = self._copies(varies, n in self.jammed)
        width = self.width if varies else 1
        if copies > 1 and width > 1 and i.op == "load" and self._is_transposed(i.data):
            self.values[n] = self._load_transposed(*i.data)
            return
        together = self.leaf.long and copies > 1 and width > 1 and self.e.target.vector_registers == 32
        if together and is_dear(i):
            at_once = min(copies, AT_ONCE.get(i.dtype.itemsize, 1))
            self.values[n] = [x for u in range(0, copies, at_once) for x in self._several(i, u, at_once, width)]
            return
        self.values[n] = [self._emit(n, i, u, width) for u in range(copies)]

    def _several(self, i: Instr, first: int, count: int, width: int) -> list[Val]:
        """A function of some copies, as one vector of all their lanes."""
        sb = self.e.scalars(count * width)
        sb.inline = self.inline
        args = [sb.joined([self._operand(a, first + u, width) for u in range(count)]) for a in i.args]
        return sb.parts(i.data.op.lower(sb, *args, **i.data.params), count)

    def _emit(self, n: int, i: Instr, u: int, width: int) -> Val:
        sb = self.e.scalars(width)
        sb.inline = self.inline
        match i.op:
            case "apply":
                node = i.data
                args = [self._operand(a, u, width) for a in i.args]
                if i.usual is not None and width == 1:
                    return self._guess(args[0], args[i.usual], args[3 - i.usual], i.usual == 1)
                if width == 1 and node.op.name == "select" and self._waits_for_a_flag(i):
                    return self._either(args[0], i)
                out: Val = node.op.lower(sb, *args, **node.params)
                return out
            case "load":
                if self.places is not None and width > 1 and self._dynamic_varies(i.data[1]):
                    return self._load_places(self.places, i, u, sb)
                return self._load(i, u, width)
            case "const":
                return sb.const(i.dtype, i.data)
            case "index":
                return sb.convert(self._index_value(i.data, u, width), i.dtype)
            case "mul":
                return sb.mul(self._operand(i.args[0], u, width), self._operand(i.args[1], u, width))
            case "floordiv" | "mod":
                x = self._index_value(i.data[0], u, width)
                by = self._dim(sb, i.data[1])
                out = sb.floordiv(x, by) if i.op == "floordiv" else sb.mod(x, by)
                return out
            case "bound":
                return self._bound(sb, i, u, width)
            case "carry":
                before: Val = self.accumulators[i.data].get(u)
                return before
        raise AssertionError(f"internal: no emission for {i.op}")

    def _load_places(self, places: list[Lane], i: Instr, u: int, sb: ScalarBuilder) -> Val:
        """One load per lane, at an address that scalar code finds."""
        vector = self.leaf.vector
        assert vector is not None
        buffer, at = i.data
        chain: set[int] = set()
        stack = [v - DYNAMIC for v, _ in at.terms if v >= DYNAMIC]
        while stack:
            n = stack.pop()
            if n not in chain and self.varies[n]:
                chain.add(n)
                stack.extend(self.body[n].args)
                stack.extend(v - DYNAMIC for v in self.body[n].variables() if v >= DYNAMIC)
        around = self.values, self.pointers, self.width, self.mask, self.variables[vector]
        fixed = {key: p for key, p in self.pointers.items() if not any(self._moves(v) for v, _ in key[1])}
        t = memory_type(buffer.dtype)
        out = undefined(ir.VectorType(t, sb.width))
        self.places, self.width, self.mask = None, 1, None
        for k, lane in enumerate(places):
            self.variables[vector] = lane.at
            self.values, self.pointers = around[0] | lane.values, fixed | lane.pointers
            for n in sorted(chain - lane.values.keys()):
                self._instr(n)
                lane.values[n] = self.values[n]
            p, _ = self._address(buffer.storage, at, u, 1)
            lane.pointers = self.pointers
            x = self.e.b.load(p, typ=t, align=buffer.dtype.itemsize)
            out = self.e.b.insert_element(out, x, lane_number(k))
        self.values, self.pointers, self.width, self.mask, self.variables[vector] = around
        self.places = places
        return sb.from_memory(out, buffer.dtype)

    def _moves(self, v: int) -> bool:
        """Whether a variable of a position differs from lane to lane."""
        return self.varies[v - DYNAMIC] if v >= DYNAMIC else v == self.leaf.vector

    def _guess(self, condition: Val, usual: Val, other: Val, when: bool) -> Val:
        """A select as a branch that is taken to go one way."""
        b = self.e.b
        before, seldom, joined = b.block, b.append_basic_block("seldom"), b.append_basic_block("joined")
        if when:
            self.e.branch(condition.ir, joined, seldom)
        else:
            self.e.branch(self.e.scalars(1).not_(condition).ir, joined, seldom)
        b.position_at_end(seldom)
        b.branch(joined)
        b.position_at_end(joined)
        return self._join((usual, before), (other, seldom))

    def _waits_for_a_flag(self, i: Instr) -> bool:
        """Whether LLVM would put the outcome of an integer comparison into a mask register, to choose between numbers:
        it sets a byte of a register that then waits for what the register's other bytes are."""
        condition, x, y = (self.body[a] for a in i.args)
        decides = condition.op == "apply" and condition.data.op.name in COMPARISONS
        of_numbers = i.dtype.kind == "f" and x.op == y.op == "const"
        return (
            self.e.target.vector_bits == 512
            and of_numbers
            and decides
            and all(self.body[a].dtype.kind in "iu" for a in condition.args)
        )

    def _either(self, condition: Val, i: Instr) -> Val:
        """One of two numbers, as bits: LLVM does not see that it is a select."""
        b, dtype = self.e.b, i.dtype
        whole = ir.IntType(dtype.bits)
        numbers = (np.asarray(self.body[a].data, dtype.np) for a in i.args[1:])
        of_x, of_y = (int(x.view(f"i{dtype.itemsize}")) for x in numbers)
        flag = b.asm(ir.FunctionType(whole, [whole]), "", "=r,0", [b.zext(condition.ir, whole)], side_effect=False)
        chosen = b.and_(b.sub(ir.Constant(whole, 0), flag), ir.Constant(whole, of_x ^ of_y))
        bits = b.xor(chosen, ir.Constant(whole, of_y))
        return Val(b.bitcast(bits, element_type(dtype)), dtype)

    def _join(self, *ways: tuple[Val, Any]) -> Val:
        out = self.e.b.phi(ways[0][0].ir.type)
        for value, block in ways:
            out.add_incoming(value.ir, block)
        return Val(out, ways[0][0].dtype)

    def _dim(self, sb: ScalarBuilder, d: Dim) -> Val:
        """A dim in every lane."""
        return sb.splat(Val(self.e.dim(d), dtype_i64)) if isinstance(d, Expr) else sb.const(dtype_i64, d)

    def _bound(self, sb: ScalarBuilder, i: Instr, u: int, width: int) -> Val:
        size, _, mode = i.data
        x = self._operand(i.args[0], u, width)
        if mode == "promise":
            return x
        n = self._dim(sb, size)
        zero = sb.const(dtype_i64, 0)
        if mode == "clip":
            top = sb.sub(n, sb.const(dtype_i64, 1))
            x = sb.select(sb.lt(x, zero), zero, x)
            return sb.select(sb.gt(x, top), top, x)
        if mode == "wrap":
            return sb.mod(x, n)
        if width == 1 and (mode == "negative" or self.leaves_early):
            return self._bound_of_one(x, n, mode == "check")
        wrapped = sb.select(sb.lt(x, zero), sb.add(x, n), x)
        if mode == "negative":
            return wrapped
        # the sign bit of `wrong` is set exactly when wrapped is outside [0, n)
        wrong = sb.or_(wrapped, sb.sub(sb.sub(n, sb.const(dtype_i64, 1)), wrapped))
        slot = self.bad if width == self.full_width else self.bad_scalar
        b = self.e.b
        b.store(b.or_(b.load(slot, typ=sb.type(dtype_i64)), wrong.ir), slot)
        return sb.select(sb.lt(wrong, zero), zero, wrapped)

    def _bound_of_one(self, x: Val, n: Val, check: bool) -> Val:
        """One index: nothing waits for its check, which mostly finds it as it should be."""
        b, sb = self.e.b, self.e.scalars(1)
        before, seldom, joined = b.block, b.append_basic_block("seldom"), b.append_basic_block("inside")
        right = b.icmp_unsigned("<", x.ir, n.ir) if check else b.icmp_signed(">=", x.ir, i64(0))
        self.e.branch(right, joined, seldom)
        b.position_at_end(seldom)
        wrapped = sb.add(x, n)
        if check:
            if self.wrong is None:
                self.wrong = b.append_basic_block("bad")
            self.e.branch(b.icmp_unsigned("<", wrapped.ir, n.ir), joined, self.wrong)
        else:
            b.branch(joined)
        b.position_at_end(joined)
        return self._join((x, before), (wrapped, seldom))
