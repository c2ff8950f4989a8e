"""From an `EntrySpec` to the C tables of the native entry (`ir/entry_table.py`).

Invariant: an `Entry` owns all memory that its tables lie in and a reference to every object that they mention, so its
address is good for as long as it lives. Not here: its programs (`entry_programs.py`), the function that it belongs to.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stager.ir.abi import Abi, OutputAbi, exception_class
from stager.ir.dims import Dim, Expr
from stager.ir.dtypes import b1, f64, i64
from stager.ir.entry_table import (
    ENTRY,
    INSTRUCTION,
    OUTPUT,
    RELEASE_ABOVE_NS,
    STACK_ARENA_BYTES,
    EntryFlags,
    OutputKind,
    ScalarForm,
)
from stager.runtime.entry_programs import NEVER, BuildProgram, MatchProgram
from stager.runtime.patterns import Output, Pattern, Result, Source
from stager.runtime.tables import Memory, Places, expression, pack


@dataclass(frozen=True, slots=True)
class DimGuard:
    """`low <= dim <= high`, where the compiled code holds for these sizes only."""

    dim: Dim
    low: int = 0
    high: int = NEVER


@dataclass(frozen=True, slots=True)
class EntrySpec:
    """One specialisation of a function: which calls it takes, what it runs, what it returns.

    `parameters` has one pattern per parameter of the signature but *args and **kwargs, which have their own. `hidden`
    pairs sources with patterns: captured arrays (a `Leaf` in them) and guards on captured values alike, read anew at
    each call. `absent` names what a namespace must not have (a global that would hide a builtin). `forms` tells what a
    0-d result becomes: "scalar" (a NumPy scalar, the default), "array" (0-d ndarray) or "python" (float, int, bool).
    `positional`, where it is given: how many arguments the call passes by position.
    """

    abi: Abi
    kernel: int
    parameters: tuple[Pattern, ...]
    result: Result
    varargs: tuple[Pattern, ...] = ()
    varkw: tuple[tuple[str, Pattern], ...] = ()
    hidden: tuple[tuple[Source, Pattern], ...] = ()
    absent: tuple[tuple[dict[str, Any], str], ...] = ()
    forms: Mapping[int, str] = field(default_factory=dict)
    dim_guards: tuple[DimGuard, ...] = ()
    threads: int = 0
    positional: int | None = None
    keepalive: tuple[Any, ...] = ()


class Entry:
    """A compiled `EntrySpec`: `address` is its ENTRY record."""

    def __init__(self, spec: EntrySpec, signature: inspect.Signature) -> None:
        if not spec.kernel:
            raise ValueError(f"the entry of {spec.abi.name} has no kernel")
        self.spec = spec
        self.memory = Memory()
        match = MatchProgram(spec, signature, self.memory)
        build = BuildProgram(spec, match, self.memory)
        self.descriptions = match.descriptions
        self.match_address = self.memory.bytes(b"".join(match.instructions))
        self.address = self._write(match, build)

    def _write(self, match: MatchProgram, build: BuildProgram) -> int:
        abi, memory = self.spec.abi, self.memory
        symbols = {s.name: i for i, s in enumerate(abi.symbols)}
        self._check_sources(match.arrays)
        outputs = [self._output(k, out, match.scalars, symbols) for k, out in enumerate(abi.outputs)]
        at = Places()
        at.room(8 * match.registers)
        values = len(abi.inputs) + len(abi.outputs)
        objects_at, buffers_at = at.room(8 * values), at.room(8 * values)
        symbols_at = at.room(8 * len(abi.symbols))
        scalars_at = at.room(match.scalars.size, 64)
        stack_at = at.room(8 * build.depth)
        arena, arena_code = self._amount(abi.arena_bytes, symbols)
        on_stack = STACK_ARENA_BYTES if arena_code else arena if arena <= STACK_ARENA_BYTES else 0
        arena_at = at.room(on_stack, 64)
        work, work_code = self._amount(abi.work, symbols)
        flags = EntryFlags(0)
        if work > RELEASE_ABOVE_NS:
            flags |= EntryFlags.RELEASE
        if len(abi.outputs) == 1 and self.spec.result == Output(0):
            flags |= EntryFlags.SINGLE
        return memory.bytes(
            pack(
                ENTRY,
                keep=id(self),
                kernel=self.spec.kernel,
                match=self.match_address,
                outputs=memory.bytes(b"".join(outputs)),
                build=memory.bytes(b"".join(build.instructions)),
                parameters=match.parameters,
                inputs=len(abi.inputs),
                output_count=len(abi.outputs),
                status_count=len(abi.statuses),
                frame_bytes=at.size,
                objects_at=objects_at,
                buffers_at=buffers_at,
                symbols_at=symbols_at,
                scalars_at=scalars_at,
                stack_at=stack_at,
                arena_at=arena_at,
                arena_bytes=arena,
                arena_code=arena_code,
                work_code=work_code,
                flags=flags,
                threads=self.spec.threads,
                error=memory.hold(status_raiser(abi)),
            )
        )

    def _amount(self, d: Dim, symbols: Mapping[str, int]) -> tuple[int, int]:
        """(a static number, the address of code): one of them counts."""
        return (0, self.memory.numbers(expression(d, symbols))) if isinstance(d, Expr) else (d, 0)

    def _output(self, k: int, out: OutputAbi, scalars: Places, symbols: Mapping[str, int]) -> bytes:
        memory, dtype, shape = self.memory, out.type.dtype, out.type.shape
        values: dict[str, int] = {
            "source": out.source,
            "ndim": len(shape),
            "descr": memory.hold(dtype.np),
            "itemsize": dtype.itemsize,
        }

        def codes(dims: Iterable[Dim]) -> int:
            return memory.addresses([memory.numbers(expression(d, symbols)) for d in dims])

        form = self.spec.forms.get(k, "scalar")
        if form not in ("scalar", "array", "python"):
            raise ValueError(f"result {k} cannot be given as {form!r}")
        if out.kind == "sized":
            return pack(OUTPUT, kind=OutputKind.SIZED, **values)
        if out.kind in ("input", "output"):
            return pack(OUTPUT, kind=OutputKind[out.kind.upper()], **values)
        if out.kind in ("view_input", "view_output"):
            values |= {"strides_code": codes(out.strides), "shape_code": codes(shape)}
            offset = memory.numbers(expression(out.offset, symbols))
            return pack(OUTPUT, kind=OutputKind[out.kind.upper()], offset_code=offset, **values)
        if out.kind != "fresh":
            raise ValueError(f"result {k} has the unknown kind {out.kind!r}")
        if not shape and form != "array" and not self._is_source(k):
            at = scalars.room(16, 16)
            return pack(OUTPUT, kind=OutputKind.SCALAR, scalar_at=at, **scalar_form(dtype, form, memory), **values)
        if out.type.is_static:
            values |= {"shape": memory.numbers(int(d) for d in shape), "nbytes": int(out.type.nbytes)}
        else:
            values |= {"shape_code": codes(shape), "nbytes": -1}
        return pack(OUTPUT, kind=OutputKind.ARRAY, **values)

    def _check_sources(self, arrays: set[int]) -> None:
        """ValueError when a result is made of something that is not there."""
        abi = self.spec.abi
        for k, out in enumerate(abi.outputs):
            kind, source = out.kind.removeprefix("view_"), out.source
            if kind not in ("input", "output"):
                continue
            if not 0 <= source < (len(abi.inputs) if kind == "input" else k):
                raise ValueError(f"result {k} is made of {kind} {source}, which is not there")
            if out.kind == "view_input" and source not in arrays:
                raise ValueError(f"result {k} is a view of input {source}, which is no array")
            if out.kind.startswith("view_") and len(out.strides) != out.type.ndim:
                raise ValueError(f"result {k} of type {out.type} has {len(out.strides)} strides")

    def _is_source(self, k: int) -> bool:
        """Whether a view of result k is another result: then it is an array."""
        return any(o.kind == "view_output" and o.source == k for o in self.spec.abi.outputs)

    def failed(self) -> str | None:
        """What did not match when this entry was tried last and did not fit."""
        at = ctypes.c_uint64.from_address(self.address + ENTRY.offset("failed")).value
        return self.descriptions[(at - self.match_address) // INSTRUCTION.size] if at else None


def scalar_form(dtype: Any, form: str, memory: Memory) -> dict[str, int]:
    """The fields of an OUTPUT record that tell how its one element becomes an object."""
    if form == "python":
        forms = {f64: ScalarForm.FLOAT, i64: ScalarForm.INT, b1: ScalarForm.BOOL}
        if dtype not in forms:
            raise ValueError(f"a result of dtype {dtype} cannot be given as a Python number; it must be f64, i64 or b1")
        return {"form": forms[dtype]}
    if dtype is b1:
        return {"form": ScalarForm.NUMPY_BOOL, "scalar_type": memory.hold(np.False_), "allocate": memory.hold(np.True_)}
    type = dtype.np.type
    return {"form": ScalarForm.NUMPY, "scalar_type": memory.hold(type), "allocate": _allocator(type)}


_TP_ALLOC = 47


def _allocator(type: type) -> int:
    get = ctypes.pythonapi.PyType_GetSlot
    get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    return int(get(type, _TP_ALLOC))


def status_raiser(abi: Abi) -> Callable[..., None]:
    """The function that raises the exception of a status, called as f(status, *detail)."""

    def fail(status: int, *detail: int) -> None:
        if not 1 <= status <= len(abi.statuses):
            raise SystemError(f"the compiled function {abi.name} returned the unknown status {status}")
        known = abi.statuses[status - 1]
        raise exception_class(known.exception)(known.text.format(*detail))

    return fail
