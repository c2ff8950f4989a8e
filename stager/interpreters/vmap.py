"""`VmapInterpreter`: every op becomes one op over a whole batch, by its batching rule.

A `BatchTracer` wraps a raw value that carries the batch at axis `bdim`; its `type` is what one lane sees. Operands
that are not this level's tracers are the same for all lanes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from stager.interpreters.stack import Interpreter, Tracer, bind
from stager.ir.dims import Dim
from stager.ir.op import Op
from stager.ir.types import Type

_LANES = itertools.count()


def _sees_lanes(op: Op, params: dict[str, Any]) -> bool:
    """Whether an op may differ between lanes though no operand does."""
    if "lane" in op.facts:
        return True
    return any(_sees_lanes(n.op, {"regions": n.regions}) for region in params.get("regions", ()) for n in region.nodes)


class BatchTracer(Tracer):
    """`value` holds all lanes along axis `bdim`."""

    __slots__ = ("bdim",)

    def __init__(self, interp: Interpreter, value: Any, bdim: int) -> None:
        shape = value.type.shape
        super().__init__(interp, value, Type(value.type.dtype, shape[:bdim] + shape[bdim + 1 :]))
        self.bdim = bdim


class VmapInterpreter(Interpreter):
    """Batches. `randomness` is "error", "same" or "different"; `axis_name` names the axis for collectives.

    Where lanes are computed in chunks, `first` is the first lane of this one; else it is None.
    """

    key = "Vmap"

    def __init__(
        self, batch_size: Dim, randomness: str = "error", axis_name: str | None = None, first: int | None = None
    ) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.randomness = randomness
        self.axis_name = axis_name
        self.first = first
        self.lanes = next(_LANES)  # which vmap: the levels that replay its regions are the same one

    def again(self) -> VmapInterpreter:
        """This vmap as a new level, for its rules to replay regions under."""
        level = VmapInterpreter(self.batch_size, self.randomness, self.axis_name, self.first)
        level.lanes = self.lanes
        return level

    def facts(self) -> tuple[tuple[str, Any], ...]:
        return (("batch_size", self.batch_size), ("randomness", self.randomness), ("axis_name", self.axis_name))

    def lane(self) -> BatchTracer:
        """The index of each lane, as a value of this level."""
        from stager.ops.elementwise import add
        from stager.ops.structural import iota

        with self.lower():
            lanes = iota(self.batch_size)
            return BatchTracer(self, add(lanes, self.first) if self.first else lanes, 0)

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        values: list[Any] = []
        bdims: list[int | None] = []
        batched = False
        for a in args:
            if type(a) is BatchTracer and a.interp is self:
                values.append(a.value)
                bdims.append(a.bdim)
                batched = True
            else:
                values.append(a)
                bdims.append(None)
        with self.lower():
            if not batched and not _sees_lanes(op, params):
                return bind(op, *values, **params)
            if op.batch is None:
                raise NotImplementedError(f"internal error in stager: op {op.name} has no batching rule")
            out, out_bdims = op.batch(self, values, bdims, **params)
        if op.multiple_results:
            return tuple([self.wrap(o, d) for o, d in zip(out, out_bdims, strict=True)])
        return self.wrap(out, out_bdims)

    def wrap(self, value: Any, bdim: int | None) -> Any:
        """This level's tracer for a value that carries the batch at `bdim`; the value itself when it has no batch."""
        return value if bdim is None else BatchTracer(self, value, bdim)

    def unwrap(self, value: Any) -> tuple[Any, int | None]:
        """(raw value below, bdim or None)."""
        if type(value) is BatchTracer and value.interp is self:
            return value.value, value.bdim
        return value, None
