"""ndarray methods and properties that are not a function's twin: flat, real, imag, view, partition, item access."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, wrap
from stager.errors import UnsupportedError, describe
from stager.ir.dims import contiguous_strides
from stager.layouts import is_contiguous, layout_of
from stager.numpy.indexing import getitem, setitem
from stager.numpy.registry import METHODS, array_property, implements, method
from stager.numpy.shaping import axis_of, handle, reshape
from stager.ops import elementwise as op
from stager.ops import views


class Flat:
    """`x.flat`: the elements in C order, read and written through x, whatever its strides."""

    __slots__ = ("base",)

    def __init__(self, base: Array) -> None:
        self.base = base

    def _line(self) -> Array:
        return wrap(views.reshape(self.base.raw(), shape=(self.base.type.size,)))

    def __getitem__(self, index: Any) -> Any:
        out = getitem(self._line(), index)
        return wrap(op.copy(out.raw()), out.weak) if out.path else out

    def __setitem__(self, index: Any, value: Any) -> None:
        line = self._line()
        value = handle(value)
        wanted = getitem(line, index)
        n, m = value.type.size, wanted.type.size
        if isinstance(n, int) and isinstance(m, int) and n and n != m:  # NumPy repeats or cuts what is assigned to flat
            value = getitem(reshape(value, (-1,)), np.arange(m) % n)
            value = reshape(value, wanted.type.shape)
        setitem(line, index, reshape(value, wanted.type.shape) if n == m else value)
        self.base.write(views.reshape(line.raw(), shape=self.base.type.shape))

    def __len__(self) -> int:
        return len(self._line())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._line())  # type: ignore[call-overload, no-any-return]

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._line().__array__(dtype)

    def copy(self) -> Array:
        """The elements as a one-dimensional array."""
        return wrap(op.copy(self._line().raw()))


@array_property("flat")
def flat(self: Array) -> Flat:
    """The elements in C order, for reading and writing."""
    return Flat(self)


def set_flat(self: Array, value: Any) -> None:
    """`x.flat = v`."""
    Flat(self)[:] = value


@array_property("real")
def real_part(self: Array) -> Array:
    """The array itself: its elements are real."""
    return self.view_by(views._reshape.op, shape=self.type.shape)


def set_real(self: Array, value: Any) -> None:
    """`x.real = v`."""
    setitem(self, Ellipsis, value)


@array_property("imag")
def imaginary_part(self: Array) -> Array:
    """Zeros: the elements are real."""
    return wrap(views.broadcast(_zero(self), shape=self.type.shape, axes=()))


def _zero(x: Array) -> Any:
    from stager.ops.families import full

    return full((), 0, x.type.dtype)


SETTERS = {"flat": set_flat, "real": set_real}


@implements(np.real)
def real(val: Any) -> Array:
    """The real part: the array itself."""
    return real_part(handle(val))


@implements(np.imag)
def imag(val: Any) -> Array:
    """The imaginary part: zeros."""
    return imaginary_part(handle(val))


@method("conj")
def conj(self: Array) -> Array:
    """The array itself, as NumPy gives it for real elements."""
    return self


METHODS["conjugate"] = conj


@method("view")
def view(self: Array, dtype: Any = None, type: Any = None) -> Array:
    """Another handle on the same memory; the dtype may not change."""
    if dtype is not None and dtype is not np.ndarray and np.dtype(dtype) != self.dtype:
        raise UnsupportedError(
            describe(
                f"x.view({np.dtype(dtype).name}) of a traced {self.type} reads its bytes as another dtype, "
                "which is not supported",
                remedy="x.astype(dtype) converts the values",
            )
        )
    return self.view_by(views._reshape.op, shape=self.type.shape)


@method("round")
def round_method(self: Array, decimals: int = 0, out: Any = None) -> Array:
    """`np.round`."""
    from stager.numpy.registry import FUNCTIONS

    return FUNCTIONS[np.round](self, decimals, out)  # type: ignore[no-any-return]


@method("__round__")
def builtin_round(self: Array, ndigits: Any = None) -> Array:
    """`round(x)`: a Python int for a scalar; with digits, as `np.round`."""
    if ndigits is not None:
        return round_method(self, ndigits)
    if self.ndim:
        raise TypeError("only 0-dimensional arrays can be converted to Python scalars")
    from stager.ir.dtypes import i64

    whole = op.rint(self.raw()) if self.type.dtype.is_float else self.raw()
    return wrap(op.convert(whole, dtype=i64), True)


@method("partition")
def partition_in_place(self: Array, kth: Any, axis: int = -1, kind: str = "introselect", order: Any = None) -> None:
    """Partition the array itself: it is sorted, which is a partition for every kth."""
    from stager.numpy.sorting import partition

    self.write(partition(self, kth, axis_of(axis, self.ndim)).raw())


@array_property("base")
def base(self: Array) -> Any:
    """The array that a view shows a part of; None for an array with memory of its own."""
    return Array(self.cell, (), self.cell.type) if self.path else None


@array_property("strides")
def strides(self: Array) -> tuple[Any, ...]:
    """Byte strides, as NumPy's array would have them when its base is C-contiguous."""
    layout = layout_of(self)
    return layout.strides if layout is not None else contiguous_strides(self.type.shape, self.itemsize)


class Flags:
    """`x.flags` as far as a trace knows them."""

    __slots__ = ("c_contiguous", "contiguous", "f_contiguous", "forc", "owndata", "writeable")

    def __init__(self, x: Array) -> None:
        self.c_contiguous = self.contiguous = is_contiguous(x)
        self.f_contiguous = is_contiguous(x.T)  # type: ignore[attr-defined]
        self.forc = self.c_contiguous or self.f_contiguous
        self.owndata = not x.path
        self.writeable = x.is_writable

    def __getitem__(self, name: str) -> bool:
        return bool(getattr(self, name.lower()))


@array_property("flags")
def flags(self: Array) -> Flags:
    """Contiguity, ownership and writeability."""
    return Flags(self)


@method("setflags")
def setflags(self: Array, write: Any = None, align: Any = None, uic: Any = None) -> None:
    """`write` of an array that a trace made."""
    if write is not None:
        if self.path and write:
            raise UnsupportedError(describe("setflags(write=True) of a view is not supported on traced arrays"))
        self.cell.read_only = not write


def _refused(name: str, reason: str, remedy: str) -> None:
    @method(name)
    def refuse(self: Array, *args: Any, **kwargs: Any) -> NoReturn:
        raise UnsupportedError(
            describe(f"x.{name}() of a traced {self.type} is not supported: {reason}", remedy=remedy)
        )


_BYTES = "a traced array has no bytes"
_OUTSIDE = "call it on the function's result"
for _name in ("tobytes", "tofile", "dump", "dumps", "getfield", "setfield", "to_device"):
    _refused(_name, _BYTES, _OUTSIDE)
_refused("byteswap", _BYTES, "all traced arrays are in native byte order")
_refused("resize", "a traced array keeps its size", "np.resize(x, shape) makes a new array")


@method("__contains__")
def contains(self: Array, value: Any) -> Any:
    """`value in x`: needs the values (Python makes a bool of it); `(x == value).any()` does not."""
    return bool((self == value).any())


@method("__copy__")
def shallow_copy(self: Array) -> Array:
    """`copy.copy(x)`."""
    return wrap(op.copy(self.raw()), self.weak)


@method("__deepcopy__")
def deep_copy(self: Array, memo: Any) -> Array:
    """`copy.deepcopy(x)`."""
    return wrap(op.copy(self.raw()), self.weak)
