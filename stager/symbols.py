"""Traced integers as dims: the bridge from a value to a symbol of the graph."""

from __future__ import annotations

from typing import Any

from stager.array import Array
from stager.ir.dims import Dim
from stager.ir.dtypes import i64
from stager.ops.elementwise import convert
from stager.ops.regions import dim_of as dim_of_raw


def dim_of(x: Array) -> Dim:
    """The dim whose run-time value is the traced integer scalar x."""
    if x.type.dtype.kind not in "iu" or x.type.shape:
        raise TypeError("only integer scalar arrays can be converted to a scalar index")
    value: Any = x.raw()
    return dim_of_raw(value if value.type.dtype is i64 else convert(value, dtype=i64))
