"""Statements in plainer words, before they are rewritten: what tests a traced value becomes `if`.

    match k:                     @subject = k
        case 0: A                if @subject == 0: A
        case 1 | 2: B       ->   elif @subject == 1 or @subject == 2: B
        case n if n > 5: C       else:
        case _: D                    n = @subject
                                     if n > 5: C
                                     else: D

    while a and (x := f()) < b: A   ->   while a:
                                             if not (x := f()) < b: break
                                             A

    if a and (x := f()) < b: A      ->   @truth = a
                                         if @truth: @truth = (x := f()) < b
                                         if @truth: A

Invariant: on plain values the statements do what they did. A `match` with patterns that look into its subject stays; so
does a `while` with an `else` whose test binds a name behind `and` or `or`.
"""

from __future__ import annotations

import ast
from typing import Any

from stager.capture.rewrite import at, constant, name
from stager.capture.scopes import FUNCTIONS
from stager.capture.yields import EACH, UNTIL, nested_forms

_STORE = ast.Store()


def plainer(node: Any) -> None:
    """Rewrites the statements of a function, and of the functions in it."""
    if not isinstance(node, ast.Lambda):
        node.body = _Plainer().block(node.body)


class _Plainer:
    def __init__(self) -> None:
        self.count = 0

    def fresh(self, kind: str) -> str:
        self.count += 1
        return f"@{kind}{self.count}"

    def block(self, stmts: list[ast.stmt]) -> list[ast.stmt]:
        return [new for stmt in stmts for new in self.statement(stmt)]

    def statement(self, stmt: Any) -> list[ast.stmt]:
        for field in ("body", "orelse", "finalbody"):
            block = getattr(stmt, field, None)
            if isinstance(block, list) and block:
                setattr(stmt, field, self.block(block))
        for field in ("handlers", "cases"):
            for part in getattr(stmt, field, ()):
                part.body = self.block(part.body)
        if isinstance(stmt, ast.Match):
            return self.match(stmt)
        if _binds_later(stmt.test) if isinstance(stmt, ast.If) else isinstance(stmt, ast.While) and _binds(stmt.test):
            return self.test(stmt)
        if isinstance(stmt, ast.FunctionDef):
            return self.generator(stmt)
        return [stmt]

    def generator(self, stmt: Any) -> list[ast.stmt]:
        """A function that is defined here, behind its forms that take a consumer where it is a generator."""
        names = {form: self.fresh(form) for form in (EACH, UNTIL)}
        forms = nested_forms(stmt, names)
        if forms:
            stmt.forms = tuple(names.values())
        return [*forms, stmt]

    # -- match -----------------------------------------------------------------------------------------------------

    def match(self, stmt: ast.Match) -> list[ast.stmt]:
        if not all(_tests_only(case.pattern) for case in stmt.cases):
            return [stmt]
        subject = self.fresh("subject")
        chain: list[ast.stmt] = []
        for case in reversed(stmt.cases):
            chain = self.case(case, subject, chain)
        return [at(ast.Assign([name(subject, stmt, _STORE)], stmt.subject), stmt), *(chain or [at(ast.Pass(), stmt)])]

    def case(self, case: Any, subject: str, others: list[ast.stmt]) -> list[ast.stmt]:
        """`case.body` where it matches, else the other cases."""
        tests, bound = _tests(case.pattern, subject)
        at_hand: Any = case.pattern
        binding = [at(ast.Assign([name(n, at_hand, _STORE)], name(subject, at_hand)), at_hand) for n in bound]
        body = case.body
        if case.guard is not None and bound:
            body = [*binding, at(ast.If(case.guard, case.body, others), at_hand)]
            if tests is None:
                return body
            # a pattern that binds only where it matches: the guard stands inside, the other cases behind both
            return [at(ast.If(tests, body, others), at_hand)]
        if case.guard is not None:
            tests = case.guard if tests is None else at(ast.BoolOp(ast.And(), [tests, case.guard]), at_hand)
        body = [*binding, *body]
        return body if tests is None else [at(ast.If(tests, body, others), at_hand)]

    # -- tests that bind names -------------------------------------------------------------------------------------

    def test(self, stmt: Any) -> list[ast.stmt]:
        if isinstance(stmt, ast.If):
            before, truth = self.lifted(stmt.test)
            stmt.test = truth
            return [*before, stmt]
        if any(map(_jumps, stmt.orelse)):
            return [stmt]
        tests, last = [stmt.test], stmt.orelse
        if isinstance(stmt.test, ast.BoolOp) and isinstance(stmt.test.op, ast.And) and not last:
            tests = stmt.test.values
        stmt.test, stmt.orelse = constant(True, stmt.test), []
        if not last and not _binds(tests[0]):
            stmt.test, *tests = tests
        before = []
        for value in tests:
            lifted, truth = self.lifted(value)
            before += [*lifted, _unless(truth, last)]
        stmt.body = [*before, *stmt.body]
        return [stmt]

    def lifted(self, e: Any) -> tuple[list[ast.stmt], Any]:
        """Statements that compute a test which binds names behind `and` or `or`, and what stands for it."""
        if not _binds_later(e):
            return [], e
        if isinstance(e, ast.UnaryOp):
            out, e.operand = self.lifted(e.operand)
            return out, e
        kept = self.fresh("truth")
        out, truth = self.lifted(e.values[0])
        out.append(at(ast.Assign([name(kept, e, _STORE)], truth), e))
        inner = out
        for value in e.values[1:]:
            step, truth = self.lifted(value)
            step.append(at(ast.Assign([name(kept, e, _STORE)], truth), value))
            go_on: Any = name(kept, e)
            if isinstance(e.op, ast.Or):
                go_on = at(ast.UnaryOp(ast.Not(), go_on), e)
            inner.append(at(ast.If(go_on, step, []), e))
            inner = step
        return out, name(kept, e)


def _unless(test: Any, last: list[ast.stmt]) -> ast.stmt:
    out: ast.stmt = at(ast.If(at(ast.UnaryOp(ast.Not(), test), test), [*last, at(ast.Break(), test)], []), test)
    return out


def _binds(test: Any) -> bool:
    """Whether a test binds a name. Every look at it would do so, and Python looks once in each turn."""
    return any(isinstance(n, ast.NamedExpr) for n in ast.walk(test))


def _jumps(stmt: Any) -> bool:
    """Whether a statement may jump in the loop around it."""
    if isinstance(stmt, ast.Break | ast.Continue):
        return True
    if isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
        return False
    inner = stmt.orelse if isinstance(stmt, ast.For | ast.AsyncFor | ast.While) else ast.iter_child_nodes(stmt)
    return any(map(_jumps, inner))


def _binds_later(test: Any) -> bool:
    """Whether a name is bound behind an `and` or `or`, where it may stay unbound."""
    if isinstance(test, ast.UnaryOp):
        return isinstance(test.op, ast.Not) and _binds_later(test.operand)
    if not isinstance(test, ast.BoolOp):
        return False
    bound = any(isinstance(n, ast.NamedExpr) for v in test.values[1:] for n in ast.walk(v))
    return bound or _binds_later(test.values[0])


def _tests_only(pattern: Any) -> bool:
    """Whether a pattern compares its subject, takes it as it is, or chooses among such patterns."""
    if isinstance(pattern, ast.MatchValue | ast.MatchSingleton):
        return True
    if isinstance(pattern, ast.MatchOr):
        return all(_tests_only(p) and not _tests(p, "")[1] for p in pattern.patterns)
    return isinstance(pattern, ast.MatchAs) and (pattern.pattern is None or _tests_only(pattern.pattern))


def _tests(pattern: Any, subject: str) -> tuple[Any, list[str]]:
    """The test of a pattern, None for one that takes everything, and the names that it binds to the subject."""
    if isinstance(pattern, ast.MatchAs):
        tests, bound = (None, []) if pattern.pattern is None else _tests(pattern.pattern, subject)
        return tests, bound if pattern.name is None else [*bound, pattern.name]
    if isinstance(pattern, ast.MatchOr):
        every = [_tests(p, subject)[0] for p in pattern.patterns]
        return None if None in every else at(ast.BoolOp(ast.Or(), every), pattern), []
    same = ast.Eq() if isinstance(pattern, ast.MatchValue) else ast.Is()
    value = pattern.value if isinstance(pattern, ast.MatchValue) else constant(pattern.value, pattern)
    return at(ast.Compare(name(subject, pattern), [same], [value]), pattern), []
