"""`convert`: a user's Python function with its calls, captured reads and control flow handed to stager.

A *template* is the rewritten code of one code object; it is made once and lives as long as the code object. The
converted function is built on the original's own globals, closure cells and defaults, so that both see the same
variables, live and writable. The template is compiled inside a factory whose parameters are the free variables, and
`FunctionType` puts the function's cells in their places; the free variable `@` holds the hooks (`hooks.py`).

Invariant: a function whose source cannot be read, or that uses what the rewriter refuses, is returned as it is; the
reason is kept (`why_not`). What is converted already (nested functions of converted code) is returned as it is.
"""

from __future__ import annotations

import ast
import weakref
from collections.abc import Callable
from types import CellType, CodeType, FunctionType
from typing import Any, NamedTuple

from stager.capture.flow import Statements
from stager.capture.hooks import Hooks
from stager.capture.plainer import plainer
from stager.capture.rewrite import HOOKS, ITEM, UnconvertibleError
from stager.capture.scopes import Scope
from stager.capture.source import locate
from stager.capture.yields import EACH, UNTIL, inside_out

OPT_OUT = "__stager_convert__"


class Template(NamedTuple):
    """The rewritten code of a code object."""

    code: CodeType
    stable: tuple[str, ...]  # globals it loads without a hook: modules, functions, classes
    defaults: tuple[str, ...]  # parameters whose default is read at each call


class Refusal(NamedTuple):
    """Why a code object stays as it is."""

    reason: str


class _ByIdentity:
    """A dict on identity whose entries die with their keys (code objects compare by value)."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def get(self, key: Any) -> Any:
        entry = self.entries.get(id(key))
        return None if entry is None else entry[1]

    def set(self, key: Any, value: Any) -> None:
        entries, i = self.entries, id(key)
        entries[i] = (weakref.ref(key, lambda _: entries.pop(i, None)), value)

    def drop(self, key: Any) -> None:
        self.entries.pop(id(key), None)


FORMS = ("", EACH, UNTIL)  # as it is written, and of generator functions those that take a consumer (`yields.py`)
_TEMPLATES = {form: _ByIdentity() for form in FORMS}  # code -> Template or Refusal
_FUNCTIONS = {form: _ByIdentity() for form in FORMS}  # function -> converted function
_HOOKS = _ByIdentity()  # converted function -> its hooks
_CONVERTED_CODE = _ByIdentity()  # code objects of converted functions and of the functions nested in them -> True


def convert(fn: Callable[..., Any], form: str = "") -> Callable[..., Any]:
    """The converted counterpart of a Python function; `fn` itself when it cannot or need not be converted.

    form: of a generator function, the one that gives its values to a consumer (`yields.py`).

    Methods, partials and callable objects are taken apart by `hooks.resolve`.
    """
    if type(fn) is not FunctionType:
        return fn
    made: FunctionType | None = _FUNCTIONS[form].get(fn)
    if made is None or made.__code__ is not _template_code(fn.__code__, form):
        made = _build(fn, form)
        if made is None:
            return fn
        _FUNCTIONS[form].set(fn, made)
    elif made.__defaults__ is not fn.__defaults__ or made.__kwdefaults__ is not fn.__kwdefaults__:
        made.__defaults__, made.__kwdefaults__ = fn.__defaults__, fn.__kwdefaults__
    return made


def hooks_of(converted: FunctionType) -> Hooks | None:
    """The hooks object of a converted function, or None for any other function."""
    hooks: Hooks | None = _HOOKS.get(converted)
    return hooks


def why_not(fn: Callable[..., Any], form: str = "") -> str | None:
    """The reason for which `fn` is traced as it is, or None when it is converted."""
    code = getattr(fn, "__code__", None)
    if code is None:
        return "it is not a Python function"
    template = _template(code, fn, form)
    return template.reason if isinstance(template, Refusal) else None


def refusal_of(code: CodeType) -> str | None:
    """Why a code object that has been met is not converted; None when it is, or has not been met."""
    template = _TEMPLATES[""].get(code)
    return template.reason if isinstance(template, Refusal) else None


def is_converted(fn: Any) -> bool:
    """Whether a function's code came out of the converter."""
    return _CONVERTED_CODE.get(getattr(fn, "__code__", None)) is not None


def restale(fn: Callable[..., Any]) -> None:
    """Forget the template of `fn`: a global that was a module, function or class is something else now."""
    for form in FORMS:
        _TEMPLATES[form].drop(fn.__code__)
        _FUNCTIONS[form].drop(fn)


def _template_code(code: CodeType, form: str) -> CodeType | None:
    template = _TEMPLATES[form].get(code)
    return template.code if isinstance(template, Template) else None


def _template(code: CodeType, fn: Any, form: str) -> Template | Refusal:
    template: Template | Refusal | None = _TEMPLATES[form].get(code)
    if template is None:
        try:
            template = _rewrite(code, fn, form)
            _register(template.code)
        except UnconvertibleError as e:
            template = Refusal(str(e))
        except (SyntaxError, RecursionError) as e:
            template = Refusal(f"the rewritten source does not compile: {e}")
        _TEMPLATES[form].set(code, template)
    return template


def _build(fn: FunctionType, form: str) -> FunctionType | None:
    if _CONVERTED_CODE.get(fn.__code__) is not None or fn.__dict__.get(OPT_OUT) is False:
        return None
    template = _template(fn.__code__, fn, form)
    if isinstance(template, Refusal):
        return None
    cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))
    hooks = Hooks(weakref.ref(fn), fn.__globals__, cells, template.stable)
    closure = tuple([CellType(hooks) if n == HOOKS else cells[n] for n in template.code.co_freevars])
    made = FunctionType(template.code, fn.__globals__, fn.__name__, fn.__defaults__, closure)
    made.__kwdefaults__ = fn.__kwdefaults__
    made.__qualname__ = fn.__qualname__
    made.__module__ = fn.__module__
    made.__doc__ = fn.__doc__
    _HOOKS.set(made, hooks)
    return made


def _register(code: CodeType) -> None:
    _CONVERTED_CODE.set(code, True)
    for const in code.co_consts:
        if isinstance(const, CodeType):
            _register(const)


def _rewrite(code: CodeType, fn: FunctionType, form: str) -> Template:
    source = locate(code)
    if source is None:
        raise UnconvertibleError(f"its source cannot be read ({code.co_filename}:{code.co_firstlineno})")
    node: Any = source.node
    _mangle(node, fn.__qualname__, code)
    plainer(node)
    if form:
        inside_out(node, form)
    computed = _computed_defaults(node)
    scope = Scope(node)
    rewriter = Statements(scope, fn.__globals__, code.co_freevars)
    body = rewriter.root_body()
    defaults = _read_defaults(body, node, computed)
    if not isinstance(node, ast.Lambda):
        node.decorator_list = []
    compiled = _compile(node, body, code, source.filename)
    return Template(compiled, tuple(sorted(rewriter.stable)), defaults)


def _computed_defaults(node: Any) -> set[str]:
    a = node.args
    positional = [*a.posonlyargs, *a.args]
    pairs = [
        *zip(reversed(positional), reversed(a.defaults), strict=False),
        *zip(a.kwonlyargs, a.kw_defaults, strict=True),
    ]
    return {p.arg for p, d in pairs if d is not None and not isinstance(d, ast.Constant)}


def _read_defaults(body: list[ast.stmt], node: Any, names: set[str]) -> tuple[str, ...]:
    """`p = @.default(p, "p")` before the body, for parameters whose default may be an array or hold one."""
    from stager.capture.rewrite import at, constant, hook, name

    for p in sorted(names):
        read = hook("default", [name(p, node), constant(p, node)], node)
        body.insert(0, at(ast.Assign([name(p, node, ast.Store())], read), node))
    return tuple(sorted(names))


def _compile(node: Any, body: list[ast.stmt], code: CodeType, filename: str) -> CodeType:
    from stager.capture.rewrite import at

    a = node.args
    for p in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg):
        if p is not None:
            p.annotation = None
    a.defaults, a.kw_defaults = [], [None] * len(a.kwonlyargs)
    kind = ast.AsyncFunctionDef if isinstance(node, ast.AsyncFunctionDef) else ast.FunctionDef
    function = at(kind("@function", a, body, [], None, None), node)
    function.type_params = []
    free = [*code.co_freevars, HOOKS] if HOOKS not in code.co_freevars else list(code.co_freevars)
    parameters = ast.arguments([], [at(ast.arg(n), node) for n in free], None, [], [], None, [])
    factory = at(ast.FunctionDef("@factory", parameters, [function], [], None, None), node)
    factory.type_params = []
    compiled = compile(ast.Module([factory], []), filename, "exec", dont_inherit=True)
    outer = next(c for c in compiled.co_consts if isinstance(c, CodeType))
    made = next(c for c in outer.co_consts if isinstance(c, CodeType))
    unknown = set(made.co_freevars) - set(free)
    if unknown:
        raise UnconvertibleError(f"free variables that the function does not have: {', '.join(sorted(unknown))}")
    return _renamed(made, code.co_name, code.co_qualname)


def _renamed(code: CodeType, function: str, qualname: str) -> CodeType:
    """Our closures take the name of the function they stand in: tracebacks show the user's names."""
    consts = []
    for const in code.co_consts:
        if isinstance(const, CodeType):
            own = const.co_name
            if own.startswith("@") or const.co_varnames[:1] == (ITEM,):
                const = _renamed(const, function, qualname)
            else:
                const = _renamed(const, own, f"{qualname}.<locals>.{own}")
        consts.append(const)
    return code.replace(co_consts=tuple(consts), co_name=function, co_qualname=qualname)


def _mangle(node: ast.AST, qualname: str, code: CodeType) -> None:
    """Private names (`self.__x`) as the class body around the function spelled them for the compiler."""
    parts = qualname.split(".")
    if len(parts) < 2 or parts[-2] == "<locals>":
        return
    cls = parts[-2].lstrip("_")
    if not cls or not _mentions(code, f"_{cls}__"):
        return

    def mangled(id: str) -> str:
        return f"_{cls}{id}" if id.startswith("__") and not id.endswith("__") and "." not in id else id

    for n in ast.walk(node):
        if isinstance(n, ast.Name):
            n.id = mangled(n.id)
        elif isinstance(n, ast.Attribute):
            n.attr = mangled(n.attr)
        elif isinstance(n, ast.arg | ast.keyword):
            n.arg = None if n.arg is None else mangled(n.arg)
        elif isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and n is not node:
            n.name = mangled(n.name)
        elif isinstance(n, ast.Global | ast.Nonlocal):
            n.names = [mangled(x) for x in n.names]


def _mentions(code: CodeType, prefix: str) -> bool:
    names = (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars)
    return any(n.startswith(prefix) for n in names) or any(
        isinstance(c, CodeType) and _mentions(c, prefix) for c in code.co_consts
    )
