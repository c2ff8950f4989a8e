"""Array ops in MLIR: one function per op, from the tensors of its operands to those of its results.

Views and updates with positive steps are `tensor` ops; what those cannot say (negative steps, diagonals, windows,
gathers) is a `linalg.generic` whose body computes where to read. Scans, scatters and sorts are `scf` loops over
tensors, sequential and simple: this form is for checking and exchange, the fast one is `codegen/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.ir.dims import Dim
from stager.ir.dtypes import DType, dtype_of, i64
from stager.ir.graph import Node
from stager.ir.mlir.scalars import Scalars, literal
from stager.ir.mlir.writer import Scalar, Tensor, Writer, element, tensor
from stager.ir.types import Type

Emit = Callable[[Any, Node, list[Tensor]], list[Tensor]]  # (function emitter, node, operands) -> results


def _identity(rank: int) -> str:
    return ", ".join(f"d{k}" for k in range(rank))


# -- sources -----------------------------------------------------------------------------------------------------------


def constant(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t = node.types[0]
    return [Tensor(f.w.op(f"arith.constant {_dense(node.params['value'])} : {tensor(t)}"), t)]


def _dense(value: np.ndarray[Any, Any]) -> str:
    dtype = dtype_of(value.dtype)
    if value.size == 0:
        return "dense<>"
    if value.size > 64 and dtype.kind != "b":
        data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
        return f'dense<"0x{data.hex().upper()}">'

    def nested(a: Any) -> str:
        return f"[{', '.join(map(nested, a))}]" if isinstance(a, list) else literal(dtype, a)

    return f"dense<{nested(value.tolist())}>"


def fill(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t = node.types[0]
    value = f.b.const(t.dtype, np.asarray(node.params["value"]).astype(t.dtype.np).item())
    return [f.w.of_scalar(value) if t.ndim == 0 else f.w.filled(value, t)]


def iota(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t = node.types[0]
    return [f.w.compute(t, lambda at: f.b.convert(f.w.from_index(at[0], i64), t.dtype))]


def dim(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [f.w.of_scalar(f.w.from_index(f.w.dim(node.params["dim"]), i64))]


# -- elementwise -------------------------------------------------------------------------------------------------------


def elementwise(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """Any elementwise op, through its own lowering."""
    t = node.types[0]
    lower = node.op.lower
    assert lower is not None, node.op
    if t.ndim == 0:
        value = lower(f.b, *[f.w.extract(x) for x in args], **node.params)
        return [f.w.of_scalar(value)]
    d = _identity(t.ndim)
    outs = [(f.w.empty(t), d)]
    return list(f.w.generic([(x, d) for x in args], outs, lambda i, _: [lower(f.b, *i, **node.params)], t.ndim))


# -- views -------------------------------------------------------------------------------------------------------------


def reshape(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [_reshaped(f, args[0], node.types[0])]


def _reshaped(f: Any, x: Tensor, t: Type) -> Tensor:
    w: Writer = f.w
    if x.type.shape == t.shape:
        return x
    if t.ndim == 0:
        return w.of_scalar(w.extract(x, [w.index(0)] * x.type.ndim))
    if x.type.ndim == 0:
        return w.filled(w.extract(x), t)
    dims = ", ".join(w.dim(d) for d in t.shape)
    shape_type = f"tensor<{t.ndim}xindex>"
    shape = w.op(f"tensor.from_elements {dims} : {shape_type}")
    text = f"tensor.reshape {x.name}({shape}) : ({tensor(x.type)}, {shape_type}) -> {tensor(t)}"
    return Tensor(w.op(text), t)


def transpose(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t, perm = node.types[0], node.params["perm"]
    if t.ndim == 0:
        return [args[0]]
    out = f.w.empty(t)
    head = f"linalg.transpose ins({args[0].name} : {tensor(args[0].type)}) outs({out.name} : {tensor(t)})"
    return [Tensor(f.w.op(f"{head} permutation = [{', '.join(map(str, perm))}]"), t)]


def broadcast(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), t = args, node.types[0]
    shape, axes = node.params["shape"], node.params["axes"]
    if t.ndim == 0:
        return [x]
    places = ", ".join(f"d{k}" if d == shape[k] else "0" for d, k in zip(x.type.shape, axes, strict=True))
    return list(f.w.generic([(x, places)], [(f.w.empty(t), _identity(t.ndim))], lambda i, _: i, t.ndim))


def _affine(f: Any, index: str, start: Dim, step: int) -> str:
    w: Writer = f.w
    moved = index if step == 1 else w.arith("muli", index, w.index(step))
    return moved if start == 0 else w.arith("addi", moved, w.dim(start))


def slice_(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), p = args, node.params
    if x.type.ndim == 0:
        return [x]
    if all(s > 0 for s in p["steps"]) and not any(_may_be_empty(d) for d in node.types[0].shape):
        return [f.w.slice(x, p["starts"], p["sizes"], p["steps"])]

    def read(at: list[str]) -> Scalar:
        where = [_affine(f, i, a, s) for i, a, s in zip(at, p["starts"], p["steps"], strict=True)]
        return f.w.extract(x, where)  # type: ignore[no-any-return]

    return [f.w.compute(node.types[0], read)]


def _may_be_empty(d: Dim) -> bool:
    """An empty slice may start outside the array, which the tensor ops forbid."""
    return isinstance(d, int) and d == 0


def diagonal(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), p = args, node.params

    def read(at: list[str]) -> Scalar:
        where = list(at[:-1])
        for axis, start in sorted(((p["axis1"], max(0, -p["offset"])), (p["axis2"], max(0, p["offset"])))):
            where.insert(axis, _affine(f, at[-1], start, 1))
        return f.w.extract(x, where)  # type: ignore[no-any-return]

    return [f.w.compute(node.types[0], read)]


def windows(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), axis, step = args, node.params["axis"], node.params["step"]

    def read(at: list[str]) -> Scalar:
        where = list(at[:-1])
        where[axis] = f.w.arith("addi", _affine(f, at[axis], 0, step), at[-1])
        return f.w.extract(x, where)  # type: ignore[no-any-return]

    return [f.w.compute(node.types[0], read)]


# -- structural --------------------------------------------------------------------------------------------------------


def slice_update(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, value), p = args, node.params
    if x.type.ndim == 0:
        return [value]
    if any(_may_be_empty(d) for d in value.type.shape):
        return [x]
    flipped = [s < 0 for s in p["steps"]]
    starts: Sequence[Dim] = p["starts"]
    if any(flipped):

        def turned(at: list[str]) -> Scalar:
            last = [f.w.dim(d - 1) for d in value.type.shape]
            where = [f.w.arith("subi", e, i) if on else i for i, e, on in zip(at, last, flipped, strict=True)]
            return f.w.extract(value, where)  # type: ignore[no-any-return]

        source = f.w.compute(value.type, turned)
        low = [a + (n - 1) * s for a, n, s in zip(p["starts"], p["sizes"], p["steps"], strict=True)]
        starts = [lo if on else a for a, lo, on in zip(p["starts"], low, flipped, strict=True)]
        return [f.w.insert_slice(x, source, starts, p["sizes"], [abs(s) for s in p["steps"]])]
    return [f.w.insert_slice(x, value, starts, p["sizes"], p["steps"])]


def diagonal_update(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, value), p = args, node.params
    w: Writer = f.w
    a1, a2, offset = p["axis1"], p["axis2"], p["offset"]

    def element_at(at: list[str]) -> Scalar:
        row = _affine(f, at[a1], min(0, offset), 1)  # the position on the diagonal, if this is one
        col = _affine(f, at[a2], -max(0, offset), 1)
        same = w.op(f"arith.cmpi eq, {row}, {col} : index")
        rest = [i for k, i in enumerate(at) if k not in (a1, a2)]
        inside = w.op(f"arith.cmpi sge, {row}, {w.index(0)} : index")
        hit = w.op(f"arith.andi {same}, {inside} : i1")
        t = element(x.type.dtype)
        (name,) = w.branch(hit, [t], lambda: [w.extract(value, [*rest, row]).name], lambda: [w.extract(x, at).name])
        return Scalar(name, x.type.dtype)

    return [w.compute(x.type, element_at)]


def pad(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, value), p, t = args, node.params, node.types[0]
    if t.ndim == 0:
        return [x]
    out = f.w.filled(f.w.extract(value), t)
    if any(_may_be_empty(d) for d in x.type.shape):
        return [out]
    return [f.w.insert_slice(out, x, p["low"], x.type.shape, [g + 1 for g in p["interior"]])]


def concatenate(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t, axis = node.types[0], node.params["axis"]
    out = f.w.empty(t)
    offset: Dim = 0
    for x in args:
        starts = [offset if k == axis else 0 for k in range(t.ndim)]
        if not any(_may_be_empty(d) for d in x.type.shape):
            out = f.w.insert_slice(out, x, starts, x.type.shape, [1] * t.ndim)
        offset = offset + x.type.shape[axis]
    return [out]


# -- reductions and scans ----------------------------------------------------------------------------------------------


def _lowest(dtype: DType) -> Any:
    return -np.inf if dtype.is_float else 0 if dtype.kind in "bu" else -(2 ** (dtype.bits - 1))


def _highest(dtype: DType) -> Any:
    if dtype.is_float:
        return np.inf
    return 1 if dtype.kind == "b" else 2 ** (dtype.bits - (dtype.kind == "i")) - 1


MONOIDS: dict[str, tuple[str, Callable[[DType], Any]]] = {
    "sum": ("add", lambda d: 0),
    "prod": ("mul", lambda d: 1),
    "max": ("maximum", _lowest),
    "min": ("minimum", _highest),
    "or": ("or_", lambda d: 0),
    "and": ("and_", lambda d: 1 if d.kind == "b" else -1),
}


def reduction(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), t, axes = args, node.types[0], node.params["axes"]
    method, identity = MONOIDS[node.op.name.removeprefix("reduce_")]
    start = f.w.filled(f.b.const(t.dtype, identity(t.dtype)), t)
    kept = ", ".join(f"d{k}" for k in range(x.type.ndim) if k not in axes)
    combine = getattr(f.b, method)
    ins = [(x, _identity(x.type.ndim))]
    return list(f.w.generic(ins, [(start, kept)], lambda i, o: [combine(o[0], i[0])], x.type.ndim, axes))


def arg_reduction(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), axis, t = args, node.params["axis"], node.types[0]
    w, b = f.w, f.b
    beats = b.gt if node.op.name == "argmax" else b.lt

    def first(at: list[str]) -> Scalar:
        def value(i: str) -> Scalar:
            return w.extract(x, [*at[:axis], i, *at[axis:]])  # type: ignore[no-any-return]

        start = [(value(w.index(0)).name, element(x.type.dtype)), (b.const(i64, 0).name, "i64")]

        def step(i: str, carried: list[str]) -> list[str]:
            best, v = Scalar(carried[0], x.type.dtype), value(i)
            better = b.or_(beats(v, best), b.and_(b.isnan(v), b.not_(b.isnan(best))))
            if x.type.dtype.is_float:
                better = b.and_(better, b.not_(b.isnan(best)))
            position = b.select(better, w.from_index(i, i64), Scalar(carried[1], i64))
            return [b.select(better, v, best).name, position.name]

        _, position = w.for_loop(w.index(1), w.dim(x.type.shape[axis]), start, step)
        return Scalar(position, i64)

    return [w.compute(t, first)]


def scan(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """Along the axis, one position after the other; the operand's own first position is the first result."""
    x, axis, reverse = args[-1], node.params["axis"], node.params["reverse"]
    w, b = f.w, f.b
    t = x.type
    if any(map(_may_be_empty, t.shape)):
        return [x]
    n = w.dim(t.shape[axis])

    def position(i: str, back: int) -> str:
        """Of the element that is visited i-th, or as many before it as `back` says."""
        k: str = w.arith("subi", i, w.index(back)) if back else i
        return w.arith("subi", w.arith("subi", n, w.index(1)), k) if reverse else k

    def line(source: Tensor, at: str) -> Tensor:
        starts = [at if k == axis else "0" for k in range(t.ndim)]
        sizes = [1 if k == axis else d for k, d in enumerate(t.shape)]
        cut = Type(t.dtype, tuple(sizes))
        box = w._box(starts, sizes, [1] * t.ndim)
        return Tensor(w.op(f"tensor.extract_slice {source.name}{box} : {tensor(t)} to {tensor(cut)}"), cut)

    def step(i: str, carried: list[str]) -> list[str]:
        out, here = Tensor(carried[0], t), position(i, 0)
        before = line(out, position(i, 1))
        d = _identity(t.ndim)
        ins = [(before, d), *[(line(a, here), d) for a in args]]
        made = w.generic(ins, [(w.empty(before.type), d)], combine, t.ndim)[0]
        starts = [here if k == axis else 0 for k in range(t.ndim)]
        return [w.insert_slice(out, made, starts, before.type.shape, [1] * t.ndim).name]

    def combine(i: list[Scalar], _: list[Scalar]) -> list[Scalar]:
        if node.op.name == "recurrence":
            return [b.add(b.mul(i[1], i[0]), i[2])]
        method, _identity_of = MONOIDS[node.op.name.removeprefix("cum")]
        return [getattr(b, method)(i[0], i[1])]

    (out,) = w.for_loop(w.index(1), n, [(x.name, tensor(t))], step)
    return [Tensor(out, t)]


# -- contractions ------------------------------------------------------------------------------------------------------


def dot(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, y), t = args, node.types[0]
    contract, batch = node.params["contract"], node.params["batch"]
    names: list[dict[int, str]] = [{}, {}]
    count = 0
    for k in range(len(batch[0])):
        for side in (0, 1):
            names[side][batch[side][k]] = f"d{count}"
        count += 1
    for side, operand in enumerate((x, y)):
        for k in range(operand.type.ndim):
            if k not in batch[side] and k not in contract[side]:
                names[side][k] = f"d{count}"
                count += 1
    free = count
    for k in range(len(contract[0])):
        for side in (0, 1):
            names[side][contract[side][k]] = f"d{count}"
        count += 1
    ins = [(v, ", ".join(names[s][k] for k in range(v.type.ndim))) for s, v in enumerate((x, y))]
    start = f.w.filled(f.b.const(t.dtype, 0), t)
    body = lambda i, o: [f.b.add(o[0], f.b.mul(i[0], i[1]))]  # noqa: E731
    return list(f.w.generic(ins, [(start, _identity(t.ndim))], body, count, range(free, count)))


# -- gather and scatter ------------------------------------------------------------------------------------------------


def _resolved(f: Any, index: Scalar, extent: str, mode: str) -> str:
    """The position that an index means, in bounds whatever it is."""
    w, b = f.w, f.b
    n = w.from_index(extent, i64)
    zero = b.const(i64, 0)
    if mode == "wrap":
        index = b.mod(index, n)
    elif mode != "clip":
        index = b.select(b.lt(index, zero), b.add(index, n), index)
    last = b.sub(n, b.const(i64, 1))
    inside: str = w.to_index(b.maximum(zero, b.minimum(index, last)))
    return inside


def _place(f: Any, x: Type, at: Sequence[str], where: list[str], node: Node, shape_rank: int) -> list[str]:
    """The position in x for position `at` of gather's result, `where` being the indexed axes' positions."""
    axes, batch = node.params["axes"], node.params["batch_dims"]
    rest = iter(at[shape_rank:])
    indexed = dict(zip(axes, where, strict=True))
    return [at[k] if k < batch else indexed[k] if k in indexed else next(rest) for k in range(x.ndim)]


def _check_indices(f: Any, x: Tensor, indices: Sequence[Tensor], node: Node) -> None:
    """For mode "check": an IndexError with NumPy's text for the first index that is out of bounds."""
    if node.params["mode"] != "check":
        return
    w, b = f.w, f.b
    for index, axis in zip(indices, node.params["axes"], strict=True):
        n = w.from_index(w.dim(x.type.shape[axis]), i64)

        def find(i: list[Scalar], o: list[Scalar], n: Scalar = n) -> list[Scalar]:
            bad = b.or_(b.lt(i[0], b.neg(n)), b.ge(i[0], n))
            first = b.and_(bad, b.not_(o[0]))
            return [b.or_(o[0], bad), b.select(first, i[0], o[1])]

        rank = index.type.ndim
        b1, whole = Type(f.b1, ()), Type(i64, ())
        outs = [(w.filled(b.const(f.b1, False), b1), ""), (w.filled(b.const(i64, 0), whole), "")]
        found, value = w.generic([(index, _identity(rank))], outs, find, rank, range(rank))
        ok = b.not_(w.extract(found))
        f.check(ok, [w.extract(value), b.const(i64, axis), n], "IndexError", BAD_INDEX)


BAD_INDEX = "index {0} is out of bounds for axis {1} with size {2}"


def gather(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    x, *indices = args
    w: Writer = f.w
    _check_indices(f, x, indices, node)
    rank = indices[0].type.ndim

    def read(at: list[str]) -> Scalar:
        where = []
        for index, axis in zip(indices, node.params["axes"], strict=True):
            where.append(_resolved(f, w.extract(index, at[:rank]), w.dim(x.type.shape[axis]), node.params["mode"]))
        return w.extract(x, _place(f, x.type, at, where, node, rank))

    return [w.compute(node.types[0], read)]


def scatter(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    x, updates, *indices = args
    w, b = f.w, f.b
    _check_indices(f, x, indices, node)
    rank = indices[0].type.ndim
    combine = {"add": b.add, "mul": b.mul, "min": b.minimum, "max": b.maximum}.get(node.params["combine"])

    def write(at: list[str], out: Tensor) -> Tensor:
        where = []
        for index, axis in zip(indices, node.params["axes"], strict=True):
            where.append(_resolved(f, w.extract(index, at[:rank]), w.dim(x.type.shape[axis]), node.params["mode"]))
        place = _place(f, x.type, at, where, node, rank)
        value = w.extract(updates, at)
        if combine is not None:
            value = combine(w.extract(out, place), value)
        return w.insert(out, value, place)  # type: ignore[no-any-return]

    return [nest(f, updates.type.shape, x, write)]


def nest(f: Any, shape: Sequence[Dim], start: Tensor, body: Callable[[list[str], Tensor], Tensor]) -> Tensor:
    """Loops over all positions of `shape` that carry one tensor."""
    w: Writer = f.w
    t = start.type

    def level(at: list[str], x: Tensor) -> Tensor:
        if len(at) == len(shape):
            return body(at, x)

        def step(i: str, carried: list[str]) -> list[str]:
            return [level([*at, i], Tensor(carried[0], t)).name]

        (name,) = w.for_loop(w.index(0), w.dim(shape[len(at)]), [(x.name, tensor(t))], step)
        return Tensor(name, t)

    return level([], start)


def positions(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """One pass over each line: the next place takes every position, until its element is true."""
    (mask,), (t,) = args, node.types
    w, b = f.w, f.b
    out = w.filled(b.const(i64, 0), t)
    lines, n = mask.type.shape[:-1], w.dim(mask.type.shape[-1])
    last = w.arith("subi", w.dim(t.shape[-1]), w.index(1))
    if t.size == 0:
        return [out]

    def line(at: list[str], out: Tensor) -> Tensor:
        def step(i: str, carried: list[str]) -> list[str]:
            result, k = Tensor(carried[0], t), Scalar(carried[1], i64)
            here = w.extract(mask, [*at, i])
            place = [*at, w.to_index(b.minimum(k, w.from_index(last, i64)))]
            found = b.and_(here, b.le(k, w.from_index(last, i64)))
            value = b.select(found, w.from_index(i, i64), w.extract(result, place))
            return [w.insert(result, value, place).name, b.add(k, b.convert(here, i64)).name]

        start = [(out.name, tensor(t)), (b.const(i64, 0).name, "i64")]
        return Tensor(w.for_loop(w.index(0), n, start, step)[0], t)

    return [nest(f, lines, out, line)]


# -- sort --------------------------------------------------------------------------------------------------------------


def _before(b: Scalars, x: Scalar, y: Scalar) -> Scalar:
    """x < y, where NaN comes last."""
    less = b.lt(x, y)
    return b.or_(less, b.and_(b.isnan(y), b.not_(b.isnan(x)))) if x.dtype.is_float else less


def sort(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """Neighbours that stand wrong change places, n times over: stable, and no faster than n**2."""
    w, b = f.w, f.b
    axis, keys = node.params["axis"], node.params["num_keys"]
    shape = args[0].type.shape
    types = [(x.type, tensor(x.type)) for x in args]

    def swap(at: list[str], names: list[str], j: str) -> list[str]:
        here = [*at[:axis], j, *at[axis:]]
        there = [*at[:axis], w.arith("addi", j, w.index(1)), *at[axis:]]
        lines = [Tensor(n, t) for n, (t, _) in zip(names, types, strict=True)]
        pairs = [(w.extract(x, here), w.extract(x, there)) for x in lines]
        wrong = b.const(f.b1, False)
        tied = b.const(f.b1, True)
        for left, right in pairs[:keys]:
            wrong = b.or_(wrong, b.and_(tied, _before(b, right, left)))
            tied = b.and_(tied, b.not_(b.or_(_before(b, right, left), _before(b, left, right))))
        out = []
        for x, (left, right) in zip(lines, pairs, strict=True):
            x = w.insert(x, b.select(wrong, right, left), here)
            out.append(w.insert(x, b.select(wrong, left, right), there).name)
        return out

    def bubble(at: list[str], names: list[str]) -> list[str]:
        n = w.dim(shape[axis])

        def outer(i: str, carried: list[str]) -> list[str]:
            end = w.arith("subi", w.arith("subi", n, i), w.index(1))
            carries = [(c, t) for c, (_, t) in zip(carried, types, strict=True)]
            return w.for_loop(w.index(0), end, carries, lambda j, c: swap(at, c, j))  # type: ignore[no-any-return]

        carries = [(c, t) for c, (_, t) in zip(names, types, strict=True)]
        return w.for_loop(w.index(0), n, carries, outer)  # type: ignore[no-any-return]

    def lines(at: list[str], names: list[str], k: int) -> list[str]:
        if k == len(shape):
            return bubble(at, names)
        if k == axis:
            return lines(at, names, k + 1)
        carries = [(c, t) for c, (_, t) in zip(names, types, strict=True)]
        body = lambda i, c: lines([*at, i], c, k + 1)  # noqa: E731
        return w.for_loop(w.index(0), w.dim(shape[k]), carries, body)  # type: ignore[no-any-return]

    results = lines([], [x.name for x in args], 0)
    return [Tensor(name, x.type) for name, x in zip(results, args, strict=True)]


def searchsorted(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """How many elements of the line stand before the value."""
    a, v = args
    w, b = f.w, f.b
    lines = a.type.ndim - 1

    def count(at: list[str]) -> Scalar:
        value = w.extract(v, at)

        def step(i: str, carried: list[str]) -> list[str]:
            element_ = w.extract(a, [*at[:lines], i])
            left = node.params["side"] == "left"
            before = _before(b, element_, value) if left else b.not_(_before(b, value, element_))
            return [b.add(Scalar(carried[0], i64), b.convert(before, i64)).name]

        start = [(b.const(i64, 0).name, "i64")]
        (total,) = w.for_loop(w.index(0), w.dim(a.type.shape[-1]), start, step)
        return Scalar(total, i64)

    return [w.compute(node.types[0], count)]


ARRAYS: dict[str, Emit] = {
    "constant": constant, "fill": fill, "iota": iota, "dim": dim,
    "reshape": reshape, "transpose": transpose, "broadcast": broadcast, "slice": slice_, "diagonal": diagonal,
    "windows": windows, "slice_update": slice_update, "diagonal_update": diagonal_update, "pad": pad,
    "concatenate": concatenate, "argmax": arg_reduction, "argmin": arg_reduction, "dot": dot,
    **{f"reduce_{name}": reduction for name in MONOIDS},
    "cumsum": scan, "cumprod": scan, "cummax": scan, "cummin": scan, "recurrence": scan,
    "gather": gather, "scatter": scatter, "positions": positions, "sort": sort, "searchsorted": searchsorted,
}  # fmt: skip
