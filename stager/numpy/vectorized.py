"""`np.vectorize`: calls of its objects in traced code are mapped calls."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import Array
from stager.ir.dims import product
from stager.numpy.comparisons import dynamic
from stager.numpy.promotion import broadcast_shapes
from stager.numpy.shaping import broadcast_to, reshape


def _core_ndims(signature: str | None, count: int) -> list[int]:
    """How many trailing axes of each argument one call of the function takes."""
    if signature is None:
        return [0] * count
    inputs = re.findall(r"\(([^)]*)\)", signature.split("->")[0])
    if len(inputs) != count:
        raise TypeError(f"wrong number of positional arguments: expected {len(inputs)}, got {count}")
    return [len([d for d in dims.split(",") if d.strip()]) for dims in inputs]


def call(f: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """What `f(*args, **kwargs)` of an `np.vectorize` object does; function is its own, converted.

    Results have the dtype that their values promote to, where NumPy takes that of the first call.
    """
    import stager as st

    mapped = [k for k in (*range(len(args)), *kwargs) if k not in f.excluded]
    given: dict[Any, Any] = {**dict(enumerate(args)), **kwargs}
    arrays = [dynamic(given[k]) for k in mapped]
    cores = _core_ndims(f.signature, len(arrays))
    if any(a.ndim < core for a, core in zip(arrays, cores, strict=True)):
        raise ValueError(f"an argument has fewer dimensions than the signature {f.signature} says")
    lead = broadcast_shapes(
        "vectorize", [a.type.shape[: a.ndim - core] for a, core in zip(arrays, cores, strict=True)] or [()]
    )

    def one(*values: Any) -> Any:
        own = {**given, **dict(zip(mapped, values, strict=True))}
        return function(*[own[k] for k in range(len(args))], **{k: own[k] for k in kwargs})

    if not lead:
        return _typed(f, one(*arrays), lead)
    if product(lead) == 0 and f.otypes is None:
        raise ValueError("cannot call `vectorize` on size 0 inputs unless `otypes` is set")
    flat = []
    for a, core in zip(arrays, cores, strict=True):
        own = a.type.shape[a.ndim - core :]
        flat.append(reshape(broadcast_to(a, (*lead, *own)), (-1, *own)))
    return _typed(f, st.vmap(one)(*flat), lead)


def _typed(f: Any, results: Any, lead: tuple[Any, ...]) -> Any:
    """The results in the shape of the arguments, and of the dtypes in `otypes`."""
    several = isinstance(results, tuple)
    out: list[Array] = []
    for k, r in enumerate(results if several else (results,)):
        x = dynamic(r)
        if lead:
            x = reshape(x, (*lead, *x.type.shape[1:]))
        out.append(x.astype(np.dtype(f.otypes[k])) if f.otypes else x)
    return tuple(out) if several else out[0]
