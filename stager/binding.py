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


def bind(
    fn: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> inspect.BoundArguments:
    """The arguments by parameter. TypeError when they do not fit.

    With defaults, unless the signature is that of a function inside fn (a transform's, a decorator's): a default is the
    inner function's to fill in, and no argument that `in_dims` or a negative `argnums` counts. Which arguments are left
    out then depends on the values alone, as the match of the native entry does.
    """
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as e:
        raise TypeError(f"{getattr(fn, '__name__', 'the function')}{signature}: {e}") from None
    if not hasattr(fn, "__wrapped__"):
        bound.apply_defaults()
        return bound
    for name, value in list(bound.arguments.items()):
        if value is signature.parameters[name].default:
            del bound.arguments[name]
    return bound
