"""Counts of references, in every version of Python: one holder more is seen, and one that is not there is not."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from stager.array import Array
from stager.capture.references import CLOSED, ITEM_GIVEN, LOCAL, LOCAL_GIVEN
from stager.capture.sharing import alone, holds_alone, is_held_by, owns_arrays
from stager.cells import Cell
from stager.ir.dtypes import f64
from stager.ir.types import Type

# an assert keeps what it shows, so that none holds a count or what is counted


def test_lists() -> None:
    items: list[Any] = [[], [[]]]
    seen = [alone(items, 1 + LOCAL_GIVEN), holds_alone(items)]
    another = items[1][0]
    seen.append(not holds_alone(items))
    del another
    holder = [items]
    seen += [alone(holder[0], 2 + ITEM_GIVEN), not alone(holder[0], 1 + ITEM_GIVEN)]
    assert all(seen), seen


def test_arrays() -> None:
    def array() -> Array:
        t = Type(f64, (3,))
        return Array(Cell(SimpleNamespace(type=t), None), (), t, False)

    items = [array(), array()]
    seen = [owns_arrays(items)]
    name = items[1]
    seen.append(not owns_arrays(items))
    del name
    cell = items[0].cell
    seen += [not owns_arrays(items), is_held_by(cell, 2 + LOCAL_GIVEN), not is_held_by(cell, 1 + LOCAL_GIVEN)]
    assert all(seen), seen


def test_variables() -> None:
    x = object()
    seen = [sys.getrefcount(x) - LOCAL]
    held = SimpleNamespace(x=x)
    seen += [sys.getrefcount(x) - LOCAL, sys.getrefcount(held.x)]
    assert seen == [1, 2, 3]


def test_closed_generators() -> None:
    def running(x: Any) -> Any:
        yield x

    args = (object(),)
    generator = running(*args)
    generator.close()
    seen = sys.getrefcount(args[0])
    assert seen == 2 + CLOSED
