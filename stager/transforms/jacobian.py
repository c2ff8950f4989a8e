"""Jacobians and Hessians: both modes mapped over the unit vectors of an argument's space."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any

from stager.array import Array, wrap
from stager.ir.dims import Dim, product
from stager.ir.types import Type
from stager.ops.elementwise import add, eq, select
from stager.ops.families import full, zeros_like
from stager.ops.regions import dim_value
from stager.ops.structural import iota_along
from stager.ops.views import broadcast, reshape, slice_axis
from stager.runtime.structure import flatten, unflatten
from stager.transforms.calling import plainly
from stager.transforms.differentiation import Selected
from stager.transforms.grad import Recorded, grad
from stager.transforms.jvp import jvp, push_forward
from stager.transforms.vmap import vmap


def unit_vectors(types: Sequence[Type]) -> list[Array]:
    """The unit vectors of a space whose parts have these types: per part an array (n, *shape), n their total size."""
    sizes = [product(t.shape) for t in types]
    n = functools.reduce(operator.add, sizes, 0)
    out: list[Array] = []
    start: Dim = 0
    for t, size in zip(types, sizes, strict=True):
        rows, columns = iota_along((n, size), 0), iota_along((n, size), 1)
        if start != 0:
            columns = add(columns, broadcast(dim_value(start), shape=(n, size), axes=()))
        # a select, not a conversion: this is how passes know unit vectors from an identity matrix of the user's
        units = select(eq(rows, columns), full((n, size), 1, t.dtype), full((n, size), 0, t.dtype))
        out.append(wrap(reshape(units, shape=(n, *t.shape))))
        start += size
    return out


def jacfwd(
    f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The Jacobian of f by forward mode: best for few inputs and many outputs.

    For each output of shape o and each differentiated argument of shape i an array of shape o + i, nested as the
    outputs and in them as the arguments. chunk_size: unit vectors at a time. Random numbers are drawn once.

    >>> import numpy as np, stager as st
    >>> st.jacfwd(lambda x: x ** 2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _forward("jacfwd", f, argnums, has_aux, chunk_size)


def _forward(
    name: str, f: Callable[..., Any], argnums: Any, has_aux: bool, chunk_size: int | None
) -> Callable[..., Any]:
    @functools.wraps(f)
    @plainly
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        selected = Selected(name, f, args, kwargs, argnums)
        types = [x.type for x in selected.leaves]
        structure: Any = None

        def along(*units: Array) -> Any:
            nonlocal structure
            values, moved, structure, aux = push_forward(f, selected, [u.raw() for u in units], has_aux)
            tangents = [wrap(zeros_like(v) if t is None else t) for v, t in zip(values, moved, strict=True)]
            arrays, nested = flatten(aux)
            traced = [isinstance(x, Array) for x in arrays]
            static.append((nested, traced, [None if on else x for x, on in zip(arrays, traced, strict=True)]))
            return tangents, [x for x, on in zip(arrays, traced, strict=True) if on]

        static: list[Any] = []
        one = None if types else 1  # no argument: nothing to map over
        # lanes are directions of one evaluation, for which random numbers are drawn once
        lanes = vmap(along, out_dims=(-1, None), randomness="same", chunk_size=chunk_size, axis_size=one)
        mapped, aux_arrays = lanes(*unit_vectors(types))
        columns: list[list[Any]] = []
        start: Dim = 0
        for t in types:
            size = product(t.shape)
            columns.append([_part(m, start, size, t) if len(types) > 1 else _last_axis(m, t) for m in mapped])
            start += size
        out = unflatten(structure, [selected.result([c[r] for c in columns]) for r in range(structure.leaves)])
        if not has_aux:
            return out
        nested, traced, rest = static[-1]
        found = iter(aux_arrays)
        return out, unflatten(nested, [next(found) if on else x for x, on in zip(rest, traced, strict=True)])

    return jacobian_of


def _part(x: Array, start: Any, size: Any, t: Type) -> Array:
    """The columns of one part, in its shape."""
    return _last_axis(wrap(slice_axis(x.raw(), x.ndim - 1, start, size)), t)


def _last_axis(x: Array, t: Type) -> Array:
    """The columns in the shape of the part. Integer outputs do not vary: zeros of the part's dtype, as in `jacrev`."""
    shape = x.type.shape[:-1] + t.shape
    return _grown(x, shape) if x.type.dtype.is_inexact else wrap(full(shape, 0, t.dtype))


def _grown(x: Array, shape: Any) -> Array:
    return wrap(reshape(x.raw(), shape=shape))


def jacrev(
    f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The Jacobian of f by reverse mode: best for many inputs and few outputs. Results as `jacfwd`.

    >>> import numpy as np, stager as st
    >>> st.jacrev(lambda x: (x ** 2).sum())(np.array([1.0, 2.0]))
    array([2., 4.])
    """

    @functools.wraps(f)
    @plainly
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        selected = Selected("jacrev", f, args, kwargs, argnums)
        record = Recorded("jacrev", f, selected, has_aux, scalar=False)

        def rows_of(r: int) -> Any:
            t = record.values[r].type

            def back(ct: Array) -> Any:
                cts: list[Any] = [None] * len(record.values)
                cts[r] = ct.raw()
                return record.pull_back(cts)

            mapped = vmap(back, chunk_size=chunk_size)(*unit_vectors([t]))
            return selected.result([_grown(m, (*t.shape, *m.type.shape[1:])) for m in mapped])

        rows = record.end(lambda: [rows_of(r) for r in range(len(record.values))])
        out = unflatten(record.structure, rows)
        return (out, record.aux) if has_aux else out

    return jacobian_of


def jacobian(
    f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The Jacobian of f, by the mode that needs fewer passes: forward unless f has fewer outputs than inputs."""

    @functools.wraps(f)
    @plainly
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        selected = Selected("jacobian", f, args, kwargs, argnums)
        inputs = sum(n for n in (product(x.type.shape) for x in selected.leaves) if isinstance(n, int))
        outputs = _output_size(f, args, kwargs, has_aux)
        mode = jacrev if outputs < inputs else jacfwd
        return mode(f, argnums, has_aux, chunk_size=chunk_size)(*args, **kwargs)

    return jacobian_of


def _output_size(f: Callable[..., Any], args: Any, kwargs: Any, has_aux: bool) -> int:
    from stager.transforms.shapes import eval_shape

    out = eval_shape(f, *args, **kwargs)
    leaves = flatten(out[0] if has_aux else out)[0]
    return sum(n for n in (product(t.shape) for t in leaves) if isinstance(n, int))


def hessian(
    f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The Hessian of a scalar function: forward mode over reverse mode.

    >>> import numpy as np, stager as st
    >>> st.hessian(lambda x: (x ** 3).sum())(np.array([1.0, 2.0]))
    array([[ 6.,  0.],
           [ 0., 12.]])
    """
    return _forward("hessian", jacrev(f, argnums, has_aux), argnums, has_aux, chunk_size)


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """(gradient, Hessian times tangents) of a scalar function of several arguments, forward over reverse.

    >>> import numpy as np, stager as st
    >>> st.hvp(lambda x: (x ** 3).sum(), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))[1]
    array([6., 0.])
    """
    argnums: Any = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)
