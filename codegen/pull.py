"""`StageBuilder`: writes the body of one stage by pulling values at positions until it reaches buffers.

A value that has a buffer becomes a load; any other is computed where it is needed: elementwise ops become
instructions, views change the position, literals and iotas cost nothing, gathers make positions out of data.
Invariant: one instruction per (value, position), whatever the number of uses. Nothing recurses over graph depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from stager.codegen.index import DYNAMIC, Ix, linear, variable
from stager.codegen.program import Axis, Buffer, Instr, Reduction, Stage, Store, move_results
from stager.ir.dims import Dim, Expr, contiguous_strides, product
from stager.ir.dims import floordiv as dim_floordiv
from stager.ir.dims import mod as dim_mod
from stager.ir.dtypes import DType, i64
from stager.ir.graph import Node, Value

if TYPE_CHECKING:
    from stager.codegen.lower import Lowering

Index = tuple[Ix, ...]


def value_key(v: Value) -> int:
    """A number for a value, unique while its node lives."""
    return (id(v.node) << 20) + v.index


class StageBuilder:
    """Builds one `Stage`."""

    def __init__(self, ctx: Lowering) -> None:
        self.ctx = ctx
        self.axes: list[Axis] = []
        self.body: list[Instr] = []
        self.stores: list[Store] = []
        self.reductions: list[Reduction] = []
        self._done: dict[tuple[int, int], int] = {}  # (value, index number) -> instruction
        self._indices: list[Index] = []
        self._index_number: dict[Index, int] = {}
        self._unique: dict[Any, int] = {}

    # -- axes and instructions ---------------------------------------------------------------------------------------

    def axis(self, extent: Dim, reduce: bool = False) -> Ix:
        """A new loop; an extent of 1 needs none."""
        if extent == 1:
            return Ix(0)
        self.axes.append(Axis(extent, reduce))
        return variable(len(self.axes) - 1)

    def instr(self, op: str, dtype: DType, args: tuple[int, ...] = (), data: Any = None, key: Any = None) -> int:
        """Appends an instruction, or finds the equal one under `key`."""
        if key is not None:
            key = (op, dtype.name, args, key)
            found = self._unique.get(key)
            if found is not None:
                return found
            self._unique[key] = len(self.body)
        self.body.append(Instr(op, dtype, args, data))
        return len(self.body) - 1

    def load(self, buffer: Buffer, at: Ix) -> int:
        return self.instr("load", buffer.dtype, data=(buffer, at), key=(id(buffer.storage), at))

    def const(self, dtype: DType, value: Any) -> int:
        return self.instr("const", dtype, data=value, key=(np.asarray(value, dtype.np).tobytes()))

    def index(self, at: Ix, dtype: DType) -> int:
        return self.instr("index", dtype, data=at, key=at)

    def range_of(self, var: int) -> tuple[Dim, Dim] | None:
        """The inclusive range of a variable."""
        if var < DYNAMIC:
            return 0, self.axes[var].extent - 1
        i = self.body[var - DYNAMIC]
        if i.op == "mod":
            return 0, i.data[1] - 1
        if i.op == "bound" and i.data[2] != "promise":
            return 0, i.data[0] - 1
        if i.op == "floordiv":
            inner = self.ctx.facts.bounds(i.data[0], self.range_of)
            return None if inner is None else (dim_floordiv(inner[0], i.data[1]), dim_floordiv(inner[1], i.data[1]))
        return None

    def finish(self, label: str = "", sequential: bool = False, descending: bool = False) -> Stage:
        axes, body, stores, reductions = self._split_axes()
        return Stage(axes, body, stores, reductions, sequential, label, descending)

    # -- quotients and remainders of positions -----------------------------------------------------------------------

    def divmod(self, ix: Ix, by: Dim) -> tuple[Ix, Ix]:
        """`ix // by, ix % by`, affine where the terms allow it."""
        quotient, remainder, exact = self._divided(ix, by)
        if exact:
            return quotient, remainder
        key = (remainder, by)
        q = self.instr("floordiv", i64, data=(remainder, by), key=key)
        m = self.instr("mod", i64, data=(remainder, by), key=key)
        return quotient.plus(variable(DYNAMIC + q)), variable(DYNAMIC + m)

    def _divided(self, ix: Ix, by: Dim) -> tuple[Ix, Ix, bool]:
        """The terms that divide, the rest, and whether that rest is the remainder itself (in [0, by))."""
        if by == 1:
            return ix, Ix(0), True
        whole: list[tuple[int, Dim]] = []
        rest: list[tuple[int, Dim]] = []
        for v, c in ix.terms:
            (whole if dim_mod(c, by) == 0 else rest).append((v, c))
        const_whole, const_rest = _divide_const(ix.const, by)
        quotient = Ix(const_whole, tuple((v, dim_floordiv(c, by)) for v, c in whole))
        remainder = Ix(const_rest, tuple(rest))
        facts = self.ctx.facts
        r = facts.bounds(remainder, self.range_of)
        exact = r is not None and facts.non_negative(r[0]) and facts.at_most(r[1], by - 1)
        return quotient, remainder, exact

    def address(self, buffer: Buffer, index: Iterable[Ix]) -> Ix:
        """The byte position of an element; quotients and remainders that belong together are put together."""
        at = linear(index, buffer.strides, buffer.offset)
        return self._rejoin(at) if at.is_dynamic else at

    def _rejoin(self, at: Ix) -> Ix:
        # c*d*(e // d) + c*(e % d) = c*e
        for v, c in at.terms:
            if v < DYNAMIC or self.body[v - DYNAMIC].op != "mod":
                continue
            e, d = self.body[v - DYNAMIC].data
            q = self._unique.get(("floordiv", "i64", (), (e, d)))
            if q is not None and at.coef(DYNAMIC + q) == c * d:
                return self._rejoin(at.without((v, DYNAMIC + q)).plus(e.scale(c)))
        return at

    # -- pulling -----------------------------------------------------------------------------------------------------

    def pull(self, value: Value, index: Index) -> int:
        """The instruction that is `value[index]`."""
        root = (value_key(value), self._number(index))
        done = self._done
        stack: list[tuple[Value, int]] = [(value, root[1])]
        while stack:
            v, k = stack[-1]
            key = (value_key(v), k)
            if key in done:
                stack.pop()
                continue
            result = self._resolve(v, k)
            if isinstance(result, int):
                done[key] = result
                stack.pop()
            else:
                stack.extend(result)
        return done[root]

    def _number(self, index: Index) -> int:
        n = self._index_number.get(index)
        if n is None:
            n = self._index_number[index] = len(self._indices)
            self._indices.append(index)
        return n

    def _resolve(self, v: Value, k: int) -> int | list[tuple[Value, int]]:
        """The instruction for a value at an index, or what must be pulled before."""
        ctx = self.ctx
        start = (v, k)
        while True:
            vk = value_key(v)
            if (vk, k) in self._done:
                return self._done[vk, k]
            buffer = ctx.buffers.get(vk)
            if buffer is not None:
                return self.load(buffer, self.address(buffer, self._indices[k]))
            dim = ctx.scalars.get(vk)
            if dim is not None:
                return self.index(Ix(dim), v.type.dtype)
            alias = ctx.aliases.get(vk)
            if alias is not None:
                v = alias
                continue
            node = v.node
            family = node.op.family
            if family == "elementwise":
                return self._elementwise(node, k)
            if family == "view":
                (v,) = node.args
                k = self._number(self._view(node, self._indices[k]))
                continue
            break
        name = node.op.name
        if name == "fill":
            return self.const(node.types[0].dtype, node.params["value"])
        if name == "constant":
            return self.const(node.types[0].dtype, node.params["value"].reshape(-1)[0])
        if name == "iota":
            return self.index(self._indices[k][0], node.types[0].dtype)
        if name == "dim":
            return self.index(Ix(node.params["dim"]), i64)
        if name == "gather":
            result = self._gather(node, k)
            if isinstance(result, list):
                return result
            x, position = result
            n = self._number(position)
            found = self._done.get((value_key(x), n))
            return found if found is not None else [(x, n)]
        raise AssertionError(f"internal: {node!r} is pulled before it was realised (from {start[0]!r})")

    def _elementwise(self, node: Node, k: int) -> int | list[tuple[Value, int]]:
        done = self._done
        args = []
        missing = []
        for a in node.args:
            found = done.get((value_key(a), k))
            if found is None:
                missing.append((a, k))
            else:
                args.append(found)
        if missing:
            missing.reverse()
            return missing
        params = node.params
        key = (node.op.name, tuple(params.items())) if params else node.op.name
        return self.instr("apply", node.types[0].dtype, tuple(args), node, key=key)

    # -- gathers -----------------------------------------------------------------------------------------------------

    def _gather(self, node: Node, k: int) -> list[tuple[Value, int]] | tuple[Value, Index]:
        index = self._indices[k]
        x, *idx = node.args
        axes, batch, mode = node.params["axes"], node.params["batch_dims"], node.params["mode"]
        n_index = idx[0].type.ndim if idx else batch
        sub = index[:n_index]
        positions: dict[int, Ix] = {}
        missing: list[tuple[Value, int]] = []
        for axis, i in zip(axes, idx, strict=True):
            p = self.position(i, sub, x.shape[axis], axis, mode)
            if isinstance(p, Ix):
                positions[axis] = p
            else:
                missing.append(p)
        if missing:
            return missing
        rest = iter(index[n_index:])
        out: list[Ix] = []
        for d in range(x.type.ndim):
            if d < batch:
                out.append(index[d])
            elif d in positions:
                out.append(positions[d])
            else:
                out.append(next(rest))
        return x, tuple(out)

    def position(self, i: Value, sub: Index, size: Dim, axis: int, mode: str) -> Ix | tuple[Value, int]:
        """Where index value `i` at `sub` points on an axis: a safe position, or the pull that must come before."""
        ix = self.as_ix(i, sub)
        facts = self.ctx.facts
        if ix is not None:
            r = facts.bounds(ix, self.range_of)
            if mode == "promise" and r is None:
                return ix
            if r is not None:
                if facts.non_negative(r[0]) and (mode == "promise" or facts.at_most(r[1], size - 1)):
                    return ix
                if facts.non_negative(-1 - r[1]) and (mode == "promise" or facts.non_negative(r[0] + size)):
                    return ix.shift(size)
            found: int | None = self.index(ix, i64)
        else:
            k = self._number(sub)
            found = self._done.get((value_key(i), k))
            if found is None:
                return i, k
        assert found is not None
        if self.body[found].dtype is not i64:
            raise AssertionError("internal: gather indices are i64")
        return variable(DYNAMIC + self.instr("bound", i64, (found,), (size, axis, mode), key=(size, axis, mode)))

    def as_ix(self, v: Value, index: Index, depth: int = 8) -> Ix | None:
        """`v[index]` as an affine position, when its definition is one."""
        ctx = self.ctx
        while True:
            vk = value_key(v)
            if vk in ctx.buffers:
                return None
            dim = ctx.scalars.get(vk)
            if dim is not None:
                return Ix(dim)
            alias = ctx.aliases.get(vk)
            if alias is not None:
                v = alias
                continue
            if v.node.op.family != "view" or depth == 0:
                break
            index = self._view(v.node, index)
            v = v.node.args[0]
            depth -= 1
        node = v.node
        if depth == 0 or v.type.dtype is not i64:
            return None
        name = node.op.name
        if name in ("fill", "constant"):
            literal = node.params["value"]
            return (
                Ix(int(literal if name == "fill" else literal.reshape(-1)[0]))
                if v.type.size == 1 or name == "fill"
                else None
            )
        if name == "iota":
            return index[0]
        if name == "dim":
            return Ix(node.params["dim"])
        if name in ("add", "sub", "mul", "neg"):
            args = [self.as_ix(a, index, depth - 1) for a in node.args]
            if any(a is None for a in args):
                return None
            a = args[0]
            assert a is not None
            if name == "neg":
                return a.scale(-1)
            b = args[1]
            assert b is not None
            if name == "add":
                return a.plus(b)
            if name == "sub":
                return a.plus(b.scale(-1))
            if not a.terms:
                return b.scale(a.const)
            return a.scale(b.const) if not b.terms else None
        return None

    # -- views -------------------------------------------------------------------------------------------------------

    def _view(self, node: Node, index: Index) -> Index:
        """The position in the operand of a view, given the position in its result."""
        return VIEWS[node.op.name](self, node, index)

    def _reshape(self, node: Node, index: Index) -> Index:
        old, new = node.args[0].shape, node.types[0].shape
        out: list[Ix] = []
        for o, n in reshape_groups(old, new):
            olds = list(range(*o))
            news = [d for d in range(*n) if new[d] != 1]
            wide = [d for d in olds if old[d] != 1]
            values: dict[int, Ix] = {}
            if len(wide) == 1 and len(news) == 1:
                values[wide[0]] = index[news[0]]
            elif wide:
                at = linear([index[d] for d in news], contiguous_strides(tuple(new[d] for d in news)))
                for d in reversed(wide[1:]):
                    at, values[d] = self.divmod(at, old[d])
                values[wide[0]] = at
            out.extend(values.get(d, Ix(0)) for d in olds)
        return tuple(out)

    def _transpose(self, node: Node, index: Index) -> Index:
        perm = node.params["perm"]
        out = [Ix(0)] * len(perm)
        for k, d in enumerate(perm):
            out[d] = index[k]
        return tuple(out)

    def _broadcast(self, node: Node, index: Index) -> Index:
        old, new = node.args[0].shape, node.types[0].shape
        return tuple(index[a] if old[k] == new[a] else Ix(0) for k, a in enumerate(node.params["axes"]))

    def _slice(self, node: Node, index: Index) -> Index:
        p = node.params
        return tuple(i.scale(step).shift(start) for i, start, step in zip(index, p["starts"], p["steps"], strict=True))

    def _diagonal(self, node: Node, index: Index) -> Index:
        p = node.params
        return diagonal_index(index, node.args[0].type.ndim, p["axis1"], p["axis2"], p["offset"])

    def _windows(self, node: Node, index: Index) -> Index:
        axis, step = node.params["axis"], node.params["step"]
        at = index[axis].scale(step).plus(index[-1])
        return (*index[:axis], at, *index[axis + 1 : -1])

    # -- splitting axes ----------------------------------------------------------------------------------------------

    def _split_axes(self) -> tuple[list[Axis], list[Instr], list[Store], list[Reduction]]:
        """`i // b` and `i % b` of a whole axis with b dividing its extent: two axes instead."""
        while True:
            found = None
            for n, i in enumerate(self.body):
                if i.op in ("floordiv", "mod") and len(i.data[0].terms) == 1 and i.data[0].const == 0:
                    ((v, c),) = i.data[0].terms
                    if v < DYNAMIC and c == 1 and dim_mod(self.axes[v].extent, i.data[1]) == 0:
                        found = (n, v, i.data[1])
                        break
            if found is None:
                return self.axes, self.body, self.stores, self.reductions
            self._split(found[1], found[2])

    def _split(self, axis: int, by: Dim) -> None:
        """Axis `axis` becomes the quotient, and a new axis right after it the remainder."""
        old = self.axes[axis]
        self.axes[axis : axis + 1] = [Axis(dim_floordiv(old.extent, by), old.reduce), Axis(by, old.reduce)]
        moved: dict[int, Ix] = {v: variable(v + 1) for v in range(axis + 1, len(self.axes) - 1)}
        moved[axis] = Ix(0, tuple(sorted(((axis, by), (axis + 1, 1)))))
        self._unique.clear()
        for i in self.body:
            i.move(lambda at: at.replace(moved))
        move_results(self.stores, self.reductions, lambda at: at.replace(moved))
        # what the split made affine is dissolved into the positions that use it
        dissolved: dict[int, Ix] = {}
        for n, i in enumerate(self.body):
            if i.op in ("floordiv", "mod"):
                inner = i.data[0].replace(dissolved)
                q, m, exact = self._divided(inner, i.data[1])
                if exact:
                    result = q if i.op == "floordiv" else m
                    dissolved[DYNAMIC + n] = result
                    i.op, i.data = "index", result
                else:
                    i.data = (inner, i.data[1])
        if dissolved:
            for i in self.body:
                i.move(lambda at: at.replace(dissolved))
            move_results(self.stores, self.reductions, lambda at: at.replace(dissolved))


VIEWS: dict[str, Callable[[StageBuilder, Node, Index], Index]] = {
    "reshape": StageBuilder._reshape,
    "transpose": StageBuilder._transpose,
    "broadcast": StageBuilder._broadcast,
    "slice": StageBuilder._slice,
    "diagonal": StageBuilder._diagonal,
    "windows": StageBuilder._windows,
}


def diagonal_index(index: Index, ndim: int, axis1: int, axis2: int, offset: int) -> Index:
    """The position in an array of `ndim` axes of a point of its diagonal (the last entry of `index`)."""
    rest = iter(index[:-1])
    along = index[-1]
    return tuple(
        along.shift(max(-offset, 0)) if d == axis1 else along.shift(max(offset, 0)) if d == axis2 else next(rest)
        for d in range(ndim)
    )


def reshape_groups(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Ranges of old and new axes that hold the same elements, as fine as the sizes show."""
    starts: dict[Dim, int] = {}
    total: Dim = 1
    for i, d in enumerate(old):
        total = total * d
        starts[total] = i + 1
    groups = []
    o = n = 0
    total = 1
    for j, d in enumerate(new):
        total = total * d
        end = starts.get(total)
        if end is not None and end > o and total != 1:
            groups.append(((o, end), (n, j + 1)))
            o, n = end, j + 1
    if o < len(old) or n < len(new):
        if groups:  # trailing ones
            (o0, _), (n0, _) = groups.pop()
            groups.append(((o0, len(old)), (n0, len(new))))
        else:
            groups.append(((0, len(old)), (0, len(new))))
    return groups


def _divide_const(c: Dim, by: Dim) -> tuple[Dim, Dim]:
    """Quotient and remainder of a constant part: only a part that divides exactly goes to the quotient."""
    if isinstance(c, int) and isinstance(by, int):
        return c // by, c % by
    if isinstance(c, Expr) and dim_mod(c, by) == 0:
        return dim_floordiv(c, by), 0
    return 0, c


def dense_size(shape: Iterable[Dim]) -> Dim:
    """The number of elements."""
    return product(shape)
