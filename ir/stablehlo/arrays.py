"""Array ops in StableHLO: one function per op, from the arrays of its operands to those of its results.

Sizes are numbers; positions may follow a loop's index. There are no errors: an index out of bounds means the nearest
element, as the mode "clip" says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.ir.dims import is_static
from stager.ir.dtypes import DType, b1, dtype_of, i64
from stager.ir.graph import Node
from stager.ir.mlir.reductions import MONOIDS
from stager.ir.mlir.writer import Scalar, Tensor
from stager.ir.stablehlo.elements import Elements, Uncovered, element_text, tensor
from stager.ir.types import Type

Emit = Callable[[Any, Node, list[Tensor]], list[Tensor]]  # (function emitter, node, operands) -> results
Combine = Callable[[Elements, list[Scalar]], list[Scalar]]  # scalars of a region -> what it returns


def listed(numbers: Sequence[Any]) -> str:
    return f"[{', '.join(map(str, numbers))}]"


def call(f: Any, op: str, args: Sequence[Tensor], t: Type, attributes: str = "") -> Tensor:
    """One op with a function type."""
    names, types = ", ".join(a.name for a in args), ", ".join(tensor(a.type) for a in args)
    return Tensor(f.w.op(f"stablehlo.{op} {names}{attributes} : ({types}) -> {tensor(t)}"), t)


def region(f: Any, dtypes: Sequence[DType], body: Combine) -> None:
    """The lines of a region on scalars, in the braces that the caller opens."""
    b = Elements(f.w, ())
    with f.w.block():
        inner = [Scalar(f.w.fresh("a"), d) for d in dtypes]
        f.w.put(f"^bb0({', '.join(f'{s.name}: {b.type(s.dtype)}' for s in inner)}):")
        out = body(b, inner)
        f.w.yields("stablehlo.return", [s.name for s in out], [b.type(s.dtype) for s in out])


def with_region(
    f: Any, op: str, args: Sequence[Tensor], types: Sequence[Type], attributes: str, dtypes: Sequence[DType], body: Any
) -> list[Tensor]:
    """One op with a region, in the generic form."""
    names = f.w.ops(f'"stablehlo.{op}"({", ".join(a.name for a in args)}) <{{{attributes}}}> ({{', len(types))
    region(f, dtypes, body)
    taken, given = ", ".join(tensor(a.type) for a in args), ", ".join(map(tensor, types))
    f.w.put(f"}}) : ({taken}) -> {given}" if len(types) == 1 else f"}}) : ({taken}) -> ({given})")
    return [Tensor(name, t) for name, t in zip(names, types, strict=True)]


def elementwise(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """Any elementwise op, through its own lowering."""
    assert node.op.lower is not None, node.op
    t = node.types[0]
    made = node.op.lower(Elements(f.w, t.shape), *[Scalar(x.name, x.type.dtype) for x in args], **node.params)
    return [Tensor(made.name, t)]


# -- sources -----------------------------------------------------------------------------------------------------------


def of_array(f: Any, value: np.ndarray[Any, Any]) -> Tensor:
    """A constant."""
    t = Type(dtype_of(value.dtype), value.shape)

    def nested(a: Any) -> str:
        return f"[{', '.join(map(nested, a))}]" if isinstance(a, list) else element_text(t.dtype, a)

    if value.size and value.size > 64 and t.dtype is not b1:
        data = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).tobytes()
        text = f'"0x{data.hex().upper()}"'
    else:
        text = nested(value.tolist()) if value.size else ""
    return Tensor(f.w.op(f"stablehlo.constant dense<{text}> : {tensor(t)}"), t)


def constant(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [of_array(f, node.params["value"])]


def splat(f: Any, value: Any, t: Type) -> Tensor:
    """An array of one literal."""
    return Tensor(Elements(f.w, t.shape).const(t.dtype, value).name, t)


def fill(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t = node.types[0]
    return [splat(f, np.asarray(node.params["value"]).astype(t.dtype.np).item(), t)]


def iota(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    t = node.types[0]
    counted = Type(i64, t.shape)
    numbers = Scalar(f.w.op(f"stablehlo.iota dim = 0 : {tensor(counted)}"), i64)
    return [Tensor(Elements(f.w, t.shape).convert(numbers, t.dtype).name, t)]


def dim(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [f.dim(node.params["dim"])]


# -- views -------------------------------------------------------------------------------------------------------------


def reshape(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [reshaped(f, args[0], node.types[0].shape)]


def reshaped(f: Any, x: Tensor, shape: Sequence[Any]) -> Tensor:
    t = Type(x.type.dtype, tuple(shape))
    return x if t == x.type else call(f, "reshape", [x], t)


def transpose(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [call(f, "transpose", args, node.types[0], f", dims = {listed(node.params['perm'])}")]


def broadcast(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [spread(f, args[0], node.types[0].shape, node.params["axes"])]


def spread(f: Any, x: Tensor, shape: Sequence[Any], axes: Sequence[int]) -> Tensor:
    """x's axes at the places `axes` of a larger shape."""
    return call(f, "broadcast_in_dim", [x], Type(x.type.dtype, tuple(shape)), f", dims = {listed(axes)}")


def flipped(f: Any, x: Tensor, axes: Sequence[int]) -> Tensor:
    if not axes:
        return x
    return Tensor(f.w.op(f"stablehlo.reverse {x.name}, dims = {listed(axes)} : {tensor(x.type)}"), x.type)


def slice_(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), p, t = args, node.params, node.types[0]
    starts, sizes, steps = p["starts"], p["sizes"], p["steps"]
    if not t.ndim:
        return [x]
    if 0 in sizes:
        return [splat(f, 0, t)]
    if not all(map(is_static, starts)):
        if any(s != 1 for s in steps):
            raise Uncovered("a step at a position that only the run knows")
        return [call(f, "dynamic_slice", [x, *map(f.dim, starts)], t, f", sizes = {listed(sizes)}")]
    backward = [k for k, s in enumerate(steps) if s < 0]
    low = [a if s > 0 else a + (n - 1) * s for a, n, s in zip(starts, sizes, steps, strict=True)]
    ranges = [f"{a}:{a + (n - 1) * abs(s) + 1}:{abs(s)}" for a, n, s in zip(low, sizes, steps, strict=True)]
    text = f"stablehlo.slice {x.name} {listed(ranges)} : ({tensor(x.type)}) -> {tensor(t)}"
    return [flipped(f, Tensor(f.w.op(text), t), backward)]


def _diagonal_positions(axis1: int, axis2: int, offset: int, n: Any) -> np.ndarray[Any, Any]:
    """(n, 2): where the elements of a diagonal stand on the lower and the higher of its axes."""
    along = np.arange(n)
    places = {axis1: along + max(0, -offset), axis2: along + max(0, offset)}
    return np.stack([places[k] for k in sorted(places)], axis=1)


def diagonal(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), p, t = args, node.params, node.types[0]
    if 0 in t.shape:
        return [splat(f, 0, t)]
    positions = of_array(f, _diagonal_positions(p["axis1"], p["axis2"], p["offset"], t.shape[-1]))
    axes = sorted((p["axis1"], p["axis2"]))
    return [gathered(f, x, positions, axes, t, offset_dims=range(t.ndim - 1))]


def windows(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x,), t, axis, step = args, node.types[0], node.params["axis"], node.params["step"]
    if 0 in t.shape:
        return [splat(f, 0, t)]
    tensor(t)
    positions = np.arange(t.shape[axis])[:, None] * step + np.arange(t.shape[-1])[None, :]  # type: ignore[arg-type]
    rest = [k for k in range(t.ndim - 1) if k != axis]
    return [gathered(f, x, of_array(f, positions[..., None]), [axis], t, offset_dims=rest)]


# -- structural --------------------------------------------------------------------------------------------------------


def slice_update(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, value), p, t = args, node.params, node.types[0]
    starts, sizes, steps = p["starts"], p["sizes"], p["steps"]
    if not t.ndim:
        return [value]
    if 0 in sizes:
        return [x]
    if all(s == 1 for s in steps):
        return [call(f, "dynamic_update_slice", [x, value, *map(f.dim, starts)], t)]
    if not all(map(is_static, starts)):
        raise Uncovered("a step at a position that only the run knows")
    value = flipped(f, value, [k for k, s in enumerate(steps) if s < 0])
    low = [a if s > 0 else a + (n - 1) * s for a, n, s in zip(starts, sizes, steps, strict=True)]
    covered = [(n - 1) * abs(s) + 1 for n, s in zip(sizes, steps, strict=True)]
    high = [d - a - n for d, a, n in zip(t.shape, low, covered, strict=True)]
    gaps = [abs(s) - 1 for s in steps]
    zero, hit = splat(f, 0, Type(t.dtype, ())), splat(f, True, Type(b1, value.type.shape))
    b = Elements(f.w, t.shape)
    placed = padded(f, value, zero, low, high, gaps, t)
    where = padded(f, hit, splat(f, False, Type(b1, ())), low, high, gaps, Type(b1, t.shape))
    made = b.select(Scalar(where.name, b1), Scalar(placed.name, t.dtype), Scalar(x.name, t.dtype))
    return [Tensor(made.name, t)]


def diagonal_update(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, value), p = args, node.params
    if 0 in value.type.shape:
        return [x]
    positions = _diagonal_positions(p["axis1"], p["axis2"], p["offset"], value.type.shape[-1])
    axes = sorted((p["axis1"], p["axis2"]))
    return [scattered(f, x, value, of_array(f, positions), axes, range(value.type.ndim - 1), lambda b, a: [a[1]])]


def padded(f: Any, x: Tensor, value: Tensor, low: Any, high: Any, interior: Any, t: Type) -> Tensor:
    tensor(t)
    amounts = f", low = {listed(low)}, high = {listed(high)}, interior = {listed(interior)}"
    return call(f, "pad", [x, value], t, amounts)


def pad(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    p, t = node.params, node.types[0]
    if not t.ndim:
        return [args[0]]
    return [padded(f, args[0], args[1], p["low"], p["high"], p["interior"], t)]


def concatenate(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    return [call(f, "concatenate", args, node.types[0], f", dim = {node.params['axis']}")]


# -- reductions and scans ----------------------------------------------------------------------------------------------


def _monoid(name: str) -> tuple[Combine, Callable[[DType], Any]]:
    method, identity = MONOIDS[name]
    return lambda b, a: [getattr(b, method)(*a)], identity


def reduce(f: Any, xs: Sequence[Tensor], starts: Sequence[Any], axes: Sequence[int], body: Combine) -> list[Tensor]:
    """Over axes, with one region for all operands."""
    dtypes = [x.type.dtype for x in xs]
    initial = [splat(f, start, Type(d, ())) for start, d in zip(starts, dtypes, strict=True)]
    kept = tuple([d for k, d in enumerate(xs[0].type.shape) if k not in axes])
    dims = f"dimensions = array<i64: {', '.join(map(str, axes))}>" if axes else "dimensions = array<i64>"
    return with_region(f, "reduce", [*xs, *initial], [Type(d, kept) for d in dtypes], dims, dtypes * 2, body)


def reduction(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    body, identity = _monoid(node.op.name.removeprefix("reduce_"))
    return reduce(f, args, [identity(args[0].type.dtype)], node.params["axes"], body)


def arg_reduction(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """The first of the best, where NaN is better than anything."""
    (x,), axis = args, node.params["axis"]
    positions = Tensor(f.w.op(f"stablehlo.iota dim = {axis} : {tensor(Type(i64, x.type.shape))}"),
                       Type(i64, x.type.shape))  # fmt: skip
    largest = node.op.name == "argmax"

    def better(b: Elements, s: list[Scalar]) -> list[Scalar]:
        v, i, w, j = s
        beats = b.gt if largest else b.lt
        wins = b.or_(beats(v, w), b.and_(b.isnan(v), b.not_(b.isnan(w))))
        loses = b.or_(beats(w, v), b.and_(b.isnan(w), b.not_(b.isnan(v))))
        first = b.or_(wins, b.and_(b.not_(loses), b.lt(i, j)))
        return [b.select(first, v, w), b.select(first, i, j)]

    _, identity = MONOIDS["max" if largest else "min"]
    return reduce(f, [x, positions], [identity(x.type.dtype), 2**63 - 1], [axis], better)[1:]


def scan(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """Every prefix as a window of its own."""
    (x,), axis, t = args, node.params["axis"], node.types[0]
    if 0 in t.shape:
        return [x]
    tensor(t)
    body, identity = _monoid(node.op.name.removeprefix("cum"))
    n: Any = t.shape[axis]
    before = (0, n - 1) if node.params["reverse"] else (n - 1, 0)
    sides = [list(before) if k == axis else [0, 0] for k in range(t.ndim)]
    size = [n if k == axis else 1 for k in range(t.ndim)]
    attributes = (
        f"padding = dense<{sides}> : tensor<{t.ndim}x2xi64>,"
        f" window_dimensions = array<i64: {', '.join(map(str, size))}>"
    )
    initial = splat(f, identity(t.dtype), Type(t.dtype, ()))
    return with_region(f, "reduce_window", [x, initial], [t], attributes, [t.dtype] * 2, body)


def dot(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    contract, batch, t = node.params["contract"], node.params["batch"], node.types[0]
    if not t.dtype.is_float:
        raise Uncovered(f"a product of {t.dtype}")
    batching = f", batching_dims = {listed(batch[0])} x {listed(batch[1])}" if batch[0] else ""
    contracting = f", contracting_dims = {listed(contract[0])} x {listed(contract[1])}"
    return [call(f, "dot_general", args, t, batching + contracting)]


# -- gather and scatter ------------------------------------------------------------------------------------------------


def gathered(
    f: Any, x: Tensor, positions: Tensor, axes: Sequence[int], t: Type, offset_dims: Sequence[int], batch: int = 0
) -> Tensor:
    """x at positions (their last axis counts `axes`), single elements along those and whole along the others."""
    sizes = [1 if k in axes or k < batch else d for k, d in enumerate(x.type.shape)]
    numbers = _numbers("offset_dims", offset_dims, "collapsed_slice_dims", axes, "operand_batching_dims",
                       range(batch), "start_indices_batching_dims", range(batch), "start_index_map", axes)  # fmt: skip
    last = positions.type.ndim - 1
    attributes = (
        f"dimension_numbers = #stablehlo.gather<{numbers}, index_vector_dim = {last}>,"
        f" slice_sizes = array<i64: {', '.join(map(str, sizes))}>"
    )
    args = f"{x.name}, {positions.name}"
    types = f"({tensor(x.type)}, {tensor(positions.type)}) -> {tensor(t)}"
    return Tensor(f.w.op(f'"stablehlo.gather"({args}) <{{{attributes}}}> : {types}'), t)


def _numbers(*pairs: Any) -> str:
    """Named lists, without the empty ones."""
    named = zip(pairs[::2], pairs[1::2], strict=True)
    return ", ".join(f"{name} = {listed(list(dims))}" for name, dims in named if list(dims))


def scattered(
    f: Any, x: Tensor, updates: Tensor, positions: Tensor, axes: Sequence[int], window: Sequence[int], body: Combine,
    batch: int = 0,
) -> Tensor:  # fmt: skip
    """x with updates combined into it at positions."""
    numbers = _numbers("update_window_dims", window, "inserted_window_dims", axes, "input_batching_dims",
                       range(batch), "scatter_indices_batching_dims", range(batch),
                       "scatter_dims_to_operand_dims", axes)  # fmt: skip
    last = positions.type.ndim - 1
    attributes = f"scatter_dimension_numbers = #stablehlo.scatter<{numbers}, index_vector_dim = {last}>"
    dtype = x.type.dtype
    return with_region(f, "scatter", [x, positions, updates], [x.type], attributes, [dtype, dtype], body)[0]


def _positions(f: Any, x: Tensor, indices: Sequence[Tensor], node: Node) -> Tensor:
    """The indices of all axes side by side, each in bounds."""
    columns = []
    shape = indices[0].type.shape
    b = Elements(f.w, shape)
    for index, axis in zip(indices, node.params["axes"], strict=True):
        n, zero = b.const(i64, x.type.shape[axis]), b.const(i64, 0)
        i = b.convert(Scalar(index.name, index.type.dtype), i64)
        if node.params["mode"] == "wrap":
            i = b.mod(i, n)
        elif node.params["mode"] != "clip":
            i = b.select(b.lt(i, zero), b.add(i, n), i)
        i = b.maximum(zero, b.minimum(i, b.sub(n, b.const(i64, 1))))
        columns.append(reshaped(f, Tensor(i.name, Type(i64, shape)), (*shape, 1)))
    if len(columns) == 1:
        return columns[0]
    t = Type(i64, (*shape, len(columns)))
    return call(f, "concatenate", columns, t, f", dim = {len(shape)}")


def _is_empty(x: Tensor, t: Type, node: Node) -> bool:
    return 0 in t.shape or any(x.type.shape[axis] == 0 for axis in node.params["axes"])


def gather(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    (x, *indices), t = args, node.types[0]
    if _is_empty(x, t, node):
        return [splat(f, 0, t)]
    rank = indices[0].type.ndim
    positions = _positions(f, x, indices, node)
    return [gathered(f, x, positions, node.params["axes"], t, range(rank, t.ndim), node.params["batch_dims"])]


def scatter(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    x, updates, *indices = args
    if _is_empty(x, updates.type, node):
        return [x]
    combine = {"add": "add", "mul": "mul", "min": "minimum", "max": "maximum"}.get(node.params["combine"])

    def body(b: Elements, s: list[Scalar]) -> list[Scalar]:
        return [s[1] if combine is None else getattr(b, combine)(s[0], s[1])]

    window = range(indices[0].type.ndim, updates.type.ndim)
    positions = _positions(f, x, indices, node)
    return [scattered(f, x, updates, positions, node.params["axes"], window, body, node.params["batch_dims"])]


# -- sort --------------------------------------------------------------------------------------------------------------


def _before(b: Elements, x: Scalar, y: Scalar) -> Scalar:
    """x < y, where NaN comes last."""
    less = b.lt(x, y)
    return b.or_(less, b.and_(b.isnan(y), b.not_(b.isnan(x)))) if x.dtype.is_float else less


def sort(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    def first(b: Elements, s: list[Scalar]) -> list[Scalar]:
        wins, tied = b.const(b1, False), b.const(b1, True)
        for k in range(node.params["num_keys"]):
            x, y = s[2 * k : 2 * k + 2]
            wins = b.or_(wins, b.and_(tied, _before(b, x, y)))
            tied = b.and_(tied, b.not_(b.or_(_before(b, x, y), _before(b, y, x))))
        return [wins]

    types = [x.type for x in args]
    attributes = f"dimension = {node.params['axis']} : i64, is_stable = true"
    return with_region(f, "sort", args, types, attributes, [t.dtype for t in types for _ in (0, 1)], first)


def searchsorted(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """How many elements of the line stand before the value: all are compared."""
    a, v = args
    lines, t = a.type.ndim - 1, node.types[0]
    shape = (*v.type.shape, a.type.shape[-1])
    if 0 in shape:
        return [splat(f, 0, t)]
    b = Elements(f.w, shape)
    element = Scalar(spread(f, a, shape, [*range(lines), len(shape) - 1]).name, a.type.dtype)
    value = Scalar(spread(f, v, shape, range(len(shape) - 1)).name, a.type.dtype)
    left = node.params["side"] == "left"
    stands = b.convert(_before(b, element, value) if left else b.not_(_before(b, value, element)), i64)
    body, _ = _monoid("sum")
    return reduce(f, [Tensor(stands.name, Type(i64, shape))], [0], [len(shape) - 1], body)


def positions(f: Any, node: Node, args: list[Tensor]) -> list[Tensor]:
    """All positions, those of true elements first: a stable sort by the mask."""
    (mask,), t = args, node.types[0]
    lines, shape = mask.type.ndim - 1, mask.type.shape
    kind = tensor(t)
    if t.size == 0:
        return [splat(f, 0, t)]
    numbers = f.w.op(f"stablehlo.iota dim = {lines} : {tensor(Type(i64, shape))}")
    pair = [mask, Tensor(numbers, Type(i64, shape))]

    def first(b: Elements, s: list[Scalar]) -> list[Scalar]:
        return [b.and_(s[0], b.not_(s[1]))]

    attributes = f"dimension = {lines} : i64, is_stable = true"
    _, order = with_region(f, "sort", pair, [x.type for x in pair], attributes, [b1, b1, i64, i64], first)
    ranges = listed([f"0:{n}:1" for n in (*shape[:-1], t.shape[-1])])
    return [Tensor(f.w.op(f"stablehlo.slice {order.name} {ranges} : ({tensor(order.type)}) -> {kind}"), t)]


ARRAYS: dict[str, Emit] = {
    "constant": constant, "fill": fill, "iota": iota, "dim": dim,
    "reshape": reshape, "transpose": transpose, "broadcast": broadcast, "slice": slice_, "diagonal": diagonal,
    "windows": windows, "slice_update": slice_update, "diagonal_update": diagonal_update, "pad": pad,
    "concatenate": concatenate, "argmax": arg_reduction, "argmin": arg_reduction, "dot": dot,
    **{f"reduce_{name}": reduction for name in MONOIDS},
    "cumsum": scan, "cumprod": scan, "cummax": scan, "cummin": scan,
    "gather": gather, "scatter": scatter, "positions": positions, "sort": sort,
    "searchsorted": searchsorted,
}  # fmt: skip
