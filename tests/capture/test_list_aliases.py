"""Arrays that stand in a list and under a name, or twice in a list: staged loops show what Python would, or refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError

X = np.array([0.3, 0.7, 1.1])
N = 12


def set_and_written(x: Any) -> Any:
    """What is set is written afterwards, under its name."""
    out = [x * i for i in range(N)]
    for i in range(N):
        y = x + 1
        out[i] = y
        y[0] = 9.0
    return np.array(out)


def set_twice(x: Any) -> Any:
    out = [x * i for i in range(N)]
    total = 0.0
    y = x * 2
    for i in range(N):
        out[i] = y
        out[i] += 1
        total = total + y[0]
    return np.array(out) + total


def last_is_written(x: Any) -> Any:
    out = []
    for i in range(N):
        y = x * i
        out.append(y)
        out[-1][0] = 7.0
        x = x + y
    return np.array(out)


def read_and_written(x: Any) -> Any:
    out = [x]
    for _ in range(N):
        y = out[-1]
        y[0] = y[0] + 1
        out.append(y * 2)
    return np.array(out)


def added_in_place(x: Any) -> Any:
    """An item has a name, and is added to."""
    out = [x * i for i in range(N)]
    y = out[3]
    for i in range(1, N):
        out[i] += out[i - 1]
    return np.array(out) + y


def own_items(x: Any) -> Any:
    """Nothing else holds what is set: it can be written afterwards."""
    out = [x * 0 for i in range(N)]
    for i in range(N):
        out[i] = x * i + 1
    out[3][0] = 5
    out[4] += 5
    return np.array(out)


def rows_change_places(x: Any) -> Any:
    """The items are rows of an array, and stay so wherever they stand."""
    a = np.outer(np.arange(6.0), x)
    rows = list(a)
    for i in range(5):
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
        rows[i] += i
    return np.array([a, np.array(rows)])


def rows_move_up(x: Any) -> Any:
    a = np.outer(np.arange(6.0), x)
    rows = list(a)
    for i in range(5):
        rows[i] = rows[i + 1]
        rows[i] *= 2
    return np.array([a, np.array(rows)])


@pytest.mark.parametrize(
    "f",
    [
        set_and_written, set_twice, last_is_written, read_and_written, added_in_place, own_items, rows_change_places,
        rows_move_up,
    ],
)  # fmt: skip
def test_as_python(f: Callable[[Any], Any]) -> None:
    np.testing.assert_allclose(st.compile(f)(X.copy()), f(X.copy()), rtol=1e-14)


def many_places(x: Any) -> Any:
    out = [x * i for i in range(N)]
    y = x * 2
    for i in range(1, N):
        out[i] = y
    y[1] = 33.0
    return np.array(out)


def many_places_by_item(x: Any) -> Any:
    out = [x * i for i in range(N)]
    y = x * 2
    for i in range(1, N):
        out[i] = y
    out[3][1] = 33.0
    return np.array(out) + y


def older_name(x: Any) -> Any:
    out = [x * i for i in range(N)]
    y = out[3]
    for i in range(0, N, 2):
        out[i] = x - i
    y[0] = 5
    return np.array(out) + y


def last_name(x: Any) -> Any:
    out = [x * i for i in range(N)]
    for i in range(N):
        y = x * i + 1
        out[i] = y
    y[0] = 5
    return np.array(out)


def last_of_unknown_length(x: Any) -> Any:
    out = []
    for i in range(N):
        if x[0] > 0 or i == 0:
            out.append(x * i)
        out[-1][0] = 7.0
    return np.array(out)


def item_of_unknown_length(x: Any) -> Any:
    out = []
    for i in range(N):
        if x[0] > 0:
            out.append(x * i)
    out[3][0] = 5
    return np.array(out)


def rows_changed_places(x: Any) -> Any:
    a = np.outer(np.arange(6.0), x)
    rows = list(a)
    for i in range(5):
        rows[i], rows[i + 1] = rows[i + 1], rows[i]
    rows[0] += 100.0
    return a


def moved_up(x: Any) -> Any:
    rows = [x * k for k in range(6)]
    for i in range(5):
        rows[i] = rows[i + 1]
    rows[4] += 100.0  # the last one too
    return np.array(rows)


@pytest.mark.parametrize(
    "f",
    [
        many_places, many_places_by_item, older_name, last_name, last_of_unknown_length, item_of_unknown_length,
        rows_changed_places, moved_up,
    ],
)  # fmt: skip
def test_refused(f: Callable[[Any], Any]) -> None:
    with pytest.raises(MutationError):
        st.compile(f)(X.copy())
