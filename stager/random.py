"""Random numbers from explicit keys: counter-based Philox4x64-10 (Salmon et al., SC 2011), as NumPy's `Philox`.

A key is a u64[2] array. The same key always gives the same numbers, in compiled code too, whatever the batch size.
`bits` equals `np.random.Philox(key=key).random_raw`. Under `vmap` a mapped key gives each lane its own numbers; a key
that all lanes share obeys `randomness`: "error" raises, "same" draws once, "different" folds the lane's index in.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stager.array import Array, as_array, check_shape, wrap
from stager.errors import TransformError, describe
from stager.interpreters.stack import Tracer, bind, stack
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.core_ops import input_op
from stager.ir.dims import Dim, floordiv, product
from stager.ir.dtypes import dtype_of, f32, f64, i64, u64
from stager.ir.graph import Value
from stager.numpy.promotion import broadcast_raw, operand
from stager.ops import elementwise as op
from stager.ops.families import elementwise, full, full_like
from stager.ops.regions import RegionInterpreter
from stager.ops.structural import iota, stack_
from stager.ops.views import reshape, slice_axis
from stager.transforms.calling import plainly

_M0, _M1 = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_W0, _W1 = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_MASK = (1 << 64) - 1
_FOLD = 1 << 63  # counter words of fold_in and split: numbers drawn for users never reach these counters
_SPLIT = 1 << 62


def _mulhi_reference(x: Any, y: Any) -> Any:
    x, y = np.asarray(x, np.uint64), np.asarray(y, np.uint64)
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    with np.errstate(all="ignore"):
        a, b, c, d = x >> shift, x & low, y >> shift, y & low
        middle = a * d + ((b * d) >> shift)
        other = b * c + (middle & low)
        return a * c + (middle >> shift) + (other >> shift)


def _mulhi_lower(b: Any, x: Any, y: Any) -> Any:
    low, shift = b.const(u64, 0xFFFFFFFF), b.const(u64, 32)
    x1, x0, y1, y0 = b.shr(x, shift), b.and_(x, low), b.shr(y, shift), b.and_(y, low)
    middle = b.add(b.mul(x1, y0), b.shr(b.mul(x0, y0), shift))
    other = b.add(b.mul(x0, y1), b.and_(middle, low))
    return b.add(b.add(b.mul(x1, y1), b.shr(middle, shift)), b.shr(other, shift))


# The high 64 bits of the 128-bit product of two u64.
mulhi = elementwise("mulhi", _mulhi_reference, lower=_mulhi_lower, kinds="u", commutative=True)


def _philox(counter: list[Any], key: list[Any]) -> list[Any]:
    """Ten rounds on four u64 arrays of one shape."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = mulhi(c0, full_like(c0, _M0)), op.mul(c0, full_like(c0, _M0))
        high1, low1 = mulhi(c2, full_like(c2, _M1)), op.mul(c2, full_like(c2, _M1))
        c0, c1, c2, c3 = op.xor(op.xor(high1, c1), k0), low1, op.xor(op.xor(high0, c3), k1), low0
        k0, k1 = op.add(k0, full_like(k0, _W0)), op.add(k1, full_like(k1, _W1))
    return [c0, c1, c2, c3]


def _key_words(key: Array, shape: tuple[Dim, ...]) -> list[Any]:
    r = key.raw()
    return [broadcast_raw(reshape(slice_axis(r, 0, k, 1), shape=()), shape) for k in range(2)]


def _checked(key: Any) -> Array:
    k = as_array(np.asarray(key) if not isinstance(key, Array) else key)
    if k.type.dtype is not u64 or k.type.shape != (2,):
        raise TypeError(
            describe(f"st.random takes a key, a u64[2]; {k.type} was given", remedy="make one with st.random.key(seed)")
        )
    return k


def _for_lanes(key: Array) -> Array:
    """The key that this lane draws from, by the randomness of every vmap in force whose lanes share the key."""
    s = stack()
    levels = s.levels[: s.depth]
    for interp in [v for v in levels if isinstance(v, VmapInterpreter) and v.randomness != "same"]:
        known = _differs(key.raw(), interp)
        if known is None:  # a loop carries it: known when the loop is batched
            key = wrap(carried_key(key.raw(), lanes=interp.lanes, randomness=interp.randomness))
        elif not known and interp.randomness == "error":
            raise _shared_key()
        elif not known:
            key = wrap(_fold(key, interp.lane()))
    return key


def _shared_key() -> TransformError:
    text = 'vmap: random numbers are drawn from a key that all lanes share, and randomness is "error"'
    remedy = 'map over keys (st.random.split), or say randomness="different" or "same"'
    return TransformError(describe(text, remedy=remedy))


def _differs(value: Any, interp: VmapInterpreter) -> bool | None:
    """Whether a raw value differs between the lanes of a vmap; None where a loop carries it and it is not known yet."""
    s = stack()
    owners = [v for v in s.levels[: s.depth] if isinstance(v, RegionInterpreter)]
    seen: set[int] = set()
    todo, carried = [value], False
    while todo:
        x = todo.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, Tracer):
            if x.interp is interp:
                return True
            todo.append(x.value if isinstance(x, BatchTracer) else x.interp.lower_value(x))
        elif isinstance(x, Value):
            region = next((r for r in owners if x.node in r.graph.nodes), None)
            if region is None:
                continue
            if x.node.op is not input_op:
                todo += x.node.args
                continue
            outer = region.outer(x)  # a region that relies on a cell and then writes it is traced anew
            if outer is not None and not isinstance(outer, str):
                todo.append(outer)
            carried |= outer is None and x.node.params["index"] not in region.bounds
    return None if carried else False


def _carried_batch(interp: Any, args: Any, bdims: Any, *, lanes: int, randomness: str) -> Any:
    (key,), (d,) = args, bdims
    if interp.lanes != lanes:
        return bind(carried_key.op, key, lanes=lanes, randomness=randomness), d
    if d is None and randomness == "error":
        raise _shared_key()
    if d is None:
        text = 'vmap: a loop carries a key that all lanes share, and randomness is "different"'
        raise TransformError(
            describe(text, remedy="fold the lane into it before the loop: st.random.fold_in(key, lane)")
        )
    return key, d


# The key itself, where only batching the loop that carries it shows whether the lanes of a vmap share it.
carried_key = elementwise("carried_key", lambda key, **_: key, lower=lambda b, key, **_: key, kinds="u",
                          facts=("lane",), batch=_carried_batch)  # fmt: skip


def key(seed: int) -> Any:
    """A key from a seed, spread by NumPy's SeedSequence: `np.random.Philox(seed)` has the same key.

    >>> import stager as st
    >>> st.random.key(0).dtype, st.random.key(0).shape
    (dtype('uint64'), (2,))
    """
    return np.random.SeedSequence(int(seed)).generate_state(2, np.uint64)


def _words(shape: tuple[Dim, ...], base: tuple[int, int, int]) -> list[Any]:
    return [full(shape, w, u64) for w in base]


def _fold(k: Array, data: Any) -> Any:
    word = op.convert(data, dtype=u64)
    shape = word.type.shape
    c1, c2, c3 = _words(shape, (0, 0, _FOLD))
    a, b, _, _ = _philox([word, c1, c2, c3], _key_words(k, shape))
    return stack_([a, b], len(shape))


@plainly
def fold_in(key: Any, data: Any) -> Any:
    """A new key from a key and an integer (a lane, a step)."""
    return wrap(_fold(_checked(key), operand(as_array(data), i64)))


@plainly
def split(key: Any, num: int = 2) -> Any:
    """`num` new keys, as u64[num, 2].

    >>> import stager as st
    >>> st.random.split(st.random.key(0), 3).shape
    (3, 2)
    """
    k = _for_lanes(_checked(key))
    (n,) = check_shape(num)
    word = op.convert(iota(n), dtype=u64)
    c1, c2, c3 = _words((n,), (0, 0, _SPLIT))
    a, b, _, _ = _philox([word, c1, c2, c3], _key_words(k, (n,)))
    return wrap(stack_([a, b], 1))


def _bits(k: Array, shape: tuple[Dim, ...]) -> Any:
    """u64 words of `shape`: four per counter, counters from 1."""
    n = product(shape)
    blocks = floordiv(n + 3, 4)
    counter = op.add(op.convert(iota(blocks), dtype=u64), full((blocks,), 1, u64))
    c1, c2, c3 = _words((blocks,), (0, 0, 0))
    words = _philox([counter, c1, c2, c3], _key_words(k, (blocks,)))
    flat = reshape(stack_(words, 1), shape=(blocks * 4,))
    return reshape(slice_axis(flat, 0, 0, n), shape=shape)


def _unit(k: Array, shape: tuple[Dim, ...], dtype: Any) -> Any:
    """Uniform on [0, 1): the top 53 (24) bits, as NumPy's `random`."""
    words = _bits(k, shape)
    if dtype is f32:
        return op.mul(op.convert(op.shr(words, full_like(words, 40)), dtype=f32), 2.0**-24)
    return op.mul(op.convert(op.shr(words, full_like(words, 11)), dtype=f64), 2.0**-53)


def _float(dtype: Any) -> Any:
    d = dtype_of(dtype)
    if not d.is_float:
        raise TypeError(f"st.random: dtype must be float64 or float32, not {d.np}")
    return d


@plainly
def bits(key: Any, shape: Any = ()) -> Any:
    """Uniform u64 words, those of `np.random.Philox(key=key).random_raw`.

    >>> import numpy as np, stager as st
    >>> k = st.random.key(7)
    >>> bool((st.random.bits(k, 5) == np.random.Philox(key=k).random_raw(5)).all())
    True
    """
    return wrap(_bits(_for_lanes(_checked(key)), check_shape(shape)))


@plainly
def uniform(key: Any, shape: Any = (), low: Any = 0.0, high: Any = 1.0, dtype: Any = np.float64) -> Any:
    """Uniform numbers on [low, high)."""
    d = _float(dtype)
    u = wrap(_unit(_for_lanes(_checked(key)), check_shape(shape), d))
    if type(low) is float and type(high) is float and (low, high) == (0.0, 1.0):
        return u
    return (low + u * (high - low)).astype(d.np)


@plainly
def normal(key: Any, shape: Any = (), loc: Any = 0.0, scale: Any = 1.0, dtype: Any = np.float64) -> Any:
    """Normal numbers, by the inverse of the distribution function."""
    d = _float(dtype)
    u = _unit(_for_lanes(_checked(key)), check_shape(shape), d)
    half = 2.0**-54 if d is f64 else 2.0**-25  # the middle of each cell: never 0, so never infinite
    x = op.mul(op.erfinv(op.sub(op.mul(op.add(u, half), 2.0), 1.0)), math.sqrt(2.0))
    z = wrap(x)
    if type(loc) is float and type(scale) is float and (loc, scale) == (0.0, 1.0):
        return z
    return (loc + z * scale).astype(d.np)


@plainly
def integers(key: Any, low: Any, high: Any = None, shape: Any = (), dtype: Any = np.int64) -> Any:
    """Integers on [low, high) (on [0, low) when high is None), by the high half of a 128-bit product."""
    low, high = (0, low) if high is None else (low, high)
    if isinstance(low, int) and isinstance(high, int) and high <= low:
        raise ValueError("low >= high")
    words = _bits(_for_lanes(_checked(key)), check_shape(shape))
    first = broadcast_raw(operand(as_array(low), i64), words.type.shape)
    last = broadcast_raw(operand(as_array(high), i64), words.type.shape)
    width = op.convert(op.sub(last, first), dtype=u64)
    drawn = op.add(op.convert(mulhi(words, width), dtype=i64), first)
    return wrap(op.convert(drawn, dtype=dtype_of(dtype)))


def _is_count(x: Any) -> bool:
    return isinstance(x, int | np.integer) or (isinstance(x, Array) and not x.type.shape and x.type.dtype.is_integer)


@plainly
def permutation(key: Any, x: Any, axis: int = 0) -> Any:
    """x (or the integers below it) in random order along an axis."""
    from stager.numpy.joining import take
    from stager.ops.sort import argsort

    if _is_count(x):
        (n,) = check_shape(x)
        return wrap(argsort(_bits(_for_lanes(_checked(key)), (n,)), axis=0))
    a = as_array(np.asarray(x) if not isinstance(x, Array) else x)
    n = a.type.shape[axis]
    return take(a, wrap(argsort(_bits(_for_lanes(_checked(key)), (n,)), axis=0)), axis=axis)


@plainly
def choice(key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None, axis: int = 0) -> Any:
    """Elements of `a` (or integers below it) drawn with or without replacement, with weights p (they sum to 1)."""
    from stager.numpy.joining import take
    from stager.numpy.scans import cumsum
    from stager.numpy.sorting import searchsorted
    from stager.ops.sort import argsort

    dims = check_shape(shape)
    count = product(dims)
    items = None if _is_count(a) else a if isinstance(a, Array) else np.asarray(a)
    n = a.__index__() if items is None else items.shape[axis]
    k = _for_lanes(_checked(key))
    if not replace and isinstance(count, int) and count > n:
        raise ValueError("Cannot take a larger sample than population when replace is False")
    if p is None and replace:
        words = _bits(k, dims)
        picked = wrap(op.convert(mulhi(words, full(dims, n, u64)), dtype=i64))
    elif replace:
        edges = cumsum(as_array(np.asarray(p) if not isinstance(p, Array) else p))
        picked = searchsorted(edges / edges[-1], wrap(_unit(k, dims, f64)), side="right")  # type: ignore[index]
    else:
        if p is None:
            order = argsort(_bits(k, (n,)), axis=0)
        else:  # the largest of log(u)/p: Efraimidis and Spirakis, 2006
            weights = as_array(np.asarray(p, float) if not isinstance(p, Array) else p)
            u = _unit(k, (n,), f64)
            ranked = op.div(op.log(op.add(u, 2.0**-54)), weights.raw())
            order = argsort(op.neg(ranked), axis=0)
        picked = wrap(reshape(slice_axis(order, 0, 0, count), shape=dims))
    return picked if items is None else take(items, picked, axis=axis)


__all__ = ["bits", "choice", "fold_in", "integers", "key", "normal", "permutation", "split", "uniform"]
