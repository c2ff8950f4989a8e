"""Ops that are code of their own instead of loop nests over affine maps: sort, scans, large matrix products, BLAS,
...

A routine is a module `codegen/routines/<name>.py` with

    ROUTINE = RoutineSpec(name, ops, emit, accepts, scratch, strided, vectors, lower)

- `ops`: names of the ops it takes. `accepts(node) -> bool` may decline one node (a tiny `dot` is better as a loop
  nest).
- `strided`: operands may be strided views (`Buffer.strides`, in bytes, dims); otherwise they come C-contiguous. Results
  and scratch are always C-contiguous.
- `vectors`: its loops over elements are vector code.
- `scratch(node) -> [(dtype, shape), ...]`: work memory, planned in the arena with everything else.
- `lower(w, node)`: where given, it brings operands and results into memory and appends the `program.Routine` itself;
  False when it declines.
- `emit(e, call)`: writes the code at the current place. `e` is `codegen.emit.FunctionEmitter`; what a routine uses of
  it:
    e.b                      the `Builder` (blocks may be appended: `e.b.append_basic_block`)
    e.module, e.target       the module and the Target; `e.scalars(width)` a ScalarBuilder at this place
    e.pointer(buffer)        the address of element [0, …, 0] of a buffer
    e.dim(d)                 the i64 value of a dim (a constant when it is an int)
    e.loop(lower, upper)     context manager: a counted loop, gives the index (`with e.loop(0, n) as i`)
    e.alloca(type, name)     a stack slot in the function's entry block
    e.external(name, result, params)   declares an external C function and lists it in `Abi.externals`
    e.fail(exception, text, *details)  returns the status of that error (ends the block)
    e.parallel(n, grain, body)         body(inner, begin, end) is emitted into a function of its own, run by the pool;
                                       inside, use `inner` (same interface) for `e`
  `call` is `program.Routine`: `call.node` (params), `call.inputs`, `call.outputs`, `call.scratch` (Buffers).
A routine's result may depend on shape and target only, never on the thread count.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from stager.ir.dims import Dim
from stager.ir.dtypes import DType
from stager.ir.graph import Node

MODULES: tuple[str, ...] = ("scan", "sort", "windowed", "dot", "extreme", "positions", "print")
"""The modules of this package that hold a `ROUTINE` (or several, in `ROUTINES`)."""


@dataclass(frozen=True, slots=True)
class RoutineSpec:
    """One routine. See the module docstring."""

    name: str
    ops: tuple[str, ...]
    emit: Callable[[Any, Any], None]
    accepts: Callable[[Node], bool] = lambda node: True
    scratch: Callable[[Node], Sequence[tuple[DType, tuple[Dim, ...]]]] = lambda node: ()
    strided: bool = False
    vectors: bool = False
    lower: Callable[[Any, Node], bool] | None = None


@cache
def _table() -> dict[str, list[RoutineSpec]]:
    table: dict[str, list[RoutineSpec]] = {}
    for name in MODULES:
        module = importlib.import_module(f"stager.codegen.routines.{name}")
        specs = getattr(module, "ROUTINES", None) or (module.ROUTINE,)
        for spec in specs:
            for op in spec.ops:
                table.setdefault(op, []).append(spec)
    return table


def find(node: Node) -> RoutineSpec | None:
    """The routine for a node: the first of its op's that accepts it."""
    return next(iter(all_for(node)), None)


def all_for(node: Node) -> list[RoutineSpec]:
    """The routines that accept a node, in the order in which they are tried."""
    return [r for r in _table().get(node.op.name, ()) if r.accepts(node)]


def named(name: str) -> RoutineSpec:
    """A routine by its own name."""
    return next(r for specs in _table().values() for r in specs if r.name == name)
