"""Reads that the end of a loop repeats: gradients are the same with and without them, and tapes hold the rest only."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ops import tapes
from stager.pipeline import generate, optimize


def recurrence(x: Any) -> Any:
    y = x.copy()
    for i in range(1, y.shape[0]):
        y[i] = 0.5 * y[i] + y[i - 1] * y[i - 1]
    return y


def backwards(x: Any) -> Any:
    y = x.copy()
    for i in range(y.shape[0] - 2, -1, -1):
        y[i] = np.sin(y[i + 1]) * x[i]
    return y


def overwritten_behind(x: Any) -> Any:
    y = x.copy()
    for i in range(1, y.shape[0]):
        y[i] = y[i - 1] * y[i - 1] + x[i]
        y[i - 1] = y[i - 1] * 2.0
    return y


def overwritten_later(x: Any) -> Any:
    y = x.copy()
    for i in range(y.shape[0] - 1):
        y[i] = y[i] * y[i + 1]
    return y


def wraps(x: Any) -> Any:
    y = x.copy()
    for i in range(y.shape[0] - 1):
        y[i] = y[i - 1] * y[i - 1] + y[i]
    return y


def strided(x: Any) -> Any:
    y = x.copy()
    for i in range(2, y.shape[0], 2):
        y[i] = y[i - 1] * y[i - 2] * y[i]
    return y


def not_affine(x: Any) -> Any:
    y = x.copy()
    for i in range(1, 2 * y.shape[0]):
        y[i % 3] = y[(i * i) % 5] * y[i % 3]
    return y


def sweeps(x: Any) -> Any:
    y = x.copy()
    for _ in range(3):
        for i in range(1, y.shape[0] - 1):
            y[i] = y[i - 1] * y[i + 1] + 0.1 * y[i]
    return y


def triangular(x: Any) -> Any:
    A = np.outer(x, x) + 2.0
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] -= np.dot(A[i, :j], A[j, :j]) * 0.1
            A[i, j] /= A[j, j]
    return A


def inner_loop_overwrites(x: Any) -> Any:
    A = np.outer(x, x)
    for i in range(1, A.shape[0]):
        A[i, :] = A[i - 1, :] * A[i, :]
        for j in range(i):
            A[j, i] = A[j, i] * A[i, j]
    return A


def every_other_column(x: Any) -> Any:
    A = np.outer(x, x)
    for i in range(1, A.shape[0]):
        A[i, ::2] = A[i - 1, ::2] * A[i - 1, 0]
        A[i, 1::2] = A[i, ::2][: A[i, 1::2].shape[0]] ** 2
    return A


def while_inside(x: Any) -> Any:
    y = x.copy()
    for i in range(1, y.shape[0]):
        k = 0
        while k < i:
            y[i] = y[i] * y[k]
            k = k + 1
    return y


def place_behind_the_value(x: Any) -> Any:
    y = x.copy()
    for i in range(0, y.shape[0] - 1, 2):
        for j in range(2):
            v = np.sin(y[i + j - 1]) * x[i]
            y[i + j] = v * v
    return y


PROGRAMS = (
    recurrence, backwards, overwritten_behind, overwritten_later, wraps, strided, not_affine, sweeps, triangular,
    inner_loop_overwrites, every_other_column, while_inside,
    place_behind_the_value,
)  # fmt: skip


def loss_of(program: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: np.sum(program(x) ** 2)


def without_lasting(x: Any, f: Callable[[Any], Any]) -> Any:
    token = tapes.lasts.set(False)
    try:
        return f(x)
    finally:
        tapes.lasts.reset(token)


@pytest.mark.parametrize("program", PROGRAMS)
def test_same_gradient_as_with_tapes(program: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.0, 7)
    loss = loss_of(program)
    want = without_lasting(x, st.grad(loss))
    assert np.allclose(st.grad(loss)(x), want, rtol=1e-12)
    assert np.allclose(st.compile(st.grad(loss))(x), want, rtol=1e-12)
    step = 1e-6 * np.cos(np.arange(7.0))
    assert np.isclose(np.dot(want, step), (loss(x + step) - loss(x - step)) / 2, rtol=1e-5)


@pytest.mark.parametrize("program", [recurrence, overwritten_later, triangular])
def test_second_order_and_lanes(program: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(1).uniform(0.5, 1.0, 5)
    loss = loss_of(program)
    hessian = st.hessian(loss)(x)
    assert np.allclose(hessian, hessian.T)
    assert np.allclose(hessian, without_lasting(x, st.hessian(loss)), rtol=1e-10)
    xs = np.stack([x, x + 0.1])
    assert np.allclose(st.vmap(st.grad(loss))(xs), np.stack([st.grad(loss)(x) for x in xs]))


@pytest.mark.parametrize("seed", range(25))
def test_random_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, writes = 12, int(rng.integers(1, 4))
    offsets = rng.integers(-3, 4, (writes, 4)).tolist()
    low, high, step = [(3, n - 3, 1), (n - 4, 2, -1), (3, n - 3, 2), (n - 4, 2, -3)][int(rng.integers(4))]

    def program(x: Any) -> Any:
        y = x.copy()
        for i in range(low, high, step):
            for to, a, b, c in offsets:
                y[i + to] = y[i + a] * y[i + b] + 0.5 * y[i + c]
        return y

    x = rng.uniform(0.5, 1.0, n)
    loss = loss_of(program)
    gradient = st.grad(loss)(x)
    assert np.allclose(gradient, without_lasting(x, st.grad(loss)), rtol=1e-12)
    way = rng.standard_normal(n)
    assert np.isclose(np.dot(gradient, way), st.jvp(loss, (x,), (way,))[1], rtol=1e-9)


def temporary_bytes(f: Callable[..., Any], *args: Any) -> int:
    """What the compiled gradient takes beside arguments and results, by its memory plan."""
    program = generate(optimize(st.make_graph(f)(*args))).program
    assert not any(s.kind == "heap" for s in program.storages)  # nothing is allocated while it runs
    assert isinstance(program.arena_bytes, int)
    return program.arena_bytes


@pytest.mark.parametrize("program", [recurrence, backwards, triangular])
def test_nothing_is_stored(program: Callable[[Any], Any]) -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.0, 100)
    arrays = 100 * 100 if program is triangular else 100
    assert temporary_bytes(st.grad(loss_of(program)), x) <= 5 * 8 * arrays


def test_a_loop_that_updates_a_row_stores_rows() -> None:
    """T steps on one row of w elements of n×w: O(T·w + n·w), not O(T·n·w)."""
    n, w, steps = 50, 40, 200

    def program(A: Any) -> Any:
        A = A.copy()
        for t in range(steps):
            A[t % n] = np.sin(A[t % n]) * A[(t + 1) % n]
        return A

    A = np.random.default_rng(0).uniform(0.5, 1.0, (n, w))
    stored = temporary_bytes(st.grad(lambda A: np.sum(program(A) ** 2)), A)
    assert stored <= 8 * (3 * steps * w + 5 * n * w)


def test_explain_says_what_the_way_back_keeps() -> None:
    x = np.random.default_rng(0).uniform(0.5, 1.0, 100)

    def kept(program: Callable[[Any], Any]) -> list[str]:
        found: list[str] = st.compile(st.grad(loss_of(program))).explain(x).stats["kept"]
        return found

    assert kept(recurrence) == []
    assert kept(overwritten_later) == []  # of each y[i] and y[i + 1], as x has them
    tapes = kept(overwritten_behind)
    assert [text.split(": ")[1].split(" bytes")[0] for text in tapes] == ["792"]  # of each y[i - 1]


def filled_by_rows(L: Any, b: Any) -> Any:
    """Every turn adds to a row of the cotangent of L, up to the diagonal: two places that no other turn adds to."""
    x = np.zeros(b.shape[0])
    for i in range(b.shape[0]):
        x[i] = (b[i] - np.dot(L[i, :i], x[:i])) / L[i, i]
    return x


def neighbours(L: Any, b: Any) -> Any:
    """Two turns add to each element of the cotangent of b."""
    x = b * 1.0
    for i in range(1, b.shape[0]):
        x[i] = x[i] * b[i] + b[i - 1] * L[i, 0] * x[i - 1]
    return x


def both_ways(L: Any, b: Any) -> Any:
    """Rows from the end, columns beside the diagonal, every second one."""
    x = b * 1.0
    for i in range(b.shape[0] - 2, 0, -2):
        x[i] = x[i] * np.sum(L[i, i + 1 :]) + L[i - 1, i] * L[i, i] * x[i + 1]
    return x


def same_place(L: Any, b: Any) -> Any:
    """What a turn adds to where it has added before."""
    x = b * 1.0
    for i in range(1, b.shape[0]):
        x[i] = np.sin(L[i, i]) * x[i - 1] + L[i, i] * x[i] + np.dot(L[i, : i + 1], L[i, : i + 1])
    return x


def counted_places(L: Any, b: Any) -> Any:
    """Places that the data decide: which turn is the first nobody knows."""
    x = b * 1.0
    for i in range(b.shape[0]):
        k = (i * i) % 3
        x[i] = x[i] * b[k] * L[k, i] + L[i, k]
    return x


def twice_in_a_row(L: Any, b: Any) -> Any:
    """Positions that are one place twice, in rows of their own."""
    x = b * 1.0
    k = np.array([1, 1, 0, 3, 1])
    for i in range(b.shape[0]):
        x[i] = np.sum(L[i, k] * b[k]) + np.sum(L[:, i][k]) * x[i]
    return x


@pytest.mark.parametrize(
    "program", [filled_by_rows, neighbours, both_ways, same_place, counted_places, twice_in_a_row]
)
def test_cotangents_that_turns_fill(program: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    L, b = rng.uniform(0.5, 1.0, (7, 7)), rng.uniform(0.5, 1.0, 7)
    dL, db = rng.standard_normal((7, 7)), rng.standard_normal(7)

    def loss(L: Any, b: Any) -> Any:
        return np.sum(np.sin(program(L, b)))

    gradient = st.grad(loss, argnums=(0, 1))
    _, slope = st.jvp(loss, (L, b), (dL, db))
    ahead, back = (loss(L + step * dL, b + step * db) for step in (1e-6, -1e-6))
    assert np.isclose(slope, (ahead - back) / 2e-6, rtol=1e-5)
    for gL, gb in (gradient(L, b), st.compile(gradient)(L, b), st.compile(gradient, dynamic=True)(L, b)):
        assert np.isclose(np.sum(gL * dL) + np.sum(gb * db), slope, rtol=1e-9)
    lanes = st.vmap(gradient, in_dims=(None, 0))(L, np.stack([b, b + 0.1]))
    for k, shift in enumerate((0.0, 0.1)):
        for got, want in zip(lanes, gradient(L, b + shift), strict=True):
            assert np.allclose(got[k], want, rtol=1e-9)
    twice = st.grad(lambda L, b: sum(np.sum(g * g) for g in gradient(L, b)), argnums=(0, 1))
    _, bend = st.jvp(lambda L, b: sum(np.sum(g * g) for g in gradient(L, b)), (L, b), (dL, db))
    gL, gb = twice(L, b)
    assert np.isclose(np.sum(gL * dL) + np.sum(gb * db), bend, rtol=1e-8)


def test_the_first_addition_is_a_write() -> None:
    """No row of the cotangent of L is read: where turns add, it is zero; that of b needs no zeros before."""
    L, b = np.eye(40) + 0.1, np.ones(40)
    gradient = st.grad(lambda L, b: np.sum(filled_by_rows(L, b)), argnums=(0, 1))
    text = str(generate(optimize(st.make_graph(gradient)(L, b))).program)
    assert not re.search(r"= out[01]\[", text)
    assert len(re.findall(r"out1\[", text)) == 1
