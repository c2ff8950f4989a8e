"""`match` on traced values, names bound behind `and` and `or`, and jumps out of `with` and `try … finally`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st


class Scale:
    left = 0

    def __enter__(self) -> float:
        return 3.0

    def __exit__(self, *error: Any) -> None:
        Scale.left += 1


def kinds(x: Any) -> Any:
    s = 0.0
    for i in range(len(x)):
        match int(x[i] * 3):
            case 0:
                s += x[i]
            case 1 | 2:
                s -= x[i] ** 2
            case n if n > 3:
                s += n * x[i]
            case _:
                s *= 2.0
    return s


def returned(x: Any) -> Any:
    match np.argmax(x):
        case 0:
            return x.sum()
        case 4:
            return x.prod()
        case _ as q:
            return x[q] * 2


def words(x: Any) -> Any:
    mode = "b"
    match mode:
        case "a":
            return x.sum()
        case "b" | "c":
            y = x * 2
        case _:
            y = x
    match (1, x[0]):  # looks into its subject: as Python does it
        case (1, z):
            return y.sum() * z
        case _:
            return 0.0


def truths(x: Any) -> Any:
    s = 0.0
    for i in range(len(x)):
        match x[i] > 0.7:
            case True:
                s += x[i]
            case False:
                continue
        if s > 2:
            break
    return s


def bound_in_a_while(x: Any) -> Any:
    i, s = 0, 0.0
    while i < len(x) and (y := x[i] * 2) < 2.9:
        s += y
        i += 1
    return s


def bound_in_ifs(x: Any) -> Any:
    s = 0.0
    for i in range(len(x) - 1):
        if x[i] > 0.4 and (d := x[i + 1] - x[i]) > 0:
            s += d
        elif x[i] < 0.3 or (e := x[i] * x[i + 1]) > 1.0:
            s -= x[i]
        elif not (x[i] > 0.35 and (e := x[i] + 1.0) < 2.0):
            s += e
        else:
            s += 0.1
    return s


def bound_behind_or(x: Any) -> Any:
    i, s, z = 0, 0.0, x[0]
    while (i < 3 or (z := x[min(i, 4)]) > 0.5) and i < 5:
        s += x[i]
        i += 1
    return s * z


def leaves_a_try(x: Any) -> Any:
    s = 0.0
    for i in range(len(x)):
        try:
            if x[i] > 1.0:
                continue
            if x[i] < 0.25:
                break
            s += x[i]
        finally:
            s += 0.5 * x[i]
    return s


def leaves_a_with(x: Any) -> Any:
    for i in range(len(x)):
        with Scale() as k:
            if x[i] > 1.2:
                return k * x[i]
            y = x[i] * k
            if y > 3:
                break
        y = y + 1
    return y


def leaves_both(x: Any) -> Any:
    s, i = 0.0, 0
    while True:
        try:
            if i >= len(x):
                break
            with Scale() as k:
                if x[i] < 0.5:
                    continue
                s += k * np.log(x[i])
        finally:
            i += 1
    return s


def returns_from_nested(x: Any) -> Any:
    try:
        if x[0] > 5:
            return x.sum()
        try:
            if x[1] > 0.9:
                return x.prod()
        finally:
            x = x * 2
        z = x[2]
    finally:
        w = 1.5
    return z * w


PROGRAMS = [
    kinds, returned, words, truths, bound_in_a_while, bound_in_ifs, bound_behind_or, leaves_a_try, leaves_a_with,
    leaves_both, returns_from_nested,
]  # fmt: skip
X = np.random.default_rng(0).uniform(0.2, 1.5, 5)
XS = np.stack([X, X * 0.8, X[::-1], X + 0.1, np.roll(X, 2)])


@pytest.mark.parametrize("f", PROGRAMS)
def test_programs(f: Callable[[Any], Any]) -> None:
    want = [f(x.copy()) for x in XS]
    compiled, grad = st.compile(f), st.compile(st.grad(f))
    np.testing.assert_allclose([compiled(x) for x in XS], want, rtol=1e-13)
    np.testing.assert_allclose(st.compile(st.vmap(f))(XS), want, rtol=1e-13)
    for x in XS:
        steps = 1e-6 * np.eye(5)
        slopes = [(f(x + h) - f(x - h)) / 2e-6 for h in steps]
        np.testing.assert_allclose(grad(x), slopes, rtol=1e-5, atol=1e-7)


def test_on_plain_values_nothing_changes() -> None:
    def f(x: Any, word: str, n: int) -> Any:
        seen = []
        match n:
            case 1 | 2 as m if m == 2:
                seen.append(("two", m))
            case 1:
                seen.append(("one", n))
            case None:
                seen.append(("none", n))
            case m:
                seen.append(("other", m))
        if word == "a" and (length := len(word)) and n:
            seen.append((word, length))
        while n > 0 and (m := n - 1) >= 0:
            n = m
        return x * len(seen), seen, n, m

    for args in (("a", 1), ("b", 2), ("a", 0), ("a", 5), ("b", None)):
        try:
            want = f(1.0, *args)
        except TypeError:
            with pytest.raises(TypeError):
                st.compile(f)(1.0, *args)
            continue
        assert st.compile(f)(1.0, *args)[1:] == want[1:]


def test_a_context_is_left_once_while_tracing() -> None:
    before = Scale.left
    st.compile(leaves_a_with)(X)
    assert Scale.left > before
