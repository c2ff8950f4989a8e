"""Functions of scipy.special that are written in Python: what composes from NumPy's own is traced through that.

As with its ufuncs (`scipy_ufuncs.py`), stager never imports SciPy: a function is recognised by being the one that the
loaded `scipy.special` holds under its name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import UnsupportedError, describe


def _logsumexp(a: Any, axis: Any = None, b: Any = None, keepdims: bool = False, return_sign: bool = False) -> Any:
    if b is not None or return_sign:
        text = "scipy.special.logsumexp is traced without b and return_sign"
        raise UnsupportedError(describe(text, remedy="write np.log(np.sum(b * np.exp(a - m))) + m with m = np.max(a)"))
    axes = tuple(range(np.ndim(a))) if axis is None else axis
    reduce: Any = np.logaddexp.reduce
    return reduce(a, axis=axes, keepdims=keepdims)


def _softmax(x: Any, axis: Any = None) -> Any:
    e = np.exp(x - np.max(x, axis=axis, keepdims=True))
    return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(x: Any, axis: Any = None) -> Any:
    shifted = x - np.max(x, axis=axis, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


FUNCTIONS: dict[str, Callable[..., Any]] = {"logsumexp": _logsumexp, "softmax": _softmax, "log_softmax": _log_softmax}


def scipy_function(f: Any) -> Callable[..., Any] | None:
    """What stands for a function of the loaded scipy.special when its argument is traced; None for any other."""
    special = sys.modules.get("scipy.special")
    traced = FUNCTIONS.get(getattr(f, "__name__", ""))
    if special is None or traced is None:
        return None
    held: Any = getattr(special, f.__name__, None)
    if held is not f:
        return None

    def call(x: Any, *args: Any, **kwargs: Any) -> Any:
        return traced(x, *args, **kwargs) if type(x) is Array else held(x, *args, **kwargs)

    return call
