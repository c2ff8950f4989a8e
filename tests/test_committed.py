"""What a function wrote before it raised is in the caller's arrays, and nothing of what it would have written then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stager as st
from stager.ir.evaluate import evaluate_graph
from stager.pipeline import optimize
from tests.aot.calling import needs_cc

TABLE = np.arange(5.0)
PLACES = np.array([0, 1, 2, 9, 1, 2, 3, 1])

PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {}


def program(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    PROGRAMS[f.__name__] = f
    return f


# -- asserts in a row --------------------------------------------------------------------------------------------------


@program
def elements(x: Any, k: Any) -> None:
    x[0] = 1.0
    assert k > 0
    x[0] = 2.0
    x[1] = 3.0


@program
def whole_arrays(x: Any, k: Any) -> Any:
    x += 1.0
    assert k > 0
    x *= 2.0
    return x.sum()


@program
def parts_that_cover(x: Any, k: Any) -> None:
    x[:3] = 1.0
    assert k > 0
    x[3:] = 2.0


@program
def views_of_one_array(x: Any, k: Any) -> None:
    y, z = x[:4], x[4:]
    y += z
    assert k > 0
    z -= y


@program
def masks(x: Any, k: Any) -> None:
    x[x > 2] = 1.0
    assert k > 0
    x[x < 2] += 3.0


@program
def copies(x: Any, k: Any) -> Any:
    old = x.copy()
    x[:] = x[::-1]
    assert k > 0
    x[1:] = old[:-1] + x[1:]
    return old


@program
def a_local_array(x: Any, k: Any) -> None:
    y = x.copy()
    y[0] = 7.0
    assert k > 0
    x[:] = y


@program
def unrolled(x: Any, k: Any) -> None:
    for v in [1.0, 2.0, 3.0]:
        x[0] += v
        assert x[0] < 3.0 + k
        x[1] += v


@program
def helpers(x: Any, k: Any) -> None:
    def g(z: Any) -> None:
        z[0] = 3.0
        assert k > 0
        z[0] = 4.0

    g(x[2:])
    x[0] = 9.0


@program
def libraries(x: Any, k: Any) -> None:
    x += 1.0
    m = np.eye(2) * (k + 1)
    x[0] = np.linalg.inv(m)[0, 0]
    x *= 2.0


# -- indices -----------------------------------------------------------------------------------------------------------


@program
def a_look_up_between(x: Any, k: Any) -> Any:
    x[0] = 1.0
    v = TABLE[k]
    x[1] = 2.0
    return v


@program
def a_look_up_that_is_used_late(x: Any, k: Any) -> Any:
    x += 1.0
    v = TABLE[PLACES[:3] + k]
    x *= 2.0
    return v * 2.0


@program
def looked_up_rows(x: Any, k: Any) -> None:
    x[1:5] = TABLE[PLACES[:4] + k] * 2.0


@program
def one_array_in_two(x: Any, k: Any) -> None:
    y = x[:4]
    y[k] = 5.0
    x[4:] = y


@program
def elements_of_a_view(x: Any, k: Any) -> None:
    y = x.reshape(2, 4)[:, 1]
    y[PLACES[:2] + k] = np.array([5.0, 6.0])
    x[0] = 1.0


@program
def added_rows(x: Any, k: Any) -> None:
    x[0] = 1.0
    np.add.at(x, PLACES + k, 1.0)
    x[0] += 1.0


# -- branches ----------------------------------------------------------------------------------------------------------


@program
def a_branch(x: Any, k: Any) -> None:
    x[0] = 1.0
    if x[3] < 5:
        x[1] = 3.0
        assert k > 0
        x[1] = 2.0
    x[2] = 0.5


@program
def a_branch_that_raises(x: Any, k: Any) -> None:
    x += 1.0
    if k < 0:
        x[0] = 5.0
        raise KeyError("no")
    x *= 2.0


@program
def all_branches_raise(x: Any, k: Any) -> None:
    x += 1.0
    if x[2] > 0:
        if k < 0:
            x[0] = 5.0
            raise KeyError("no")
        x[1] = 6.0
        raise ValueError("no")
    x *= 2.0


@program
def whole_arrays_in_all_branches(x: Any, k: Any) -> None:
    if x[1] > 9:
        x += 1.0
        assert k < 0
        x[:] = x[::-1] * 3.0
    else:
        x[:] = x[::-1] + 2.0
        assert k > 0
        x *= 2.0


@program
def an_older_copy_beside_a_branch(x: Any, k: Any) -> Any:
    t = x * 1.0
    if x[1] > 9:
        t = x * 2.0
    else:
        for i in range(4):
            assert x[i + 2] < k + 6
            x[i] += 2.0
    return t


@program
def branches_in_branches(x: Any, k: Any) -> None:
    if x[1] > 9:
        if x[1] > 4:
            x[2] += 1.0
        else:
            assert x[k] < 20
    elif k < 0:
        x[0] = 7.0
        raise KeyError("no")


@program
def a_branch_that_takes_another_array(x: Any, k: Any) -> None:
    x += 1.0
    y = x * 2.0
    if x[1] < 9:
        if k < 0:
            x[2] += 1.0
            x[:] = y
            raise KeyError("no")
    else:
        x[:] = y + y
    x *= 2.0


@program
def a_branch_beside_a_copy(x: Any, k: Any) -> Any:
    y = x.copy()
    if x[1] < 9:
        x[1] = 3.0
        assert k > 0
        x[2] = y[1]
    return y


@program
def one_element(x: Any, k: Any) -> None:
    y = x[:1]
    y += 1.0
    if k < 3:
        y *= 2.0
        assert k > 0
        y[0] = 9.0
    y -= 1.0


# -- loops -------------------------------------------------------------------------------------------------------------


@program
def a_loop(x: Any, k: Any) -> None:
    for i in range(x.shape[0]):
        x[i] = 1.0
        assert i < 4 + k
        x[i] = 2.0


@program
def whole_arrays_in_a_loop(x: Any, k: Any) -> None:
    for i in range(6):
        x[:] = x * 2.0
        assert i < 3 + k
        x[:] = x + 1.0


@program
def arrays_that_change_places(x: Any, k: Any) -> None:
    y = np.zeros_like(x)
    for i in range(6):
        y[1:-1] = x[:-2] + x[2:]
        assert i < 3 + k
        x[:] = y


@program
def one_element_in_a_loop(x: Any, k: Any) -> None:
    for i in range(8):
        x[0] += 1.0
        x[1] += TABLE[PLACES[i] + k]


@program
def look_ups_in_a_loop(x: Any, k: Any) -> Any:
    s = 0.0
    for i in range(x.shape[0] - 1):
        x[i] = 10.0
        v = TABLE[PLACES[i] + k]
        x[i + 1] = 20.0
        s += v
    return s


@program
def a_loop_that_only_checks(x: Any, k: Any) -> None:
    x += 1.0
    for i in range(6):
        assert i < 3 + k
    x += 1.0


@program
def a_loop_behind_a_loop(x: Any, k: Any) -> None:
    for i in range(8):
        x[i] += 1.0
    for i in range(8):
        assert i < 4 + k
        x[i] *= 2.0


@program
def a_loop_in_a_loop(x: Any, k: Any) -> None:
    for i in range(4):
        x += 1.0
        for j in range(2):
            x[i + j] *= 2.0
            assert i + j < 3 + k
        x[7] = x[0]


@program
def a_while(x: Any, k: Any) -> None:
    i = 0
    while x[i] < 6.0:
        x[i] = 1.0
        if i > 2 + k:
            x[:] = 3.0
            raise ValueError("no")
        x[i] = 2.0
        i += 1


def run(f: Callable[[Any, Any], Any], k: int) -> tuple[Any, Any, Any]:
    x = np.arange(8.0) + 0.5
    try:
        result, error = f(x, k), None
    except Exception as e:
        result, error = None, type(e)
    return x, result, error


@pytest.mark.parametrize("name", PROGRAMS)
def test_writes_stay_as_in_numpy(name: str) -> None:
    f = PROGRAMS[name]
    compiled = st.compile(f)
    raised = 0
    for k in (1, -1, 100, -1):
        theirs, expected, error = run(f, k)
        ours, result, other = run(compiled, k)
        assert other is error, k
        np.testing.assert_array_equal(ours, theirs)
        if error is None and expected is not None:
            np.testing.assert_allclose(result, expected, rtol=1e-14)
        raised += error is not None
    assert raised >= 1


def scaled(x: Any, k: Any) -> None:
    if k < 3:
        x += 1
        assert k > 0
        x *= 2
    for i in range(5):
        x += 1
        assert i < 2 + k
        x *= 2


LAYOUTS: dict[str, Callable[[], Any]] = {
    "no axes": lambda: np.array(3.0),
    "one element": lambda: np.ones(1),
    "steps": lambda: np.arange(16.0)[::-2],
    "swapped": lambda: np.arange(8.0).astype(">f8"),
    "misaligned": lambda: np.frombuffer(bytearray(65), np.uint8)[1:].view("f8"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_writes_stay_in_arrays_of_any_layout(layout: str) -> None:
    compiled = st.compile(scaled)
    for k in (1, -1, 9):
        theirs, ours = LAYOUTS[layout](), LAYOUTS[layout]()
        for f, x in ((scaled, theirs), (compiled, ours)):
            if k < 4:
                with pytest.raises(AssertionError):
                    f(x, k)
            else:
                f(x, k)
        np.testing.assert_array_equal(ours, theirs)


# -- transforms --------------------------------------------------------------------------------------------------------


def energy(z: Any, k: Any) -> Any:
    z[0] = 9.0
    assert k > 0
    z[1] = 8.0
    return (z * z).sum()


def around_a_gradient(x: Any, k: Any) -> Any:
    x += 1.0
    g = st.grad(energy)(x, k)
    x *= 2.0
    return g


def around_a_map(x: Any, k: Any) -> Any:
    x += 1.0
    y = st.vmap(energy, in_dims=(0, None))(x.reshape(2, 4), k)
    x *= 2.0
    return y


@pytest.mark.parametrize("f", [around_a_gradient, around_a_map], ids=lambda f: f.__name__)
def test_what_a_transform_writes_is_there_when_it_ends(f: Callable[[Any, Any], Any]) -> None:
    x = np.arange(8.0)
    with pytest.raises(AssertionError):
        st.compile(f)(x, -1)
    np.testing.assert_array_equal(x, np.arange(8.0) + 1.0)


def stepwise(z: Any, k: Any) -> Any:
    for i in range(8):
        z[i] *= 2.0
        z[i] += TABLE[i + k]
    return (z * z).sum()


def raises_on_the_way_back(z: Any, w: Any, k: Any) -> Any:
    """The gradient needs the places of w, and nothing of what stands there."""
    s = 0.0
    for i in range(8):
        z[i] += 0.5
        s += w[(3 * i) % 5 + k]
    return s + z.sum()


def a_lane(z: Any, k: Any) -> Any:
    for i in range(4):
        z[i] += TABLE[i + k]
    return z.sum()


TRANSFORMS: dict[str, Callable[[Any, Any], Any]] = {
    "grad": lambda x, k: st.grad(stepwise)(x, k),
    "jvp": lambda x, k: st.jvp(lambda z: stepwise(z, k), (x,), (np.ones(8),)),
    "vmap": lambda x, k: st.vmap(stepwise, in_dims=(0, None))(x.reshape(1, 8), k),
    "lanes": lambda x, k: st.vmap(stepwise)(x.reshape(1, 8), k + np.array([0])),
    "chunks": lambda x, k: st.vmap(a_lane, chunk_size=1)(x.reshape(2, 4), k + np.array([0, 2])),
    "way back": lambda x, k: st.grad(raises_on_the_way_back, argnums=(0, 1))(x, TABLE * 1.0, k + 3),
    "hvp": lambda x, k: st.jvp(st.grad(lambda z: stepwise(z, k)), (x,), (np.ones(8),)),
    "functionalize": lambda x, k: st.functionalize(stepwise)(x, k),
    "checkpoint": lambda x, k: st.grad(st.checkpoint(stepwise))(x, k),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_a_transform_that_raises_leaves_the_arrays_as_they_were_before_it(name: str) -> None:
    transform = TRANSFORMS[name]

    def f(x: Any, k: Any) -> Any:
        x += 1.0
        return transform(x, k)

    compiled = st.compile(f)
    for k in (-3, 0):
        ours, theirs = np.arange(8.0), np.arange(8.0)
        for g, x in ((compiled, ours), (f, theirs)):
            if k == 0:
                with pytest.raises(IndexError):
                    g(x, k)
            else:
                g(x, k)
        np.testing.assert_allclose(ours, theirs, rtol=1e-14)
        assert (ours[0] == 1.0) == (k == 0)


# -- the graph ---------------------------------------------------------------------------------------------------------


def commits(f: Callable[..., Any], *args: Any) -> int:
    return sum(n.op.name == "commit" for n in optimize(st.compile(f).graph(*args)).nodes)


def test_there_are_commits_only_where_something_may_raise() -> None:
    def never(x: Any) -> None:
        x += 1.0
        assert x.shape[0] > 2
        x[0] = x[np.array([0, 1])].sum()

    def no_write(x: Any, k: Any) -> Any:
        assert k > 0
        return x[k]

    def before(x: Any, k: Any) -> None:
        assert k > 0
        x += 1.0

    x = np.arange(8.0)
    assert commits(never, x) == 0
    assert commits(no_write, x, 2) == 0
    assert commits(before, x, 2) == 0
    assert commits(whole_arrays, x, 2) == 1


def test_the_evaluator_tells_what_was_committed() -> None:
    graph = st.compile(elements).graph(np.arange(8.0), 2)
    committed: dict[int, Any] = {}
    with pytest.raises(AssertionError):
        evaluate_graph(graph, [np.arange(8.0), np.int64(-1)], committed=committed)
    np.testing.assert_array_equal(committed[0], [1.0, 1, 2, 3, 4, 5, 6, 7])


# -- built libraries ---------------------------------------------------------------------------------------------------


@needs_cc
def test_writes_stay_in_built_libraries(tmp_path: Path) -> None:
    names = ("whole_arrays", "whole_arrays_in_a_loop", "a_branch_that_raises")
    members = {n: (PROGRAMS[n], ["f64[8]", "i64[]"]) for n in names}
    made = st.build(members, tmp_path, name="committed").files["library"]
    for n in names:
        theirs, _, error = run(PROGRAMS[n], -1)
        ours, _, other = run(st.load(made, n), -1)
        assert other is error
        np.testing.assert_array_equal(ours, theirs)


def test_lanes_run_one_by_one_behind_a_commit() -> None:
    """What is written in front of a map is committed before the checks in it, and no reason to refuse its lanes."""

    def f(a: Any, k: Any) -> Any:
        q, t = np.linalg.qr(a + np.eye(4, 3) * 2.0)
        a[0] += k
        c = q * t[0, 0]
        c[c > 0.4] *= 0.6
        return c + a

    xs, ks = np.random.default_rng(0).normal(size=(3, 4, 3)), np.array([1.0, -2.0, 0.5])
    left = xs.copy()

    def mapped(a: Any, k: Any) -> Any:
        a += 1.0
        return st.vmap(f, chunk_size=2)(a, k)

    got = st.compile(mapped)(left, ks)
    rows = xs + 1.0
    np.testing.assert_allclose(got, [f(x, k) for x, k in zip(rows, ks, strict=True)], rtol=1e-12)
    np.testing.assert_array_equal(left, rows)
