"""Escape hatches at work, and traced arrays that are used where their level is not in force."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import EscapedTracerError
from stager.interpreters import stack as stk

X = np.array([1.0, 2.0, 3.0])
ROWS = np.stack([X, 2 * X])
RUNS: dict[str, Callable[[Any], Any]] = {
    "vmap": lambda f: st.vmap(f)(ROWS),
    "grad": lambda f: st.grad(lambda x: f(x).sum())(X),
    "jvp": lambda f: st.jvp(f, (X,), (X,)),
    "functionalize": lambda f: st.functionalize(f)(X),
    "vjp": lambda f: st.vjp(f, X),
    "linearize": lambda f: st.linearize(f, X),
    "compile": lambda f: st.compile(f)(X),
}


@pytest.mark.parametrize("name", RUNS)
def test_escaped_arrays_say_where_they_were_made(name: str) -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        y = x[:] * 2
        kept.append(y)
        return y

    def write(y: Any) -> None:
        y[0] = 1.0

    RUNS[name](f)
    line = f.__code__.co_firstlineno + 1
    for use in (
        lambda y: y + 1, lambda y: y.sum(), lambda y: float(y.sum()), lambda y: bool((y > 0).all()), np.asarray, write,
        pickle.dumps, copy.deepcopy, lambda y: st.compile(lambda x: x + y)(X),
        lambda y: st.grad(lambda x: (x * y).sum())(X),
    ):  # fmt: skip
        with pytest.raises(EscapedTracerError) as caught:
            use(kept[0])
        text = str(caught.value)
        assert f"made at {__file__}:{line} in f" in text
        assert name.capitalize() in text or name in ("compile", "vjp", "linearize")
        assert "remedy: return the value from the traced function" in text


def test_another_thread_does_not_see_the_levels_of_this_one() -> None:
    seen: list[Any] = []

    def f(x: Any) -> Any:
        y = x * 2

        def work() -> None:
            seen.append(stk.retrieve_all_interpreters())
            seen.append(st.grad(lambda z: (z * z).sum())(X))
            try:
                y + 1
            except EscapedTracerError as e:
                seen.append(str(e))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return y.sum()

    np.testing.assert_array_equal(st.grad(f)(X), [2, 2, 2])
    levels, slopes, text = seen
    assert levels == []
    np.testing.assert_array_equal(slopes, 2 * X)
    assert text.startswith("a traced array f64[3] made at ")
    assert "is used in another thread than its <Grad level 1" in text


def test_a_value_of_a_popped_level_is_refused() -> None:
    def popped(x: Any) -> Any:
        y = x * x
        with stk.temporarily_pop_interpreter_stack():
            return (y * y).sum()

    def cleared(x: Any) -> Any:
        with stk.temporarily_clear_interpreter_stack():
            return x.sum()

    for run in (st.grad(popped), st.vmap(st.grad(popped)), st.grad(cleared), st.vmap(cleared)):
        with pytest.raises(EscapedTracerError, match="is not in force"):
            run(ROWS if run.__wrapped__ is not popped else X)


def test_hatches_compute_below_and_end_with_exceptions() -> None:
    def f(x: Any) -> Any:
        y = x * x
        with stk.temporarily_pop_interpreter_stack():
            below = np.ones(3) * 2
        with contextlib.suppress(KeyError), stk.temporarily_pop_interpreter_stack():
            raise KeyError
        with (
            contextlib.suppress(KeyError),
            stk.temporarily_clear_interpreter_stack() as saved,
            stk.temporarily_restore_interpreter_stack(saved),
        ):
            raise KeyError
        return (y * below).sum()

    np.testing.assert_array_equal(st.grad(f)(X), 4 * X)
    np.testing.assert_array_equal(st.grad(st.functionalize(f))(X), 4 * X)
    np.testing.assert_array_equal(st.vmap(lambda x: st.jvp(f, (x,), (x,))[0])(ROWS), 2 * (ROWS**2).sum(1))
    np.testing.assert_array_equal(st.compile(st.vmap(st.grad(f)))(ROWS), 4 * ROWS)


def test_states_differ_where_the_settings_do() -> None:
    found: list[Any] = []

    def f(x: Any) -> Any:
        found.append(stk.stack_state())
        return x.sum()

    for settings in ({}, {"randomness": "same"}, {"randomness": "different"}, {"axis_name": "i"}):
        st.vmap(f, **settings)(ROWS)
    st.vmap(st.vmap(f, in_dims=0), in_dims=0)(ROWS[None])
    for around in (contextlib.nullcontext, st.no_grad, lambda: st.set_fwd_grad_enabled(False)):
        with around():
            st.grad(f)(X)
            st.jvp(f, (X,), (X,))
    st.functionalize(f)(X)
    st.functionalize(f, remove="mutations_and_views")(X)
    distinct = {pickle.dumps(s): s for s in found}
    assert len(distinct) == len(set(found)) == 11
    assert all(pickle.loads(pickle.dumps(s)) == s for s in found)
