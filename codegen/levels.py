"""What is known of the instructions of a leaf before one is emitted: levels, lanes, copies.

An instruction belongs to the outermost loop that it depends on (its level) and either varies along the lanes or is one
scalar for all of them. `LevelEmitter` holds that, and the values emitted so far. Invariant: an instruction comes after
those it is made of, so each is decided by what was decided before.
"""

from __future__ import annotations

from typing import Any

from stager.codegen.emit import FunctionEmitter
from stager.codegen.index import DYNAMIC, Ix
from stager.codegen.modes import is_dear
from stager.codegen.program import SQUARE, Buffer, Leaf, Nest, Storage
from stager.codegen.registers import Val
from stager.ir.dims import Expr, product
from stager.ir.dtypes import b1
from stager.ir.dtypes import i64 as dtype_i64

INLINED = 6
"""So many transcendentals of one loop stand in it; remainders call."""
BLOCK_STEPS = 16
"""A long float sum adds this many values per lane before it folds them."""


class Lane:
    """One lane of a step whose addresses are scalar code: its point, and what was computed for it."""

    def __init__(self, at: Any) -> None:
        self.at = at
        self.values: dict[int, list[Val]] = {}
        self.pointers: dict[Any, Any] = {}


class LevelEmitter:
    """Knows where each instruction of one leaf belongs."""

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
        self.at_end = False  # the lanes that the mask leaves out are behind the end of the loop
        self.places: list[Lane] | None = None  # where each lane is, while what is looked up is found for each by itself
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
        self.only_places = self._looked_up()
        self.fold_level = self._fold_level()

    def leaf_width(self) -> int:
        """Lanes: a register of the widest element that memory is accessed with."""
        if self.leaf.vector is None or self.leaf.narrow:
            return 1
        bits = max((s.buffer.dtype.bits for s in self.stage.stores if s.buffer.dtype is not b1), default=8)
        for n in self.needed:
            i = self.body[n]
            if self.varies[n] and i.op in ("load", "carry", "apply", "mul") and i.dtype is not b1:
                bits = max(bits, i.dtype.bits)
        if any(r.kind.startswith("arg") for r in self.stage.reductions):
            points = product(a.extent for a in self.loops if a.reduce)
            bits = max(bits, 32) if isinstance(points, int) and points < 1 << 31 else 64
        width = max(1, self.e.target.vector_bits // bits)
        return min(width, SQUARE) if self.leaf.jam is not None else width

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
                r.at.coef(vector) != 0 and r.buffer.dtype.bits < self.e.target.least_masked_bits
            ):
                return False
        return True

    def _maskable(self, b: Buffer, at: Ix) -> bool:
        """Whether masked instructions can make an access: contiguous, of elements that they come for."""
        assert self.leaf.vector is not None
        contiguous = at.coef(self.leaf.vector) == b.dtype.itemsize and not self._dynamic_varies(at)
        return b.dtype.bits >= self.e.target.least_masked_bits and contiguous

    def _dynamic_varies(self, at: Ix) -> bool:
        return any(v >= DYNAMIC and self.varies[v - DYNAMIC] for v, _ in at.terms)

    def _looked_up(self) -> set[int]:
        """The instructions along the lanes that say only where something is."""
        stack = [s.value for s in self.stage.stores] + [r.value for r in self.stage.reductions]
        values: set[int] = set()
        while stack:
            n = stack.pop()
            if n not in values:
                values.add(n)
                i = self.body[n]
                stack.extend(i.args)
                if i.op != "load":  # a position is a value where it is computed with
                    stack.extend(v - DYNAMIC for v in i.variables() if v >= DYNAMIC)
        return {n for n in self.needed if self.varies[n] and n not in values}

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
