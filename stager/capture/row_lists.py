"""`RowList`: a list whose length only the run knows, as its rows in arrays.

A loop or branch leaves one where what it appended depends on the data (`buffers.py`). It can be joined (`np.stack`,
`np.array`, …), measured, indexed, sliced, added up, walked by a loop, appended to, and returned: the caller gets a
list.
What needs to know its length while tracing is an error that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from stager.array import Array, as_array, wrap
from stager.capture.iterables import Indexed
from stager.capture.session import current
from stager.errors import ControlFlowError, describe
from stager.ir.dims import Expr
from stager.ir.dtypes import dtype_of
from stager.ir.types import Type
from stager.numpy.rows import Run
from stager.ops import structural, views
from stager.runtime.structure import Structure, flatten, register_container, unflatten
from stager.staged import as_raw, refuse_change


class RowList(Indexed):
    """Item k is `structure` around row k of each of the arrays."""

    __slots__ = ("arrays", "length", "structure", "weak")

    def __init__(self, structure: Structure, arrays: Sequence[Array], weak: Sequence[bool], length: Any) -> None:
        self.structure = structure
        self.arrays = list(arrays)
        self.weak = tuple(weak)
        self.length = length
        s = current()
        if s is not None:
            s.row_lists = True

    def at(self, k: Any) -> Any:
        arrays: list[Any] = self.arrays
        rows = [x[k] for x in arrays]
        return unflatten(
            self.structure, [Array(r.cell, r.path, r.type, w) for r, w in zip(rows, self.weak, strict=True)]
        )

    def joined(self) -> Any:
        """All items as one array."""
        if len(self.arrays) == 1 and self.structure.leaves == 1 and self.structure.kind == "leaf":
            return self.arrays[0]
        columns: list[Any] = self.arrays
        if self.structure.kind not in ("list", "tuple") or any(c.kind != "leaf" for c in self.structure.children):
            unknown("joining items that are no arrays")
        return np.stack(columns, axis=1)

    def check_filled(self, error: Exception) -> None:
        """Raise, when the code runs, where there is no item."""
        from stager.capture.branches import as_bool, check

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
            arrays: list[Any] = self.arrays
            cut = [x[k] for x in arrays]
            return RowList(self.structure, cut, self.weak, cut[0].shape[0])
        return self.at(k)

    def __iter__(self) -> Any:
        if isinstance(self.length, Expr):
            unknown("running through it")
        return super().__iter__()

    def __setitem__(self, k: Any, value: Any) -> None:
        leaves, structure = flatten(value)
        if structure != self.structure or isinstance(k, slice):
            unknown("setting items of another kind")
        for x, leaf in zip(self.arrays, leaves, strict=True):
            target: Any = x
            target[k] = leaf

    def append(self, value: Any) -> None:
        self.extend([value])

    def extend(self, values: Any) -> None:
        from stager.capture.growing import appends

        appends(self)
        refuse_change(self, "list.append")
        for value in values:
            leaves, structure = flatten(value)
            if structure != self.structure or any(
                as_array(leaf).type.shape != x.type.shape[1:] for leaf, x in zip(leaves, self.arrays, strict=True)
            ):
                unknown("appending an item of another kind")
            self.arrays = [_with_row(x, leaf) for x, leaf in zip(self.arrays, leaves, strict=True)]
            self.length = self.length + 1

    def __iadd__(self, values: Any) -> RowList:
        self.extend(values)
        return self

    def copy(self) -> RowList:
        return RowList(self.structure, self.arrays, self.weak, self.length)

    def __stager_tested__(self) -> Any:
        """What decides where the list is a test."""
        return self.length

    def __str__(self) -> str:  # noqa: PLE0307
        unknown("printing it")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        unknown(f"list.{name}")


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


def _flatten(x: RowList) -> tuple[Sequence[Any], Any]:
    return x.arrays, (x.structure, x.weak)


def _unflatten(aux: Any, arrays: Sequence[Any]) -> Any:
    structure, weak = aux
    if all(type(a) is Array for a in arrays):
        return RowList(structure, arrays, weak, arrays[0].type.shape[0])
    if not all(isinstance(a, np.ndarray) for a in arrays):  # types, dims, positions in a result
        return unflatten(structure, list(arrays))
    python: list[Any] = [list(a) if not w else a.tolist() for a, w in zip(arrays, weak, strict=True)]
    return [unflatten(structure, row) for row in zip(*python, strict=True)]


register_container(RowList, _flatten, _unflatten)
