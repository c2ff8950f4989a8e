"""What a trace does to lists, dicts, sets and iterators that are older: every call would, and a trace does once.

`log.append(v)`, `cache[key] = v`, `seen.add(k)` on what a global, closure cell, default or attribute holds goes through
(`Touched`) where the code does not depend on it; a traced value that stays there raises where it is used. Containers
among the arguments are copies of the caller's (`Given`): what is changed in one has to come back in the result, or else
nobody would see it.

Not here: attributes and items that are set anew (`Session.store`), changes in traced regions (`staged.refuse_change`).
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from stager.capture import objects
from stager.capture.session import Path, Session, current, path_key, path_text
from stager.capture.sharing import changeable_in
from stager.errors import MutationError, UnsupportedError, describe
from stager.interpreters.stack import user_location
from stager.runtime.structure import one_level

TAKING = frozenset({"pop", "popleft", "popitem", "setdefault", "remove"})  # methods that change and answer


# -- captured ones ----------------------------------------------------------------------------------------------------


class Touched:
    """A captured container that the trace has changed: how first and where, and what it held before."""

    def __init__(self, container: Any, path: Path, what: str) -> None:
        self.container = container
        self.path = path
        self.key = path_key(path)
        self.what = what
        self.where = user_location()
        self.before = held(container)
        self.read = False  # whether the code has asked since what it holds
        self.leaked = False  # and was given an array that the trace does not know

    def holds(self, path: Path) -> bool:
        """Whether a path leads through the container."""
        return path_key(path)[: len(self.key)] == self.key

    def item(self, s: Session, key: Any, value: Any) -> Any:
        """What the code gets for an item now: no fact about the world outside."""
        own = isinstance(self.container, dict) and key not in self.before[::2]  # the trace has put it there
        self.read = self.read or not own
        if isinstance(value, np.ndarray):
            known = s.arrays.get(id(value))
            if known is not None:
                return known[1]
            self.leaked = True
        return value

    def changed(self) -> bool:
        now = held(self.container)
        return len(now) != len(self.before) or any(a is not b for a, b in zip(now, self.before, strict=True))

    def put_back(self) -> None:
        """Let it hold what it held before."""
        c = self.container
        c.clear()
        if isinstance(c, dict):
            dict.update(c, zip(self.before[::2], self.before[1::2], strict=True))
        elif isinstance(c, set):
            c.update(self.before)
        else:
            c.extend(self.before)

    def finish(self, s: Session, compiled: bool) -> None:
        """Refuse what a trace cannot give back. compiled: the next call runs no Python."""
        if not compiled:
            return
        changed = self.changed()
        where = path_text(self.path)
        asked = self.read or any(self.holds(g.path) and (len(g.path) > len(self.path) or g.kind != "type")
                                 for g in s.guards.values())  # fmt: skip
        asked = asked or any(self.holds(path) for _, _, path in s.arrays.values())
        if self.leaked or (changed and asked):
            self.put_back()
            text = f"the compiled function reads {where} and changes it ({self.what}), which would happen once"
            text += ", while tracing"
            remedy = "return what changes and change it outside, or keep it in an array written in place"
            raise UnsupportedError(describe(text, remedy=remedy, at=self.where))
        if self.read and not isinstance(self.container, set):  # as it was before, and now again: the code relies on it
            s.look_at_shape(self.container)
            for i, v in enumerate(self.before[1::2] if isinstance(self.container, dict) else self.before):
                key = self.before[2 * i] if isinstance(self.container, dict) else i
                if not isinstance(v, np.ndarray):
                    s.read((*self.path, ("item", key)), v)


def touch(s: Session, obj: Any, what: str, name: str = "") -> None:
    """A list, dict or set is about to change. name: of the method that does it."""
    path = s.path_of(obj)
    if path is not None:
        found = s.touched.get(id(obj))
        if found is None:
            found = s.touched[id(obj)] = Touched(obj, path, what)
        found.read |= name in TAKING
    elif id(obj) in s.given and s.given[id(obj)] is None:
        s.given[id(obj)] = user_location()


def draw(s: Session, iterator: Any) -> None:
    """A captured iterator gives an item, or more. Under `compile` it would once, while tracing."""
    path, own = s.path_of(iterator), objects.special(objects.class_of(iterator), "__next__")
    if path is not None and own is None and not isinstance(iterator, io.IOBase):
        s.drawn.setdefault(id(iterator), (iterator, path, user_location()))


def refuse_drawn(s: Session) -> None:
    for iterator, path, where in s.drawn.values():
        text = f"the compiled function takes items from {path_text(path)}, a {type(iterator).__name__} that is older:"
        remedy = "make the iterator inside of the function, or pass in what it gives"
        raise UnsupportedError(describe(f"{text} it would once, while tracing", remedy=remedy, at=where))


def refuse_unseen(s: Session, given: Any, seen: Any, before: list[Any]) -> None:
    """Code that is not converted has changed the mirror of a captured container: nobody would see it."""
    now = held(seen)
    if len(before) != len(now) or any(a is not b for a, b in zip(before, now, strict=True)):
        text = f"code that is not traced changes {path_text(s.path_of(given) or ())}, a captured {type(given).__name__}"
        raise UnsupportedError(describe(text, remedy="let it change a copy, and return that"))


def held(c: Any) -> list[Any]:
    return [x for pair in c.items() for x in pair] if isinstance(c, dict) else list(c)


# -- arguments --------------------------------------------------------------------------------------------------------


class Given:
    """The containers among the arguments of a function, which are copies of the caller's, and what they hold."""

    def __init__(self, names: Sequence[Any], args: Sequence[Any]) -> None:
        self.before = [
            (c, text, _parts(c)) for name, x in zip(names, args, strict=True) for c, text in _changeable(x, str(name))
        ]
        s = current()
        if s is not None:
            s.given.update((id(c), None) for c, _, _ in self.before)

    def check(self, result: Any) -> None:
        """Refuse changes that do not come back in the result: they would be lost."""
        s = current()
        if s is None:
            return
        s.returned.extend(changeable_in(result))
        back = {id(c) for c in s.returned}
        for c, text, before in self.before:
            now = _parts(c)
            if id(c) in back or (now.keys() == before.keys() and all(now[k] is before[k] for k in now)):
                continue
            keys = [k for k in (*now, *before) if now.get(k, _NOTHING) is not before.get(k, _NOTHING)]
            what = _step(c, text, keys[0])
            raise MutationError(
                describe(
                    f"{what} is changed, in an argument: a traced function has a copy of it, and the caller's"
                    f" {type(c).__name__} would stay as it is",
                    remedy=f"return the {type(c).__name__}, or write into the array that is there: {what}[...] = value",
                    at=s.given.get(id(c)),
                )
            )


_NOTHING = object()


def given(fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Given:
    """The containers that `fn` is called with."""
    code = getattr(fn, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    texts = [names[i] if i < len(names) else f"argument {i}" for i in range(len(args))]
    return Given([*texts, *kwargs], [*args, *kwargs.values()])


def _changeable(x: Any, text: str) -> Iterator[tuple[Any, str]]:
    """The containers in a nesting that can change, and how they are reached."""
    level = one_level(x)
    if level is None:
        return
    kind, keys, children = level
    if kind in ("list", "dict", "dataclass"):
        yield x, text
    named = keys if kind in ("dict", "dataclass", "namedtuple") else range(len(children))
    for k, child in zip(named, children, strict=True):
        yield from _changeable(child, _step(x, text, k))


def _step(c: Any, text: str, key: Any) -> str:
    return (
        f"{text}.{key}"
        if dataclasses.is_dataclass(c) or (isinstance(c, tuple) and hasattr(c, "_fields"))
        else f"{text}[{key!r}]"
    )


def _parts(c: Any) -> dict[Any, Any]:
    if isinstance(c, list):
        return dict(enumerate(c))
    if isinstance(c, dict):
        return dict(c)
    return {f.name: getattr(c, f.name, None) for f in dataclasses.fields(c)} | getattr(c, "__dict__", {})
