"""The body of a leaf: instructions, positions, loads and stores, for one lane or a vector of them, in some copies.

`BodyEmitter` knows what varies along the lanes and at which loop each instruction belongs; it emits single
instructions when told to. Which loops run around it, and in which versions, is `codegen/loops.py`. Invariant: a lane
computes the same operations whatever the width, so elementwise results do not depend on it.
"""

from __future__ import annotations

from typing import Any

import llvmlite.ir as ir

from stager.codegen.builder import through
from stager.codegen.emit import PTR, FunctionEmitter, i64
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.modes import is_dear
from stager.codegen.program import Buffer, Instr, Leaf, Nest, Storage
from stager.codegen.registers import Val, memory_type
from stager.codegen.scalar import ScalarBuilder
from stager.ir.dims import Dim, Expr, product
from stager.ir.dtypes import DType, b1
from stager.ir.dtypes import i64 as dtype_i64

INLINED = 6
"""So many transcendentals of one loop stand in it; remainders call."""
BLOCK_STEPS = 16
"""A long float sum adds this many values per lane before it folds them."""


class BodyEmitter:
    """Emits the instructions of one leaf."""

    def __init__(self, e: FunctionEmitter, nest: Nest, leaf: Leaf) -> None:
        self.e = e
        self.nest = nest
        self.leaf = leaf
        self.stage = leaf.stage
        self.loops = leaf.loops
        self.body = leaf.stage.body
        self.variables: dict[int, Any] = {}
        self.values: dict[int, list[Val]] = {}
        self.splats: dict[tuple[int, int, int], Val] = {}
        self.pointers: dict[Any, Any] = {}
        self.width = 1  # of the code being emitted
        self.unroll = 1
        self.mask: Val | None = None
        self.inline = "auto"
        self.limits: dict[int, Any] = {}
        self.bad: Any = None  # bits of out-of-bounds indices: per lane, and of scalar steps
        self.bad_scalar: Any = None
        self.leaves_early = False  # a scalar index that is out of bounds ends the loops at once, in block `wrong`
        self.wrong: Any = None
        self.accumulators: list[Any] = []
        self.shared = {a.var for a in nest.outer}
        if nest.block:
            self.shared.discard(nest.outer[-1].var)
        self._analyse()

    # -- analysis ----------------------------------------------------------------------------------------------------

    def _analyse(self) -> None:
        body, leaf = self.body, self.leaf
        self.level_of_var = {a.var: k for k, a in enumerate(self.loops) if not a.tile}
        needed: set[int] = set()
        stack = [s.value for s in self.stage.stores] + [r.value for r in self.stage.reductions]
        stack += [n for n, i in enumerate(body) if i.op == "bound"]
        for at in (*(s.at for s in self.stage.stores), *(r.at for r in self.stage.reductions)):
            stack += [v - DYNAMIC for v, _ in at.terms if v >= DYNAMIC]
        while stack:
            n = stack.pop()
            if n in needed:
                continue
            needed.add(n)
            stack.extend(body[n].args)
            stack.extend(v - DYNAMIC for v in body[n].variables() if v >= DYNAMIC)
        self.needed = sorted(needed)
        self.level: dict[int, int] = {}
        self.varies: dict[int, bool] = {}
        self.jammed: set[int] = set()
        vector = leaf.vector
        for n in self.needed:
            i = body[n]
            level, varies = -1, False
            for v in i.variables():
                if v >= DYNAMIC:
                    level = max(level, self.level[v - DYNAMIC])
                    varies = varies or self.varies[v - DYNAMIC]
                else:
                    level = max(level, self.level_of_var.get(v, -1))
                    varies = varies or v == vector
            for a in i.args:
                level = max(level, self.level[a])
                varies = varies or self.varies[a]
            if i.op == "carry":
                level = len(self.loops) - 1
                varies = vector is not None and self.stage.reductions[i.data].at.coef(vector) != 0
            self.level[n], self.varies[n] = level, varies
            if leaf.jam is not None and (
                any(v == leaf.jam or (v >= DYNAMIC and v - DYNAMIC in self.jammed) for v in i.variables())
                or any(a in self.jammed for a in i.args)
            ):
                self.jammed.add(n)
        self.by_level: dict[int, list[int]] = {}
        for n in self.needed:
            self.by_level.setdefault(self.level[n], []).append(n)
        loads = [body[n].data for n in self.needed if body[n].op == "load"]
        self.accesses: list[tuple[Storage, Ix]] = [(b.storage, at) for b, at in loads]
        self.accesses += [(s.buffer.storage, s.at) for s in self.stage.stores]
        reduced = [k for k, a in enumerate(self.loops) if a.reduce and self.stage.reductions]
        self.first_reduce = reduced[0] if reduced else None
        self.dtypes = [body[n].dtype for n in self.needed] or [dtype_i64]
        self.full_width = self.leaf_width()
        dear = sum(is_dear(body[n]) for n in self.needed)
        self.main_inline = "inline" if 0 < dear * leaf.unroll <= INLINED else "auto"
        self.masked = self._can_mask()
        self.fold_level = self._fold_level()

    def leaf_width(self) -> int:
        """Lanes: a register of the widest element that memory is accessed with."""
        if self.leaf.vector is None:
            return 1
        bits = 8
        for n in self.needed:
            i = self.body[n]
            if self.varies[n] and i.op in ("load", "carry", "apply", "mul") and i.dtype is not b1:
                bits = max(bits, i.dtype.bits)
        if any(r.kind.startswith("arg") for r in self.stage.reductions):
            points = product(a.extent for a in self.loops if a.reduce)
            bits = max(bits, 32) if isinstance(points, int) and points < 1 << 31 else 64
        return max(1, self.e.target.vector_bits // bits)

    def _can_mask(self) -> bool:
        if self.leaf.vector is None or (self.stage.sequential and not self.stage.in_order):
            return False
        vector = self.leaf.vector
        for n in self.needed:
            i = self.body[n]
            if i.op == "bound" and self.varies[n]:
                return False
            if i.op == "load" and self.varies[n] and not self._maskable(*i.data):
                return False
        for s in self.stage.stores:
            if not self._maskable(s.buffer, s.at):
                return False
        for r in self.stage.reductions:
            if r.at.coef(vector) not in (0, r.buffer.dtype.itemsize) or (
                r.at.coef(vector) != 0 and (r.buffer.dtype.bits < 32 or r.buffer.dtype is b1)
            ):
                return False
        return True

    def _maskable(self, b: Buffer, at: Ix) -> bool:
        """Whether masked instructions can make an access: contiguous, of elements that they come for."""
        assert self.leaf.vector is not None
        contiguous = at.coef(self.leaf.vector) == b.dtype.itemsize and not self._dynamic_varies(at)
        return b.dtype.bits >= 32 and b.dtype is not b1 and contiguous

    def _dynamic_varies(self, at: Ix) -> bool:
        return any(v >= DYNAMIC and self.varies[v - DYNAMIC] for v, _ in at.terms)

    def _fold_level(self) -> int | None:
        """The reduce loop whose runs are cut into blocks that fold, for float sums that are long."""
        if not any(r.kind == "sum" and r.buffer.dtype.kind == "f" for r in self.stage.reductions):
            return None
        inside = 1
        for k in range(len(self.loops) - 1, -1, -1):
            a = self.loops[k]
            if not a.reduce:
                continue
            steps = a.most if isinstance(a.extent, Expr) else a.extent
            if steps is None:
                return k
            if a.var == self.leaf.vector:
                steps = -(-steps // (self.full_width * self.leaf.unroll))
            inside *= max(steps, 1)
            if inside > 2 * BLOCK_STEPS:
                return k
        return None

    def _store_varies(self, at: Ix, value: int) -> bool:
        v = self.leaf.vector
        return v is not None and (at.coef(v) != 0 or self._dynamic_varies(at) or self.varies[value])

    def _copies(self, varies: bool, jammed: bool) -> int:
        """How often an instruction is emitted per step."""
        if self.leaf.jam is None:
            return self.unroll if varies else 1
        return self.unroll if jammed else 1

    def _jammed_at(self, at: Ix) -> bool:
        jam = self.leaf.jam
        return jam is not None and any(v == jam or (v >= DYNAMIC and v - DYNAMIC in self.jammed) for v, _ in at.terms)

    # -- instructions ------------------------------------------------------------------------------------------------

    def _instr(self, n: int) -> None:
        i = self.body[n]
        varies = self.varies[n]
        copies = self._copies(varies, n in self.jammed)
        width = self.width if varies else 1
        if copies > 1 and width > 1 and i.op == "load" and self._is_transposed(i.data):
            self.values[n] = self._load_transposed(*i.data)
            return
        self.values[n] = [self._emit(n, i, u, width) for u in range(copies)]

    def _operand(self, n: int, u: int, width: int) -> Val:
        values = self.values[n]
        v = values[u] if len(values) > 1 else values[0]
        if width > 1 and not self.varies[n]:
            if self.body[n].op == "const":
                return self.e.scalars(width).const(v.dtype, self.body[n].data)
            key = (n, width, u if len(values) > 1 else 0)
            found = self.splats.get(key)
            if found is None:
                found = self.splats[key] = self.e.scalars(width).splat(v)
            return found
        return v

    def _emit(self, n: int, i: Instr, u: int, width: int) -> Val:
        sb = self.e.scalars(width)
        sb.inline = self.inline
        match i.op:
            case "apply":
                node = i.data
                args = [self._operand(a, u, width) for a in i.args]
                if i.usual is not None and width == 1:
                    return self._guess(args[0], args[i.usual], args[3 - i.usual], i.usual == 1)
                out: Val = node.op.lower(sb, *args, **node.params)
                return out
            case "load":
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

    # -- positions and memory ----------------------------------------------------------------------------------------

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

    def _pointer(self, storage: Storage, terms: tuple[tuple[int, Dim], ...]) -> Any:
        """The address of a storage plus terms (scalars), without constant parts."""
        key = (id(storage), terms)
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
            p = self._pointer(storage, rest)
            v, c = last
            value = self.values[v - DYNAMIC][0].ir if v >= DYNAMIC else self.variables[v]
            if isinstance(value, int):
                by = c * value
                p = e.offset(p, e.dim(by)) if by != 0 else p
            else:
                p = e.offset(p, value if c == 1 else e.b.mul(value, e.dim(c), flags=("nsw",)))
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
        p = self._pointer(storage, tuple(scalar_terms))
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
        i32 = ir.IntType(32)
        mask = ir.Constant(ir.VectorType(i32, width), [ir.Constant(i32, width - 1 - k) for k in range(width)])
        return Val(self.e.b.shuffle_vector(x.ir, ir.Constant(x.ir.type, ir.Undefined), mask), x.dtype)

    def _load_lanes(self, p: Any, lanes: list[Val], step: Dim, dtype: DType, sb: ScalarBuilder) -> Val:
        """One load per lane."""
        e, b = self.e, self.e.b
        t = memory_type(dtype)
        total: Val | None = None
        for x in lanes:
            total = x if total is None else sb.add(total, x)
        out = ir.Constant(ir.VectorType(t, sb.width), ir.Undefined)
        for k in range(sb.width):
            q = p
            if total is not None:
                q = e.offset(q, sb.extract(total, k).ir)
            if step != 0 and k:
                q = e.offset(q, e.dim(step * k))
            out = b.insert_element(out, b.load(q, typ=t, align=dtype.itemsize), ir.Constant(ir.IntType(32), k))
        return sb.from_memory(out, dtype)

    def _masked_load(self, p: Any, dtype: DType, sb: ScalarBuilder) -> Val:
        t = sb.type(dtype)
        name = f"llvm.masked.load.v{sb.width}{_suffix(dtype)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            f = ir.Function(self.e.module, ir.FunctionType(t, [PTR, ir.VectorType(ir.IntType(1), sb.width), t]), name)
        assert self.mask is not None
        return Val(through(p, self.e.b.call(f, [p, self.mask.ir, sb.const(dtype, 0).ir])), dtype)

    def _masked_store(self, p: Any, x: Val, sb: ScalarBuilder) -> None:
        t = sb.type(x.dtype)
        name = f"llvm.masked.store.v{sb.width}{_suffix(x.dtype)}.p0"
        f = self.e.module.globals.get(name)
        if f is None:
            type = ir.FunctionType(ir.VoidType(), [t, PTR, ir.VectorType(ir.IntType(1), sb.width)])
            f = ir.Function(self.e.module, type, name)
        assert self.mask is not None
        through(p, self.e.b.call(f, [x.ir, p, self.mask.ir]))

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
        if contiguous and self.mask is not None:
            self._masked_store(p, value, sb)
        elif contiguous:
            sb.store(value, p)
        elif not lanes and step == -buffer.dtype.itemsize and combine == "set":
            sb.store(self._reverse(value, width), self.e.offset(p, -buffer.dtype.itemsize * (width - 1)))
        else:
            self._store_lanes(buffer, p, lanes, step, value, combine, sb)

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
        e, b, width = self.e, self.e.b, self.width
        assert self.leaf.vector is not None
        sb = e.scalars(width)
        p, _ = self._address(buffer.storage, at, 0, width)
        step = at.coef(self.leaf.vector)
        rows = [sb.load(e.offset(p, e.dim(step * k)) if k else p, buffer.dtype).ir for k in range(width)]
        i32 = ir.IntType(32)

        def pick(x: Any, y: Any, lanes: list[int]) -> Any:
            return b.shuffle_vector(x, y, ir.Constant(ir.VectorType(i32, width), [ir.Constant(i32, n) for n in lanes]))

        half = width // 2
        while half:  # blocks off the diagonal of every square of 2*half change places
            out = list(rows)
            for r in range(width):
                if r & half:
                    continue
                x, y = rows[r], rows[r + half]
                out[r] = pick(x, y, [width + n - half if n & half else n for n in range(width)])
                out[r + half] = pick(x, y, [width + n if n & half else n + half for n in range(width)])
            rows = out
            half //= 2
        return [Val(r, buffer.dtype) for r in rows]


def _suffix(dtype: DType) -> str:
    return dtype.name if dtype.kind == "f" else f"i{dtype.bits}"
