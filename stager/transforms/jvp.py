"""Forward mode: `jvp`, and the Jacobians made of both modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stager import cells
from stager.array import as_array, wrap
from stager.errors import TransformError, describe
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import push
from stager.ops.families import zeros_like
from stager.runtime.structure import flatten, unflatten
from stager.transforms.calling import enter, plainly, result_value, write_back
from stager.transforms.differentiation import Selected
from stager.transforms.grad import wrap_later


def jvp(f: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False) -> Any:
    """(f(*primals), the derivative of f at primals along tangents), and aux when has_aux.

    primals and tangents are tuples or lists of one structure, one item per argument of f.
    TypeError when a tangent does not have its primal's shape.

    >>> import numpy as np, stager as st
    >>> st.jvp(np.sin, (0.0,), (2.0,))
    (np.float64(0.0), np.float64(2.0))
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise TransformError(describe("jvp: primals and tangents are tuples or lists, one item per argument"))
    if len(primals) != len(tangents):
        raise TransformError(describe(f"jvp: {len(primals)} primals came with {len(tangents)} tangents"))
    return _jvp(f, has_aux)(tuple(primals), tuple(tangents))


def _jvp(f: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    @plainly
    def pushed(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
        selected = Selected("jvp", f, primals, {}, tuple(range(len(primals))))
        flat_tangents, structure = flatten(tangents)
        expected = flatten(primals)[1]
        if structure != expected:
            raise TransformError(describe(f"jvp: tangents have structure {structure}, primals {expected}"))
        values, moved, out_structure, aux = push_forward(f, selected, _tangents(selected, flat_tangents), has_aux)
        out = unflatten(out_structure, [wrap(v) for v in values])
        tangent = unflatten(
            out_structure, [wrap(zeros_like(v) if t is None else t) for v, t in zip(values, moved, strict=True)]
        )
        return (out, tangent, aux) if has_aux else (out, tangent)

    return pushed


def _tangents(selected: Selected, flat: list[Any]) -> list[Any]:
    from stager.numpy.promotion import operand

    out = []
    for x, t in zip(selected.leaves, flat, strict=True):
        r = operand(as_array(t), x.type.dtype)
        if r.type.shape != x.type.shape:
            raise TransformError(describe(f"jvp: a tangent of shape {tuple(r.type.shape)} came for a primal {x.type}"))
        out.append(r)
    return out


def push_forward(f: Callable[..., Any], selected: Selected, tangents: list[Any], has_aux: bool) -> Any:
    """(raw results, raw tangents or None, structure, aux) of f under a Jvp level."""
    interp = JvpInterpreter()
    raws = [x.raw() for x in selected.leaves]
    try:
        with push(interp):
            entered = [
                enter(interp, x, interp.wrap(r, t)) for x, r, t in zip(selected.leaves, raws, tangents, strict=True)
            ]
            out = selected.call(f, [e.inner for e in entered])
            aux = None
            if has_aux:
                if not isinstance(out, tuple) or len(out) != 2:
                    raise TransformError(describe("jvp: has_aux=True wants the function to return a pair (value, aux)"))
                out, aux = out
            results, structure = flatten(out)
            unwrapped = [interp.unwrap(result_value("jvp", x)) for x in results]
            aux_leaves, aux_structure = flatten(aux)
            lowered = [wrap_later(interp, x) for x in aux_leaves]
    except BaseException:
        cells.discard_overlays(interp)
        raise
    cells.commit_overlays(interp)
    write_back(entered, interp.lower_value)
    aux = unflatten(aux_structure, [wrap(x.value) if hasattr(x, "value") else x for x in lowered])
    return [v for v, _ in unwrapped], [t for _, t in unwrapped], structure, aux
