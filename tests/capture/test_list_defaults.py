"""Lists whose length only the run knows as tests (`items or [x]`, `if not items`), and numbers as operands of `or`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError

X = np.array([0.3, 0.7, 1.1])


def above(x: Any, least: Any) -> Any:
    out = []
    for i in range(12):
        if x[0] * i > least:
            out.append(x * i)
    return out


def defaults(x: Any, least: Any) -> Any:
    found = np.stack(above(x, least) or [x])
    rows = above(x, least)
    if not rows:
        rows = [x + 1, x + 2]
    other = above(x, least)
    if not other:
        other.append(x)
    cut = above(x, least)
    if len(cut) < 5:
        cut = []
    return np.sum(found), np.stack(rows)[-1], rows[-1], np.stack(other)[0], len(cut)


def pairs(x: Any, least: Any) -> Any:
    out = []
    for i in range(12):
        if x[0] * i > least:
            out.append((x * i, i))
    if not out:
        out = [(x, 7)]
    return sum([a for a, b in out]), sum([b for a, b in out])


def numbers(x: Any, least: Any) -> Any:
    """What `or` and `and` give, not its truth."""
    a = x[0] or (x[1] > least)
    b = x[0] * 0 or (x[1] > least)
    c = x[0] and (x[1] > least)
    found = above(x, least)
    d = 1.0 if found and x[1] > least else 2.0
    return a, b * 1.0, c * 1.0, d


def everything(x: Any, least: Any) -> Any:
    return [*defaults(x, least), *pairs(x, least), *numbers(x, least)]


def test_as_python() -> None:
    f = st.compile(everything)
    for least in (0.5, 2.9, 100.0):
        for got, want in zip(f(X, least), everything(X, least), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-14)


def test_a_list_that_is_returned() -> None:
    def f(x: Any, least: Any) -> Any:
        return above(x, least) or [x, x]

    compiled = st.compile(f)
    for least in (0.5, 100.0):
        got, want = compiled(X, least), f(X, least)
        assert type(got) is list
        assert len(got) == len(want)
        np.testing.assert_allclose(np.stack(got), np.stack(want), rtol=1e-14)


def test_what_stands_in_for_none_is_not_changed() -> None:
    def f(x: Any, least: Any) -> Any:
        y = x * 2
        out = above(x, least) or [y]
        out[0][0] = 5.0
        return y

    with pytest.raises(MutationError):
        st.compile(f)(X, 100.0)
