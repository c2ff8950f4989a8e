"""NumPy on traced arrays: the functions, methods and operators that user code calls, composed from the op set.

`import stager.numpy as snp` has every NumPy function that is supported. Outside a trace they are NumPy's own; inside
one they take traced arrays, also where nothing resolves calls (lambdas without source, code run by `exec`).
"""

from __future__ import annotations

import functools as _functools
from collections.abc import Callable as _Callable
from typing import Any as _Any

import numpy as _np


class _Part:
    """A namespace of NumPy (`snp.linalg`)."""

    def __init__(self, original: _Any, name: str) -> None:
        self._original = original
        self._name = name

    def __getattr__(self, name: str) -> _Any:
        return _counterpart(self._original, name, self._name)

    def __dir__(self) -> list[str]:
        return _names(self._original)


def _supported(original: _Any) -> bool:
    from stager.capture.table import SUBSTITUTES
    from stager.numpy.functions import FUNCTIONS
    from stager.numpy.ufuncs import UFUNCS

    if isinstance(original, _np.ufunc):
        return original in UFUNCS or original in FUNCTIONS
    return SUBSTITUTES.get(original) is not None or (original.__hash__ is not None and original in FUNCTIONS)


def _names(namespace: _Any) -> list[str]:
    names = [n for n in dir(namespace) if not n.startswith("_")]
    return [n for n in names if not callable(f := getattr(namespace, n)) or isinstance(f, type) or _supported(f)]


def _counterpart(namespace: _Any, name: str, shown: str) -> _Any:
    original = getattr(namespace, name, None) if not name.startswith("_") else None
    if original is None and name != "newaxis":
        raise AttributeError(f"module {shown!r} has no attribute {name!r}")
    if name == "linalg":
        return _Part(original, f"{shown}.linalg")
    if not callable(original) or isinstance(original, type):
        return original
    if not _supported(original):
        raise AttributeError(f"{shown}.{name} is not there: np.{name} is not supported on traced arrays")
    return _dispatching(original)


@_functools.cache
def _dispatching(original: _Any) -> _Callable[..., _Any]:
    @_functools.wraps(original)
    def call(*args: _Any, **kwargs: _Any) -> _Any:
        from stager.interpreters.stack import active

        if not active():
            return original(*args, **kwargs)
        from stager.capture.session import holds_tracer
        from stager.capture.table import SUBSTITUTES
        from stager.numpy.functions import FUNCTIONS
        from stager.numpy.ufuncs import UFUNCS, apply_ufunc

        stand_in = SUBSTITUTES.get(original)
        if stand_in is not None:
            return stand_in(*args, **kwargs)
        if not any(holds_tracer(a, 2) for a in (*args, *kwargs.values())):
            return original(*args, **kwargs)
        if original in UFUNCS:
            return apply_ufunc(original, *args, **kwargs)
        return FUNCTIONS[original](*args, **kwargs)

    return call


def __getattr__(name: str) -> _Any:
    return _counterpart(_np, name, __name__)


def __dir__() -> list[str]:
    return _names(_np)
