"""Functions with rules of their own: how rules get arguments, and what wrong rules say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import TransformError

X, ROWS = np.array([1.0, 2.0, 3.0]), np.arange(12.0).reshape(4, 3) / 7


def test_rules_get_all_arguments_by_position() -> None:
    @st.custom_vjp
    def power(x: Any, mode: str = "power", n: Any = 2) -> Any:
        return x**n if mode == "power" else x

    power.defvjp(lambda x, mode, n: (x**n, (x, n)), lambda kept, ct: (ct * 100 * kept[1], None, None))
    for call, factor in [
        (lambda x: power(x), 200.0),
        (lambda x: power(x, n=3), 300.0),
        (lambda x: power(x, "power", 3), 300.0),
        (lambda x: power(n=3, x=x), 300.0),
    ]:
        gradient = st.grad(lambda x, f=call: f(x).sum())
        np.testing.assert_array_equal(gradient(X), np.full(3, factor))
        np.testing.assert_array_equal(st.compile(st.vmap(gradient))(ROWS), np.full((4, 3), factor))


def test_arguments_by_keyword_only_are_refused() -> None:
    @st.custom_jvp
    def scaled(x: Any, *, by: Any = 2.0) -> Any:
        return x * by

    scaled.defjvp(lambda primals, tangents: (scaled(*primals), tangents[0] * 2))
    assert st.grad(scaled)(3.0) == 2.0
    for call in (lambda x: scaled(x, by=3.0), st.grad(lambda x: scaled(x, by=3.0))):
        with pytest.raises(TransformError, match="'by' is given by keyword only"):
            call(3.0)


WRONG = {
    "no pair": (lambda x: x * 2, lambda kept, ct: (ct,), r"must return a pair \(output, residuals\)"),
    "other output": (lambda x: (x[:2], None), lambda kept, ct: (ct,), r"forward rule returned f64\[2\] for f64\[3\]"),
    "other nesting": (lambda x: ((x, x), None), lambda kept, ct: (ct,), r"\(\*, \*\), the function returns \*"),
    "two cotangents": (lambda x: (x * 2, None), lambda kept, ct: (ct, ct), r"one cotangent per argument \(1\)"),
    "other shape": (lambda x: (x * 2, None), lambda kept, ct: (ct[:2],), r"cotangent f64\[2\] for f64\[3\]"),
    "nested": (lambda x: (x * 2, None), lambda kept, ct: ([ct, ct],), r"a cotangent \[\*, \*\] for an argument \*"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_reverse_rules(name: str) -> None:
    forward, backward, text = WRONG[name]
    f = st.custom_vjp(lambda x: x * 2)
    f.defvjp(forward, backward)
    gradient = st.grad(lambda x: f(x).sum())
    for call in (lambda: gradient(X), lambda: st.vmap(gradient)(ROWS)):
        with pytest.raises(TransformError, match=text):
            call()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lambda p, t: p[0], r"must return a pair \(output, output tangent\)"),
        (lambda p, t: (p[0] * 2, t[0][:2]), r"tangent f64\[2\] for f64\[3\]"),
        (lambda p, t: (p[0] * 2, (t[0], t[0])), r"returned tangents \(\*, \*\) for outputs \*"),
        (lambda p, t: (p[0][:2], t[0][:2]), r"jvp rule returned f64\[2\] for f64\[3\]"),
    ],
)
def test_wrong_forward_rules(rule: Any, text: str) -> None:
    f = st.custom_jvp(lambda x: x * 2)
    f.defjvp(rule)
    for call in (lambda: st.jvp(f, (X,), (X,)), lambda: st.grad(lambda x: f(x).sum())(X)):
        with pytest.raises(TransformError, match=text):
            call()


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lambda size, batched, x: (x.T, True), r"vmap rule returned f64\[3,4\] for f64\[4,3\]"),
        (lambda size, batched, x: (x, False), r"vmap rule returned f64\[4,3\] for f64\[3\]"),
        (lambda size, batched, x: ((x, x), True), r"vmap rule returned \(\*, \*\), the function returns \*"),
        (lambda size, batched, x: (x, (True, True)), "says of 2 results whether they are batched, it returned 1"),
    ],
)
def test_wrong_batching_rules(rule: Any, text: str) -> None:
    f = st.custom_vmap(lambda x: x * 2)
    f.defvmap(rule)
    with pytest.raises(TransformError, match=text):
        st.vmap(f)(ROWS)


def test_rules_may_return_numbers_and_other_dtypes() -> None:
    @st.custom_vjp
    def total(x: Any, w: Any) -> Any:
        return (x * w).sum()

    total.defvjp(lambda x, w: ((x * w).sum(), (x, w)), lambda kept, ct: (ct * kept[1] * np.ones(3), 0.5))
    gx, gw = st.grad(total, (0, 1))(X.astype(np.float32), 2.0)
    assert gx.dtype == np.float32
    np.testing.assert_array_equal(gx, [2, 2, 2])
    assert gw == 0.5


def test_rules_inside_loops_and_branches() -> None:
    slow = st.custom_jvp(lambda x: np.sin(x))
    slow.defjvp(lambda p, t: (np.sin(p[0]), 5 * np.cos(p[0]) * t[0]))
    square = st.custom_vjp(lambda x: x * x)
    square.defvjp(lambda x: (x * x, x), lambda x, ct: (3 * x * ct,))

    def f(x: Any) -> Any:
        y = x
        for _ in range(3):
            y = slow(y)
        while y.sum() < 8.0:
            y = square(y) + 1.0
        return y * 1.0 if x[0] > 0.5 else square(y)

    def reference(x: Any) -> Any:
        y, d = x, np.ones(3)
        for _ in range(3):
            y, d = np.sin(y), d * 5 * np.cos(y)
        while y.sum() < 8.0:
            y, d = y * y + 1.0, d * 3 * y
        return d if x[0] > 0.5 else d * 3 * y

    rows = np.stack([X, X * 0.3, X * 0.7])
    gradient = st.grad(lambda x: f(x).sum())
    for g in (gradient, st.compile(gradient), st.jacfwd(lambda x: f(x).sum())):
        np.testing.assert_allclose(g(X), reference(X), rtol=1e-12)
    want = np.stack([reference(r) for r in rows])
    np.testing.assert_allclose(st.vmap(gradient)(rows), want, rtol=1e-12)
    np.testing.assert_allclose(st.grad(lambda rows: st.vmap(f)(rows).sum())(rows), want, rtol=1e-12)
