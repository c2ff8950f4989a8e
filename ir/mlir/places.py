"""Ops that move elements by their values, in MLIR: gathers, scatters, positions and sorts.

Scatters and sorts are `scf` loops over tensors, sequential and simple.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ir.graph import Node
from stager.ir.mlir.arrays import Emit, identity_map
from stager.ir.mlir.scalars import Scalars
from stager.ir.mlir.writer import Scalar, Tensor, Writer, tensor
from stager.ir.types import Type

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
        found, value = w.generic([(index, identity_map(rank))], outs, find, rank, range(rank))
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


PLACES: dict[str, Emit] = {
    "gather": gather, "scatter": scatter, "positions": positions, "sort": sort, "searchsorted": searchsorted,
}  # fmt: skip
