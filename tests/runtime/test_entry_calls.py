"""Entries that look at how a call was made: by position or keyword, and whether two of its objects are one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stager.runtime.entries import EntrySpec
from stager.runtime.function import add_entry
from stager.runtime.patterns import Anything, Cell, Leaf, SameInput
from tests.runtime.native import dense, make
from tests.runtime.test_entry_match import matcher, weigher


def two(a: Any, b: Any = 5) -> Any:
    return "miss"


def test_arguments_by_position_are_counted() -> None:
    one = matcher((Anything(), Anything()), positional=1)
    f, slow = make(two, one)
    assert f(1) == f(1, b=2) == f(1, b=5) == "hit"
    assert f(1, 2) == f(a=1, b=2) == f(b=2, a=1) == "miss"
    assert slow.count == 3
    g, _ = make(two, matcher((Anything(), Anything()), positional=2))
    assert g(1, 2) == "hit"  # the direct way, with no keyword to bind
    assert g(1) == g(1, b=2) == "miss"
    h, _ = make(lambda *rest, **more: "miss", matcher((), varargs=(Anything(),) * 3, positional=3))
    assert h(1, 2, 3) == "hit"


def test_one_object_by_two_names() -> None:
    x, y = np.array(1.0), np.array(2.0)
    held = x

    def cell() -> Any:
        return held

    where = Cell(cell.__closure__[0])  # type: ignore[index]
    same = EntrySpec(parameters=(Leaf(0),), hidden=((where, SameInput(0)),), **weigher((dense("f64[]"),)))
    f, _ = make(lambda a: "miss", same)
    assert f(x) == 1.0
    assert f(y) == f(x.copy()) == "miss"
    held = y
    assert f(y) == 2.0
    assert f(x) == "miss"
    with pytest.raises(ValueError, match="cannot be input 1"):
        add_entry(f, replace(same, hidden=((where, SameInput(1)),)))
