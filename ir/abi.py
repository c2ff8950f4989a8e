"""The ABI record: everything that a caller must know of one compiled function, and nothing of how it was compiled.

`codegen` writes it, `runtime` and the built libraries' headers read it. The compiled function is

    i32 NAME(Context *ctx, void *const *buffers, const i64 *symbols, void *arena)

`buffers` holds the data pointers of all inputs and then of all outputs (an output whose `kind` is not "fresh" has no
buffer of its own and its pointer is null); `symbols` the values of `Abi.symbols`, in order; `arena` at least
`evaluate(arena_bytes)` bytes of scratch, aligned to ARENA_ALIGN (may be null when 0). It returns 0 or a status: the
index, counted from 1, into `Abi.statuses`; up to four numbers for its text are then in `ctx->detail`.
It is re-entrant, allocates nothing, and keeps no pointer.

    struct Context {            // CONTEXT_BYTES bytes, zeroed by the caller
        i64  detail[4];         //  0: numbers for the error text
        i32  threads;           // 32: at most this many threads (0: the pool's default, 1: never the pool)
        i32  interrupted;       // 36: polled by long loops: set to stop with STATUS_INTERRUPTED
        void *(*allocate)(Context *, i32 output, i64 ndim, const i64 *shape);   // 40: for outputs sized by data
        void *user;             // 48: the caller's own
        i32 (*poll)(Context *); // 56: null, or called every few ms by long loops on the calling thread; non-zero stops
    };
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field

import numpy as np

from stager.ir.dims import Dim
from stager.ir.types import Type

ABI_VERSION = 1
ARENA_ALIGN = 64
CONTEXT_BYTES = 64
CONTEXT_DETAIL, CONTEXT_THREADS, CONTEXT_INTERRUPTED = 0, 32, 36
CONTEXT_ALLOCATE, CONTEXT_USER, CONTEXT_POLL = 40, 48, 56
STATUS_INTERRUPTED = -1
STATUS_NO_MEMORY = -2
STATUS_SIZE = -11  # of a built library: its BLAS cannot take a size
STATUS_CPU = -17  # of a built library: it holds no code for this CPU

# The emitted thread pool (`codegen/pool.py`), one per process or built library:
#   i32 stager_parallel_for(Context *ctx, i32 (*body)(Context *, i64 begin, i64 end, void *env), i64 n, i64 grain,
#                           void *env)
# runs body over [0, n) in pieces of `grain` (the split never depends on the thread count), returns the first non-zero
# status in index order. Nested calls run serially. stager_parallel_brief does the same for regions of a few
# microseconds that come one soon after the other: on one thread, while other programs have the processors.
PARALLEL_FOR = "stager_parallel_for"
PARALLEL_BRIEF = "stager_parallel_brief"


@dataclass(frozen=True, slots=True)
class InputAbi:
    """One input buffer. `strides` are in bytes; dims. `written`: the function writes into the caller's memory."""

    type: Type
    strides: tuple[Dim, ...]
    written: bool = False
    align: int = 1  # beyond the dtype's own


@dataclass(frozen=True, slots=True)
class OutputAbi:
    """One result.

    kind "fresh": the caller allocates `type`, C-contiguous, and passes its pointer.
    kind "sized": as fresh, but the shape is known only to the running function, which asks `ctx->allocate`.
    kind "input": it is the caller's argument `source` itself. kind "output": it is result `source` itself.
    kind "view_input" / "view_output": a view of argument/result `source` at byte `offset` with byte `strides`.
    """

    type: Type
    kind: str = "fresh"
    source: int = 0
    offset: Dim = 0
    strides: tuple[Dim, ...] = ()


@dataclass(frozen=True, slots=True)
class SymbolAbi:
    """How the caller computes a symbol: dim or byte stride `axis` of input `input`, or the integer input's value."""

    name: str
    kind: str  # "shape", "stride", "value"
    input: int
    axis: int = 0


@dataclass(frozen=True, slots=True)
class StatusAbi:
    """An error the function can return. `text` may contain {0} … {3}, filled from ctx->detail."""

    exception: str  # what `exception_class` knows
    text: str


def exception_class(name: str) -> type[Exception]:
    """The exception that a check names: a builtin class, or NumPy's LinAlgError. RuntimeError for any other name."""
    found = np.linalg.LinAlgError if name == "LinAlgError" else getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else RuntimeError


@dataclass(frozen=True, slots=True)
class Abi:
    """The calling convention of one compiled function."""

    name: str
    inputs: tuple[InputAbi, ...]
    outputs: tuple[OutputAbi, ...]
    symbols: tuple[SymbolAbi, ...] = ()
    arena_bytes: Dim = 0
    statuses: tuple[StatusAbi, ...] = ()
    externals: tuple[str, ...] = ()  # symbols the object needs bound: the pool, BLAS, ...
    work: Dim = 0  # rough nanoseconds of one call on one thread: whether to release the GIL
    features: tuple[str, ...] = field(default=())  # CPU features the code uses beyond the baseline
