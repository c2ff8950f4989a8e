"""Which names a function binds, reads and shares with its nested functions, and which are live after each statement.

A `Scope` describes one function of the tree (nested functions have their own, in `children`). `Scope.facts` holds for
every statement what it reads and binds; `find_live` adds, to `if`, `for` and `while`, the names whose values somebody
may still read: these alone are carried out of a branch or around a loop.

Conservative where Python is dynamic: a name that a nested function reads, or one of a function around, is always live,
and so is every name that an exception handler may read. Class bodies are opaque: what they mention counts as read by a
nested function.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
DYNAMIC = frozenset(
    {"locals", "vars", "dir", "eval", "exec"}
)  # calls that see local names: their frame must stay whole


CONSUME = "@consume"  # what a generator that is turned inside out gives its values to (`yields.py`)


class Yield(ast.Assign):
    """`@left = @consume(value)`."""


class Facts:
    """One statement: names that its header reads and binds; `assigned` and `reads_inside` count its blocks too."""

    __slots__ = ("assigned", "binds", "head", "live", "reads", "reads_inside", "rebound")

    def __init__(self) -> None:
        self.reads: set[str] = set()
        self.binds: set[str] = set()
        self.assigned: set[str] = set()
        self.reads_inside: set[str] = set()
        self.rebound: set[str] = set()  # of `assigned`, what is bound by more than augmented assignment
        self.live: frozenset[str] = frozenset()  # after the statement
        self.head: frozenset[str] = frozenset()  # loops: before each test of the loop


class Scope:
    """One function."""

    __slots__ = (
        "bound",
        "captured",
        "children",
        "dynamic",
        "facts",
        "free",
        "globals",
        "node",
        "nonlocals",
        "suspends",
    )

    def __init__(self, node: Any) -> None:
        self.node = node
        self.bound: set[str] = set()  # names that are local here
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self.captured: set[str] = set()  # names that nested functions mention
        self.free: set[str] = set()  # names mentioned here or below and not bound here
        self.children: dict[ast.AST, Scope] = {}
        self.facts: dict[ast.stmt, Facts] = {}
        self.suspends = False  # yield, await, async for
        self.dynamic = False
        self._collect()

    def _collect(self) -> None:
        node = self.node
        a = node.args
        for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
            if p is not None:
                self.bound.add(p.arg)
        reads: set[str] = set()
        if isinstance(node, ast.Lambda):
            assigned: set[str] = set()
            self._expression(node.body, reads, assigned)
        else:
            assigned, reads, _ = self._block(node.body)
        self.bound |= assigned
        self.bound -= self.globals | self.nonlocals
        written = self._written_by_nested() & self.bound
        if written:  # any call may run a nested function that assigns them
            for stmt, facts in self.facts.items():
                if isinstance(stmt, ast.If | ast.For | ast.AsyncFor | ast.While):
                    facts.assigned |= written
                    facts.rebound |= written
        self.free = (reads | self.captured | self.nonlocals) - self.bound - self.globals

    def _written_by_nested(self) -> set[str]:
        """Names that functions nested here declare nonlocal."""
        return {n for child in self.children.values() for n in child.nonlocals | child._written_by_nested()}

    # -- one pass over the statements ----------------------------------------------------------------------------

    def _block(self, stmts: Iterable[ast.stmt]) -> tuple[set[str], set[str], set[str]]:
        """Names assigned, read and rebound in a block, nested blocks included."""
        assigned: set[str] = set()
        reads: set[str] = set()
        rebound: set[str] = set()
        for stmt in stmts:
            facts = self._statement(stmt)
            assigned |= facts.assigned
            reads |= facts.reads_inside
            rebound |= facts.rebound
        return assigned, reads, rebound

    def _statement(self, stmt: ast.stmt) -> Facts:
        facts = self.facts[stmt] = Facts()
        inner_assigned: set[str] = set()
        inner_reads: set[str] = set()
        inner_rebound: set[str] = set()
        reads, binds = facts.reads, facts.binds
        augmented: set[str] = set()
        t = type(stmt)
        if t is Yield:
            binds.add(CONSUME)  # it sets variables of the consumer
            self.captured.add(CONSUME)
        if t is ast.Global:
            self.globals.update(stmt.names)  # type: ignore[attr-defined]
        elif t is ast.Nonlocal:
            self.nonlocals.update(stmt.names)  # type: ignore[attr-defined]
        elif t is ast.FunctionDef or t is ast.AsyncFunctionDef:
            binds.add(stmt.name)  # type: ignore[attr-defined]
            self._nested(stmt, reads, binds)
        elif t is ast.ClassDef:
            binds.add(stmt.name)  # type: ignore[attr-defined]
            mentioned = {n.id for n in ast.walk(stmt) if type(n) is ast.Name}
            self.captured |= mentioned
            reads |= mentioned
        elif t is ast.Import or t is ast.ImportFrom:
            for alias in stmt.names:  # type: ignore[attr-defined]
                binds.add((alias.asname or alias.name).partition(".")[0])
        elif t is ast.AugAssign:
            self._expression(stmt.target, reads, augmented)  # type: ignore[attr-defined]
            reads |= augmented
            self._expression(stmt.value, reads, binds)  # type: ignore[attr-defined]
        elif t is ast.AnnAssign:
            if stmt.value is not None:  # type: ignore[attr-defined]
                self._expression(stmt.value, reads, binds)  # type: ignore[attr-defined]
            self._expression(stmt.target, reads, binds)  # type: ignore[attr-defined]
        else:
            if t in (ast.AsyncFor, ast.AsyncWith):
                self.suspends = True
            for field in stmt._fields:
                value = getattr(stmt, field)
                if isinstance(value, ast.expr):
                    self._expression(value, reads, binds)
                elif isinstance(value, list) and value:
                    first = value[0]
                    if isinstance(first, ast.stmt):
                        a, r, b = self._block(value)
                        inner_assigned |= a
                        inner_reads |= r
                        inner_rebound |= b
                    elif isinstance(first, ast.expr):
                        for e in value:
                            self._expression(e, reads, binds)
                    else:
                        for part in value:
                            a, r, b = self._part(part, reads, binds)
                            inner_assigned |= a
                            inner_reads |= r
                            inner_rebound |= b
        facts.rebound = binds | inner_rebound
        binds |= augmented
        facts.assigned = binds | inner_assigned
        facts.reads_inside = reads | inner_reads
        return facts

    def _part(self, part: Any, reads: set[str], binds: set[str]) -> tuple[set[str], set[str], set[str]]:
        """A with item, an exception handler or a match case."""
        t = type(part)
        if t is ast.withitem:
            self._expression(part.context_expr, reads, binds)
            if part.optional_vars is not None:
                self._expression(part.optional_vars, reads, binds)
        elif t is ast.ExceptHandler:
            if part.type is not None:
                self._expression(part.type, reads, binds)
            assigned, inner, rebound = self._block(part.body)
            return (assigned | {part.name}, inner, rebound | {part.name}) if part.name else (assigned, inner, rebound)
        elif t is ast.match_case:
            for n in ast.walk(part.pattern):
                name = getattr(n, "name", None) if not isinstance(n, ast.MatchMapping) else n.rest
                if isinstance(name, str):
                    binds.add(name)
                elif isinstance(n, ast.expr):
                    self._expression(n, reads, binds)
            if part.guard is not None:
                self._expression(part.guard, reads, binds)
            return self._block(part.body)
        return set(), set(), set()

    def _expression(self, e: ast.AST, reads: set[str], binds: set[str]) -> None:
        stack = [e]
        while stack:
            n = stack.pop()
            t = type(n)
            if t is ast.Name:
                (reads if type(n.ctx) is ast.Load else binds).add(n.id)  # type: ignore[attr-defined]
            elif t is ast.Constant:
                pass
            elif t is ast.Attribute or t is ast.Starred:
                stack.append(n.value)  # type: ignore[attr-defined]
            elif t is ast.Lambda:
                self._nested(n, reads, binds)
            elif t in COMPREHENSIONS:
                self._comprehension(n, reads, binds)
            else:
                if t is ast.Yield or t is ast.YieldFrom or t is ast.Await:
                    self.suspends = True
                elif t is ast.Call and type(n.func) is ast.Name and n.func.id in DYNAMIC:  # type: ignore[attr-defined]
                    self.dynamic = True
                for field in n._fields:
                    value = getattr(n, field)
                    if isinstance(value, ast.AST):
                        stack.append(value)
                    elif isinstance(value, list):
                        stack.extend([v for v in value if isinstance(v, ast.AST)])

    def _nested(self, n: Any, reads: set[str], binds: set[str]) -> None:
        """A nested function: what it takes from here is shared with it for good."""
        for default in (*n.args.defaults, *n.args.kw_defaults):
            if default is not None:
                self._expression(default, reads, binds)
        for decorator in getattr(n, "decorator_list", ()):
            self._expression(decorator, reads, binds)
        child = self.children[n] = Scope(n)
        self.captured |= child.free
        reads |= child.free

    def _comprehension(self, n: Any, reads: set[str], binds: set[str]) -> None:
        inner_reads: set[str] = set()
        targets: set[str] = set()
        for generator in n.generators:
            self._expression(generator.target, inner_reads, targets)
            self._expression(generator.iter, inner_reads, binds)
            for test in generator.ifs:
                self._expression(test, inner_reads, binds)
            if generator.is_async:
                self.suspends = True
        for field in ("elt", "key", "value"):
            part = getattr(n, field, None)
            if part is not None:
                self._expression(part, inner_reads, binds)
        if type(n) is ast.GeneratorExp:  # runs later: reads whatever the names hold then
            self.captured |= inner_reads - targets
        reads |= inner_reads - targets


def bound_by_comprehension(n: Any) -> set[str]:
    """The names of a comprehension's own scope."""
    return {t.id for g in n.generators for t in ast.walk(g.target) if type(t) is ast.Name and type(t.ctx) is ast.Store}


# -- liveness --------------------------------------------------------------------------------------------------------

Names = frozenset[str]
NONE: Names = frozenset()


class _Live:
    def __init__(self, scope: Scope, outer: Names) -> None:
        self.facts = scope.facts
        self.shared = frozenset(scope.captured & scope.bound) | outer
        self.gen: dict[ast.stmt, Names] = {}

    def block(self, stmts: list[ast.stmt], after: Names, brk: Names, cont: Names, extra: Names, note: bool) -> Names:
        for stmt in reversed(stmts):
            after = self.statement(stmt, after, brk, cont, extra, note)
        return after

    def statement(self, stmt: ast.stmt, after: Names, brk: Names, cont: Names, extra: Names, note: bool) -> Names:
        facts = self.facts[stmt]
        if note:
            facts.live = after | extra | self.shared
        t = type(stmt)
        if t is ast.Return or t is ast.Raise:
            return extra | facts.reads
        if t is ast.Break:
            return brk
        if t is ast.Continue:
            return cont
        if t is ast.If:
            then = self.block(stmt.body, after, brk, cont, extra, note)  # type: ignore[attr-defined]
            other = self.block(stmt.orelse, after, brk, cont, extra, note)  # type: ignore[attr-defined]
            return ((then | other) - facts.binds) | facts.reads
        if t in (ast.For, ast.AsyncFor, ast.While):
            return self.loop(stmt, after, brk, cont, extra, note)
        if t is ast.With or t is ast.AsyncWith:
            inner = self.block(stmt.body, after, brk, cont, extra, note)  # type: ignore[attr-defined]
            return (inner - facts.binds) | facts.reads
        if t is ast.Try or t.__name__ == "TryStar":
            return self.try_(stmt, after, brk, cont, extra, note)
        if t is ast.Match:
            live = after
            for case in stmt.cases:  # type: ignore[attr-defined]
                live |= self.block(case.body, after, brk, cont, extra, note)
            return live | facts.reads
        return (after - facts.binds) | facts.reads | extra

    def loop(self, stmt: Any, after: Names, brk: Names, cont: Names, extra: Names, note: bool) -> Names:
        facts = self.facts[stmt]
        else_in = self.block(stmt.orelse, after, brk, cont, extra, note)
        is_for = type(stmt) is not ast.While
        gen = self.gen.get(stmt)
        if gen is None:  # what an iteration reads before it writes; does not depend on what follows the loop
            gen = self.block(stmt.body, NONE, NONE, NONE, NONE, False)
            self.gen[stmt] = gen
        if is_for:
            head = (gen - facts.binds) | else_in | after | extra
        else:
            head = (gen - facts.binds) | facts.reads | else_in | after | extra
        if note:
            facts.head = head | self.shared
            self.block(stmt.body, head, after, head, extra, True)
        return head | facts.reads

    def try_(self, stmt: Any, after: Names, brk: Names, cont: Names, extra: Names, note: bool) -> Names:
        facts = self.facts[stmt]
        final = self.block(stmt.finalbody, after | extra, brk, cont, extra, note)
        out, brk_out, cont_out = (final, final | brk, final | cont) if stmt.finalbody else (after, brk, cont)
        handled: Names = NONE
        outer = extra | final if stmt.finalbody else extra
        for handler in stmt.handlers:
            handled |= self.block(handler.body, out, brk_out, cont_out, outer, note) - {handler.name}
        during = outer | handled
        else_in = self.block(stmt.orelse, out, brk_out, cont_out, outer, note)
        body = self.block(stmt.body, else_in | during, brk_out, cont_out, during, note)
        return body | facts.reads | during


def find_live(scope: Scope, outer: Names) -> None:
    """Fill `Facts.live` and `Facts.head` of the function's own statements. outer: variables of functions around that it
    assigns, which these read whenever they like."""
    _Live(scope, outer).block(scope.node.body, NONE, NONE, NONE, NONE, True)
