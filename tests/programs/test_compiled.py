"""Every program, whole, under `compile` and the transforms, against NumPy and finite differences.

A compiled call is made twice: the second must not trace again. Sizes are small; speed is bench/'s business.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.compiler import compiler_of
from tests.programs import all_programs
from tests.programs.program import Program

PROGRAMS = all_programs()
SMOOTH = [p for p in PROGRAMS if p.differentiable]
MAPPED = [p for p in PROGRAMS if p.mapped]
STEP = 1e-6
SLOPE_TOLERANCE = 2e-6  # central differences with STEP, relative to the gradient's length


# What does not compile yet, and why. A row goes as soon as its program runs (-ra lists rows that pass).
GAPS: dict[tuple[str, str], str] = {}


def named(programs: list[Program], what: str = "") -> Any:
    rows = []
    for p in programs:
        gap = GAPS.get((what, p.name))
        marks = [pytest.mark.xfail(reason=gap, strict=True)] if gap else []
        rows.append(pytest.param(p, id=p.name, marks=marks))
    return pytest.mark.parametrize("p", rows)


def parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same(got: Any, want: Any, tolerance: float) -> None:
    assert len(parts(got)) == len(parts(want))
    for g, w in zip(parts(got), parts(want), strict=True):
        assert np.shape(g) == np.shape(w)
        assert np.asarray(g).dtype == np.asarray(w).dtype
        scale = np.max(np.abs(np.asarray(w, dtype=np.float64)), initial=0.0)
        np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale)


def half_square(fn: Callable[..., Any]) -> Callable[..., Any]:
    def loss(*args: Any) -> Any:
        out = fn(*args)
        total = 0.0
        for part in out if isinstance(out, tuple) else (out,):
            total = total + 0.5 * np.sum(part * part)
        return total

    return loss


def directions(p: Program, args: tuple[Any, ...], rng: np.random.Generator) -> list[Any]:
    ways = [rng.standard_normal(np.shape(args[i])) for i in p.differentiable]
    return [np.tril(w) for w in ways] if p.name == "Cholesky" else ways  # which reads the lower triangle only


def moved(p: Program, args: tuple[Any, ...], ways: list[Any], step: float) -> list[Any]:
    new = list(args)
    for i, way in zip(p.differentiable, ways, strict=True):
        shifted = np.asarray(args[i]) + step * way
        new[i] = shifted if isinstance(args[i], np.ndarray) else float(shifted)
    return new


@named(PROGRAMS)
def test_forward(p: Program, rng: np.random.Generator) -> None:
    args = p.inputs(rng)
    before = copy.deepcopy(args)
    want = p.fn(*args)
    compiled = st.compile(p.fn)
    assert_same(compiled(*args), want, p.tolerance)
    traces = len(compiler_of(compiled).history)
    assert_same(compiled(*args), want, p.tolerance)
    assert len(compiler_of(compiled).history) == traces
    for a, b in zip(args, before, strict=True):
        np.testing.assert_array_equal(a, b)


@named([p for p in PROGRAMS if p.in_place])
def test_writes_reach_the_caller(p: Program, rng: np.random.Generator) -> None:
    first, *rest = p.inputs(rng)
    want, got = first.copy(), first.copy()
    assert p.in_place is not None
    p.in_place(want, *rest)
    assert st.compile(p.in_place)(got, *rest) is None
    assert_same(got, want, p.tolerance)


@named(SMOOTH, "gradient")
def test_gradient(p: Program, rng: np.random.Generator) -> None:
    args = p.inputs(rng)
    loss = half_square(p.fn)
    ways = directions(p, args, rng)
    slope = (loss(*moved(p, args, ways, STEP)) - loss(*moved(p, args, ways, -STEP))) / (2.0 * STEP)
    grads = st.compile(st.grad(loss, argnums=p.differentiable))(*args)
    for g, i in zip(grads, p.differentiable, strict=True):
        assert np.shape(g) == np.shape(args[i])
    found = sum(float(np.sum(g * w)) for g, w in zip(grads, ways, strict=True))
    length = sum(float(np.sqrt(np.sum(np.square(g)) * np.sum(np.square(w)))) for g, w in zip(grads, ways, strict=True))
    assert abs(found - slope) <= SLOPE_TOLERANCE * (length + abs(slope))


@named(SMOOTH, "jvp")
def test_forward_mode_is_the_gradient(p: Program, rng: np.random.Generator) -> None:
    """⟨∇f, v⟩ from both modes."""
    args = p.inputs(rng)
    loss = half_square(p.fn)
    ways = directions(p, args, rng)

    def along(*points: Any) -> Any:
        full = list(args)
        for i, point in zip(p.differentiable, points, strict=True):
            full[i] = point
        return loss(*full)

    points = tuple(np.asarray(args[i]) for i in p.differentiable)
    _, slope = st.compile(lambda xs, ts: st.jvp(along, xs, ts))(points, tuple(ways))
    grads = st.compile(st.grad(along, argnums=tuple(range(len(points)))))(*points)
    found = sum(float(np.sum(g * w)) for g, w in zip(grads, ways, strict=True))
    length = sum(float(np.sqrt(np.sum(np.square(g)) * np.sum(np.square(w)))) for g, w in zip(grads, ways, strict=True))
    assert abs(found - slope) <= max(p.tolerance, 1e-10) * (length + abs(found))


@named(MAPPED, "vmap")
def test_vmap_is_a_loop(p: Program, rng: np.random.Generator) -> None:
    lanes = [p.inputs(rng) for _ in range(3)]
    base = lanes[0]
    lanes = [tuple(lane[i] if i in p.mapped else base[i] for i in range(len(base))) for lane in lanes]
    shapes = {tuple(np.shape(lane[i]) for i in p.mapped) for lane in lanes}
    if len(shapes) > 1:  # inputs of random length: the same ones, changed
        lanes = [tuple(a + k * 0.1 if i in p.mapped else a for i, a in enumerate(base)) for k in range(3)]
    stacked = [np.stack([lane[i] for lane in lanes]) if i in p.mapped else base[i] for i in range(len(base))]
    in_dims = tuple(0 if i in p.mapped else None for i in range(len(base)))
    got = st.compile(st.vmap(p.fn, in_dims=in_dims))(*stacked)
    want = [parts(p.fn(*lane)) for lane in lanes]
    for k, g in enumerate(parts(got)):
        assert_same(g, np.stack([w[k] for w in want]), p.tolerance)
