"""sort and searchsorted.

Sorting is a radix sort over bytes of a key that orders as NumPy orders: `ordered` maps an element to an unsigned
integer, NaN last, -0.0 equal to 0.0. Elements move unchanged, so equal keys keep their order and their bits.
Invariant: the permutation is the one stable one, so no choice made here for speed can be seen; only an unstable sort
of floats alone may tell -0.0 from 0.0.

Several keys are sorted last key first, each time stably, with the positions as payload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llvmlite.ir as ir

from stager.codegen.declarations import VOID
from stager.codegen.emit import I64, PTR, FunctionEmitter, i64
from stager.codegen.program import Buffer, Routine, Store
from stager.codegen.registers import Val, memory_type
from stager.codegen.routines import RoutineSpec
from stager.codegen.routines.lines import Lines, each_line, lines_of, moved_by, when
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.structured import Code
from stager.ir.dims import Expr, floordiv
from stager.ir.dtypes import DTYPES, DType, b1
from stager.ir.dtypes import i64 as dtype_i64
from stager.ir.graph import Node, Value
from stager.ir.types import Type

if TYPE_CHECKING:
    from stager.codegen.lower import Walk

INSERTION = 48
"""Lines up to this length are sorted by insertion."""
SEARCHES = 4
"""Binary searches that run side by side."""


# -- order ------------------------------------------------------------------------------------------------------------


def stored(dtype: DType) -> DType:
    """The dtype that an element is kept in while it moves: booleans as the bytes that they are."""
    return DTYPES["u8"] if dtype is b1 else dtype


def ordered(b: ScalarBuilder, x: Val) -> Val:
    """An unsigned integer of the same width that orders as NumPy orders x."""
    dtype = x.dtype
    if dtype.kind == "u":
        return x
    unsigned = DTYPES[f"u{dtype.bits}"]
    top = b.const(unsigned, 1 << (dtype.bits - 1))
    if dtype.kind == "i":
        return b.xor(Val(x.ir, unsigned), top)
    # adding 0.0 makes -0.0 a 0.0; then negative numbers are flipped whole, the others in the sign bit
    bits = b.bitcast(b.add(x, b.const(dtype, 0.0)), DTYPES[f"i{dtype.bits}"])
    sign = Val(b.builder.ashr(bits.ir, ir.Constant(bits.ir.type, dtype.bits - 1)), unsigned)
    key = b.xor(Val(bits.ir, unsigned), b.or_(sign, top))
    return b.select(b.isnan(x), b.const(unsigned, (1 << dtype.bits) - 1), key)


def less(b: ScalarBuilder, x: Val, y: Val) -> Any:
    """i1: whether x comes before y."""
    if x.dtype.kind != "f":
        return b.lt(x, y).ir
    return b.builder.and_(b.builder.fcmp_unordered("<", x.ir, y.ir), b.builder.fcmp_ordered("ord", x.ir, x.ir))


# -- one line ---------------------------------------------------------------------------------------------------------


def line_function(e: FunctionEmitter, key: DType, payload: DType | None = None, stable: bool = True) -> Any:
    """`void (keys, sorted, work[, payload, sorted, work], n)`, one per module. Keys may be sorted where they are."""
    mapped = key.kind == "f" and payload is None and not stable
    name = f"stager_sort_{key}" + (f"_{payload}" if payload else "") + ("_mapped" if mapped else "")
    found = e.module.globals.get(name)
    if found is not None:
        return found
    return _mapped_line(e, name, key) if mapped else _Line(e, name, key, payload).emit()


def _mapped_line(e: FunctionEmitter, name: str, key: DType) -> Any:
    """Floats alone, -0.0 before 0.0: turned into integers once, sorted as such, turned back."""
    bits = DTYPES[f"u{key.bits}"]
    integers = line_function(e, bits)
    c = Code(e.module, name, VOID, [("from", PTR), ("to", PTR), ("work", PTR), ("n", I64)], linkage="internal")
    n, to = c.arg("n"), c.arg("to")
    lanes = e.target.lanes(key)

    def convert(source: Any, change: Any) -> None:
        whole = c.and_(n, -lanes)
        for width, start, stop in ((lanes, i64(0), whole), (1, whole, n)):
            sb = ScalarBuilder(c.b, width, e.target, e.m.functions)
            with c.for_range(start, stop, width) as i:
                x = sb.load(c.element(source, memory_type(bits), i), bits)
                sb.store(change(sb, x), c.element(to, memory_type(bits), i))

    def to_integer(sb: ScalarBuilder, x: Val) -> Val:
        top = sb.const(bits, 1 << (key.bits - 1))
        x = sb.select(sb.isnan(sb.bitcast(x, key)), sb.and_(x, sb.not_(top)), x)
        return sb.xor(x, sb.or_(_sign(sb, x), top))

    def to_float(sb: ScalarBuilder, x: Val) -> Val:
        return sb.xor(x, sb.or_(_sign(sb, sb.not_(x)), sb.const(bits, 1 << (key.bits - 1))))

    convert(c.arg("from"), to_integer)
    c.call(integers, args=[to, to, c.arg("work"), n])
    convert(to, to_float)
    c.ret()
    return c.finish()


def _sign(sb: ScalarBuilder, x: Val) -> Val:
    """All ones where the highest bit is set."""
    signed = DTYPES[f"i{x.dtype.bits}"]
    negative = sb.lt(Val(x.ir, signed), sb.const(signed, 0))
    return sb.select(negative, sb.const(x.dtype, -1), sb.const(x.dtype, 0))


class _Line:
    """One function that sorts a line: by insertion when it is short, else by the bytes that the range of its keys has.

    Of many bytes only the upper ones are sorted by at first. What is then out of order, equal in these, is rarely much:
    insertion repairs it. Where it would move too many, all bytes are sorted by, from the lowest on.
    """

    ROUND = 4

    def __init__(self, e: FunctionEmitter, name: str, key: DType, payload: DType | None) -> None:
        self.dtypes = [key] if payload is None else [key, payload]
        params = [(f"{n}{k}", PTR) for k in range(len(self.dtypes)) for n in ("from", "to", "work")]
        self.c = Code(e.module, name, VOID, [*params, ("n", I64)], linkage="internal")
        self.sb = ScalarBuilder(self.c.b, 1, e.target, e.m.functions)
        self.types = [memory_type(d) for d in self.dtypes]
        self.n = self.c.arg("n")
        self.bytes = key.itemsize

    def pointers(self, which: str) -> list[Any]:
        return [self.c.arg(f"{which}{k}") for k in range(len(self.dtypes))]

    def load(self, pointers: list[Any], i: Any) -> list[Any]:
        c = self.c
        return [c.load(c.element(p, t, i), t, align=d.itemsize) for p, t, d in self.rows(pointers)]

    def store(self, values: list[Any], pointers: list[Any], i: Any) -> None:
        c = self.c
        for v, (p, t, d) in zip(values, self.rows(pointers), strict=True):
            c.store(v, c.element(p, t, i), align=d.itemsize)

    def rows(self, pointers: list[Any]) -> Any:
        return zip(pointers, self.types, self.dtypes, strict=False)  # the keys alone, or all

    def order(self, pointers: list[Any], i: Any) -> Any:
        """What the key of element i is ordered by, as an i64."""
        x = self.load(pointers[:1], i)[0]
        return self.c.zext(ordered(self.sb, Val(x, self.dtypes[0])).ir, I64)

    def key(self, pointers: list[Any], i: Any) -> Any:
        """`order`, counted from the lowest."""
        return self.c.sub(self.order(pointers, i), self.low)

    def emit(self) -> Any:
        c = self.c
        with c.if_(c.le(self.n, INSERTION)):
            self.insertion(self.pointers("from"), self.pointers("to"))
            c.ret()
        self.radix()
        c.ret()
        return c.finish()

    def insertion(self, source: list[Any], to: list[Any], budget: Any = None, after: Any = None) -> None:
        """Sorts from `source` to `to` (maybe the same). With a budget of moves, jumps to `after` when it is used up."""
        c, key = self.c, self.dtypes[0]
        j = c.var(I64)
        with c.for_range(0, self.n) as i:
            values = self.load(source, i)
            j.set(i)
            with c.loop():
                before = c.sub(j.get(), 1)
                c.break_if(c.lt(before, 0))
                c.break_if(c.not_(less(self.sb, Val(values[0], key), Val(self.load(to[:1], before)[0], key))))
                self.store(self.load(to, before), to, j.get())
                j.set(before)
            self.store(values, to, j.get())
            if budget is not None:
                budget.set(c.sub(budget.get(), c.sub(i, j.get())))
                c.goto_if(c.lt(budget.get(), 0), after, likely=False)

    def radix(self) -> None:
        c = self.c
        self.table = c.alloca(ir.ArrayType(I64, 256 * min(self.bytes, self.ROUND)), align=64)
        source, to, work = (self.pointers(x) for x in ("from", "to", "work"))
        low, high = c.var(I64, self.order(source, i64(0))), c.var(I64, self.order(source, i64(0)))
        with c.for_range(0, self.n) as i:
            x = self.order(source, i)
            low.set(c.select(c.ult(x, low.get()), x, low.get()))
            high.set(c.select(c.ult(high.get(), x), x, high.get()))
        self.low = low.get()
        bits = c.sub(64, c.b.ctlz(c.sub(high.get(), self.low), ir.Constant(ir.IntType(1), 0)))
        count = c.lshr(c.add(bits, 7), 3)
        # two bytes tell most of a hundred elements apart, three those of two thousand
        enough = c.select(c.le(self.n, 128), i64(2), c.select(c.le(self.n, 2048), i64(3), i64(self.ROUND)))
        self.here = [c.var(PTR, p) for p in source]
        # an odd number of passes begins with `to`, so that all end there; not when that is where the keys are
        some = c.gt(count, enough)
        odd = c.ne(c.and_(c.select(some, enough, count), 1), 0)
        direct = c.and_(odd, c.ne(source[0], to[0]))
        self.there = [c.var(PTR, c.b.select(direct, t, w)) for t, w in zip(to, work, strict=True)]
        self.after = [c.var(PTR, c.b.select(direct, w, t)) for t, w in zip(to, work, strict=True)]
        every, done = c.label("every"), c.label("done")
        c.goto_if(c.not_(some), every)
        self.round(c.sub(bits, c.mul(enough, 8)), enough)
        self.bring_home()
        budget = c.var(I64, c.mul(self.n, 2))
        self.insertion(to, to, budget, every)
        c.goto(done)
        c.place(every)
        at = c.var(I64, 0)
        with c.while_(lambda: c.lt(at.get(), count)):
            self.round(c.mul(at.get(), 8), c.min(c.sub(count, at.get()), self.ROUND))
            at.set(c.add(at.get(), self.ROUND))
        self.bring_home()
        c.goto(done)
        c.place(done)

    def bring_home(self) -> None:
        """The elements into `to`, with `work` free."""
        c = self.c
        rows = zip(
            self.here, self.there, self.after, self.pointers("to"), self.pointers("work"), self.dtypes, strict=True
        )
        for here, there, after, to, work, d in rows:
            with c.if_(c.ne(here.get(), to)):
                c.copy(to, here.get(), c.mul(self.n, d.itemsize))
            here.set(to)
            there.set(work)
            after.set(to)

    def round(self, start: Any, count: Any) -> None:
        """Sorts by `count` <= ROUND bytes, the lowest first, from bit `start` on."""
        c = self.c
        slots = min(self.bytes, self.ROUND)
        # a byte that is not sorted by is read as if it were, but within the word
        shifts = [c.min(c.add(start, 8 * p), 63) for p in range(slots)]
        c.fill(self.table, 0, 2048 * slots)
        source = [v.get() for v in self.here]
        with c.for_range(0, self.n) as i:
            order = self.key(source, i)
            for p, shift in enumerate(shifts):
                place = c.element(self.table, I64, c.add(c.and_(c.lshr(order, shift), 255), 256 * p))
                c.store(c.add(c.load(place, I64), 1), place)
        sums = [c.var(I64, 0) for _ in range(slots)]
        with c.for_range(0, 256) as d:
            for p, total in enumerate(sums):
                place = c.element(self.table, I64, c.add(d, 256 * p))
                below = total.get()
                total.set(c.add(below, c.load(place, I64)))
                c.store(below, place)
        with c.for_range(0, count) as p:
            offsets = c.element(self.table, I64, c.mul(p, 256))
            shift = c.add(start, c.mul(p, 8))
            source, to = [v.get() for v in self.here], [v.get() for v in self.there]
            with c.for_range(0, self.n) as i:
                place = c.element(offsets, I64, c.and_(c.lshr(self.key(source, i), shift), 255))
                at = c.load(place, I64)
                c.store(c.add(at, 1), place)
                self.store(self.load(source, i), to, at)
            for here, there, after in zip(self.here, self.there, self.after, strict=True):
                target = there.get()
                there.set(after.get())
                after.set(target)
                here.set(target)


# -- the routine ------------------------------------------------------------------------------------------------------


def lower_sort(w: Walk, node: Node) -> bool:
    """The sorted axis is brought last: as a copy when it is not."""
    axis, ndim = node.params["axis"], node.args[0].type.ndim
    results = [Value(node, k) for k in range(len(node.args))]
    if node.types[0].size == 0:
        for v in results:
            w.result(v)
        return True
    perm = [*(k for k in range(ndim) if k != axis), axis]
    straight = axis == ndim - 1
    inputs = [_dense(w, v) if straight else _permuted(w, v, perm) for v in node.args]
    read = {id(b.storage) for b in inputs}
    outputs = []
    for v in results:
        home = w.homes.get((id(node) << 20) + v.index)
        if straight and (home is None or id(home.storage) not in read):
            outputs.append(w.result(v))
        else:
            outputs.append(w.ctx.temp(Type(v.type.dtype, tuple(v.shape[k] for k in perm))))
    scratch = [w.ctx.temp(Type(b.dtype, b.shape), "w") for b in outputs]
    if len(node.args) > 2 or node.params["num_keys"] > 1:
        kinds = {b.dtype.itemsize: b for b in inputs[: node.params["num_keys"]]}
        extra = [Type(dtype_i64, inputs[0].shape)] * 3  # positions, and the two buffers that they move between
        extra += [Type(b.dtype, b.shape) for b in kinds.values()]
        scratch += [w.ctx.temp(t, "w") for t in extra]
    w.steps.append(Routine("sort", node, inputs, outputs, scratch))
    for v, b in zip(results, outputs, strict=True):
        if straight:
            w.ctx.buffers[(id(node) << 20) + v.index] = b
            continue
        out = w.result(v)
        sb = w.stage()
        index = [sb.axis(d) for d in v.shape]
        sb.stores.append(Store(out, sb.address(out, index), sb.load(b, sb.address(b, [index[k] for k in perm]))))
        w.steps.append(sb.finish("sorted"))
    return True


def _dense(w: Walk, v: Value) -> Buffer:
    b = w.realise(v)
    if b.is_dense:
        return b
    copy = w.ctx.temp(v.type)
    w.write(w.origin(v), copy)
    return copy


def _permuted(w: Walk, v: Value, perm: list[int]) -> Buffer:
    """A dense copy with its axes in another order."""
    b = w.ctx.temp(Type(v.type.dtype, tuple(v.shape[k] for k in perm)))
    sb = w.stage()
    index = [sb.axis(d) for d in v.shape]
    value = sb.pull(w.origin(v), tuple(index))
    sb.stores.append(Store(b, sb.address(b, [index[k] for k in perm]), value))
    w.steps.append(sb.finish("lines"))
    return b


def emit_sort(e: FunctionEmitter, call: Routine) -> None:
    """The code of one sort."""
    shape = call.outputs[0].shape
    length = shape[-1]
    count, keys = len(call.inputs), call.node.params["num_keys"]
    buffers = [*call.inputs, *call.outputs, *call.scratch]
    lines = lines_of(buffers, [len(shape) - 1])
    dtypes = [stored(b.dtype) for b in call.inputs]
    if count <= 2 and keys == 1:
        stable = call.node.params["stable"]
        function = line_function(e, dtypes[0], dtypes[1] if count == 2 else None, stable)

        def line(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
            trios = [at[k + count * j] for k in range(count) for j in range(3)]
            e.b.call(function, [*trios, e.dim(length)])

        each_line(e, lines, buffers, 12.0 + 8 * count, length, line)
        return

    functions = {d.name: line_function(e, d, dtype_i64) for d in dtypes[:keys]}
    moves = {d.name: gather_function(e, d) for d in dtypes}

    def several(e: FunctionEmitter, at: list[Any], _: list[Any]) -> None:
        b, n = e.b, e.dim(length)
        inputs, outputs, work = at[:count], at[count : 2 * count], at[2 * count : 3 * count]
        order, spare, other, *taken = at[3 * count :]
        sizes = [d.itemsize for d in {d.itemsize: d for d in dtypes[:keys]}.values()]
        by_size = dict(zip(sizes, taken, strict=True))
        with e.loop(0, length, name="i") as i:
            b.store(i, e.offset(order, b.mul(i, i64(8))), align=8)
        for k in reversed(range(keys)):
            d = dtypes[k]
            source = by_size[d.itemsize]
            b.call(moves[d.name], [inputs[k], order, source, n])
            b.call(functions[d.name], [source, outputs[k], work[k], order, spare, other, n])
            order, spare = spare, order
        for k, d in enumerate(dtypes):
            b.call(moves[d.name], [inputs[k], order, outputs[k], n])

    each_line(e, lines, buffers, 25.0 * keys, length, several)


def gather_function(e: FunctionEmitter, dtype: DType) -> Any:
    """`void (from, positions, to, n)`: to[i] = from[positions[i]]."""
    name = f"stager_take_{dtype}"
    found = e.module.globals.get(name)
    if found is not None:
        return found
    c = Code(e.module, name, VOID, [("from", PTR), ("at", PTR), ("to", PTR), ("n", I64)], linkage="internal")
    t = memory_type(dtype)
    with c.for_range(0, c.arg("n")) as i:
        x = c.load(c.element(c.arg("from"), t, c.at(c.arg("at"), I64, i)), t, align=dtype.itemsize)
        c.store(x, c.element(c.arg("to"), t, i), align=dtype.itemsize)
    return c.finish()


# -- searchsorted -----------------------------------------------------------------------------------------------------


def emit_searchsorted(e: FunctionEmitter, call: Routine) -> None:
    """Binary searches without branches, a few side by side."""
    table, values = call.inputs
    (out,) = call.outputs
    if any(d == 0 for d in out.shape):
        return
    lines_ndim = len(table.shape) - 1
    n, step = table.shape[-1], table.strides[-1]
    strides = [[*table.strides[:-1], *[0] * (len(values.shape) - lines_ndim)], values.strides, out.strides]
    lines = Lines(values.shape, strides)
    dtype, right = stored(table.dtype), call.node.params["side"] == "right"
    count, steps = lines.pop() if lines.extents else (1, [0, 0, 0])
    divided = isinstance(count, Expr) or count > SEARCHES
    if divided:
        lines.extents.append(floordiv(count + (SEARCHES - 1), SEARCHES))
        for s, by in zip(lines.strides, steps, strict=True):
            s.append(by * SEARCHES)

    def search(e: FunctionEmitter, at: list[Any], width: int) -> None:
        b, sb = e.b, e.scalars(1)
        tables = [moved_by(e, at[0], j, steps[0]) for j in range(width)]
        wanted = [sb.load(moved_by(e, at[1], j, steps[1]), dtype) for j in range(width)]
        places = [e.alloca(I64, "at") for _ in range(width)]
        left = e.alloca(I64, "left")

        def before(j: int, k: Any) -> Any:
            x = sb.load(moved_by(e, tables[j], k, step), dtype)
            return b.not_(less(sb, wanted[j], x)) if right else less(sb, x, wanted[j])

        for p in places:
            b.store(i64(0), p)
        b.store(e.dim(n), left)
        head, body, done = (b.append_basic_block(x) for x in ("search", "halve", "found"))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(b.icmp_signed(">", b.load(left, typ=I64), i64(1)), body, done)
        b.position_at_end(body)
        rest = b.load(left, typ=I64)
        half = b.lshr(rest, i64(1))
        for j, p in enumerate(places):
            here = b.load(p, typ=I64)
            beyond = b.add(here, half)
            onward = b.select(before(j, b.sub(beyond, i64(1))), beyond, here)
            onward.set_metadata("unpredictable", e.module.add_metadata([]))  # else it becomes a branch
            b.store(onward, p)
        b.store(b.sub(rest, half), left)
        b.branch(head)
        b.position_at_end(done)
        with when(e, b.icmp_signed(">", e.dim(n), i64(0))):
            for j, p in enumerate(places):
                here = b.load(p, typ=I64)
                b.store(b.add(here, b.zext(before(j, here), I64)), p)
        for j, p in enumerate(places):
            b.store(b.load(p, typ=I64), moved_by(e, at[2], j, steps[2]), align=8)

    def group(e: FunctionEmitter, at: list[Any], index: list[Any]) -> None:
        if isinstance(count, int) and (not divided or count % SEARCHES == 0):
            search(e, at, SEARCHES if divided else count)
            return
        b = e.b
        rest = b.sub(e.dim(count), b.mul(index[-1], i64(SEARCHES)))
        many = b.icmp_signed(">=", rest, i64(SEARCHES))
        with when(e, many):
            search(e, at, SEARCHES)
        with when(e, b.not_(many)), e.loop(0, rest, name="v") as j:
            search(e, [moved_by(e, p, j, s) for p, s in zip(at, steps, strict=True)], 1)

    each_line(e, lines, [table, values, out], 80.0, 1, group)


ROUTINES = (
    RoutineSpec("sort", ("sort",), emit_sort, lower=lower_sort),
    RoutineSpec("searchsorted", ("searchsorted",), emit_searchsorted, strided=True),
)
