"""What a C caller sees of a built function: its record, its parameters in order, and the codes it can return.

The header prints this, the C entry reads its arguments by it. Each function looks like

    int32_t NAME(const T *in, ..., T *out, ..., int64_t n, ..., stager_call *call)

with byte strides behind an input that may be strided (`in_strides`) and room and shape behind a result whose size the
data decides (`out_capacity`, `out_shape`). `stager_call` is the Context of `ir/abi.py` with the workspace behind it;
null stands for one of zeros. Not here: any LLVM, and what a code means beyond its text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stager.ir.abi import CONTEXT_BYTES, STATUS_CPU, Abi, OutputAbi, StatusAbi
from stager.ir.dims import Dim, substitute, symbol, symbols_of
from stager.ir.types import Type

# Codes of bad arguments and of the library itself; the header lists them.
ERRORS: dict[str, tuple[int, str]] = {
    "INTERRUPTED": (-1, "the call was interrupted"),
    "NO_MEMORY": (-2, "there is not enough memory"),
    "NULL": (-10, "a pointer is null"),
    "SIZE": (-11, "a size is negative or too large"),
    "ALIGNMENT": (-12, "a pointer or a stride is not a multiple of the element size"),
    "OVERLAP": (-13, "memory that is written overlaps other memory of the call"),
    "WORKSPACE": (-14, "the workspace is too small or not aligned to 64 bytes"),
    "CONDITION": (-15, "the sizes do not fulfil a condition that the header states"),
    "CAPACITY": (-16, "a result has more elements than there is room for"),
    "CPU": (STATUS_CPU, "this CPU lacks instructions that the library was built with"),
}
MOST_BYTES = 1 << 47  # of one array: beyond what an address space holds
MOST_SIZE = 1 << 40  # a size that a caller passes

CALL_WORKSPACE, CALL_WORKSPACE_BYTES = CONTEXT_BYTES, CONTEXT_BYTES + 8
CALL_BYTES = CONTEXT_BYTES + 16


@dataclass(frozen=True, slots=True)
class Kernel:
    """The compiled code of a function for one layout of its strided inputs: "dense", "rows" (elements of a row follow
    one another) or "any"."""

    layout: str
    abi: Abi
    text: str  # LLVM IR
    loops: bool = False  # there are loops written one element at a time, which `optimise` is told
    plain_addresses: bool = False  # see `kernel_options`


@dataclass(frozen=True, slots=True)
class Result:
    """A result that the caller passes memory for: output `number` of the kernel."""

    name: str
    number: int
    type: Type
    sized: bool = False  # its shape is known only when it has been computed


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the C function. kind "input", "strides", "result", "capacity", "shape", "size", "call"."""

    kind: str
    name: str
    index: int = 0


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a library.

    `conditions`: (dim, low, high), what the sizes must fulfil. `notes`: results that are no memory of the caller's
    (arguments themselves, constants), in words. `python`: what `load` needs to make a Python function of it.
    """

    name: str
    inputs: tuple[str, ...]
    kernels: tuple[Kernel, ...]
    results: tuple[Result, ...]
    strided: frozenset[int] = frozenset()
    conditions: tuple[tuple[Dim, int, int], ...] = ()
    graph_hash: str = ""
    notes: tuple[str, ...] = ()
    python: dict[str, Any] = field(default_factory=dict, compare=False)
    stats: dict[str, Any] = field(default_factory=dict, compare=False)

    @property
    def abi(self) -> Abi:
        """Of the kernel for dense inputs."""
        return self.kernels[0].abi

    @property
    def sizes(self) -> tuple[str, ...]:
        """The symbols that the caller passes as int64_t."""
        return tuple([s.name for s in self.abi.symbols if s.kind == "shape"])

    @property
    def values(self) -> dict[str, int]:
        """The symbols whose value is an integer input's: its number."""
        return {s.name: s.input for s in self.abi.symbols if s.kind == "value"}

    @property
    def workspace_parameters(self) -> tuple[str, ...]:
        """The symbols that `NAME_workspace` takes: all sizes, and the values that it depends on."""
        used = symbols_of(self.workspaces)
        return (*self.sizes, *[s for s in self.values if s in used])

    def shown(self, d: Any) -> Any:
        """A dim or type as the header shows it: values by the names of their inputs."""
        return substitute(d, {s: symbol(self.inputs[k]) for s, k in self.values.items()}) if self.values else d

    @property
    def statuses(self) -> tuple[StatusAbi, ...]:
        """The errors that the computation can find: the code of a C caller counts from 1 in this order."""
        found: dict[StatusAbi, None] = {}
        for k in self.kernels:
            found.update(dict.fromkeys(k.abi.statuses))
        return tuple(found)

    @property
    def workspaces(self) -> tuple[Dim, ...]:
        """The bytes of workspace of each kernel; a call may need any of them."""
        return tuple(dict.fromkeys(k.abi.arena_bytes for k in self.kernels))

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """Of the C function, in order."""
        out: list[Parameter] = []
        for k, name in enumerate(self.inputs):
            out.append(Parameter("input", name, k))
            if k in self.strided:
                out.append(Parameter("strides", f"{name}_strides", k))
        for k, r in enumerate(self.results):
            out.append(Parameter("result", r.name, k))
            if r.sized:
                out.append(Parameter("capacity", f"{r.name}_capacity", k))
                out.append(Parameter("shape", f"{r.name}_shape", k))
        out.extend(Parameter("size", s, k) for k, s in enumerate(self.sizes))
        return (*out, Parameter("call", "call"))


def results_of(abi: Abi, names: dict[int, str]) -> tuple[Result, ...]:
    """The results of a kernel that need the caller's memory; `names` by output number."""

    def of(k: int, o: OutputAbi) -> Result:
        return Result(names.get(k, f"out_{k}"), k, o.type, o.kind == "sized")

    return tuple([of(k, o) for k, o in enumerate(abi.outputs) if o.kind in ("fresh", "sized")])
