"""Attaches to `Array` what an ndarray offers, from tables: operators, methods, properties, the two NumPy protocols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stager.array import Array
from stager.errors import UnsupportedError, describe
from stager.numpy.array_methods import SETTERS
from stager.numpy.functions import FUNCTIONS, METHODS, PROPERTIES, unsupported_function
from stager.numpy.indexing import getitem, setitem
from stager.numpy.ufunc_methods import apply_ufunc_method
from stager.numpy.ufuncs import apply_operator, apply_ufunc

BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "lshift": np.left_shift,
    "rshift": np.right_shift,
    "divmod": np.divmod,
}
COMPARISONS = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
UNARY = {"neg": np.negative, "pos": np.positive, "abs": np.absolute, "invert": np.invert}


def _is_operand(x: Any) -> bool:
    return isinstance(x, Array | np.ndarray | np.generic | bool | int | float | complex | list | tuple) or hasattr(
        x, "terms"
    )


def _binary(ufunc: Any) -> Callable[..., Any]:
    return lambda self, other: apply_operator(ufunc, self, other) if _is_operand(other) else NotImplemented


def _reflected(ufunc: Any) -> Callable[..., Any]:
    return lambda self, other: apply_operator(ufunc, other, self) if _is_operand(other) else NotImplemented


def _in_place(ufunc: Any) -> Callable[..., Any]:
    def method(self: Array, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        return (
            apply_ufunc(ufunc, self, other, out=(self,))
            if self.holds_memory or self.cell.origin is not None
            else apply_operator(ufunc, self, other)
        )

    return method


def _unary(ufunc: Any) -> Callable[..., Any]:
    return lambda self: apply_operator(ufunc, self)


def array_ufunc(self: Array, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
    """NumPy's ufunc protocol."""
    if method == "__call__":
        gufunc = FUNCTIONS.get(ufunc)
        if gufunc is not None:
            return gufunc(*inputs, **kwargs)
        return apply_ufunc(ufunc, *inputs, **kwargs)
    return apply_ufunc_method(ufunc, method, *inputs, **kwargs)


def array_function(self: Array, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """NumPy's function protocol."""
    rule = FUNCTIONS.get(func)
    if rule is None:
        unsupported_function(func)
    return rule(*args, **kwargs)


def _iterate(self: Array) -> Any:
    if not self.type.shape:
        raise TypeError("iteration over a 0-d array")
    return (getitem(self, i) for i in range(len(self)))


def attach() -> None:
    """Give `Array` its operators, methods and protocols."""
    own: Any = Array
    for name, ufunc in BINARY.items():
        setattr(Array, f"__{name}__", _binary(ufunc))
        setattr(Array, f"__r{name}__", _reflected(ufunc))
        if name != "divmod":
            setattr(Array, f"__i{name}__", _in_place(ufunc))
    for name, ufunc in COMPARISONS.items():
        setattr(Array, f"__{name}__", _binary(ufunc))
    for name, ufunc in UNARY.items():
        setattr(Array, f"__{name}__", _unary(ufunc))
    matmul = FUNCTIONS.get(np.matmul)
    if matmul is not None:
        own.__matmul__ = lambda self, other: matmul(self, other)
        own.__imatmul__ = lambda self, other: matmul(self, other, out=self)
        own.__rmatmul__ = lambda self, other: matmul(other, self)
    own.__getitem__ = getitem
    own.__setitem__ = setitem
    own.__iter__ = _iterate
    own.__array_ufunc__ = array_ufunc
    own.__array_function__ = array_function
    for name, rule in METHODS.items():
        setattr(Array, name, rule)
    for name, rule in PROPERTIES.items():
        setattr(Array, name, property(rule, SETTERS.get(name)))


def unknown_attribute(self: Array, name: str) -> Any:
    """Only reached for attributes that an Array lacks."""
    if not name.startswith("_") and hasattr(np.ndarray, name):
        raise UnsupportedError(describe(f"the ndarray attribute {name!r} is not supported on traced arrays"))
    raise AttributeError(f"'Array' object has no attribute {name!r}")


Array.__getattr__ = unknown_attribute  # type: ignore[attr-defined]
attach()
