"""`Hooks`: the object `@` that converted code calls for its calls, loads, subscripts and decisions.

One instance belongs to one converted function: it knows the function's globals and cells. Without an active session
every hook does what plain Python does, so converted code that outlives its trace (a closure that was returned) keeps
working.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType
from typing import Any

import numpy as np

from stager.capture import comprehensions, growing, objects, operators, texts, unseen
from stager.capture.buffers import Buffer
from stager.capture.resolve import convert_user, mirroring, property_of, resolve, still_stable
from stager.capture.session import (
    _CURRENT,
    CHANGEABLE,
    CONTAINERS,
    TRACERS,
    UNBOUND,
    Path,
    Session,
    cell_value,
    holds_tracer,
)
from stager.capture.sharing import changes
from stager.capture.table import SUBSTITUTES
from stager.capture.unseen import guard_names, guard_parts
from stager.capture.users import is_user_module
from stager.cells import REGIONS
from stager.errors import REFUSALS
from stager.staged import LEFT, decline, handled_outside, refuse_change, region_in_force


class Hooks:
    """See the module. Methods are named in `rewrite.py` and `flow.py`."""

    __slots__ = ("__weakref__", "cells", "fn", "names", "namespace", "stable")

    BREAK = operators.BREAK
    CONTINUE = operators.CONTINUE

    def __init__(
        self,
        fn: weakref.ref[FunctionType],
        namespace: dict[str, Any],
        cells: dict[str, CellType],
        stable: tuple[str, ...],
    ) -> None:
        self.fn = fn
        self.namespace = namespace
        self.cells = _Cells(cells)
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
    def globals(self) -> _Globals:
        """Globals that the function declares: `@.globals.x` loads, stores and deletes."""
        return _Globals(self.namespace)

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
        return _Place(s, obj) if REGIONS or id(obj) in s.origins else obj

    def item(self, obj: Any) -> Any:
        """The object that is subscripted."""
        s = _CURRENT.get()
        if s is None:
            return obj
        if type(obj) in TRACERS:
            return obj
        if s.containers and isinstance(obj, CONTAINERS) and s.path_of(obj) is not None:
            return _Item(s, obj)
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
            return _ArrayPlace(s, obj) if s.containers else obj
        seen = type(obj) is list or REGIONS or s.row_lists or s.chosen or (s.containers and s.path_of(obj))
        if isinstance(obj, list | dict) and seen:
            return _ItemPlace(s, obj)
        if isinstance(obj, np.ndarray):
            return operators.ForeignArray(obj)
        if type(obj) is Buffer:
            return _BufferPlace(obj)
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
        if (REGIONS or s.chosen) and type(f) is BuiltinFunctionType and f.__name__ in _CHANGING:
            owner = f.__self__  # of `push = out.append`
            if isinstance(owner, CHANGEABLE):
                _refuse(s, owner, f"{type(owner).__name__}.{f.__name__}")
        return resolve(f, s)

    def method(self, obj: Any, name: str) -> Any:
        s = _CURRENT.get()
        if s is None:
            return getattr(obj, name)
        if type(obj) in TRACERS:
            return mirroring(getattr(obj, name), s)
        if name in _CHANGING and isinstance(obj, CHANGEABLE) and (REGIONS or s.row_lists or s.chosen):
            if REGIONS and (name in growing.GROWS or name in ("pop", "popleft")):
                growing.appends(obj)
            _refuse(s, obj, f"{type(obj).__name__}.{name}")
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
    listed = staticmethod(comprehensions.listed)
    generated = staticmethod(comprehensions.generated)
    keyed = staticmethod(comprehensions.keyed)


def attribute(obj: Any, name: str, *default: Any) -> Any:
    """`obj.name`, or `getattr(obj, name, default)`: recorded where the object is captured."""
    s = _CURRENT.get()
    if s is None or type(obj) in TRACERS:
        return getattr(obj, name, *default)
    if type(obj) is ModuleType:
        value = getattr(obj, name, *default)
        if not is_user_module(obj) or name not in obj.__dict__:
            return value
        step = ("global", obj.__dict__, name)
        return s.load(obj.__dict__, step, (step,), value)
    if s.stores:
        stored = s.stores.get((id(obj), ("attr", name)))
        if stored is not None:
            return stored.value
    getter = property_of(objects.class_of(obj), name)
    if getter is not None:
        return convert_user(getter, s)(obj)
    if not default:
        return s.attribute(obj, name, getattr(obj, name))
    value = getattr(obj, name, _NOTHING)
    if value is not _NOTHING:
        return s.attribute(obj, name, value)
    s.lacks(obj, name)
    return default[0]


def set_attribute(obj: Any, name: str, value: Any) -> None:
    """`setattr(obj, name, value)`."""
    s = _CURRENT.get()
    setattr(obj if s is None or type(obj) in TRACERS else _Place(s, obj), name, value)


_NOTHING: Any = object()


def _refuse(s: Session, obj: Any, what: str) -> None:
    """Python state from around a traced branch or loop does not change inside it; nor do items of a list of arrays."""
    changes(s, obj, what)
    if s.path_of(obj) is not None and region_in_force() is not None:
        decline(what)
    refuse_change(obj, what)


def refuse_growth(obj: Any) -> None:
    """`obj += …` changes a container; anything else is replaced."""
    s = _CURRENT.get()
    if s is not None and (REGIONS or s.row_lists or s.chosen) and isinstance(obj, CHANGEABLE):
        if REGIONS:
            growing.appends(obj)
        _refuse(s, obj, f"changing a {type(obj).__name__}")


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


class _Globals:
    """Loads and stores of declared globals."""

    __slots__ = ("_namespace",)

    def __init__(self, namespace: dict[str, Any]) -> None:
        object.__setattr__(self, "_namespace", namespace)

    def __getattr__(self, name: str) -> Any:
        namespace = self._namespace
        s = _CURRENT.get()
        step = ("global", namespace, name)
        if s is not None and s.stores:
            stored = s.stores.get((id(namespace), ("global", id(namespace), name)))
            if stored is not None:
                return stored.value
        try:
            value = namespace[name]
        except KeyError:
            builtins = namespace.get("__builtins__", {})
            builtins = builtins if isinstance(builtins, dict) else vars(builtins)
            if name in builtins:
                return builtins[name]
            raise NameError(f"name {name!r} is not defined") from None
        return value if s is None else s.load(namespace, step, (step,), value)

    def __setattr__(self, name: str, value: Any) -> None:
        namespace = self._namespace
        s = _CURRENT.get()
        step = ("global", namespace, name)
        if s is not None and region_in_force() is not None:
            decline(f"setting the global {name!r}")
        if s is None or not s.store(namespace, step, (step,), value):
            namespace[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self._namespace:
            raise NameError(f"name {name!r} is not defined")
        del self._namespace[name]


class _Cells:
    """Loads and stores of closure variables that the function declares nonlocal."""

    def __init__(self, cells: dict[str, CellType]) -> None:
        self.__dict__["@"] = cells

    def __getattr__(self, name: str) -> Any:
        cell = self.__dict__["@"][name]
        s = _CURRENT.get()
        step = ("cell", cell, name)
        if s is not None and s.stores:
            stored = s.stores.get((id(cell), ("cell", id(cell))))
            if stored is not None:
                return stored.value
        value = cell_value(cell)
        if value is UNBOUND:
            raise NameError(
                f"cannot access free variable {name!r} where it is not associated with a value in enclosing scope"
            )
        return value if s is None else s.load(cell, step, (step,), value)

    def __setattr__(self, name: str, value: Any) -> None:
        cell = self.__dict__["@"][name]
        s = _CURRENT.get()
        step = ("cell", cell, name)
        if s is not None and region_in_force() is not None:
            decline(f"setting the outer variable {name!r}")
        if s is None or not s.store(cell, step, (step,), value):
            cell.cell_contents = value

    def __delattr__(self, name: str) -> None:
        del self.__dict__["@"][name].cell_contents


class _Place:
    """`place.name = v` on a captured object."""

    __slots__ = ("_obj", "_session")

    def __init__(self, session: Session, obj: Any) -> None:
        object.__setattr__(self, "_session", session)
        object.__setattr__(self, "_obj", obj)

    def __getattr__(self, name: str) -> Any:
        """Read by `place.name += v`."""
        value = attribute(self._obj, name)
        refuse_growth(value)
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        obj, s = self._obj, self._session
        setter = property_of(objects.class_of(obj), name, "fset")
        if setter is not None:
            convert_user(setter, s)(obj, value)
            return
        path, step = s.path_of(obj), ("attr", name)
        if REGIONS:
            from stager.capture.places import check_store

            check_store(s, obj, step, value)
        if path is None or not s.store(obj, step, (*path, step), value):
            setattr(obj, name, value)

    def __delattr__(self, name: str) -> None:
        _refuse(self._session, self._obj, f"deleting an attribute of a {type(self._obj).__name__}")
        delattr(self._obj, name)


class _Item:
    """A captured list, tuple or dict that is subscripted."""

    __slots__ = ("_obj", "_session")

    def __init__(self, session: Session, obj: Any) -> None:
        self._session = session
        self._obj = obj

    def __getitem__(self, key: Any) -> Any:
        s, obj = self._session, self._obj
        if s.path_of(obj) is None:
            return operators.subscripted(obj)[key]
        if isinstance(key, slice) or holds_tracer(key):
            return operators.subscripted(s.mirror(obj))[key]
        if isinstance(obj, dict) and type(obj).__getitem__ is not dict.__getitem__:
            return s.mirror(obj)[key]
        return s.item(obj, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        s, obj = self._session, self._obj
        changes(s, obj, "setting items")
        if s.walked and any(obj is x for x in s.walked):
            decline("setting items of a list that a loop runs over")
        if type(key) in TRACERS and type(obj) is list:
            from stager.capture import picked

            if REGIONS and len(obj) > growing.FEW_ITEMS:
                growing.reads(obj)

            if picked.set_item(self, len(obj), key, value):
                return
        path, step = s.path_of(obj), ("item", key)
        if isinstance(key, slice) or holds_tracer(key) or (isinstance(obj, dict) and key not in obj):
            _refuse(s, obj, f"setting items of a {type(obj).__name__}")
            obj[key] = value
            return
        if REGIONS:
            from stager.capture.places import check_store

            check_store(s, obj, step, value)
        if path is None or not s.store(obj, step, (*path, step), value):
            obj[key] = value

    def __delitem__(self, key: Any) -> None:
        _refuse(self._session, self._obj, f"deleting items of a {type(self._obj).__name__}")
        del self._obj[key]


class _ArrayPlace:
    """`place[key] = v` on a traced array: what is written may be a captured list."""

    __slots__ = ("_array", "_session")

    def __init__(self, session: Session, array: Any) -> None:
        self._session = session
        self._array = array

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key] = objects.mirrored(self._session, value)


class _BufferPlace:
    """The same on a list that a buffer stands for."""

    __slots__ = ("_buffer",)

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer

    def __getitem__(self, key: Any) -> Any:
        return self._buffer.changing(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._buffer[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._buffer[key]


class _ItemPlace(_Item):
    """`place[key] = v`, and what `place[key] += v` reads."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        refuse_growth(value)
        return value
