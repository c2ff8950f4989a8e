"""Specs: the types of a built function's arguments as text, and the C names of their leaves."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from stager.ir.types import parse_type
from stager.runtime.structure import Structure


def parse_spec(text: str) -> Any:
    """A type, or a nesting of types: `f64[n,784]`, `{'w': f64[3], 'b': (f64[], i32[2])}`. ValueError when malformed.

    >>> parse_spec("{'w': f64[n,3], 'b': [f64[]]}")
    {'w': f64[n,3], 'b': [f64[]]}
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
            case ast.Constant(value=None):
                return None
        raise ValueError(f"not a type or a nesting of types: {ast.unparse(e)!r}")

    try:
        return walk(ast.parse(text.replace("[]", "[()]"), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not a type or a nesting of types: {text!r}") from None


def leaf_names(prefix: str, s: Structure) -> list[str]:
    """C names for the leaves of an argument: `params_w`, `layers_0`."""
    if s.kind == "leaf":
        return [prefix]
    keys = s.keys if s.keys is not None else range(len(s.children))
    out = []
    for k, child in zip(keys, s.children, strict=True):  # type: ignore[call-overload]
        part = "".join(ch if ch.isalnum() else "_" for ch in str(k))
        out.extend(leaf_names(f"{prefix}_{part}" if prefix else part, child))
    return out


def c_name(text: str, taken: Sequence[str]) -> str:
    """A C name for a captured array (`model.layers[0].w` is `model_layers_0_w`), different from those taken."""
    name = "_".join(filter(None, "".join(ch if ch.isalnum() else " " for ch in text).split()))
    name = name if name and not name[0].isdigit() else f"captured_{name}"
    while name in taken:
        name += "_"
    return name
