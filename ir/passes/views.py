"""View resolution: chains of views become at most one of each kind, next to their sources, and identities vanish.

The canonical order of what stays, from the source outwards: slice, reshape, transpose, broadcast. A reshape that only
adds or drops axes of extent 1 moves through other views; a transpose that moves only such axes is a reshape; a
broadcast that repeats nothing is one too. Views of literals are literals. Elementwise ops of operands that are all
broadcast in one way run before the broadcast: on fewer elements, with the same results; so they do before reshapes and
transposes that all operands share, which then meet the views behind.

All rows are exact: they move elements and compute nothing. Extents are compared as dims, so that symbolic ones match
when they are the same expression. Not here: updates and concatenations (`updates.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stager.ir.core_ops import fill_op
from stager.ir.dims import Dim, floordiv, product
from stager.ir.graph import Node, Value
from stager.ir.passes.algebra import never_minus_zero
from stager.ir.rewrite import Replacement, Rewriter, Rules, made_by
from stager.ir.types import Type

Shape = tuple[Dim, ...]


def of_literal(rw: Rewriter, node: Node) -> Replacement:
    """view(fill c) -> fill c"""
    (x,) = node.args
    return rw.fill(x.node.params["value"], node.types[0]) if x.node.op is fill_op else None


# -- reshape -----------------------------------------------------------------------------------------------------------


def reshape(rw: Rewriter, node: Node) -> Replacement:
    """reshape x to its shape -> x; reshape(reshape x) -> reshape x; of a broadcast that adds unit axes -> reshape"""
    (x,), shape = node.args, node.params["shape"]
    if x.type.shape == shape:
        return x
    if made_by(x, "reshape"):
        return rw.emit("reshape", x.node.args[0], shape=shape)
    if made_by(x, "broadcast"):
        return _reshaped_broadcast(rw, x, shape)
    return None


def _reshaped_broadcast(rw: Rewriter, x: Value, shape: Shape) -> Replacement:
    """reshape(broadcast y) -> broadcast y when the reshape only adds or drops unit axes that y does not have"""
    places = unit_axes_only(x.type.shape, shape)
    if places is None:
        return None
    (y,), axes = x.node.args, x.node.params["axes"]
    if any(places[k] is None for k in axes):
        return None
    return rw.emit("broadcast", y, shape=shape, axes=tuple([places[k] for k in axes]))


def unit_axes_only(before: Shape, after: Shape) -> list[int | None] | None:
    """Where each axis of `before` goes when a reshape to `after` only adds and drops axes of extent 1; else None.

    A unit axis goes to the unit axis in its place, or nowhere.
    """
    places: list[int | None] = [None] * len(before)
    j = 0
    for i, d in enumerate(before):
        if d == 1:
            if j < len(after) and after[j] == 1:
                places[i] = j
                j += 1
            continue
        while j < len(after) and after[j] == 1:
            j += 1
        if j == len(after) or after[j] != d:
            return None
        places[i] = j
        j += 1
    return places if all(d == 1 for d in after[j:]) else None


# -- transpose ---------------------------------------------------------------------------------------------------------


def transpose(rw: Rewriter, node: Node) -> Replacement:
    """identity -> x; transpose(transpose x) -> transpose x; moves only unit axes -> reshape; before broadcast"""
    (x,), perm = node.args, node.params["perm"]
    if perm == tuple(range(len(perm))):
        return x
    if made_by(x, "transpose"):
        inner = x.node.params["perm"]
        return rw.emit("transpose", x.node.args[0], perm=tuple([inner[p] for p in perm]))
    kept = [p for p in perm if x.type.shape[p] != 1]
    if kept == sorted(kept):
        return rw.emit("reshape", x, shape=node.types[0].shape)
    if made_by(x, "broadcast"):
        return _transposed_broadcast(rw, x, perm)
    if made_by(x, "reshape"):
        return _transposed_reshape(rw, node, x)
    if made_by(x, "dot"):
        return _transposed_dot(rw, x, perm)
    return None


def _transposed_broadcast(rw: Rewriter, x: Value, perm: Sequence[int]) -> Replacement:
    """transpose(broadcast y) -> broadcast(transpose y)"""
    (y,), axes, shape = x.node.args, x.node.params["axes"], x.type.shape
    place = {p: k for k, p in enumerate(perm)}  # axis of x -> axis of the result
    moved = [place[a] for a in axes]
    order = sorted(range(len(moved)), key=moved.__getitem__)
    inner = rw.emit("transpose", y, perm=tuple(order))
    return rw.emit("broadcast", inner, shape=tuple([shape[p] for p in perm]), axes=tuple(sorted(moved)))


def _transposed_reshape(rw: Rewriter, node: Node, x: Value) -> Replacement:
    """transpose(reshape y) -> reshape(transpose y) when the reshape only adds unit axes"""
    (y,) = x.node.args
    places = unit_axes_only(y.type.shape, x.type.shape)
    if places is None or None in places:
        return None
    back = {p: k for k, p in enumerate(places)}
    moved = rw.emit("transpose", y, perm=tuple([back[p] for p in node.params["perm"] if p in back]))
    return rw.emit("reshape", moved, shape=node.types[0].shape)


def _transposed_dot(rw: Rewriter, x: Value, perm: Sequence[int]) -> Replacement:
    """transpose(dot(a, b)) -> dot(b, a) when it swaps a's and b's free axes as blocks"""
    a, b = x.node.args
    contract, batch = x.node.params["contract"], x.node.params["batch"]
    n = len(batch[0])
    free_a = len(a.type.shape) - n - len(contract[0])
    total = len(perm)
    if free_a in (0, total - n) or tuple(perm) != (*range(n), *range(n + free_a, total), *range(n, n + free_a)):
        return None
    if windows_in_front(a, b, free_a):
        return None
    return rw.emit("dot", b, a, contract=(contract[1], contract[0]), batch=(batch[1], batch[0]))


def windows_in_front(a: Value, b: Value, free_a: int) -> bool:
    """Whether dot(a, b) has windows with several free axes first, where they are read as they lie."""
    return free_a > 1 and _shows_windows(a) and not _shows_windows(b)


def _shows_windows(v: Value) -> bool:
    while made_by(v, "slice"):
        (v,) = v.node.args
    return made_by(v, "windows")


# -- broadcast ---------------------------------------------------------------------------------------------------------


def broadcast(rw: Rewriter, node: Node) -> Replacement:
    """repeats nothing -> reshape; broadcast(broadcast x) -> broadcast x; of added unit axes -> broadcast x"""
    (x,), shape, axes = node.args, node.params["shape"], node.params["axes"]
    if x.type.shape == shape:
        return x
    repeats = any(shape[k] != 1 for k in range(len(shape)) if k not in axes)
    if not repeats and all(d == shape[k] for d, k in zip(x.type.shape, axes, strict=True)):
        return rw.emit("reshape", x, shape=shape)
    if made_by(x, "broadcast"):
        inner = x.node.params["axes"]
        return rw.emit("broadcast", x.node.args[0], shape=shape, axes=tuple([axes[k] for k in inner]))
    if made_by(x, "reshape"):
        (y,) = x.node.args
        places = unit_axes_only(y.type.shape, x.type.shape)
        if places is not None and None not in places:
            return rw.emit("broadcast", y, shape=shape, axes=tuple([axes[k] for k in places if k is not None]))
    return _without_unit_axes(rw, x, shape, axes)


def _without_unit_axes(rw: Rewriter, x: Value, shape: Shape, axes: tuple[int, ...]) -> Replacement:
    """broadcast x[1,n] to [m,n] -> broadcast x[n] to [m,n]: unit axes of the operand say nothing"""
    kept = [k for k, d in enumerate(x.type.shape) if d != 1]
    if len(kept) == len(axes):
        return None
    y = rw.emit("reshape", x, shape=tuple([x.type.shape[k] for k in kept]))
    return rw.emit("broadcast", y, shape=shape, axes=tuple([axes[k] for k in kept]))


# -- slice -------------------------------------------------------------------------------------------------------------


def slice_(rw: Rewriter, node: Node) -> Replacement:
    """everything -> x; slice(slice x) -> slice x; a slice moves before transpose, broadcast, reshape"""
    (x,) = node.args
    starts, sizes, steps = node.params["starts"], node.params["sizes"], node.params["steps"]
    if sizes == x.type.shape and all(s == 1 for s in steps):
        return x
    steps_seen = tuple([1 if d == 1 else s for d, s in zip(sizes, steps, strict=True)])
    if steps_seen != steps:  # one element has no step
        return rw.emit("slice", x, starts=starts, sizes=sizes, steps=steps_seen)
    inner = x.node.params
    if made_by(x, "slice"):
        return rw.emit(
            "slice",
            x.node.args[0],
            starts=tuple([a + b * s for a, b, s in zip(inner["starts"], starts, inner["steps"], strict=True)]),
            sizes=sizes,
            steps=tuple([a * b for a, b in zip(inner["steps"], steps, strict=True)]),
        )
    if made_by(x, "transpose"):
        perm, source = inner["perm"], x.node.args[0]
        y = rw.emit("slice", source, **{k: _permuted_back(v, perm) for k, v in node.params.items()})
        return rw.emit("transpose", y, perm=perm)
    if made_by(x, "broadcast"):
        return _sliced_broadcast(rw, node, x)
    if made_by(x, "reshape"):
        return _sliced_reshape(rw, node, x)
    if made_by(x, "iota"):
        return _sliced_iota(rw, node, x)
    return None


def _permuted_back(values: Sequence[Dim], perm: Sequence[int]) -> Shape:
    out: list[Dim] = [0] * len(perm)
    for k, p in enumerate(perm):
        out[p] = values[k]
    return tuple(out)


def _sliced_broadcast(rw: Rewriter, node: Node, x: Value) -> Value:
    """slice(broadcast y) -> broadcast(slice y): repeated axes only change their extent"""
    (y,), axes = x.node.args, x.node.params["axes"]
    p, shape = node.params, x.type.shape
    repeated = [d == 1 and shape[k] != 1 for d, k in zip(y.type.shape, axes, strict=True)]
    inner = rw.emit(
        "slice",
        y,
        starts=tuple([0 if r else p["starts"][k] for r, k in zip(repeated, axes, strict=True)]),
        sizes=tuple([1 if r else p["sizes"][k] for r, k in zip(repeated, axes, strict=True)]),
        steps=tuple([1 if r else p["steps"][k] for r, k in zip(repeated, axes, strict=True)]),
    )
    return rw.emit("broadcast", inner, shape=p["sizes"], axes=axes)


def reshape_groups(before: Shape, after: Shape) -> list[tuple[range, range]] | None:
    """The axes of both shapes in the smallest runs with equal products: (axes before, axes after); None if unclear."""
    groups: list[tuple[range, range]] = []
    i = j = 0
    while i < len(before) or j < len(after):
        i0, j0 = i, j
        left: Dim = 1
        right: Dim = 1
        if i < len(before):
            left, i = before[i], i + 1
        if j < len(after):
            right, j = after[j], j + 1
        while left != right:
            smaller_left = _smaller(left, right)
            if smaller_left is None:
                return None
            if smaller_left and i < len(before):
                left, i = left * before[i], i + 1
            elif not smaller_left and j < len(after):
                right, j = right * after[j], j + 1
            else:
                return None
        groups.append((range(i0, i), range(j0, j)))
    return groups


def _smaller(a: Dim, b: Dim) -> bool | None:
    """Whether a must grow to reach b: one divides the other."""
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    if a != 0 and floordiv(b, a) * a == b:
        return True
    return False if b != 0 and floordiv(a, b) * b == a else None


def _sliced_reshape(rw: Rewriter, node: Node, x: Value) -> Replacement:
    """slice(reshape y) -> reshape(slice y) when every axis that the slice cuts is one axis of y"""
    (y,), p = x.node.args, node.params
    region = region_before_reshape(y.type.shape, x.type.shape, p)
    return None if region is None else rw.emit("reshape", rw.emit("slice", y, **region), shape=p["sizes"])


def region_before_reshape(before: Shape, after: Shape, p: Mapping[str, Any]) -> dict[str, Shape] | None:
    """The part (starts, sizes, steps) of an array before a reshape, when every axis cut is one axis there too, or a run
    of one axis there."""
    if any(d == 0 for d in before):
        return None
    groups = reshape_groups(before, after)
    if groups is None:
        return None
    starts: list[Dim] = [0] * len(before)
    sizes: list[Dim] = list(before)
    steps: list[Dim] = [1] * len(before)
    for mine, theirs in groups:
        cut = [k for k in theirs if p["sizes"][k] != after[k] or p["steps"][k] != 1]
        if not cut:
            continue
        own = [k for k in mine if before[k] != 1]
        i = own[0] if own else (mine[0] if len(mine) else None)
        if len(own) == 2 and len(cut) == 1:
            turn = _each_so_many(before[own[1]], *(p[name][cut[0]] for name in ("starts", "sizes", "steps")))
            if turn is None or after[cut[0]] != product(before[k] for k in mine):
                return None
            for k, (start, size) in zip(own, turn, strict=True):
                starts[k], sizes[k] = start, size
            continue
        if len(own) > 1 or i is None:
            return None
        if len(cut) == 1 and after[cut[0]] == product(before[k] for k in mine):
            (k,) = cut
            starts[i], sizes[i], steps[i] = p["starts"][k], p["sizes"][k], p["steps"][k]
            continue
        run = _run([after[k] for k in theirs], *([p[name][k] for k in theirs] for name in ("starts", "sizes", "steps")))
        if run is None:
            return None
        starts[i], sizes[i] = run
    return {"starts": tuple(starts), "sizes": tuple(sizes), "steps": tuple(steps)}


def _each_so_many(length: Dim, start: Dim, size: Dim, step: Dim) -> tuple[tuple[Dim, Dim], tuple[Dim, Dim]] | None:
    """(start, size) in rows of `length` and in each row, of a part that is one position of every row."""
    if step != length or not isinstance(start, int) or not isinstance(length, int):
        return None
    return (start // length, size), (start % length, 1)


def _run(extents: list[Dim], starts: list[Dim], sizes: list[Dim], steps: list[Dim]) -> tuple[Dim, Dim] | None:
    """(start, length) of a part that is a run in row-major order: single positions, one range, then everything."""
    start: Dim = 0
    length: Dim = 1
    ranged = False
    for d, at, size, step in zip(extents, starts, sizes, steps, strict=True):
        if step != 1 and size != 1:
            return None
        if ranged and size != d:
            return None
        start, length = start * d + at, length * size
        ranged = ranged or size != 1
    return start, length


def _sliced_iota(rw: Rewriter, node: Node, x: Value) -> Replacement:
    """slice(iota n) -> iota m when it starts at 0 with step 1"""
    p = node.params
    if p["starts"] == (0,) and p["steps"] == (1,):
        return rw.emit("iota", size=p["sizes"][0], dtype=x.type.dtype)
    return None


# -- elementwise, reductions -------------------------------------------------------------------------------------------


def before_broadcast(rw: Rewriter, node: Node) -> Replacement:
    """f(broadcast x, broadcast y, c) -> broadcast f(x, y, c), over the axes that some operand has"""
    widest: Node | None = None
    for a in node.args:
        n = a.node
        if n.op is fill_op:
            continue
        if n.op.name != "broadcast":
            return None
        if widest is None or len(n.params["axes"]) > len(widest.params["axes"]):
            widest = n
    if widest is None:
        return None
    axes, small = widest.params["axes"], widest.args[0].type.shape
    args: list[Value] = []
    for a in node.args:
        n = a.node
        if n.op is fill_op:
            args.append(rw.fill(n.params["value"], Type(a.type.dtype, small)))
        elif n.params["axes"] == axes and n.args[0].type.shape == small:
            args.append(n.args[0])
        elif set(n.params["axes"]) <= set(axes):
            places = tuple([axes.index(k) for k in n.params["axes"]])
            if any(d not in (1, small[k]) for d, k in zip(n.args[0].type.shape, places, strict=True)):
                return None
            args.append(rw.emit("broadcast", n.args[0], shape=small, axes=places))
        else:
            return None
    results = rw.emit_all(node.op, *args, **node.params)
    return tuple(rw.emit("broadcast", r, shape=widest.params["shape"], axes=axes) for r in results)


def before_layout(rw: Rewriter, node: Node) -> Replacement:
    """f(reshape x, reshape y, c) -> reshape f(x, y, c), and so for transposes, when x and y are laid out alike"""
    first: Node | None = None
    for a in node.args:
        n = a.node
        if n.op is fill_op:
            continue
        if n.op.name not in ("reshape", "transpose"):
            return None
        if first is None:
            first = n
        elif n.op is not first.op or n.params != first.params or n.args[0].type.shape != first.args[0].type.shape:
            return None
    if first is None:
        return None
    source = first.args[0].type.shape
    args = [
        rw.fill(a.node.params["value"], Type(a.type.dtype, source)) if a.node.op is fill_op else a.node.args[0]
        for a in node.args
    ]
    return tuple(rw.emit(first.op, r, **first.params) for r in rw.emit_all(node.op, *args, **node.params))


def converted_iota(rw: Rewriter, node: Node) -> Replacement:
    """convert(iota n) -> iota n in the other dtype, when that counts so far"""
    (x,), dtype = node.args, node.params["dtype"]
    if not made_by(x, "iota"):
        return None
    size = x.node.params["size"]
    reach = {"b": 0, "u": dtype.bits, "i": dtype.bits - 1}.get(dtype.kind, 53 if dtype.bits == 64 else 24)
    counts = size <= 2**reach if isinstance(size, int) else reach >= 53  # no array has 2**53 elements
    return rw.emit("iota", size=size, dtype=dtype) if counts and dtype.kind in "iuf" and dtype.bits >= 32 else None


def reduction(rw: Rewriter, node: Node) -> Replacement:
    """over no axes -> x; over repeated axes -> of what is repeated (sums of floats round less then: fast maths only);
    reduce(reduce x) -> reduce x
    """
    (x,), axes = node.args, node.params["axes"]
    if not axes:
        return x
    if x.node.op is node.op:
        return _reduced_twice(rw, node, x)
    if made_by(x, "broadcast") and (once := _reduced_once(rw, node, x)) is not None:
        return once
    if made_by(x, "broadcast") and node.op.name in ("reduce_max", "reduce_min", "reduce_or", "reduce_and"):
        return _reduced_broadcast(rw, node, x, None)
    if made_by(x, "broadcast") and node.op.name == "reduce_sum" and (rw.fast_math or x.type.dtype.is_integer):
        return _reduced_broadcast(rw, node, x, "mul")
    units = [k for k in axes if x.type.shape[k] == 1]
    if not units:
        return None
    if len(units) == len(axes) and node.op.name == "reduce_sum" and not (rw.fast_math or never_minus_zero(x)):
        return None  # the sum of one -0.0 is 0.0
    kept = [k for k in range(x.type.ndim) if k not in units]
    y = rw.emit("reshape", x, shape=tuple([x.type.shape[k] for k in kept]))
    return rw.emit(node.op, y, axes=tuple([kept.index(k) for k in axes if k not in units]))


def _reduced_once(rw: Rewriter, node: Node, x: Value) -> Replacement:
    """reduce(broadcast y) -> broadcast(reduce y) over axes that are only repeated"""
    (y,), axes = x.node.args, x.node.params["axes"]
    shape, reduced = x.type.shape, node.params["axes"]
    repeated = [k for k in range(len(shape)) if k not in axes and k not in reduced]
    if not repeated:
        return None
    kept = [k for k in range(len(shape)) if k not in repeated]
    smaller = rw.emit("broadcast", y, shape=tuple([shape[k] for k in kept]), axes=tuple([kept.index(k) for k in axes]))
    result = rw.emit(node.op, smaller, axes=tuple([kept.index(k) for k in reduced]))
    left = [k for k in range(len(shape)) if k not in reduced]
    places = tuple([n for n, k in enumerate(left) if k not in repeated])
    return rw.emit("broadcast", result, shape=node.types[0].shape, axes=places)


def _reduced_twice(rw: Rewriter, node: Node, x: Value) -> Replacement:
    """reduce(reduce x) -> reduce x over both: the order in which elements are visited is not part of the value"""
    inner = x.node.params["axes"]
    kept = [k for k in range(x.node.args[0].type.ndim) if k not in inner]
    axes = sorted([*inner, *(kept[k] for k in node.params["axes"])])
    return rw.emit(node.op, x.node.args[0], axes=tuple(axes))


def _reduced_broadcast(rw: Rewriter, node: Node, x: Value, times: str | None) -> Replacement:
    """max over an axis along which everything is equal, unless that axis is empty; a sum of n equal terms -> n times"""
    (y,), axes = x.node.args, x.node.params["axes"]
    shape, reduced = x.type.shape, node.params["axes"]
    repeated = [k for k in reduced if k not in axes and isinstance(shape[k], int) and shape[k] != 0]
    if not repeated:
        return None
    kept = [k for k in range(len(shape)) if k not in repeated]
    smaller = rw.emit("broadcast", y, shape=tuple([shape[k] for k in kept]), axes=tuple([kept.index(k) for k in axes]))
    result = rw.emit(node.op, smaller, axes=tuple([kept.index(k) for k in reduced if k not in repeated]))
    return (
        result if times is None else rw.emit(times, result, rw.fill(product(shape[k] for k in repeated), result.type))
    )


def scan_of_one(rw: Rewriter, node: Node) -> Replacement:
    """a scan along an axis of one element -> x"""
    (x,) = node.args
    return x if x.type.shape[node.params["axis"]] == 1 and node.types[0] == x.type else None


VIEWS: Rules = {
    "family:view": (of_literal,),
    "reshape": (reshape,),
    "transpose": (transpose,),
    "broadcast": (broadcast,),
    "slice": (slice_,),
    "convert": (converted_iota,),
    "family:elementwise": (before_broadcast, before_layout),
    **{f"reduce_{name}": (reduction,) for name in ("sum", "prod", "max", "min", "or", "and")},
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin"), (scan_of_one,)),
}
