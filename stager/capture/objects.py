"""What operators, tests and builtins see of Python objects: their own special methods, converted; captured containers
through mirrors.

`m @ x`, `if m`, `len(m)`, `m[i]`, `for v in m` of an object of the user call `__matmul__`, `__bool__`, `__len__`,
`__getitem__`, `__iter__` of its class. Python would run them as they are, and what they read from the object would be
no captured value: here they run converted. Code that is not converted at all (a builtin, the operators of lists) reads
the items of a captured container unseen: it is given the mirror, whose making guards every item.

Invariant: on values that are neither, each function does what the operator does.
"""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import numpy as np

from stager.capture import texts
from stager.capture.session import _CURRENT, CONTAINERS, TRACERS, Session
from stager.capture.users import is_user_file
from stager.cells import REGIONS
from stager.errors import ControlFlowError, describe
from stager.ir.dims import Expr

BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow, "matmul": operator.matmul,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor, "lshift": operator.lshift,
    "rshift": operator.rshift,
}  # fmt: skip
UNARY: dict[str, Callable[[Any], Any]] = {"neg": operator.neg, "pos": operator.pos, "invert": operator.invert}
COMPARISONS: dict[str, tuple[str, str]] = {  # the method of the left operand, that of the right one
    "==": ("__eq__", "__eq__"), "!=": ("__ne__", "__ne__"), "<": ("__lt__", "__gt__"), "<=": ("__le__", "__ge__"),
    ">": ("__gt__", "__lt__"), ">=": ("__ge__", "__le__"),
}  # fmt: skip
BUILTINS: dict[int, str] = {  # id of a builtin -> the special method of its first argument that it calls
    id(f): f"__{f.__name__}__"
    for f in (len, abs, float, int, complex, round, divmod, reversed, iter, next, str, repr, bool, hash)
}
ITERATING = frozenset(map(id, (list, tuple, set, frozenset, sum, min, max, any, all, sorted, enumerate, zip, filter)))
_NUMBERS = frozenset({int, float, bool, complex, Expr, np.ndarray, np.float64, np.int64, str, type(None)})


def plain(x: Any) -> bool:
    """Whether an object has neither items nor methods that have to be seen: a traced array, a number, an ndarray."""
    t = type(x)
    return t in TRACERS or t in _NUMBERS


def class_of(x: Any) -> Any:
    return type(x)


@functools.lru_cache(maxsize=4096)
def special(cls: Any, name: str) -> FunctionType | None:
    """The special method that the user's class defines in Python, or None."""
    for base in cls.__mro__:
        found = base.__dict__.get(name)
        if found is not None:
            mine = type(found) is FunctionType and is_user_file(found.__code__.co_filename)
            return found if mine else None
    return None


def method(s: Session, x: Any, name: str) -> Callable[..., Any] | None:
    """The user's special method of an object, converted, or None."""
    from stager.capture.resolve import convert_user
    from stager.capture.unseen import watching

    own = None if plain(x) else special(class_of(x), name)
    if own is None:
        return None
    converted = convert_user(own, s)
    return functools.partial(watching(own, s) if converted is own else converted, x)


def mirrored(s: Session, x: Any) -> Any:
    """A captured container as one of tracers, its items guarded; anything else as it is."""
    if hasattr(type(x), "__stager_optional__"):
        return x.needed()
    take_once(x)
    return s.mirror(x) if s.containers and isinstance(x, CONTAINERS) else x


def binary(name: str, left: Any, right: Any) -> Any:
    """`left op right`, where `__name__` is the operator's method."""
    s = _CURRENT.get()
    if s is not None and name == "mod" and type(left) is str:
        return texts.modulo(left, right)
    if s is None or (plain(left) and plain(right)):
        return BINARY[name](left, right)
    left, right = mirrored(s, left), mirrored(s, right)
    if name == "mul":
        if isinstance(left, _SEQUENCES):
            right = times(right)
        elif isinstance(right, _SEQUENCES):
            left = times(left)
    return operated(s, BINARY[name], (f"__{name}__", f"__r{name}__"), left, right)


_SEQUENCES = (list, tuple, str, bytes)


def times(x: Any) -> Any:
    """How often a sequence is repeated: a traced integer as the Python one that it is; anything else as it is."""
    if type(x) is Expr or (type(x) in TRACERS and not x.ndim and x.dtype.kind in "iu"):
        return x.__index__()
    return x


def operated(s: Session, op: Callable[[Any, Any], Any], names: tuple[str, str], left: Any, right: Any) -> Any:
    """An operator of two operands by Python's protocol, with the user's methods converted."""
    tries = [(left, names[0], right), (right, names[1], left)]
    if all(plain(x) or special(class_of(x), name) is None for x, name, _ in tries):
        return _unseen(s, op, left, right)
    if type(left) is type(right):
        del tries[1:]
    elif issubclass(type(right), type(left)):
        tries.reverse()
    for x, name, other in tries:
        f = method(s, x, name)
        if f is None:
            watched(s, x)
            watched(s, other)
            f = functools.partial(getattr(type(x), name, lambda x, y: NotImplemented), x)
        out = f(other)
        if out is not NotImplemented:
            return out
    return op(left, right)  # raises what Python raises


def _unseen(s: Session, op: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
    """An operator that reads its operands where no hook stands. Lists are joined without a look at their items."""
    from stager.capture.unseen import watch

    if op in _COMPARES or not isinstance(left, _SEQUENCES) or not isinstance(right, _SEQUENCES):
        watch(s, left, right)
    return op(left, right)


_COMPARES = frozenset({operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge})


def unary(name: str, x: Any) -> Any:
    """`-x`, `+x`, `~x`."""
    s = _CURRENT.get()
    f = None if s is None else method(s, x, f"__{name}__")
    return UNARY[name](x) if f is None else f()


def truth(x: Any) -> Any:
    """What decides where an object that is neither traced nor a number is a test."""
    s = _CURRENT.get()
    if s is None:
        return x
    if isinstance(x, CONTAINERS):
        s.look_at_shape(x)
        return x
    f = method(s, x, "__bool__")
    if f is not None:
        return f()
    if special(class_of(x), "__len__"):
        return length(x)
    if hasattr(x, "__len__") or hasattr(x, "__bool__"):
        watched(s, x)
    return x


def length(x: Any) -> Any:
    """`len(x)` of what is not traced."""
    s = _CURRENT.get()
    f = None if s is None else method(s, x, "__len__")
    return len(x) if f is None else f()


def iterated(s: Session, x: Any) -> Any:
    """What a loop or an unpacking runs over: a captured container's mirror, what the user's `__iter__` gives."""
    if plain(x):
        return x
    if isinstance(x, CONTAINERS):
        return mirrored(s, x)
    take_once(x)
    f = method(s, x, "__iter__")
    if f is not None:
        return f()
    at = method(s, x, "__getitem__")
    return watched(s, x) if at is None or hasattr(type(x), "__iter__") else _items(at)


def take_once(x: Any) -> None:
    """Before somebody runs over an iterator: in a traced branch or loop it must have been made there, and no loop may
    have left it where the data said."""
    s = _CURRENT.get()
    captured = s is not None and id(x) in s.origins
    asked = captured or REGIONS or (s is not None and s.left) or hasattr(type(x), "left")
    if not asked or not hasattr(type(x), "__next__"):
        return
    from stager.capture.touched import draw
    from stager.staged import refuse_change

    if s is not None and captured:
        draw(s, x)

    refuse_change(x, "running over an iterator that was made before, which ends once,")
    if getattr(x, "left", False) is True or (s is not None and any(x is left for left in s.left)):
        what = "a break or return under a traced condition has left this iterator: where it stands is not known"
        raise ControlFlowError(describe(what, remedy="make a new one, or loop over a list or array by index"))


def note_left(s: Session, iterator: Any) -> None:
    """A loop over an iterator, and over those that it takes from, may end before they do: data decide."""
    found = [iterator, *gc.get_referents(iterator)]
    found += [y for x in found if type(x) is tuple for y in x]
    s.left += [x for x in found if hasattr(type(x), "__next__")]


def watched(s: Session, x: Any) -> Any:
    """A value that code without hooks reads, as it is."""
    from stager.capture.unseen import watch

    if not plain(x):
        watch(s, x)
    return x


def _items(at: Callable[[int], Any]) -> Iterator[Any]:
    k = 0
    while True:
        try:
            item = at(k)
        except IndexError:
            return
        yield item
        k += 1


class Items:
    """An object of the user that is subscripted: `[k]` read, set and deleted by its converted methods."""

    __slots__ = ("_obj", "_session")

    def __init__(self, session: Session, obj: Any) -> None:
        self._session = session
        self._obj = obj

    def __getitem__(self, key: Any) -> Any:
        f = method(self._session, self._obj, "__getitem__")
        return self._obj[key] if f is None else f(key)

    def __setitem__(self, key: Any, value: Any) -> None:
        f = method(self._session, self._obj, "__setitem__")
        if f is None:
            self._obj[key] = value
        else:
            f(key, value)

    def __delitem__(self, key: Any) -> None:
        f = method(self._session, self._obj, "__delitem__")
        if f is None:
            del self._obj[key]
        else:
            f(key)


def subscripts(x: Any) -> bool:
    """Whether the class of an object is the user's and says what `[k]` does."""
    return not plain(x) and any(special(class_of(x), f"__{n}item__") is not None for n in ("get", "set", "del"))
