"""`vmap`: a function of one example becomes a function of a batch."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from stager import cells
from stager.array import Array, as_array, is_value, raw, wrap
from stager.capture.branches import stage_branches
from stager.committed import one_step
from stager.errors import ControlFlowError, TransformError, describe
from stager.interpreters.stack import nearest_stage, push
from stager.interpreters.vmap import VmapInterpreter
from stager.ir.dims import Dim, Expr, symbols_of
from stager.ops.families import materialize_batch, move_bdim
from stager.ops.regions import LaneDependentError
from stager.ops.silence import is_shown
from stager.runtime.structure import broadcast_prefix, flatten, unflatten
from stager.symbols import size_number
from stager.transforms.calling import call_on_copies, enter, plainly, write_back


def vmap(
    f: Callable[..., Any],
    in_dims: Any = 0,
    out_dims: Any = 0,
    *,
    randomness: str = "error",
    axis_size: Dim | None = None,
    axis_name: str | None = None,
    chunk_size: int | None = None,
    in_axes: Any = ...,
    out_axes: Any = ...,
) -> Callable[..., Any]:
    """Map `f` over an axis of its arguments, as one batched computation.

    in_dims: per argument (a prefix of the argument structure) the axis to map, negative from the end, or None for an
    argument that all lanes share; keyword arguments are named in a dict as the last item (`(0, {"k": 1})`), else they
    are shared. out_dims: where the batch goes in each result; None for a result that is the same in all lanes.
    axis_size: the number of lanes where no argument is mapped. chunk_size: lanes computed at a time.
    randomness: "error", "same" or "different". `in_axes` and `out_axes` are other spellings of in_dims and out_dims.
    Results that are no arrays or numbers (strings, functions) come back as they are.
    ValueError when mapped axes differ in size or an axis does not exist.

    >>> import numpy as np, stager as st
    >>> st.vmap(lambda x, w: (x * w).sum(), in_dims=(0, None))(np.ones((3, 2)), np.array([1.0, 2.0]))
    array([3., 3., 3.])
    """
    in_dims = _spelled("in", in_dims, in_axes)
    out_dims = _spelled("out", out_dims, out_axes)
    if randomness not in ("error", "same", "different"):
        raise ValueError(f"vmap: randomness is 'error', 'same' or 'different', not {randomness!r}")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"vmap: chunk_size must be positive, not {chunk_size}")

    @functools.wraps(f)
    @plainly
    def batched(*args: Any, **kwargs: Any) -> Any:
        flat, dims, structure = _mapped(args, kwargs, in_dims)
        size = _batch_size(flat, dims, axis_size)
        one = _Once(f, structure, out_dims, randomness, axis_name)
        if chunk_size is None or not isinstance(size, int) or size <= chunk_size:
            return one(flat, dims, size)
        with one_step(nearest_stage()):
            return _in_chunks(one, flat, dims, size, chunk_size, out_dims)

    return batched


def _spelled(which: str, dims: Any, axes: Any) -> Any:
    if axes is ...:
        return dims
    if not (isinstance(dims, int) and dims == 0):
        raise ValueError(f"vmap: {which}_dims and {which}_axes are two spellings of one argument; give one of them")
    return axes


def _mapped(args: tuple[Any, ...], kwargs: dict[str, Any], in_dims: Any) -> tuple[list[Any], list[int | None], Any]:
    """Argument leaves with the axis each is mapped over."""
    flat, structure = flatten((args, kwargs))
    named: dict[str, Any] = {}
    positional = in_dims
    if (
        isinstance(in_dims, tuple | list)
        and in_dims
        and isinstance(in_dims[-1], dict)
        and len(in_dims) == len(args) + 1
    ):
        positional, named = tuple(in_dims[:-1]), dict(in_dims[-1])
    if isinstance(positional, tuple | list) and len(positional) != len(args):
        raise ValueError(f"vmap: in_dims has {len(positional)} items for {len(args)} arguments")
    unknown = set(named) - set(kwargs)
    if unknown:
        raise ValueError(f"vmap: in_dims names the arguments {sorted(unknown)}, which were not given")
    prefix = positional if isinstance(positional, tuple | list) else (positional,) * len(args)
    spec = (tuple(prefix), {k: named.get(k) for k in kwargs})
    dims = broadcast_prefix(spec, structure, name="vmap: in_dims")
    out: list[int | None] = []
    for x, d in zip(flat, dims, strict=True):
        if d is None:
            out.append(None)
            continue
        ndim = _ndim(x)
        if not isinstance(d, int) or isinstance(d, bool):
            raise TypeError(f"vmap: in_dims holds {d!r}; an axis is an int or None")
        if not -ndim <= d < ndim:
            raise ValueError(f"vmap: in_dims maps axis {d} of an argument with {ndim} dimensions")
        out.append(d % ndim)
    return flat, out, structure


def _ndim(x: Any) -> int:
    return x.ndim if isinstance(x, Array) else int(np.ndim(x))


def _batch_size(flat: list[Any], dims: list[int | None], axis_size: Dim | None) -> Dim:
    sizes = [
        (x.shape[d] if isinstance(x, Array) else np.shape(x)[d])
        for x, d in zip(flat, dims, strict=True)
        if d is not None
    ]
    if axis_size is not None:
        sizes.append(axis_size)
    if not sizes:
        raise ValueError("vmap: no argument is mapped; give in_dims an axis or say axis_size")
    if any(s != sizes[0] for s in sizes):
        raise ValueError(f"vmap: mapped axes must have one size, they have {', '.join(map(str, sizes))}")
    size: Dim = sizes[0]
    return size


def _batched_at(interp: VmapInterpreter, to: int, value: Any) -> Any:
    """A value of the level below with all lanes along axis `to`."""
    return materialize_batch(interp, *interp.unwrap(value), to=to)


class _Once:
    """The batched call, without chunks."""

    def __init__(
        self, f: Callable[..., Any], structure: Any, out_dims: Any, randomness: str, axis_name: str | None
    ) -> None:
        self.f = f
        self.structure = structure
        self.out_dims = out_dims
        self.randomness = randomness
        self.axis_name = axis_name

    def __call__(self, flat: list[Any], dims: list[int | None], size: Dim, first: int | None = None) -> Any:
        graph = nearest_stage().graph
        before = len(graph)
        try:
            return self._batched(flat, dims, size, first, call_on_copies)
        except LaneDependentError as e:
            if any(map(is_shown, itertools.islice(reversed(graph.nodes), len(graph) - before))):
                raise  # what it printed would be printed twice
            try:
                return self._batched(flat, dims, size, first, _as_one_node)
            except ControlFlowError:  # it changes Python state
                raise e from None

    def _batched(
        self, flat: list[Any], dims: list[int | None], size: Dim, first: int | None, run: Callable[..., Any]
    ) -> Any:
        interp = VmapInterpreter(size, self.randomness, self.axis_name, first)
        outer = [as_array(x) if d is not None else x for x, d in zip(flat, dims, strict=True)]
        raws = [x.raw() if d is not None else None for x, d in zip(outer, dims, strict=True)]
        entered = []
        try:
            with push(interp):
                inner: list[Any] = []
                for x, r, d in zip(outer, raws, dims, strict=True):
                    if d is None:
                        inner.append(x)
                        continue
                    e = enter(interp, x, interp.wrap(r, d), d)
                    entered.append((e, d))
                    inner.append(e.inner)
                args, kwargs = unflatten(self.structure, inner)
                results, result_structure = flatten(run(self.f, args, kwargs))
                unwrapped = [interp.unwrap(raw(x)) if is_value(x) else None for x in results]
        except BaseException:
            cells.discard_overlays(interp)
            raise
        cells.commit_overlays(interp)
        for e, d in entered:
            write_back([e], functools.partial(_batched_at, interp, d))
        to = broadcast_prefix(self.out_dims, result_structure, name="vmap: out_dims")
        found = zip(results, unwrapped, to, strict=True)
        return unflatten(result_structure, [x if pair is None else self._out(interp, *pair, d) for x, pair, d in found])

    def _out(self, interp: VmapInterpreter, value: Any, bdim: int | None, to: Any) -> Any:
        if to is None:
            if bdim is not None:
                raise TransformError(
                    describe("vmap: out_dims is None for a result that differs between lanes", remedy="give it an axis")
                )
            return wrap(value)
        rank = len(value.type.shape) + (bdim is None)
        if not isinstance(to, int) or not -rank <= to < rank:
            raise ValueError(f"vmap: out_dims puts the batch at axis {to!r} of a result with {rank} dimensions")
        to %= rank
        return wrap(move_bdim(value, bdim, to) if bdim is not None else materialize_batch(interp, value, None, to))


def _as_one_node(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """f as the only branch of a `switch`, whose batching rule runs it lane by lane where sizes differ."""
    result: Any = None

    def branch() -> None:
        nonlocal result
        leaves, structure = flatten(call_on_copies(f, args, kwargs))
        result = unflatten(structure, [size_number(x) if isinstance(x, Expr) else x for x in leaves])
        _refuse_ragged(result)

    stage_branches(as_array(np.int64(0)), (branch,), ("result",), (branch,))
    return result


def _refuse_ragged(result: Any) -> None:
    """Results of one lane must not have sizes that its own data defines. Its region is in force."""
    symbols = nearest_stage().graph.symbols
    for x in flatten(result)[0]:
        dims = x.shape if isinstance(x, Array) else ()
        ragged = [d for d in dims if any(symbols[n].kind == "data" for n in symbols_of(d))]
        if ragged:
            text = f"vmap: a result {x.type} has a size, {ragged[0]}, that differs between lanes"
            remedy = "reduce it inside the mapped function, or write it into an array of a fixed size"
            raise LaneDependentError(describe(text, remedy=remedy))


def _in_chunks(one: _Once, flat: list[Any], dims: list[int | None], size: int, chunk: int, out_dims: Any) -> Any:
    """Chunk by chunk, results joined along their batch axes. Chunks are views, so that writes reach the argument."""
    from stager.numpy.indexing import getitem
    from stager.ops.structural import concatenate

    parts = []
    for start in range(0, size, chunk):
        n = min(chunk, size - start)
        lanes = slice(start, start + n)
        piece = [
            x if d is None else getitem(as_array(x), (*(slice(None),) * d, lanes))
            for x, d in zip(flat, dims, strict=True)
        ]
        parts.append(flatten(one(piece, dims, n, start)))
    structure = parts[0][1]
    to = broadcast_prefix(out_dims, structure, name="vmap: out_dims")
    joined = []
    for k, d in enumerate(to):
        if not is_value(parts[0][0][k]):
            joined.append(parts[0][0][k])
            continue
        group = [raw(p[0][k]) for p in parts]
        joined.append(wrap(group[0] if d is None else concatenate(*group, axis=d % len(group[0].type.shape))))
    return unflatten(structure, joined)
