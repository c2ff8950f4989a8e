"""Containers that are older than the trace: what is done to them once must not look as if every call had done it."""

from __future__ import annotations

import dataclasses
import functools
import heapq
import itertools
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import EscapedTracerError, MutationError, UnsupportedError

X = np.arange(1.0, 3.0)


class Model:
    def __init__(self) -> None:
        self.log: list[Any] = []
        self.stack: list[Any] = []
        self.seen: set[int] = set()
        self.cache: dict[str, Any] = {}
        self.heap = [1, 2]
        self.ticks = itertools.count()


@dataclasses.dataclass
class State:
    w: Any
    n: int = 0


def kept(m: Model, x: Any) -> Any:
    m.log.append(x.sum())
    return x


def kept_by_key(m: Model, x: Any) -> Any:
    m.cache["x"] = x * 2
    return x


def kept_by_default(m: Model, x: Any) -> Any:
    return m.cache.setdefault("x", x * 2)


@pytest.mark.parametrize("f", [kept, kept_by_key])
def test_traced_values_that_stay_in_containers(f: Any) -> None:
    m = Model()
    np.testing.assert_array_equal(st.compile(lambda x: f(m, x))(X), X)
    with pytest.raises(EscapedTracerError):
        [*m.log, *m.cache.values()][0] + 1


def counted(m: Model, x: Any) -> Any:
    m.log.append(1)
    return x * len(m.log)


def counted_before(m: Model, x: Any) -> Any:
    y = x * len(m.log)
    m.log += [1]
    return y


def taken(m: Model, x: Any) -> Any:
    return x * m.heap.pop()


def noted(m: Model, x: Any) -> Any:
    m.seen.add(1)
    return x * len(m.seen)


@pytest.mark.parametrize("f", [counted, counted_before, taken, noted, kept_by_default])
def test_what_code_reads_does_not_change_once(f: Any) -> None:
    m = Model()
    with pytest.raises(UnsupportedError, match=r"reads m\..* which would happen once, while tracing") as caught:
        st.compile(lambda x: f(m, x))(X)
    assert f"in {f.__name__}" in str(caught.value)
    assert m.cache == {}
    if f is kept_by_default:
        return
    m, other = Model(), Model()
    plain = st.functionalize(lambda x: f(m, x))  # runs at every call
    for _ in range(2):
        np.testing.assert_array_equal(plain(X), f(other, X))
    assert (m.log, m.heap, m.seen) == (other.log, other.heap, other.seen)


def test_functions_of_libraries_change_mirrors() -> None:
    m = Model()

    def f(x: Any) -> Any:
        heapq.heappush(m.heap, 0)
        return x * m.heap[0]

    with pytest.raises(UnsupportedError, match=r"code that is not traced changes m\.heap, a captured list"):
        st.compile(f)(X)


def test_iterators_from_outside_give_items_once() -> None:
    m = Model()
    with pytest.raises(UnsupportedError, match=r"takes items from m\.ticks, a count that is older"):
        st.compile(lambda x: x * next(m.ticks))(X)
    plain = st.functionalize(lambda x: x * next(m.ticks))
    assert plain(X)[0] + 1 == plain(X)[0]


def test_what_comes_and_goes_is_no_change() -> None:
    m = Model()
    m.stack.append(5)

    def f(x: Any) -> Any:
        m.stack.append(x * 2)
        m.stack.append(3)
        n = len(m.stack)
        return m.stack.pop() * m.stack.pop() * n + m.stack[0]

    g = st.compile(f)
    for _ in range(2):
        np.testing.assert_array_equal(g(X), X * 18 + 5)
    m.stack[0] = 6
    np.testing.assert_array_equal(g(X), X * 18 + 6)
    m.stack.append(7)
    np.testing.assert_array_equal(g(X), f(X))


def test_a_note_that_nothing_reads() -> None:
    m = Model()

    def f(x: Any) -> Any:
        m.log.append("traced")
        m.cache["k"] = 3
        return x * m.cache["k"]

    g = st.compile(f)
    np.testing.assert_array_equal(g(X), g(X))
    assert (m.log, m.cache) == (["traced"], {"k": 3})


# -- arguments --------------------------------------------------------------------------------------------------------


def appends(p: Any, x: Any) -> Any:
    p["l"].append(x)
    return x


def rebinds(p: Any, x: Any) -> Any:
    p["w"] = p["w"] - x
    return x


def adds(p: Any, x: Any) -> Any:
    p["new"] = x
    return x


def drops(p: Any, x: Any) -> Any:
    return p.pop("w") * x


def sets(p: Any, x: Any) -> Any:
    p["s"].w = x
    return x


def counts(p: Any, x: Any) -> Any:
    p["s"].n += 1
    return x


def params() -> dict[str, Any]:
    return {"w": np.ones(2), "l": [np.ones(2)], "s": State(np.ones(2))}


@pytest.mark.parametrize("f", [appends, rebinds, adds, drops, sets, counts])
@pytest.mark.parametrize("way", [st.compile, st.functionalize, lambda f: st.vmap(f, in_dims=(None, 0))])
def test_changes_of_arguments_that_would_be_lost(f: Any, way: Any) -> None:
    p = params()
    with pytest.raises(MutationError, match=r"is changed, in an argument: .* would stay as it is") as caught:
        way(f)(p, X)
    assert f"in {f.__name__}" in str(caught.value)
    np.testing.assert_array_equal(p["w"], 1.0)


def test_changes_that_come_back() -> None:
    def step(p: Any, x: Any) -> Any:
        p["w"] = p["w"] - x
        p["l"].append(x)
        p["s"].n += 1
        return p

    for f in (st.compile(step), st.functionalize(step)):
        got, want = f(params(), X), step(params(), X)
        np.testing.assert_array_equal(got["w"], want["w"])
        assert (len(got["l"]), got["s"].n) == (2, 1)

    def loss(w: Any, state: Any) -> Any:
        state["n"] = state["n"] + w.sum()
        return (w * w).sum(), state

    grad, aux = st.compile(st.grad(loss, has_aux=True))(X, {"n": 1.0})
    np.testing.assert_array_equal(grad, 2 * X)
    assert aux["n"] == 4.0


def test_writes_into_arrays_of_arguments_reach_the_caller() -> None:
    p = params()

    def f(p: Any, x: Any) -> Any:
        p["w"] -= x
        own = dict(p)
        own["w"] = x
        return own["w"] * 2

    np.testing.assert_array_equal(st.compile(f)(p, X), X * 2)
    np.testing.assert_array_equal(p["w"], 1 - X)


# -- decorators -------------------------------------------------------------------------------------------------------


def test_decorators_inside_of_functions_are_converted() -> None:
    def counting(f: Any) -> Any:
        calls: list[int] = []

        @functools.wraps(f)
        def g(*args: Any, **kwargs: Any) -> Any:
            calls.append(1)
            return f(*args, **kwargs) * len(calls)

        return g

    def f(x: Any) -> Any:
        @counting
        def h(v: Any, s: Any = 2) -> Any:
            return v * s if v.sum() > 0 else v

        return h(x) + h(x, s=3) + h(v=x)

    np.testing.assert_array_equal(st.compile(f)(X), f(X))
