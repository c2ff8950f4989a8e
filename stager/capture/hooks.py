"""`Hooks`: the object `@` that converted code calls for its calls, loads, subscripts and decisions.

One instance belongs to one converted function: it knows the function's globals and cells. Without an active session
every hook does what plain Python does, so converted code that outlives its trace (a closure that was returned) keeps
working.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections import deque
from types import BuiltinFunctionType, CellType, FunctionType
from typing import Any

import numpy as np

from stager.capture import comprehensions, generators, growing, objects, operators, picked, texts, unseen
from stager.capture.buffers import Buffer
from stager.capture.resolve import mirroring, resolve, still_stable
from stager.capture.session import (
    _CURRENT,
    CHANGEABLE,
    CONTAINERS,
    TRACERS,
    UNBOUND,
    Path,
    Session,
)
from stager.capture.stores import (
    ArrayPlace,
    BufferPlace,
    Cells,
    Globals,
    Item,
    ItemPlace,
    Place,
    attribute,
    refuse,
    refuse_growth,
)
from stager.capture.table import SUBSTITUTES
from stager.capture.touched import touch
from stager.capture.unseen import converted, guard_names, guard_parts
from stager.capture.yields import EACH, LEAVES, UNTIL
from stager.cells import REGIONS
from stager.errors import REFUSALS
from stager.staged import LEFT, handled_outside


class Hooks:
    """See the module. Methods are named in `rewrite.py` and `flow.py`."""

    __slots__ = ("__weakref__", "cells", "fn", "names", "namespace", "stable")

    BREAK = operators.BREAK
    CONTINUE = operators.CONTINUE
    LEAVES = LEAVES

    def __init__(
        self,
        fn: weakref.ref[FunctionType],
        namespace: dict[str, Any],
        cells: dict[str, CellType],
        stable: tuple[str, ...],
    ) -> None:
        self.fn = fn
        self.namespace = namespace
        self.cells = Cells(cells)
        self.stable = stable

    # -- once per session ------------------------------------------------------------------------------------------

    def enter(self, s: Session) -> bool:
        """Guard the globals that the code loads as they are. False when one is no module, function or class now."""
        namespace = self.namespace
        for name in self.stable:
            value = namespace.get(name)
            if not still_stable(value):
                return False
        s.entered.add(id(self))
        s.kept.append(self)
        fn = self.fn()
        if fn is not None:
            guard_parts(s, fn)
        for name in self.stable:
            value = namespace[name]
            path: Path = (("global", namespace, name),)
            s.guard(path, "is", value)
            s.origins.setdefault(id(value), (value, path))
        return True

    # -- loads -----------------------------------------------------------------------------------------------------

    def load_global(self, value: Any, name: str) -> Any:
        s = _CURRENT.get()
        if s is None or type(value) in TRACERS:
            return value
        step = ("global", self.namespace, name)
        return s.load(self.namespace, step, (step,), value)

    def load_cell(self, value: Any, name: str) -> Any:
        s = _CURRENT.get()
        if s is None or type(value) in TRACERS:
            return value
        cell = self.cells.__dict__["@"][name]
        step = ("cell", cell, name)
        return s.load(cell, step, (step,), value)

    @property
    def globals(self) -> Globals:
        """Globals that the function declares: `@.globals.x` loads, stores and deletes."""
        return Globals(self.namespace)

    def default(self, value: Any, name: str) -> Any:
        """A parameter when the call begins: what came from its default is a captured value."""
        s = _CURRENT.get()
        if s is None or type(value) in TRACERS:
            return value
        fn = self.fn()
        if fn is None or _default_of(fn, name) is not value:
            return value
        step = ("default", fn, name)
        return s.load(fn, step, (step,), value)

    def attr(self, obj: Any, name: str) -> Any:
        return attribute(obj, name)

    def place(self, obj: Any) -> Any:
        """The object whose attribute is written."""
        s = _CURRENT.get()
        if s is None or type(obj) in TRACERS:
            return obj
        s.writes += 1
        if id(obj) in s.given:
            touch(s, obj, "setting attributes")
        return Place(s, obj) if REGIONS or id(obj) in s.origins else obj

    def item(self, obj: Any) -> Any:
        """The object that is subscripted."""
        s = _CURRENT.get()
        if s is None:
            return obj
        if type(obj) in TRACERS:
            return obj
        if s.containers and isinstance(obj, CONTAINERS) and s.path_of(obj) is not None:
            return Item(s, obj)
        if isinstance(obj, list | tuple | dict | np.ndarray):
            if REGIONS and type(obj) in (list, deque) and not obj:
                growing.reads(obj)
            return operators.subscripted(obj)
        if objects.subscripts(obj):
            return objects.Items(s, obj)
        stand_in: Any = SUBSTITUTES.get(obj)  # `np.r_`, `np.c_`
        return objects.watched(s, obj) if stand_in is None else stand_in

    def item_place(self, obj: Any) -> Any:
        """The object whose item is written or deleted."""
        s = _CURRENT.get()
        if s is None:
            return obj
        if type(obj) in TRACERS:
            return ArrayPlace(s, obj) if s.containers else obj
        s.writes += 1
        seen = type(obj) is list or REGIONS or s.row_lists or s.chosen or (s.containers and s.path_of(obj))
        if id(obj) in s.given:
            touch(s, obj, "setting items")
        if isinstance(obj, list | dict) and seen:
            return ItemPlace(s, obj)
        if isinstance(obj, np.ndarray):
            return operators.ForeignArray(obj)
        if isinstance(obj, Buffer):
            return BufferPlace(obj)
        return objects.Items(s, obj) if objects.subscripts(obj) else obj

    def grown(self, obj: Any, value: Any) -> Any:
        """What is added to a variable by `+=` and its kin: a container would change."""
        refuse_growth(obj)
        return self.pairs(value)

    def visible(self, names: Any) -> Any:
        """`locals()` and its kin without our own names."""
        if isinstance(names, dict):
            return {k: v for k, v in names.items() if not k.startswith("@")}
        return [n for n in names if not n.startswith("@")]

    def spread(self, obj: Any) -> Any:
        """A value that is unpacked: `a, b = obj`, `f(*obj)`."""
        s = _CURRENT.get()
        return obj if s is None else objects.iterated(s, comprehensions.collected(obj))

    def iter(self, obj: Any) -> Any:
        """What a loop that is left as it is runs over."""
        s = _CURRENT.get()
        return obj if s is None else objects.iterated(s, obj)

    def pairs(self, obj: Any) -> Any:
        """A value that is unpacked as it is: `f(**obj)`."""
        s = _CURRENT.get()
        return obj if s is None else objects.mirrored(s, obj)

    def key(self, obj: Any) -> Any:
        """What stands between brackets, or after `match`: code without hooks looks into it."""
        s = _CURRENT.get()
        return obj if s is None else objects.watched(s, objects.mirrored(s, obj))

    def context(self, obj: Any) -> Any:
        """What a `with` enters and leaves, as it is written: it may change Python state, once, while tracing."""
        s = _CURRENT.get()
        if s is None or objects.plain(obj):
            return obj
        for name in ("__enter__", "__exit__"):
            own = objects.special(objects.class_of(obj), name)
            if own is not None:
                guard_names(s, own)
        return objects.watched(s, obj)

    def turned(self, f: FunctionType, each: FunctionType, until: FunctionType) -> None:
        """A generator function that is defined here, and its forms that take a consumer."""
        f.__dict__[generators.NESTED] = {EACH: each, UNTIL: until}

    # -- operators: objects.py -------------------------------------------------------------------------------------

    binary = staticmethod(objects.binary)
    unary = staticmethod(objects.unary)
    # -- exceptions ------------------------------------------------------------------------------------------------

    def caught(self) -> None:
        """A handler of the user's begins: what stager refuses is no exception of the program, and goes on."""
        found = sys.exc_info()[1]
        if _CURRENT.get() is None:
            return
        if isinstance(found, REFUSALS):
            raise found
        if found is not None and hasattr(found, LEFT):
            raise handled_outside(found) from found

    # -- calls -----------------------------------------------------------------------------------------------------

    def call(self, f: Any) -> Any:
        s = _CURRENT.get()
        if s is None:
            return f
        if type(f) is BuiltinFunctionType and f.__name__ in _CHANGING:
            owner = f.__self__  # of `push = out.append`
            if isinstance(owner, CHANGEABLE):
                what = f"{type(owner).__name__}.{f.__name__}"
                if REGIONS or s.chosen:
                    refuse(s, owner, what)
                touch(s, owner, what, f.__name__)
        return resolve(f, s)

    def decorator(self, f: Any) -> Any:
        """A decorator of a function that is defined here: one of the user's runs converted, others as they are."""
        s = _CURRENT.get()
        return f if s is None else converted(f, s)

    def method(self, obj: Any, name: str) -> Any:
        s = _CURRENT.get()
        if s is None:
            return getattr(obj, name)
        if type(obj) in TRACERS:
            return mirroring(getattr(obj, name), s)
        if name in _CHANGING and isinstance(obj, CHANGEABLE):
            what = f"{type(obj).__name__}.{name}"
            if REGIONS or s.row_lists or s.chosen:
                if REGIONS and (name in growing.GROWS or name in ("pop", "popleft")):
                    growing.appends(obj)
                refuse(s, obj, what)
            s.writes += 1
            touch(s, obj, what, name)
        objects.take_once(obj)
        if name == "get" and REGIONS and type(obj) is dict:
            return functools.partial(picked.get, obj)
        if s.containers and isinstance(obj, CONTAINERS) and s.path_of(obj) is not None:
            return resolve(getattr(_captured_methods(s, obj, name), name), s)
        return resolve(self.attr(obj, name), s)

    # -- decisions: operators.py -----------------------------------------------------------------------------------

    and_ = staticmethod(operators.and_)
    settled = staticmethod(operators.settled)
    or_ = staticmethod(operators.or_)
    not_ = staticmethod(operators.not_)
    ifexp = staticmethod(operators.ifexp)
    chain = staticmethod(operators.chain)
    contains = staticmethod(operators.contains)
    compare = staticmethod(operators.compare)
    identical = staticmethod(unseen.identical)
    shown = staticmethod(operators.shown)
    text = staticmethod(texts.text)
    described = staticmethod(texts.described)
    checked = staticmethod(operators.checked)
    raised = staticmethod(operators.raised)
    returned = staticmethod(operators.returned)
    if_ = staticmethod(operators.if_)
    branch = staticmethod(operators.branch)
    then = staticmethod(operators.then)
    leave = staticmethod(operators.leave)
    finish = staticmethod(operators.finish)
    for_ = staticmethod(operators.for_)
    while_ = staticmethod(operators.while_)
    listed = staticmethod(comprehensions.comprehension)
    generated = staticmethod(comprehensions.generated)
    keyed = staticmethod(comprehensions.keyed)


def _default_of(fn: FunctionType, name: str) -> Any:
    if fn.__kwdefaults__ and name in fn.__kwdefaults__:
        return fn.__kwdefaults__[name]
    code, defaults = fn.__code__, fn.__defaults__ or ()
    positional = code.co_varnames[: code.co_argcount]
    i = positional.index(name) - (len(positional) - len(defaults)) if name in positional else -1
    return defaults[i] if 0 <= i < len(defaults) else UNBOUND


_CHANGING = frozenset(
    {
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "clear",
        "sort",
        "reverse",
        "update",
        "setdefault",
        "popitem",
        "add",
        "discard",
        "appendleft",
        "popleft",
        "extendleft",
        "rotate",
        "move_to_end",
        "subtract",
    }
)


def _captured_methods(s: Session, obj: Any, name: str) -> Any:
    """The object whose method is called: methods that read a captured container read its mirror."""
    return obj if name in _CHANGING else s.mirror(obj)
