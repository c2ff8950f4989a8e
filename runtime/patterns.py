"""What an entry says about its arguments and its result, as small trees of records.

A *pattern* describes one object that must be met again for a compiled entry to fit, down to the leaves that become
inputs of the compiled function. A *source* is the path to an object that is not an argument (a captured array, a
global, an attribute). A *result* tells how the returned object is built. `runtime/entries.py` turns all three into the
tables that native code walks. Invariant: the records are immutable and say everything; nothing here looks at a live
argument.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# --- patterns


@dataclass(frozen=True, slots=True)
class Leaf:
    """Input number `input` of the compiled function.

    kind "array": exactly an ndarray as the ABI describes it. "float", "int", "bool": exactly that Python type, for an
    input of type f64[], i64[], b1[]. "scalar": the NumPy scalar of the input's dtype.
    """

    input: int
    kind: str = "array"


@dataclass(frozen=True, slots=True)
class Anything:
    """No demand: an argument that the function did not look at."""


@dataclass(frozen=True, slots=True)
class Is:
    """The very object: classes, functions, modules, None, enum members."""

    value: Any


@dataclass(frozen=True, slots=True)
class Equal:
    """The same type and the same value (floats by their bits)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Check:
    """`test(object)` is true; `text` says what it demands. An exception in it is a mismatch."""

    test: Callable[[Any], bool]
    text: str = "a check"


@dataclass(frozen=True, slots=True)
class TypeIs:
    """Exactly this type."""

    type: type


@dataclass(frozen=True, slots=True)
class Length:
    """`len(object)` is `count`."""

    count: int


@dataclass(frozen=True, slots=True)
class TupleOf:
    """Exactly a tuple (or the namedtuple class `type`) of these items."""

    items: tuple[Pattern, ...]
    type: type = tuple


@dataclass(frozen=True, slots=True)
class ListOf:
    """Exactly a list of these items."""

    items: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class DictOf:
    """Exactly a dict with these keys in this order: code that walks over a dict sees its order."""

    items: tuple[tuple[Any, Pattern], ...]


@dataclass(frozen=True, slots=True)
class Attributes:
    """Exactly an instance of `type` (any object when None) with these attributes."""

    type: type | None
    items: tuple[tuple[str, Pattern], ...]


@dataclass(frozen=True, slots=True)
class Opened:
    """Exactly an instance of `type`; what `open(object)` returns fits `content`."""

    type: type
    open: Callable[[Any], Any]
    content: Pattern


@dataclass(frozen=True, slots=True)
class AllOf:
    """Every one of these."""

    patterns: tuple[Pattern, ...]


Pattern = (
    Leaf | Anything | Is | Equal | Check | TypeIs | Length | TupleOf | ListOf | DictOf | Attributes | Opened | AllOf
)  # fmt: skip

# --- sources


@dataclass(frozen=True, slots=True)
class Parameter:
    """What the caller gave for parameter `index` (in signature order, without *args and **kwargs)."""

    index: int


@dataclass(frozen=True, slots=True)
class Constant:
    """An object that the entry holds."""

    value: Any


@dataclass(frozen=True, slots=True)
class Global:
    """`namespace[name]`, looked up in the dict itself."""

    namespace: dict[str, Any]
    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """The content of a closure cell."""

    cell: Any


@dataclass(frozen=True, slots=True)
class Attribute:
    """`of.name`."""

    of: Source
    name: str


@dataclass(frozen=True, slots=True)
class Item:
    """`of[key]`."""

    of: Source
    key: Any


Source = (
    Parameter | Constant | Global | Cell | Attribute | Item
)  # fmt: skip

# --- results


@dataclass(frozen=True, slots=True)
class Output:
    """Output number `index` of the compiled function."""

    index: int


@dataclass(frozen=True, slots=True)
class Passed:
    """An object that came in, itself."""

    source: Source


@dataclass(frozen=True, slots=True)
class Fixed:
    """This very object at every call."""

    value: Any


@dataclass(frozen=True, slots=True)
class MakeTuple:
    items: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class MakeList:
    items: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class MakeDict:
    items: tuple[tuple[Any, Result], ...]


@dataclass(frozen=True, slots=True)
class Invoke:
    """`function(*args, **dict(kwargs))`: namedtuples, dataclasses, registered containers."""

    function: Callable[..., Any]
    args: tuple[Result, ...] = ()
    kwargs: tuple[tuple[str, Result], ...] = ()


Result = (
    Output | Passed | Fixed | MakeTuple | MakeList | MakeDict | Invoke
)  # fmt: skip
