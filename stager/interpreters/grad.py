"""`GradInterpreter`: reverse mode. `process` emits the forward op below and records it; `backward` then walks the
record and emits the cotangents, again one level below, so reverse mode nests in anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stager.interpreters.stack import Interpreter, LoweredMode, Stack, Tracer, bind, lifted, stack
from stager.ir.op import Op


class GradTracer(Tracer):
    """`slot` numbers the values that carry a cotangent at this level."""

    __slots__ = ("slot",)

    def __init__(self, interp: Interpreter, value: Any, slot: int) -> None:
        super().__init__(interp, value, value.type)
        self.slot = slot


class Record(NamedTuple):
    """One recorded op: raw values of the level below, and the slots of its operands and results.

    `pull` gives the operands' cotangents, for ops whose forward pass saves something for the backward pass.
    """

    op: Op
    args: tuple[Any, ...]
    params: dict[str, Any]
    out: Any
    arg_slots: tuple[int | None, ...]
    out_slots: tuple[int | None, ...]
    pull: Any  # None, ct -> cotangents, or `Totals` (stager/ops/cotangents.py)


class GradInterpreter(Interpreter):
    """Reverse-mode differentiation."""

    key = "Grad"

    def __init__(self, prev_grad_mode: bool = True) -> None:
        super().__init__()
        self.prev_grad_mode = prev_grad_mode
        self.tape: list[Record] = []
        self.slots = 0

    def facts(self) -> tuple[tuple[str, Any], ...]:
        return (("prev_grad_mode", self.prev_grad_mode),)

    def begin(self, s: Stack) -> None:
        """A level starts to record, whatever the mode around it, which it remembers for the ops that it lowers."""
        self.prev_grad_mode, s.grad_enabled = s.grad_enabled, True

    def lower(self) -> LoweredMode:
        """Context in which ops go to the level below, in the grad mode around the transform."""
        return LoweredMode(self.position, "grad_enabled", self.prev_grad_mode)

    def lift(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments as those of this level: arrays from below are constants to it."""
        return lifted(self, args, kwargs)

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        values: list[Any] = []
        slots: list[int | None] = []
        tracked = False
        for a in args:
            if type(a) is GradTracer and a.interp is self:
                values.append(a.value)
                slots.append(a.slot)
                tracked = True
            else:
                values.append(a)
                slots.append(None)
        records = tracked and stack().grad_enabled and (op.vjp is not None or op.pullback is not None)
        pull = None
        with self.lower():
            if records and op.pullback is not None:
                out, pull = op.pullback(values, tuple([slot is not None for slot in slots]), **params)
            else:
                out = bind(op, *values, **params)
        if not records:
            return out
        outs = out if op.multiple_results else (out,)
        out_slots = tuple([self._slot() if o.type.dtype.is_inexact else None for o in outs])
        if all(slot is None for slot in out_slots):
            return out
        self.tape.append(Record(op, tuple(values), params, out, tuple(slots), out_slots, pull))
        pairs = zip(outs, out_slots, strict=True)
        wrapped = tuple([o if slot is None else GradTracer(self, o, slot) for o, slot in pairs])
        return wrapped if op.multiple_results else wrapped[0]

    def _slot(self) -> int:
        self.slots += 1
        return self.slots - 1

    def track(self, value: Any) -> GradTracer:
        """A differentiated input."""
        return GradTracer(self, value, self._slot())

    def unwrap(self, value: Any) -> tuple[Any, int | None]:
        """(raw value below, slot or None)."""
        if type(value) is GradTracer and value.interp is self:
            return value.value, value.slot
        return value, None

    def lower_value(self, value: Any) -> Any:
        return self.unwrap(value)[0]

    def backward(self, seeds: Sequence[tuple[int, Any]], wanted: Sequence[int]) -> list[Any]:
        """Cotangents of the slots in `wanted` (None where nothing flows), given (slot, cotangent) seeds.

        Runs at the level below: the caller is under `self.lower()` (or the level has ended).
        """
        s = stack()
        s.backward += 1
        try:
            return self._backward(seeds, wanted)
        finally:
            s.backward -= 1

    def _backward(self, seeds: Sequence[tuple[int, Any]], wanted: Sequence[int]) -> list[Any]:
        from stager.ops.cotangents import Totals, accumulate

        cts: dict[int, Any] = {}
        for slot, ct in seeds:
            cts[slot] = ct if slot not in cts else accumulate(cts[slot], ct)
        keep = set(wanted)
        for record in reversed(self.tape):
            out_cts = [
                None if slot is None else cts.get(slot) if slot in keep else cts.pop(slot, None)
                for slot in record.out_slots
            ]
            if all(ct is None for ct in out_cts):
                continue
            op = record.op
            needs = tuple([slot is not None for slot in record.arg_slots])
            ct = tuple(out_cts) if op.multiple_results else out_cts[0]
            if type(record.pull) is Totals:
                _add_into(cts, record, ct)
                continue
            if record.pull is not None:
                arg_cts = record.pull(ct)
            else:
                assert op.vjp is not None
                arg_cts = op.vjp(ct, record.out, record.args, needs, **record.params)
            for slot, ct in zip(record.arg_slots, arg_cts, strict=True):
                if slot is None or ct is None:
                    continue
                cts[slot] = ct if slot not in cts else accumulate(cts[slot], ct)
        return [cts.get(slot) for slot in wanted]


def _add_into(cts: dict[int, Any], record: Record, ct: Any) -> None:
    """Backward of a record that takes the totals of its operands and returns them with its own share."""
    from stager.ops.cotangents import accumulate

    positions: dict[int, int] = {}  # of an operand that stands in two positions, the first one has the total
    for k, slot in enumerate(record.arg_slots):
        if slot is not None:
            positions.setdefault(slot, k)
    slots = record.arg_slots
    totals = [None if slot is None or positions[slot] != k else cts.get(slot) for k, slot in enumerate(slots)]
    results = record.pull.run(ct, totals)
    for slot, k in positions.items():
        if results[k] is not None:
            cts[slot] = results[k]
    for k, slot in enumerate(record.arg_slots):
        if slot is not None and positions[slot] != k and results[k] is not None:
            cts[slot] = results[k] if slot not in cts else accumulate(cts[slot], results[k])
