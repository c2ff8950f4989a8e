"""`print` of traced values prints them when the code runs: every time, in order, per lane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st


def test_every_call_prints_its_values(capsys: pytest.CaptureFixture[str]) -> None:
    @st.compile
    def f(x: Any) -> Any:
        y = 2.0 * x
        print("y is", y, "{sum}", np.sum(y), sep=", ", end=";\n")
        return y

    for k in (1.0, 2.0, 3.0):
        f(np.array([k, 0.5]))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"y is, {2.0 * np.array([k, 0.5])}, {{sum}}, {2 * k + 1.0};" for k in (1.0, 2.0, 3.0)]


def test_loops_and_branches_print_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        for i in range(8):
            x[i] += 1.0
            print(i, x[i])
            if x[i] > 5.0:
                print("large")
            x[i] *= 2.0
        return x

    want_x = f(np.arange(8.0))
    want = capsys.readouterr().out
    got_x = st.compile(f)(np.arange(8.0))
    assert capsys.readouterr().out == want
    np.testing.assert_array_equal(got_x, want_x)


def test_under_transforms(capsys: pytest.CaptureFixture[str]) -> None:
    def f(x: Any) -> Any:
        y = np.sum(x * x)
        print("y", y)
        return y

    st.compile(st.vmap(f))(np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert capsys.readouterr().out == "y 5.0\ny 25.0\n"
    np.testing.assert_array_equal(st.compile(st.grad(f))(np.array([1.0, 2.0])), [2.0, 4.0])
    assert capsys.readouterr().out == "y 5.0\n"


def test_sizes_that_the_run_decides(capsys: pytest.CaptureFixture[str]) -> None:
    @st.compile
    def f(x: Any) -> Any:
        positive = x[x > 0.0]
        print(positive)
        return np.sum(positive)

    f(np.array([1.0, -1.0, 2.0]))
    assert capsys.readouterr().out == "[1. 2.]\n"


def test_plain_values_print_while_tracing(capsys: pytest.CaptureFixture[str]) -> None:
    @st.compile
    def f(x: Any) -> Any:
        print("traced", x.shape)
        return x + 1.0

    f(np.ones(3))
    f(np.ones(3))
    assert capsys.readouterr().out == "traced (3,)\n"
