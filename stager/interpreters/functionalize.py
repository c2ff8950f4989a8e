"""`FunctionalizeInterpreter`: mutation and aliasing become pure ops.

The handles of user code (`Array`: a cell and a path of views, `cells.py`) resolve writes above every other level, so
what reaches an interpreter is pure already. What is left to this level, when the user asks for it by name, is what
the resolved program looks like: with `functionalize_add_back_views` views stay view ops; without it every view op
becomes a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stager.interpreters.stack import Interpreter, bind
from stager.ir.op import Op


class FunctionalizeInterpreter(Interpreter):
    """Pure ops only; `functionalize_add_back_views` keeps views as views."""

    key = "Functionalize"

    def __init__(self, functionalize_add_back_views: bool = True) -> None:
        super().__init__()
        self.functionalize_add_back_views = functionalize_add_back_views

    def facts(self) -> tuple[tuple[str, Any], ...]:
        return (("functionalize_add_back_views", self.functionalize_add_back_views),)

    def process(self, op: Op, args: Sequence[Any], params: dict[str, Any]) -> Any:
        with self.lower():
            out = bind(op, *args, **params)
            if op.family == "view" and not self.functionalize_add_back_views:
                from stager.ops.elementwise import copy

                out = copy(out)
            return out
