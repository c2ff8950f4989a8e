"""docs/sharp-corners.md, statement by statement.

`CORNERS` pairs the page's paragraphs with the tests of their statements: a paragraph without a test fails, and so
does a test of a paragraph that is gone.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import stager as st
from stager.compiler import compiler_of
from stager.errors import ConcretizationError, ControlFlowError, MutationError, StagerError, UnsupportedError
from tests.graphs import size_of

PAGE = Path(__file__).parents[2] / "docs" / "sharp-corners.md"
Function = Callable[..., Any]
CORNERS: dict[str, list[Function]] = {}
X = np.array([1.0, -2.0, 3.0, 4.0])


def corner(title: str) -> Callable[[Function], Function]:
    """Declares a test of the paragraph whose bold words start with `title`."""

    def declare(test: Function) -> Function:
        CORNERS.setdefault(title, []).append(test)
        return test

    return declare


def titles() -> list[str]:
    found = re.findall(r"^\*\*(.+?)\*\*", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [" ".join(title.split()) for title in found]


def test_every_paragraph_has_its_tests() -> None:
    assert set(CORNERS) == set(titles())


def traces(f: Any) -> int:
    return len(compiler_of(f).history)


# -- values ------------------------------------------------------------------------------------------------------------


@corner("A traced value has no Python value under `compile`.")
@pytest.mark.parametrize("use", [bool, int, float, np.asarray])
def test_python_values_are_refused_in_code_that_is_not_converted(use: Any) -> None:
    @st.do_not_convert
    def f(x: Any) -> Any:
        use(x[0])
        return x

    with pytest.raises(ConcretizationError, match=r"test_sharp_corners\.py:\d+ in f"):
        st.compile(f)(X)


@corner("A traced value has no Python value under `compile`.")
def test_converted_code_needs_none_of_them() -> None:
    def f(x: Any) -> Any:
        total = np.asarray(x)[0] * float(x[1])
        for v in x:
            total = total + v if bool(v > 0) else total - int(v)
        while total < 100:
            total = total * 2
        return total

    assert st.compile(f)(X) == f(X)


@corner("A traced value has no Python value under `compile`.")
def test_plain_calls_carry_values() -> None:
    def f(x: Any) -> Any:
        k = int(st.stop_gradient(x)[0])
        return (x**2).sum() * [1.0, 2.0][k] if x[0] > 0 else x.sum()

    np.testing.assert_allclose(st.grad(st.do_not_convert(f))(X), 4 * X)


@corner("A traced value has no Python value under `compile`.")
def test_plain_calls_refuse_to_drop_a_derivative() -> None:
    with pytest.raises(ConcretizationError, match="stop_gradient"):
        st.grad(st.do_not_convert(lambda x: x.sum() * float(x[0])))(X)


@corner("Real ndarrays that the trace does not know cannot be written.")
def test_buffers() -> None:
    import importlib

    library = importlib.import_module("numpy.polynomial.polynomial")

    def foreign(x: Any) -> Any:
        buffer = library.polyfromroots([1.0, 2.0, 3.0])
        buffer[0] = x[0]
        return buffer

    def own(x: Any, given: Any) -> Any:
        buffer = np.zeros(4)
        buffer[0] = x[0]
        given[1] = x[1]
        return buffer

    with pytest.raises(StagerError):
        st.compile(foreign)(X)
    given = np.zeros(4)
    np.testing.assert_array_equal(st.compile(own)(X, given), [1, 0, 0, 0])
    assert given[1] == X[1]


@corner("Captured arrays are read at each call.")
def test_captured_arrays_and_guards() -> None:
    w, factor, mode, shift, items = np.ones(4), 2.0, "add", lambda x: x + 1.0, [1.0, 2.0]

    def f(x: Any) -> Any:
        y = shift(x * w * factor) + len(items)
        return y if mode == "add" else -y

    compiled = st.compile(f)

    def check(new: bool) -> None:
        before = traces(compiled)
        np.testing.assert_array_equal(compiled(X), f(X))
        assert traces(compiled) == before + new

    check(True)
    w[1] = 7.0
    check(False)
    w = np.arange(4.0)
    check(False)
    factor = 3.0
    check(True)
    mode = "sub"
    check(True)
    shift = np.sin
    check(True)
    items.append(3.0)
    check(True)


@corner("Captured arrays are read at each call.")
def test_freeze_embeds() -> None:
    w = np.ones(4)
    compiled = st.compile(lambda x: x * w, freeze=True)
    np.testing.assert_array_equal(compiled(X), X)
    w[:] = 5.0
    np.testing.assert_array_equal(compiled(X), X)


@corner("What a compiled function does to Python objects it would do once, while tracing.")
def test_python_objects_that_are_read_and_changed() -> None:
    log: list[int] = []

    def numbered(x: Any) -> Any:
        log.append(1)
        return x * len(log)

    with pytest.raises(UnsupportedError, match=r"test_sharp_corners\.py:\d+ in numbered"):
        st.compile(numbered)(X)
    assert not log

    def noted(x: Any) -> Any:
        log.append(1)
        return x * 2

    f = st.compile(noted)
    np.testing.assert_array_equal(f(X), f(X))
    assert log == [1]


@corner("What a compiled function does to Python objects it would do once, while tracing.")
def test_containers_among_the_arguments() -> None:
    def set_anew(p: Any, x: Any) -> Any:
        p["w"] = p["w"] - x
        return p["w"]

    def returned(p: Any, x: Any) -> Any:
        p["w"] = p["w"] - x
        return p

    def written(p: Any, x: Any) -> Any:
        p["w"] -= x
        return p["w"] * 2

    p = {"w": X.copy()}
    with pytest.raises(MutationError, match=r"test_sharp_corners\.py:\d+ in set_anew"):
        st.compile(set_anew)(p, X)
    np.testing.assert_array_equal(st.compile(returned)(p, X)["w"], 0.0)
    np.testing.assert_array_equal(p["w"], X)
    st.compile(written)(p, X)
    np.testing.assert_array_equal(p["w"], 0.0)


@corner("Two arguments that share memory")
def test_shared_arguments() -> None:
    def write(x: Any, y: Any) -> None:
        x[0] = y[1]

    z = np.arange(6.0)
    np.testing.assert_array_equal(st.compile(np.add)(z[:4], z[2:]), z[:4] + z[2:])
    with pytest.raises(ValueError, match="share memory"):
        st.compile(write)(z[:4], z[1:5])

    def inner(a: Any) -> Any:
        a[0] = 10.0
        return a.sum()

    def reads_the_source(z: Any) -> Any:
        return st.functionalize(inner)(z) + z[0]

    def reads_another_argument(z: Any) -> Any:
        def product(a: Any, b: Any) -> Any:
            a[0] = 10.0
            return (a * b).sum()

        return st.functionalize(product)(z, z[::-1])

    with pytest.raises(MutationError, match="shares memory"):
        st.compile(lambda z: st.functionalize(lambda a: (inner(a), z[0]))(z))(X)
    with pytest.raises(MutationError, match="shares memory"):
        st.compile(reads_another_argument)(X)
    assert st.compile(reads_the_source)(X.copy()) == 25.0  # after the transform its write is the source's


@corner("0-d results are NumPy scalars")
def test_scalars() -> None:
    assert type(st.compile(np.sum)(X)) is type(np.sum(X)) is np.float64
    assert type(st.compile(lambda x: x[0])(X)) is np.float64
    assert type(st.grad(lambda x: x * x)(2.0)) is np.float64


@corner("`np.errstate` has no effect in compiled code")
def test_errstate() -> None:
    def f(x: Any) -> Any:
        with np.errstate(all="raise"):
            return 1.0 / (x - x) + np.log(-x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = st.compile(f)(np.abs(X))
    assert np.isnan(out).all()


@corner("Random numbers need a key.")
def test_random() -> None:
    with pytest.raises(StagerError, match=r"st\.random"):
        st.compile(lambda x: x + np.random.normal(size=4))(X)
    key = st.random.key(0)
    assert st.compile(lambda x: x + st.random.uniform(key, (4,)))(X).shape == (4,)


@corner("`np.empty` gives zeros in traced code")
def test_empty() -> None:
    np.testing.assert_array_equal(st.compile(lambda x: (np.empty(3) + x[0], np.empty_like(x)))(X)[0], [1, 1, 1])
    np.testing.assert_array_equal(st.compile(lambda x: np.empty_like(x))(X), np.zeros(4))


@corner("New results are C-contiguous")
def test_contiguous() -> None:
    x = np.asfortranarray(np.arange(12.0).reshape(3, 4))
    assert not (x + 1).flags.c_contiguous
    copies: Function = lambda x: x.copy(order="F")  # noqa: E731
    for f in (lambda x: x + 1, lambda x: np.exp(x.T).T, lambda x: np.asfortranarray(x * 2), copies):
        assert st.compile(f)(x).flags.c_contiguous
    y = np.ascontiguousarray(x)
    assert st.compile(np.asfortranarray)(y).flags.c_contiguous
    assert st.compile(lambda x: x.T)(y).flags.f_contiguous  # a view, as NumPy's


@corner("Results of `np.lib.stride_tricks.as_strided` are copies.")
def test_as_strided() -> None:
    def f(x: Any) -> Any:
        windows = as_strided(x, (3, 2), (8, 8))
        windows[1, 0] = 9.0
        return windows, windows.sum()

    ours, theirs = X.copy(), X.copy()
    (windows, total), want = st.compile(f)(ours), f(theirs)
    assert total == want[1]
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(windows, want[0])
    assert not np.shares_memory(windows, ours)


# -- sizes -------------------------------------------------------------------------------------------------------------

DATA_SIZES: dict[str, Function] = {
    "mask": lambda x: x[x > 0] * 2,
    "nonzero": lambda x: np.nonzero(x > 0)[0],
    "unique": lambda x: np.unique(np.floor(x)),
    "zeros": lambda x: np.zeros(np.count_nonzero(x > 0)) + x[0],
    "slice": lambda x: x[: np.count_nonzero(x > 0)] + 1,
}


@corner("Sizes that depend on data")
@pytest.mark.parametrize("name", DATA_SIZES)
def test_sizes_of_data(name: str) -> None:
    f = DATA_SIZES[name]
    compiled = st.compile(f)
    for x in (X, -X, np.abs(X), -np.abs(X)):
        np.testing.assert_array_equal(compiled(x), f(x))
    assert traces(compiled) == 1


@corner("Sizes that depend on data")
def test_an_extent_of_one_is_not_stretched() -> None:
    def f(x: Any, y: Any) -> Any:
        return x[x > 0] + y[y > 0]

    one = np.array([1.0, -1.0, -1.0, -1.0])
    assert f(X, one).shape == (3,)
    with pytest.raises(ValueError, match="axis"):
        st.compile(f)(X, one)


@corner("Sizes that depend on data")
def test_bincount() -> None:
    k = np.array([0, 2, 2])
    with pytest.raises(StagerError, match="minlength"):
        st.compile(np.bincount)(k)
    np.testing.assert_array_equal(st.compile(lambda k: np.bincount(k, minlength=4))(k), [1, 0, 2, 0])


@corner("Sizes that depend on data")
def test_a_slice_to_a_traced_bound_is_a_copy() -> None:
    f: Function = lambda x, n: x[:n]  # noqa: E731
    assert np.shares_memory(f(X, 2), X)
    compiled = st.compile(lambda x: x[: np.count_nonzero(x > 0)])
    np.testing.assert_array_equal(compiled(X), X[:3])
    assert not np.shares_memory(compiled(X), X)


@corner("Under `compile(dynamic=...)` sizes are integers.")
def test_dynamic_sizes() -> None:
    parity = st.compile(lambda x: x * 2 if len(x) % 2 else x * 3, dynamic="f64[n]")
    for n in (3, 5, 9, 4, 8, 2, 7):
        np.testing.assert_array_equal(parity(np.ones(n)), np.full(n, 2.0 if n % 2 else 3.0))
    assert traces(parity) == 2
    factorial = st.compile(lambda x: x * math.factorial(len(x)), dynamic="f64[n]")
    for n in (3, 4, 3, 5):
        np.testing.assert_array_equal(factorial(np.ones(n)), np.full(n, float(math.factorial(n))))
    assert traces(factorial) == 3


@corner("Under `compile(dynamic=...)` sizes are integers.")
def test_sizes_with_code_of_their_own() -> None:
    """The rest of the list: tests/numpy/test_dynamic_sizes.py, `FIXED`."""
    double = st.compile(lambda x: x * 2, dynamic="f64[n]")
    for n in (5, 1, 0, 7, 101):
        np.testing.assert_array_equal(double(np.ones(n)), np.full(n, 2.0))
    assert traces(double) == 3
    rows = st.compile(lambda x: np.unstack(x), dynamic="f64[n,3]")
    assert [len(rows(np.ones((n, 3)))) for n in (2, 4, 2)] == [2, 4, 2]
    assert traces(rows) == 2


@corner("Under `compile(dynamic=...)` sizes are integers.")
def test_sizes_in_code_that_is_not_converted() -> None:
    @st.do_not_convert
    def f(x: Any) -> Any:
        return x * 2 if len(x) == 3 else x * 3

    compiled = st.compile(f, dynamic="f64[n]")
    for n in (3, 4):
        np.testing.assert_array_equal(compiled(np.ones(n)), np.full(n, 2.0 if n == 3 else 3.0))


@corner("What was written before an exception stays")
def test_writes_before_an_exception_stay_and_those_of_a_transform_wait_for_its_end() -> None:
    def energy(z: Any, k: Any) -> Any:
        z[0] = 9.0
        assert k > 0
        return (z * z).sum()

    def f(x: Any, k: Any) -> Any:
        x += 1.0
        g = st.grad(energy)(x, k)
        x *= 2.0
        return g

    x = X.copy()
    with pytest.raises(AssertionError):
        st.compile(f)(x, -1)
    np.testing.assert_array_equal(x, X + 1.0)


@corner("An index out of range raises `IndexError` where its result is used.")
def test_out_of_range() -> None:
    used = st.compile(lambda x, i: x[i] * 2)
    with pytest.raises(IndexError, match="out of bounds"):
        used(X, 9)

    def unused(x: Any, i: Any) -> Any:
        x[i]
        return x * 2

    np.testing.assert_array_equal(st.compile(unused)(X, np.int64(9)), X * 2)


# -- names and lists ---------------------------------------------------------------------------------------------------


@corner("A name that a traced branch or loop binds anew is a copy of one of several arrays.")
def test_rebound_names() -> None:
    def write(x: Any, c: Any) -> Any:
        y = x
        if c:
            x = x + 1
        x[0] = 5.0
        return y

    def read(x: Any, c: Any) -> Any:
        y = x
        if c:
            x = x + 1
        y[0] = 5.0
        return x

    def remedy(x: Any, c: Any) -> Any:
        y = x.copy()
        if c:
            x = x + 1
        y[0] = 5.0
        return x, y

    def behind_a_loop(x: Any, n: Any, again: int) -> Any:
        y = x
        while n > 0:
            y, n = y * 2.0, n - 1.0
        y[0] = 5.0
        for i in range(again):
            y[i] += 1.0
        return y

    for f in (write, read):
        with pytest.raises(MutationError):
            st.compile(f)(X.copy(), np.True_)
    seen, expected = X.copy(), X.copy()
    np.testing.assert_array_equal(st.compile(behind_a_loop)(seen, 0.0, 0), behind_a_loop(expected, 0.0, 0))
    np.testing.assert_array_equal(seen, expected)
    with pytest.raises(ValueError, match="the loop has taken no turn"):
        st.compile(behind_a_loop)(seen, 0.0, 6)
    for c in (np.True_, np.False_):
        for got, want in zip(st.compile(remedy)(X.copy(), c), remedy(X.copy(), c), strict=True):
            np.testing.assert_array_equal(got, want)


def plain_list(x: Any, n: int) -> Any:
    out = []
    for i in range(n):
        out.append(np.sin(x * i))  # noqa: PERF401
    return np.stack(out)


def last_item(x: Any, n: int) -> Any:
    out = [x]
    for i in range(n):
        out.append(out[-1] * np.sin(x * i))
    return np.stack(out)


def length(x: Any, n: int) -> Any:
    out = [x]
    for _ in range(n):
        out.append(x * len(out))
    return np.stack(out)


def known_length(x: Any, n: int) -> Any:
    out = [x]
    for i in range(n):
        if i % 2:
            out.append(x * i)  # noqa: PERF401
    return np.stack(out)


def shapes_differ(x: Any, n: int) -> Any:
    out = []
    for i in range(n):
        out.append(x[: 1 + i % 3])  # noqa: PERF401
    return np.concatenate(out)


def conditional(x: Any) -> Any:
    out = []
    for i in range(20):
        if x[i] > 0:
            out.append(x[i] * i)  # noqa: PERF401
    total = 0.0
    for v in out:
        total = total + v
    return np.stack(out), np.array(out), len(out), sum(out), max(out), out[1], total, out


@corner("A list that a loop appends to")
@pytest.mark.parametrize("f", [plain_list, last_item, length, known_length])
def test_lists_cost_the_same_for_any_number_of_turns(f: Function) -> None:
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 40)]
    assert sizes[0] == sizes[1]
    np.testing.assert_allclose(st.compile(f)(X, 5), f(X, 5), rtol=1e-14)


@corner("A list that a loop appends to")
@pytest.mark.parametrize("f", [shapes_differ])
def test_a_copy_of_the_body_per_turn(f: Function) -> None:
    small, large = (size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (20, 40))
    assert large > small
    np.testing.assert_allclose(st.compile(f)(X, 5), f(X, 5), rtol=1e-14)


@corner("A list that a loop appends to")
def test_lengths_that_the_run_knows() -> None:
    x = np.sin(np.arange(20.0))
    got, want = st.compile(conditional)(x), conditional(x)
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-14)


@corner("A list that a loop appends to")
def test_what_lists_of_traced_lengths_cannot() -> None:
    def sorts(x: Any) -> Any:
        out = []
        for i in range(20):
            if x[i] > 0:
                out.append(x[i])  # noqa: PERF401
        out.sort()
        return out

    with pytest.raises(StagerError):
        st.compile(sorts)(np.sin(np.arange(20.0)))


@corner("A list that a loop appends to")
def test_items_that_may_be_one_array() -> None:
    def f(x: Any) -> Any:
        out = []
        for _ in range(20):
            y = x * 0.5
            out.append((x, y))
            x = y
        out[3][0][0] = 1.0
        return out[2][1]

    with pytest.raises(MutationError):
        st.compile(f)(X)


# -- derivatives and linear algebra --------------------------------------------------------------------------------


@corner("`sorted` and `list.sort` put NaN last")
def test_nan_is_sorted_last() -> None:
    x = np.array([2.0, np.nan, 1.0])
    np.testing.assert_array_equal(st.compile(lambda x: np.array(sorted(x)))(x), np.sort(x))


@corner("Derivatives of quotients multiply by the reciprocal")
def test_reciprocals() -> None:
    for f in (lambda x, y: x / y, lambda x, y: np.log(y) * x, lambda x, y: np.sqrt(y) * x):
        assert np.isfinite(f(1e-310, 1e-310))
        assert np.isfinite(st.grad(f)(1e-300, 1e-300))
    assert np.isinf(st.grad(lambda x, y: x / y)(1e-310, 1e-310))
    assert 1e-310 / 1e-310 == 1.0


@corner("Derivatives of quotients multiply by the reciprocal")
def test_factors_leave_sums() -> None:
    """(sum_i x_i) * c has terms c * x_i that are finite where the bare sum is not."""

    def f(w: Any, x: Any) -> Any:
        return np.sum((x @ w) * 1e-10)

    x = np.full((64, 2), 1e307)
    want = (x * 1e-10).sum(0)
    np.testing.assert_allclose(st.grad(f)(np.ones(2), x), want)


@corner("Compiled Jacobians take what a unit vector selects")
def test_jacobians_select() -> None:
    a = np.array([[1.0, np.inf], [3.0, 4.0]])
    np.testing.assert_array_equal(st.compile(st.jacfwd(lambda v: a @ v))(np.ones(2)), a)


@corner("Gradients of convolutions pad by zeros")
def test_convolutions_pad() -> None:
    def f(x: Any, w: Any) -> Any:
        shown = np.lib.stride_tricks.sliding_window_view(x, 2, axis=1)
        return np.sum(np.einsum("cxi,oci->ox", shown, w))

    w = np.ones((6, 5, 2))
    w[:, :, 0] = np.inf  # of a window's first element, which the image's last one never is
    got = st.grad(f)(np.ones((5, 8)), w)
    assert np.isinf(got[:, :-1]).all()
    assert np.isnan(got[:, -1]).all()


@corner("`np.linalg.eigh` and `svd` rotate in planes until nothing is left to rotate")
def test_rotations() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(100, 100))
    a = a + a.T
    w, v = st.compile(np.linalg.eigh)(a)
    np.testing.assert_allclose(w, np.linalg.eigvalsh(a), atol=1e-10)
    np.testing.assert_allclose(a @ v, v * w, atol=1e-10)
    np.testing.assert_allclose(np.abs(v), np.abs(np.linalg.eigh(a)[1]), atol=1e-8)
    np.testing.assert_allclose(st.grad(lambda a: np.linalg.eigvalsh(a).sum())(np.eye(3)), np.eye(3), atol=1e-12)
    with pytest.raises(TypeError, match="full_matrices=False"):
        st.grad(lambda a: np.linalg.svd(a)[0].sum())(a[:, :3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        st.compile(lambda x, y: np.polyfit(x, y, 3))(np.ones(5), np.ones(5))


def _evens(x: Any, n: int) -> Any:
    for i in range(n):
        yield x[i % 4] * i


def _sends(x: Any, n: int) -> Any:
    for i in range(n):
        got = yield x[i % 4] * i
        assert got is None


@corner("A generator of yours runs where the loop over it stands")
def test_generators() -> None:
    def over(g: Function) -> Function:
        def f(x: Any, n: int) -> Any:
            s = 0.0
            for v in g(x, n):
                s = s * 0.5 + v
            return s

        return f

    sizes = []
    for g in (_evens, _sends):
        f = over(g)
        assert st.compile(f)(X, 7) == f(X, 7)
        sizes.append([size_of(st.make_graph(lambda x, n=n: f(x, n))(X)) for n in (7, 70)])
    assert sizes[0][0] == sizes[0][1]
    assert sizes[1][0] < sizes[1][1]
    f = st.compile(over(_sends))
    assert "yield" in str(f.explain(X, 7))


@corner("A dict that a loop fills")
def test_dicts() -> None:
    def f(x: Any, n: int) -> Any:
        d: dict[int, Any] = {}
        for i in range(n):
            d[i] = x[i % 4] + (d[i - 1] if i else 0)
        return d

    def missing(x: Any, n: int) -> Any:
        d: dict[int, Any] = {}
        for i in range(n):
            if i > 1:
                d[i] = x[i % 4]
        s = 0.0
        for i in range(n):
            s += d[i]
        return s

    got = st.compile(f)(X, 8)
    assert list(got) == list(range(8))
    assert all(got[k] == v for k, v in f(X, 8).items())
    sizes = [size_of(st.make_graph(lambda x, n=n: f(x, n)[n - 1])(X)) for n in (8, 80)]
    assert sizes[0] == sizes[1]
    with pytest.raises(KeyError):
        st.compile(missing)(X, 8)


@corner("An iterator that a loop left where the data said")
def test_iterators_left_by_data() -> None:
    def f(x: Any) -> Any:
        g, t = iter([x[0], x[1], x[2]]), 0.0
        for v in g:
            if v < 0:
                break
        for v in g:
            t = t + v
        return t

    with pytest.raises(ControlFlowError, match="has left this iterator"):
        st.compile(f)(X)
