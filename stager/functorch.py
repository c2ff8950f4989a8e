"""The names of the original module (`torch._functorch.pyfunctorch`), as aliases of stager's.

`docs/names.md` lists all 28 with what they are here. `CInterpreter` is the frozen state that stands in for the C++
object which the original wraps.
"""

from __future__ import annotations

from typing import Any

from stager.interpreters.functionalize import FunctionalizeInterpreter
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import (
    Interpreter,
    InterpreterState,
    bind,
    compare_state,
    nested,
    retrieve_all_interpreters,
    retrieve_current_interpreter,
    temporarily_clear_interpreter_stack,
    temporarily_pop_interpreter_stack,
    temporarily_restore_interpreter_stack,
)
from stager.interpreters.states import coerce_interpreter
from stager.interpreters.vmap import VmapInterpreter

FuncTorchInterpreter = Interpreter
CInterpreter = InterpreterState
coerce_cinterpreter = coerce_interpreter
retrieve_current_functorch_interpreter = retrieve_current_interpreter
retrieve_all_functorch_interpreters = retrieve_all_interpreters
compare_functorch_state = compare_state


def dispatch_functorch(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Hand an op to the interpreter at the top of the stack. Arrays of user code come back as such, raw values raw."""
    from stager.array import Array, raw, wrap

    out = bind(getattr(op, "op", op), *[raw(x) if type(x) is Array else x for x in args], **kwargs)
    if not any(type(x) is Array for x in args):
        return out
    return tuple([wrap(x) for x in out]) if isinstance(out, tuple) else wrap(out)


__all__ = [
    "CInterpreter", "FuncTorchInterpreter", "FunctionalizeInterpreter", "GradInterpreter", "JvpInterpreter",
    "VmapInterpreter",
    "coerce_cinterpreter", "compare_functorch_state", "dispatch_functorch", "nested",
    "retrieve_all_functorch_interpreters", "retrieve_current_functorch_interpreter",
    "temporarily_clear_interpreter_stack", "temporarily_pop_interpreter_stack", "temporarily_restore_interpreter_stack",
]  # fmt: skip
