"""Rewrites the expressions of a user's function: calls, loads and subscripts go through the hooks object `@`.

`f(a)` becomes `@.call(f)(a)`, `x.m(a)` becomes `@.method(x, "m")(a)`, `x.a` becomes `@.attr(x, "a")`, `x[k]` becomes
`@.item(x)[k]`, a global or closure variable `w` becomes `@.load_global(w, "w")` or `@.load_cell(w, "w")`. `@` is a free
variable that user code cannot spell. `a + b` and `-a` become `@.binary("add", a, b)` and `@.unary("neg", a)`
(`objects.py`); `a and b`, `not a`, `a if t else b` and `a < b < c` become calls on the hooks, which decide when they
see the values (`operators.py`). Statements are `flow.py`'s.

Invariant: on plain values the rewritten code does exactly what the source does, in the same order, with the line and
column numbers of the source. Names are not renamed; globals and cells stay the function's own.
"""

from __future__ import annotations

import ast
import builtins
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np

from stager.capture.scopes import COMPREHENSIONS, DYNAMIC, Scope, bound_by_comprehension
from stager.capture.users import is_user_module

HOOKS = "@"
ITEM = "@it"  # the element that a loop is at
STABLE_TYPES = (ModuleType, FunctionType, BuiltinFunctionType, type, np.ufunc)
_LOAD = ast.Load()
_BUILTINS = vars(builtins)
_COMPARE = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Is: "is", ast.IsNot: "is not", ast.In: "in", ast.NotIn: "not in",
}  # fmt: skip
_BINARY = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.MatMult: "matmul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
    ast.LShift: "lshift", ast.RShift: "rshift",
}  # fmt: skip
_UNARY = {ast.USub: "neg", ast.UAdd: "pos", ast.Invert: "invert"}


class UnconvertibleError(Exception):
    """This function stays as the user wrote it; the text says why."""


def at(new: Any, old: Any) -> Any:
    """`new` with the position of `old`."""
    new.lineno, new.col_offset = old.lineno, old.col_offset
    new.end_lineno, new.end_col_offset = old.end_lineno, old.end_col_offset
    return new


def name(id: str, old: Any, ctx: ast.expr_context = _LOAD) -> Any:
    return at(ast.Name(id, ctx), old)


def hook(method: str, args: list[Any], old: Any) -> Any:
    """`@.method(*args)`."""
    return at(ast.Call(at(ast.Attribute(name(HOOKS, old), method, _LOAD), old), args, []), old)


def constant(value: Any, old: Any) -> Any:
    return at(ast.Constant(value), old)


def no_arguments() -> ast.arguments:
    return ast.arguments([], [], None, [], [], None, [])


def surely_concrete(e: ast.expr) -> bool:
    """A test that no traced value can stand in: identity, constants and what is made of them."""
    if isinstance(e, ast.Compare):
        return all(isinstance(op, ast.Is | ast.IsNot) for op in e.ops) and not hasattr(e, "optional")
    if isinstance(e, ast.BoolOp):
        return all(surely_concrete(v) for v in e.values)
    if isinstance(e, ast.UnaryOp):
        return isinstance(e.op, ast.Not) and surely_concrete(e.operand)
    return isinstance(e, ast.Constant)


def none_tested(e: Any) -> ast.expr | None:
    """The x of `x is None`, `x is not None`, `None is x` and `None is not x`; None for other expressions."""
    if not isinstance(e, ast.Compare) or len(e.ops) != 1 or not isinstance(e.ops[0], ast.Is | ast.IsNot):
        return None
    left, right = e.left, e.comparators[0]
    for x, other in ((left, right), (right, left)):
        if isinstance(other, ast.Constant) and other.value is None and not isinstance(x, ast.Constant):
            return x
    return None


def binds_or_suspends(e: ast.AST) -> bool:
    return any(isinstance(n, ast.NamedExpr | ast.Await | ast.Yield | ast.YieldFrom) for n in ast.walk(e))


def _is_part(v: Any) -> bool:
    """Whether a part of an f-string is literal, or has a literal format."""
    spec = None if type(v) is ast.Constant else v.format_spec
    return spec is None or all(type(x) is ast.Constant for x in spec.values)


def _spec_of(v: ast.FormattedValue) -> Any:
    spec: Any = v.format_spec
    return constant("" if spec is None else "".join(x.value for x in spec.values), v)


def _is_loop(e: Any) -> bool:
    """Whether a comprehension can become a loop: nothing in it binds names around it, or keeps those that it binds."""
    inside = [e.elt, *[part for g in e.generators for part in (g.target, *g.ifs)], *[g.iter for g in e.generators[1:]]]
    if any(g.is_async for g in e.generators) or any(map(_keeps_names, inside)):
        return False
    return not any(map(binds_or_suspends, inside))


_AT_ONCE = frozenset({"sum", "max", "min", "list", "tuple", "any", "all", "sorted", "set", "dict"})


def _keeps_names(e: ast.AST) -> bool:
    """Whether an expression makes what may read its names later, when they hold something else."""
    read = [
        n.args[0] for n in ast.walk(e)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id in _AT_ONCE and n.args
    ]  # fmt: skip
    return any(type(n) is ast.Lambda or (type(n) is ast.GeneratorExp and n not in read) for n in ast.walk(e))


def _of_item(target: Any, value: Any) -> Any:
    """`lambda @it: value`, with the names of the target set to its item."""
    item = at(ast.Tuple([name(ITEM, target)], _LOAD), target)
    unpacked = at(ast.ListComp(value, [ast.comprehension(target, item, [], 0)]), value)
    arguments = no_arguments()
    arguments.args = [at(ast.arg(ITEM), target)]
    return at(ast.Lambda(arguments, at(ast.Subscript(unpacked, constant(0, value), _LOAD), value)), value)


class Expressions:
    """The rewriter of one root function: expressions. `Statements` in flow.py extends it."""

    def __init__(self, scope: Scope, globals: dict[str, Any], freevars: tuple[str, ...]) -> None:
        self.globals = globals
        self.freevars = frozenset(freevars)
        self.scopes: list[Scope | set[str]] = [scope]
        self.root = scope
        self.stable: dict[
            str, Any
        ] = {}  # globals taken as they are: functions, modules and classes, guarded by identity
        self.flow = True  # whether control flow of the current function is converted
        self.first_parameter: str | None = None

    # -- names ---------------------------------------------------------------------------------------------------

    def kind_of(self, id: str) -> str:
        """ "local", "cell", "global", or "global!" and "cell!" where the function declares the name."""
        for scope in reversed(self.scopes):
            if type(scope) is set:
                if id in scope:
                    return "local"
                continue
            assert isinstance(scope, Scope)
            if id in scope.bound:
                return "local"
            if id in scope.globals:
                return "global!"
            if id in scope.nonlocals and scope is self.root:
                return "cell!"
        return "cell" if id in self.freevars else "global"

    def stored_elsewhere(self, id: str) -> bool:
        """Whether a store to this name leaves the converted function: a declared global or an outer variable."""
        if all(not s.globals and not s.nonlocals for s in self.scopes if isinstance(s, Scope)):
            return False
        kind = self.kind_of(id)
        if kind == "global":
            return False
        return kind in ("global!", "cell!") or (kind == "cell" and self._declared_nonlocal(id))

    def _declared_nonlocal(self, id: str) -> bool:
        return any(isinstance(s, Scope) and id in s.nonlocals for s in self.scopes)

    def stable_value(self, id: str) -> Any:
        """The value of a global that is loaded as it is (module, function, class), or None."""
        value = self.stable.get(id)
        if value is None:
            value = self.globals.get(id)
            if isinstance(value, STABLE_TYPES):
                self.stable[id] = value
                return value
            return None
        return value

    def visit_name(self, e: ast.Name) -> Any:
        id = e.id
        if type(e.ctx) is not ast.Load:
            if self.stored_elsewhere(id):
                return self._outer_name(e)
            return e
        kind = self.kind_of(id)
        if kind == "local" or id == "__class__" or id == HOOKS:
            return e
        if kind in ("global!", "cell!") or (kind == "cell" and self._declared_nonlocal(id)):
            return self._outer_name(e)
        if kind == "cell":
            return hook("load_cell", [e, constant(id, e)], e)
        if id not in self.globals and id in _BUILTINS:
            return e
        if self.stable_value(id) is not None:
            return e
        return hook("load_global", [e, constant(id, e)], e)

    def _outer_name(self, e: ast.Name) -> Any:
        """`@.globals.x`, `@.cells.x`: loads, stores and deletes that the session sees."""
        proxy = "globals" if self.kind_of(e.id) == "global!" else "cells"
        return at(ast.Attribute(at(ast.Attribute(name(HOOKS, e), proxy, _LOAD), e), e.id, e.ctx), e)

    def plain_module(self, e: ast.expr) -> ModuleType | None:
        """The module that `e` names when it is not the user's own: its attributes need no guard of their own."""
        if type(e) is ast.Name:
            if self.kind_of(e.id) != "global":
                return None
            value = self.stable_value(e.id)
        elif type(e) is ast.Attribute:
            base = self.plain_module(e.value)
            value = getattr(base, e.attr, None) if base is not None else None
        else:
            return None
        return value if type(value) is ModuleType and not is_user_module(value) else None

    # -- expressions ---------------------------------------------------------------------------------------------

    def visit(self, e: Any) -> Any:
        handler = _HANDLERS.get(type(e))
        return self.generic(e) if handler is None else handler(self, e)

    def visit_all(self, es: list[Any]) -> list[Any]:
        return [None if e is None else self.visit(e) for e in es]

    def generic(self, e: Any) -> Any:
        for field in e._fields:
            value = getattr(e, field)
            if isinstance(value, ast.expr):
                setattr(e, field, self.visit(value))
            elif isinstance(value, list):
                setattr(e, field, [self.visit(v) if isinstance(v, ast.expr) else v for v in value])
        return e

    def leave(self, e: Any) -> Any:
        return e

    def visit_attribute(self, e: ast.Attribute) -> Any:
        if type(e.ctx) is not ast.Load:
            e.value = hook("place", [self.visit(e.value)], e.value)
            return e
        if self.plain_module(e.value) is not None:
            return e
        return hook("attr", [self.visit(e.value), constant(e.attr, e)], e)

    def visit_subscript(self, e: ast.Subscript) -> Any:
        method = "item" if type(e.ctx) is ast.Load else "item_place"
        e.value = hook(method, [self.visit(e.value)], e.value)
        e.slice = self.key(e.slice)
        return e

    def key(self, e: Any) -> Any:
        """What stands between the brackets: a captured list may be an index."""
        if type(e) is ast.Tuple:
            e.elts = [self.key(x) for x in e.elts]
            return e
        seen = self.visit(e)
        return hook("key", [seen], e) if type(e) in (ast.Name, ast.Attribute, ast.Subscript, ast.Call) else seen

    def visit_call(self, e: ast.Call) -> Any:
        func = e.func
        if type(func) is ast.Name:
            if func.id == "super" and not e.args and not e.keywords and self.kind_of("super") == "global":
                if self.first_parameter is None:
                    raise UnconvertibleError("super() without arguments in a function without parameters")
                e.args = [name("__class__", e), name(self.first_parameter, e)]
                return e
            looks_at_object = func.id in ("vars", "dir") and e.args
            if func.id in DYNAMIC and not looks_at_object and self.kind_of(func.id) == "global":
                self.generic(e)  # looks at this very frame
                return e if e.args or func.id in ("eval", "exec") else hook("visible", [e], e)
            e.func = hook("call", [self.visit_name(func)], func)
        elif type(func) is ast.Attribute and self.plain_module(func.value) is None:
            e.func = hook("method", [self.visit(func.value), constant(func.attr, func)], func)
        else:
            e.func = hook("call", [self.visit(func)], func)
        prints = type(func) is ast.Name and func.id == "print" and self.kind_of("print") == "global"
        e.args = [
            at(ast.Starred(hook("spread", [self.visit(a.value)], a), _LOAD), a)
            if type(a) is ast.Starred
            else self._printed(a)
            if prints and type(a) is ast.JoinedStr
            else self.visit(a)
            for a in e.args
        ]
        for k in e.keywords:
            k.value = self.visit(k.value) if k.arg is not None else hook("pairs", [self.visit(k.value)], k.value)
        return e

    def _printed(self, a: ast.JoinedStr) -> Any:
        """An f-string that is printed, in parts: it can be put together when the code runs."""
        if not all(map(_is_part, a.values)):
            return self.visit(a)
        parts: list[Any] = []
        for v in a.values:
            if isinstance(v, ast.FormattedValue):
                shown = [self.visit(v.value), constant(v.conversion, v), _spec_of(v)]
                parts.append(at(ast.Tuple(shown, _LOAD), v))
            else:
                parts.append(v)
        return hook("text", parts, a)

    def visit_formatted(self, e: ast.FormattedValue) -> Any:
        self.generic(e)
        e.value = hook("shown", [e.value], e.value)
        return e

    def visit_starred(self, e: ast.Starred) -> Any:
        e.value = self.visit(e.value)
        if type(e.ctx) is ast.Load:
            e.value = hook("spread", [e.value], e.value)
        return e

    def visit_named(self, e: ast.NamedExpr) -> Any:
        if self.stored_elsewhere(e.target.id):
            raise UnconvertibleError(f"line {e.lineno}: := to a global or outer variable")
        e.value = self.visit(e.value)
        return e

    def visit_lambda(self, e: ast.Lambda) -> Any:
        a = e.args
        a.defaults = self.visit_all(a.defaults)
        a.kw_defaults = self.visit_all(a.kw_defaults)
        scope = self._scope_of(e)
        saved = self.flow, self.first_parameter
        self.flow = not scope.suspends and not scope.dynamic
        self.first_parameter = first_parameter(a)
        self.scopes.append(scope)
        e.body = self.visit(e.body)
        self.scopes.pop()
        self.flow, self.first_parameter = saved
        return e

    def _scope_of(self, node: ast.AST) -> Scope:
        for scope in reversed(self.scopes):
            if isinstance(scope, Scope) and node in scope.children:
                return scope.children[node]
        raise AssertionError("internal error in stager: a nested function without a scope")

    def visit_comprehension(self, e: Any) -> Any:
        if self.flow and isinstance(e, ast.ListComp | ast.GeneratorExp) and _is_loop(e):
            return self._loop(e, e.generators, "generated" if isinstance(e, ast.GeneratorExp) else "listed")
        if self.flow and isinstance(e, ast.DictComp):
            pairs = at(ast.ListComp(at(ast.Tuple([e.key, e.value], _LOAD), e), e.generators), e)
            if _is_loop(pairs):
                return self._loop(pairs, pairs.generators, "keyed")
        first = e.generators[0]
        first.iter = hook("iter", [self.visit(first.iter)], first.iter)  # evaluated outside the comprehension's scope
        self.scopes.append(bound_by_comprehension(e))
        for i, generator in enumerate(e.generators):
            generator.target = self.visit(generator.target)
            if i:
                generator.iter = hook("iter", [self.visit(generator.iter)], generator.iter)
            generator.ifs = self.visit_all(generator.ifs)
        for field in ("elt", "key", "value"):
            part = getattr(e, field, None)
            if part is not None:
                setattr(e, field, self.visit(part))
        self.scopes.pop()
        return e

    def _loop(self, e: Any, generators: list[ast.comprehension], method: str) -> Any:
        """`@.listed(iterable, element, test)`; the `for`s behind the first are generators of their own."""
        first, *others = generators
        args = [hook("iter", [self.visit(first.iter)], first.iter)]
        self.scopes.append(bound_by_comprehension(e))
        target = self.visit(first.target)
        element = self._loop(e, others, "generated") if others else self.visit(e.elt)
        args.append(_of_item(target, element))
        if first.ifs:
            tests = self.visit_all(first.ifs)
            test = tests[0] if len(tests) == 1 else hook("and_", [tests[0], *map(self.lazily, tests[1:])], tests[0])
            args.append(_of_item(target, test))
        elif others:
            args.append(constant(None, e))
        self.scopes.pop()
        return hook(method, [*args, constant(True, e)] if others else args, e)

    # -- expressions that decide ---------------------------------------------------------------------------------

    def lazily(self, e: Any) -> Any:
        return at(ast.Lambda(no_arguments(), e), e)

    def visit_boolop(self, e: ast.BoolOp) -> Any:
        plain = not self.flow or all(surely_concrete(v) for v in e.values[:-1])
        if plain or any(binds_or_suspends(v) for v in e.values[1:]):
            return self.generic(e)
        first, *others = self.visit_all(e.values)
        method = "and_" if type(e.op) is ast.And else "or_"
        return hook(method, [first, *[self.lazily(v) for v in others]], e)

    def visit_binary(self, e: ast.BinOp) -> Any:
        if all(isinstance(x, ast.Constant) for x in (e.left, e.right)):
            return e
        return hook("binary", [constant(_BINARY[type(e.op)], e), self.visit(e.left), self.visit(e.right)], e)

    def visit_unary(self, e: ast.UnaryOp) -> Any:
        if type(e.op) in _UNARY:
            if isinstance(e.operand, ast.Constant):
                return e
            return hook("unary", [constant(_UNARY[type(e.op)], e), self.visit(e.operand)], e)
        if not self.flow or surely_concrete(e.operand):
            return self.generic(e)
        return hook("not_", [self.visit(e.operand)], e)

    def visit_ifexp(self, e: ast.IfExp) -> Any:
        if not self.flow or surely_concrete(e.test) or binds_or_suspends(e.body) or binds_or_suspends(e.orelse):
            return self.generic(e)
        return hook(
            "ifexp", [self.visit(e.test), self.lazily(self.visit(e.body)), self.lazily(self.visit(e.orelse))], e
        )

    def visit_compare(self, e: ast.Compare) -> Any:
        if len(e.ops) == 1:
            op = type(e.ops[0])
            if op is not ast.In and op is not ast.NotIn:
                sides = [isinstance(x, ast.Constant) for x in (e.left, e.comparators[0])]
                tested = none_tested(e)
                if tested is not None:
                    return hook("compare", [constant(_COMPARE[op], e), self.visit(tested), constant(None, e)], e)
                if op in (ast.Is, ast.IsNot):
                    if any(sides):
                        return self.generic(e)
                    same = hook("identical", [self.visit(e.left), self.visit(e.comparators[0])], e)
                    return same if op is ast.Is else at(ast.UnaryOp(ast.Not(), same), e)
                if all(sides):
                    return self.generic(e)
                return hook("compare", [constant(_COMPARE[op], e), self.visit(e.left), self.visit(e.comparators[0])], e)
            test = hook("contains", [self.visit(e.left), self.visit(e.comparators[0])], e)
            if op is ast.In:
                return test
            return hook("not_", [test], e) if self.flow else at(ast.UnaryOp(ast.Not(), test), e)
        if not self.flow or surely_concrete(e) or any(binds_or_suspends(c) for c in e.comparators[1:]):
            return self.generic(e)
        ops = at(ast.Tuple([constant(_COMPARE[type(op)], e) for op in e.ops], _LOAD), e)
        left, second, *others = self.visit_all([e.left, *e.comparators])
        return hook("chain", [ops, left, second, *[self.lazily(v) for v in others]], e)


def first_parameter(a: ast.arguments) -> str | None:
    first = (*a.posonlyargs, *a.args)[:1]
    return first[0].arg if first else None


_HANDLERS: dict[type, Any] = {
    ast.Name: Expressions.visit_name,
    ast.Constant: Expressions.leave,
    ast.Attribute: Expressions.visit_attribute,
    ast.Subscript: Expressions.visit_subscript,
    ast.Call: Expressions.visit_call,
    ast.Starred: Expressions.visit_starred,
    ast.NamedExpr: Expressions.visit_named,
    ast.Lambda: Expressions.visit_lambda,
    ast.BoolOp: Expressions.visit_boolop,
    ast.BinOp: Expressions.visit_binary,
    ast.UnaryOp: Expressions.visit_unary,
    ast.IfExp: Expressions.visit_ifexp,
    ast.Compare: Expressions.visit_compare,
    ast.FormattedValue: Expressions.visit_formatted,
    **dict.fromkeys(COMPREHENSIONS, Expressions.visit_comprehension),
}
