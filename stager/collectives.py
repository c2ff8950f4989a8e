"""Collectives over named axes of vmaps: `psum`, `pmean`, `pmax`, `pmin`, `axis_index`, `all_gather`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stager.array import Array, as_array, wrap
from stager.errors import TransformError, describe
from stager.interpreters.stack import bind, stack
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.dims import Dim, product
from stager.ir.types import Type
from stager.ops import elementwise as op
from stager.ops import reductions
from stager.ops.families import define, move_bdim
from stager.ops.regions import dim_value
from stager.ops.structural import iota
from stager.ops.views import broadcast, reshape
from stager.runtime.structure import map_leaves


def _axis(name: Any) -> VmapInterpreter:
    """The vmap in force whose axis has this name."""
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if isinstance(interp, VmapInterpreter) and interp.axis_name == name:
            return interp
    text, remedy = f"no vmap in force has an axis named {name!r}", f"give the vmap axis_name={name!r}"
    raise TransformError(describe(text, remedy=remedy))


def _whole_axis(name: Any) -> VmapInterpreter:
    """The vmap whose axis has this name, all of whose lanes are computed together."""
    interp = _axis(name)
    if interp.first is not None:
        text = f"a collective over the axis {name!r} needs all lanes at once, and chunk_size computes them in parts"
        raise TransformError(describe(text, remedy="leave chunk_size out"))
    return interp


def _batch_of(name: str) -> Callable[..., Any]:
    def batch(interp: Any, args: Any, bdims: Any, *, lanes: int, **params: Any) -> Any:
        (x,), (d,) = args, bdims
        if interp.lanes != lanes:
            moved = d is not None and name == "all_gather"  # its new axis comes before the batch
            return bind(_BY_NAME[name].op, x, lanes=lanes, **params), d + 1 if moved else d
        return _ACROSS[name](interp, x, d)

    return batch


def _sum_across(interp: VmapInterpreter, x: Any, d: int | None) -> Any:
    if d is None:
        size = op.convert(dim_value(interp.batch_size), dtype=x.type.dtype)
        return op.mul(x, broadcast(size, shape=x.type.shape, axes=())), None
    return reductions.reduce_sum(x, axes=(d,)), None


def _extreme_across(reduce: Any) -> Callable[..., Any]:
    return lambda interp, x, d: ((x if d is None else reduce(x, axes=(d,))), None)


def _gather_across(interp: VmapInterpreter, x: Any, d: int | None) -> Any:
    if d is None:
        shape = x.type.shape
        return broadcast(x, shape=(interp.batch_size, *shape), axes=tuple(range(1, len(shape) + 1))), None
    return move_bdim(x, d, 0), None


_ACROSS = {
    "psum": _sum_across,
    "pmax": _extreme_across(reductions.reduce_max),
    "pmin": _extreme_across(reductions.reduce_min),
    "all_gather": _gather_across,
}
_BY_NAME: dict[str, Any] = {}


def _unreachable(*args: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: a collective left its vmap")


def _gathered_type(x: Type, *, lanes: int, size: Dim) -> Type:
    return Type(x.dtype, (size, *x.shape))


def _sum_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    return bind(_psum.op, *primals, **params), None if tangents[0] is None else bind(_psum.op, tangents[0], **params)


def _sum_vjp(ct: Any, out: Any, args: Any, needs: Any, **params: Any) -> list[Any]:
    return [bind(_psum.op, ct, **params)]


def _share(t: Any, x: Any, out: Any, params: dict[str, Any]) -> Any:
    """t where x is the extreme, divided among the lanes that tie."""
    ties = op.convert(op.eq(x, out), dtype=x.type.dtype)
    return op.div(op.mul(t, ties), bind(_psum.op, ties, **params))


def _extreme_jvp(name: str) -> Callable[..., Any]:
    def jvp(primals: Any, tangents: Any, **params: Any) -> Any:
        out = bind(_BY_NAME[name].op, *primals, **params)
        if tangents[0] is None:
            return out, None
        return out, bind(_psum.op, _share(tangents[0], primals[0], out, params), **params)

    return jvp


def _extreme_vjp(ct: Any, out: Any, args: Any, needs: Any, **params: Any) -> list[Any]:
    return [_share(bind(_psum.op, ct, **params), args[0], out, params)]


def _gather_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    out = bind(_all_gather.op, *primals, **params)
    return out, None if tangents[0] is None else bind(_all_gather.op, tangents[0], **params)


def _gather_vjp(ct: Any, out: Any, args: Any, needs: Any, *, lanes: int, size: Dim) -> list[Any]:
    from stager.ops.indexed import gather

    s = stack()
    here = next(i for i in reversed(s.levels[: s.depth]) if isinstance(i, VmapInterpreter) and i.lanes == lanes)
    with here.lower():
        lane = BatchTracer(here, iota(size), 0)
    return [gather(bind(_psum.op, ct, lanes=lanes), lane, axes=(0,), batch_dims=0, mode="promise")]


# A collective is an op of one lane's value until it meets its vmap, which `lanes` tells from its namesakes.
_psum = define("psum", "reduction", type_rule=lambda x, *, lanes: x, reference=_unreachable, batch=_batch_of("psum"),
               jvp=_sum_jvp, vjp=_sum_vjp, facts=("lane",))  # fmt: skip
_pmax, _pmin = [
    define(name, "reduction", type_rule=lambda x, *, lanes: x, reference=_unreachable, batch=_batch_of(name),
           jvp=_extreme_jvp(name), vjp=_extreme_vjp, facts=("lane",))
    for name in ("pmax", "pmin")
]  # fmt: skip
_all_gather = define("all_gather", "structural", type_rule=_gathered_type, reference=_unreachable,
                     batch=_batch_of("all_gather"), jvp=_gather_jvp, vjp=_gather_vjp, facts=("lane",))  # fmt: skip
_BY_NAME.update(psum=_psum, pmax=_pmax, pmin=_pmin, all_gather=_all_gather)


Names = str | Sequence[str]
"""An axis, or several: a collective over several axes is one over all their lanes, the last axis fastest."""


def _each(axis_name: Names) -> list[Any]:
    """The single names. A vmap may itself be named by a tuple."""
    s = stack()
    named: set[Any] = {level.axis_name for level in s.levels[: s.depth] if isinstance(level, VmapInterpreter)}
    if isinstance(axis_name, list):
        return axis_name
    return list(axis_name) if isinstance(axis_name, tuple) and axis_name not in named else [axis_name]


def _collect(rule: Any, x: Any, axis_name: Names) -> Any:
    every = [_whole_axis(name).lanes for name in _each(axis_name)]

    def over_all(leaf: Any) -> Any:
        raw = as_array(leaf).raw()
        for lanes in every:
            raw = bind(rule.op, raw, lanes=lanes)
        return wrap(raw)

    return map_leaves(over_all, x)


def psum(x: Any, axis_name: Names) -> Any:
    """The sum over all lanes of the vmap whose axis has this name, or of several vmaps; x may be any nesting.

    >>> import numpy as np, stager as st
    >>> st.vmap(lambda x: x / st.psum(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([0.25, 0.75])
    >>> rows = st.vmap(lambda x: st.psum(x, ("i", "j")), axis_name="j")
    >>> st.vmap(rows, axis_name="i")(np.ones((2, 3)))
    array([[6., 6., 6.],
           [6., 6., 6.]])
    """
    return _collect(_psum, x, axis_name)


def pmean(x: Any, axis_name: Names) -> Any:
    """The mean over all lanes, or over those of several vmaps."""
    sizes = [_whole_axis(name).batch_size for name in _each(axis_name)]
    size = wrap(dim_value(product(sizes)), weak=True)
    return map_leaves(lambda leaf: psum(leaf, axis_name) / size, x)


def pmax(x: Any, axis_name: Names) -> Any:
    """The maximum over all lanes, or over those of several vmaps."""
    return _collect(_pmax, x, axis_name)


def pmin(x: Any, axis_name: Names) -> Any:
    """The minimum over all lanes, or over those of several vmaps."""
    return _collect(_pmin, x, axis_name)


def all_gather(x: Any, axis_name: Names) -> Any:
    """The values of all lanes, on a new leading axis, in every lane. Of several vmaps the last one's lanes are next to
    each other."""
    levels = [_whole_axis(name) for name in _each(axis_name)]

    def gathered(leaf: Any) -> Any:
        raw = as_array(leaf).raw()
        shape = raw.type.shape
        for level in reversed(levels):
            raw = bind(_all_gather.op, raw, lanes=level.lanes, size=level.batch_size)
        if len(levels) != 1:
            raw = reshape(raw, shape=(product(level.batch_size for level in levels), *shape))
        return wrap(raw)

    return map_leaves(gathered, x)


def axis_index(axis_name: Names) -> Array:
    """This lane's index; over several vmaps, that among all their lanes."""
    index: Any = None
    for name in _each(axis_name):
        level = _axis(name)
        lane = wrap(level.lane())
        index = lane if index is None else index * wrap(dim_value(level.batch_size)) + lane
    return wrap(dim_value(0)) if index is None else index


__all__ = ["all_gather", "axis_index", "pmax", "pmean", "pmin", "psum"]
