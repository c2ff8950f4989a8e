"""Text of traced values: known ones as NumPy has them, others refused, printed when the code runs, or described."""

from __future__ import annotations

import inspect
import sys
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ConcretizationError, ControlFlowError

X = np.array([1.0, 2.0])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: f"{x[0]}", lambda x: f"{x[0]:.3f}", lambda x: f"{x!r}", lambda x: str(x[0]), lambda x: repr(x),
        lambda x: format(x[0], ".2f"), lambda x: str([x[0], 1]), lambda x: f"{x[0]} {x[1]}",
        lambda x: "%s and %g" % (x[0], x[1]),  # noqa: UP031
        lambda x: "{} {a}".format(x[0], a=x[1]),  # noqa: UP032
    ],
)  # fmt: skip
def test_values_become_text_only_where_they_are_known(f: Any) -> None:
    with pytest.raises(ConcretizationError, match="text is made of a traced"):
        st.compile(f)(X)
    assert st.functionalize(f)(X) == f(X)


def test_numbers_of_turns_and_arguments() -> None:
    def f(x, n):
        return {f"layer{i}": x * i for i in range(6)}, f"{n} of {n + 1}"

    got, text = st.compile(f)(X, 3)
    want, other = f(X, 3)
    assert list(got) == list(want)
    assert text == other
    np.testing.assert_allclose(got["layer5"], want["layer5"])


def test_printed_when_the_code_runs(capfd: Any) -> None:
    def f(x, n):
        for k in range(6):
            x = x * 0.5
            if x[0] > 0.1:
                print(f"step {k}/{n} loss {x[0]:.3f} {x!r} {{}}", "end", x[1])
        return x

    f(X, 3)
    want = capfd.readouterr().out
    g = st.compile(f)
    for _ in range(2):
        g(X, 3)
        assert capfd.readouterr().out == want


def test_texts_of_exceptions_describe() -> None:
    def f(x):
        if x[0] < 0:
            raise ValueError(f"bad {x[0]:.2f} at {x.shape[0]}")
        if x[1] > 9:
            raise ValueError("too large: %.2f" % x[1])  # noqa: UP031
        assert x[0] < 5, f"big {x[0]:.1f}"
        return x

    g = st.compile(f)
    np.testing.assert_array_equal(g(X), X)
    for x, text in ((-X, "bad .* at 2"), (X + 9, "too large: ")):
        with pytest.raises(ValueError, match=text):
            g(x)
    with pytest.raises(AssertionError, match="big "):
        g(np.array([6.0, 1.0]))


def test_source_that_cannot_be_read() -> None:
    found: dict[str, Any] = {}
    exec("def f(x):\n    if x[0] > 0:\n        return x * 2\n    return x\ndef g(x):\n    return x * 2 + x\n", found)
    np.testing.assert_array_equal(st.compile(found["g"])(X), X * 3)
    np.testing.assert_array_equal(st.functionalize(found["f"])(X), X * 2)
    with pytest.raises(ConcretizationError, match="f is traced as it is, because its source cannot be read"):
        st.compile(found["f"])(X)


def test_conversion_turned_off_for_a_nested_function() -> None:
    def f(x):
        @st.do_not_convert
        def inner(v):
            return v * 2 if v[0] > 0 else v

        return inner(x)

    np.testing.assert_array_equal(st.functionalize(f)(X), X * 2)
    with pytest.raises(ConcretizationError, match=r"bool\(\) needs the value"):
        st.compile(f)(X)


def test_recursion_without_end() -> None:
    def f(v, x):
        if v <= 0:
            return x
        return f(v - 1, x * 2)

    with pytest.raises(ControlFlowError, match=r"calls itself under a traced condition(.|\n)*while loop"):
        st.compile(lambda x: f(x[1], x))(X)


def test_recursion_with_known_values_runs_in_python() -> None:
    def either(n):
        return n <= 0 or either(n - 1)

    def both(n):
        return n > 1 and (n == 2 or both(n - 1))

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 120)  # each turn is traced up to there before it is given up
    try:
        for f in (either, both):
            assert st.functionalize(f)(np.int64(3)) == f(3)
            assert st.compile(f)(3) == f(3)
            with pytest.raises(ControlFlowError, match="calls itself under a traced condition"):
                st.compile(f)(np.array(3))
    finally:
        sys.setrecursionlimit(limit)
