"""Loops whose tapes would be far larger than caches: what their backward keeps, and that it is the same backward."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.graph import Graph
from stager.ops import worth
from tests.programs import all_programs

PROGRAMS = {p.name: p for p in all_programs()}


def loss_of(name: str) -> Callable[..., Any]:
    program = PROGRAMS[name]

    def loss(*args: Any) -> Any:
        out = program.fn(*args)
        return sum(0.5 * np.sum(part * part) for part in (out if isinstance(out, tuple) else (out,)))

    return loss


def kept_bytes(f: Callable[..., Any], *args: Any) -> int:
    """What loops of the gradient keep for later ones: states for stretches, and tapes for the turns of one."""
    found = st.compile(st.grad(f)).explain(*args).stats["kept"]
    return sum(int(re.search(r": (\d+) bytes", text)[1]) for text in found)  # type: ignore[index]


def test_gram_schmidt_keeps_blocks_of_some_turns() -> None:
    """The trailing block before each turn takes n³ in all; that before each stretch √n times less."""
    n = 112
    a = np.random.default_rng(0).standard_normal((n + 2, n))
    assert kept_bytes(loss_of("Gram-Schmidt QR"), a) <= 8 * (n + 2) * n * (11 + 11)


def test_levinson_keeps_numbers_of_every_turn_and_rows_of_some() -> None:
    n = 1100
    r = 0.5 ** np.arange(1.0, n + 1)
    assert kept_bytes(loss_of("Levinson-Durbin"), r) <= 8 * (n * (34 + 34) + 4 * n)


def test_masks_are_kept_of_every_turn() -> None:
    """Bits of masks are less than the work that they follow from."""
    n = 224
    d = np.random.default_rng(0).random((n, n))
    assert kept_bytes(loss_of("Floyd-Warshall"), d) == n**3


def test_dot_products_that_still_stand_are_not_computed_again() -> None:
    n = 112
    a = np.random.default_rng(0).standard_normal((n + 2, n))
    kernels = st.compile(st.grad(loss_of("Gram-Schmidt QR"))).show(a, stage="kernels")
    back = kernels[kernels.index(" step -1") :]
    again = back[back.index("  for ") : back.index(" step -1", 10)]
    assert "sub" in again
    assert "sum" not in again


# -- the same backward ------------------------------------------------------------------------------------------------


def in_place(x: Any, w: Any) -> Any:
    """Rows that change by others, indices that go down by two, and a number that each turn finds."""
    x, s = x.copy(), 1.0
    for i in range(2 * x.shape[0] - 2, 1, -2):
        k = i // 2
        s = np.tanh(s + np.dot(x[k], w))
        x[:k] = np.sin(x[:k]) * s + x[k]
    return np.sum(x**2) * s


def nested(x: Any, w: Any) -> Any:
    """A loop inside that writes for good, reads what it has written, and changes all that follow."""
    x, r = x.copy(), np.zeros((x.shape[0], x.shape[0]))
    for i in range(1, x.shape[0]):
        for j in range(i, x.shape[0]):
            r[i, j] = np.dot(x[i - 1], x[j] * w)
            x[j] -= np.cos(x[i - 1]) * r[i, j]
    return np.sum(x**2) + np.sum(r)


def counted(x: Any, w: Any) -> Any:
    """A counter that moves with the turns, and a branch."""
    x, n = x.copy(), 3
    for _ in range(9):
        n += 2
        if n % 3 == 0:
            x[1:] = x[1:] * np.exp(-0.1 * x[:-1]) + w / n
        else:
            x[:-1] = x[:-1] * x[1:] + 0.1 * w
    return np.sum(x**2)


def count_loops(graph: Graph) -> int:
    return sum(n.op.name == "for" for n in graph.nodes) + sum(count_loops(r) for n in graph.nodes for r in n.regions)


LOOPS = (in_place, nested, counted)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches wherever they can be."""
    monkeypatch.setattr(worth, "CACHE", 0)
    monkeypatch.setattr(worth, "LESS", 0)
    monkeypatch.setattr(worth, "NEAR_WORK", np.inf)
    monkeypatch.setattr(worth, "SMALL", 2)


def arguments() -> tuple[Any, Any]:
    rng = np.random.default_rng(3)
    return 0.5 * rng.standard_normal((7, 3)), rng.standard_normal(3)


@pytest.mark.parametrize("f", LOOPS)
def test_gradients(f: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    x, w = arguments()
    want = st.grad(f, argnums=(0, 1))(x, w)
    plain = count_loops(st.compile(st.grad(f, argnums=(0, 1))).graph(x, w, stage="graph"))
    request.getfixturevalue("always")
    way = np.random.default_rng(4).standard_normal(x.shape)
    compiled = st.compile(st.grad(f, argnums=(0, 1)))
    assert count_loops(compiled.graph(x, w, stage="graph")) > plain
    for got in (compiled(x, w), compiled(x, w)):
        assert all(np.allclose(g, v, rtol=1e-12, atol=1e-13) for g, v in zip(got, want, strict=True))
    slope = st.jvp(lambda x: f(x, w), (x,), (way,))[1]
    assert np.allclose(np.sum(compiled(x, w)[0] * way), slope, rtol=1e-10)
    differences = (f(x + 1e-6 * way, w) - f(x - 1e-6 * way, w)) / 2e-6
    assert np.allclose(slope, differences, rtol=1e-6)


@pytest.mark.usefixtures("always")
def test_under_other_transforms() -> None:
    f, (x, w) = nested, arguments()
    lanes = np.stack([x, 1.1 * x])
    each = np.stack([st.grad(f)(a, w) for a in lanes])
    assert np.allclose(st.compile(st.vmap(st.grad(f), in_dims=(0, None)))(lanes, w), each, rtol=1e-12)
    assert np.allclose(st.compile(st.grad(lambda xs: np.sum(st.vmap(lambda a: f(a, w))(xs))))(lanes), each, rtol=1e-12)
    way = np.random.default_rng(4).standard_normal(x.shape)
    forward = st.compile(lambda x: st.jvp(lambda x: st.grad(f)(x, w), (x,), (way,))[1])(x)
    back = st.compile(st.grad(lambda x: np.sum(st.grad(f)(x, w) * way)))(x)
    assert np.allclose(forward, back, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("always")
def test_sizes_that_calls_decide() -> None:
    """Hints of the first call choose the way, which holds for all sizes."""

    def f(x: Any, turns: Any) -> Any:
        x = x.copy()
        for i in range(turns):
            x[1:] = np.sin(x[1:]) + x[:-1] * (1.0 + 0.1 * i)
        return np.sum(x**2)

    g = st.compile(st.grad(f), dynamic=True)
    for n, turns in ((5, 7), (3, 0), (4, 1), (6, 16), (2, 17)):
        x = np.linspace(-1.0, 1.0, n)
        want = st.grad(f)(x, turns)
        assert np.allclose(g(x, np.int64(turns)), want, rtol=1e-12)


# -- turns that only the run counts -----------------------------------------------------------------------------------


def known_late(x: Any, w: Any, n: Any) -> Any:
    for i in range(2 * n, 0, -2):
        x = np.sin(x) * w + x * (0.1 * i)
    return np.sum(x**2)


def until(x: Any, w: Any, n: Any) -> Any:
    k, s = 0.0, 1.0
    while np.max(np.abs(x)) > 1.0 / (n + 0.5):
        s = s + np.tanh(np.sum(x * w))
        x = x * (0.8 + 0.05 * np.sin(w * k))
        k += 1.0
    return np.sum(x**2) * k + s


@pytest.mark.parametrize("f", [known_late, until])
def test_turns_behind_those_with_tapes_run_again(f: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    x, w = np.linspace(-1.0, 1.0, 5), np.linspace(0.5, 1.5, 5)
    turns = (0, 1, 3, 4, 5, 40)
    tapes = st.compile(st.grad(f, argnums=(0, 1)))
    want, plain = [tapes(x, w, n) for n in turns], len(tapes.graph(x, w, 3))
    monkeypatch.setattr(worth, "CACHE", 4 * 40)
    monkeypatch.setattr(worth, "ROW", 0)
    monkeypatch.setattr(worth, "NEAR_WORK", np.inf)
    stretches = st.compile(st.grad(f, argnums=(0, 1)))
    assert len(stretches.graph(x, w, 3)) > plain
    for n, known in zip(turns, want, strict=True):
        for got, value in zip(stretches(x, w, n), known, strict=True):
            np.testing.assert_array_equal(got, value)
    np.testing.assert_allclose(st.jvp(lambda x: f(x, w, 40), (x,), (w,))[1], np.sum(want[-1][0] * w), rtol=1e-10)


def test_explain_says_which_loops_run_again() -> None:
    """Where tapes would not stay near; as long as only the run knows that, for the turns behind those that do."""

    def swing(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = x * x * 0.5 + x
        return np.sum(x)

    x = np.zeros(1000)
    ((file, _, how),) = st.compile(st.grad(lambda x: swing(x, 10_000))).explain(x).loops
    assert file == __file__
    assert how == "the way back runs stretches of 100 of 10000 turns again, which keeps 1.5 MiB, not 76.3 MiB"
    text = str(st.compile(st.grad(swing)).explain(x, 3))
    assert "keeps tapes of 1048 turns (8.0 MiB) and runs those behind again in stretches" in text
    assert "of n turns about 15.6 KiB times √n, not 7.8 KiB times n" in text
    assert st.compile(st.grad(lambda x: swing(x, 100))).explain(x).loops == []

    def dear(x: Any, n: Any) -> Any:
        for _ in range(n):
            x = np.tanh(x * x)
        return np.sum(x)

    assert st.compile(st.grad(dear)).explain(x, 3).loops == []
