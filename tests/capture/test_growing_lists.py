"""Loops that append to a list: staged, with the rows of what they carry as the list's items."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError
from stager.ir.graph import Graph
from tests.capture.test_staged import assert_same, evaluated

X = np.linspace(-1.0, 1.0, 5)
A = np.random.default_rng(0).standard_normal((20, 5))
TURNS = 20


def nodes(graph: Graph) -> int:
    return len(graph) + sum(nodes(r) for n in graph.nodes for r in n.regions)


def step(x: Any) -> Any:
    return np.tanh(x * 1.1 + 0.1)


# -- what stages: f(x, n), with as many nodes for any n ------------------------------------------------------------

STAGED: list[Callable[..., Any]] = []


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    STAGED.append(f)
    return f


def trajectory(x: Any, n: int) -> list[Any]:
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    return out


@staged
def stack(x, n):
    return np.stack(trajectory(x, n))


@staged
def stack_last_axis(x, n):
    return np.stack(trajectory(x, n), axis=-1)


@staged
def array(x, n):
    return np.array(trajectory(x, n))


@staged
def array_of_a_dtype(x, n):
    return np.array(trajectory(x, n), dtype=np.float32)


@staged
def asarray(x, n):
    return np.asarray(trajectory(x, n))


@staged
def concatenate(x, n):
    return np.concatenate(trajectory(x, n))


@staged
def concatenate_inner_axis(x, n):
    return np.concatenate([*trajectory(np.outer(x, x[:2]), n)], axis=1)


@staged
def vstack(x, n):
    return np.vstack(trajectory(x, n))


@staged
def hstack(x, n):
    return np.hstack(trajectory(x, n)), np.hstack(trajectory(x[0], n))


@staged
def column_stack(x, n):
    return np.column_stack(trajectory(x, n))


@staged
def sums(x, n):
    return sum(trajectory(x, n)), sum(trajectory(x, n), x)


@staged
def mean(x, n):
    return np.mean(trajectory(x, n), axis=0)


@staged
def items(x, n):
    out = trajectory(x, n)
    return out[-1], out[2], len(out), out[-2] + out[0]


@staged
def parts(x, n):
    out = trajectory(x, n)
    return np.stack(out[1:]), np.stack(out[::-1]), np.stack(out[::2])


@staged
def first_before(x, n):
    out = [x]
    for _ in range(n):
        x = step(x)
        out.append(x)
    return np.stack(out), np.array(out)


@staged
def before_the_step(x, n):
    out = []
    for _ in range(n):
        out.append(x)
        x = step(x)
    return np.stack(out), x


@staged
def numbers(x, n):
    losses = []
    for _ in range(n):
        x = step(x)
        losses.append(np.sum(x * x))
    return np.array(losses), losses[-1]


@staged
def python_floats(x, n):
    losses = []
    for _ in range(n):
        x = step(x)
        losses.append(float(np.sum(x * x)))
    return np.array(losses)


@staged
def two_lists(x, n):
    xs, vs = [], []
    v = np.zeros_like(x)
    for t in range(n):
        v = 0.9 * v - 0.1 * x
        x = x + v * t
        xs.append(x)
        vs.append(v[:2])
    return np.stack(xs), np.stack(vs), x, v


@staged
def twice_a_turn(x, n):
    out = []
    for _ in range(n):
        out.append(x)
        x = step(x)
        out.append(x * 2)
    return np.stack(out), out[1], out[-1]


@staged
def inner_short_loop(x, n):
    out = []
    for _ in range(n):
        for k in range(3):
            x = step(x)
            out.append(x * k)
    return np.stack(out)


@staged
def pairs(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append((x, x[0] * 2))
    return out[3], out[-1]


@staged
def iteration_ahead(x, n):
    out = []
    y = None
    for _ in range(n):
        y = x * 2 if y is None else y + x
        out.append(y)
    return np.stack(out)


@staged
def one_list_of_two_loops(x, n):
    out = trajectory(x, n)
    for _ in range(n):
        x = x - step(x)
        out.append(x)
    return np.stack(out)


@staged
def backwards(x, n):
    out = []
    for t in range(n - 1, -1, -1):
        x = x * 0.9 + t
        out.append(x)
    out.reverse()
    return np.array(out)


@staged
def steps_of_two(x, n):
    out = []
    for t in range(3, 3 + 2 * n, 2):
        x = step(x) + t
        out.append(x)
    return np.array(out)


@staged
def copies(x, n):
    x = x.copy()
    out = []
    for _ in range(n):
        x *= 0.9
        out.append(x.copy())
    return np.stack(out), x


@staged
def written_before_the_turn_ends(x, n):
    out = []
    for _ in range(n):
        y = step(x)
        out.append(y)
        y *= 2
        x = x + 0.1
    return np.stack(out)


@staged
def two_names(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    also = out
    also.append(x * 2)
    return np.stack(out), len(also)


@staged
def the_last_is_written(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    x *= 2
    out[0] += 1
    return np.stack(out), x


@staged
def the_last_but_one_is_written(x, n):
    out = []
    old = x
    for _ in range(n):
        old = x
        x = step(x)
        out.append(x)
    old += 3
    out[-1][0] = 7
    return np.stack(out), x, old


@staged
def one_array_in_two_lists(x, n):
    a, b = [], []
    for _ in range(n):
        x = step(x)
        a.append(x)
        b.append(x)
    a[2] += 1
    return np.stack(a), np.stack(b)


@staged
def numbers_are_bound_anew(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x.sum())
    y = out[-1]
    y += 1
    z = out[2]
    for k in range(n):
        z += x[0] * k
    return np.stack(out), y, z


@staged
def a_list_of_the_turn(x, n):
    out = []
    for _ in range(n):
        row = []
        for k in range(7):
            row.append(x[0] * k)
        x = x + np.stack(row)[:5]
        out.append(x)
    return np.stack(out)


@staged
def known_condition(x, n, keep=True):
    out = []
    for _ in range(n):
        x = step(x)
        if keep:
            out.append(x)
    return np.stack(out)


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_staged(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(lambda x, n=n: f(x, n))(X) for n in (50, 90)]
    assert nodes(graphs[0]) == nodes(graphs[1])
    assert_same(evaluated(lambda x: f(x, TURNS), X.copy())[0], f(X.copy(), TURNS))
    assert_same(st.compile(lambda x: f(x, TURNS))(X.copy()), f(X.copy(), TURNS))


# -- what has to mean the same, staged or not ------------------------------------------------------------------------

MEANINGS: list[Callable[..., Any]] = []


def meaning(f: Callable[..., Any]) -> Callable[..., Any]:
    MEANINGS.append(f)
    return f


@meaning
def written_in_the_next_turn(x, n):
    x = x.copy()
    out = []
    for _ in range(n):
        out.append(x)
        x *= 0.9
    return np.stack(out)


@meaning
def written_after_it_was_bound_in_the_turn(x, n):
    out = []
    for _ in range(n):
        x *= 2
        x = step(x)
        out.append(x)
    return np.stack(out), x


@meaning
def written_under_an_older_name(x, n):
    out = []
    old = x
    for _ in range(n):
        old += 1
        old = x
        x = step(x)
        out.append(x)
    return np.stack(out), x, old


@meaning
def swapped_and_written(x, n):
    a, b = x.copy(), x * 2
    out = []
    for _ in range(n):
        a += b
        a, b = b, a
        out.append(a)
    return np.stack(out), a, b


@meaning
def views_of_an_older_array(x, n):
    grid = np.zeros((n, 5))
    out = []
    for t in range(n):
        grid[t] = x * t
        out.append(grid[t])
    grid += 1
    return np.stack(out)


@meaning
def a_view_of_what_is_bound(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x[1:3])
    return np.stack(out), x


@meaning
def new_and_old_together(x, n):
    out = []
    for _ in range(n):
        y = step(x)
        out.append((x, y))
        x = y
    return np.stack([a for a, _ in out]), np.stack([b for _, b in out]), x


@meaning
def read_in_the_loop(x, n):
    out = [x]
    for _ in range(n):
        out.append(step(out[-1]))
    return np.stack(out)


@meaning
def length_in_the_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x) * len(out)
        out.append(x)
    return np.stack(out)


@meaning
def read_under_another_name(x, n):
    out = []
    also = out
    for _ in range(n):
        x = step(x) + len(also)
        out.append(x)
    return np.stack(also)


@meaning
def read_through_a_container(x, n):
    out = []
    held = {"out": out}
    for _ in range(n):
        x = step(x) + len(held["out"])
        out.append(x)
    return np.stack(out)


@meaning
def read_by_a_function(x, n):
    out = []

    def count():
        return len(out)

    for _ in range(n):
        x = step(x) + count()
        out.append(x)
    return np.stack(out)


@meaning
def appended_by_a_function(x, n):
    out = []

    def keep(v):
        out.append(v)

    for _ in range(n):
        x = step(x)
        keep(x)
    return np.stack(out)


@meaning
def kept_in_the_loop(x, n):
    out = []
    also = None
    for _ in range(n):
        x = step(x)
        out.append(x)
        also = out
    also.append(x * 2)
    return np.stack(out), np.stack(also)


@meaning
def kept_in_an_object(x, n):
    held = {}
    out = []
    for _ in range(n):
        x = step(x)
        held["out"] = out
        out.append(x)
    return np.stack(held["out"])


@meaning
def asked_in_the_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        if not out:
            x = x + 5
        if out is None or not isinstance(out, list):
            x = x + 9
        out.append(x)
    return np.stack(out)


@meaning
def asked_for_its_kind(x, n):
    out = []
    for _ in range(n):
        x = step(x) if isinstance(out, list) and type(out) is list and out is not None else x + 9
        out.append(x)
        x = x + 1 if type(out) is list else x
    return np.stack(out)


@meaning
def a_bound_method(x, n):
    out = []
    push = out.append
    for _ in range(n):
        x = step(x)
        push(x)
    return np.stack(out)


@meaning
def under_a_condition(x, n):
    out = []
    for t in range(n):
        x = step(x)
        if t % 3 == 0:
            out.append(x)
    return np.stack(out)


@meaning
def left_early(x, n):
    out = []
    for t in range(n):
        if t == 7:
            break
        x = step(x)
        out.append(x)
    return np.stack(out)


@meaning
def with_an_else(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    else:
        out.append(x * 2)
    return np.stack(out)


@meaning
def growing_shapes(x, n):
    x = np.concatenate([x] * 8)
    out = []
    for t in range(n):
        out.append(x[:t].sum())
        out.append(x[:t] * 2)
    return out[0], out[7], out[-1]


@meaning
def changed_otherwise(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
        if len(out) > 3:
            out.pop(0)
    return np.stack(out)


@meaning
def indices(x, n):
    out, at = [], []
    for t in range(n):
        x = step(x)
        out.append(x)
        at.append(t)
    return np.stack([out[k] for k in at[::2]]), range(at[3])[-1]


@meaning
def constants(x, n):
    out = []
    for t in range(n):
        x = step(x)
        out.append(0.5)
    return [v * 2 if v > 0.3 else x for v in out]


@meaning
def flat_nested_loops(x, n):
    out = []
    for _ in range(n):
        for k in range(6):
            x = step(x)
            out.append(x * k)
    return np.stack(out)


@meaning
def rows_read_by_a_loop(x, n):
    total = np.zeros(5)
    for y in trajectory(x, n):
        total = total * 0.5 + y
    for k, y in enumerate(trajectory(x, n)):
        total = total + k * y
    return total


@meaning
def changed_while_it_is_read(x, n):
    out = trajectory(x, n)
    total = x
    for k, y in enumerate(out):
        total = total + y
        if k + 1 < len(out):
            if n > 3:
                out[k + 1] = out[k + 1] + y
    return np.stack(out), total


@meaning
def returned_as_a_list(x, n):
    out, sums = [], []
    for _ in range(n):
        x = step(x)
        out.append(x)
        sums.append(x.sum())
    return out, sums


@meaning
def nested_lists(x, n):
    rows = []
    for _ in range(n):
        row = []
        for k in range(6):
            row.append(x[0] * k)
        x = step(x)
        rows.append(row)
    return np.array(rows), rows[3][2]


@meaning
def a_mixed_list(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    out.insert(3, x * 2)
    out[5] = x
    del out[0]
    return np.stack(out), np.concatenate(out), np.vstack(out)


@meaning
def rows_written_by_a_loop(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    for y in out:
        y *= 2
    return np.stack(out), x


@meaning
def the_first_is_an_argument(x, n):
    out = []
    y = x
    for _ in range(n):
        out.append(y)
        y = step(y)
    return np.stack(out), x * 2


@meaning
def a_dtype_that_changes(x, n):
    out = []
    y = 0
    for _ in range(n):
        out.append(y)
        y = y + x[0]
    return np.array(out)


@meaning
def swallowed(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        try:
            out.append(x)
        except Exception:
            pass
    return np.stack(out)


@meaning
def a_refusal_that_is_swallowed(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        try:
            out.append(x)
            y = out[-1]
        except Exception:
            y = x * 0
        x = x + y
    return np.stack(out)


@meaning
def a_second_loop_writes_the_last(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    for k in range(n):
        x += k
    return np.stack(out), x


@meaning
def a_second_loop_grows_it_and_writes(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append(x)
    y = x
    for _ in range(n):
        x = x * 0.5
        out.append(x)
        y[0] += 1
    return np.stack(out), x, y


@meaning
def written_behind_the_append(x, n):
    out = []
    y = np.zeros(5)
    for t in range(n):
        y = y * 1
        out.append(y)
        y[:] = t
        w = y
    w[0] = 100
    return np.stack(out), y, w


@meaning
def one_list_under_two_names(x, n):
    a = []
    b = a
    for _ in range(n):
        x = step(x)
        a.append(x)
        b.append(x * 2)
    return np.stack(a), len(b)


@meaning
def dicts(x, n):
    out = []
    for _ in range(n):
        x = step(x)
        out.append({"x": x, "sum": np.sum(x)})
    return [o["sum"] for o in out], out[2]["x"]


@meaning
def other_dtypes(x, n):
    out, signs = [], []
    for t in range(n):
        y = x.astype(np.float32) * t
        out.append(y)
        signs.append(y > 0)
        x = x + 0.1
    return np.array(out), np.array(signs), sum(signs), np.any(signs)


@pytest.mark.parametrize("f", MEANINGS, ids=lambda f: f.__name__)
def test_meaning(f: Callable[..., Any]) -> None:
    for n in (8, 12):
        given, expected = X.copy(), X.copy()
        want = f(expected, n)
        assert_same(st.compile(lambda x, n=n: f(x, n))(given), want)
        np.testing.assert_array_equal(given, expected)


@pytest.mark.parametrize("f", STAGED, ids=lambda f: f.__name__)
def test_the_number_of_turns_is_an_argument(f: Callable[..., Any]) -> None:
    graphs = [st.make_graph(f)(X, n) for n in (50, 90)]
    assert nodes(graphs[0]) == nodes(graphs[1])
    g = st.compile(f)
    for n in (8, 11):
        assert_same(g(X.copy(), n), f(X.copy(), n))


def test_results_are_new_arrays() -> None:
    def f(x):
        out = trajectory(x, TURNS)
        a, b = np.stack(out), np.array(out)
        a += 1
        return a, b, out[0]

    a, b, first = st.compile(f)(X)
    want = np.stack(trajectory(X, TURNS))
    np.testing.assert_allclose(a, want + 1)
    np.testing.assert_allclose(b, want)
    np.testing.assert_allclose(first, want[0])


def test_writes_that_may_reach_two_rows_are_refused() -> None:
    def f(x):
        out = []
        for _ in range(TURNS):
            y = step(x)
            out.append((x, y))
            x = y
        out[3][0][0] = 1.0
        return out[2][1]

    with pytest.raises(MutationError):
        st.compile(f)(X)


# -- over arrays, and transformed ------------------------------------------------------------------------------------


def over_an_array(xs, w):
    h = np.zeros(5)
    out = []
    for x in xs:
        h = np.tanh(w * h + x)
        out.append(h)
    return np.stack(out)


def over_pairs(xs, w):
    out = []
    for k, (x, y) in enumerate(zip(xs, xs[::-1], strict=True)):
        out.append(x * w - y * k)
    return np.array(out)


def normalised(xs, w):
    out = []
    for x in xs:
        out.append(x / np.sqrt(np.sum(x * x) + w @ w))
    return np.vstack(out)


@pytest.mark.parametrize("f", [over_an_array, over_pairs, normalised])
def test_transforms(f: Callable[..., Any]) -> None:
    want = f(A, X)
    assert_same(st.compile(f)(A, X), want)
    assert_same(st.functionalize(f)(A, X), want)
    graphs = [st.make_graph(st.grad(lambda a, x: np.sum(f(a, x) ** 2)))(np.ones((n, 5)), X) for n in (50, 90)]
    assert nodes(graphs[0]) == nodes(graphs[1])
    batch = np.stack([A, A * 2, A - 1])
    mapped = np.stack([f(a, X) for a in batch])
    for transform in (lambda g: g, st.compile):
        assert_same(transform(st.vmap(f, in_dims=(0, None)))(batch, X), mapped)
        loss = transform(lambda a, x: np.sum(f(a, x) ** 2))
        d, v = A[::-1].copy(), X * X
        _, tangent = transform(lambda: st.jvp(f, (A, X), (d, v)))()
        e = 1e-6
        np.testing.assert_allclose(
            tangent, (f(A + e * d, X + e * v) - f(A - e * d, X - e * v)) / (2 * e), rtol=1e-6, atol=1e-8
        )
        da, dx = transform(st.grad(lambda a, x: np.sum(f(a, x) ** 2), argnums=(0, 1)))(A, X)
        np.testing.assert_allclose(
            np.sum(da * d) + np.sum(dx * v),
            (loss(A + e * d, X + e * v) - loss(A - e * d, X - e * v)) / (2 * e),
            rtol=1e-6,
        )
        per_lane = transform(st.vmap(st.grad(lambda a: np.sum(f(a, X) ** 2))))(batch)
        for k in range(3):
            np.testing.assert_allclose(per_lane[k], st.grad(lambda a: np.sum(f(a, X) ** 2))(batch[k]), rtol=1e-10)


def test_sizes_of_arguments() -> None:
    f = st.compile(over_an_array, dynamic=True)
    for n in (6, 9, 20):
        assert_same(f(A[:n], X), over_an_array(A[:n], X))


def test_sizes_of_rows() -> None:
    def f(x):
        out = []
        for _ in range(TURNS):
            x = step(x)
            out.append(x)
        return np.stack(out)

    g = st.compile(f, dynamic=True)
    for n in (2, 5, 9):
        assert_same(g(np.linspace(0, 1, n)), f(np.linspace(0, 1, n)))


def test_a_loop_too_long_to_unroll() -> None:
    def f(x):
        out = []
        for t in range(100_000):
            out.append(x[t % 5] * t)
        return np.array(out)

    assert_same(st.compile(f)(X), f(X))
