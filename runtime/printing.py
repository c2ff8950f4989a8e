"""What compiled code calls to print: values come back from native memory and go through Python's `print`.

    i32 stager_print(const char *text, const char *types, const i64 *dims, void *const *values)

`text` is JSON: the format and what ends the line. `types` names a dtype and a rank per value, `f64 2 i64 0`; `dims` are
all extents in a row. Invariant: ctypes takes the GIL, so the call may come from a kernel that gave it up. An error that
printing raises is reported as one of a callback and does not stop the kernel.
"""

from __future__ import annotations

import ctypes
import json
from math import prod

import numpy as np

from stager.ir.dtypes import dtype_named

PRINT = "stager_print"
_PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_void_p)
)


def _print(text: bytes, types: bytes, dims: ctypes.Array[ctypes.c_int64], values: ctypes.Array[ctypes.c_void_p]) -> int:
    fields = types.decode().split()
    at = 0
    shown = []
    for k in range(len(fields) // 2):
        dtype, rank = dtype_named(fields[2 * k]).np, int(fields[2 * k + 1])
        shape = tuple(dims[at : at + rank])
        at += rank
        n = prod(shape) * dtype.itemsize
        shown.append(np.frombuffer(ctypes.string_at(values[k] or 0, n), dtype).reshape(shape))
    template, end = json.loads(text)
    print(template.format(*shown), end=end)
    return 0


_callback = _PROTOTYPE(_print)


def external_address(name: str) -> int | None:
    """For `Engine.provide_by`."""
    return ctypes.cast(_callback, ctypes.c_void_p).value if name == PRINT else None
