"""`Session`: what one trace has read from outside the function, and by which path.

A path is a tuple of steps that native code can replay at each call:

    ("global", module_dict, name)   ("cell", cell)   ("default", function, parameter)   ("object", obj)
    ("attr", name)   ("item", key)

the first four begin a path, the others lead on. An ndarray found at a path becomes a hidden argument
(`captured_array`, given by the tracer's side); every other value read becomes a `Guard`. An object without a value of
its own (an instance, a list, a dict) is remembered with its path (`origins`), so that what is read from it later has
one too. Writes of traced values into objects older than the trace go to an overlay (`stores`): later reads see them,
the object does not; the owner of the trace decides what becomes of them.

Not here: how a guard is checked (`stager/runtime`), what a tracer is (`TRACERS`).
"""

from __future__ import annotations

import contextlib
import copy
import enum
import functools
import sys
import weakref
from array import array
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

from stager.capture.users import is_user_module

Step = tuple[Any, ...]
Path = tuple[Step, ...]

TRACERS: set[type] = set()  # exact types of traced arrays; `stager.array` adds its own
CONTAINERS = (list, tuple, dict, deque)  # what `mirror` makes mirrors of
CHANGEABLE = (list, dict, set, deque, bytearray, array)  # what methods and `+=` change

_ATOMS = frozenset(
    {int, float, bool, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice}
)
_CONTENTS = frozenset({set, frozenset, bytearray, array})  # read whole: equal to a copy of what they held
_BY_IDENTITY = (type, ModuleType, FunctionType, BuiltinFunctionType, np.ufunc, enum.Enum)


class Guard(NamedTuple):
    """A fact about what stands at `path`, which compiled code relies on.

    kind "is": the object `value` itself. "eq": equal to `value`, of the same type, floats by bits. "type": an instance
    of exactly `value`. "content": equal to `value`, a copy. "len": so many items. "keys": a dict with exactly these
    keys in this order. "same": the array that the tracer `value` stands for. "array": an ndarray or a long
    list of the content `value`. "absent": nothing stands there.
    """

    path: Path
    kind: str
    value: Any


class Store(NamedTuple):
    """A traced value that the function assigned into `owner`, an object older than the trace."""

    owner: Any
    step: Step  # ("attr", name), ("item", key), ("global", dict, name) or ("cell", cell)
    path: Path | None  # of the place written, when the owner's is known
    value: Any
    where: Any  # the user's line


def is_tracer(x: Any) -> bool:
    """Whether `x` is a traced array."""
    return type(x) in TRACERS


def holds_tracer(x: Any, depth: int = 4) -> bool:
    """Whether a value is traced or is a nesting of plain containers that holds a traced value."""
    t = type(x)
    if t in TRACERS or getattr(t, "__stager_item__", False):
        return True
    if depth and (t is list or t is tuple or (isinstance(x, tuple) and hasattr(x, "_fields"))):
        return any(holds_tracer(v, depth - 1) for v in x)
    if depth and t is dict:
        return any(holds_tracer(v, depth - 1) for v in x.values())
    return False


def path_text(path: Path) -> str:
    """A path as the user would write it: `model.layers[0].w`."""
    text = ""
    for step in path:
        kind = step[0]
        if kind == "attr":
            text += f".{step[1]}"
        elif kind == "item":
            text += f"[{step[1]!r}]"
        elif kind == "global":
            text = str(step[2])
        elif kind == "cell":
            text = str(step[2]) if len(step) > 2 else "<closure variable>"
        elif kind == "default":
            text = f"the default of {step[2]}"
        else:
            text = f"<{type(step[1]).__name__}>"
    return text


def step_key(step: Step) -> Step:
    """A hashable stand-in for a step."""
    kind = step[0]
    if kind == "global":
        return ("global", id(step[1]), step[2])
    if kind in ("cell", "object"):
        return (kind, id(step[1]))
    if kind == "default":
        return ("default", id(step[1]), step[2])
    return step


def path_key(path: Path) -> Path:
    return tuple([step_key(step) for step in path])


@functools.lru_cache(maxsize=4096)
def _is_value(t: Any) -> bool:
    """A type of values that are compared and hashed by what they hold, not the user's: Fraction, Decimal, timedelta."""
    by_identity = t.__hash__ in (None, object.__hash__) or t.__eq__ is object.__eq__
    if by_identity or issubclass(t, (*CONTAINERS, *_BY_IDENTITY)):
        return False
    module = sys.modules.get(t.__module__)
    return module is not None and not is_user_module(module) and not issubclass(t, _NO_VALUES)


_NO_VALUES = (memoryview, MethodType, weakref.ref, type(functools.partial), type("".join), type("".__add__))


class Session:
    """One trace's reads. Whoever traces derives from this and gives `captured_array`."""

    def __init__(self) -> None:
        self.guards: dict[tuple[Path, str], Guard] = {}
        self.origins: dict[int, tuple[Any, Path]] = {}  # id -> (object, kept alive; its path)
        self.arrays: dict[int, tuple[Any, Any, Path]] = {}  # id of an ndarray -> (it, its tracer, its path)
        self.seen: dict[
            tuple[int, Step], tuple[Any, Any]
        ] = {}  # (id of owner, step) -> (value there, what the code gets)
        self.stores: dict[tuple[int, Step], Store] = {}
        self.entered: set[int] = set()  # ids of the hooks whose stable globals are guarded
        self.kept: list[Any] = []  # what the ids above belong to
        self.containers = 0  # captured lists, tuples and dicts so far
        self.changed: list[Store] = []  # places that were read, then set to plain Python values
        self.touched: dict[int, Any] = {}  # captured containers that the trace has changed, by id (`touched.py`)
        self.given: dict[int, Any] = {}  # those among arguments, by id: where one was changed first
        self.writes = 0  # into objects and arrays, so far
        self.drawn: dict[int, Any] = {}  # captured iterators that have given items, by id
        self.returned: list[Any] = []  # containers that came back from a function
        self.owners: list[Any] = []  # statements that can put lists into buffers, innermost last (`buffers.py`)
        self.buffers: list[Any] = []
        self.lengths: dict[int, int] = {}  # of lists that are being made, where they are known, by id
        self.homes: set[int] = set()  # lists and dicts that have been taken as arrays, by id
        self.filtered = False  # whether a list whose length only the run knows has items of them
        self.changes = 0  # how often one of them has been changed since
        self.frozen: dict[int, Any] = {}  # lists and dicts made of the arrays of others: they do not change
        self.chosen: list[tuple[Any, Any]] = []  # a list or dict, and what a traced branch may have made of it
        self.row_lists = False  # whether there are lists whose length only the run knows
        self.walked: list[Any] = []  # lists that staged loops run over: they do not change
        self.alone: dict[int, Any] = {}  # lists that only variables of the statement at hand reach, by id
        self.maybe: dict[int, CellType] = {}  # cells of variables that traced control flow may have left unbound, by id
        self.turns: list[Any] = []  # how often the loops around are run at most, outermost first; None: unknown
        self.generators: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()  # user's, and how they began
        self.owned: frozenset[int] = frozenset()  # of those, by id, what ends with the one that runs over it
        self.left: list[Any] = []  # iterators of loops that the data may have left before their end
        self.counting = False  # whether the trace at hand is thrown away, and only to show how numbers go
        self.met = 0  # loops in it that numbers decide about
        self.declined: list[tuple[str, int, str]] = []  # (file, line, reason): what was not staged, for `explain`

    def decline(self, code: CodeType, why: Exception | str) -> None:
        """Note that a statement is not staged: where it begins, and of an error what, where and the remedy it names."""
        first, *others = str(why).splitlines()
        told = [line.strip() for line in others if line.startswith(("  at ", "  remedy: "))]
        reason = " ".join([first, *[t for t in told if t.startswith("at ")]])
        remedy = "; ".join(t for t in told if t.startswith("remedy: "))
        self.declined.append((code.co_filename, code.co_firstlineno, f"{reason}; {remedy}" if remedy else reason))

    # -- given by the tracer's side --------------------------------------------------------------------------------

    def captured_array(self, path: Path, array: np.ndarray[Any, Any]) -> Any:
        """The tracer of a hidden argument that is read anew from `path` at each call."""
        raise NotImplementedError

    # -- reads -----------------------------------------------------------------------------------------------------

    def add_argument(self, array: Any, tracer: Any, path: Path) -> None:
        """An ndarray that is an argument too: captured under another name it is the same tracer."""
        self.arrays[id(array)] = (array, tracer, path)

    def add_root(self, obj: Any, path: Path | None = None) -> None:
        """An object from outside the trace (a method's `self`, an opaque argument) and the path that leads to it."""
        self.origins.setdefault(id(obj), (obj, (("object", obj),) if path is None else path))

    def guard(self, path: Path, kind: str, value: Any) -> None:
        """Record a fact, once."""
        if self.touched and any(t.holds(path) for t in self.touched.values()):
            next(t for t in self.touched.values() if t.holds(path)).read = True
            return
        key = (path_key(path), kind)
        if key not in self.guards:
            self.guards[key] = Guard(path, kind, value)

    def read(self, path: Path, value: Any) -> Any:
        """What user code gets for `value`, read at `path`."""
        t = type(value)
        if t in TRACERS:
            return value
        if t in _ATOMS:
            self.guard(path, "eq", value)
            return value
        if isinstance(value, np.ndarray):
            return self._array(path, value)
        if isinstance(value, np.generic | np.dtype):
            self.guard(path, "eq", value)
            return value
        class_of: Any = t
        if t in _CONTENTS:
            self.guard(path, "content", copy.copy(value))
            if t is set:
                self.origins.setdefault(id(value), (value, path))
            return value
        if _is_value(class_of):
            self.guard(path, "content", value)
            return value
        if t is MethodType or (t is BuiltinFunctionType and not isinstance(value.__self__, ModuleType | type)):
            self.guard(path, "type", t)  # made anew at every look
        elif isinstance(value, _BY_IDENTITY):
            self.guard(path, "is", value)
        else:
            self.guard(path, "type", t)
            if isinstance(value, CONTAINERS):
                self.containers += 1
        self.origins.setdefault(id(value), (value, path))
        return value

    def _array(self, path: Path, value: Any) -> Any:
        held = self.arrays.get(id(value))
        if held is not None:
            if path_key(held[2]) != path_key(path):
                self.guard(path, "same", held[1])
            return held[1]
        tracer = self.captured_array(path, value)
        self.arrays[id(value)] = (value, tracer, path)
        return tracer

    def load(self, owner: Any, step: Step, path: Path, value: Any) -> Any:
        """Read `value`, found at `step` of `owner`; the first read records, later ones repeat its answer."""
        key = (id(owner), step_key(step))
        if self.stores:
            stored = self.stores.get(key)
            if stored is not None:
                return stored.value
        if self.touched and (touched := self.touched.get(id(owner))) is not None:
            return touched.item(self, step[-1], value)
        held = self.seen.get(key)
        if held is not None:
            # a value that changed while tracing was put there by the trace: no fact about the world outside
            return held[1] if held[0] is value else value
        result = self.read(path, value)
        self.seen[key] = (value, result)
        self.kept.append(owner)
        return result

    def attribute(self, obj: Any, name: str, value: Any) -> Any:
        """`obj.name`, whose value is `value`: recorded when the path of `obj` is known."""
        origin = self.origins.get(id(obj))
        if origin is None or origin[0] is not obj:
            if not isinstance(obj, type) or (module := sys.modules.get(obj.__module__)) is None:
                return value
            if not is_user_module(module):
                return value
            self.add_root(obj)  # a class that guards name already: that of a guarded object
            origin = self.origins[id(obj)]
        step = ("attr", name)
        return self.load(obj, step, (*origin[1], step), value)

    def lacks(self, obj: Any, name: str) -> None:
        """`obj` has no attribute of this name: a guard where its path is known."""
        path = self.path_of(obj)
        if path is not None:
            self.guard((*path, ("attr", name)), "absent", None)

    def item(self, obj: Any, key: Any) -> Any:
        """`obj[key]` of a captured list, tuple or dict."""
        path = self.origins[id(obj)][1]
        step = ("item", key)
        stored = self.stores.get((id(obj), step)) if self.stores else None
        if stored is not None:
            return stored.value
        try:
            value = obj[key]
        except (KeyError, IndexError):
            self._shape(obj, path)
            raise
        return self.load(obj, step, (*path, step), value)

    def _shape(self, obj: Any, path: Path) -> None:
        if isinstance(obj, dict):
            self.guard(path, "keys", tuple(obj))
        else:
            self.guard(path, "len", len(obj))

    def look_at_shape(self, obj: Any) -> None:
        """The code asks whether a container has items, or how many: a guard where it is captured."""
        path = self.path_of(obj)
        if path is not None:
            self._shape(obj, path)

    def mirror(self, obj: Any) -> Any:
        """A captured container as a fresh one that holds tracers; any other value as it is.

        Guards the length or the keys, and everything inside.
        """
        if not isinstance(obj, CONTAINERS):
            return obj
        origin = self.origins.get(id(obj))
        if origin is None or origin[0] is not obj:
            return self._mirrored_inside(obj, 4)
        self._shape(obj, origin[1])
        if isinstance(obj, dict):
            keys = [
                *obj,
                *(k[1][1] for k in self.stores if k[0] == id(obj) and k[1][0] == "item" and k[1][1] not in obj),
            ]
            mirrored: Any = {k: self.mirror(self.item(obj, k)) for k in keys}
            return mirrored if type(obj) is dict else _like(obj, mirrored)
        items = [self.mirror(self.item(obj, i)) for i in range(len(obj))]
        if type(obj) is list:
            return items
        if type(obj) is tuple:
            return tuple(items)
        if isinstance(obj, deque):
            return deque(items, obj.maxlen)
        return type(obj)(*items) if hasattr(obj, "_fields") else _like(obj, items)

    def _mirrored_inside(self, obj: Any, depth: int) -> Any:
        """A list or tuple of the trace's own: itself, or a new one where captured containers are among its items."""
        if depth == 0 or (type(obj) is not list and type(obj) is not tuple):
            return obj
        found = False
        items = []
        for x in obj:
            seen = x
            if isinstance(x, CONTAINERS):
                seen = self.mirror(x) if self.path_of(x) is not None else self._mirrored_inside(x, depth - 1)
                found = found or seen is not x
            items.append(seen)
        return (items if type(obj) is list else tuple(items)) if found else obj

    # -- writes ----------------------------------------------------------------------------------------------------

    def store(self, owner: Any, step: Step, path: Path | None, value: Any) -> bool:
        """Take a write into an object older than the trace. False when the caller shall write it as Python does.

        A traced value goes to the overlay. Writing back what a read gave (`self.x += 1` on an array) changes nothing.
        """
        key = (id(owner), step_key(step))
        held = self.seen.get(key)
        if held is not None and held[1] is value and is_tracer(value):
            self.stores.pop(key, None)
            return True
        if not holds_tracer(value):
            self.stores.pop(key, None)
            if held is not None and held[0] is not value:
                self.changed.append(Store(owner, step, path, value, _here()))
            self.seen[key] = (value, value)
            self.kept.append(owner)
            return False
        self.stores[key] = Store(owner, step, path, value, _here())
        self.kept.append(owner)
        return True

    def path_of(self, obj: Any) -> Path | None:
        """The path that leads to an object from outside, or None."""
        origin = self.origins.get(id(obj))
        return origin[1] if origin is not None and origin[0] is obj else None


def _here() -> Any:
    from stager.interpreters.stack import user_location

    return user_location()


def _like(obj: Any, items: Any) -> Any:
    """A container of the user's own type with other items."""
    made = copy.copy(obj)
    if isinstance(obj, dict):
        dict.update(made, items)  # a Counter's own adds
    else:
        made[:] = items
    return made


_CURRENT: ContextVar[Session | None] = ContextVar("stager_capture_session", default=None)


def current() -> Session | None:
    """The session of the trace in force."""
    return _CURRENT.get()


@contextlib.contextmanager
def use(session: Session | None) -> Iterator[Session | None]:
    """Context: converted code reports its reads to `session`; with None it runs as plain Python."""
    token = _CURRENT.set(session)
    try:
        yield session
    finally:
        _CURRENT.reset(token)


def cell_value(cell: CellType) -> Any:
    """What a closure cell holds; `UNBOUND` when it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNBOUND


class _Unbound:
    def __repr__(self) -> str:
        return "<unbound>"


UNBOUND: Any = _Unbound()
