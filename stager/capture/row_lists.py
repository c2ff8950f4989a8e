"""`RowList`: a list whose length only the run knows, as its rows in arrays.

A loop or branch leaves one where what it appended depends on the data (`buffers.py`). It can be joined (`np.stack`,
`np.array`, …), measured, indexed, sliced, added up, walked by a loop, appended to, and returned: the caller gets a
list.
What needs to know its length while tracing is an error that says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.bounds import lower, upper
from stager.capture.iterables import Indexed
from stager.capture.session import current
from stager.capture.sharing import changeable_in, freeze
from stager.errors import ControlFlowError, describe
from stager.ir.dims import Expr
from stager.ir.dtypes import dtype_of
from stager.ir.types import Type
from stager.numpy.rows import Run
from stager.ops import structural, views
from stager.ops.regions import known_dim
from stager.runtime.structure import Structure, flatten, rebuild_one, register_container, unflatten
from stager.staged import as_raw, decline, refuse_change

READ = "a write into an item of a list whose length is decided by the data, which is read as a copy"


class RowList(Indexed):
    """Item k is `structure` around row k of each of the arrays."""

    __slots__ = (
        "arrays", "home", "kind", "length", "limit", "outdated", "parted", "seen", "structure", "weak",
    )  # fmt: skip
    __stager_item__ = True

    def __init__(
        self, structure: Structure, arrays: Sequence[Array], weak: Sequence[bool], length: Any, home: Any = None,
        kind: type = list, limit: int | None = None,
    ) -> None:  # fmt: skip
        """`kind`: list or deque, and the `maxlen` of the latter."""
        self.kind = kind
        self.limit = limit
        self.structure = structure
        self.home = home  # what this is an item of: a list, which is not seen to change, or a buffer, which is
        self.parted = False  # whether it was an item of a buffer, and shows what it was when that place got another one
        self.outdated = False  # whether what it was may have changed since
        self.arrays = list(arrays)
        self.weak = tuple(weak)
        self.length = length
        s = current()
        self.seen = 0 if s is None else s.changes
        if s is not None:
            s.row_lists = True

    def at(self, k: Any) -> Any:
        self._look()
        if type(self.length) is int:
            k = position(k, self.length, "list index out of range")
        arrays: list[Any] = self.arrays
        rows = [x[k] for x in arrays]
        for x, row in zip(arrays, rows, strict=True):
            if row.cell is not x.cell:
                row.cell.read_only = READ
        item = unflatten(
            self.structure, [Array(r.cell, r.path, r.type, w) for r, w in zip(rows, self.weak, strict=True)]
        )
        return item if self.structure.kind == "leaf" else bound(item, self if self.home is None else self.home)

    def is_changeable(self) -> bool:
        """Whether there are dicts or short lists in an item, which users change in place."""
        return _changeable(self.structure)

    def joined(self) -> Any:
        """All items as one array."""
        self._look()
        return _joined(self.structure, iter(self.arrays), 1)

    def check_filled(self, error: Exception) -> None:
        """Raise, when the code runs, where there is no item."""
        from stager.capture.branches import as_bool
        from stager.capture.raising import check

        n: Any = self.length
        if type(n) is int:
            if n == 0:
                raise error
            return
        from stager.symbols import number

        count: Any = number(n)
        check(as_bool(count > 0), error)

    def __getitem__(self, k: Any) -> Any:
        if isinstance(k, slice):
            if self.kind is deque:
                raise TypeError("sequence index must be integer, not 'slice'")
            self._look()
            arrays: list[Any] = self.arrays
            cut = [x[k] for x in arrays]
            found = RowList(self.structure, cut, self.weak, cut[0].shape[0])
            return found if self.home is None else found.copy()
        return self.at(k)

    def __iter__(self) -> Any:
        if isinstance(self.length, Expr):
            unknown("running through it")
        return super().__iter__()

    def __setitem__(self, k: Any, value: Any) -> None:
        if self.home is not None and not hasattr(self.home, "take_part"):
            self._refuse("setting items of a list")
        leaves, structure = flatten(value)
        if structure != self.structure or isinstance(k, slice):
            unknown("setting items of another kind")
        if type(self.length) is int:
            k = position(k, self.length, "list assignment index out of range")
        if self.home is not None:
            self.home.take_part(self, leaves)
        for x, leaf in zip(self.arrays, leaves, strict=True):
            target: Any = x
            target[k] = leaf

    def append(self, value: Any) -> None:
        self.extend([value])

    def extend(self, values: Any) -> None:
        from stager.capture.growing import appends

        if self.home is not None:
            self._refuse("list.append")
        appends(self)
        refuse_change(self, "list.append")
        if self.limit is not None:
            unknown("deque.append")
        for value in values:
            leaves, structure = flatten(value)
            if structure != self.structure or any(
                as_array(leaf).type.shape != x.type.shape[1:] for leaf, x in zip(leaves, self.arrays, strict=True)
            ):
                unknown("appending an item of another kind")
            self.arrays = [_with_row(x, leaf) for x, leaf in zip(self.arrays, leaves, strict=True)]
            self.length = self.length + 1

    def pop(self, *k: Any) -> Any:
        if k not in ((), (-1,), (0,)) or (k and self.kind is deque):
            unknown("list.pop")
        return self._take(0 if k == (0,) else -1)

    def popleft(self) -> Any:
        if self.kind is not deque:
            raise AttributeError("'list' object has no attribute 'popleft'")
        return self._take(0)

    def _take(self, k: int) -> Any:
        from stager.capture.growing import appends

        if self.home is not None:
            self._refuse("list.pop")
        appends(self)
        refuse_change(self, f"{self.kind.__name__}.pop")
        self.check_filled(IndexError(f"pop from an empty {self.kind.__name__}"))
        leaves, structure = flatten(self.at(k))
        item = unflatten(structure, [x.copy() if x.ndim else x for x in leaves])
        arrays: list[Any] = self.arrays
        self.arrays = [x[1:] if k == 0 else x[:-1] for x in arrays]
        self.length = self.arrays[0].type.shape[0]
        return item

    def __iadd__(self, values: Any) -> RowList:
        self.extend(values)
        return self

    def copy(self) -> Any:
        if type(self.length) is int and self.kind is list:
            return self.plain()
        return RowList(self.structure, self.arrays, self.weak, self.length, None, self.kind, self.limit)

    def plain(self) -> list[Any]:
        """The items now, in a plain list. The length is known."""
        from stager.capture.packing import listed_rows

        self._look()
        arrays: list[Any] = self.arrays
        return listed_rows(RowList(self.structure, [x.copy() for x in arrays], self.weak, self.length))

    def _known(self, what: str) -> list[Any]:
        if type(self.length) is not int or self.kind is deque:
            unknown(what)
        return self.plain()

    def __add__(self, other: Any) -> Any:
        return self._known("adding a list to it") + (other.plain() if type(other) is RowList else other)

    def __radd__(self, other: Any) -> Any:
        return other + self._known("adding it to a list")

    def __mul__(self, n: Any) -> Any:
        return self._known("repeating it") * n

    __rmul__ = __mul__

    def __eq__(self, other: object) -> Any:
        return self is other or self._known("comparing it") == (other.plain() if type(other) is RowList else other)

    __hash__ = None  # type: ignore[assignment]

    def part(self) -> None:
        """The place that it shows is about to get another item."""
        if not self.parted:
            arrays: list[Any] = self.arrays
            self.arrays = [x.copy() for x in arrays]
            self.parted = True

    def _look(self) -> None:
        """Declines to read an item that a plain list may have changed since."""
        s = current()
        if self.outdated:
            decline("reading an item of a list that has changed since")
        if self.home is not None and s is not None and s.changes != self.seen and not hasattr(self.home, "take_part"):
            decline("reading an item that a traced index picked, after lists were changed,")

    def _refuse(self, what: str) -> NoReturn:
        """A change that the list which this is an item of would have to see."""
        from stager.capture.owners import need_buffer

        need_buffer(self.home)
        decline(f"{what} that is an item of another one, which a traced index picked,")

    def listed(self) -> RowList:
        """`list(self)`."""
        return RowList(self.structure, self.arrays, self.weak, self.length)

    def __stager_tested__(self) -> Any:
        """What decides where the list is a test."""
        return self.length

    def __str__(self) -> str:  # noqa: PLE0307
        unknown("printing it")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ("index", "count") and type(self.length) is int:
            return getattr(self.plain(), name)
        if self.home is None:
            return unknown(f"list.{name}")
        return self._refuse(f"list.{name}")


def _changeable(s: Structure) -> bool:
    inner: Any = s.keys
    return s.kind in ("list", "dict") or any(map(_changeable, (inner,) if s.cls is RowList else s.children))


def _joined(structure: Structure, arrays: Iterator[Any], depth: int) -> Any:
    """Items of a structure, side by side; they stand behind so many axes."""
    if structure.kind == "leaf":
        return next(arrays)
    if structure.cls is RowList:
        inner: Any = structure.keys
        return _joined(inner, arrays, depth + 1)
    if structure.kind not in ("list", "tuple"):
        unknown("joining items that are no arrays")
    return np.stack([_joined(c, arrays, depth) for c in structure.children], axis=depth)


def position(k: Any, n: int, text: str) -> Any:
    """A place in a list of n items. IndexError, when the code runs where only that knows, if there is none such."""
    if type(k) is int:
        if not -n <= k < n:
            raise IndexError(text)
        return k
    from stager.capture.branches import as_bool, wrapped_where
    from stager.capture.raising import check

    k = as_array(k)
    if k.ndim or k.dtype.kind not in "iu":
        raise TypeError("list indices must be integers or slices, not " + ("ndarray" if k.ndim else f"{k.dtype}"))
    d = known_dim(k.raw())
    least, most = (None, None) if d is None else (lower(d), upper(d))
    if least is not None and most is not None and least >= 0 and most < n:
        return k
    place: Any = wrapped_where(k < 0, k + n, k)
    check(as_bool((place >= 0) & (place < n)), IndexError(text))
    return Array(place.cell, place.path, place.type, True)


def bound(item: Any, home: Any) -> Any:
    """An item that was made of its arrays, with the lists and dicts in it bound to where they come from."""
    if type(item) is RowList:
        item.home = home
        return item
    for c in changeable_in(item):
        if type(c) is RowList:
            c.home = home
        else:
            freeze(c)
    return item


def _flatten(x: RowList) -> tuple[Sequence[Any], Any]:
    structure = x.structure if x.kind is list else Structure("registered", x.kind, x.limit, (x.structure,))
    return [Array(a.cell, a.path, a.type, w) for a, w in zip(x.arrays, x.weak, strict=True)], structure


def _unflatten(structure: Any, arrays: Sequence[Any]) -> Any:
    kind: Any = list
    limit = None
    if structure.cls is deque:
        kind, limit, (structure,) = structure.cls, structure.keys, structure.children
    if all(type(a) is Array for a in arrays):
        return RowList(structure, arrays, [a.weak for a in arrays], arrays[0].type.shape[0], None, kind, limit)
    if not all(isinstance(a, np.ndarray) for a in arrays):  # types, dims, positions in a result
        return unflatten(structure, list(arrays))
    items = [unflatten(structure, row) for row in zip(*arrays, strict=True)]
    return items if kind is list else deque(items, limit)


register_container(RowList, _flatten, _unflatten)


ROWS: list[type] = [RowList]  # and what stands for one while its loop is traced; `buffers.py` adds it
_JOINING = frozenset({"stack", "concatenate", "vstack", "hstack", "dstack", "column_stack"})


def with_rows(f: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A NumPy function of lists among which there may be such a one."""
    given = [*args, *kwargs.values()]
    if not any(type(a) in ROWS for a in given):
        return call(*args, **kwargs)
    if f.__name__ in _JOINING and args and type(args[0]) in ROWS:
        from stager.numpy.registry import FUNCTIONS

        first, *others = args
        text = f"need at least one array to {'stack' if f.__name__ == 'stack' else 'concatenate'}"
        return FUNCTIONS[f](_run_of(rows_in(first), text), *others, **kwargs)
    joined = [rows_in(a).joined() if type(a) in ROWS else a for a in given]
    return call(*joined[: len(args)], **dict(zip(kwargs, joined[len(args) :], strict=True)))


def _run_of(x: RowList, text: str) -> Run:
    block = x.joined()
    x.check_filled(ValueError(text))
    row = Type(block.type.dtype, block.type.shape[1:])
    return Run(block, Array(block.cell, block.path, row, x.weak[0]))


def rows_in(x: Any) -> Any:
    """A list of so many rows, where a loop that appends to it is traced, as it is now."""
    return x if type(x) is RowList else x.rows()


def _with_row(x: Array, leaf: Any) -> Array:
    """x with a row behind its last."""
    row = as_array(leaf)
    t = np.result_type(x.dtype, row.dtype if not row.weak else x.dtype)
    d = dtype_of(t)
    one = views.reshape(as_raw(row, d), shape=(1, *row.type.shape))
    return wrap(structural.concatenate(as_raw(x, d), one, axis=0))


def unknown(what: str) -> NoReturn:
    """A use that needs the length."""
    raise ControlFlowError(
        describe(
            f"{what}: the list's length is decided by the data, and is not known while tracing",
            remedy="make an array of it with np.array or np.stack, and use that",
        )
    )


class Delivered:
    """A `RowList` as a result of what is traced: it comes back as a list, with Python numbers where these are weak."""

    def __init__(self, rows: RowList) -> None:
        self.rows = rows


def _deliver(x: Delivered) -> tuple[Sequence[Any], Any]:
    return x.rows.arrays, (x.rows.structure, x.rows.weak, x.rows.kind, x.rows.limit)


def _delivered(aux: Any, arrays: Sequence[Any]) -> Any:
    structure, weak, kind, limit = aux
    if not all(isinstance(a, np.ndarray) for a in arrays):  # types, dims, positions in a result
        return unflatten(structure, list(arrays))
    items = listed(structure, [(a, w) for a, w in zip(arrays, weak, strict=True)])
    return items if kind is list else deque(items, limit)


def listed(structure: Structure, columns: Sequence[tuple[Any, bool]]) -> list[Any]:
    """The items, of ndarrays."""
    if structure.kind == "leaf":
        (a, weak), = columns
        return list(a) if not weak or a.ndim > 1 else a.tolist()
    rows = zip(*[a if a.ndim > 1 or not w else a.tolist() for a, w in columns], strict=True)
    weak_of = [w for _, w in columns]
    return [_item_of(structure, iter(list(zip(row, weak_of, strict=True)))) for row in rows]


def _item_of(s: Structure, leaves: Iterator[tuple[Any, bool]]) -> Any:
    if s.kind == "leaf":
        return next(leaves)[0]
    if s.cls is RowList:
        inner: Any = s.keys
        return listed(inner, [next(leaves) for _ in range(s.leaves)])
    return rebuild_one(s, *[_item_of(c, leaves) for c in s.children])


register_container(Delivered, _deliver, _delivered)
