"""Types of the control ops, and the checks that operands, regions and carries fit together."""

from __future__ import annotations

from collections.abc import Sequence

from stager.errors import DTypeError, ShapeError, describe
from stager.ir.dims import Dim, is_static
from stager.ir.dtypes import b1
from stager.ir.graph import Graph
from stager.ir.types import Type
from stager.ops.regions import I64
from stager.ops.tapes import Levels


def _fits(a: Type, b: Type) -> bool:
    """Same type as far as one can see: a region may name a dim as the graph around it does not."""
    static = all(x == y or not (is_static(x) and is_static(y)) for x, y in zip(a.shape, b.shape, strict=False))
    return a.dtype is b.dtype and len(a.shape) == len(b.shape) and static


def takes(name: str, region: Graph, types: Sequence[Type]) -> None:
    got = region.input_types
    if len(got) != len(types) or not all(map(_fits, got, types)):
        raise ShapeError(describe(f"{name}: its {region.name} takes {_list(got)}, not {_list(types)}"))


def carries_fit(name: str, before: Sequence[Type], after: Sequence[Type]) -> None:
    if tuple(before) == tuple(after):
        return
    for k, (b, a) in enumerate(zip(before, after, strict=False)):
        if b != a:
            raise (ShapeError if a.dtype is b.dtype else DTypeError)(
                describe(
                    f"{name}: carried value {k} is {b} before an iteration and {a} after it",
                    remedy="start with a value of the type that the body returns",
                )
            )
    raise ShapeError(describe(f"{name}: {len(before)} values are carried, its body returns {len(after)}"))


def _list(types: Sequence[Type]) -> str:
    return f"({', '.join(map(str, types))})"


def for_type(
    lower: Type,
    upper: Type,
    *types: Type,
    step: int,
    n_carry: int,
    regions: tuple[Graph, ...],
    checkpoint: Levels = None,
) -> tuple[Type, ...]:
    if lower != I64 or upper != I64 or step == 0:
        raise DTypeError(
            describe(f"for: bounds {lower}, {upper} with step {step}; they are i64 scalars and a step that is not 0")
        )
    takes("for", regions[0], (I64, *types))
    carries_fit("for", regions[0].input_types[1 : 1 + n_carry], regions[0].output_types)
    return types[:n_carry]


def while_type(
    *types: Type, n_carry: int, regions: tuple[Graph, ...], checkpoint: Levels = None
) -> tuple[Type, ...]:
    cond, body = regions
    takes("while", cond, types)
    takes("while", body, types)
    if cond.output_types != (Type(b1, ()),):
        raise DTypeError(describe(f"while: its condition is {_list(cond.output_types)}, not one bool scalar"))
    carries_fit("while", body.input_types[:n_carry], body.output_types)
    return types[:n_carry]


def switch_type(index: Type, *types: Type, regions: tuple[Graph, ...]) -> tuple[Type, ...]:
    if index != I64:
        raise DTypeError(describe(f"switch: the index is {index}, not an i64 scalar"))
    for region in regions:
        takes("switch", region, types)
        if region.output_types != regions[0].output_types:
            both = f"{_list(regions[0].output_types)} and {_list(region.output_types)}"
            raise ShapeError(describe(f"switch: branches return different types: {both}"))
    return regions[0].output_types


def map_type(*types: Type, size: Dim, regions: tuple[Graph, ...]) -> tuple[Type, ...]:
    takes("map", regions[0], (I64, *types))
    return tuple([Type(t.dtype, (size, *t.shape)) for t in regions[0].output_types])
