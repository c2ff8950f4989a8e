"""Lists of lists, of tuples and of dicts that loops fill: graphs of one size for any number of turns, the values that
Python gives, and Python's meaning where lists have several names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ControlFlowError
from tests.graphs import size_of

PROGRAMS: list[Callable[..., Any]] = []
MEANINGS: list[Callable[..., Any]] = []


def program(f: Callable[..., Any]) -> Callable[..., Any]:
    PROGRAMS.append(f)
    return f


def meaning(f: Callable[..., Any]) -> Callable[..., Any]:
    MEANINGS.append(f)
    return f


@program
def comprehension_of_lists(x: Any) -> Any:
    n = len(x)
    return [[x[i] * x[j] for j in range(n)] for i in range(n)]


@program
def array_of_three_levels(x: Any) -> Any:
    n = len(x)
    return np.array([[[a * b + k for k in range(6)] for b in x] for a in x]), n


@program
def rows_of_appends(x: Any) -> Any:
    rows = []
    for i in range(len(x)):
        row = []
        for j in range(len(x)):
            row.append(x[i] - x[j])
        rows.append(row)
    return np.array(rows), [sum(r) for r in rows], max(max(r) for r in rows)


@program
def points(x: Any) -> Any:
    pts = []
    for k, v in enumerate(x):
        pts.append((k, v, v * v))
    total = 0.0
    for k, a, b in pts:
        total += k * a - b
    return total, np.array(pts), pts


@program
def records(x: Any) -> Any:
    return [{"v": v, "w": [v, 2 * v]} for v in x]


@program
def pairs(x: Any) -> Any:
    n = len(x)
    flat = [x[i] * x[j] for i in range(n) for j in range(n)]
    upper = [x[i] * x[j] for i in range(n) for j in range(i + 1, n)]
    return np.array(flat).reshape(n, n), np.array(upper)


@program
def pairs_with_a_condition(x: Any) -> Any:
    n = len(x)
    apart = [x[i] - x[j] for i in range(n) for j in range(n) if i != j]
    return np.array(apart).reshape(n, n - 1), sum(abs(a - b) for a in x for b in x if a < b)


@program
def generators_of_pairs(x: Any) -> Any:
    n = len(x)
    far = max(abs(x[i] - x[j]) for i in range(n) for j in range(n))
    return far, any(a + b > 3 for a in x for b in x), sum(a * b for a in x for b in x)


@program
def extended(x: Any) -> Any:
    out = []
    for i in range(len(x)):
        out += [x[i] * j for j in range(7)]
        out.extend([x[i] + j for j in range(7)])
    return np.array(out)


@program
def grid_by_index(x: Any) -> Any:
    n = len(x)
    g = [[0.0] * (n + 1) for _ in range(n + 1)]
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            g[i][j] = max(g[i - 1][j], g[i][j - 1], g[-1][0]) + x[i - 1] * x[j - 1]
    return g[n][n], g[-1]


@program
def matrix_product(x: Any) -> Any:
    n = len(x)
    a = [[x[i] + j for j in range(n)] for i in range(n)]
    c = [[0.0] * n for _ in range(n)]
    for i in range(n):
        row = c[i]
        for j in range(n):
            for k in range(n):
                row[j] += a[i][k] * a[k][j]
    return c


@program
def longest_common(x: Any) -> Any:
    n = len(x)
    g = [[0] * (n + 1) for _ in range(n + 1)]
    for i in range(n):
        for j in range(n):
            if x[i] > x[n - 1 - j]:
                g[i + 1][j + 1] = g[i][j] + 1
            else:
                g[i + 1][j + 1] = max(g[i][j + 1], g[i + 1][j])
    return g[n][n]


def same(got: Any, want: Any) -> bool:
    if isinstance(want, dict):
        return type(got) is dict and list(got) == list(want) and all(same(got[k], want[k]) for k in want)
    if isinstance(want, list | tuple):
        return type(got) is type(want) and len(got) == len(want) and all(map(same, got, want))
    return np.result_type(got) == np.result_type(want) and np.shape(got) == np.shape(want) and np.allclose(got, want)


@pytest.mark.parametrize("f", PROGRAMS, ids=lambda f: f.__name__)
def test_graphs_have_one_size(f: Callable[..., Any]) -> None:
    small, large = (np.random.default_rng(0).standard_normal(n) for n in (10, 14))
    compiled = st.compile(f)
    assert size_of(compiled.graph(small)) == size_of(compiled.graph(large))
    want = f(small.copy())
    got = compiled(small)
    assert same(got, want), (got, want)


def test_gradients_have_one_size() -> None:
    def energy(x: Any) -> Any:
        n = len(x)
        d = [[(x[i] - x[j]) ** 2 for j in range(n)] for i in range(n)]
        return sum(d[i][j] / (1.0 + d[i][j]) for i in range(n) for j in range(i + 1, n))

    x = np.random.default_rng(1).standard_normal(8)
    graphs = [st.make_graph(st.grad(energy))(np.resize(x, n)) for n in (8, 12)]
    assert size_of(graphs[0]) == size_of(graphs[1])
    h = 1e-6
    numeric = [(energy(x + h * e) - energy(x - h * e)) / (2 * h) for e in np.eye(8)]
    np.testing.assert_allclose(st.grad(energy)(x), numeric, rtol=1e-6, atol=1e-8)


# -- lists with several names ------------------------------------------------------------------------------------------


@meaning
def one_row_appended_again_and_again(x: Any) -> Any:
    row, rows = [0.0] * 6, []
    for v in x:
        row[0] = v
        rows.append(row)
    return np.array(rows)


@meaning
def the_last_row_changes_in_the_next_turn(x: Any) -> Any:
    rows, before = [], [0.0] * 6
    for v in x:
        before[0] = before[0] + 1.0
        row = [v * j for j in range(6)]
        rows.append(row)
        before = row
    return np.array(rows)


@meaning
def the_last_row_is_read_in_the_next_turn(x: Any) -> Any:
    rows, before = [], [0.0] * 6
    for v in x:
        row = [before[j] + v * j for j in range(6)]
        rows.append(row)
        before = row
    before[0] = 9.0
    return np.array(rows)


@meaning
def two_names_for_one_list(x: Any) -> Any:
    a = b = [x[0] * j for j in range(6)]
    for v in x:
        a[0] = a[0] + v
        b[1] = b[1] + a[0]
        a = [w + 1 for w in a]
        b = a
    return np.array(a), np.array(b)


@meaning
def one_row_in_two_places(x: Any) -> Any:
    rows = []
    for v in x:
        row = [v * j for j in range(6)]
        rows.append(row)
        rows.append(row)
    rows[0][0] = 77.0
    return np.array(rows)


@meaning
def rows_that_are_one_list(x: Any) -> Any:
    n = len(x)
    g = [[0.0] * n] * n
    for i in range(n):
        g[i][i] = x[i]
    return np.array(g)


@meaning
def the_row_that_a_loop_leaves(x: Any) -> Any:
    rows = []
    for v in x:
        row = [v * j for j in range(6)]
        rows.append(row)
    row[1] = 3.5
    return np.array(rows), np.array(row)


@meaning
def rows_walked_and_written(x: Any) -> Any:
    rows, s = [[v * j for j in range(7)] for v in x], 0.0
    for r in rows:
        r[0] = s
        s = s + r[1]
    return np.array(rows)


@meaning
def a_row_put_in_another_place(x: Any) -> Any:
    n = len(x)
    g = [[0.0] * n for _ in range(n)]
    for i in range(1, n):
        g[i] = g[i - 1]
        g[i][i] = x[i]
    return np.array(g)


@meaning
def rows_that_change_places(x: Any) -> Any:
    a = [[v + j for j in range(6)] for v in x]
    for i in range(len(x) - 1):
        if x[i] > x[i + 1]:
            a[i], a[i + 1] = a[i + 1], a[i]
    return np.array(a)


@meaning
def elements_that_change_places(x: Any) -> Any:
    n = len(x)
    a = [[x[i] + j for j in range(n)] for i in range(n)]
    for i in range(n):
        for j in range(i + 1, n):
            a[i][j], a[j][i] = a[j][i], a[i][j]
    return np.array(a)


@meaning
def records_read_and_changed(x: Any) -> Any:
    out, s = [{"v": v, "w": [v, 2 * v]} for v in x], 0.0
    for r in out:
        s += r["w"][1]
    out[0]["v"] = 7.0
    for r in out:
        r["w"][0] = s
    return out, s


@meaning
def rows_chosen_by_value(x: Any) -> Any:
    rows = [[v, 2 * v] for v in x]
    return [r for r in rows if r[0] > 0], rows


@meaning
def another_list_of_the_same_rows(x: Any) -> Any:
    n = len(x)
    g = [[0.0] * n for _ in range(n)]
    old = list(g)
    for i in range(n):
        g[i][0] = x[i]
    return np.array(old)


@pytest.mark.parametrize("f", MEANINGS, ids=lambda f: f.__name__)
def test_lists_with_several_names(f: Callable[..., Any]) -> None:
    x = np.random.default_rng(2).standard_normal(6)
    want = f(x.copy())
    got = st.compile(f)(x)
    assert same(got, want), (got, want)


def test_results_keep_their_structure() -> None:
    def rows(x: Any) -> Any:
        return [[a * b for b in x] for a in x]

    x = np.arange(6.0)
    out, pull = st.vjp(rows, x)
    assert same(out, rows(x))
    np.testing.assert_allclose(pull([[1.0] * 6] * 6)[0], 2 * np.sum(x) * np.ones(6))
    assert [len(r) for r in st.eval_shape(rows, x)] == [6] * 6


def test_what_would_be_lost_is_refused() -> None:
    def changed_in_the_next_turn(x: Any) -> Any:
        rows, before = [], [0.0, 0.0]
        for v in x:
            before[0] = before[0] + 1.0
            row = [v, v]
            if v > 0:
                rows.append(row)
            before = row
        return rows

    def changed_afterwards(x: Any) -> Any:
        rows = [[v, 2 * v] for v in x]
        chosen = [r for r in rows if r[0] > 0]
        rows[0][0] = 5.0
        return chosen

    for f in (changed_in_the_next_turn, changed_afterwards):
        with pytest.raises(ControlFlowError):
            st.compile(f)(np.ones(6))


def test_places_that_are_not_there() -> None:
    def beyond(x: Any) -> Any:
        n = len(x)
        g = [[0.0] * n for _ in range(n)]
        for i in range(n):
            g[i][i + 1] = x[0]
        return g

    with pytest.raises(IndexError, match="list assignment index out of range"):
        st.compile(beyond)(np.ones(6))


def test_a_list_that_a_branch_gives_another_name_does_not_change() -> None:
    """In Python both names would see it; a traced branch makes a list of its own."""

    def reads(c: Any, v: Any) -> Any:
        path, b = [v, 2.0 * v], [0.0, 0.0]
        if c > 0:
            b = path
        s = b[0] + b[1] + path[0]
        del b
        path.append(s)  # nobody holds the other one any more
        return path[2]

    def older_changes(c: Any, v: Any) -> Any:
        path, b = [v, 2.0 * v], [0.0, 0.0]
        if c > 0:
            b = path
        path[0] = 10.0 * v
        return b[0]

    def newer_changes(c: Any, v: Any) -> Any:
        path, b = [v, 2.0 * v], [0.0, 0.0]
        if c > 0:
            b = path
        b.append(v)
        return len(path)

    for c in (1.0, -1.0):
        assert st.compile(reads)(c, 2.0) == reads(c, 2.0)
    for f in (older_changes, newer_changes):
        with pytest.raises(st.errors.MutationError, match="another name on one side of a traced condition"):
            st.compile(f)(1.0, 2.0)
