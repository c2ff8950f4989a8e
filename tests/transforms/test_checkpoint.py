"""Policies of `checkpoint`: the same derivatives, and what the backward pass computes again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st

X, W = np.random.default_rng(0).standard_normal((4, 3)), np.random.default_rng(1).standard_normal((3, 3))
POLICIES: dict[str, Any] = {
    "nothing": "nothing",
    "everything": "everything",
    "dots": "dots",
    "names": ["h"],
    "other names": {"elsewhere"},
    "function": lambda node: node.op.name == "tanh",
}


def layers(x: Any, w: Any) -> Any:
    h = np.tanh(x @ w)
    h = st.checkpoint_name(np.exp(h @ w), "h")
    return np.sin(h @ w * 0.1)


def loss(policy: Any) -> Any:
    f = st.checkpoint(layers, policy=policy)
    return lambda x, w: (f(x, w) ** 2).sum()


def gradient_of(policy: Any) -> Any:
    return st.grad(loss(policy), (0, 1))


def count(policy: Any, op: str) -> int:
    text = st.compile(gradient_of(policy)).show(X, W, stage="passes")
    return sum(f"= {op} " in line for line in text.splitlines())


@pytest.mark.parametrize("name", POLICIES)
def test_derivatives_do_not_depend_on_the_policy(name: str) -> None:
    plain = st.grad(lambda x, w: (layers(x, w) ** 2).sum(), (0, 1))
    f = gradient_of(POLICIES[name])
    for g in (f, st.compile(f)):
        for got, want in zip(g(X, W), plain(X, W), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12)
    st.testing.check_grads(lambda w: st.checkpoint(layers, policy=POLICIES[name])(X, w).sum(), (W,), order=2)
    rows = np.stack([X, X * 0.5])
    mapped = st.compile(st.vmap(f, in_dims=(0, None)))(rows, W)
    for got, want in zip(mapped, zip(*[plain(r, W) for r in rows], strict=True), strict=True):
        np.testing.assert_allclose(got, np.stack(want), rtol=1e-12)


def test_what_is_kept_is_not_computed_again() -> None:
    again, kept = count("nothing", "dot"), count("everything", "dot")
    assert again > kept
    assert count("dots", "dot") == kept
    assert count("dots", "tanh") == count("nothing", "tanh") > count("everything", "tanh")
    assert count(["h"], "exp") < count("nothing", "exp")
    assert count({"elsewhere"}, "exp") == count("nothing", "exp")
    assert count(POLICIES["function"], "tanh") < count("nothing", "tanh")


def test_policies_that_do_not_exist() -> None:
    for odd in ("dot", [1, 2], None, 1.5, 0):
        with pytest.raises(ValueError, match="policy is 'nothing', 'everything', 'dots'"):
            st.checkpoint(layers, policy=odd)


def test_names_outside_a_trace() -> None:
    assert st.checkpoint_name(3.0, "x") == 3.0


@pytest.mark.parametrize("policy", ["nothing", "dots", "everything", 2])
def test_writes_of_the_function_are_kept(policy: Any) -> None:
    x, seen = np.array([1.0, 2.0, 3.0]), np.zeros(3)

    def doubled(a: Any) -> Any:
        a *= 2
        seen[...] = a + 1
        return (a**2).sum()

    f = st.checkpoint(doubled, policy=policy)

    def whole(a: Any) -> Any:
        return f(a) + a.sum()  # 4 x^2 + 2 x

    for gradient in (st.grad(whole), st.compile(st.grad(whole))):
        own = x.copy()
        np.testing.assert_allclose(gradient(own), 8 * x + 2)
        np.testing.assert_array_equal(own, 2 * x)
        np.testing.assert_array_equal(seen, 2 * x + 1)
    np.testing.assert_allclose(st.hessian(whole)(x.copy()), 8 * np.eye(3))
