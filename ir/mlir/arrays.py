"""Array ops in MLIR: one function per op, from the tensors of its operands to those of its results.

Views and updates with positive steps are `tensor` ops; what those cannot say (negative steps, diagonals, windows,
gathers) is a `linalg.generic` whose body computes where to read. This form is for checking and exchange, the
fast one is `codegen/`.
Not here: reductions, scans and products (`reductions.py`), what moves elements by their values (`places.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.ir.dims import Dim
from stager.ir.dtypes import dtype_of, i64
from stager.ir.graph import Node
from stager.ir.mlir.scalars import literal
from stager.ir.mlir.writer import Scalar, Tensor, Writer, element, tensor
from stager.ir.types import Type

Emit = Callable[[Any, Node, list[Tensor]], list[Tensor]]  # (function emitter, node, operands) -> results


def identity_map(rank: int) -> str:
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
    d = identity_map(t.ndim)
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
    return list(f.w.generic([(x, places)], [(f.w.empty(t), identity_map(t.ndim))], lambda i, _: i, t.ndim))


def _affine(f: Any, index: str, start: Dim, step: int) -> str:
    w: Writer = f.w
    moved = index if step == 1 else w.arith("muli", index, w.index(step))
    return moved if start == 0 else w.arith("addi", moved, w.dim(start))


def slice_(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), p = args, node.params
    if x.type.ndim == 0:
        return [x]
    if all(s > 0 for s in p["steps"]) and not any(may_be_empty(d) for d in node.types[0].shape):
        return [f.w.slice(x, p["starts"], p["sizes"], p["steps"])]

    def read(at: list[str]) -> Scalar:
        where = [_affine(f, i, a, s) for i, a, s in zip(at, p["starts"], p["steps"], strict=True)]
        return f.w.extract(x, where)  # type: ignore[no-any-return]

    return [f.w.compute(node.types[0], read)]


def may_be_empty(d: Dim) -> bool:
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
    if any(may_be_empty(d) for d in value.type.shape):
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
    if any(may_be_empty(d) for d in x.type.shape):
        return [out]
    return [f.w.insert_slice(out, x, p["low"], x.type.shape, [g + 1 for g in p["interior"]])]


def concatenate(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t, axis = node.types[0], node.params["axis"]
    out = f.w.empty(t)
    offset: Dim = 0
    for x in args:
        starts = [offset if k == axis else 0 for k in range(t.ndim)]
        if not any(may_be_empty(d) for d in x.type.shape):
            out = f.w.insert_slice(out, x, starts, x.type.shape, [1] * t.ndim)
        offset = offset + x.type.shape[axis]
    return [out]


ARRAYS: dict[str, Emit] = {
    "constant": constant, "fill": fill, "iota": iota, "dim": dim,
    "reshape": reshape, "transpose": transpose, "broadcast": broadcast, "slice": slice_, "diagonal": diagonal,
    "windows": windows, "slice_update": slice_update, "diagonal_update": diagonal_update, "pad": pad,
    "concatenate": concatenate,
}  # fmt: skip
