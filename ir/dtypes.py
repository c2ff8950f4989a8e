"""Element types: one interned record per dtype, named as the text form names it (`f64`, `i32`, `b1`).

NumPy is the authority on promotion: `promote` asks it, so stager's results have NumPy's dtypes by construction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """An element type. `kind` is one of `b` (bool), `i`, `u`, `f`, `c`; `bits` is the storage width."""

    name: str
    kind: str
    bits: int
    np: np.dtype[Any] = field(repr=False)

    @property
    def itemsize(self) -> int:
        return max(self.bits, 8) // 8

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_integer(self) -> bool:
        return self.kind in "iu"

    @property
    def is_inexact(self) -> bool:
        return self.kind in "fc"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return dtype_named, (self.name,)


b1 = DType("b1", "b", 8, np.dtype(np.bool_))
i8 = DType("i8", "i", 8, np.dtype(np.int8))
i16 = DType("i16", "i", 16, np.dtype(np.int16))
i32 = DType("i32", "i", 32, np.dtype(np.int32))
i64 = DType("i64", "i", 64, np.dtype(np.int64))
u8 = DType("u8", "u", 8, np.dtype(np.uint8))
u16 = DType("u16", "u", 16, np.dtype(np.uint16))
u32 = DType("u32", "u", 32, np.dtype(np.uint32))
u64 = DType("u64", "u", 64, np.dtype(np.uint64))
f32 = DType("f32", "f", 32, np.dtype(np.float32))
f64 = DType("f64", "f", 64, np.dtype(np.float64))

DTYPES: dict[str, DType] = {d.name: d for d in (b1, i8, i16, i32, i64, u8, u16, u32, u64, f32, f64)}
_FROM_NUMPY: dict[Any, DType] = {d.np: d for d in DTYPES.values()}


def dtype_named(name: str) -> DType:
    """The dtype that the text form calls `name`."""
    return DTYPES[name]


def dtype_of(numpy_dtype: Any) -> DType:
    """The record for a NumPy dtype (or anything `np.dtype` takes). TypeError when stager does not know it.

    >>> dtype_of("float32")
    f32
    """
    if isinstance(numpy_dtype, DType):
        return numpy_dtype
    try:
        return _FROM_NUMPY[numpy_dtype]  # the common case: an np.dtype in native byte order
    except (KeyError, TypeError):
        pass
    d = np.dtype(numpy_dtype).newbyteorder("=")
    found = _FROM_NUMPY.get(d)
    if found is None:
        for known, record in _FROM_NUMPY.items():  # C type aliases: `long long` against `long`
            if known.kind == d.kind and known.itemsize == d.itemsize:
                return record
        raise TypeError(f"dtype {d} is not supported; stager takes {', '.join(str(k.np) for k in DTYPES.values())}")
    return found


def promote(*dtypes: DType) -> DType:
    """NumPy's promotion of strong dtypes."""
    if len(dtypes) == 1 or all(d is dtypes[0] for d in dtypes):
        return dtypes[0]
    return dtype_of(np.result_type(*(d.np for d in dtypes)))
