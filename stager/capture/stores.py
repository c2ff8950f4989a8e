"""What converted code loads and stores through: attributes and items of Python objects, declared globals and cells.

Stores of traced values into objects that are older than the trace go to the session; in a traced branch or loop the
statement around has to carry the place first (`places.py`).
"""

from __future__ import annotations

from types import CellType, ModuleType
from typing import Any

from stager.capture import growing, objects, operators
from stager.capture.buffers import Buffer
from stager.capture.resolve import convert_user, property_of
from stager.capture.session import _CURRENT, CHANGEABLE, TRACERS, UNBOUND, Session, cell_value, holds_tracer
from stager.capture.sharing import changes
from stager.capture.touched import touch
from stager.capture.users import is_user_module
from stager.cells import REGIONS
from stager.staged import decline, refuse_change, region_in_force


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
    setattr(obj if s is None or type(obj) in TRACERS else Place(s, obj), name, value)


_NOTHING: Any = object()


def refuse(s: Session, obj: Any, what: str) -> None:
    """Python state from around a traced branch or loop does not change inside it; nor do items of a list of arrays."""
    changes(s, obj, what)
    if s.path_of(obj) is not None and region_in_force() is not None:
        decline(what)
    refuse_change(obj, what)


def refuse_growth(obj: Any) -> None:
    """`obj += …` changes a container; anything else is replaced."""
    s = _CURRENT.get()
    if s is None or not isinstance(obj, CHANGEABLE):
        return
    if REGIONS or s.row_lists or s.chosen:
        if REGIONS:
            growing.appends(obj)
        refuse(s, obj, f"changing a {type(obj).__name__}")
    touch(s, obj, "an augmented assignment")


class Globals:
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


class Cells:
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


class Place:
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
        refuse(self._session, self._obj, f"deleting an attribute of a {type(self._obj).__name__}")
        delattr(self._obj, name)


class Item:
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
            if REGIONS and type(obj) is dict and (holds_tracer(key, 1) or type(key) in (int, tuple)):
                growing.reads(obj)
            refuse(s, obj, f"setting items of a {type(obj).__name__}")
            touch(s, obj, "setting items")
            obj[key] = value
            return
        if REGIONS:
            from stager.capture.places import check_store

            check_store(s, obj, step, value)
        if path is None or not s.store(obj, step, (*path, step), value):
            obj[key] = value

    def __delitem__(self, key: Any) -> None:
        refuse(self._session, self._obj, f"deleting items of a {type(self._obj).__name__}")
        touch(self._session, self._obj, "deleting items")
        del self._obj[key]


class ArrayPlace:
    """`place[key] = v` on a traced array: what is written may be a captured list."""

    __slots__ = ("_array", "_session")

    def __init__(self, session: Session, array: Any) -> None:
        self._session = session
        self._array = array

    def __getitem__(self, key: Any) -> Any:
        return self._array[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._array[key] = objects.mirrored(self._session, value)


class BufferPlace:
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


class ItemPlace(Item):
    """`place[key] = v`, and what `place[key] += v` reads."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        refuse_growth(value)
        return value
