"""Calling a compiled function from Python through ctypes: the slow path beside the native entry, and the tests' runner.

Invariant: the compiled function is entered only with arrays that are exactly what its ABI record says; everything else
is an exception here. Not here: converting arguments (the caller does), containers, guards.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from stager.ir.abi import ARENA_ALIGN, STATUS_INTERRUPTED, STATUS_NO_MEMORY, Abi, OutputAbi, exception_class
from stager.ir.dims import Dim, evaluate
from stager.runtime.memory import empty

Array = np.ndarray[Any, Any]

Allocate = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.POINTER(ctypes.c_int64)
)
# The GIL is held during a call, so that `poll` can be the interpreter's own PyErr_CheckSignals and what a signal
# handler raised is raised by ctypes when the call returns.
Compiled = ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)


class Context(ctypes.Structure):
    """The C struct of ir/abi.py."""

    _fields_ = (
        ("detail", ctypes.c_int64 * 4),
        ("threads", ctypes.c_int32),
        ("interrupted", ctypes.c_int32),
        ("allocate", Allocate),
        ("user", ctypes.c_void_p),
        ("poll", ctypes.c_void_p),
    )


def call(abi: Abi, address: int, arrays: Sequence[Array], *, threads: int = 0) -> list[Array]:
    """Run the function at `address` on arrays of exactly its input types; its results, in order.

    TypeError or ValueError when an array is not what the record says; else what the function's own status stands for.
    The code at `address` must stay loaded during the call.
    """
    symbols = read_symbols(abi, arrays)
    check_arrays(abi, arrays, symbols)
    results: list[Array | None] = [
        empty(_shape(out, symbols), out.type.dtype.np) if out.kind == "fresh" else None for out in abi.outputs
    ]
    raised: list[BaseException] = []

    def allocate(context: int, output: int, ndim: int, shape: Any) -> int | None:
        try:
            made = empty(tuple(shape[:ndim]), abi.outputs[output].type.dtype.np)
        except BaseException as error:
            raised.append(error)
            return None
        results[output] = made
        return made.ctypes.data

    poll = ctypes.cast(ctypes.pythonapi.PyErr_CheckSignals, ctypes.c_void_p)  # it ignores its argument
    context = Context(threads=threads, allocate=Allocate(allocate), poll=poll)
    given = [a.ctypes.data for a in arrays] + [None if r is None else r.ctypes.data for r in results]
    buffers = (ctypes.c_void_p * max(len(given), 1))(*given)
    numbers = (ctypes.c_int64 * max(len(abi.symbols), 1))(*(symbols[s.name] for s in abi.symbols))
    size = evaluate(abi.arena_bytes, symbols)
    arena = np.empty(size + ARENA_ALIGN, np.uint8) if size else None
    start = 0 if arena is None else -(-arena.ctypes.data // ARENA_ALIGN) * ARENA_ALIGN
    status = Compiled(address)(ctypes.addressof(context), buffers, numbers, start or None)
    if raised:
        raise raised[0]
    if status:
        raise error_of(abi, status, context.detail)
    for i, out in enumerate(abi.outputs):
        if out.kind not in ("fresh", "sized"):
            results[i] = _aliased(out, arrays, results, symbols)
    return [r for r in results if r is not None]


def read_symbols(abi: Abi, arrays: Sequence[Array]) -> dict[str, int]:
    """The value of every symbol, read from the arrays. TypeError when there are too few."""
    if len(arrays) != len(abi.inputs):
        raise TypeError(f"{abi.name} takes {len(abi.inputs)} arrays, not {len(arrays)}")
    values: dict[str, int] = {}
    for symbol in abi.symbols:
        array = arrays[symbol.input]
        if symbol.kind == "value":
            values[symbol.name] = int(array)
            continue
        if symbol.axis >= array.ndim:
            raise ValueError(f"{abi.name}: input {symbol.input} must have {abi.inputs[symbol.input].type.ndim} axes")
        values[symbol.name] = (array.shape if symbol.kind == "shape" else array.strides)[symbol.axis]
    return values


def check_arrays(abi: Abi, arrays: Sequence[Array], symbols: dict[str, int]) -> None:
    """TypeError or ValueError that names the first array which is not what the record says."""
    for k, (array, spec) in enumerate(zip(arrays, abi.inputs, strict=True)):
        what = f"{abi.name}: input {k}"
        if array.dtype != spec.type.dtype.np or not array.dtype.isnative:
            raise TypeError(f"{what} must be {spec.type.dtype.np}, it is {array.dtype}")
        shape = tuple(evaluate(d, symbols) for d in spec.type.shape)
        if array.shape != shape:
            raise ValueError(f"{what} must have shape {shape} ({spec.type}), it has {array.shape}")
        strides = tuple(evaluate(d, symbols) for d in spec.strides)
        moving = [i for i, extent in enumerate(shape) if extent > 1]
        if array.size and any(array.strides[i] != strides[i] for i in moving):
            raise ValueError(f"{what} must have strides {strides}, it has {array.strides}")
        if not array.flags.aligned or (array.size and array.ctypes.data % spec.align):
            raise ValueError(f"{what} must be aligned to {max(spec.align, array.dtype.alignment)} bytes")
        if spec.written and not array.flags.writeable:
            raise ValueError(f"{what} is written to, and is read-only")


def error_of(abi: Abi, status: int, detail: Sequence[int]) -> BaseException:
    """The exception that a non-zero status stands for."""
    if status == STATUS_INTERRUPTED:
        return KeyboardInterrupt()
    if status == STATUS_NO_MEMORY:
        return MemoryError(f"{abi.name}: no memory for a result")
    if not 1 <= status <= len(abi.statuses):
        return SystemError(f"{abi.name} returned the unknown status {status}; this is a bug in stager")
    known = abi.statuses[status - 1]
    return exception_class(known.exception)(known.text.format(*detail))


def _shape(out: OutputAbi, symbols: dict[str, int]) -> tuple[int, ...]:
    return tuple(evaluate(d, symbols) for d in out.type.shape)


class _Window:
    """Memory of an array seen with another shape and strides; keeps the array alive."""

    def __init__(self, owner: Array, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], dtype: Any) -> None:
        self.owner = owner
        address = owner.__array_interface__["data"][0] + offset
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "strides": strides,
            "typestr": dtype.str,
            "data": (address, not owner.flags.writeable),
        }


def _aliased(
    out: OutputAbi, arrays: Sequence[Array], results: Sequence[Array | None], symbols: dict[str, int]
) -> Array:
    owner = arrays[out.source] if out.kind in ("input", "view_input") else results[out.source]
    if owner is None:
        raise SystemError(f"result {out.source} is used before it is made; this is a bug in stager")
    if out.kind in ("input", "output"):
        return owner
    values: list[Dim] = [out.offset, *out.strides]
    offset, *strides = (evaluate(d, symbols) for d in values)
    return np.asarray(_Window(owner, offset, _shape(out, symbols), tuple(strides), out.type.dtype.np))
