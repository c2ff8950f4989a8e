"""Bits of bytes: packed eight to a byte and taken apart again."""

from __future__ import annotations

from typing import Any

import numpy as np

from stager.errors import ShapeError
from stager.numpy.comparisons import dynamic, truths
from stager.numpy.registry import implements
from stager.numpy.shaping import axis_of


def _places(bitorder: Any) -> np.ndarray[Any, Any]:
    """How far each of the eight bits is shifted."""
    if not isinstance(bitorder, str):
        raise TypeError(f"'bitorder' must be a string, not {type(bitorder).__name__}")
    if bitorder not in ("big", "little"):
        raise ValueError("'order' must be either 'little' or 'big'")
    places = np.arange(8, dtype=np.uint8)
    return places if bitorder == "little" else places[::-1]


def _line(a: Any, axis: Any) -> tuple[Any, int]:
    """The array with the axis last, and which one it was; flattened when it is None or has no axes."""
    if axis is None or not a.ndim:
        return a.reshape(-1), 0
    k = axis_of(axis, a.ndim)
    return np.moveaxis(a, k, -1), k


@implements(np.packbits)
def packbits(a: Any, /, axis: Any = None, bitorder: str = "big") -> Any:
    """Eight elements in a byte, a bit each: whether it is not zero."""
    x = dynamic(a)
    if x.dtype.kind not in "iub":
        raise TypeError("Expected an input array of integer or boolean data type")
    places = _places(bitorder)
    line, k = _line(truths(x), axis)
    line = np.pad(line, [(0, 0)] * (line.ndim - 1) + [(0, -line.shape[-1] % 8)])
    bits = line.reshape((*line.shape[:-1], line.shape[-1] // 8, 8)).astype(np.uint8)
    packed: Any = np.sum(bits << places, axis=-1, dtype=np.uint8)
    return np.moveaxis(packed, -1, k)


@implements(np.unpackbits)
def unpackbits(a: Any, /, axis: Any = None, count: Any = None, bitorder: str = "big") -> Any:
    """The bits of each byte: the first `count` of them, zeros beyond; all but -count where it is negative."""
    x = dynamic(a)
    if x.dtype != np.uint8:
        raise TypeError("Expected an input array of unsigned byte data type")
    places = _places(bitorder)
    line, k = _line(x, axis)
    bits = (line[..., None] >> places) & np.uint8(1)
    bits = bits.reshape((*line.shape[:-1], line.shape[-1] * 8))
    if count is not None:
        count, n = count.__index__(), bits.shape[-1]
        if count < 0:
            if -count > n:
                raise ShapeError(f"-count larger than number of elements: {count}")
            bits = bits[..., : n + count]
        else:
            bits = np.pad(bits, [(0, 0)] * (line.ndim - 1) + [(0, max(count - n, 0))])[..., :count]
    return np.moveaxis(bits, -1, k)
