"""Shapes and axes: functions whose results are views of their operand, and those that join arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.array import Array, as_array, check_shape
from stager.numpy.registry import array_property, implements
from stager.ops import views


@implements(np.transpose)
def transpose(a: Any, axes: Any = None) -> Array:
    """Axes permuted: a view."""
    a = as_array(a)
    perm = tuple(range(a.ndim))[::-1] if axes is None else tuple([k % a.ndim for k in axes])
    if sorted(perm) != list(range(a.ndim)):
        raise ValueError("axes don't match array")
    return a.view(views._transpose.op, perm=perm) if perm != tuple(range(a.ndim)) else a


@array_property("T")
def T(self: Array) -> Array:
    return transpose(self)


__all__ = ["T", "check_shape", "transpose"]
