"""`Array`: what user code holds in place of an ndarray while it is traced.

A handle on a cell through a path of views. Its operators, methods and NumPy protocols are attached by
`stager.numpy.methods` from tables; this file is only the handle: reading, writing, what it is (type, weak), and what
it refuses (`bool`, `int`, `float`, `__array__`).
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import numpy as np

from stager.cells import REGIONS, Cell, PickStep, ViewStep, replay, write_through
from stager.errors import ConcretizationError, EscapedTracerError, MutationError, ShapeError, describe
from stager.interpreters.stack import Interpreter, Tracer, made_at, nearest_stage, stack
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import DType, dtype_of
from stager.ir.graph import Value
from stager.ir.op import Op
from stager.ir.types import Type

Raw = Any


class Array:
    """A traced array. `weak` marks one that came from Python scalars (NEP 50)."""

    __slots__ = ("__weakref__", "_cached", "_cached_key", "cell", "path", "type", "weak")
    __array_priority__ = 1000

    def __init__(self, cell: Cell, path: tuple[ViewStep, ...], type: Type, weak: bool = False) -> None:
        self.cell = cell
        self.path = path
        self.type = type
        self.weak = weak
        self._cached_key: Any = None
        self._cached: Any = None

    def raw(self) -> Raw:
        """The raw value at the level in force."""
        cell = self.cell
        self.refuse_escaped()
        if cell.may_be:
            cell.refuse_ended(self)
        if not self.path:
            return cell.value if not cell.overlays and not REGIONS else cell.read(self)
        s = stack()
        key = (cell.version, s.levels[s.depth - 1])
        if self._cached_key != key:
            self._cached = replay(cell.read(self), self.path)
            self._cached_key = key
        return self._cached

    def refuse_escaped(self) -> None:
        """Raise where the level that made this has ended, or is another thread's."""
        owner = self.cell.owner
        if owner is not None and (not owner.alive or not stack().depth):
            _escaped(self)

    def write(self, value: Raw) -> None:
        """Replace all elements (through the views) by a raw value of this type."""
        if self.path:
            write_through(self.cell, self.path, value)
        else:
            self.cell.write(value)

    def view_by(self, op: Op, **params: Any) -> Array:
        """The handle of a view of this array."""
        type = op.type_rule(self.type, **params)
        return Array(self.cell, (*self.path, ViewStep(op, params)), type, self.weak)

    # -- what it is ----------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy dtype."""
        return self.type.dtype.np

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape; dims are ints, or symbolic where the function is compiled for any size."""
        return self.type.shape

    @shape.setter
    def shape(self, shape: Any) -> None:
        from stager.numpy.shaping import reshape

        if self.cell.origin is not None and not self.path:
            text = "assigning to the shape of an array of the caller would change it there"
            raise MutationError(describe(text, remedy="use x.reshape(shape)"))
        view = reshape(self, shape)
        if view.cell is not self.cell:
            raise AttributeError(
                "Incompatible shape for in-place modification. Use `.reshape()` to make a copy with the desired shape."
            )
        self.path, self.type, self._cached_key = view.path, view.type, None

    @property
    def ndim(self) -> int:
        return len(self.type.shape)

    @property
    def is_writable(self) -> bool:
        """Whether writes through the handle are not refused as they are in NumPy: by a flag, or by a broadcast view."""
        refused = any(s.read_only or (s.op.write_back is None and type(s) is not PickStep) for s in self.path)
        return not self.cell.read_only and not refused

    @property
    def holds_memory(self) -> bool:
        """Whether this is an array, or a view of one element of it, that others may hold too; not a NumPy scalar."""
        return bool(self.type.shape) or (bool(self.path) and not self.path[-1].number)

    @property
    def size(self) -> Any:
        return self.type.size

    @property
    def itemsize(self) -> int:
        return self.type.dtype.itemsize

    @property
    def nbytes(self) -> Any:
        return self.type.nbytes

    def __len__(self) -> int:
        if not self.type.shape:
            raise TypeError("len() of unsized object")
        return self.type.shape[0].__index__()

    def __repr__(self) -> str:
        from stager.concrete import peek

        known = peek(self)
        shown = f", value={known}" if known is not None else ""
        return f"Array({self.type}{shown})"

    def __hash__(self) -> int:
        from stager.concrete import settled_value

        known = settled_value(self)
        if known is None or known.ndim:
            text = f"a traced {self.type} is hashed, as a key or an element of a set, and it has no value here"
            raise ConcretizationError(describe(text, remedy="use an array and an integer index in place of a dict"))
        return hash(known[()])

    # -- what needs a concrete value -----------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._concrete("bool()"))

    def __int__(self) -> int:
        return int(self._concrete("int()"))

    def __index__(self) -> int:
        if self.type.dtype.kind not in "iu" or self.type.shape:
            raise TypeError("only integer scalar arrays can be converted to a scalar index")
        return int(self._concrete("an index"))

    def python_index(self) -> int:
        """`__index__` where the code may depend on Python int arguments, but not on the values of NumPy's scalars."""
        from stager.concrete import concrete_value

        return int(concrete_value(self, "an index", scalars=False))

    def __float__(self) -> float:
        _refuse_derivative(self, "float()")
        return float(self._concrete("float()"))

    def __complex__(self) -> complex:
        _refuse_derivative(self, "complex()")
        return complex(self._concrete("complex()"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        _refuse_derivative(self, "np.asarray()")
        return np.array(self._concrete("np.asarray()"), dtype=dtype)

    def __format__(self, spec: str) -> str:
        if not spec:
            return str(self)
        return format(self._concrete("format()")[()], spec)

    def __str__(self) -> str:
        from stager.concrete import peek, settled_value

        known = peek(self)
        if known is None:
            known = settled_value(self)
        return repr(self) if known is None else str(known)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as its value, which only plain calls know."""
        self.refuse_escaped()
        return np.asarray(self.__array__()).__reduce_ex__(protocol)

    def item(self, *index: Any) -> Any:
        """The element as a Python scalar (outside compile)."""
        _refuse_derivative(self, ".item()")
        return self._concrete(".item()").item(*index)

    def tolist(self) -> Any:
        """Nested lists of Python scalars (outside compile)."""
        _refuse_derivative(self, ".tolist()")
        return self._concrete(".tolist()").tolist()

    def _concrete(self, use: str) -> np.ndarray[Any, Any]:
        from stager.concrete import concrete_value

        return concrete_value(self, use)


def _escaped(x: Array) -> NoReturn:
    owner = x.cell.owner
    made = made_at(x.cell.value)
    elsewhere = owner is not None and owner.alive
    when = f"in another thread than its {owner!r}" if elsewhere else f"after its {owner!r} had ended"
    raise EscapedTracerError(
        describe(
            f"a traced array {x.type}{made} is used {when}",
            remedy="return the value from the traced function; do not keep it in a global, an attribute or a list",
        )
    )


def _refuse_derivative(x: Array, use: str) -> None:
    from stager.concrete import refuse_derivative

    refuse_derivative(x, use)


# -- between raw values and handles -----------------------------------------------------------------------------------


def wrap(raw: Raw, weak: bool = False) -> Array:
    """A fresh array holding a raw value, owned by the level in force."""
    s = stack()
    return Array(Cell(raw, s.levels[s.depth - 1] if s.depth else None), (), raw.type, weak)


def is_tracer(x: Any) -> bool:
    """True for traced arrays."""
    return type(x) is Array


def is_value(x: Any) -> bool:
    """True for what stands for an array: traced arrays, ndarrays, NumPy scalars, numbers and sizes."""
    return isinstance(x, Array | np.ndarray | np.generic | bool | int | float | complex | Expr)


def raw(x: Any, dtype: DType | None = None) -> Raw:
    """The raw value of an Array, ndarray or scalar (`dtype` is for Python scalars)."""
    if type(x) is Array:
        return x.raw()
    if isinstance(x, Value | Tracer):
        return x
    stage = nearest_stage()
    if isinstance(x, Expr):
        from stager.ir.core_ops import dim_op

        return stage.process(dim_op, (), {"dim": x})
    return stage.lift(x, dtype)


def as_array(x: Any) -> Array:
    """x as a traced array: itself, or a constant."""
    if type(x) is Array:
        return x
    return wrap(raw(x), weak=type(x) in (int, float, Expr))


def type_of(x: Any) -> Type:
    """The type of an Array, raw value, ndarray or scalar."""
    if hasattr(x, "type") and isinstance(x.type, Type):
        return x.type
    a = np.asarray(x)
    return Type(dtype_of(a.dtype), a.shape)


def dims_of(shape: Any) -> list[Any]:
    """The dims of a shape argument: one, a sequence of them, or an array of them."""
    if isinstance(shape, tuple | list):
        return list(shape)
    if isinstance(shape, Array | np.ndarray) and len(shape.shape):
        return list(shape)  # type: ignore[arg-type]
    return [shape]


MOST_ELEMENTS = (1 << 63) // 16 - 1  # of the widest dtype, complex128 to come


def check_shape(shape: Any) -> tuple[Dim, ...]:
    """A shape argument as a tuple of dims."""
    from stager.symbols import extent_of

    dims = tuple([extent_of(d) for d in dims_of(shape)])
    if math.prod(d for d in dims if isinstance(d, int) and d) > MOST_ELEMENTS:
        raise ShapeError(describe(f"array is too big: no array has the shape {dims}"))
    return dims


__all__ = ["Array", "Interpreter", "as_array", "check_shape", "is_tracer", "raw", "type_of", "wrap"]
