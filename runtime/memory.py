"""Result memory on the Python side: bounds of the emitted pool of large buffers, and arrays that live in it.

The pool itself is emitted (`codegen/buffers.py`) and shared with the native entry. STAGER_BUFFER_LIMIT (bytes, or 200M,
2G; 0 keeps nothing) bounds the freed memory that is kept for the next result; the default is an eighth of the machine's
memory, 1 GiB at most.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from stager.runtime.cache import parse_size
from stager.runtime.engine import Loaded, engine

POOLED_BYTES = 128 * 1024  # results from this size on live in the pool
MAX_DEFAULT_LIMIT = 1 << 30


def default_limit() -> int:
    """How much freed memory to keep, in bytes."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 2 << 30
    return parse_size(os.environ.get("STAGER_BUFFER_LIMIT", ""), min(memory // 8, MAX_DEFAULT_LIMIT))


def start_buffers(buffers: Loaded) -> None:
    """For `Engine.provide`: bound the pool when it is loaded."""
    buffers.function("stager_buffer_set_limit", None, ctypes.c_int64)(default_limit())


@cache
def _function(name: str, result: Any, *params: Any) -> Callable[..., Any]:
    made: Callable[..., Any] = ctypes.CFUNCTYPE(result, *params)(engine().resolve([name])[name])
    return made


def kept_bytes() -> int:
    """Bytes of freed buffers that wait for reuse."""
    return int(_function("stager_buffer_kept", ctypes.c_int64)())


def trim() -> None:
    """Give the freed buffers back to the system."""
    _function("stager_buffer_trim", None)()


class PooledMemory:
    """A buffer of the pool, given back when the last array over it is gone."""

    __slots__ = ("__array_interface__", "__weakref__", "_address", "_release", "_size")

    def __init__(self, size: int) -> None:
        address = _function("stager_buffer_acquire", ctypes.c_void_p, ctypes.c_int64)(size)
        if not address:
            raise MemoryError(f"cannot allocate {size} bytes for a result")
        self._address, self._size = address, size
        self._release = _function("stager_buffer_release", None, ctypes.c_void_p, ctypes.c_int64)
        self.__array_interface__ = {"version": 3, "shape": (size,), "typestr": "|u1", "data": (address, False)}

    def __del__(self) -> None:
        if hasattr(self, "_release"):
            self._release(self._address, self._size)


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """`np.empty`, from the pool where there is one in this process and the result is large enough to pay for it."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    if size < POOLED_BYTES or not engine().provides("stager_buffer_acquire"):
        return np.empty(shape, dtype)
    made: np.ndarray[Any, Any] = np.asarray(PooledMemory(size)).view(dtype).reshape(shape)
    return made
