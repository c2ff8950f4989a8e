"""Specs: what the arguments of a built function are, as text or as types, and the C names of their leaves."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from stager.aot.errors import BuildError
from stager.ir.dims import symbol, symbols_of
from stager.ir.types import Type, parse_type
from stager.leaves import Known
from stager.runtime.structure import Structure, flatten, map_leaves

NUMBERS = {"float": 0.0, "int": 0}  # leaves that are Python numbers

_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const const_cast constexpr
continue decltype default delete do double dynamic_cast else enum explicit export extern false float for friend goto
if inline int long main mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public
register reinterpret_cast restrict return short signed sizeof static static_assert static_cast struct switch template
this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq call
"""
RESERVED = frozenset(_WORDS.split())
"""Words that C, C++ or the parameters of every built function have taken."""


def parse_spec(text: str) -> Any:
    """A type, or a nesting of types: `f64[n,784]`, `{'w': f64[3], 'b': (f64[], i32[2])}`. ValueError when malformed.

    `float` and `int` are Python numbers (weak, as NumPy promotes them), quoted text, True, False, None and numbers
    themselves: the function is built for them.

    >>> parse_spec("{'w': f64[n,3], 'b': [f64[], None]}")
    {'w': f64[n,3], 'b': [f64[], None]}
    """

    def walk(e: ast.expr) -> Any:
        match e:
            case ast.Dict(keys=keys, values=values):
                return {ast.literal_eval(k): walk(v) for k, v in zip(keys, values, strict=True) if k is not None}
            case ast.Tuple(elts=items):
                return tuple([walk(i) for i in items])
            case ast.List(elts=items):
                return [walk(i) for i in items]
            case ast.Subscript():
                return parse_type(ast.unparse(e).replace("()", "").replace("[(", "[").replace(")]", "]"))
            case ast.Name(id=name) if name in NUMBERS:
                return NUMBERS[name]
            case ast.Constant(value=None | bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as number):
                return Known(number)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return Known(-number)
        raise ValueError(f"not a type or a nesting of types: {ast.unparse(e)!r}")

    try:
        return walk(ast.parse(text.replace("[]", "[()]"), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not a type or a nesting of types: {text!r}") from None


def read_spec(spec: Any) -> Any:
    """A spec as `build` takes it: text, or a container of types and texts. A text without brackets is a type too."""
    if isinstance(spec, str):
        return parse_spec(spec)
    return map_leaves(lambda x: parse_type(x) if isinstance(x, str) and "[" in x else x, spec)


def map_types(change: Callable[[Type], Any], spec: Any) -> Any:
    """A spec with every type in it changed."""
    return map_leaves(lambda x: change(x) if isinstance(x, Type) else x, spec)


def batched(t: Type, axis: int, size: str) -> Type:
    """The type with one more axis of `size`."""
    at = axis if axis >= 0 else axis + len(t.shape) + 1
    return Type(t.dtype, (*t.shape[:at], symbol(size), *t.shape[at:]))


def fresh_symbol(wanted: str, specs: Iterable[Any]) -> str:
    """The name of a size that no type in the specs has."""
    taken: set[str] = set()
    for spec in specs:
        for x in flatten(spec)[0]:
            if isinstance(x, Type):
                taken |= symbols_of(x.shape)
    while wanted in taken:
        wanted += "_"
    return wanted


def leaf_names(prefix: str, s: Structure) -> list[str]:
    """Names for the leaves of an argument: `params_w`, `layers_0`."""
    if s.kind == "leaf":
        return [prefix]
    keys: Any = s.keys
    if keys is None or s.kind == "registered":
        keys = range(len(s.children))
    out: list[str] = []
    for k, child in zip(keys, s.children, strict=True):
        out.extend(leaf_names(f"{prefix}_{k}" if prefix else str(k), child))
    return out


class CNames:
    """C names that differ from each other and from C's own words."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.taken = set(taken) | RESERVED

    def __call__(self, text: str) -> str:
        """A name as much like `text` as C allows (`model.layers[0].w` is `model_layers_0_w`)."""
        ascii = "".join(ch if ch.isascii() and (ch.isalnum() or ch == "_") else " " for ch in text)
        name = "_".join(ascii.split()) or "x"
        name = f"x{name}" if name[0].isdigit() else name
        while name in self.taken or any(f"{name}{suffix}" in self.taken for suffix in ("_strides",)):
            name += "_"
        self.taken |= {name, f"{name}_strides", f"{name}_capacity", f"{name}_shape"}
        return name


def checked_name(name: str) -> str:
    """A name for a function in C. BuildError when it cannot be one."""
    if not (name.isascii() and name.isidentifier()) or name in RESERVED or name.startswith(("_", "stager_")):
        raise BuildError(f"{name!r} is no name for a C function")
    return name
