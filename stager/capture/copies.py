"""Captured dataclasses and other containers of arrays where they are taken apart as wholes.

stager's own functions flatten what they are given, and so does a trace with its result; `dataclasses.replace`,
`asdict`, `astuple` and `copy` read every field. Captured objects are given to them as copies whose arrays are traced
(`opened`), with a guard for everything else that they hold.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

from stager.capture import objects
from stager.capture.session import _CURRENT, CONTAINERS, Session
from stager.capture.table import SUBSTITUTES
from stager.capture.unseen import attributes, watch


def opened(s: Session, x: Any, met: tuple[int, ...] = ()) -> Any:
    """A value with the captured containers, dataclasses and registered classes in it as copies that hold tracers."""
    from stager.runtime.structure import _REGISTERED, _rebuild_dataclass

    if not s.origins or objects.plain(x) or id(x) in met:
        return x
    inside = (*met, id(x))
    cls: Any = type(x)
    if isinstance(x, CONTAINERS):
        seen = s.mirror(x)
        if isinstance(x, dict):
            values: Any = {k: opened(s, v, inside) for k, v in seen.items()}
            if all(values[k] is seen[k] for k in seen):
                return seen
            return values if cls is dict else _with_items(seen, values)
        values = [opened(s, v, inside) for v in seen]
        if all(v is w for v, w in zip(values, seen, strict=True)):
            return seen
        return values if cls is list else cls(*values) if hasattr(cls, "_fields") else cls(values)
    path = s.path_of(x)
    if cls in _REGISTERED:
        if path is None:
            return x
        from stager.capture.resolve import convert_user

        flatten, unflatten = _REGISTERED[cls]
        children, aux = convert_user(flatten, s)(x)
        return unflatten(aux, [opened(s, c, inside) for c in children])
    if dataclasses.is_dataclass(cls):
        names = [f.name for f in dataclasses.fields(cls)]
        held = [getattr(x, n) for n in names]
        fields = [opened(s, field(s, x, n), inside) for n in names]
        if path is None and all(a is b for a, b in zip(held, fields, strict=True)):
            return x
        return _rebuild_dataclass(cls, names, fields)
    return x


def _with_items(like: Any, items: Any) -> Any:
    made = copy.copy(like)
    dict.update(made, items)
    return made


def field(s: Session, x: Any, name: str) -> Any:
    """The attribute of an object, as converted code reads it."""
    from stager.capture.stores import attribute

    return attribute(x, name)


def result(s: Session, x: Any) -> Any:
    """What a traced function returns: objects that are no containers are guarded by identity."""
    from stager.runtime.structure import flatten

    x = opened(s, x)
    if s.origins:
        for leaf in flatten(x)[0]:
            path = None if objects.plain(leaf) else s.path_of(leaf)
            if path is not None and path[-1][0] != "object":
                s.guard(path, "is", leaf)
    return x


def install() -> None:
    """Fill the table of substitutes."""
    for original, stand_in in (
        (dataclasses.replace, _replace), (dataclasses.asdict, _asdict), (dataclasses.astuple, _astuple),
        (copy.copy, _copied(copy.copy)), (copy.deepcopy, _copied(copy.deepcopy)),
    ):  # fmt: skip
        SUBSTITUTES[original] = stand_in


def _replace(obj: Any, /, **changes: Any) -> Any:
    s = _CURRENT.get()
    fields = getattr(type(obj), "__dataclass_fields__", {}).values()
    if s is None or not fields or any(not f.init for f in fields):
        return dataclasses.replace(obj if s is None else opened(s, obj), **changes)
    from stager.capture.resolve import resolve

    kept = {f.name: field(s, obj, f.name) for f in dataclasses.fields(obj) if f.name not in changes}
    return resolve(type(obj), s)(**kept, **changes)


def _asdict(obj: Any, *, dict_factory: Callable[[Any], Any] = dict) -> Any:
    s = _CURRENT.get()
    return dataclasses.asdict(obj if s is None else opened(s, obj), dict_factory=dict_factory)


def _astuple(obj: Any, *, tuple_factory: Callable[[Any], Any] = tuple) -> Any:
    s = _CURRENT.get()
    return dataclasses.astuple(obj if s is None else opened(s, obj), tuple_factory=tuple_factory)


def dataclass_maker(cls: Any, init: Any, s: Session) -> Callable[..., Any] | None:
    """A call of a dataclass whose `__post_init__` is the user's: the generated `__init__` with that one converted."""
    from stager.capture.resolve import convert_user

    post = objects.special(cls, "__post_init__")
    if post is None:
        return None
    signature = inspect.signature(init)
    fields = cls.__dataclass_fields__.values()
    put: Any = object.__setattr__ if cls.__dataclass_params__.frozen else setattr

    def make(*args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        bound = signature.bind(made, *args, **kwargs)
        bound.apply_defaults()
        extra = []
        for f in fields:
            if f._field_type is dataclasses._FIELD_CLASSVAR:  # type: ignore[attr-defined]
                continue
            given = bound.arguments.get(f.name, _LEFT_OUT) if f.init else _LEFT_OUT
            if type(given) is type(dataclasses._HAS_DEFAULT_FACTORY):  # type: ignore[attr-defined]
                given = _LEFT_OUT
            if given is _LEFT_OUT and f.default_factory is not dataclasses.MISSING:
                given = f.default_factory()
            elif given is _LEFT_OUT:
                given = f.default
            if f._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]
                extra.append(given)
            elif given is not dataclasses.MISSING:
                put(made, f.name, given)
        convert_user(post, s)(made, *extra)
        return made

    return make


_LEFT_OUT: Any = object()


def _copied(original: Callable[..., Any]) -> Callable[..., Any]:
    """`copy.copy` and `copy.deepcopy`: of a captured object the arrays in the copy are traced."""

    def copied(x: Any, *memo: Any) -> Any:
        s = _CURRENT.get()
        if s is None or objects.plain(x):
            return original(x, *memo)
        if isinstance(x, CONTAINERS):
            return original(opened(s, x), *memo)
        if s.path_of(x) is None or isinstance(x, type | FunctionType | ModuleType):
            return original(x, *memo)
        made = original(x, *memo)
        arrays = [n for n, v in attributes(x) if isinstance(v, np.ndarray)]
        watch(s, *[field(s, x, n) for n, v in attributes(x) if not isinstance(v, np.ndarray)])
        cls: Any = type(x)
        if cls.__reduce_ex__ is not object.__reduce_ex__ or hasattr(cls, f"__{original.__name__}__"):
            watch(s, x)
            return made
        s.guard((*s.origins[id(x)][1], ("attr", "__dict__")), "keys", tuple(getattr(x, "__dict__", ())))
        for name in arrays:
            value = field(s, x, name)
            object.__setattr__(made, name, value if original is copy.copy else copy.deepcopy(value))
        return made

    return copied
