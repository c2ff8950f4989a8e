"""From a frozen state back to an interpreter: pickling, and replaying a captured stack."""

from __future__ import annotations

from stager.interpreters.functionalize import FunctionalizeInterpreter
from stager.interpreters.grad import GradInterpreter
from stager.interpreters.jvp import JvpInterpreter
from stager.interpreters.stack import Interpreter, InterpreterState
from stager.interpreters.vmap import VmapInterpreter

INTERPRETERS: dict[str, type[Interpreter]] = {
    cls.key: cls for cls in (VmapInterpreter, GradInterpreter, JvpInterpreter, FunctionalizeInterpreter)
}


def coerce_interpreter(state: InterpreterState) -> Interpreter:
    """A fresh interpreter (not in force) of the state's kind, level and facts. KeyError for an unknown kind."""
    interp = INTERPRETERS[state.key](**dict(state.facts))
    interp.level = state.level
    return interp
