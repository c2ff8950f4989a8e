"""`JvpInterpreter`: forward mode. A `JvpTracer` carries a primal and a tangent from below; no tangent is zero."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.interpreters.stack import Interpreter, LoweredMode, Stack, Tracer, bind, lifted, stack
from stager.ir.op import Op


class JvpTracer(Tracer):
    """`value` is the primal; `tangent` has its type."""

    __slots__ = ("tangent",)

    def __init__(self, interp: Interpreter, primal: Any, tangent: Any) -> None:
        super().__init__(interp, primal, primal.type)
        self.tangent = tangent


class JvpInterpreter(Interpreter):
    """Forward-mode differentiation."""

    key = "Jvp"

    def __init__(self, prev_fwd_grad_mode: bool = True) -> None:
        super().__init__()
        self.prev_fwd_grad_mode = prev_fwd_grad_mode

    def facts(self) -> tuple[tuple[str, Any], ...]:
        return (("prev_fwd_grad_mode", self.prev_fwd_grad_mode),)

    def begin(self, s: Stack) -> None:
        """A level starts with tangents, whatever the mode around it, which it remembers for the ops that it lowers."""
        self.prev_fwd_grad_mode, s.fwd_grad_enabled = s.fwd_grad_enabled, True

    def lower(self) -> LoweredMode:
        """Context in which ops go to the level below, in the forward grad mode around the transform."""
        return LoweredMode(self.position, "fwd_grad_enabled", self.prev_fwd_grad_mode)

    def lift(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments as those of this level: arrays from below are constants to it."""
        return lifted(self, args, kwargs)

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        primals, tangents, tracked = [], [], False
        for a in args:
            if type(a) is JvpTracer and a.interp is self:
                primals.append(a.value)
                tangents.append(a.tangent)
                tracked = True
            else:
                primals.append(a)
                tangents.append(None)
        enabled = stack().fwd_grad_enabled
        with self.lower():
            if not tracked or not enabled or op.jvp is None:
                return bind(op, *primals, **params)
            out, tangent = op.jvp(primals, tangents, **params)
        if op.multiple_results:
            return tuple([self.wrap(o, t) for o, t in zip(out, tangent, strict=True)])
        return self.wrap(out, tangent)

    def wrap(self, primal: Any, tangent: Any) -> Any:
        """This level's tracer; the primal itself when there is no tangent."""
        return primal if tangent is None else JvpTracer(self, primal, tangent)

    def unwrap(self, value: Any) -> tuple[Any, Any]:
        """(primal, tangent or None)."""
        if type(value) is JvpTracer and value.interp is self:
            return value.value, value.tangent
        return value, None

    def lower_value(self, value: Any) -> Any:
        return self.unwrap(value)[0]
