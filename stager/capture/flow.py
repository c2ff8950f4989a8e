"""Rewrites the statements of a user's function: `if`, `for` and `while` become calls of operators over closures.

    if t: A             def @t(): nonlocal x; A
    else: B       ->    def @f(): nonlocal x; B
                        @.if_(t, @t, @f, ("x",))

The operator sees the test. A concrete one runs one closure: plain Python, same order, same effects. A traced one is
staged (`operators.py`), and the names in the tuple, those assigned inside that somebody may still read, are what leaves
the branches; the operator reads and writes them through the cells of the closures, so that unbound names stay unbound.

`break`, `continue` and `return` inside a closure become its result, a *signal*; None is falling through. What follows a
statement that may signal moves into one more closure, so that the operator can make it conditional:

    if t: return a      @s = @.branch(t, @t, @f, ...)
    REST          ->    def @r(): REST
                        return @.finish(@.then(@s, @r, ...))

Generators, coroutines and functions that look at their own frame (`locals()`, `eval`) keep their statements.
"""

from __future__ import annotations

import ast
from typing import Any, NamedTuple

from stager.capture.rewrite import (
    HOOKS,
    ITEM,
    Expressions,
    UnconvertibleError,
    at,
    binds_or_suspends,
    constant,
    first_parameter,
    hook,
    name,
    no_arguments,
    none_tested,
    surely_concrete,
)
from stager.capture.scopes import CONSUME, FUNCTIONS, Scope, Yield, find_live
from stager.capture.yields import has_ended

_STORE = ast.Store()


class Context(NamedTuple):
    """Where a statement stands."""

    closure: bool  # inside a closure of ours: `return v` is a signal
    loop: bool  # inside the body closure of a loop: `break` and `continue` are signals
    tail: bool  # its block ends the function or closure
    after: frozenset[str] | None  # names live after its block; None when every name may be


ROOT = Context(False, False, True, frozenset())


def escapes(stmts: list[ast.stmt], in_loop: bool = False) -> bool:
    """Whether control can leave these statements sideways: return, or break and continue of a loop around them."""
    for stmt in stmts:
        t = type(stmt)
        if t is ast.Return:
            return True
        if t is ast.Break or t is ast.Continue:
            if not in_loop:
                return True
        elif t in (ast.For, ast.AsyncFor, ast.While):
            if escapes(stmt.body, True) or escapes(stmt.orelse, in_loop):  # type: ignore[attr-defined]
                return True
        elif t not in (*FUNCTIONS, ast.ClassDef):
            for block in _blocks(stmt):
                if escapes(block, in_loop):
                    return True
    return False


def _jumps(stmts: list[ast.stmt], itself: bool = False) -> bool:
    """Whether a loop body can end its loop: break, or return. itself: not where who takes its items has ended."""
    return any(_jumps_in(s, itself) for s in stmts if not (itself and has_ended(s)))


def _jumps_in(s: ast.stmt, itself: bool) -> bool:
    if isinstance(s, ast.Break | ast.Return):
        return True
    if isinstance(s, ast.For | ast.AsyncFor | ast.While):
        return _returns(s.body, itself) or _jumps(s.orelse, itself)
    return type(s) not in (*FUNCTIONS, ast.ClassDef) and any(_jumps(b, itself) for b in _blocks(s))


def _returns(stmts: list[ast.stmt], itself: bool = False) -> bool:
    return any(
        type(s) is ast.Return
        or (type(s) not in (*FUNCTIONS, ast.ClassDef) and any(_returns(b, itself) for b in _blocks(s)))
        for s in stmts
        if not (itself and has_ended(s))
    )


def _blocks(stmt: Any) -> list[list[ast.stmt]]:
    blocks = [getattr(stmt, field) for field in ("body", "orelse", "finalbody") if getattr(stmt, field, None)]
    blocks += [part.body for field in ("handlers", "cases") for part in getattr(stmt, field, ())]
    return blocks


def falls_through(stmts: list[ast.stmt]) -> bool:
    """Whether control may reach the end of the block."""
    for stmt in stmts:
        t = type(stmt)
        if t in (ast.Return, ast.Raise, ast.Break, ast.Continue):
            return False
        if isinstance(stmt, ast.If) and stmt.orelse and not falls_through(stmt.body) and not falls_through(stmt.orelse):
            return False
        endless = isinstance(stmt, ast.While) and isinstance(stmt.test, ast.Constant) and stmt.test.value
        if endless and not _breaks(_blocks(stmt)[0]):
            return False
    return True


def _breaks(stmts: list[ast.stmt]) -> bool:
    """Whether a `break` of the loop around these statements stands among them."""
    return any(
        type(s) is ast.Break
        or (
            type(s) not in (*FUNCTIONS, ast.ClassDef, ast.For, ast.AsyncFor, ast.While)
            and any(map(_breaks, _blocks(s)))
        )
        or (type(s) in (ast.For, ast.AsyncFor, ast.While) and _breaks(s.orelse))  # type: ignore[attr-defined]
        for s in stmts
    )


def _escapes_through_flow(stmts: list[ast.stmt]) -> bool:
    """Whether a converted statement in this block may signal out of it (it then cannot stay in a plain `if`)."""
    for stmt in stmts:
        t = type(stmt)
        if t is ast.If and surely_concrete(stmt.test):  # type: ignore[attr-defined]
            if _escapes_through_flow(stmt.body) or _escapes_through_flow(stmt.orelse):  # type: ignore[attr-defined]
                return True
        elif t in (ast.If, ast.For, ast.While):
            if escapes([stmt]):
                return True
        elif t not in (*FUNCTIONS, ast.ClassDef) and any(_escapes_through_flow(b) for b in _blocks(stmt)):
            return True
    return False


class Statements(Expressions):
    """The rewriter of one root function."""

    def __init__(self, scope: Scope, globals: dict[str, Any], freevars: tuple[str, ...]) -> None:
        super().__init__(scope, globals, freevars)
        self.counter = 0
        self.inner = scope  # the innermost function around the statement at hand
        self.hoisted: set[str] = set()  # names whose only binding may stand inside closures

    def fresh(self, kind: str) -> str:
        self.counter += 1
        return f"@{kind}{self.counter}"

    # -- functions -----------------------------------------------------------------------------------------------

    def root_body(self) -> list[ast.stmt]:
        """The rewritten body of the root function."""
        node = self.root.node
        if isinstance(node, ast.Lambda):
            self.flow = not self.root.suspends and not self.root.dynamic
            self.first_parameter = first_parameter(node.args)
            return [at(ast.Return(self.visit(node.body)), node.body)]
        return self.function_body(node, self.root)

    def function_body(self, node: Any, scope: Scope) -> list[ast.stmt]:
        """Rewrite a function's statements; `scope` is on `self.scopes` already."""
        saved = self.flow, self.first_parameter, self.inner, self.hoisted
        self.flow = not scope.suspends and not scope.dynamic
        self.first_parameter = first_parameter(node.args)
        self.inner, self.hoisted = scope, set()
        outer = sorted(n for n in scope.nonlocals if not self.stored_elsewhere(n))
        if self.flow:
            self._mark_optional(node, scope)
            find_live(scope, frozenset(outer))
        body = self.block(node.body, ROOT)
        hoisted = sorted(self.hoisted & scope.bound)
        if hoisted:  # never runs; makes the names locals of this function, for the closures' nonlocal
            dead = ast.Assign([name(n, node, _STORE) for n in hoisted], constant(None, node))
            body.insert(0, at(ast.If(constant(False, node), [at(dead, node)], []), node))
        if outer:
            body.insert(0, at(ast.Nonlocal(outer), node))
        self.flow, self.first_parameter, self.inner, self.hoisted = saved
        return body

    def _mark_optional(self, node: Any, scope: Scope) -> None:
        """Mark the tests whether a variable is None that traced control flow may decide. Defaults are plain."""
        a = node.args
        own = scope.bound - {p.arg for p in (*a.posonlyargs, *a.args, *a.kwonlyargs)}
        for e in ast.walk(node):
            tested = none_tested(e)
            if isinstance(tested, ast.Name) and tested.id in own:
                e.optional = True  # type: ignore[attr-defined]

    def _turns_off(self, e: Any) -> bool:
        """Whether a decorator is `do_not_convert`."""
        from stager.capture import do_not_convert

        if isinstance(e, ast.Attribute):
            module = self.plain_module(e.value)
            return module is not None and getattr(module, e.attr, None) is do_not_convert
        return isinstance(e, ast.Name) and self.globals.get(e.id) is do_not_convert

    def nested_function(self, stmt: Any, c: Context) -> list[ast.stmt]:
        if self.stored_elsewhere(stmt.name):
            raise UnconvertibleError(f"line {stmt.lineno}: a function defined as a global or outer variable")
        if any(map(self._turns_off, stmt.decorator_list)):
            return [stmt]  # it stays as it is written
        stmt.decorator_list = [hook("decorator", [d], d) for d in self.visit_all(stmt.decorator_list)]
        stmt.args.defaults = self.visit_all(stmt.args.defaults)
        stmt.args.kw_defaults = self.visit_all(stmt.args.kw_defaults)
        scope = self._scope_of(stmt)
        self.scopes.append(scope)
        stmt.body = self.function_body(stmt, scope)
        self.scopes.pop()
        forms = [name(id, stmt) for id in getattr(stmt, "forms", ())]
        if not forms:
            return [stmt]
        return [stmt, at(ast.Expr(hook("turned", [name(stmt.name, stmt), *forms], stmt)), stmt)]

    # -- blocks --------------------------------------------------------------------------------------------------

    def block(self, stmts: list[ast.stmt], c: Context) -> list[ast.stmt]:
        out: list[ast.stmt] = []
        for i, stmt in enumerate(stmts):
            if self.flow and self._signals(stmt):
                out += self.signalling(stmt, stmts[i + 1 :], c)
                return out
            handler = _STATEMENTS.get(type(stmt))
            out += self.simple(stmt, c) if handler is None else handler(self, stmt, c)
        return out

    def _signals(self, stmt: Any) -> bool:
        """A statement that becomes an operator and may leave its block sideways."""
        t = type(stmt)
        if t is ast.If:
            return escapes([stmt]) and not self._stays(stmt)
        if t is ast.With or (t is ast.Try and not stmt.orelse and not escapes(stmt.finalbody)):
            handled = any(_escapes_through_flow(h.body) for h in getattr(stmt, "handlers", ()))
            return escapes(stmt.body) and _escapes_through_flow(stmt.body) and not handled
        return t in (ast.For, ast.While) and escapes([stmt])

    def _stays(self, stmt: ast.If) -> bool:
        """A plain `if` in the rewritten code too."""
        if not self.flow:
            return True
        return (
            surely_concrete(stmt.test)
            and not _escapes_through_flow(stmt.body)
            and not _escapes_through_flow(stmt.orelse)
        )

    def signalling(self, stmt: Any, rest: list[ast.stmt], c: Context) -> list[ast.stmt]:
        """A statement with a signal, and what follows it in its block."""
        out, call = self.operator(stmt, c)
        signal = self.fresh("s")
        if rest:
            closure = self.fresh("r")
            facts = self.inner.facts
            assigned = set(facts[stmt].assigned)
            for s in rest:
                assigned |= facts[s].assigned
            live = assigned if c.after is None else assigned & (c.after | self.inner.captured | self.inner.nonlocals)
            out.append(self.closure(closure, rest, assigned, c._replace(closure=True, tail=True), rest[0]))
            call = hook("then", [call, name(closure, stmt), self.names(live, stmt)], stmt)
        if c.tail:
            result = call if c.closure else hook("finish", [call], stmt)
            return [*out, at(ast.Return(result), stmt)]
        out.append(at(ast.Assign([name(signal, stmt, _STORE)], call), stmt))
        test = at(ast.Compare(name(signal, stmt), [ast.IsNot()], [constant(None, stmt)]), stmt)
        left = hook("leave", [name(signal, stmt)], stmt)
        result = left if c.closure else hook("finish", [left], stmt)
        out.append(at(ast.If(test, [at(ast.Return(result), stmt)], []), stmt))
        return out

    def closure(
        self, id: str, stmts: list[ast.stmt], assigned: set[str], c: Context, old: Any, first: Any = None
    ) -> Any:
        """`def id(): nonlocal ...; stmts`; `first` is a statement to put before them."""
        shared = sorted(n for n in assigned if not self.stored_elsewhere(n))
        self.hoisted.update(shared)
        body: list[ast.stmt] = [at(ast.Nonlocal(shared), old)] if shared else []
        if first is not None:
            body.append(first)
        body += self.block(stmts, c)
        arguments = no_arguments()
        if first is not None:
            arguments.args = [at(ast.arg(ITEM), old)]
        return at(_function(id, arguments, body or [at(ast.Pass(), old)]), old)

    def names(self, names: Any, old: Any, rebound: Any = None) -> Any:
        """The names as a constant tuple; "+x" is only ever bound by augmented assignment."""
        own = sorted(n for n in names if n != CONSUME and not self.stored_elsewhere(n))
        found = constant(tuple([n if rebound is None or n in rebound else f"+{n}" for n in own]), old)
        if CONSUME not in names:
            return found
        carried = at(ast.Attribute(name(CONSUME, old), "carried", ast.Load()), old)
        return at(ast.Call(carried, [found], []), old)

    # -- operators -----------------------------------------------------------------------------------------------

    def operator(self, stmt: Any, c: Context) -> tuple[list[ast.stmt], Any]:
        """The closures of an `if`, `for` or `while`, and the call that runs it."""
        t = type(stmt)
        if t is ast.If:
            return self.if_operator(stmt, c)
        if t in (ast.With, ast.Try):
            return self.guarded(stmt, c)
        facts = self.inner.facts[stmt]
        inside = Context(True, True, True, facts.head)
        out: list[ast.stmt] = []
        carried = self.names(facts.assigned & facts.head, stmt, facts.rebound)
        orelse = constant(None, stmt)
        jumps = constant(_jumps(stmt.body), stmt)
        if jumps.value and not _jumps(stmt.body, True):
            jumps = at(ast.Attribute(name(HOOKS, stmt), "LEAVES", ast.Load()), stmt)
        body = self.fresh("b")
        if t is ast.For:
            iterable = self.visit(stmt.iter)
            target = at(ast.Assign([self.visit(stmt.target)], name(ITEM, stmt)), stmt.target)
            if isinstance(stmt.target, ast.Tuple | ast.List):
                target.value = hook("spread", [target.value], stmt.target)
            out.append(self.closure(body, stmt.body, facts.assigned, inside, stmt, target))
            first, method = iterable, "for_"
        else:
            test = self.fresh("c")
            shared = sorted(n for n in facts.binds if not self.stored_elsewhere(n))
            self.hoisted.update(shared)
            lines: list[ast.stmt] = [at(ast.Nonlocal(shared), stmt)] if shared else []
            lines.append(at(ast.Return(self.visit(stmt.test)), stmt.test))
            out.append(at(_function(test, no_arguments(), lines), stmt))
            out.append(self.closure(body, stmt.body, facts.assigned, inside, stmt))
            first, method = name(test, stmt), "while_"
        if stmt.orelse:
            id = self.fresh("e")
            after = c._replace(closure=True, tail=True, after=facts.live)
            out.append(self.closure(id, stmt.orelse, facts.assigned, after, stmt.orelse[0]))
            orelse = name(id, stmt)
        return out, hook(method, [first, name(body, stmt), carried, orelse, jumps], stmt)

    def guarded(self, stmt: Any, c: Context) -> tuple[list[ast.stmt], Any]:
        """A `with`, or a `try` without `else`, whose block may signal: the signal waits until it is left."""
        facts = self.inner.facts
        body, signal = self.fresh("b"), self.fresh("s")
        assigned = {n for s in stmt.body for n in facts[s].assigned}
        after = facts[stmt].live if type(stmt) is ast.With else None
        inside = c._replace(closure=True, tail=True, after=after)
        out = [self.closure(body, stmt.body, assigned, inside, stmt.body[0])]
        out.append(at(ast.Assign([name(signal, stmt, _STORE)], constant(None, stmt)), stmt))
        run = hook("settled", [at(ast.Call(name(body, stmt), [], []), stmt)], stmt)
        stmt.body = [at(ast.Assign([name(signal, stmt, _STORE)], run), stmt)]
        if type(stmt) is ast.With:
            for item in stmt.items:
                self.part(item, c)
        else:
            for handler in stmt.handlers:
                self.part(handler, c._replace(tail=False, after=None))
            stmt.finalbody = self.block(stmt.finalbody, c._replace(tail=False, after=None))
        return [*out, stmt], name(signal, stmt)

    def if_operator(self, stmt: ast.If, c: Context) -> tuple[list[ast.stmt], Any]:
        facts = self.inner.facts[stmt]
        signals = escapes([stmt])
        flags = [constant(falls_through(stmt.body), stmt), constant(falls_through(stmt.orelse), stmt)]
        inside = c._replace(closure=True, tail=True, after=facts.live)
        test = self.visit(stmt.test)
        then, other = self.fresh("t"), self.fresh("f")
        out: list[ast.stmt] = [self.closure(then, stmt.body, facts.assigned, inside, stmt)]
        args = [test, name(then, stmt), constant(None, stmt), self.names(facts.assigned & facts.live, stmt)]
        if stmt.orelse:
            out.append(self.closure(other, stmt.orelse, facts.assigned, inside, stmt.orelse[0]))
            args[2] = name(other, stmt)
        if not signals:
            return out, hook("if_", args, stmt)
        return out, hook("branch", [*args, *flags], stmt)

    # -- statements ----------------------------------------------------------------------------------------------

    def if_(self, stmt: ast.If, c: Context) -> list[ast.stmt]:
        if self._stays(stmt):
            stmt.test = self.visit(stmt.test)
            inner = c._replace(tail=False, after=self.inner.facts[stmt].live)
            stmt.body = self.block(stmt.body, inner)
            stmt.orelse = self.block(stmt.orelse, inner)
            return [stmt]
        out, call = self.operator(stmt, c)
        return [*out, at(ast.Expr(call), stmt)]

    def loop(self, stmt: Any, c: Context) -> list[ast.stmt]:
        if self.flow:
            out, call = self.operator(stmt, c)
            return [*out, at(ast.Expr(call), stmt)]
        plain = c._replace(tail=False)
        if type(stmt) is ast.While:
            stmt.test = self.visit(stmt.test)
        else:
            stmt.iter = self.visit(stmt.iter)
            if type(stmt) is ast.For:
                stmt.iter = hook("iter", [stmt.iter], stmt.iter)
            stmt.target = self.visit(stmt.target)
        stmt.body = self.block(stmt.body, plain)
        stmt.orelse = self.block(stmt.orelse, plain)
        return [stmt]

    def return_(self, stmt: ast.Return, c: Context) -> list[ast.stmt]:
        value = None if stmt.value is None else self.visit(stmt.value)
        stmt.value = hook("returned", [constant(None, stmt) if value is None else value], stmt) if c.closure else value
        return [stmt]

    def jump(self, stmt: Any, c: Context) -> list[ast.stmt]:
        if not c.loop:
            return [stmt]
        word = "BREAK" if type(stmt) is ast.Break else "CONTINUE"
        return [at(ast.Return(at(ast.Attribute(name(HOOKS, stmt), word, ast.Load()), stmt)), stmt)]

    def raise_(self, stmt: ast.Raise, c: Context) -> list[ast.stmt]:
        self.generic(stmt)
        if self.flow and isinstance(stmt.exc, ast.Call) and not binds_or_suspends(stmt.exc):
            stmt.exc = hook("described", [self.lazily(stmt.exc)], stmt.exc)
        if stmt.exc is not None and c.closure:
            stmt.exc = hook("raised", [stmt.exc], stmt)
        return [stmt]

    def assert_(self, stmt: ast.Assert, c: Context) -> list[ast.stmt]:
        text = None if stmt.msg is None else self.visit(stmt.msg)
        test = self.visit(stmt.test)
        if self.flow:  # a traced test becomes a check of the compiled code; the statement itself stays the user's
            test = hook("checked", [test, constant(None, stmt) if text is None else self.lazily(text)], stmt)
        stmt.test, stmt.msg = test, text
        return [stmt]

    def yield_(self, stmt: Yield, c: Context) -> list[ast.stmt]:
        stmt.value = at(ast.Call(name(CONSUME, stmt), [self.visit(stmt.value)], []), stmt)
        return [at(ast.Assign(stmt.targets, stmt.value), stmt)]

    def assign(self, stmt: ast.Assign, c: Context) -> list[ast.stmt]:
        stmt.value = self.visit(stmt.value)
        if any(isinstance(t, ast.Tuple | ast.List) for t in stmt.targets) and not isinstance(
            stmt.value, ast.Tuple | ast.List
        ):
            stmt.value = hook("spread", [stmt.value], stmt.value)
        stmt.targets = self.visit_all(stmt.targets)
        return [stmt]

    def augmented(self, stmt: ast.AugAssign, c: Context) -> list[ast.stmt]:
        target = stmt.target
        stmt.value = self.visit(stmt.value)
        if isinstance(target, ast.Name) and not self.stored_elsewhere(target.id):
            stmt.value = hook("grown", [name(target.id, target), stmt.value], stmt.value)
        else:
            stmt.value = hook("pairs", [stmt.value], stmt.value)
        stmt.target = self.visit(target)
        return [stmt]

    def annotated(self, stmt: ast.AnnAssign, c: Context) -> list[ast.stmt]:
        if stmt.value is None:
            return [at(ast.Pass(), stmt)]
        return [at(ast.Assign([self.visit(stmt.target)], self.visit(stmt.value)), stmt)]

    def compound(self, stmt: Any, c: Context) -> list[ast.stmt]:
        """with, try and match stay; their blocks are rewritten in place. Jumps out of them: `guarded`."""
        handles = type(stmt) in (ast.Try, ast.TryStar)
        inner = c._replace(tail=False, after=None if handles else self.inner.facts[stmt].live)
        for field in stmt._fields:
            value = getattr(stmt, field)
            if isinstance(value, ast.expr):
                setattr(stmt, field, self.visit(value))
            elif isinstance(value, list) and value:
                if isinstance(value[0], ast.stmt):
                    setattr(stmt, field, self.block(value, inner))
                else:
                    for part in value:
                        self.part(part, inner)
        if type(stmt) is ast.Match:
            stmt.subject = hook("key", [stmt.subject], stmt.subject)
        return [stmt]

    def part(self, part: Any, c: Context) -> None:
        if isinstance(part, ast.withitem):
            part.context_expr = hook("context", [self.visit(part.context_expr)], part.context_expr)
            if part.optional_vars is not None:
                part.optional_vars = self.visit(part.optional_vars)
            return
        if isinstance(part, ast.ExceptHandler):
            if part.name and self.stored_elsewhere(part.name):
                raise UnconvertibleError(f"line {part.lineno}: an exception bound to a global or outer variable")
            if part.type is not None:
                part.type = self.visit(part.type)
        elif part.guard is not None:
            part.guard = self.visit(part.guard)
        part.body = self.block(part.body, c)
        if isinstance(part, ast.ExceptHandler):
            part.body.insert(0, at(ast.Expr(hook("caught", [], part)), part))

    def simple(self, stmt: Any, c: Context) -> list[ast.stmt]:
        self.generic(stmt)
        return [stmt]

    def dropped(self, stmt: Any, c: Context) -> list[ast.stmt]:
        """global and nonlocal: stores go through the hooks or are declared where the functions begin."""
        return [at(ast.Pass(), stmt)]

    def opaque(self, stmt: Any, c: Context) -> list[ast.stmt]:
        """Class bodies stay; imports bind names."""
        names = (
            [stmt.name]
            if isinstance(stmt, ast.ClassDef)
            else [(a.asname or a.name).partition(".")[0] for a in stmt.names]
        )
        if any(self.stored_elsewhere(n) for n in names):
            raise UnconvertibleError(f"line {stmt.lineno}: a class or import bound to a global or outer variable")
        return [stmt]


def _function(id: str, arguments: ast.arguments, body: list[ast.stmt]) -> ast.FunctionDef:
    node = ast.FunctionDef(id, arguments, body, [], None, None)
    node.type_params = []  # type: ignore[attr-defined]
    return node


_STATEMENTS: dict[type, Any] = {
    ast.FunctionDef: Statements.nested_function,
    ast.AsyncFunctionDef: Statements.nested_function,
    ast.ClassDef: Statements.opaque,
    ast.Import: Statements.opaque,
    ast.ImportFrom: Statements.opaque,
    ast.If: Statements.if_,
    ast.For: Statements.loop,
    ast.AsyncFor: Statements.loop,
    ast.While: Statements.loop,
    ast.Return: Statements.return_,
    ast.Break: Statements.jump,
    ast.Continue: Statements.jump,
    ast.Raise: Statements.raise_,
    ast.Assert: Statements.assert_,
    Yield: Statements.yield_,
    ast.Assign: Statements.assign,
    ast.AnnAssign: Statements.annotated,
    ast.AugAssign: Statements.augmented,
    ast.With: Statements.compound,
    ast.AsyncWith: Statements.compound,
    ast.Try: Statements.compound,
    ast.TryStar: Statements.compound,
    ast.Match: Statements.compound,
    ast.Global: Statements.dropped,
    ast.Nonlocal: Statements.dropped,
}
