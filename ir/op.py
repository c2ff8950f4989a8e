"""`Op`: all that is known of one operation, in one immutable record.

The IR itself reads `name`, `family`, `type_rule`, `reference` and the flags. The other fields are the rules that
the layers above attach where they declare the op (`stager/ops/`): they are opaque callables here, so that one
declaration holds everything an op is without the lower layers importing the upper ones.

Array operands are positional, static parameters keyword-only. Params are hashable: ints, dims, strings, bools,
floats, dtypes, None and tuples of those; the constant op alone carries an ndarray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FAMILIES = (
    "source",  # input, constant, iota, fill: no array operands
    "elementwise",  # one scalar function of all operands, which have one shape
    "view",  # result elements are operand elements at affine positions: folds into index maps
    "reduction",  # a monoid over axes
    "scan",  # a monoid along one axis, every prefix kept
    "indexed",  # gather, scatter and their kin: positions come from data
    "contract",  # sums of products over named axes (matmul and all its relatives)
    "structural",  # concatenate, pad: piecewise positions
    "sort",  # sort, argsort, searchsorted, positions
    "control",  # holds region graphs
    "effect",  # print, callback, check: ordered
    "foreign",  # an external C function
)


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation.

    type_rule(*types, **params) -> Type or tuple of Types; raises TypeError/ValueError with a text for the user.
    reference(*arrays, **params) -> array or tuple of arrays: NumPy's answer, the oracle of tests and the folder.
    lower(b, *scalars, **params) -> scalar(s): elementwise ops, through a scalar builder.
    """

    name: str
    family: str
    type_rule: Callable[..., Any]
    reference: Callable[..., Any]
    lower: Callable[..., Any] | None = None
    jvp: Callable[..., Any] | None = None
    vjp: Callable[..., Any] | None = None
    pullback: Callable[..., Any] | None = None  # (args, needs, **params) -> (out, ct -> operand cts), in place of vjp
    transpose: Callable[..., Any] | None = None
    batch: Callable[..., Any] | None = None
    write_back: Callable[..., Any] | None = None
    multiple_results: bool = False
    commutative: bool = False
    ordered: bool = False  # an effect: keeps its place among other ordered nodes and is never dead
    facts: tuple[str, ...] = ()  # further structural facts, e.g. "zero_preserving", "random"
    version: str = ""  # of ops from outside, whose code may change under one name: part of every hash

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return op_named, (self.name,)


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add an op to the table. ValueError if the name is taken by another op."""
    if op.name in OPS:
        raise ValueError(f"an op called {op.name!r} exists already")
    if op.family not in FAMILIES:
        raise ValueError(f"{op.name}: no op family is called {op.family!r}")
    OPS[op.name] = op
    return op


def op_named(name: str) -> Op:
    """The op that the text form calls `name`. KeyError when there is none."""
    return OPS[name]
