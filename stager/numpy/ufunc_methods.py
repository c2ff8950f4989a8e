"""The methods of ufuncs (`np.add.reduce`, `accumulate`, `outer`, `at`) on traced arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.errors import UnsupportedError, describe
from stager.numpy.registry import FUNCTIONS

REDUCE = {np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min, np.logical_and: np.all, np.logical_or: np.any}


def apply_ufunc_method(ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """`ufunc.method(*inputs, **kwargs)`."""
    if method == "reduce" and ufunc in REDUCE:
        kwargs.setdefault("axis", 0)
        return FUNCTIONS[REDUCE[ufunc]](*inputs, **kwargs)
    raise UnsupportedError(describe(f"np.{ufunc.__name__}.{method} is not supported on traced arrays"))
