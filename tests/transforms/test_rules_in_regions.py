"""What a user says about derivatives holds inside loops too: custom rules, checkpoints, grad modes."""

from __future__ import annotations

from typing import Any

import numpy as np

import stager as st


@st.custom_vjp
def steep(x: Any) -> Any:
    return x * x


steep.defvjp(lambda x: (x * x, x), lambda residual, ct: (ct * 100.0,))


@st.custom_jvp
def straight(x: Any) -> Any:
    return np.rint(x)


@straight.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return straight(primals[0]), tangents[0]


def looped(x: Any) -> Any:
    return st.fori_loop(0, 3, lambda i, s: s + steep(x) + straight(x), x * 0.0)


def test_custom_rules_hold_in_a_loop() -> None:
    assert st.grad(looped)(2.0) == 303.0
    assert st.compile(st.grad(looped))(2.0) == 303.0
    xs = np.array([1.0, 2.0])
    np.testing.assert_array_equal(st.vmap(st.grad(looped))(xs), [303.0, 303.0])
    np.testing.assert_array_equal(st.grad(lambda v: st.vmap(looped)(v).sum())(xs), [303.0, 303.0])
    np.testing.assert_array_equal(st.compile(st.vmap(looped))(xs), [6.0, 18.0])


def test_a_loop_with_custom_rules_runs_without_transforms() -> None:
    assert st.compile(looped)(2.0) == 18.0


def test_checkpoint_in_a_loop() -> None:
    def fn(x: Any) -> Any:
        return st.fori_loop(0, 3, lambda i, s: st.checkpoint(np.sin)(s), x)

    a, b = np.sin(0.5), np.sin(np.sin(0.5))
    np.testing.assert_allclose(st.grad(fn)(0.5), np.cos(b) * np.cos(a) * np.cos(0.5), rtol=1e-14)


def test_no_grad_in_a_loop() -> None:
    def body(i: Any, s: Any) -> Any:
        with st.no_grad():
            factor = np.sin(s)
        return s * factor

    def fn(x: Any) -> Any:
        return st.fori_loop(0, 1, body, x)

    np.testing.assert_allclose(st.grad(fn)(0.7), np.sin(0.7), rtol=1e-15)
    tangent = st.jvp(fn, (0.7,), (1.0,))[1]
    np.testing.assert_allclose(tangent, np.sin(0.7) + 0.7 * np.cos(0.7), rtol=1e-15)
