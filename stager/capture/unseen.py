"""What code that is not converted reads of captured objects: all that they hold becomes a guard.

A generated `__eq__`, `repr`, a method that comes from `collections`, a function of an installed package read attributes
and items where no hook stands. What they are given is walked through here (`watch`): numbers and texts are guarded by
value, arrays by content, classes by identity. Objects of classes that are not the user's have a state that nobody can
read: they are guarded by identity.

Not here: containers of arrays that such code is given, which are mirrors (`session.py`); dataclasses whose arrays stay
traced (`copies.py`).
"""

from __future__ import annotations

import collections
import functools
import sys
import types
from collections import deque
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from stager.capture import objects
from stager.capture.session import TRACERS, UNBOUND, Path, Session, cell_value, path_text, step_key
from stager.capture.users import is_own_file, is_user_file, is_user_module

_OPEN = (
    types.SimpleNamespace, collections.ChainMap, collections.UserDict, collections.UserList, collections.UserString,
)  # fmt: skip
BLIND = frozenset(map(id, (type, isinstance, issubclass, id, callable, super)))  # they look at classes and names only
OUTSIDE = frozenset(  # they neither compare nor show the items of what they are given
    map(id, (len, iter, next, reversed, list, tuple, dict, enumerate, zip, map, filter, any, all, sum, bool))
)
SHOWING = frozenset(map(id, (max, min, sorted, range, str, repr, format, hash)))  # substitutes of these look closely
COMPARING = frozenset(
    {"index", "count", "remove", "get", "pop", "setdefault", "add", "discard", "__contains__", "__eq__", "__ne__",
     "__lt__", "__le__", "__gt__", "__ge__"}
)  # fmt: skip  # methods of containers that compare or hash
_CONTAINERS = (list, tuple, dict, set, frozenset, deque)


def watch(s: Session, *given: Any) -> None:
    """Guard what the captured objects among the given values hold, however deep."""
    if not s.origins:
        return
    met: set[int] = set()
    work: list[tuple[Path | None, Any]] = [(None, x) for x in given]
    while work:
        path, x = work.pop()
        t: Any = type(x)
        if t in TRACERS or id(x) in met:
            continue
        if isinstance(x, np.ndarray | memoryview):
            path = path or s.path_of(x)
            if path is not None:
                _array(s, path, x)
            continue
        if objects.plain(x):
            continue
        met.add(id(x))
        path = path or s.path_of(x)
        if isinstance(x, _CONTAINERS):
            _items(s, path, x, work)
        elif isinstance(x, types.MappingProxyType):
            if path is not None:
                s.guard(path, "keys", tuple(x))
            work.extend([_below(s, path, x, ("item", k), v) for k, v in x.items()])
        elif t is MethodType:
            work.append((None, x.__self__))
        elif isinstance(x, type | FunctionType | types.ModuleType | types.BuiltinFunctionType | np.ufunc):
            continue
        elif isinstance(x, _OPEN) or is_user_class(t):
            _attributes(s, path, x, work)
        elif path is not None and path[-1][0] != "object":
            s.guard(path, "is", x)


@functools.lru_cache(maxsize=4096)
def is_user_class(cls: Any) -> bool:
    """Whether a class is the user's own. One that was made by `exec` is."""
    module = sys.modules.get(cls.__module__)
    return module is None or is_user_module(module)


def _below(s: Session, path: Path | None, owner: Any, step: tuple[Any, ...], value: Any) -> tuple[Path | None, Any]:
    if path is None:
        return None, value
    whole = (*path, step)
    stored = s.stores.get((id(owner), step_key(step)))
    if stored is not None:
        _refuse(path_text(whole))
    if not isinstance(value, np.ndarray):
        s.load(owner, step, whole, value)
    return whole, value


def _items(s: Session, path: Path | None, x: Any, work: list[tuple[Path | None, Any]]) -> None:
    if isinstance(x, set | frozenset):
        work.extend([(None, v) for v in x])
        return
    if path is not None and type(x) in (list, tuple) and len(x) > MANY and all(type(v) in _PLAIN for v in x):
        s.guard(path, "array", content_of(x))
        return
    if path is not None:
        s.look_at_shape(x)
    if isinstance(x, dict):
        work.extend([(None, k) for k in x])
        work.extend([_below(s, path, x, ("item", k), v) for k, v in x.items()])
    else:
        work.extend([_below(s, path, x, ("item", i), v) for i, v in enumerate(x)])


def _attributes(s: Session, path: Path | None, x: Any, work: list[tuple[Path | None, Any]]) -> None:
    cls: Any = type(x)
    if path is not None and hasattr(x, "__dict__"):
        s.guard((*path, ("attr", "__dict__")), "keys", tuple(vars(x)))
    for name in slots(cls):
        if not hasattr(x, name):
            s.lacks(x, name)
    work.extend([_below(s, path, x, ("attr", name), value) for name, value in attributes(x)])


def attributes(x: Any) -> list[tuple[str, Any]]:
    """The names and values that an object holds itself."""
    cls: Any = type(x)
    held = getattr(x, "__dict__", {})
    return [*held.items(), *[(n, getattr(x, n)) for n in slots(cls) if hasattr(x, n)]]


@functools.lru_cache(maxsize=4096)
def slots(cls: Any) -> tuple[str, ...]:
    """The names of a class's slots, as they are read."""
    found = []
    for base in cls.__mro__:
        names = base.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(found)


def guard_parts(s: Session, fn: FunctionType) -> None:
    """A function that is called: its defaults and its code, which can be assigned, are captured values."""
    whole: Path = (("object", fn),)
    s.guard((*whole, ("attr", "__code__")), "is", fn.__code__)
    if fn.__defaults__:
        s.guard((*whole, ("attr", "__defaults__")), "is", fn.__defaults__)
    if fn.__kwdefaults__:
        path = (*whole, ("attr", "__kwdefaults__"))
        s.guard(path, "keys", tuple(fn.__kwdefaults__))
        for name, value in fn.__kwdefaults__.items():
            if objects.plain(value) and not isinstance(value, np.ndarray):
                s.guard((*path, ("item", name)), "eq", value)


def guard_names(s: Session, fn: FunctionType) -> None:
    """A function that is called as it is written: all that its names mean."""
    work, met = [fn], set()
    while work:
        f = work.pop()
        if id(f) in met:
            continue
        met.add(id(f))
        guard_parts(s, f)
        found: list[tuple[Any, Path, Any]] = []
        codes = [f.__code__]
        for code in codes:
            codes.extend([c for c in code.co_consts if isinstance(c, types.CodeType)])
            names = [n for n in code.co_names if n in f.__globals__]
            found.extend([(f.__globals__, (("global", f.__globals__, n),), f.__globals__[n]) for n in names])
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            value = cell_value(cell)
            if value is not UNBOUND:
                found.append((cell, (("cell", cell, name),), value))
        for owner, path, value in found:
            if isinstance(value, np.ndarray):
                _array(s, path, value)
            else:
                s.load(owner, path[0], path, value)
                watch(s, value)
            if type(value) is FunctionType and is_user_file(value.__code__.co_filename):
                work.append(value)


def _array(s: Session, path: Path, x: Any) -> None:
    known = s.arrays.get(id(x))
    if known is not None and known[1].cell.written:
        _refuse(path_text(path))
    s.guard(path, "array", content_of(x))


MANY = 64  # a list of more numbers or texts is one guard instead of one per item
_PLAIN = frozenset({int, float, bool, str, complex, type(None)})


def content_of(x: Any) -> tuple[Any, ...]:
    """What two arrays or lists of one content have in common: they may be large, so it is a digest."""
    import hashlib
    import marshal

    if isinstance(x, list | tuple):
        if not all(type(v) in _PLAIN for v in x):
            return (type(x), len(x), id(x))
        return (type(x), len(x), hashlib.blake2b(marshal.dumps(list(x), 2)).digest())  # version 2 has no references
    x = np.asarray(x)
    if x.dtype.hasobject:
        return (x.dtype.str, x.shape, id(x))
    return (x.dtype.str, x.shape, hashlib.blake2b(x.tobytes()).digest())


def _refuse(where: str) -> None:
    from stager.errors import UnsupportedError, describe

    raise UnsupportedError(
        describe(
            f"code that is not traced reads {where}, which was set to a traced value before: it would see the old one",
            remedy="give it the value itself, or write the code out",
        )
    )


def watching(f: Callable[..., Any], s: Session, original: Any = None) -> Callable[..., Any]:
    """`f`, which is not converted, with what it is given watched. Functions of the user that it may call are converted.

    original: the builtin that `f` stands for.
    """
    if id(f) in BLIND:
        return f
    if original is None and is_ours(f):
        from stager.capture.copies import opened

        return lambda *args, **kwargs: f(*[opened(s, a) for a in args], **{k: opened(s, v) for k, v in kwargs.items()})
    owner = getattr(f, "__self__", None)
    watched: tuple[Any, ...] = ()
    if isinstance(owner, _CONTAINERS):
        if getattr(f, "__name__", "") not in COMPARING:
            return f
        watched = (owner,) if isinstance(owner, list | tuple | deque) else ()
    elif owner is not None:
        watched = (owner,)
    outside = id(f) in OUTSIDE

    def call(*args: Any, **kwargs: Any) -> Any:
        seen = [x for x in (*args, *kwargs.values()) if not objects.plain(x)]
        if kwargs.get("key") is None:
            watch(s, *watched, *[x for x in seen if not (outside and isinstance(x, _CONTAINERS))])
        if not seen:
            return f(*args, **kwargs)
        return f(*[converted(x, s) for x in args], **{k: converted(v, s) for k, v in kwargs.items()})

    return call


def converted(x: Any, s: Session) -> Any:
    """A function of the user that is given to code which calls it; anything else as it is."""
    from stager.capture.resolve import convert_user

    return convert_user(x, s) if type(x) is FunctionType and is_user_file(x.__code__.co_filename) else x


def is_ours(f: Any) -> bool:
    """Whether a callable is stager's own, which converts what it is given by itself."""
    code = getattr(f, "__code__", None)
    if code is not None:
        return is_own_file(code.co_filename)
    return type(f).__module__.partition(".")[0] == "stager"


def identical(left: Any, right: Any) -> bool:
    """`left is right`. Where both are captured objects, which ones they are is a guard."""
    from stager.capture.session import _CURRENT
    from stager.staged import decline

    s = _CURRENT.get()
    if any(hasattr(type(x), "__stager_optional__") for x in (left, right)):
        decline("asking with `is` which object a value is that is None on some paths")
    if s is not None and s.origins and left is not None and right is not None:
        one, other = s.path_of(left), s.path_of(right)
        if one is not None and other is not None:
            for path, x in ((one, left), (other, right)):
                if path[-1][0] != "object" and type(x) is not MethodType:
                    s.guard(path, "is", x)
    return left is right
