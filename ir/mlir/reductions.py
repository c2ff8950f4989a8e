"""Reductions, scans and products in MLIR: `linalg.generic` with reduction axes, and `scf` loops along an axis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.ir.dtypes import DType, i64
from stager.ir.graph import Node
from stager.ir.mlir.arrays import Emit, identity_map, may_be_empty
from stager.ir.mlir.writer import Scalar, Tensor, element, tensor
from stager.ir.types import Type


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
    ins = [(x, identity_map(x.type.ndim))]
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
    if any(map(may_be_empty, t.shape)):
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
        d = identity_map(t.ndim)
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
    return list(f.w.generic(ins, [(start, identity_map(t.ndim))], body, count, range(free, count)))


REDUCTIONS: dict[str, Emit] = {
    **{f"reduce_{name}": reduction for name in MONOIDS},
    "argmax": arg_reduction, "argmin": arg_reduction, "dot": dot,
    "cumsum": scan, "cumprod": scan, "cummax": scan, "cummin": scan, "recurrence": scan,
}  # fmt: skip
