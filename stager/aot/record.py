"""The metadata of a library as JSON: what `load` makes Python functions of.

Invariant: `decode_structure(encode_structure(s)) == s`. Classes of containers stand in it by module and name and are
imported when a function is loaded; TypeError says what has no place in a library.
"""

from __future__ import annotations

import importlib
from collections.abc import Hashable
from typing import Any

from stager.runtime.structure import LEAF, NONE, Structure

ATOMS = (str, bool, int, float, type(None))


def encode_structure(s: Structure) -> Any:
    """A structure as lists and strings."""
    if s.kind in ("leaf", "none"):
        return s.kind
    cls = None if s.kind in ("tuple", "list") else _class_name(s.cls)
    keys = _keys(s) if s.kind in ("dict", "registered") else None
    return [s.kind, cls, keys, [encode_structure(c) for c in s.children]]


def decode_structure(data: Any) -> Structure:
    """The structure that `encode_structure` wrote. ImportError or AttributeError when a class is not there."""
    if data == "leaf":
        return LEAF
    if data == "none":
        return NONE
    kind, name, keys, children = data
    cls: Any = {"tuple": tuple, "list": list}.get(kind) or _class_named(name)
    found: Hashable = None
    match kind:
        case "dict":
            found = tuple(keys)
        case "registered":
            found = _hashable(keys)
        case "namedtuple":
            found = tuple(cls._fields)
        case "dataclass":
            import dataclasses

            found = tuple([f.name for f in dataclasses.fields(cls)])
    return Structure(kind, cls, found, tuple([decode_structure(c) for c in children]))


def encode_result(r: Any, traced: Any, position: dict[Any, int]) -> dict[str, Any]:
    """One leaf of the results."""
    match r.kind:
        case "value":
            return {"output": r.index, "python": r.python}
        case "input":
            return {"argument": position[traced.leaves[r.index].input]}
        case "static":
            if not isinstance(r.value, ATOMS):
                raise TypeError(f"a result that is always {r.value!r}")
            return {"fixed": r.value}
    raise AssertionError(f"internal error in stager: a built function has a result of kind {r.kind}")


def _keys(s: Structure) -> Any:
    keys: Any = s.keys
    if s.kind == "dict" and not all(type(k) in (str, int, bool) for k in keys):
        raise TypeError(f"a dict with the keys {keys}")
    return _plain(keys)


def _plain(x: Any) -> Any:
    if isinstance(x, ATOMS):
        return x
    if isinstance(x, tuple):
        return [_plain(i) for i in x]
    raise TypeError(f"a container with the aux data {x!r}")


def _hashable(x: Any) -> Hashable:
    return tuple([_hashable(i) for i in x]) if isinstance(x, list) else x


def _class_name(cls: Any) -> str:
    if "<" in cls.__qualname__:
        raise TypeError(f"a container of the local class {cls.__qualname__}")
    return f"{cls.__module__}:{cls.__qualname__}"


def _class_named(text: str) -> Any:
    module, _, name = text.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found
