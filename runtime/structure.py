"""Structures: nestings of containers, taken apart into leaves and put together again.

Tuples, lists, dicts, OrderedDicts, namedtuples, dataclasses, None and classes registered with `register_container`
nest; everything else is a leaf. Dicts are taken in their own key order and given back in it.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

from stager.ir.dtypes import DType
from stager.ir.types import Type


class Structure:
    """The shape of a nesting: hashable, comparable, printable. `kind` is "leaf", "none", "tuple", "list", "dict",
    "namedtuple", "dataclass" or "registered"; `cls` the exact class; `keys` the dict keys, field names or aux data."""

    __slots__ = ("_hash", "children", "cls", "keys", "kind", "leaves")

    def __init__(
        self, kind: str, cls: type | None = None, keys: Hashable = None, children: tuple[Structure, ...] = ()
    ) -> None:
        self.kind = kind
        self.cls = cls
        self.keys = keys
        self.children = children
        self.leaves: int = 1 if kind == "leaf" else sum(c.leaves for c in children)
        try:
            self._hash = hash((kind, cls, keys, children))
        except TypeError:
            name = cls.__name__ if cls else kind
            raise TypeError(f"the aux data of a {name} must be hashable, not {keys!r}") from None

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return (
            isinstance(other, Structure)
            and self._hash == other._hash
            and (self.kind, self.cls, self.keys, self.children) == (other.kind, other.cls, other.keys, other.children)
            and (self.kind != "dict" or self._key_types() == other._key_types())
        )

    def _key_types(self) -> list[type]:
        """Of a dict: the keys 1, 1.0 and True are equal, and yet a function can tell them apart."""
        keys: Any = self.keys
        return [type(k) for k in keys]

    def __repr__(self) -> str:
        inner = [repr(c) for c in self.children]
        match self.kind:
            case "leaf":
                return "*"
            case "none":
                return "None"
            case "tuple":
                return "(" + ", ".join(inner) + ("," if len(inner) == 1 else "") + ")"
            case "list":
                return "[" + ", ".join(inner) + "]"
            case "dict":
                return "{" + ", ".join(f"{k!r}: {c}" for k, c in zip(self.keys, inner, strict=True)) + "}"  # type: ignore[call-overload]
        name = self.cls.__name__ if self.cls else self.kind
        if self.kind in ("namedtuple", "dataclass"):
            return f"{name}(" + ", ".join(f"{k}={c}" for k, c in zip(self.keys, inner, strict=True)) + ")"  # type: ignore[call-overload]
        return f"{name}<{self.keys}>(" + ", ".join(inner) + ")"


LEAF = Structure("leaf")
NONE = Structure("none")

Flatten = Callable[[Any], tuple[Sequence[Any], Hashable]]
Unflatten = Callable[[Hashable, Sequence[Any]], Any]
_REGISTERED: dict[type, tuple[Flatten, Unflatten]] = {}


def register_container(cls: type, flatten: Flatten, unflatten: Unflatten) -> None:
    """Make a class a container.

    flatten(object) -> (children, aux) with hashable aux; unflatten(aux, children) -> object. ValueError when the class
    is registered or a container already.
    """
    if cls in _REGISTERED or cls in (tuple, list, dict, OrderedDict, type(None)):
        raise ValueError(f"{cls.__name__} is a container already")
    _REGISTERED[cls] = (flatten, unflatten)


def one_level(x: Any) -> tuple[str, Any, Sequence[Any]] | None:
    """(kind, keys, children) of a container, or None for a leaf."""
    cls = type(x)
    if cls is tuple:
        return "tuple", None, x
    if cls is list:
        return "list", None, x
    if cls is dict or cls is OrderedDict:
        return "dict", tuple(x), list(x.values())
    if x is None:
        return "none", None, ()
    if cls in _REGISTERED:
        children, aux = _REGISTERED[cls][0](x)
        return "registered", aux, list(children)
    if isinstance(x, tuple) and hasattr(cls, "_fields"):
        return "namedtuple", tuple(cls._fields), x
    if dataclasses.is_dataclass(cls) and cls is not Type and cls is not DType:
        names = tuple([f.name for f in dataclasses.fields(cls)])
        return "dataclass", names, [getattr(x, n) for n in names]
    return None


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """(leaves from left to right, structure).

    >>> flatten({"w": 1, "b": (2, None)})
    ([1, 2], {'w': *, 'b': (*, None)})
    """
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(x: Any, leaves: list[Any]) -> Structure:
    level = one_level(x)
    if level is None:
        leaves.append(x)
        return LEAF
    kind, keys, children = level
    if kind == "none":
        return NONE
    return Structure(kind, type(x), keys, tuple([_flatten(c, leaves) for c in children]))


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The nesting with these leaves. ValueError when their number is wrong."""
    if len(leaves) != structure.leaves:
        raise ValueError(f"{structure.leaves} leaves were expected for {structure}, {len(leaves)} came")
    return _unflatten(structure, iter(leaves))


def _unflatten(s: Structure, leaves: Iterator[Any]) -> Any:
    match s.kind:
        case "leaf":
            return next(leaves)
        case "none":
            return None
    children = [_unflatten(c, leaves) for c in s.children]
    match s.kind:
        case "tuple":
            return tuple(children)
        case "list":
            return children
        case "dict":
            return s.cls(zip(s.keys, children, strict=True))  # type: ignore[misc, call-overload]
        case "namedtuple":
            return s.cls(*children)  # type: ignore[misc]
        case "dataclass":
            return _rebuild_dataclass(s.cls, s.keys, children)
    return _REGISTERED[s.cls][1](s.keys, children)  # type: ignore[index]


def _rebuild_dataclass(cls: Any, names: Any, values: Sequence[Any]) -> Any:
    """The instance with these fields, without running `__init__`: init=False and frozen classes work too."""
    out = object.__new__(cls)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(out, name, value)
    return out


def rebuild_one(s: Structure, *children: Any) -> Any:
    """One container of this structure around its children as they are."""
    return _unflatten(Structure(s.kind, s.cls, s.keys, (LEAF,) * len(children)), iter(children))


def map_leaves(fn: Callable[..., Any], tree: Any, *rest: Any) -> Any:
    """`fn` on the corresponding leaves of trees of one structure."""
    leaves, structure = flatten(tree)
    others = []
    for r in rest:
        more, other = flatten(r)
        if other != structure:
            raise ValueError(f"structures differ: {structure} and {other}")
        others.append(more)
    return unflatten(structure, [fn(*group) for group in zip(leaves, *others, strict=True)])


def broadcast_prefix(
    prefix: Any, tree_structure: Structure, *, name: str, is_leaf: Callable[[Any], bool] = lambda x: False
) -> list[Any]:
    """One item of `prefix` per leaf of the structure: an item at a container stands for all its leaves.

    None is an item too (it means "not mapped" in in_dims). ValueError, naming `name`, when the prefix does not fit.
    """
    out: list[Any] = []

    def walk(p: Any, s: Structure) -> None:
        level = None if p is None or is_leaf(p) else one_level(p)
        if level is None or s.kind == "leaf":
            if level is not None:
                raise ValueError(f"{name} has a {type(p).__name__} where the value is a single leaf: {p!r}")
            out.extend([p] * s.leaves)
            return
        kind, keys, children = level
        same_kind = kind == s.kind or {kind, s.kind} <= {"tuple", "list"}
        named: Any = s.keys
        if not same_kind or len(children) != len(s.children) or (kind == "dict" and set(keys) != set(named)):
            raise ValueError(f"{name} {prefix!r} does not fit the structure {tree_structure}")
        if kind == "dict":
            by_key = dict(zip(keys, children, strict=True))
            children = [by_key[k] for k in named]
        for c, cs in zip(children, s.children, strict=True):
            walk(c, cs)

    walk(prefix, tree_structure)
    return out
