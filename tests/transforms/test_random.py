"""`randomness` under vmap: what a lane draws is what a Python loop over lanes draws, in loops and chunks too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import TransformError

KEYS = st.random.split(st.random.key(1), 4)
SHARED = KEYS[0]


def folded(k: Any) -> Any:
    return st.fori_loop(0, 3, lambda i, s: s + st.random.uniform(st.random.fold_in(k, i)), 0.0)


def carried(k: Any) -> Any:
    s = 0.0
    for _ in range(30):
        k, q = st.random.split(k)
        s = s + st.random.uniform(q)
    return s


def in_a_branch(k: Any) -> Any:
    if st.random.uniform(k) > 0.5:
        return st.random.normal(k)
    return st.random.uniform(k) * 2


def rejected(k: Any) -> Any:
    u = 1.0
    while u > 0.3:
        k, q = st.random.split(k)
        u = st.random.uniform(q)
    return u


@pytest.mark.parametrize("f", [folded, carried, in_a_branch, rejected], ids=lambda f: f.__name__)
@pytest.mark.parametrize("randomness", ["error", "same", "different"])
def test_mapped_keys_are_each_lanes_own(f: Callable[..., Any], randomness: str) -> None:
    want = np.array([f(k) for k in KEYS])
    mapped = st.vmap(f, randomness=randomness)
    np.testing.assert_allclose(mapped(KEYS), want, rtol=1e-12)
    np.testing.assert_allclose(st.compile(mapped)(KEYS), want, rtol=1e-12)


def shared_folded(x: Any) -> Any:
    return x + folded(SHARED)


def shared_carried(x: Any) -> Any:
    return x + carried(SHARED)


def shared_buffer(x: Any) -> Any:
    key = np.zeros(2, np.uint64)
    key[:] = SHARED
    for _ in range(20):
        q = st.random.split(key)
        key[:] = q[0]
        x = x + st.random.uniform(q[1])
    return x


def shared_rejected(x: Any) -> Any:
    k, u = SHARED, x + 1.0
    while u > 0.3:
        k, q = st.random.split(k)
        u = st.random.uniform(q) + x * 0
    return u


@pytest.mark.parametrize("f", [shared_folded, shared_carried, shared_buffer, shared_rejected], ids=lambda f: f.__name__)
def test_shared_keys_in_loops_obey_randomness(f: Callable[..., Any]) -> None:
    with pytest.raises(TransformError, match='drawn from a key that all lanes share, and randomness is "error"'):
        st.vmap(f)(np.zeros(3))
    np.testing.assert_allclose(st.vmap(f, randomness="same")(np.zeros(3)), np.full(3, f(0.0)), rtol=1e-12)
    if f is shared_folded:
        assert len(set(st.vmap(f, randomness="different")(np.zeros(3)))) == 3
        return
    with pytest.raises(TransformError, match="a loop carries a key that all lanes share"):
        st.vmap(f, randomness="different")(np.zeros(3))


def test_a_lane_draws_the_same_however_lanes_are_computed() -> None:
    def noise(x: Any) -> Any:
        return x + st.random.uniform(SHARED)

    whole = st.vmap(noise, randomness="different")(np.zeros(5))
    assert len(set(whole)) == 5
    np.testing.assert_array_equal(st.vmap(noise, randomness="different", chunk_size=2)(np.zeros(5)), whole)
    np.testing.assert_array_equal(st.vmap(noise, randomness="different")(np.zeros(9))[:5], whole)


def test_derivatives_of_draws_in_loops() -> None:
    def total(w: Any, k: Any) -> Any:
        s = 0.0
        for i in range(12):
            s = s + w * st.random.normal(st.random.fold_in(k, i))
        return s

    got = st.vmap(st.grad(total), (None, 0))(2.0, KEYS)
    np.testing.assert_allclose(got, [st.grad(total)(2.0, k) for k in KEYS], rtol=1e-12)
