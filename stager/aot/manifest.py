"""A TOML file that lists the functions of a library.

name = "model"                # of the library
target = "host"               # as --target; and cpu, weights, threads, static, emit, blas as the options of their names
[[function]]
function = "model:predict"    # module:function, importable from the file's folder
name = "predict"              # in C; the function's own name when left out
specs = ["{'w': f64[784,10]}", "f64[n,784]"]
with = ["grad", "vmap"]       # transforms beside it
argnums = 0                   # which arguments they differentiate
in_dims = "(None, 0)"         # which axes vmap maps, in Python
strided = false               # whether arrays may come with strides
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stager.aot.build import Member
from stager.aot.errors import BuildError

OPTIONS = {
    "name": str, "target": str, "cpu": str, "weights": str, "threads": bool, "static": bool, "shared": bool,
    "emit": list, "blas": str,
}  # fmt: skip
FUNCTION = {
    "function": str, "name": str, "specs": list, "with": list, "argnums": (int, list), "in_dims": (int, str),
    "strided": bool,
}  # fmt: skip


def read_manifest(path: Path, resolve: Callable[[str], Any]) -> tuple[dict[str, Member], dict[str, Any]]:
    """(functions, options of `build`). `resolve` finds what `module:function` names. BuildError names what is wrong."""
    import tomllib

    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise BuildError(f"{path}: {e}") from None
    listed = content.pop("function", None)
    if not isinstance(listed, list) or not listed:
        raise BuildError(f"{path} lists no [[function]]")
    _check(content, OPTIONS, path, "the library")
    functions: dict[str, Member] = {}
    for k, item in enumerate(listed, 1):
        _check(item, FUNCTION, path, f"function {k}")
        if "function" not in item:
            raise BuildError(f"{path}: function {k} says no function = 'module:function'")
        name = item.get("name") or default_name(item["function"])
        if name in functions:
            raise BuildError(f"{path}: two functions are called {name!r}")
        argnums = item.get("argnums", 0)
        functions[name] = Member(
            resolve(item["function"]),
            item.get("specs", []),
            tuple(item.get("with", ())),
            tuple(argnums) if isinstance(argnums, list) else argnums,
            literal(item.get("in_dims", 0), "in_dims"),
            item.get("strided", False),
        )
    return functions, content


def default_name(target: str) -> str:
    """The C name of `module:function`."""
    return target.partition(":")[2].replace(".", "_")


def literal(value: Any, what: str) -> Any:
    """A Python literal written as text. BuildError when it is none."""
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise BuildError(f"{what} is a Python literal such as (0, None), not {value!r}") from None


def _check(given: dict[str, Any], known: dict[str, Any], path: Path, where: str) -> None:
    for key, value in given.items():
        if key not in known:
            raise BuildError(f"{path}: {where} has the unknown key {key!r}; known are {', '.join(known)}")
        if not isinstance(value, known[key]):
            raise BuildError(f"{path}: {key} of {where} cannot be {value!r}")
