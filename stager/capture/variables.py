"""The variables that the closures of one statement share, the places that they assign, and what they can reach.

A staged branch or loop sets them for each region it traces, and puts them back where that fails. Not here: what a loop
carries of them (`carries.py`).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

from stager.array import Array
from stager.capture.consumers import MARK, Consumer
from stager.capture.places import Place, PlaceNeededError, check_store
from stager.capture.references import LOCAL, LOCAL_GIVEN
from stager.capture.session import CHANGEABLE, UNBOUND, cell_value, current
from stager.capture.sharing import alone, changeable_in, is_frozen
from stager.staged import UserRegion

Closure = Callable[..., Any]
Names = tuple[str, ...]


class Slot:
    """A value of a dict, or an attribute of an object, that holds a list: like a cell of a variable."""

    __slots__ = ("held", "key")

    def __init__(self, held: dict[Any, Any], key: Any) -> None:
        self.held = held
        self.key = key

    @property
    def cell_contents(self) -> Any:
        if self.key not in self.held:
            raise ValueError("Cell is empty")
        return self.held[self.key]

    @cell_contents.setter
    def cell_contents(self, value: Any) -> None:
        self.held[self.key] = value

    @cell_contents.deleter
    def cell_contents(self) -> None:
        del self.held[self.key]


MOST_SLOTS = 64  # of a dict that holds lists


def _slots(value: Any) -> list[tuple[Any, Any]]:
    """The places of a dict, or of an object of the user's, that the trace has made, and that hold lists."""
    s = current()
    held = value if type(value) is dict else getattr(value, "__dict__", None) if _is_users(value) else None
    if type(held) is not dict or len(held) > MOST_SLOTS or s is None or s.path_of(value) is not None:
        return []
    return [(k, Slot(held, k)) for k, v in held.items() if type(v) is list or _stands_for_list(type(v))]  # fmt: skip


def _stands_for_list(t: Any) -> bool:
    return any(hasattr(t, name) for name in ("__stager_stand_in__", "__stager_growing__", "__stager_item__"))


def _is_users(x: Any) -> bool:
    """Whether x is a plain object of a class of the user's."""
    cls: Any = type(x)
    return type(cls) is type and cls.__flags__ & _HEAP != 0 and cls.__module__.partition(".")[0] not in _OTHERS


_HEAP = 1 << 9  # classes that are made by a class statement
_OTHERS = frozenset({"builtins", "numpy", "stager", "collections", "functools", "types"})


class Variables:
    """The variables that closures of one statement share, by name, and the places they assign, as "@1", "@2", …"""

    def __init__(self, *closures: Closure | None) -> None:
        self.places: dict[str, Place] = {}
        self.cells: dict[str, Any] = {}
        for f in closures:
            if f is not None:
                self._take(f, "")
        for name, cell in list(self.cells.items()):
            for key, slot in _slots(cell_value(cell)):
                self.cells[f"{name}[{key!r}]"] = slot

    def _take(self, f: Closure, mark: str) -> None:
        """The variables of a closure; those of the loop that it gives items to have a mark."""
        if not getattr(f, "__closure__", None):
            return
        for name, cell in zip(f.__code__.co_freevars, f.__closure__ or (), strict=True):
            value = cell_value(cell)
            if type(value) is Consumer:
                self._take(value.body, mark + MARK)
                self.cells.update({n + mark + MARK: own for n, own in value.cells.items()})
            elif name != "@":
                self.cells[name + mark] = cell

    def add(self, place: Place) -> str:
        """Take a place among the variables; its name."""
        name = f"@{len(self.places) + 1}"
        self.places[name] = place
        return name

    def knows(self, name: str) -> bool:
        return name in self.cells or name in self.places

    def text(self, name: str) -> str:
        """The name as the user knows it."""
        return repr(name.rstrip(MARK)) if name in self.cells else self.places[name].text

    def get(self, name: str) -> Any:
        return cell_value(self.cells[name]) if name in self.cells else self.places[name].get()

    def set(self, name: str, value: Any) -> None:
        if name in self.places:
            self.places[name].set(value)
            return
        cell = self.cells[name]
        if value is not UNBOUND:
            cell.cell_contents = value
        elif cell_value(cell) is not UNBOUND:
            del cell.cell_contents

    def assign(self, name: str, value: Any) -> None:
        """Set a variable to what a node gave. A place that the region around has to carry first is an error for it."""
        place = self.places.get(name)
        if place is not None:
            check_store(place.session, place.obj, place.step, value)
        self.set(name, value)

    def may_be_unbound(self, name: str) -> bool:
        """Whether a value of the variable may stand for none: a path that was traced with others did not set it."""
        s = current()
        return s is not None and name in self.cells and id(self.cells[name]) in s.maybe

    def set_on_some_paths(self, name: str) -> None:
        s = current()
        if s is not None and name in self.cells:
            s.maybe[id(self.cells[name])] = self.cells[name]

    def snapshot(self) -> dict[str, Any]:
        values = {name: cell_value(cell) for name, cell in self.cells.items()}
        values.update((name, place.get()) for name, place in self.places.items())
        return values

    def mark(self, region: UserRegion, older: dict[int, Any]) -> None:
        """Tell a region what Python state is older than it, and which places it carries."""
        region.older = older
        region.places = frozenset([place.key for place in self.places.values()])

    def restore(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            self.set(name, value)


def with_places(variables: Variables, names: Names, attempt: Callable[[Names], Any]) -> Any:
    """`attempt(names)`, again and again with the places that its regions turn out to assign.

    When it fails, variables and places have the values they had before.
    """
    before = variables.snapshot()
    while True:
        try:
            return attempt(names)
        except PlaceNeededError as e:
            variables.restore(before)
            if not e.is_for() or any(p.key == e.place.key for p in variables.places.values()):
                raise
            name = variables.add(e.place)
            before[name] = e.place.get()
            names = (*names, name)
        except BaseException:
            variables.restore(before)
            raise


def unshared(variables: Variables, names: Names) -> frozenset[int]:
    """Ids of the cells of arrays that nothing but one of these variables holds, through views neither; and of lists
    that nothing else holds, with nothing but such lists in them.

    Counts references, so it must run before anything takes a snapshot of the variables.
    """
    found: set[int] = set()
    for n in names:
        cell = variables.cells.get(n.lstrip("+"))
        value = UNBOUND if cell is None else cell_value(cell)
        if type(value) is list and alone(value, 2 + LOCAL_GIVEN):
            found |= {id(x) for x in changeable_in(value)}
        if type(value) is not Array or value.cell.origin is not None or sys.getrefcount(value) > 2 + LOCAL:
            continue
        if sys.getrefcount(value.cell) <= 2:
            found.add(id(value.cell))
    return frozenset(found)


MOST_REACHED = 5000  # objects that are looked at: what is near comes first


def mutable_ids(values: dict[str, Any]) -> dict[int, Any]:
    """The lists, dicts and their kin that a region can reach in older variables, by id: it must not change them."""
    found: dict[int, Any] = {}
    todo: deque[Any] = deque(values.values())
    for _ in range(MOST_REACHED):
        if not todo:
            break
        x = todo.popleft()
        t = type(x)
        kind = _kinds.get(t) or _kind_of(x)
        if kind.leads_nowhere or id(x) in found or (kind.is_item and is_frozen(x)):
            continue
        if kind.is_kept:
            found[id(x)] = x
        todo += islice(kind.within(x), MOST_REACHED)
    return found


class _Kind(NamedTuple):
    """What there is to know of all objects of a type."""

    within: Callable[[Any], Iterable[Any]]  # what an object leads to
    is_kept: bool = True
    is_item: bool = False  # of a list that the region may append to
    leads_nowhere: bool = False


_NOTHING = _Kind(lambda x: (), leads_nowhere=True)
_TUPLE = _Kind(lambda x: x, is_kept=False)
_LIST = _Kind(lambda x: x)
_DICT = _Kind(lambda x: x.values())
_ITERATOR = _Kind(lambda x: ())  # running over it changes it
_METHOD = _Kind(lambda x: (x.__self__,), is_kept=False)
_FUNCTION = _Kind(lambda x: [cell_value(c) for c in x.__closure__ or ()], is_kept=False)
_kinds: dict[type, _Kind] = {}
MOST_KINDS = 1000


def _kind_of(x: Any) -> _Kind:
    t = type(x)
    if len(_kinds) >= MOST_KINDS:  # types are made at run time too
        _kinds.clear()
    kind = _kinds[t] = _new_kind(x, t)
    return kind


def _new_kind(x: Any, t: type) -> _Kind:
    if t is tuple:
        return _TUPLE
    is_item = getattr(t, "__stager_item__", False)
    if getattr(t, "__stager_stand_in__", False):
        return _NOTHING
    if t.__module__ == "builtins" and hasattr(t, "__next__"):
        return _ITERATOR
    if isinstance(x, CHANGEABLE):
        return (_DICT if isinstance(x, dict) else _LIST)._replace(is_item=is_item)
    if t is BuiltinFunctionType:
        return _METHOD
    if t is FunctionType:
        return _FUNCTION
    if isinstance(x, type) or t is ModuleType or t is Array or t.__module__ == "builtins":
        return _NOTHING
    slots = [n for c in t.__mro__ for n in c.__dict__.get("__slots__", ())]

    def within(x: Any) -> Iterable[Any]:
        held = getattr(x, "__dict__", None)
        values = list(held.values()) if type(held) is dict else []
        return values + [getattr(x, n) for n in slots if hasattr(x, n)]

    return _Kind(within, is_item=is_item)
