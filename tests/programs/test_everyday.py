"""Everyday programs, unmodified, under `compile` and the transforms: values against NumPy, slopes against finite
differences, lanes against a loop."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from tests.programs.everyday import Everyday, all_everyday

CASES = all_everyday()
STEP = 1e-6
every = pytest.mark.parametrize("c", CASES, ids=lambda c: c.fn.__name__)


def fresh(args: Any) -> list[Any]:
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


@pytest.fixture(autouse=True)
def _wrapping_integers() -> Any:
    with np.errstate(over="ignore"):
        yield


def leaves(x: Any) -> list[Any]:
    return [leaf for part in x for leaf in leaves(part)] if isinstance(x, tuple | list) else [x]


def same(got: Any, want: Any) -> None:
    assert len(leaves(got)) == len(leaves(want))
    for g, w in zip(leaves(got), leaves(want), strict=True):
        assert np.asarray(g).dtype == np.asarray(w).dtype
        np.testing.assert_allclose(g, w, rtol=1e-8, atol=1e-10)


@every
@pytest.mark.parametrize("dynamic", [False, True], ids=["", "dynamic"])
def test_forward(c: Everyday, dynamic: bool) -> None:
    got, want = fresh(c.args), fresh(c.args)
    same(st.compile(c.fn, dynamic=dynamic)(*got), c.fn(*want))
    same(got, want)  # what it wrote into its arguments


@pytest.mark.parametrize("c", [c for c in CASES if c.differentiable], ids=lambda c: c.fn.__name__)
def test_slopes(c: Everyday) -> None:
    """Along one direction: central differences, forward mode and reverse mode."""

    def loss(*args: Any) -> Any:
        total = 0.0
        for part in leaves(c.fn(*args)):
            value = np.asarray(part)
            if value.dtype.kind == "f":
                total = total + (value * np.cos(np.arange(value.size).reshape(value.shape) + 1.0)).sum()
        return total

    ways = [np.cos(3.0 * np.arange(np.size(c.args[i])).reshape(np.shape(c.args[i]))) for i in c.differentiable]

    def moved(step: float) -> list[Any]:
        args = fresh(c.args)
        for i, way in zip(c.differentiable, ways, strict=True):
            args[i] = args[i] + step * way if isinstance(args[i], np.ndarray) else float(args[i] + step * way)
        return args

    def along(*points: Any) -> Any:
        args = fresh(c.args)
        for i, point in zip(c.differentiable, points, strict=True):
            args[i] = point
        return loss(*args)

    slope = (loss(*moved(STEP)) - loss(*moved(-STEP))) / (2 * STEP)
    grads = st.compile(st.grad(loss, argnums=c.differentiable))(*fresh(c.args))
    sizes = [np.linalg.norm(np.ravel(g)) * np.linalg.norm(np.ravel(w)) for g, w in zip(grads, ways, strict=True)]
    near = 1e-5 * (sum(sizes) + abs(slope)) + 1e-7
    assert abs(sum(float(np.sum(g * w)) for g, w in zip(grads, ways, strict=True)) - slope) <= near
    points = tuple(moved(0.0)[i] for i in c.differentiable)
    tangents = tuple(w if w.ndim else float(w) for w in ways)
    _, forward = st.compile(lambda p, t: st.jvp(along, p, t))(points, tangents)
    assert abs(forward - slope) <= near


@pytest.mark.parametrize("c", [c for c in CASES if c.mapped], ids=lambda c: c.fn.__name__)
def test_lanes(c: Everyday) -> None:
    arrays = [isinstance(a, np.ndarray) for a in c.args]
    mapped = arrays if any(arrays) else [True] * len(arrays)
    stacked = [np.stack([a, np.flip(a)]) if m else a for a, m in zip(c.args, mapped, strict=True)]
    in_dims = tuple([0 if m else None for m in mapped])
    got = leaves(st.compile(st.vmap(c.fn, in_dims=in_dims))(*fresh(stacked)))
    for k in range(2):
        lane = [a[k] if m else a for a, m in zip(stacked, mapped, strict=True)]
        want = c.fn(*[a.item() if isinstance(a, np.generic) and a.dtype != np.uint64 else a for a in fresh(lane)])
        for g, w in zip(got, leaves(want), strict=True):
            np.testing.assert_allclose(g[k], w, rtol=1e-7, atol=1e-9)
