"""The source ops that the IR itself needs: graph inputs and constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.ir.dims import Dim
from stager.ir.dtypes import DType, dtype_of
from stager.ir.op import Op, register
from stager.ir.types import Type


def _input_type(**params: Any) -> Type:
    raise TypeError("a graph input is made by GraphBuilder.input")


def _constant_type(*, value: np.ndarray[Any, Any]) -> Type:
    return Type(dtype_of(value.dtype), value.shape)


def _fill_type(*, value: Any, shape: tuple[Dim, ...], dtype: DType) -> Type:
    return Type(dtype, tuple(shape))


def _iota_type(*, size: Dim, dtype: DType) -> Type:
    return Type(dtype, (size,))


def _dim_type(*, dim: Dim) -> Type:
    from stager.ir.dtypes import i64

    return Type(i64, ())


input_op = register(Op("input", "source", _input_type, reference=lambda *, index: None))

# An array known while tracing; `value` is an ndarray that nothing else writes to.
constant_op = register(Op("constant", "source", _constant_type, reference=lambda *, value: value))

# Every element is one scalar literal: zeros, ones, full, and all scalar literals (shape ()).
fill_op = register(
    Op("fill", "source", _fill_type, reference=lambda *, value, shape, dtype: np.full(shape, value, dtype=dtype.np))
)

# 0, 1, …, size-1 in `dtype`.
iota_op = register(Op("iota", "source", _iota_type, reference=lambda *, size, dtype: np.arange(size, dtype=dtype.np)))

# The run-time value of a dim as an i64 scalar.
dim_op = register(Op("dim", "source", _dim_type, reference=lambda *, dim: np.asarray(dim, dtype=np.int64)))
