"""Products of windows against NumPy: no matrix of windows is made, whatever the layout, dtype and place of the axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.codegen.program import Routine
from tests.traffic import kernels, plan, temporaries

rng = np.random.default_rng(5)
windows = np.lib.stride_tricks.sliding_window_view


def channels_first(x: Any, w: Any) -> Any:
    return np.einsum("bcxyij,ocij->boxy", windows(x, (3, 2), axis=(2, 3)), w)


def channels_last(x: Any, w: Any) -> Any:
    return np.einsum("bxycij,ijco->bxyo", windows(x, (3, 2), axis=(1, 2)), w)


def by_weights(x: Any, ct: Any) -> Any:
    return np.einsum("bcxyij,boxy->ocij", windows(x, (3, 3), axis=(2, 3)), ct)


def steps(x: Any, w: Any) -> Any:
    return np.einsum("bcxyij,ocij->boxy", windows(x, (3, 2), axis=(2, 3))[:, :, ::2, ::3], w)


def each_its_own(x: Any, w: Any) -> Any:
    return np.einsum("bcxi,boci->obx", windows(x, 4, axis=2), w)


CASES = [
    (channels_first, (2, 5, 9, 12), (6, 5, 3, 2)),
    (channels_last, (2, 12, 9, 4), (3, 2, 4, 19)),
    (by_weights, (3, 2, 41, 40), (3, 7, 39, 38)),  # sums of more terms than are added in registers
    (steps, (2, 3, 11, 13), (33, 3, 3, 2)),
    (each_its_own, (2, 3, 17), (2, 5, 3, 4)),
]


@pytest.mark.parametrize(("f", "x", "w"), CASES)
def test_nothing_is_laid_out(f: Any, x: tuple[int, ...], w: tuple[int, ...]) -> None:
    p = plan(f, *(f"f64[{','.join(map(str, s))}]" for s in (x, w)))
    products = [k for k in kernels(p) if isinstance(k, Routine)]
    assert [k.name for k in products] == ["windowed"]
    assert products[0].inputs[0].storage is p.inputs[0].storage
    a, b = rng.normal(size=x), rng.normal(size=w)
    np.testing.assert_allclose(st.compile(f)(a, b), f(a, b), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "i4", "?"])
def test_dtypes(dtype: str) -> None:
    a, b = ((rng.normal(size=s) * 3).astype(dtype) for s in ((2, 2, 50, 45), (2, 9, 48, 43)))
    got, want = st.compile(by_weights)(a, b), by_weights(a, b)
    np.testing.assert_allclose(got, want, rtol=1e-4 if dtype == "f4" else 0, atol=0.01 if dtype == "f4" else 0)
    assert got.dtype == want.dtype


def test_named_sizes() -> None:
    f = st.compile(channels_first, dynamic=("f64[b,c,n,m]", "f64[o,c,3,2]"))
    for b, c, n, m, o in ((2, 3, 7, 9, 11), (1, 2, 3, 2, 5), (3, 1, 20, 21, 16), (0, 2, 5, 5, 6)):
        x, w = rng.normal(size=(b, c, n, m)), rng.normal(size=(o, c, 3, 2))
        np.testing.assert_allclose(f(x, w), channels_first(x, w), rtol=1e-12, atol=1e-12)


def test_windows_as_the_second_operand() -> None:
    def f(ct: Any, x: Any) -> Any:
        return np.tensordot(ct, windows(x, (3, 3), axis=(0, 1)), axes=([0, 1], [0, 1]))

    p = plan(f, "f64[20,20,8]", "f64[22,22,5]")
    assert temporaries(p) <= 8 * 5 * 9 * 8  # the result, in another order
    ct, x = rng.normal(size=(20, 20, 8)), rng.normal(size=(22, 22, 5))
    np.testing.assert_allclose(st.compile(f)(ct, x), f(ct, x), rtol=1e-12, atol=1e-12)


def test_threads_do_not_change_bits() -> None:
    x, ct = rng.normal(size=(4, 8, 40, 40)), rng.normal(size=(4, 24, 38, 38))
    one, two = (st.compile(by_weights, threads=n)(x, ct) for n in (1, 2))
    np.testing.assert_array_equal(one, two)


def loss(x: Any, w: Any) -> Any:
    return np.sum(np.sin(np.einsum("bcxyij,ocij->boxy", windows(x, (3, 3), axis=(2, 3)), w)))


def test_the_gradient_is_two_more_products_of_windows() -> None:
    p = plan(st.grad(loss, argnums=(0, 1)), "f64[2,6,20,20]", "f64[7,6,3,3]")
    assert [k.name for k in kernels(p) if isinstance(k, Routine)] == ["windowed"] * 3
    assert temporaries(p) <= 2 * 7 * 22 * 22 * 8, "the padded cotangent"
    x, w = rng.normal(size=(2, 6, 20, 20)), rng.normal(size=(7, 6, 3, 3))
    u, v = rng.normal(size=x.shape), rng.normal(size=w.shape)
    by_x, by_w = st.compile(st.grad(loss, argnums=(0, 1)))(x, w)
    slope = st.jvp(loss, (x, w), (u, v))[1]
    np.testing.assert_allclose(np.sum(by_x * u) + np.sum(by_w * v), slope, rtol=1e-9)


def every_second(x: Any, w: Any) -> Any:
    return np.sum(np.sin(np.einsum("bcxyij,ocij->boxy", windows(x, (3, 2), axis=(2, 3))[:, :, ::2, 1::3], w)))


def with_holes(x: Any, w: Any) -> Any:
    return np.sum(np.sin(np.einsum("bcxyij,ocij->boxy", windows(x, (6, 3), axis=(2, 3))[..., 1::2, ::2], w)))


@pytest.mark.parametrize("f", [every_second, with_holes])
def test_gradients_of_every_second_window_and_of_windows_with_holes(f: Any) -> None:
    p = plan(st.grad(f, argnums=(0, 1)), "f64[2,6,23,20]", "f64[7,6,3,2]")
    assert temporaries(p) <= 2 * 7 * 28 * 24 * 8, "the padded cotangent, none of all windows"
    x, w = rng.normal(size=(2, 6, 23, 20)), rng.normal(size=(7, 6, 3, 2))
    u, v = rng.normal(size=x.shape), rng.normal(size=w.shape)
    by_x, by_w = st.compile(st.grad(f, argnums=(0, 1)))(x, w)
    np.testing.assert_allclose(np.sum(by_x * u) + np.sum(by_w * v), st.jvp(f, (x, w), (u, v))[1], rtol=1e-9)


def test_lanes_have_products_of_windows_too() -> None:
    x, w = rng.normal(size=(3, 2, 6, 9, 9)), rng.normal(size=(3, 7, 6, 3, 3))
    lanes = st.vmap(st.grad(loss))
    p = plan(lanes, "f64[3,2,6,9,9]", "f64[3,7,6,3,3]")
    assert [k.name for k in kernels(p) if isinstance(k, Routine)] == ["windowed"] * 2
    want = [st.grad(loss)(a, b) for a, b in zip(x, w, strict=True)]
    np.testing.assert_allclose(st.compile(lanes)(x, w), want, rtol=1e-12, atol=1e-12)
