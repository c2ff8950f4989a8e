"""Collectives over a named axis of a vmap: `psum`, `pmean`, `pmax`, `pmin`, `axis_index`, `all_gather`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager.array import Array, as_array, wrap
from stager.errors import TransformError, describe
from stager.interpreters.stack import bind, stack
from stager.interpreters.vmap import BatchTracer, VmapInterpreter
from stager.ir.dims import Dim
from stager.ir.types import Type
from stager.ops import elementwise as op
from stager.ops import reductions
from stager.ops.families import define, move_bdim
from stager.ops.regions import dim_value
from stager.ops.structural import iota
from stager.ops.views import broadcast
from stager.runtime.structure import map_leaves


def _axis(name: str) -> VmapInterpreter:
    """The vmap in force whose axis has this name."""
    s = stack()
    for interp in reversed(s.levels[: s.depth]):
        if isinstance(interp, VmapInterpreter) and interp.axis_name == name:
            return interp
    text, remedy = f"no vmap in force has an axis named {name!r}", f"give the vmap axis_name={name!r}"
    raise TransformError(describe(text, remedy=remedy))


def _whole_axis(name: str) -> VmapInterpreter:
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
            return bind(_BY_NAME[name].op, x, lanes=lanes, **params), d
        return _ACROSS[name](interp, x, d)

    return batch


def _sum_across(interp: VmapInterpreter, x: Any, d: int | None) -> Any:
    if d is None:
        size = op.convert(dim_value(interp.batch_size), dtype=x.type.dtype)
        return op.mul(x, broadcast(size, shape=x.type.shape, axes=())), None
    return reductions.reduce_sum(x, axes=(d,)), None


def _max_across(interp: VmapInterpreter, x: Any, d: int | None) -> Any:
    return (x if d is None else reductions.reduce_max(x, axes=(d,))), None


def _gather_across(interp: VmapInterpreter, x: Any, d: int | None) -> Any:
    if d is None:
        shape = x.type.shape
        return broadcast(x, shape=(interp.batch_size, *shape), axes=tuple(range(1, len(shape) + 1))), None
    return move_bdim(x, d, 0), None


_ACROSS = {"psum": _sum_across, "pmax": _max_across, "all_gather": _gather_across}
_BY_NAME: dict[str, Any] = {}


def _unreachable(*args: Any, **params: Any) -> Any:
    raise AssertionError("internal error in stager: a collective left its vmap")


def _gathered_type(x: Type, *, lanes: int, size: Dim) -> Type:
    return Type(x.dtype, (size, *x.shape))


def _sum_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    return bind(_psum.op, *primals, **params), None if tangents[0] is None else bind(_psum.op, tangents[0], **params)


def _sum_vjp(ct: Any, out: Any, args: Any, needs: Any, **params: Any) -> list[Any]:
    return [bind(_psum.op, ct, **params)]


def _max_share(t: Any, x: Any, out: Any, params: dict[str, Any]) -> Any:
    """t where x is the maximum, divided among the lanes that tie."""
    ties = op.convert(op.eq(x, out), dtype=x.type.dtype)
    return op.div(op.mul(t, ties), bind(_psum.op, ties, **params))


def _max_jvp(primals: Any, tangents: Any, **params: Any) -> Any:
    out = bind(_pmax.op, *primals, **params)
    if tangents[0] is None:
        return out, None
    return out, bind(_psum.op, _max_share(tangents[0], primals[0], out, params), **params)


def _max_vjp(ct: Any, out: Any, args: Any, needs: Any, **params: Any) -> list[Any]:
    return [_max_share(bind(_psum.op, ct, **params), args[0], out, params)]


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
_pmax = define("pmax", "reduction", type_rule=lambda x, *, lanes: x, reference=_unreachable, batch=_batch_of("pmax"),
               jvp=_max_jvp, vjp=_max_vjp, facts=("lane",))  # fmt: skip
_all_gather = define("all_gather", "structural", type_rule=_gathered_type, reference=_unreachable,
                     batch=_batch_of("all_gather"), jvp=_gather_jvp, vjp=_gather_vjp, facts=("lane",))  # fmt: skip
_BY_NAME.update(psum=_psum, pmax=_pmax, all_gather=_all_gather)


def _collect(rule: Any, x: Any, axis_name: str, **params: Any) -> Any:
    lanes = _whole_axis(axis_name).lanes
    return map_leaves(lambda leaf: wrap(bind(rule.op, as_array(leaf).raw(), lanes=lanes, **params)), x)


def psum(x: Any, axis_name: str) -> Any:
    """The sum over all lanes of the vmap whose axis has this name; x may be any nesting.

    >>> import numpy as np, stager as st
    >>> st.vmap(lambda x: x / st.psum(x, "i"), axis_name="i")(np.array([1.0, 3.0]))
    array([0.25, 0.75])
    """
    return _collect(_psum, x, axis_name)


def pmean(x: Any, axis_name: str) -> Any:
    """The mean over all lanes."""
    size = wrap(dim_value(_whole_axis(axis_name).batch_size), weak=True)
    return map_leaves(lambda leaf: psum(leaf, axis_name) / size, x)


def pmax(x: Any, axis_name: str) -> Any:
    """The maximum over all lanes."""
    return _collect(_pmax, x, axis_name)


def pmin(x: Any, axis_name: str) -> Any:
    """The minimum over all lanes."""
    return map_leaves(lambda leaf: -pmax(-as_array(leaf), axis_name), x)  # type: ignore[operator]


def all_gather(x: Any, axis_name: str) -> Any:
    """The values of all lanes, on a new leading axis, in every lane."""
    return _collect(_all_gather, x, axis_name, size=_whole_axis(axis_name).batch_size)


def axis_index(axis_name: str) -> Array:
    """This lane's index."""
    return wrap(_axis(axis_name).lane())


__all__ = ["all_gather", "axis_index", "pmax", "pmean", "pmin", "psum"]
