"""Calls of built functions through ctypes, as C makes them: pointers, sizes, a stager_call."""

from __future__ import annotations

import ctypes
import shutil
from typing import Any

import numpy as np
import pytest

from stager.codegen.c_interface import ERRORS

CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler on this machine")

CODE = {name: value for name, (value, _) in ERRORS.items()}
ALLOCATE = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64)
POLL = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p)


class Call(ctypes.Structure):
    """stager_call."""

    _fields_ = (
        ("detail", ctypes.c_int64 * 4), ("threads", ctypes.c_int32), ("interrupted", ctypes.c_int32),
        ("allocate", ctypes.c_void_p), ("user", ctypes.c_void_p), ("poll", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_int64),
    )  # fmt: skip


def call(library: Any, name: str, *arguments: Any, how: Call | None = None) -> int:
    """The code of a call: arrays and None are pointers, lists arrays of int64_t, ints int64_t."""
    given = []
    for a in arguments:
        if a is None or isinstance(a, np.ndarray):
            given.append(ctypes.c_void_p(None if a is None else a.ctypes.data))
        elif isinstance(a, list):
            given.append((ctypes.c_int64 * len(a))(*a))
        elif isinstance(a, ctypes.c_void_p | ctypes.Array):
            given.append(a)
        else:
            given.append(ctypes.c_int64(a))
    code = getattr(library, name)(*given, None if how is None else ctypes.byref(how))
    return int(code)


def text(library: Any, name: str, code: int, how: Call | None = None) -> str:
    """The text of a code."""
    room = ctypes.create_string_buffer(300)
    getattr(library, f"{name}_error")(code, None if how is None else ctypes.byref(how), room, ctypes.c_int64(300))
    return room.value.decode()
