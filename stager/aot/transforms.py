"""`--with`: the functions that a library holds beside f, each with the specs that its arguments have."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import stager as st
from stager.aot.errors import BuildError
from stager.aot.specs import batched, fresh_symbol
from stager.ir.types import Type
from stager.runtime.structure import broadcast_prefix, flatten, unflatten
from stager.transforms.calling import call_user
from stager.transforms.shapes import eval_shape

Made = tuple[Callable[..., Any], list[Any]]  # a function and one spec per parameter


def transformed(fn: Callable[..., Any], kind: str, specs: Sequence[Any], *, argnums: Any = 0, in_dims: Any = 0) -> Made:
    """A transform of fn and its specs. `kind` is a key of `TRANSFORMS`.

    argnums: which arguments grad, value_and_grad and the Jacobians differentiate. in_dims: as `vmap` takes it. vjp and
    jvp differentiate every argument that holds floating-point numbers only.
    """
    if kind not in TRANSFORMS:
        raise BuildError(f"{kind!r} is no transform; known are {', '.join(TRANSFORMS)}")
    return TRANSFORMS[kind](fn, list(specs), argnums, in_dims)


def _same_specs(name: str) -> Callable[..., Made]:
    """A transform whose function takes what fn takes."""
    return lambda fn, specs, argnums, in_dims: (getattr(st, name)(fn, argnums=argnums), specs)


def _vmap(fn: Any, specs: list[Any], argnums: Any, in_dims: Any) -> Made:
    flat, structure = flatten(tuple(specs))
    axes = broadcast_prefix(in_dims, structure, name="in_dims")
    size = fresh_symbol("batch", specs)
    pairs = zip(flat, axes, strict=True)
    wide = [batched(t, a, size) if a is not None and isinstance(t, Type) else t for t, a in pairs]
    return st.vmap(fn, in_dims=in_dims), list(unflatten(structure, wide))


def _differentiable(specs: Sequence[Any]) -> list[int]:
    """The arguments that hold floating-point numbers only."""

    def floats(spec: Any) -> bool:
        leaves = flatten(spec)[0]
        return bool(leaves) and all(type(x) is float or (isinstance(x, Type) and x.dtype.kind == "f") for x in leaves)

    found = [k for k, spec in enumerate(specs) if floats(spec)]
    if not found:
        raise BuildError("no argument holds floating-point numbers only: there is nothing to differentiate")
    return found


def _filled(args: Sequence[Any], at: Sequence[int], values: Sequence[Any]) -> list[Any]:
    out = list(args)
    for k, v in zip(at, values, strict=True):
        out[k] = v
    return out


def _with_signature(made: Callable[..., Any], fn: Any, specs: Sequence[Any], more: Sequence[str]) -> Callable[..., Any]:
    """Parameters of the first arguments of fn, then more."""
    names = list(inspect.signature(fn).parameters)[: len(specs)]
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in (*names, *more)])  # type: ignore[attr-defined]
    return made


def _vjp(fn: Any, specs: list[Any], argnums: Any, in_dims: Any) -> Made:
    """(arguments of fn, cotangents of its results) -> cotangents of its floating-point arguments."""
    at, count = _differentiable(specs), len(specs)

    def pulled_back(*args: Any) -> Any:
        found = st.vjp(lambda *xs: call_user(fn, _filled(args[:count], at, xs)), *[args[k] for k in at])[1](args[count])
        return found if len(found) > 1 else found[0]

    cotangents = eval_shape(fn, *specs)
    return _with_signature(pulled_back, fn, specs, ["ct"]), [*specs, cotangents]


def _jvp(fn: Any, specs: list[Any], argnums: Any, in_dims: Any) -> Made:
    """(arguments of fn, tangents of its floating-point arguments) -> (results, their tangents)."""
    at, count = _differentiable(specs), len(specs)

    def pushed_forward(*args: Any) -> Any:
        of = tuple([args[k] for k in at])
        return st.jvp(lambda *xs: call_user(fn, _filled(args[:count], at, xs)), of, args[count:])

    names = list(inspect.signature(fn).parameters)
    more = [f"{names[k]}_tangent" for k in at]
    return _with_signature(pushed_forward, fn, specs, more), [*specs, *[specs[k] for k in at]]


TRANSFORMS: dict[str, Callable[..., Made]] = {
    "grad": _same_specs("grad"),
    "value_and_grad": _same_specs("value_and_grad"),
    "jacfwd": _same_specs("jacfwd"),
    "jacrev": _same_specs("jacrev"),
    "hessian": _same_specs("hessian"),
    "vmap": _vmap,
    "vjp": _vjp,
    "jvp": _jvp,
}
