"""What cannot be staged says so: line, variable, reason, remedy; loops fall back to Python where they can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import ConcretizationError, ControlFlowError, MutationError, UnsupportedError
from stager.tracing import trace

X = np.linspace(1.0, 2.0, 6)


def refused(f, *args, error=ControlFlowError):
    with pytest.raises(error) as caught:
        st.make_graph(f)(*args)
    return str(caught.value)


def test_different_shapes() -> None:
    def f(x):
        y = x
        if x[0] > 0:
            y = y.reshape(2, 3)
        return y

    text = refused(f, X)
    assert "'y' has different shapes: f64[6] and f64[2,3]" in text
    assert "remedy: give it the same shape on every path" in text
    assert "test_control_errors.py" in text


def test_array_and_text() -> None:
    def f(x):
        y = "none"
        if x[0] > 0:
            y = x
        return y

    assert "'y' is 'none' and an array f64[6], depending on a traced condition" in refused(f, X)


def test_append_under_a_condition() -> None:
    def f(x):
        held = {"out": {"rows": []}}
        if x[0] > 0:
            held["out"]["rows"].append(x)
        return held

    text = refused(f, X)
    assert "list.append inside a traced branch or loop would happen once, while tracing" in text
    assert "remedy: keep the values in an array" in text


def test_return_out_of_a_try() -> None:
    def f(x):
        try:
            if x[0] > 0:
                return x
        except ValueError:
            pass
        else:
            x = x * 2
        return -x

    assert "leaves a try with else or a match by structure" in refused(f, X)


def test_a_variable_that_changes_its_shape() -> None:
    def f(x, n):
        y = x
        for _ in range(n):
            y = np.concatenate([y, y])
        return y

    with pytest.raises(ControlFlowError, match=r"'y' changes in a traced loop: it is f64\[6\] before an iteration"):
        st.make_graph(lambda x, n: f(x, np.sum(n)))(X, np.array([3]))


def test_a_write_into_one_of_two_arrays() -> None:
    def f(x):
        a, b = np.zeros(3), np.ones(3)
        c = a if x[0] > 0 else b
        c[0] = 7
        return a, b

    text = refused(f, X, error=MutationError)
    assert "one of several arrays, chosen by traced control flow" in text
    assert "remedy: write into a copy of it" in text


def test_python_state_that_compiled_code_depends_on() -> None:
    class Counter:
        n = 0

    counter = Counter()

    def f(x):
        counter.n += 1
        return x * counter.n

    assert "reads counter.n and assigns it" in refused(f, X, error=UnsupportedError)


def test_asserts_and_raises_become_checks() -> None:
    def f(x):
        assert x[0] > 0, "must be positive"
        if x[1] > 10:
            raise ValueError("too large: {x}")
        return np.sqrt(x)

    np.testing.assert_allclose(st.compile(f)(X), np.sqrt(X))
    with pytest.raises(AssertionError, match="must be positive"):
        st.compile(f)(-X)
    with pytest.raises(ValueError, match=r"too large: \{x\}"):
        st.compile(f)(X * 100)


def test_a_loop_that_cannot_be_staged_is_unrolled_and_says_why() -> None:
    def f(x):
        out = []
        for i in range(6):
            out.insert(1, x[i] * i)
        return out

    traced = trace(f, (X,), {})
    ((file, line, reason),) = traced.session.declined
    assert file == __file__
    assert line == f.__code__.co_firstlineno + 2
    assert reason.startswith("list.insert")


def test_too_long_to_unroll() -> None:
    def f(x):
        out = []
        for i in range(100_000):
            out.insert(1, x[0] * i)
        return out

    assert "list.insert" in refused(f, X)


def test_ambiguous_truth_is_numpys_error() -> None:
    with pytest.raises(ValueError, match="ambiguous"):
        st.make_graph(lambda x: 1 if x > 0 else 2)(X)


def test_nothing_changes_when_staging_fails() -> None:
    class Box:
        total = 0.0

    def f(x):
        box = Box()
        out = []
        for i in range(6):
            box.total += x[i]
            out.append(box.total)
        return out, box.total

    out, total = st.compile(f)(X)
    np.testing.assert_allclose(out, np.cumsum(X))
    np.testing.assert_allclose(total, X.sum())


def view_kept_aside(x: Any) -> Any:
    v = x.copy()
    w = v[1:]
    if x[0] > 0:
        v[0] *= 2
    else:
        v = v * 1.1
    v[1] = 5
    return w * 1.0


def base_kept_aside(x: Any) -> Any:
    b = x.copy()
    v = b[::-1]
    if x[0] > 0:
        v[0] *= 2
    else:
        v = v * 1.1
    v[1] = 5
    return b * 1.0


def view_kept_aside_of_a_loop(x: Any) -> Any:
    v = x.copy()
    w = v[1:]
    for i in range(20):
        v[1] += i
        v = v * 2
    return w * v[0]


def held_by_nobody_else(x: Any) -> Any:
    v = x.reshape(-1, 1).copy().T
    if x[0] > 0:
        v[0] *= 2
    else:
        v = v * 1.1
    v[0, 1] = 5
    return v * 1.0


@pytest.mark.parametrize("x", [np.array([1.0, 2.0, 3.0]), np.array([-1.0, 2.0, 3.0])])
def test_an_array_that_a_branch_leaves_may_be_held_through_views(x: Any) -> None:
    for f in (view_kept_aside, base_kept_aside):
        for g in (st.compile(f), st.grad(lambda x, f=f: f(x).sum())):
            with pytest.raises(MutationError, match="a write into an array whose place is not known"):
                g(x)
    np.testing.assert_allclose(st.compile(held_by_nobody_else)(x), held_by_nobody_else(x))
    np.testing.assert_allclose(st.compile(view_kept_aside_of_a_loop)(x), view_kept_aside_of_a_loop(x))


def view_written_after(x: Any) -> Any:
    y = x[1:]
    if x[0] > 0:
        x = x + 1
    y += 1
    return x.sum() + y.sum()


def alias_written_after(x: Any) -> Any:
    x = x * 1.0
    y = x
    if x[0] > 0:
        x = x + 1
    y[0] = 7
    return x * 2


def alias_written_after_a_loop(x: Any) -> Any:
    y = x
    for i in range(20):
        if x[0] > i:
            x = x + 1
    y += 1
    return x.sum() + y.sum()


def alias_of_a_loop_that_may_not_run(x: Any) -> Any:
    y = x
    while x[0] > 2:
        x = x - 1
    y += 1
    return x.sum()


def read_before(x: Any) -> Any:
    y = x
    if x[0] > 0:
        x = x + 1
    s = x.sum()
    y += 1
    return s + y.sum()


def alias_written_on_one_side(x: Any) -> Any:
    y = x
    if x[0] > 0:
        x = x + 1
    if x[1] > 0:
        s = x.sum()
    else:
        s = y.sum()
        y = y * 2
        y[0] = 1
    return s + x[1] + y.sum()


def double_buffer(x: Any) -> Any:
    u, v = x.copy(), x * 0
    for _ in range(20):
        v[1:] = u[:-1] * 0.5
        u, v = v, u
    u[0] = 1
    return u + v


@pytest.mark.parametrize("x", [np.array([1.0, 2.0, 3.0]), np.array([-1.0, 2.0, 3.0]), np.array([-1.0, -2.0, 3.0])])
def test_a_chosen_array_is_not_read_once_it_was_written_under_another_name(x: Any) -> None:
    """Which array the name holds is not known, so whether it sees the write is not known either."""
    for f in (view_written_after, alias_written_after, alias_written_after_a_loop, alias_of_a_loop_that_may_not_run):
        for g in (st.compile(f), st.grad(lambda x, f=f: f(x).sum())):
            with pytest.raises(MutationError, match="a read of an array that may have been written under another name"):
                g(x.copy())
    for f in (read_before, alias_written_on_one_side, double_buffer):
        np.testing.assert_allclose(st.compile(f)(x.copy()), f(x.copy()))


def test_a_step_of_the_run_is_not_zero() -> None:
    def f(x):
        s = 0.0
        for i in range(0, 5, np.count_nonzero(x > 0)):
            s += x[i]
        return s

    g = st.compile(f)
    assert g(np.ones(5)) == 1.0
    with pytest.raises(ValueError, match=r"range\(\) arg 3 must not be zero"):
        g(-np.ones(5))


def test_handlers_do_not_catch_refusals() -> None:
    """The program would go on as if NumPy had raised."""

    def f(x: Any) -> Any:
        found = {}
        try:
            found["a"] = x[0]
            found["b"] = {x[1]: 1.0}
        except Exception:
            found["c"] = 1.0
        return np.array(next(iter(found.values()))) + len(found)

    with pytest.raises(ConcretizationError, match="hashed"):
        st.compile(f)(np.arange(3.0))

    def g(x: Any) -> Any:
        try:
            return x.reshape(5)
        except ValueError:
            return x * 2.0

    np.testing.assert_array_equal(st.compile(g)(np.arange(3.0)), np.arange(3.0) * 2)
