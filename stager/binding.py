"""A call's arguments by the parameters of the function that takes them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np


def signature_of(fn: Callable[..., Any]) -> inspect.Signature:
    """The parameters of a callable; `*args` where they are not known."""
    if isinstance(fn, np.ufunc):  # its keywords exclude one another: none has a default that may be passed
        names = "xyzw"[: fn.nin] if fn.nin <= 4 else []
        return inspect.Signature([inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in names])
    try:
        return inspect.signature(fn)
    except (ValueError, TypeError):
        return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])


def parts_of(fn: Callable[..., Any]) -> list[Any]:
    """The code of a function and its defaults: all can be assigned."""
    named = getattr(fn, "__kwdefaults__", None) or {}
    return [getattr(fn, "__code__", None), *(getattr(fn, "__defaults__", None) or ()), *named.values()]


class Bound(inspect.BoundArguments):
    """The arguments of a call by parameter. `positional` is how many of them were given by position, or None where a
    parameter is the same thing however its argument came.

    A transform tells the two apart (`in_dims` and a negative `argnums` count positions, lanes share what is given by
    keyword), so what stands around another function gets its arguments as the caller gave them.
    """

    __slots__ = ("positional",)

    def __init__(self, signature: inspect.Signature, arguments: dict[str, Any], positional: int | None) -> None:
        super().__init__(signature, arguments)
        self.positional = positional

    def replaced(self, arguments: dict[str, Any]) -> Bound:
        """The same call with other arguments."""
        return Bound(self.signature, arguments, self.positional)

    def _given_by_position(self) -> list[str]:
        names = []
        for place, q in enumerate(self.signature.parameters.values()):
            either = q.kind is q.POSITIONAL_OR_KEYWORD and (self.positional is None or place < self.positional)
            if q.name not in self.arguments or not (either or q.kind in (q.POSITIONAL_ONLY, q.VAR_POSITIONAL)):
                break
            names.append(q.name)
        return names

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments given by position."""
        found: list[Any] = []
        for name in self._given_by_position():
            several = self.signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
            found.extend(self.arguments[name] if several else [self.arguments[name]])
        return tuple(found)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The arguments given by keyword, in the order of the parameters."""
        found: dict[str, Any] = {}
        first = set(self._given_by_position())
        for name, value in self.arguments.items():
            if name not in first:
                several = self.signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD
                found.update(value if several else {name: value})
        return found


def bind(fn: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Bound:
    """The arguments by parameter. TypeError when they do not fit.

    With defaults, unless the signature is that of a function inside fn (a transform's, a decorator's): a default is the
    inner function's to fill in, and no argument that `in_dims` or a negative `argnums` counts. Which arguments are left
    out then depends on what the native entry matches too: the number given by position, and the values.
    """
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as e:
        raise TypeError(f"{getattr(fn, '__name__', 'the function')}{signature}: {e}") from None
    if not hasattr(fn, "__wrapped__"):
        bound.apply_defaults()
        return Bound(signature, bound.arguments, None)
    for place, q in enumerate(signature.parameters.values()):
        left_out = place >= len(args) or q.kind is q.KEYWORD_ONLY
        if left_out and q.name in bound.arguments and bound.arguments[q.name] is q.default:
            del bound.arguments[q.name]
    return Bound(signature, bound.arguments, len(args))
