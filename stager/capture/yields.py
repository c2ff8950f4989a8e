"""Generator functions turned inside out: instead of suspending at a `yield` they give its value to a consumer.

    def pairs(n):                     def pairs(n, *, @consume):
        for i in range(n):                for i in range(n):
            for j in range(i):   ->           for j in range(i):
                yield i, j                        @left = @consume((i, j))
                                                  if @left: return

The consumer is the body of the loop that runs over the generator (`generators.py`), so both are one loop nest. Where
that body never ends its loop, the test is left out. Both forms are rewritten as any other function is.

Invariant: the consumer sees the values in the order, and between the statements, in which Python would give them. A
function whose `yield`s are more than statements, or stand in a `try` or `with`, has no such form.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

from stager.capture.rewrite import UnconvertibleError, at, constant, name
from stager.capture.scopes import CONSUME, FUNCTIONS, Yield

LEFT = "@left"  # whether the loop that runs over the generator has ended
LEAVES: Any = "leaves"  # how a loop of the generator ends that it does not end itself
EACH, UNTIL = "each", "until"  # forms: for a consumer that takes all there is, and for one that may end its loop
_STORE = ast.Store()


def inside_out(node: Any, form: str) -> None:
    """Rewrites a generator function, in place."""
    if not isinstance(node, ast.FunctionDef):
        raise UnconvertibleError("it is no generator function")
    found = _yields(node)
    body = _Turned(form)
    node.body = body.block(node.body)
    left = next((e for e in found if id(e) not in body.turned), None)
    if left is not None:
        raise UnconvertibleError(f"line {left.lineno}: a yield that is no statement, or stands in a try, with or match")
    node.args.kwonlyargs.append(at(ast.arg(CONSUME), node))
    node.args.kw_defaults.append(None)


def has_ended(stmt: Any) -> bool:
    """Whether a statement returns where the consumer has ended."""
    return isinstance(stmt, ast.If) and isinstance(stmt.test, ast.Name) and stmt.test.id == LEFT


def nested_forms(node: ast.FunctionDef, names: dict[str, str]) -> list[ast.FunctionDef]:
    """The forms of a generator function that is defined in another function, under other names; none without a form."""
    if node.decorator_list or not _yields(node):
        return []
    forms = []
    for form, id in names.items():
        made = copy.deepcopy(node)
        made.name = id
        try:
            inside_out(made, form)
        except UnconvertibleError:
            return []
        forms.append(made)
    return forms


def _yields(node: Any) -> list[Any]:
    return [e for stmt in node.body for e in _own(stmt) if isinstance(e, ast.Yield | ast.YieldFrom)]


def _own(node: ast.AST) -> Iterator[ast.AST]:
    """What stands in a statement, without what functions and classes in it have."""
    yield node
    if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        for child in ast.iter_child_nodes(node):
            yield from _own(child)


class _Turned:
    """The statements of one generator function."""

    def __init__(self, form: str) -> None:
        self.form = form
        self.turned: set[int] = set()  # ids of the expressions that give a value to the consumer

    def block(self, stmts: list[ast.stmt]) -> list[ast.stmt]:
        return [new for stmt in stmts for new in self.statement(stmt)]

    def statement(self, stmt: Any) -> list[ast.stmt]:
        if isinstance(stmt, ast.For | ast.While | ast.If):
            stmt.body, stmt.orelse = self.block(stmt.body), self.block(stmt.orelse)
        elif isinstance(stmt, ast.Return) and stmt.value is not None:
            return [at(ast.Expr(stmt.value), stmt), at(ast.Return(None), stmt)]
        elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.Yield):
            self.turned.add(id(stmt.value))
            value = stmt.value.value
            return self.given(constant(None, stmt) if value is None else value, stmt)
        elif isinstance(stmt, ast.Expr) and isinstance(stmt.value, ast.YieldFrom):
            self.turned.add(id(stmt.value))
            each = f"@each{len(self.turned)}"
            body = self.given(name(each, stmt), stmt)
            return [at(ast.For(name(each, stmt, _STORE), stmt.value.value, body, [], None), stmt)]
        return [stmt]

    def given(self, value: Any, old: Any) -> list[ast.stmt]:
        out: list[ast.stmt] = [at(Yield([name(LEFT, old, _STORE)], value), old)]
        if self.form == UNTIL:
            out.append(at(ast.If(name(LEFT, old), [at(ast.Return(None), old)], []), old))
        return out
