"""Boolean masks and the writes and reads that they steer: nonzero, extract, place, putmask, put, copyto.

How many elements a traced mask selects is data. Where the trace carries values (plain calls) that size is known; else
it is a symbol of the graph, the same for every read through the same mask, so that `x[m] * y[m]` fits.
Writes through a mask have static sizes: `x[m] = v` is a select, with v's elements gathered by their rank in the mask.
"""

from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from stager.array import Array, wrap
from stager.errors import ConcretizationError
from stager.interpreters.stack import nearest_stage, stack
from stager.interpreters.vmap import VmapInterpreter
from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, Expr, dim_max, product
from stager.ir.dtypes import b1, i64
from stager.ir.graph import Graph, Value
from stager.numpy.promotion import broadcast_raw, broadcast_shapes, operand
from stager.numpy.registry import implements
from stager.numpy.shaping import handle, ravel
from stager.numpy.ufuncs import as_array_like, truth, writable
from stager.ops import elementwise as op
from stager.ops import views
from stager.ops.effects import check
from stager.ops.families import full
from stager.ops.indexed import gather, scatter
from stager.ops.reductions import reduce_sum
from stager.ops.scans import cumsum
from stager.ops.sort import positions
from stager.ops.structural import concatenate, iota

_KNOWN: weakref.WeakKeyDictionary[Graph, dict[Any, tuple[Any, ...]]] = weakref.WeakKeyDictionary()
DEPTH = 12  # how far two masks are compared node by node before they count as different


def nonzero_of(mask: Array) -> tuple[Array, ...]:
    """The positions of the true elements, one i64 array per axis, in C order."""
    graph = nearest_stage().graph
    known = _KNOWN.setdefault(graph, {})
    key = _same(_below(mask.raw()), DEPTH)
    if key is not None and key in known:
        return known[key]
    shape = mask.type.shape
    size = product(shape)
    flat = views.reshape(mask.raw(), shape=(size,))
    position = positions(flat, size=_count(flat))
    out = []
    for d in reversed(shape[1:]):
        out.append(op.mod(position, _dims(d, position)))
        position = op.floordiv(position, _dims(d, position))
    out.append(position)
    made = tuple([wrap(p) for p in reversed(out)])
    if key is not None:
        known[key] = made
    return made


def _dims(d: Dim, like: Any) -> Any:
    from stager.ops.regions import dim_value

    return broadcast_raw(dim_value(d), like.type.shape)


def _count(flat: Any) -> Dim:
    """How many elements are true: known where the trace carries values, else a symbol."""
    from stager.symbols import dim_of

    if flat.type.shape == (0,):
        return 0
    n = wrap(reduce_sum(op.convert(flat, dtype=i64), axes=(0,)))
    try:
        return n.python_index()
    except ConcretizationError:
        return dim_of(n)


def _below(raw: Any) -> Any:
    """The graph's value of a mask: masks carry no derivative."""
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if interp.key == "Stage" or isinstance(interp, VmapInterpreter):
            break
        raw = interp.lower_value(raw)
    return raw


def _same(value: Any, depth: int) -> Any:
    """A key that equal computations share; None for a value that is not the graph's."""
    if type(value) is not Value:
        return None
    node = value.node
    if depth == 0 or node.op is input_op or node.regions or node.op.ordered:
        return value
    args = tuple([_same(a, depth - 1) for a in node.args])
    return (
        (node.op.name, value.index, value.type, repr(sorted(node.params.items(), key=lambda p: p[0])), args)
        if _small(node)
        else value
    )


def _small(node: Any) -> bool:
    return bool(node.op.name != "constant")


# -- reads ------------------------------------------------------------------------------------------------------------


@implements(np.nonzero, method="nonzero")
def nonzero(a: Any) -> tuple[Array, ...]:
    """The positions of the elements that are not zero."""
    a = handle(a)
    if not a.ndim:
        raise ValueError("Calling nonzero on 0d arrays is not allowed. Use np.atleast_1d(scalar).nonzero() instead.")
    return nonzero_of(wrap(truth(a.raw())))


@implements(np.flatnonzero)
def flatnonzero(a: Any) -> Array:
    """The positions, in the flattened array, of the elements that are not zero."""
    return nonzero(ravel(handle(a)))[0]


@implements(np.argwhere)
def argwhere(a: Any) -> Array:
    """The positions of the elements that are not zero, one row each."""
    from stager.numpy.indexing import getitem
    from stager.numpy.shaping import reshape
    from stager.numpy.shaping import stack as stack_arrays

    a = handle(a)
    if not a.ndim:  # its element has a place, of no coordinates
        return getitem(argwhere(reshape(a, (1,))), (slice(None), slice(0, 0)))
    return stack_arrays(nonzero(a), axis=1)


@implements(np.extract)
def extract(condition: Any, arr: Any) -> Array:
    """The elements of arr where the condition holds."""
    from stager.numpy.joining import take

    return take(ravel(handle(arr)), flatnonzero(condition))


@implements(np.compress)
def compress(condition: Any, a: Any, axis: Any = None, out: Any = None) -> Array:
    """Slices along an axis where the condition holds; a short condition counts as padded with False."""
    from stager.numpy.joining import take

    c = handle(condition)
    if c.ndim != 1:
        raise ValueError("condition must be a 1-d array")
    a = handle(a)
    return take(ravel(a) if axis is None else a, flatnonzero(c), 0 if axis is None else axis, out)


@implements(method="compress")
def compress_method(self: Array, condition: Any, axis: Any = None, out: Any = None) -> Array:
    """`np.compress(condition, self, axis)`."""
    return compress(condition, self, axis, out)


# -- writes -----------------------------------------------------------------------------------------------------------


def write_ranked(x: Array, mask: Array, value: Any) -> None:
    """`x[mask] = value` with one value per true element, in C order."""
    k = mask.ndim
    size = product(mask.type.shape)
    flat = views.reshape(mask.raw(), shape=(size,))
    ones = op.convert(flat, dtype=i64)
    rest = x.type.shape[k:]
    value = broadcast_raw(value, (value.type.shape[0], *rest)) if len(value.type.shape) == len(rest) + 1 else value
    given = value.type.shape[0]
    count = reduce_sum(ones, axes=(0,))
    from stager.ops.regions import dim_value

    many = dim_value(given)
    check(
        op.eq(count, many),
        many,
        count,
        exception="ValueError",
        text="NumPy boolean array indexing assignment cannot assign {0} input values "
        "to the {1} output values where the mask is true",
    )
    if given == 0 or size == 0:
        return
    rank = op.sub(cumsum(ones, axis=0, reverse=False), 1)
    if isinstance(given, Expr):  # where the mask is false nothing is used of what is read, but there must be something
        rest_of_one = full((dim_max(given, 1) - given, *value.type.shape[1:]), 0, value.type.dtype)
        value = concatenate(value, rest_of_one, axis=0)
    spread = gather(value, rank, axes=(0,), batch_dims=0, mode="clip")
    spread = views.reshape(spread, shape=x.type.shape)
    shown = broadcast_raw(views.reshape(mask.raw(), shape=(*mask.type.shape, *(1,) * len(rest))), x.type.shape)
    x.write(op.select(shown, spread, x.raw()))


def _cycled(a: Array, mask: Any, values: Any, by_rank: bool, name: str) -> None:
    """Write values where the mask holds, cycling through them by rank among the true ones or by position."""
    target = writable(a)
    c = handle(mask)
    if c.type.size != target.type.size:
        raise ValueError(f"{name}: mask and data must be the same size")
    v = operand(ravel(handle(values)), target.type.dtype)
    n = v.type.shape[0]
    size = target.type.size
    flat = views.reshape(truth(c.raw()), shape=(size,))
    if n == 0:
        check(op.not_(_any(flat)), exception="ValueError", text="Cannot insert from an empty array!")
        return
    where = op.sub(cumsum(op.convert(flat, dtype=i64), axis=0, reverse=False), 1) if by_rank else iota(size)
    spread = gather(v, where, axes=(0,), batch_dims=0, mode="wrap")
    old = views.reshape(target.raw(), shape=(size,))
    target.write(views.reshape(op.select(flat, spread, old), shape=target.type.shape))


def _any(flat: Any) -> Any:
    from stager.ops.reductions import reduce_or

    return reduce_or(flat, axes=(0,))


@implements(np.place)
def place(arr: Any, mask: Any, vals: Any) -> None:
    """Write vals, one after the other and again from the start, where the mask holds."""
    _cycled(arr, mask, vals, True, "place")


@implements(np.putmask)
def putmask(a: Any, mask: Any, values: Any) -> None:
    """Write values[i] (cycled) at every flat position i where the mask holds."""
    _cycled(a, mask, values, False, "putmask")


@implements(np.put)
def put(a: Any, ind: Any, v: Any, mode: str = "raise") -> None:
    """Write v (cycled) at flat positions."""
    target = writable(a)
    modes = {"raise": "check", "wrap": "wrap", "clip": "clip"}
    if mode not in modes:
        raise ValueError(f"clipmode must be one of 'clip', 'raise', or 'wrap' (got {mode!r})")
    position = operand(ravel(as_position(ind)), i64)
    value = operand(ravel(handle(v)), target.type.dtype)
    n = position.type.shape[0]
    if value.type.shape[0] == 0 or n == 0:
        return
    if target.type.size == 0:
        raise IndexError("cannot replace elements of an empty array")
    if value.type.shape[0] != n:
        value = gather(value, iota(n), axes=(0,), batch_dims=0, mode="wrap")
    size = target.type.size
    if mode == "clip":  # NumPy's clip takes negatives as 0
        position = op.maximum(position, full((n,), 0, i64))
    flat = views.reshape(target.raw(), shape=(size,))
    new = scatter(flat, value, position, axes=(0,), batch_dims=0, mode=modes[mode], combine="set")
    target.write(views.reshape(new, shape=target.type.shape))


def as_position(ind: Any) -> Array:
    """Positions as a traced integer array."""
    i = handle(ind)
    if i.type.dtype.kind not in "iub":
        raise TypeError(f"Cannot cast array data from {i.dtype!r} to dtype('int64') according to the rule 'safe'")
    return i


@implements(method="put")
def put_method(self: Array, indices: Any, values: Any, mode: str = "raise") -> None:
    """`np.put(self, indices, values)`."""
    put(self, indices, values, mode)


@implements(np.copyto)
def copyto(dst: Any, src: Any, casting: Any = "same_kind", where: Any = True) -> None:
    """Write src into dst where `where` holds."""
    target = writable(dst)
    source = as_array_like(src)
    if type(source) in (bool, int, float):
        value = operand(source, target.type.dtype)
    else:
        s = handle(source)
        if not np.can_cast(s.dtype, target.dtype, casting):
            raise TypeError(
                f"Cannot cast array data from {s.dtype!r} to {target.dtype!r} according to the rule '{casting}'"
            )
        value = operand(s, target.type.dtype)
    shape = target.type.shape
    if broadcast_shapes("copyto", [value.type.shape, shape]) != shape:
        raise ValueError(
            f"could not broadcast input array from shape {tuple(value.type.shape)} into shape {tuple(shape)}"
        )
    value = broadcast_raw(value, shape)
    if where is not True:
        mask = broadcast_raw(operand(as_array_like(where), b1), shape)
        value = op.select(mask, value, target.raw())
    target.write(value)


@implements(np.fill_diagonal)
def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    """Write val along the main diagonal."""
    target = writable(a)
    if target.ndim < 2:
        raise ValueError("array must be at least 2-d")
    shape = target.type.shape
    end: Any = None
    if target.ndim == 2:
        step = shape[1] + 1
        end = None if wrap else shape[1] * shape[1]
    else:
        if any(d != shape[0] for d in shape):
            raise ValueError("All dimensions of input must be of equal length")
        step = 1 + sum([product(shape[:k]) for k in range(1, target.ndim)])
    v = handle(val)
    if target.ndim == 2 and not wrap:
        target.write(_diagonal_filled(target, operand(v, target.type.dtype)))
        return
    from stager.numpy.array_methods import Flat

    Flat(target)[slice(None, end, step)] = val


def _diagonal_filled(target: Array, value: Any) -> Any:
    from stager.ops.structural import diagonal_update

    base = target.raw()
    line = views.diagonal(base, axis1=0, axis2=1, offset=0).type.shape
    if value.type.shape:  # from the start again as often as it takes
        values = views.reshape(value, shape=(value.type.size,))
        value = gather(values, iota(line[0]), axes=(0,), batch_dims=0, mode="wrap")
    return diagonal_update(base, broadcast_raw(value, line), axis1=0, axis2=1, offset=0)


@implements(method="fill")
def fill(self: Array, value: Any) -> None:
    """Write one value everywhere."""
    v = operand(as_array_like(value), self.type.dtype)
    if v.type.shape and v.type.size != 1:
        raise ValueError("setting an array element with a sequence.")
    self.write(broadcast_raw(views.reshape(v, shape=()), self.type.shape))
