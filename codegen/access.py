"""Positions and memory of a leaf: addresses, loads and stores, of one lane or a vector of them.

An address grows term by term with the loops that decide it, so that inner loops add little. A vector is loaded and
stored at once where its lanes are neighbours, in either direction, under a mask in the last step of a loop; else lane
by lane, or as a square that changes rows and columns.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.builder import through
from stager.codegen.emit import PTR, i64
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.levels import LevelEmitter
from stager.codegen.program import Buffer, Instr, Storage
from stager.codegen.registers import Val, lane_number, lane_numbers, memory_type, undefined
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim
from stager.ir.dtypes import DType, b1, u8
from stager.ir.dtypes import i64 as dtype_i64


class AccessEmitter(LevelEmitter):
    """Emits the accesses of one leaf."""

    def _index_value(self, ix: Ix, u: int, width: int, dtype: DType = dtype_i64) -> Val:
        """The value of a position; `dtype` where another one than i64 holds it."""
        b, e = self.e.b, self.e
        sb = e.scalars(width)
        total: Any = None
        const = ix.const
        lane_terms: list[Val] = []
        for v, c in ix.terms:
            if v >= DYNAMIC and self.varies[v - DYNAMIC] and width > 1:
                x = self._operand(v - DYNAMIC, u, width)
                lane_terms.append(x if c == 1 else sb.mul(x, sb.splat(Val(e.dim(c), dtype_i64))))
                continue
            if v >= DYNAMIC:
                value = self._operand(v - DYNAMIC, u, 1).ir
            else:
                value = self.variables[v]
                const = const + c * self._apart(v, u)
            if isinstance(value, int):
                const = const + c * value
                continue
            term = value if c == 1 else b.mul(value, e.dim(c), flags=("nsw",))
            total = term if total is None else b.add(total, term, flags=("nsw",))
        if total is None:
            total = e.dim(const)
        elif const != 0:
            total = b.add(total, e.dim(const), flags=("nsw",))
        one = e.scalars(1)
        out = one.convert(Val(total, dtype_i64), dtype)
        if width == 1:
            return out
        out = sb.splat(out)
        vector = self.leaf.vector
        c = ix.coef(vector) if vector is not None else 0
        if c != 0:
            lanes = sb.iota(dtype)
            step = one.convert(Val(e.dim(c), dtype_i64), dtype)
            out = sb.add(out, lanes if c == 1 else sb.mul(lanes, sb.splat(step)))
        for x in lane_terms:
            out = sb.add(out, sb.convert(x, dtype))
        return out

    def _apart(self, var: int, u: int) -> int:
        """How far copy u is from the first along a variable."""
        if self.leaf.jam is not None:
            return u if var == self.leaf.jam else 0
        return u * self.width if var == self.leaf.vector else 0

    def _terms(self, storage: Storage, at: Ix) -> tuple[tuple[int, Dim], ...]:
        """The terms of a position that count: a row buffer has no outer ones."""
        row = self.nest.scratch.get(id(storage))
        if row is None:
            return at.terms
        outer = self.shared
        return tuple(t for t in at.terms if t[0] not in outer)

    def _hoist_pointers(self, k: int, dynamic: bool) -> None:
        """Addresses of what deeper loops access, as far as the variables up to loop k decide them."""
        if k == len(self.loops) - 1:
            return
        for storage, at in self.accesses:
            known = []
            deeper = False
            has_dynamic = False
            for v, c in self._terms(storage, at):
                level = self.level[v - DYNAMIC] if v >= DYNAMIC else self.level_of_var.get(v, -1)
                varies = v >= DYNAMIC and self.varies[v - DYNAMIC]
                if level <= k and not varies:
                    known.append((v, c))
                    has_dynamic = has_dynamic or v >= DYNAMIC
                else:
                    deeper = True
            if deeper and has_dynamic == dynamic:
                self._pointer(storage, tuple(known))

    def _pointer(self, storage: Storage, terms: tuple[tuple[int, Dim], ...], u: int = 0) -> Any:
        """The address, for copy u, of a storage plus terms (scalars), without constant parts."""
        u = u if any(v >= DYNAMIC and len(self.values[v - DYNAMIC]) > 1 for v, _ in terms) else 0
        key = (id(storage), terms, u)
        found = self.pointers.get(key)
        if found is not None:
            return found
        e = self.e
        if not terms:
            p = self._row_base(storage)
        else:
            # the innermost term is added last
            order = sorted(
                terms, key=lambda t: self.level[t[0] - DYNAMIC] if t[0] >= DYNAMIC else self.level_of_var.get(t[0], -1)
            )
            last = order[-1]
            rest = tuple(t for t in terms if t is not last)
            p = self._pointer(storage, rest, u)
            v, c = last
            value = self._operand(v - DYNAMIC, u, 1).ir if v >= DYNAMIC else self.variables[v]
            if isinstance(value, int):
                by = c * value
                p = e.offset(p, e.dim(by)) if by != 0 else p
            else:
                p = e.stepped(p, value, c)
        self.pointers[key] = p
        return p

    def _row_base(self, storage: Storage) -> Any:
        """The address that positions count from: rows of a block count from the block's first lane."""
        p = self.e.base(storage)
        nest = self.nest
        if nest.block and id(storage) in nest.scratch:
            var = nest.outer[-1].var
            start = self.limits[var][0]
            back = -nest.scratch[id(storage)][1]
            p = self.e.offset(p, start * back if isinstance(start, int) else self.e.b.mul(start, i64(back)))
        return p

    def _address(self, storage: Storage, at: Ix, u: int, width: int) -> tuple[Any, list[Val]]:
        """A scalar address (of lane 0) and the vector terms that lanes differ in, in bytes."""
        scalar_terms: list[tuple[int, Dim]] = []
        lanes: list[Val] = []
        const = at.const
        sb = self.e.scalars(width)
        for v, c in self._terms(storage, at):
            if v >= DYNAMIC and self.varies[v - DYNAMIC]:
                x = self._operand(v - DYNAMIC, u, width)
                if width == 1:
                    scalar_terms.append((v, c))
                else:
                    lanes.append(x if c == 1 else sb.mul(x, sb.splat(Val(self.e.dim(c), dtype_i64))))
            else:
                scalar_terms.append((v, c))
            if v < DYNAMIC:
                const = const + c * self._apart(v, u)
        p = self._pointer(storage, tuple(scalar_terms), u)
        return (self.e.offset(p, self.e.dim(const)) if const != 0 else p), lanes

    def _load(self, i: Instr, u: int, width: int) -> Val:
        buffer, at = i.data
        p, lanes = self._address(buffer.storage, at, u, width)
        dtype: DType = buffer.dtype
        sb = self.e.scalars(width)
        if width == 1:
            return sb.load(p, dtype)
        step = at.coef(self.leaf.vector) if self.leaf.vector is not None else 0
        if not lanes and step == dtype.itemsize:
            if self.mask is not None:
                return self._masked_load(p, dtype, sb)
            return sb.load(p, dtype)
        if not lanes and step == -dtype.itemsize and self.mask is None:
            first = self.e.offset(p, -dtype.itemsize * (width - 1))
            return self._reverse(sb.load(first, dtype), width)
        return self._load_lanes(p, lanes, step, dtype, sb)

    def _reverse(self, x: Val, width: int) -> Val:
        mask = lane_numbers(tuple(reversed(range(width))))
        return Val(self.e.b.shuffle_vector(x.ir, undefined(x.ir.type), mask), x.dtype)

    def _load_lanes(self, p: Any, lanes: list[Val], step: Dim, dtype: DType, sb: ScalarBuilder) -> Val:
        """One load per lane."""
        e, b = self.e, self.e.b
        t = memory_type(dtype)
        total: Val | None = None
        for x in lanes:
            total = x if total is None else sb.add(total, x)
        out = undefined(ir.VectorType(t, sb.width))
        for k in range(sb.width):
            q = p
            if total is not None:
                q = e.offset(q, sb.extract(total, k).ir)
            if step != 0 and k:
                q = e.offset(q, e.dim(step * k))
            out = b.insert_element(out, b.load(q, typ=t, align=dtype.itemsize), lane_number(k))
        return sb.from_memory(out, dtype)

    def _masked_load(self, p: Any, dtype: DType, sb: ScalarBuilder) -> Val:
        stored = u8 if dtype is b1 else dtype
        t = sb.type(stored)
        name = f"llvm.masked.load.v{sb.width}{_suffix(stored)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            f = ir.Function(self.e.module, ir.FunctionType(t, [PTR, ir.VectorType(ir.IntType(1), sb.width), t]), name)
        assert self.mask is not None
        return sb.from_memory(through(p, self.e.b.call(f, [p, self.mask.ir, sb.const(stored, 0).ir])), dtype)

    def _masked_store(self, p: Any, x: Val, sb: ScalarBuilder) -> None:
        stored = u8 if x.dtype is b1 else x.dtype
        t = sb.type(stored)
        name = f"llvm.masked.store.v{sb.width}{_suffix(stored)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            type = ir.FunctionType(ir.VoidType(), [t, PTR, ir.VectorType(ir.IntType(1), sb.width)])
            f = ir.Function(self.e.module, type, name)
        assert self.mask is not None
        through(p, self.e.b.call(f, [sb.to_memory(x), p, self.mask.ir]))

    def _store(self, buffer: Buffer, at: Ix, value: Val | None, u: int, combine: str, number: int = -1) -> None:
        vector = self.leaf.vector
        varies = vector is not None and (at.coef(vector) != 0 or self._dynamic_varies(at))
        width = self.width if varies else 1
        if value is None:
            value = self._operand(number, u, width)
        sb = self.e.scalars(width)
        p, lanes = self._address(buffer.storage, at, u, width)
        if width == 1:
            if combine != "set":
                value = self._combined(sb, combine, sb.load(p, buffer.dtype), value, number, u)
            sb.store(value, p)
            return
        step = at.coef(vector) if vector is not None else 0
        contiguous = not lanes and step == buffer.dtype.itemsize
        if contiguous and combine != "set":
            old = sb.load(p, buffer.dtype) if self.mask is None else self._masked_load(p, buffer.dtype, sb)
            value = self._combined(sb, combine, old, value, number, u)
        if contiguous and self.mask is not None and not (combine == "set" and self._may_overrun(buffer, at)):
            self._masked_store(p, value, sb)
        elif contiguous:
            sb.store(value, p)
        elif self.mask is not None:
            raise AssertionError("lanes beyond the end would be stored: only what is contiguous has masks")
        elif not lanes and step == -buffer.dtype.itemsize and combine == "set":
            sb.store(self._reverse(value, width), self.e.offset(p, -buffer.dtype.itemsize * (width - 1)))
        else:
            self._store_lanes(buffer, p, lanes, step, value, combine, sb)

    def _may_overrun(self, buffer: Buffer, at: Ix) -> bool:
        """Whether a last vector may be stored whole, because nothing is behind the array but room for it: what is
        stored under a mask is not handed on to loads, they wait until it is in the cache."""
        nest, storage, vector, item = self.nest, buffer.storage, self.leaf.vector, buffer.dtype.itemsize
        if not self.at_end or nest.parallel or vector is None:
            return False
        blocks = bool(nest.block) and vector == nest.outer[-1].var
        if blocks and nest.block % self.full_width != 0:
            return False  # blocks end inside of vectors
        if id(storage) in nest.scratch:
            line = nest.block * item
            return blocks and all(c == item if v == vector else c % line == 0 for v, c in self._terms(storage, at))
        if self._terms(storage, at) != ((vector, item),):
            return False
        extent = next(a.extent for a in (*nest.outer, *self.loops) if a.var == vector)
        room = self.e.target.vector_bits // 8  # behind the array; what only writes numbers stores several registers
        whole = (vector not in self.limits or blocks) and self.full_width * item <= room
        return storage.kind == "stack" and 8 < storage.nbytes == at.const + item * extent and whole

    def _store_lanes(
        self, buffer: Buffer, p: Any, lanes: list[Val], step: Dim, value: Val, combine: str, sb: ScalarBuilder
    ) -> None:
        total: Val | None = None
        for x in lanes:
            total = x if total is None else sb.add(total, x)
        one = self.e.scalars(1)
        for k in range(sb.width):
            q = p
            if total is not None:
                q = self.e.offset(q, sb.extract(total, k).ir)
            if step != 0 and k:
                q = self.e.offset(q, self.e.dim(step * k))
            x = sb.extract(value, k)
            if combine != "set":
                x = self._combined(one, combine, one.load(q, buffer.dtype), x)
            one.store(x, q)

    def _combined(self, sb: ScalarBuilder, combine: str, old: Val, new: Val, number: int = -1, u: int = 0) -> Val:
        fma = self._factors(number, u, sb.width) if combine == "sum" and number >= 0 else None
        if fma is not None:
            return sb.fma(*fma, old)
        name = {"add": "add", "sum": "add", "mul": "mul", "min": "minimum", "max": "maximum"}[combine]
        out: Val = getattr(sb, name)(old, new)
        return out

    def _factors(self, n: int, u: int, width: int) -> tuple[Val, Val] | None:
        """What instruction n is the product of (or the negative of the product), for a sum that takes it unrounded."""
        i, negative = self.body[n], False
        if i.op == "apply" and i.data.op.name == "neg":
            i, negative = self.body[i.args[0]], True
        product = i.op == "mul" or (i.op == "apply" and i.data.op.name == "mul")
        if not product or i.dtype.kind != "f":
            return None
        x, y = [self._operand(a, u, width) for a in i.args]
        return (self.e.scalars(width).neg(x) if negative else x), y

    def _is_transposed(self, access: tuple[Buffer, Ix]) -> bool:
        buffer, at = access
        leaf = self.leaf
        return (
            leaf.jam is not None
            and leaf.vector is not None
            and self.mask is None
            and buffer.dtype is not b1
            and self.unroll == self.width
            and at.coef(leaf.jam) == buffer.dtype.itemsize
            and at.coef(leaf.vector) != buffer.dtype.itemsize
            and not at.is_dynamic
        )

    def _load_transposed(self, buffer: Buffer, at: Ix) -> list[Val]:
        """A square of width x width elements, contiguous along the jammed variable, as vectors along the lanes."""
        e, width = self.e, self.width
        assert self.leaf.vector is not None
        sb = e.scalars(width)
        p, _ = self._address(buffer.storage, at, 0, width)
        step = at.coef(self.leaf.vector)
        rows = [sb.load(e.offset(p, e.dim(step * k)) if k else p, buffer.dtype) for k in range(width)]
        return sb.transposed(rows)


def _suffix(dtype: DType) -> str:
    return dtype.name if dtype.kind == "f" else f"i{dtype.bits}"
