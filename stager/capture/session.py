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
import enum
from array import array
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np

Step = tuple[Any, ...]
Path = tuple[Step, ...]

TRACERS: set[type] = set()  # exact types of traced arrays; `stager.array` adds its own
CONTAINERS = frozenset({list, tuple, dict})
CHANGEABLE = (list, dict, set, deque, bytearray, array)  # what methods and `+=` change

_ATOMS = frozenset(
    {int, float, bool, complex, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range, slice}
)
_BY_IDENTITY = (type, ModuleType, FunctionType, BuiltinFunctionType, np.ufunc, enum.Enum)


class Guard(NamedTuple):
    """A fact about what stands at `path`, which compiled code relies on.

    kind "is": the object `value` itself. "eq": equal to `value`, of the same type, floats by bits. "type": an instance
    of exactly `value`. "len": so many items. "keys": a dict with exactly these keys in this order. "same": the array
    that the tracer `value` stands for. "absent": nothing stands there.
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


def is_tracer(x: Any) -> bool:
    """Whether `x` is a traced array."""
    return type(x) in TRACERS


def holds_tracer(x: Any, depth: int = 4) -> bool:
    """Whether a value is traced or is a nesting of plain containers that holds a traced value."""
    t = type(x)
    if t in TRACERS:
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


_UNSEEN: Any = object()


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
        self.changed: list[tuple[Any, Step, Path | None]] = []  # places that were read, then set to plain Python values
        self.declined: list[tuple[str, int, str]] = []  # (file, line, reason): what was not staged, for `explain`

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
        if isinstance(value, _BY_IDENTITY):
            self.guard(path, "is", value)
        elif t is set or t is frozenset:
            self.guard(path, "eq", frozenset(value))
            return value
        elif t is MethodType:
            self.guard(path, "type", t)
        else:
            self.guard(path, "type", t)
            if isinstance(value, list | tuple | dict):
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
            return value
        step = ("attr", name)
        return self.load(obj, step, (*origin[1], step), value)

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

    def mirror(self, obj: Any) -> Any:
        """A captured container as a fresh one that holds tracers; any other value as it is.

        Guards the length or the keys, and everything inside.
        """
        origin = self.origins.get(id(obj))
        if origin is None or origin[0] is not obj or not isinstance(obj, list | tuple | dict):
            return obj
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
        return type(obj)(*items) if hasattr(obj, "_fields") else _like(obj, items)

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
                self.changed.append((owner, step, path))
            self.seen[key] = (value, value)
            self.kept.append(owner)
            return False
        self.stores[key] = Store(owner, step, path, value)
        self.kept.append(owner)
        return True

    def path_of(self, obj: Any) -> Path | None:
        """The path that leads to an object from outside, or None."""
        origin = self.origins.get(id(obj))
        return origin[1] if origin is not None and origin[0] is obj else None


def _like(obj: Any, items: Any) -> Any:
    """A container of the user's own type with other items."""
    import copy

    made = copy.copy(obj)
    if isinstance(obj, dict):
        made.update(items)
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
