"""Loaded functions: they take, return and refuse what the function that was built does, and pickle."""

from __future__ import annotations

import inspect
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import stager as st
from stager.aot.build import Member
from stager.aot.errors import BuildError
from stager.errors import ConcretizationError
from tests.aot.calling import needs_cc

pytestmark = needs_cc


class Layer(NamedTuple):
    w: np.ndarray
    b: np.ndarray


@dataclass
class Model:
    layers: list
    scale: float


SCALES = np.arange(3.0)


def apply(model, x, *, bias=0.5):
    """The model's output."""
    for layer in model.layers:
        x = np.tanh(x @ layer.w + layer.b)
    return {"out": x * model.scale + bias, "first": (x[0], None), "name": "apply"}


def mixed(x, k, mode="sum"):
    return x * k if mode == "sum" else x / k


def inplace(x, y):
    x += y
    return x, x.sum()


def captured(x):
    return x * SCALES


def wide(x):
    return x @ x.T


def sized(x):
    return x[x > 0]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    model = Model([Layer("f64[4,3]", "f64[3]"), Layer("f64[3,2]", "f64[2]")], "f64[]")
    members = {
        "apply": Member(apply, [model, "f64[n,4]"]), "mixed": Member(mixed, ["f64[n]", "float"]),
        "divided": Member(mixed, ["f64[n]", "float", "'div'"]), "inplace": Member(inplace, ["f64[n]", "f64[n]"]),
        "scalars": Member(lambda x, k: (x + k, k * 2, x > k), ["f64[]", "i64[]"]),
        "captured": Member(captured, ["f64[n,3]"]), "wide": Member(wide, ["f64[n,m]"], strided=True),
        "sized": Member(sized, ["f64[n]"]), "weak": Member(lambda x, k: x * k, ["f32[n]", "float"]),
    }  # fmt: skip
    return st.build(members, tmp_path_factory.mktemp("load"), name="load").files["library"]


def test_containers_in_and_out(path):
    rng = np.random.default_rng(0)
    layers = [Layer(rng.normal(size=(4, 3)), rng.normal(size=3)), Layer(rng.normal(size=(3, 2)), rng.normal(size=2))]
    f, x = st.load(path, "apply"), rng.normal(size=(5, 4))
    for scale in (2.0, np.float64(2.0), np.array(2.0)):
        model = Model(layers, scale)
        got, want = f(model, x), apply(model, x)
        assert list(got) == ["out", "first", "name"]
        assert type(got["first"]) is tuple
        assert (got["first"][1], got["name"]) == (None, "apply")
        np.testing.assert_allclose(got["out"], want["out"], rtol=1e-12)
        np.testing.assert_allclose(got["first"][0], want["first"][0], rtol=1e-12)
    assert str(inspect.signature(f)) == "(model, x, *, bias=0.5)"
    assert f.__doc__ == "The model's output."
    assert f.__name__ == "apply"
    with pytest.raises(TypeError, match="takes"):
        f(model, x, bias=1.0)
    with pytest.raises(TypeError, match="takes"):
        f(Model(layers[:1], 2.0), x)


def test_numbers(path):
    f = st.load(path, "mixed")
    np.testing.assert_array_equal(f(np.arange(3.0), 2.5), np.arange(3.0) * 2.5)
    np.testing.assert_array_equal(f(np.arange(3.0), k=2.5, mode="sum"), np.arange(3.0) * 2.5)
    with pytest.raises(TypeError, match="takes"):
        f(np.arange(3.0), 2.5, "div")
    g = st.load(path, "divided")
    np.testing.assert_array_equal(g(np.arange(3.0), 2.5, "div"), np.arange(3.0) / 2.5)
    with pytest.raises(TypeError, match="takes"):
        g(np.arange(3.0), 2.5, "sum")
    h = st.load(path, "scalars")
    for x, k in ((1.5, 2), (np.float64(1.5), np.int64(2)), (np.array(1.5), np.array(2)), (1.5, np.int64(2))):
        got = h(x, k)
        assert got == (3.5, 4, False)
        assert [type(v) for v in got] == [np.float64, np.int64, np.bool_]
    assert st.load(path, "weak")(np.ones(2, np.float32), 0.1).dtype == np.float32


def test_parameters_keep_their_kinds_and_defaults(tmp_path):
    weight = np.full(3, 2.0)

    def f(x, y=2.0, *, scale, flip=False):
        return (-x if flip else x) * y * scale + weight

    built = st.build(
        {
            "f": (f, ["f64[3]", "float", "f64[]", "True"]),
            "scaled": (lambda x, *, scale=1.5: x * scale, ["f64[n]"]),
            "many": (lambda x, *rest, scale: (x + sum(rest)) * scale, ["f64[n]", "f64[n]", "f64[n]", "float"]),
        },
        tmp_path, name="kinds",
    )  # fmt: skip
    x = np.arange(3.0)
    full = st.load(built.files["library"], "f")
    assert str(full.__signature__) == "(x, y=2.0, *, scale, flip=False, weight)"
    np.testing.assert_array_equal(full(x, scale=np.array(3.0), flip=True, weight=weight), -x * 6.0 + 2.0)
    with pytest.raises(TypeError, match="takes"):
        full(x, scale=np.array(3.0), weight=weight)  # built for flip=True
    np.testing.assert_array_equal(st.load(built.files["library"], "scaled")(x), x * 1.5)
    np.testing.assert_array_equal(st.load(built.files["library"], "many")(x, x, x, scale=2.0), x * 6.0)
    for specs in (["f64[3]"], ["f64[3]"] * 5):
        with pytest.raises(BuildError, match="the specs do not fit the parameters"):
            st.build({"f": (f, specs)}, tmp_path)


def test_numbers_that_a_function_is_built_for(tmp_path):
    def power(x, n, scale):
        out = np.ones_like(x)
        for _ in range(n):
            out = out * x
        return out[:n] * scale

    built = st.build({"power": (power, ["f64[n]", "3", "-2.5"])}, tmp_path)
    f = st.load(built.files["library"])
    x = np.arange(5.0)
    np.testing.assert_array_equal(f(x, 3, -2.5), power(x, 3, -2.5))
    for wrong in ((4, -2.5), (3, 2.5), (3.0, -2.5), (True, -2.5)):
        with pytest.raises(TypeError, match=r"power of libpower.so takes \(x: f64\[n\]\)"):
            f(x, *wrong)
    for any_number in (3, 0, -2):
        g = st.load(st.build({"power": (power, ["f64[n]", "int", "float"])}, tmp_path / "any").files["library"])
        np.testing.assert_array_equal(g(x, any_number, 2.0), power(x, any_number, 2.0))
    with pytest.raises(ConcretizationError, match="the value of an int argument is needed"):
        st.build({"rows": (lambda x, n: x.reshape(n, -1), ["f64[n]", "int"])}, tmp_path)


def test_writes_reach_the_caller_and_arguments_come_back(path):
    f = st.load(path, "inplace")
    x, y = np.arange(4.0), np.ones(4)
    got, total = f(x, y)
    assert got is x
    assert (x.tolist(), total) == ([1.0, 2.0, 3.0, 4.0], 10.0)
    odd = np.arange(8.0)[::2]
    f(odd, y)
    assert odd.tolist() == [1.0, 3.0, 5.0, 7.0]
    swapped = np.arange(4.0).astype(">f8")
    f(swapped, y)
    assert swapped.tolist() == [1.0, 2.0, 3.0, 4.0]
    x.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        f(x, y)
    z = np.arange(5.0)
    with pytest.raises(ValueError, match="share memory"):
        f(z[1:], z[:4])


def test_arrays_of_any_layout(path):
    f, base = st.load(path, "wide"), np.arange(60.0).reshape(5, 12)
    for x in (base, base[:, 2:7], base[::2, ::3], base.T, base[::-1, ::-1], base.astype(">f8"), base[:1], base[:0]):
        np.testing.assert_allclose(f(x), x @ x.T)


def test_captured_arrays_follow_the_arguments(path):
    f = st.load(path, "captured")
    assert list(inspect.signature(f).parameters) == ["x", "SCALES"]
    np.testing.assert_array_equal(f(np.ones((2, 3)), SCALES), captured(np.ones((2, 3))))
    np.testing.assert_array_equal(f(np.ones((2, 3)), SCALES=SCALES), captured(np.ones((2, 3))))


def test_results_of_unknown_size(path):
    f = st.load(path, "sized")
    for x in (np.array([1.0, -1.0, 2.0]), np.zeros(4), np.zeros(0)):
        np.testing.assert_array_equal(f(x), x[x > 0])


def test_what_does_not_fit_is_an_error(path):
    f = st.load(path, "inplace")
    for args in ((np.ones(3), np.ones(4)), (np.ones(3, np.float32), np.ones(3)), (np.ones((3, 1)), np.ones(3)), (1, 2)):
        with pytest.raises(TypeError, match=r"inplace of libload.so takes \(x: f64\[n\], y: f64\[n\]\)"):
            f(*args)
    with pytest.raises(TypeError, match="missing a required argument"):
        f(np.ones(3))
    with pytest.raises(TypeError, match="takes"):
        f(np.ma.ones(3), np.ones(3))
    assert isinstance(f(np.arange(3.0).view(np.recarray), np.ones(3))[1], np.float64)


def test_pickles(path):
    for name in ("apply", "inplace", "sized"):
        f = st.load(path, name)
        again = pickle.loads(pickle.dumps(f))
        assert str(inspect.signature(again)) == str(inspect.signature(f))
    np.testing.assert_array_equal(again(np.array([1.0, -1.0])), [1.0])


def test_any_number_of_arguments(tmp_path):
    def many(*xs):
        return [x * 2 for x in xs], xs[0].sum()

    f = st.load(st.build({"many": (many, ["f64[3]", "f64[n]"])}, tmp_path).files["library"])
    (a, b), total = f(np.ones(3), np.arange(4.0))
    assert (a.tolist(), b.tolist(), total) == ([2.0] * 3, [0.0, 2.0, 4.0, 6.0], 3.0)
    with pytest.raises(TypeError, match="takes"):
        f(np.ones(3))


def test_what_is_no_library(tmp_path, path):
    with pytest.raises(BuildError, match="not a library"):
        st.load(Path(__file__))
    with pytest.raises(BuildError, match="say which"):
        st.load(path)
    with pytest.raises(BuildError, match="not 'nothing'"):
        st.load(path, "nothing")
