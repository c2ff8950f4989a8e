"""Python containers and objects that loops change: once per iteration, however the loop runs."""

from __future__ import annotations

import heapq
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError


def a_queue(x: Any) -> Any:
    queue, total, out = deque(), 0.0, np.zeros(len(x))
    for i in range(len(x)):
        queue.append(x[i])
        total += x[i]
        if len(queue) > 2:
            total -= queue.popleft()
        out[i] = total / len(queue)
    return out


def a_counter(x: Any) -> Any:
    c = Counter()
    for i in range(len(x)):
        c["a"] += x[i]
    return c["a"]


def a_default_dict(x: Any) -> Any:
    c = defaultdict(float)
    for i in range(len(x)):
        c[i % 2] += x[i]
    return c[0] * c[1]


def a_list_by_augmented_assignment(x: Any) -> Any:
    items: list[Any] = []
    for i in range(len(x)):
        items += [x[i]]
    return sum(items) * len(items)


def a_window(x: Any) -> Any:
    items = [x[0], x[1], x[2]]
    for i in range(3, len(x)):
        del items[0]
        items.append(x[i])
    return sum(items)


def a_slice_of_a_list(x: Any) -> Any:
    items = [x[0], x[1], x[2]]
    for i in range(3, len(x)):
        items[1:] = [items[2], x[i]]
    return sum(items)


def a_set(x: Any) -> Any:
    seen: set[int] = set()
    total = 0.0
    for i in range(len(x)):
        seen |= {i % 3}
        total += x[i] * len(seen)
    return total


def a_stack(x: Any) -> Any:
    todo, total = [0], 0.0
    while todo:
        k = todo.pop()
        total = 0.5 * total + x[k]
        todo += [c for c in (2 * k + 1, 2 * k + 2) if c < len(x)]
    return total


def an_array_of_the_library(x: Any) -> Any:
    a, total = array("d", [0.0]), 0.0
    for i in range(len(x)):
        a.append(1.0)
        total += len(a) * x[i]
    return total


class Holder:
    def __init__(self) -> None:
        self.items: list[Any] = []
        self.count = 0


def an_object(x: Any) -> Any:
    h = Holder()
    for i in range(len(x)):
        h.items += [x[i] * i]
        h.count += 1
    return sum(h.items) * h.count


def a_tuple_that_grows_beside_writes(x: Any) -> Any:
    """The first iterations run ahead of a loop that then cannot be staged: what they wrote is written once."""
    seen, a, h = (), np.zeros(2), Holder()
    for i in range(len(x)):
        seen = (*seen, x[i])
        a[0] += x[i]
        h.count += 1
    return len(seen), a[0], h.count


PROGRAMS = [
    a_queue, a_counter, a_default_dict, a_list_by_augmented_assignment, a_window, a_slice_of_a_list, a_set, a_stack,
    an_array_of_the_library, an_object, a_tuple_that_grows_beside_writes,
]  # fmt: skip
X = np.random.default_rng(0).uniform(0.2, 1.5, 9)


@pytest.mark.parametrize("dynamic", [None, True])
@pytest.mark.parametrize("f", PROGRAMS)
def test_changes_happen_once_per_iteration(f: Callable[[Any], Any], dynamic: bool | None) -> None:
    compiled = st.compile(f, dynamic=dynamic)
    for _ in range(2):
        for got, want in zip(np.atleast_1d(compiled(X)), np.atleast_1d(f(X)), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-13)


def test_what_would_change_where_only_the_run_knows_is_refused() -> None:
    def queue(x: Any) -> Any:
        q = deque([0.0], maxlen=3)
        for i in range(len(x)):
            if x[i] > 0.7:
                q.append(x[i])
        return sum(q)

    def added(x: Any) -> Any:
        items = [0.0]
        for i in range(len(x)):
            if x[i] > 0.7:
                items += [x[i]]
        return sum(items)

    def heap(x: Any) -> Any:
        items: list[int] = []
        for i in range(len(x)):
            if x[i] > 0.7:
                heapq.heappush(items, i)
        return x[items[0]]

    def table(x: Any) -> Any:
        seen = {0.0}
        for i in range(len(x)):
            if x[i] > 0.7:
                seen.add(i)
        return x * len(seen)

    for f, text in ((table, "set.add"), (heap, "heappush")):
        with pytest.raises(ControlFlowError, match=f"{text} inside a traced branch or loop would happen once"):
            st.compile(f)(X)
    for f in (added, queue):
        assert st.compile(f)(X) == f(X)

    def added_behind(x: Any) -> Any:
        held = ([0.0],)
        items = held[0]
        for i in range(len(x)):
            if x[i] > 0.7:
                items += [x[i]]
        return sum(held[0])

    with pytest.raises(ControlFlowError, match=r"'items'|changing a list"):
        st.compile(added_behind)(X)
