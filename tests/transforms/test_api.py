"""Argument forms and edges of the public transforms that no table of ops covers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stager as st
from stager.errors import MutationError, TransformError
from stager.runtime.structure import flatten

X, Y = np.array([1.0, 2.0, 3.0]), np.array([0.5, -1.0, 2.0])
ROWS = np.arange(10.0).reshape(5, 2)


def test_one_argument_named_twice_is_refused() -> None:
    for argnums in [(0, 0), (0, -2), (0, "a")]:
        with pytest.raises(ValueError, match="names one argument twice"):
            st.grad(lambda a, b: (a * b).sum(), argnums)(X, Y)


# -- defaults ---------------------------------------------------------------------------------------------------------


def scaled(a: Any, k: Any = 5.0, *, shift: Any = 1.0) -> Any:
    return (a * k + shift).sum()


def test_defaults_that_are_left_out_are_no_arguments() -> None:
    """What `in_dims` and a negative `argnums` count are the arguments of the call, compiled or not."""
    lanes, last = st.vmap(scaled, in_dims=(0,)), st.grad(scaled, argnums=-1)
    for call in (lanes, st.compile(lanes), st.export(lanes, "f64[n,2]")):
        np.testing.assert_array_equal(call(ROWS), [scaled(r) for r in ROWS])
    everything = st.compile(st.vmap(scaled))
    np.testing.assert_array_equal(everything(ROWS), [scaled(r) for r in ROWS])
    np.testing.assert_array_equal(everything(ROWS, np.arange(5.0)), [scaled(r, float(k)) for k, r in enumerate(ROWS)])
    two = st.compile(st.vmap(scaled, in_dims=(0, None)))
    np.testing.assert_array_equal(two(ROWS, 3.0), [scaled(r, 3.0) for r in ROWS])
    for g in (last, st.compile(last)):
        np.testing.assert_array_equal(g(X), [5.0, 5.0, 5.0])
        assert g(X, 2.0) == 6.0


# -- Jacobians --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [None, 2])
@pytest.mark.parametrize("jacobian", [st.jacfwd, st.jacrev, st.jacobian], ids=lambda j: j.__name__)
def test_jacobians_give_aux(jacobian: Any, chunk_size: Any) -> None:
    def f(a: Any) -> Any:
        return a**3, {"twice": a * 2, "name": "cube", "n": 3}

    for g in (jacobian(f, has_aux=True, chunk_size=chunk_size),
              st.compile(jacobian(f, has_aux=True, chunk_size=chunk_size))):  # fmt: skip
        J, aux = g(X)
        np.testing.assert_allclose(J, np.diag(3 * X**2))
        np.testing.assert_array_equal(aux["twice"], X * 2)
        assert aux["name"] == "cube"
        assert aux["n"] == 3


def test_hessian_gives_aux() -> None:
    H, aux = st.hessian(lambda a: ((a**3).sum(), a * 2), has_aux=True)(X)
    np.testing.assert_allclose(H, np.diag(6 * X))
    np.testing.assert_array_equal(aux, X * 2)


def test_both_modes_agree_on_nested_arguments() -> None:
    def f(a: Any, d: Any) -> Any:
        return a * d["k"].sum(), {"z": d["k"][:2] ** 2}

    args = X, {"k": np.arange(4.0)}
    forward, reverse = st.jacfwd(f, (0, 1))(*args), st.jacrev(f, (0, 1))(*args)
    assert flatten(forward)[1] == flatten(reverse)[1]
    for a, b in zip(flatten(forward)[0], flatten(reverse)[0], strict=True):
        np.testing.assert_allclose(a, b)


def test_a_function_that_writes_runs_once() -> None:
    def f(a: Any, b: Any) -> Any:
        a += 1
        return a * b

    a = X.copy()
    Ja, Jb = st.jacfwd(f, (0, 1))(a, Y)
    np.testing.assert_array_equal(a, X + 1)
    np.testing.assert_allclose(Ja, np.diag(Y))
    np.testing.assert_allclose(Jb, np.diag(X + 1))


def test_an_error_names_the_transform_that_was_called() -> None:
    with pytest.raises(TransformError, match=r"^hessian: differentiated arguments must be floating-point"):
        st.hessian(lambda a: (a**3).sum())(np.arange(3))


# -- vmap in chunks ---------------------------------------------------------------------------------------------------


def test_writes_of_chunks_reach_the_argument() -> None:
    def f(row: Any) -> None:
        row[:] = row.sum()

    for in_dims, a in [(0, ROWS.copy()), (1, ROWS.T.copy())]:
        st.vmap(f, in_dims, chunk_size=2)(a)
        np.testing.assert_array_equal(a if in_dims == 0 else a.T, np.repeat(ROWS.sum(1)[:, None], 2, axis=1))


def test_lanes_of_chunks() -> None:
    index = st.vmap(lambda a: a[0] * 0 + st.axis_index("i"), axis_name="i", chunk_size=2)
    np.testing.assert_array_equal(index(ROWS), np.arange(5))
    for collective in (st.psum, st.pmean, st.pmax, st.pmin, st.all_gather):
        with pytest.raises(TransformError, match="needs all lanes at once, and chunk_size computes them in parts"):
            st.vmap(lambda a, c=collective: c(a, "i"), axis_name="i", chunk_size=2)(ROWS)


# -- linear functions and graphs --------------------------------------------------------------------------------------


def prefix(x: Any) -> Any:
    y = np.zeros(3)
    y[0] = x[0]
    for i in range(1, x.shape[0]):
        y[i] = y[i - 1] * 0.5 + x[i]
    return y


@pytest.mark.parametrize("f", [prefix, np.cumsum, lambda x: x[::-1] * 2, lambda x: x[[0, 0, 1]], lambda x: x + 1])
def test_linear_transpose(f: Any) -> None:
    (got,) = st.linear_transpose(f, X)(Y)
    np.testing.assert_allclose(got, st.jacrev(f)(X).T @ Y)
    (got,) = st.compile(lambda ct: st.linear_transpose(f, X)(ct))(Y)
    np.testing.assert_allclose(got, st.jacrev(f)(X).T @ Y)


@pytest.mark.parametrize("f", [np.sin, np.abs, np.sort, lambda x: x * x, lambda x: np.where(x > 1, x, 0)])
def test_a_function_that_is_not_linear_has_no_transpose(f: Any) -> None:
    with pytest.raises(TransformError, match="the function is not linear"):
        st.linear_transpose(f, X)(Y)


def test_graphs_run() -> None:
    graph = st.make_graph(lambda a, b: np.sin(a) * b)(X, 2.0)
    for _ in range(3):  # by the evaluator first, then compiled
        np.testing.assert_allclose(graph(X, 2.0), np.sin(X) * 2)
    with pytest.raises(TypeError, match="takes 2 arrays, not 1"):
        graph(X)
    for wrong, error in [(np.arange(4.0), ValueError), (X.astype(np.float32), TypeError)]:
        with pytest.raises(error, match="input 0 must"):
            graph(wrong, 2.0)
    several = st.make_graph(lambda a: (a + 1, a.sum()))("f64[n]")
    for n in (0, 4, 7):
        rows, total = several(np.ones(n))
        np.testing.assert_array_equal(rows, np.full(n, 2.0))
        assert total == n


# -- linearize through control flow -----------------------------------------------------------------------------------


def branch(x: Any) -> Any:
    x = x.copy()
    if x[0] > 0:
        x[1] *= 0.8
    else:
        x[2] = x[0] * 1.1
    return x * 1.0


def until(x: Any) -> Any:
    s = x.sum()
    while s < 10:
        s = np.abs(s) * 1.5 + x[0] ** 2
    return s * x


def masked(x: Any) -> Any:
    x = x.copy()
    x[x > 0.2] *= 0.7
    return (x[x > 0] ** 2).sum() * x


def counted(x: Any) -> Any:
    count = 0
    for i in range(6):
        if x[i % 3] > 0:
            count = count + 1
    return x * count


@pytest.mark.parametrize("f", [prefix, branch, until, masked, counted], ids=lambda f: f.__name__)
def test_linearize_through_control_flow(f: Any) -> None:
    for x in (X, np.array([-1.0, 0.1, 2.0])):
        value, push = st.linearize(f, x)
        want, slope = st.jvp(f, (x,), (Y,))
        np.testing.assert_allclose(value, want)
        np.testing.assert_allclose(push(Y), slope)
        np.testing.assert_allclose(push(2 * Y), 2 * slope)
        np.testing.assert_allclose(st.compile(lambda x: st.linearize(f, x)[1](Y))(x), slope)
        through = st.grad(lambda x: (st.linearize(f, x)[1](Y) ** 2).sum())(x)
        direct = st.grad(lambda x: (st.jvp(f, (x,), (Y,))[1] ** 2).sum())(x)
        np.testing.assert_allclose(through, direct)


def test_a_compiled_hessian_of_several_arguments() -> None:
    def loss(w: Any, x: Any) -> Any:
        return (np.tanh(x @ w["a"] + w["b"]) ** 2).sum()

    rng = np.random.default_rng(1)
    w, x = {"a": rng.normal(size=3), "b": np.array(0.3)}, rng.normal(size=(4, 3))
    plain, compiled = st.hessian(loss)(w, x), st.compile(st.hessian(loss))(w, x)
    for i in "ab":
        for j in "ab":
            np.testing.assert_allclose(compiled[i][j], plain[i][j], rtol=1e-10)


def test_graphs_are_functions_of_traced_arrays() -> None:
    x = np.array([1.0, 2.0, 3.0])

    def power(x: Any) -> Any:
        s = x[0]
        for v in x:
            s = s * v + 1.0
        return (x * s).sum()

    graph = st.make_graph(power)(x)
    np.testing.assert_allclose(st.grad(graph)(x), st.grad(power)(x), rtol=1e-14)
    np.testing.assert_allclose(st.compile(lambda x: graph(x) * 2)(x), power(x) * 2, rtol=1e-14)
    np.testing.assert_allclose(st.vmap(graph)(np.stack([x, x * 2])), [power(x), power(x * 2)], rtol=1e-14)
    np.testing.assert_allclose(st.hessian(lambda x: graph(x))(x), st.hessian(power)(x), rtol=1e-13)
    sized = st.make_graph(lambda x: x[::-1] * x.shape[0])("f64[n]")
    np.testing.assert_allclose(st.jvp(sized, (x,), (x,))[1], x[::-1] * 3)
    with pytest.raises(TypeError, match=r"input 0 is f64\[3\], not f64\[2\]"):
        st.compile(lambda x: graph(x[:2]))(x)


@pytest.mark.parametrize("make", [lambda f, x: st.vjp(f, x)[1], lambda f, x: st.linearize(f, x)[1]])
def test_derivatives_belong_to_the_arrays_as_they_were(make: Any) -> None:
    """What is called later sees nothing of what became of the arguments and captured arrays since."""
    x, w, one = np.array([1.0, 2.0, 3.0]), np.array([0.5, 1.0, 2.0]), np.ones(3)
    want = np.sin(w * x) + w * x * np.cos(w * x)
    own, captured = x.copy(), w.copy()
    later = make(lambda x: np.sin(x * captured) * x, own)
    own[:], captured[:] = 0, 0
    (got,) = np.atleast_2d(later(one))
    np.testing.assert_allclose(got, want, rtol=1e-14)


@pytest.mark.parametrize("make", [lambda f, x: st.vjp(f, x), lambda f, x: st.linearize(f, x)])
def test_arguments_written_before_the_derivative_is_used(make: Any) -> None:
    def f(x: Any) -> Any:
        y = np.sin(x) * x
        x[:] = y + 1
        return y

    x, one = np.array([1.0, 2.0, 3.0]), np.ones(3)
    own = x.copy()
    y, later = make(f, own)
    np.testing.assert_allclose(own, y + 1, rtol=1e-15)
    (got,) = np.atleast_2d(later(one))
    np.testing.assert_allclose(got, np.sin(x) + x * np.cos(x), rtol=1e-14)


def test_functions_with_rules_of_their_own_do_not_write() -> None:
    @st.custom_vjp
    def f(x: Any) -> Any:
        x *= 2
        return x.sum()

    f.defvjp(lambda x: (x.sum() * 2, x), lambda x, ct: (ct * 2 * np.ones(3),))
    for call in (f, st.grad(f), st.compile(f)):
        with pytest.raises(MutationError, match="a function with rules of its own writes into an argument"):
            call(np.ones(3))


def turns(x: Any) -> Any:
    s = np.zeros(3)
    for i in range(10):
        s = np.tanh(s + x * x[i % 3])
        if s[0] > 0.5:
            s = s * 0.9
    return s


@pytest.mark.parametrize("f", [lambda x: np.sin(x) * x[::-1], turns])
def test_derivatives_made_outside_are_called_inside_other_transforms(f: Any) -> None:
    x, one, rows = np.array([1.0, 2.0, 3.0]), np.ones(3), np.eye(3)
    jacobian = st.jacrev(f)(x)
    _, pull = st.vjp(f, x)
    _, push = st.linearize(f, x)
    np.testing.assert_allclose(st.vmap(pull)(rows)[0], jacobian, rtol=1e-12)
    np.testing.assert_allclose(st.compile(st.vmap(pull))(rows)[0], jacobian, rtol=1e-12)
    np.testing.assert_allclose(st.vmap(push, out_dims=1)(rows), jacobian, rtol=1e-12)
    np.testing.assert_allclose(st.jacfwd(lambda c: pull(c)[0])(one), jacobian.T, rtol=1e-12)
    want = 2 * jacobian @ (jacobian.T @ one)
    np.testing.assert_allclose(st.grad(lambda c: (pull(c)[0] ** 2).sum())(one), want, rtol=1e-12)
    np.testing.assert_allclose(st.linear_transpose(push, x)(one)[0], jacobian.T @ one, rtol=1e-12)
    np.testing.assert_allclose(pull(one)[0], jacobian.T @ one, rtol=1e-12)
    np.testing.assert_allclose(push(one), jacobian @ one, rtol=1e-12)


# -- calling conventions and structures -------------------------------------------------------------------------------


def test_keywords_stay_keywords_under_compile() -> None:
    """A transform counts positions: what is given by keyword is given so to the function that is compiled."""
    grid = np.arange(12.0).reshape(4, 3)
    mapped = st.vmap(lambda x, k=1.0: x * k, in_dims=(0, {"k": 1}))
    for call in (mapped, st.compile(mapped)):
        np.testing.assert_array_equal(call(grid, k=grid.T), grid * grid)
    shared = st.vmap(lambda x, k=1.0: x * k)
    last = st.grad(lambda x, k=1.0: (x * k).sum(), argnums=-1)
    for lanes, g in [(shared, last), (st.compile(shared), st.compile(last))]:
        for _ in range(2):  # each form goes on having its own meaning
            np.testing.assert_array_equal(lanes(grid, k=3.0), grid * 3)
            np.testing.assert_array_equal(lanes(grid, np.arange(4.0)), grid * np.arange(4.0)[:, None])
            np.testing.assert_array_equal(lanes(grid), grid)
            np.testing.assert_array_equal(g(X, k=2.0), [2, 2, 2])
            assert g(X, 2.0) == 6.0
    exported = st.export(shared, "f64[4,3]", k="f64[]")
    np.testing.assert_array_equal(exported(grid, k=np.float64(3.0)), grid * 3)


def test_axes_of_none_are_axes() -> None:
    shared = st.vmap(lambda x: x * 2, in_axes=None, out_axes=None, axis_size=4)
    for call in (shared, st.compile(shared)):
        np.testing.assert_array_equal(call(X), X * 2)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_results_that_are_no_arrays_come_back_from_vmap(chunk_size: Any) -> None:
    rows, name, nothing = st.vmap(lambda x: (x * 2, "name", None), chunk_size=chunk_size)(ROWS)
    np.testing.assert_array_equal(rows, ROWS * 2)
    assert (name, nothing) == ("name", None)


def test_results_that_are_no_arrays_have_no_derivative() -> None:
    for call in (lambda f: st.jvp(f, (X,), (X,)), lambda f: st.vjp(f, X), lambda f: st.jacfwd(f)(X)):
        with pytest.raises(TransformError, match=r"returned a str, which has no derivative(.|\n)*has_aux"):
            call(lambda x: (x, "name"))


def test_tangents_of_linearize_are_nested_as_the_primals() -> None:
    _, push = st.linearize(lambda d, b: d["a"] * b, {"a": X}, Y)
    np.testing.assert_array_equal(push({"a": Y}, X), Y * Y + X * X)
    with pytest.raises(TransformError, match=r"tangents have structure \(\*, \*\), primals \(\{'a': \*\}, \*\)"):
        push(Y, X)


def test_no_argnums() -> None:
    for transform in (st.grad, st.jacfwd, st.jacrev, st.hessian):
        assert transform(lambda a: (a**2).sum(), ())(X) == ()


@pytest.mark.parametrize("chunk_size", [None, 3])
def test_jacobians_of_integer_outputs_are_zeros_of_the_arguments_dtype(chunk_size: Any) -> None:
    def f(x: Any, y: Any) -> Any:
        return np.argmax(x), x > 0, np.floor(y).astype(np.int32), x * y[0]

    x, y = np.arange(3.0), np.arange(2.0, dtype=np.float32)
    forward, reverse = (j(f, (0, 1), chunk_size=chunk_size)(x, y) for j in (st.jacfwd, st.jacrev))
    for rows in zip(forward[:3], reverse[:3], strict=True):
        for got, want, dtype in zip(*rows, (np.float64, np.float32), strict=True):
            assert got.dtype == want.dtype == dtype
            assert got.shape == want.shape
            assert not got.any()
            assert not want.any()
    np.testing.assert_allclose(forward[3][0], reverse[3][0])


def test_two_spellings_of_one_argument_are_refused() -> None:
    for keywords in ({"in_dims": 1, "in_axes": 0}, {"out_dims": 1, "out_axes": 1}):
        with pytest.raises(ValueError, match="two spellings of one argument"):
            st.vmap(np.sin, **keywords)


def test_a_graph_is_made_for_the_ints_that_it_needs() -> None:
    def f(x: Any, n: Any, k: Any) -> Any:
        return np.concatenate([x] * n) + np.zeros(2 * n) + k

    x = np.array([1.0, 2.0])
    graph = st.make_graph(f)(x, 2, 3)
    np.testing.assert_array_equal(graph(x, 5), f(x, 2, 5))
    with pytest.raises(TypeError, match="takes 2 arrays, not 3"):
        graph(x, 4, 5)
