"""Leaves of the arguments of a trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import UnsupportedError, describe
from stager.ir.dtypes import dtype_of
from stager.ir.graph import Value
from stager.ir.types import Type


class Known:
    """Among types: a number that the function is traced with, as it is with text and flags. (No dataclass: those are
    containers.)"""

    __slots__ = ("value",)

    def __init__(self, value: int | float) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass
class Leaf:
    """One leaf of the arguments. kind "array", "float", "int" (traced) or "static" (a guard on its value)."""

    kind: str
    value: Any
    input: Value | None = None
    array: Array | None = None
    specialized: bool = False  # an int whose value the trace needed: a guard too


def classify(x: Any) -> str:
    """How an argument leaf is taken."""
    if isinstance(x, np.ndarray | np.generic):
        return "array"
    if type(x) is float:
        return "float"
    if type(x) is int:
        return "int"
    return "static"


def leaf_type(x: Any) -> Type:
    """The type of an array or number leaf; UnsupportedError (a TypeError) for dtypes stager does not take."""
    if isinstance(x, np.ndarray | np.generic):
        try:
            return Type(dtype_of(x.dtype), x.shape)
        except TypeError as e:
            raise UnsupportedError(describe(f"an argument has dtype {x.dtype}", remedy=str(e))) from None
    return Type(dtype_of(np.float64 if type(x) is float else np.int64), ())
