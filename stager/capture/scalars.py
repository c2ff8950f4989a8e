"""Traced Python scalars: what stands for the `float`, `int` and `bool` of a program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.capture.operators import tested
from stager.capture.session import TRACERS
from stager.ir.dims import Expr


def of_tracers(original: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
    def stand_in(*args: Any, **kwargs: Any) -> Any:
        for a in args:
            if type(a) in TRACERS or type(a) is Expr:
                return traced(*[counted(a) for a in args], **kwargs)
        return original(*args, **kwargs)

    return stand_in


def counted(x: Any) -> Any:
    """A symbolic size as a traced number; anything else as it is."""
    if type(x) is not Expr:
        return x
    from stager.symbols import number

    return number(x)


def weakly(x: Any) -> Any:
    """The traced scalar as what Python's own `float` or `int` gives: it promotes weakly."""
    from stager.capture.staging import weakened

    return weakened(x)


def scalar(x: Any) -> Any:
    return x.reshape(()) if x.ndim else x


def truth(x: Any = False) -> Any:
    """`bool(x)`, traced where x is."""
    x = tested(x)
    return scalar(x).astype(np.bool_) if type(x) in TRACERS else bool(x)
