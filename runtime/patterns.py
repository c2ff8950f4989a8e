"""What an entry says about its arguments and its result, as small trees of records.

A *pattern* describes one object that must be met again for a compiled entry to fit, down to the leaves that become
inputs of the compiled function. A *source* is the path to an object that is not an argument (a captured array, a
global, an attribute). A *result* tells how the returned object is built. `runtime/entries.py` turns all three into the
tables that native code walks. Invariant: the records are immutable and say everything; nothing here looks at a live
argument.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True)
class Record:
    """An immutable record of its annotated fields: what `dataclass` makes, at a hundredth of its import time."""

    __match_args__: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls.__match_args__ = tuple(cls.__annotations__)  # type: ignore[misc]  # mypy takes it for a fact of the class

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self.__match_args__
        values = dict(zip(names, args, strict=False)) | kwargs
        missing = [n for n in names if n not in values and not hasattr(type(self), n)]
        if missing or len(values) != len(args) + len(kwargs) or not values.keys() <= set(names):
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names)}")
        self.__dict__.update(values)

    def _values(self) -> tuple[Any, ...]:
        return tuple([getattr(self, n) for n in self.__match_args__])

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._values() == other._values()

    def __hash__(self) -> int:
        return hash((type(self), self._values()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._values()))})"


# --- patterns


class Leaf(Record):
    """Input number `input` of the compiled function.

    kind "array": exactly an ndarray as the ABI describes it. "float", "int", "bool": exactly that Python type, for an
    input of type f64[], i64[], b1[]. "scalar": the NumPy scalar of the input's dtype.
    """

    input: int
    kind: str = "array"


class Anything(Record):
    """No demand: an argument that the function did not look at."""


class Is(Record):
    """The very object: classes, functions, modules, None, enum members."""

    value: Any


class SameInput(Record):
    """The very object that input number `input` is: an array that code knows by two names."""

    input: int


class Equal(Record):
    """The same type and the same value (floats by their bits)."""

    value: Any


class Check(Record):
    """`test(object)` is true; `text` says what it demands. An exception in it is a mismatch."""

    test: Callable[[Any], bool]
    text: str = "a check"


class TypeIs(Record):
    """Exactly this type."""

    type: type


class Length(Record):
    """`len(object)` is `count`."""

    count: int


class TupleOf(Record):
    """Exactly a tuple (or the namedtuple class `type`) of these items."""

    items: tuple[Pattern, ...]
    type: type = tuple


class ListOf(Record):
    """Exactly a list of these items."""

    items: tuple[Pattern, ...]


class DictOf(Record):
    """Exactly a dict with these keys in this order: code that walks over a dict sees its order."""

    items: tuple[tuple[Any, Pattern], ...]


class Attributes(Record):
    """Exactly an instance of `type` (any object when None) with these attributes."""

    type: type | None
    items: tuple[tuple[str, Pattern], ...]


class Opened(Record):
    """Exactly an instance of `type`; what `open(object)` returns fits `content`."""

    type: type
    open: Callable[[Any], Any]
    content: Pattern


class AllOf(Record):
    """Every one of these."""

    patterns: tuple[Pattern, ...]


Pattern = (
    Leaf | Anything | Is | SameInput | Equal | Check | TypeIs | Length | TupleOf | ListOf | DictOf | Attributes | Opened
    | AllOf
)  # fmt: skip

# --- sources


class Parameter(Record):
    """What the caller gave for parameter `index` (in signature order, without *args and **kwargs)."""

    index: int


class Constant(Record):
    """An object that the entry holds."""

    value: Any


class Global(Record):
    """`namespace[name]`, looked up in the dict itself."""

    namespace: dict[str, Any]
    name: str


class Cell(Record):
    """The content of a closure cell."""

    cell: Any


class Attribute(Record):
    """`of.name`."""

    of: Source
    name: str


class Item(Record):
    """`of[key]`."""

    of: Source
    key: Any


Source = (
    Parameter | Constant | Global | Cell | Attribute | Item
)  # fmt: skip

# --- results


class Output(Record):
    """Output number `index` of the compiled function."""

    index: int


class Passed(Record):
    """An object that came in, itself."""

    source: Source


class Fixed(Record):
    """This very object at every call."""

    value: Any


class MakeTuple(Record):
    items: tuple[Result, ...]


class MakeList(Record):
    items: tuple[Result, ...]


class MakeDict(Record):
    items: tuple[tuple[Any, Result], ...]


class Invoke(Record):
    """`function(*args, **dict(kwargs))`: namedtuples, dataclasses, registered containers."""

    function: Callable[..., Any]
    args: tuple[Result, ...] = ()
    kwargs: tuple[tuple[str, Result], ...] = ()


Result = (
    Output | Passed | Fixed | MakeTuple | MakeList | MakeDict | Invoke
)  # fmt: skip
