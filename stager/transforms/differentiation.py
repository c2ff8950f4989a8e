"""What the differentiating transforms share: which leaves are differentiated, and entering them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stager.array import Array, as_array
from stager.errors import TransformError, describe
from stager.runtime.structure import Structure, flatten, unflatten


class Selected:
    """The arguments of one call, split into the leaves that are differentiated and the rest."""

    def __init__(
        self, name: str, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Any
    ) -> None:
        self.single = not isinstance(argnums, tuple | list)
        self.keys = [_key(name, f, a, args, kwargs) for a in ([argnums] if self.single else argnums)]
        if len(set(self.keys)) < len(self.keys):
            raise ValueError(f"{name}: argnums {argnums!r} names one argument twice")
        self.args = list(args)
        self.kwargs = dict(kwargs)
        trees = [self._get(k) for k in self.keys]
        pairs = [flatten(t) for t in trees]
        self.structures: list[Structure] = [s for _, s in pairs]
        self.leaves: list[Array] = [checked(name, x) for leaves, _ in pairs for x in leaves]

    def _get(self, key: int | str) -> Any:
        return self.args[key] if isinstance(key, int) else self.kwargs[key]

    def call(self, f: Callable[..., Any], leaves: Sequence[Any]) -> Any:
        """f on the arguments with the differentiated leaves replaced."""
        from stager.transforms.calling import call_on_copies

        args, kwargs = list(self.args), dict(self.kwargs)
        for key, tree in zip(self.keys, self.trees(leaves), strict=True):
            if isinstance(key, int):
                args[key] = tree
            else:
                kwargs[key] = tree
        return call_on_copies(f, args, kwargs, self.keys)

    def trees(self, leaves: Sequence[Any]) -> list[Any]:
        """Leaves regrouped, one nesting per differentiated argument."""
        out, at = [], 0
        for s in self.structures:
            out.append(unflatten(s, list(leaves[at : at + s.leaves])))
            at += s.leaves
        return out

    def result(self, leaves: Sequence[Any]) -> Any:
        """What the transform returns: one nesting for a single argnum, else a tuple."""
        trees = self.trees(leaves)
        return trees[0] if self.single else tuple(trees)


def _key(name: str, f: Callable[..., Any], argnum: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | str:
    if isinstance(argnum, str):
        if argnum in kwargs:
            return argnum
        try:
            position = list(inspect.signature(f).parameters).index(argnum)
        except (ValueError, TypeError):
            position = len(args)
        if position < len(args):
            return position
        raise ValueError(f"{name}: argnums names the argument {argnum!r}, which was not given")
    if not isinstance(argnum, int | np.integer) or isinstance(argnum, bool):
        raise TypeError(f"{name}: argnums is an int, a name or a tuple of those, not {argnum!r}")
    if not -len(args) <= argnum < len(args):
        raise ValueError(f"{name}: argnums says argument {argnum}, but {len(args)} positional arguments were given")
    return int(argnum) % len(args)


def checked(name: str, x: Any) -> Array:
    """A differentiated leaf as a handle; integer leaves are refused."""
    if not isinstance(x, Array | np.ndarray | np.generic | float | int):
        raise TransformError(describe(f"{name}: cannot differentiate with respect to a {type(x).__name__}"))
    a = as_array(x)
    if not a.type.dtype.is_inexact:
        raise TransformError(
            describe(
                f"{name}: differentiated arguments must be floating-point; one is {a.type}",
                remedy="convert it, for example x.astype(float), or leave it out of argnums",
            )
        )
    return a


def scalar_output(name: str, results: list[Any]) -> Any:
    """The one scalar floating-point result that a gradient needs."""
    if len(results) != 1:
        raise TransformError(
            describe(
                f"{name}: the function must return one scalar; it returned {len(results)} arrays",
                remedy="has_aux=True for a (value, aux) pair",
            )
        )
    out = as_array(results[0])
    if out.type.shape != ():
        raise TransformError(
            describe(
                f"{name}: the function must return a scalar; it returned {out.type}", remedy="sum it, or use st.jacrev"
            )
        )
    if not out.type.dtype.is_inexact:
        raise TransformError(
            describe(f"{name}: the function must return a floating-point scalar; it returned {out.type}")
        )
    return out
