"""Jacobians and Hessians: both modes mapped over the unit vectors of an argument's space."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from stager.array import Array, wrap
from stager.ir.dims import product
from stager.ir.types import Type
from stager.ops.elementwise import convert, eq
from stager.ops.structural import iota_along
from stager.ops.views import reshape
from stager.runtime.structure import flatten, unflatten
from stager.transforms.calling import plainly
from stager.transforms.differentiation import Selected
from stager.transforms.grad import Recorded, grad
from stager.transforms.jvp import jvp, push_forward
from stager.transforms.vmap import vmap


def unit_vectors(t: Type) -> Array:
    """The identity as an array of shape (t.size, *t.shape): one unit vector of t's space per row."""
    n = product(t.shape)
    grid = (n, n)
    eye = convert(eq(iota_along(grid, 0), iota_along(grid, 1)), dtype=t.dtype)
    return wrap(reshape(eye, shape=(n, *t.shape)))


def jacfwd(
    f: Callable[..., Any], argnums: Any = 0, has_aux: bool = False, *, chunk_size: int | None = None
) -> Callable[..., Any]:
    """The Jacobian of f by forward mode: best for few inputs and many outputs.

    For each output of shape o and each differentiated argument of shape i an array of shape o + i, nested as the
    outputs and in them as the arguments. chunk_size: unit vectors at a time.

    >>> import numpy as np, stager as st
    >>> st.jacfwd(lambda x: x ** 2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """

    @functools.wraps(f)
    @plainly
    def jacobian_of(*args: Any, **kwargs: Any) -> Any:
        selected = Selected("jacfwd", f, args, kwargs, argnums)
        aux_kept: list[Any] = []
        columns: list[list[Any]] = []
        structure: Any = None
        for k, leaf in enumerate(selected.leaves):

            def along(unit: Array, k: int = k) -> Any:
                nonlocal structure
                tangents: list[Any] = [None] * len(selected.leaves)
                tangents[k] = unit.raw()
                values, moved, structure, aux = push_forward(f, selected, tangents, has_aux)
                if has_aux and not aux_kept:
                    aux_kept.append(aux)
                from stager.ops.families import zeros_like

                return [wrap(zeros_like(v) if t is None else t) for v, t in zip(values, moved, strict=True)]

            mapped = vmap(along, out_dims=-1, chunk_size=chunk_size)(unit_vectors(leaf.type))
            columns.append([_grown(c, c.type.shape[:-1] + leaf.type.shape) for c in mapped])
        rows = [selected.result([c[r] for c in columns]) for r in range(structure.leaves)]
        out = unflatten(structure, rows)
        return (out, aux_kept[0]) if has_aux else out

    return jacobian_of


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
        rows = []
        for r, value in enumerate(record.values):

            def back(ct: Array, r: int = r) -> Any:
                cts: list[Any] = [None] * len(record.values)
                cts[r] = ct.raw()
                return record.pull_back(cts)

            mapped = vmap(back, chunk_size=chunk_size)(unit_vectors(value.type))
            rows.append(selected.result([_grown(m, (*value.type.shape, *m.type.shape[1:])) for m in mapped]))
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
    return jacfwd(jacrev(f, argnums, has_aux), argnums, has_aux, chunk_size=chunk_size)


def hvp(f: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """(gradient, Hessian times tangents) of a scalar function of several arguments, forward over reverse.

    >>> import numpy as np, stager as st
    >>> st.hvp(lambda x: (x ** 3).sum(), (np.array([1.0, 2.0]),), (np.array([1.0, 0.0]),))[1]
    array([6., 0.])
    """
    argnums: Any = 0 if len(primals) == 1 else tuple(range(len(primals)))
    return jvp(grad(f, argnums), primals, tangents)
