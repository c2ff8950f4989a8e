"""`compile` as users meet it: containers, guards, writes, aliasing, captured values, odd arrays, pickles, errors."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math
import pickle
import threading
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest

import stager as st
from stager.errors import ConcretizationError, EscapedTracerError, ShapeError, StagerError, UnsupportedError


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Params:
    w: Any
    b: Any


class Box:
    def __init__(self, x: Any, note: str) -> None:
        self.x, self.note = x, note


st.register_container(Box, lambda box: ((box.x,), box.note), lambda note, children: Box(children[0], note))


def traces(f: Any) -> int:
    return len(f.__dict__["__stager__"].history)


@pytest.mark.parametrize(
    "arg",
    [
        (np.ones(2), np.ones(3)), [np.ones(2), 1.5], {"x": np.ones(2), "y": {"z": 2}}, Pair(np.ones(2), 3.0),
        Params(np.ones(2), None), None, (), Box(np.ones(2), "n"),
    ],
    ids=lambda a: type(a).__name__,
)  # fmt: skip
def test_containers_in_and_out(arg):
    from stager.runtime.structure import flatten, map_leaves

    @st.compile
    def f(x):
        return map_leaves(lambda leaf: leaf * 2, x), [x]

    for _ in range(2):
        got, _same = f(arg)
        assert flatten(got)[1] == flatten(arg)[1]
        for g, x in zip(flatten(got)[0], flatten(arg)[0], strict=True):
            np.testing.assert_array_equal(g, np.asarray(x) * 2)
    assert traces(f) == 1


def test_second_call_traces_nothing():
    @st.compile
    def f(x):
        return x + 1

    f(np.ones(3))
    f(np.zeros(3))
    assert traces(f) == 1
    f(np.ones(4))
    f(np.ones(3, np.float32))
    assert traces(f) == 3


def test_python_scalars_are_weak_and_do_not_specialise():
    @st.compile
    def f(x, a):
        return x * a

    assert f(np.ones(2, np.float32), 2.0).dtype == np.float32
    np.testing.assert_array_equal(f(np.ones(2, np.float32), 3.5), [3.5, 3.5])
    assert f(np.ones(2, np.int8), 3).dtype == np.int8
    assert traces(f) == 2


def test_ints_that_size_things_specialise():
    @st.compile
    def f(x, n):
        return x[:n] + np.zeros(n)

    assert f(np.ones(4), 2).shape == (2,)
    assert f(np.ones(4), 3).shape == (3,)
    assert f(np.ones(4), 2).shape == (2,)
    assert traces(f) == 2


def test_keywords_defaults_and_varargs():
    @st.compile
    def f(x, *rest, scale=2.0, **named):
        return (x + sum(rest)) * scale + named.get("shift", 0)

    assert f(1.0) == 2.0
    assert f(1.0, 2.0, 3.0) == 12.0
    assert f(1.0, scale=3.0) == 3.0
    assert f(x=1.0, shift=4.0) == 6.0


def test_argument_errors_are_pythons():
    @st.compile
    def f(x):
        return x

    with pytest.raises(TypeError, match="argument"):
        f()
    with pytest.raises(TypeError, match="argument"):
        f(1.0, 2.0)
    with pytest.raises(TypeError, match="argument"):
        f(1.0, y=2.0)


# -- captured values ----------------------------------------------------------------------------------------------

WEIGHT = np.arange(3.0)
FACTOR = 2.0


def test_captured_arrays_are_read_at_each_call(monkeypatch):
    @st.compile
    def f(x):
        return x * WEIGHT * FACTOR

    module = __import__(__name__, fromlist=["x"])
    np.testing.assert_array_equal(f(np.ones(3)), [0, 2, 4])
    WEIGHT[0] = 5.0
    np.testing.assert_array_equal(f(np.ones(3)), [10, 2, 4])
    WEIGHT[0] = 0.0
    monkeypatch.setattr(module, "WEIGHT", np.ones(3))
    np.testing.assert_array_equal(f(np.ones(3)), [2, 2, 2])
    assert traces(f) == 1
    monkeypatch.setattr(module, "FACTOR", 10.0)
    np.testing.assert_array_equal(f(np.ones(3)), [10, 10, 10])
    assert traces(f) == 2


def test_closures_and_attributes_are_seen():
    w = np.ones(2)

    class Model:
        def __init__(self):
            self.w, self.n = np.ones(2), 3

        @st.compile
        def forward(self, x):
            return self.w * x * self.n

    @st.compile
    def f(x):
        return x + w

    f(np.ones(2))
    w = np.full(2, 5.0)
    np.testing.assert_array_equal(f(np.ones(2)), [6, 6])
    m = Model()
    np.testing.assert_array_equal(m.forward(np.ones(2)), [3, 3])
    m.w = np.zeros(2)
    np.testing.assert_array_equal(m.forward(np.ones(2)), [0, 0])
    m.n, m.w = 4, np.ones(2)
    np.testing.assert_array_equal(m.forward(np.ones(2)), [4, 4])


def test_freeze_embeds_captured_arrays():
    w = np.ones(2)
    f = st.compile(lambda x: x + w, freeze=True)
    f(np.zeros(2))
    w[0] = 9
    np.testing.assert_array_equal(f(np.zeros(2)), [1, 1])


# -- writes and aliasing ------------------------------------------------------------------------------------------


def test_written_arguments_reach_the_caller():
    @st.compile
    def f(x, y):
        x[1:] *= 2
        y.T[0] += 1
        return x

    x, y = np.ones(3), np.zeros((2, 2))
    assert f(x, y) is x
    np.testing.assert_array_equal(x, [1, 2, 2])
    np.testing.assert_array_equal(y, [[1, 0], [1, 0]])


def test_results_share_memory_as_in_numpy():
    def f(x):
        y = x + 1
        return x, x[1:], x.T, x.reshape(-1), y, y[0], x * 2

    x = np.ones((2, 3))
    got, want = st.compile(f)(x), f(x)
    assert got[0] is x
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert np.shares_memory(g, x) == np.shares_memory(w, x), i
        for j in range(i):
            assert np.shares_memory(g, got[j]) == np.shares_memory(w, want[j]), (i, j)


def test_read_only_arguments_stay():
    @st.compile
    def f(x):
        x[0] = 1
        return x

    x = np.zeros(2)
    x.setflags(write=False)
    with pytest.raises(ValueError, match="read-only"):
        f(x)
    assert x[0] == 0


def test_overlapping_written_arguments_are_refused():
    @st.compile
    def f(x, y):
        x += y
        return x

    a = np.ones(4)
    f(np.ones(3), np.ones(3))
    with pytest.raises(ValueError, match="share memory"):
        f(a[1:], a[:-1])
    np.testing.assert_array_equal(a, np.ones(4))


# -- odd arrays ---------------------------------------------------------------------------------------------------


def misaligned():
    raw = np.zeros(8 * 4 + 1, np.uint8)[1:].view(np.float64)
    raw[:] = [1, 2, 3, 4]
    return raw


@pytest.mark.parametrize(
    "x",
    [
        np.arange(12.0).reshape(3, 4).T, np.arange(12.0)[::-2], np.arange(4.0).astype(">f8"), misaligned(),
        np.zeros((0, 3)), np.array(2.0), np.broadcast_to(np.ones(3), (2, 3)),
        np.arange(24.0).reshape(2, 3, 4)[:, ::2, 1],
        np.ones(2).view(type("Sub", (np.ndarray,), {})),
    ],
    ids=["transposed", "reversed", "swapped", "misaligned", "empty", "0-d", "broadcast", "strided", "subclass"],
)  # fmt: skip
def test_odd_arrays(x):
    f = st.compile(lambda x: x * 2 + 1)
    for _ in range(2):
        np.testing.assert_array_equal(f(x), np.asarray(x) * 2 + 1)


def test_masked_arrays_are_refused():
    with pytest.raises(UnsupportedError, match="MaskedArray"):
        st.compile(lambda x: x + 1)(np.ma.masked_array([1.0, 2.0], [0, 1]))


@pytest.mark.parametrize(
    "bad", [np.array(["a"]), np.array([1j]), np.array([None]), np.array(["2020"], "M8[D]")], ids=str
)
def test_unsupported_dtypes_are_refused(bad):
    with pytest.raises(TypeError, match="dtype"):
        st.compile(lambda x: x + 1)(bad)


# -- errors -------------------------------------------------------------------------------------------------------


def message(error: BaseException) -> list[str]:
    return str(error).splitlines()


def test_shape_error_names_line_and_transforms():
    def loss(x):
        return (x + np.ones(4)).sum()

    with pytest.raises(ShapeError) as e:
        st.compile(st.vmap(st.grad(loss)))(np.ones((2, 3)))
    lines = message(e.value)
    assert lines[0] == "add: cannot broadcast operands of shapes (3,) with (4,)"
    assert "test_compile.py" in lines[1]
    assert lines[1].endswith("in loss")
    assert lines[2] == "  under vmap of grad"


def test_concretization_error_names_the_line_and_a_remedy():
    @st.compile
    @st.do_not_convert
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    with pytest.raises(ConcretizationError) as e:
        f(np.ones(3))
    lines = message(e.value)
    assert lines[0].startswith("bool() needs the value of a traced b1[]")
    assert any(line.startswith("  remedy: ") for line in lines)


def test_tracebacks_end_in_user_code():
    def f(x):
        return x + np.ones(5)

    with pytest.raises(ShapeError) as e:
        st.compile(f)(np.ones(3))
    files = [entry.frame.code.raw.co_filename for entry in e.traceback]
    assert files[-1] == __file__


def test_escaped_tracer():
    kept = []

    def f(x):
        kept.append(x)
        return x

    st.compile(f)(np.ones(2))
    with pytest.raises(EscapedTracerError):
        st.compile(lambda x: x + kept[0])(np.ones(2))


def test_unsupported_function_names_what_is_near():
    with pytest.raises(UnsupportedError, match=r"np\..*is not supported"):
        st.compile(lambda x: np.fft.fft(x))(np.ones(4))


def test_index_out_of_bounds_from_native_code():
    f = st.compile(lambda x, i: x[i])
    assert f(np.arange(3.0), np.array([2, -3])).tolist() == [2, 0]
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        f(np.arange(3.0), np.array([0, 3]))
    assert f(np.arange(3.0), np.array([1, 1])).tolist() == [1, 1]


def test_errors_derive_from_one_class():
    assert issubclass(ShapeError, StagerError)
    assert issubclass(ShapeError, ValueError)


# -- life ---------------------------------------------------------------------------------------------------------


def test_arguments_are_not_kept_alive():
    f = st.compile(lambda x: x + 1)
    x = np.ones(1000)
    kept = weakref.ref(x)
    f(x)
    del x
    gc.collect()
    assert kept() is None


def test_pickle_runs_without_the_function():
    scale = 3.0
    f = st.compile(lambda x: {"y": (x * scale).sum(), "x": x})
    f(np.ones(3))
    again = pickle.loads(pickle.dumps(f))
    x = np.ones(3)
    out = again(x)
    assert out["y"] == 9.0
    assert out["x"] is x
    with pytest.raises(UnsupportedError, match="unpickled"):
        again(np.ones(4))


@st.compile
def top_level(x):
    return x * WEIGHT


def test_pickle_of_a_module_function_traces_again():
    top_level(np.ones(3))
    again = pickle.loads(pickle.dumps(top_level))
    np.testing.assert_array_equal(again(np.ones(3)), WEIGHT)
    np.testing.assert_array_equal(again(np.ones((2, 3))), np.stack([WEIGHT, WEIGHT]))


def test_copies_are_the_same_function():
    assert copy.copy(top_level) is top_level
    assert copy.deepcopy(top_level) is top_level


def test_many_threads_at_once():
    f = st.compile(lambda x: np.sin(x).sum())
    x = np.linspace(0, 1, 1001)
    want, got = f(x), []

    def work():
        got.extend(f(x) for _ in range(50))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert got == [want] * 200


def test_metadata():
    def f(x: float, y: int = 2) -> float:
        "Adds."
        return x + y

    g = st.compile(f)
    assert (g.__name__, g.__doc__, g.__wrapped__) == ("f", "Adds.", f)
    assert str(g.__signature__) == "(x: 'float', y: 'int' = 2) -> 'float'"


def test_graph_and_explain():
    f = st.compile(lambda x: np.exp(x) / 2)
    f(np.ones(3))
    assert "exp" in str(f.graph(np.ones(3)))
    page = str(f.explain())
    assert "first call" in page
    assert "kernels" in page
    f(np.ones(4))
    assert "float64[3] to float64[4]" in f.explain().reason


# -- symbolic dims ------------------------------------------------------------------------------------------------


def test_dynamic_dims_compile_once_for_any_size():
    def f(x, w):
        y = np.tanh(x @ w)
        return (y - y.mean(axis=0)).sum(axis=1), y[1:], np.zeros((x.shape[0], 2)) + 1

    g, rng = st.compile(f, dynamic={"x": "f64[n,4]"}), np.random.default_rng(0)
    w = rng.normal(size=(4, 3))
    for n in (5, 6, 20, 1, 300):
        x = rng.normal(size=(n, 4))
        for got, want in zip(g(x, w), f(x, w), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)
    assert traces(g) == 2  # size 1 has code of its own


def test_a_size_that_is_returned_is_a_number() -> None:
    f = st.compile(lambda x: (x.shape[0], 2 * x.size), dynamic=True)
    for n in (3, 5):
        rows, twice = f(np.ones((n, 4)))
        assert (rows, twice) == (n, 8 * n)
        assert type(rows) is int


def test_dynamic_dims_are_guarded_by_what_the_code_compared():
    def f(x):
        if x.shape[0] > 8:
            return x * 2
        return x

    g = st.compile(f, dynamic=True)
    for n in (5, 20, 6, 30):
        np.testing.assert_array_equal(g(np.ones(n)), f(np.ones(n)))
    assert traces(g) == 2


def test_an_index_of_a_dynamic_axis_is_in_range_or_an_error():
    def f(x):
        return x[5] + x[-3], x[7:][:, None]

    def g(x, m):
        return x[m][2]

    compiled, masked = st.compile(f, dynamic=True), st.compile(g)
    for n in (10, 6, 20):
        np.testing.assert_array_equal(compiled(np.arange(float(n)))[0], f(np.arange(float(n)))[0])
    with pytest.raises(IndexError, match="index 5 is out of bounds for axis 0 with size 3"):
        compiled(np.arange(3.0))
    x = np.arange(9.0)
    assert masked(x, x > 4) == 7.0
    with pytest.raises(IndexError, match="index 2 is out of bounds for axis 0 with size 1"):
        masked(x, x > 7)


def test_an_axis_that_turns_out_to_be_empty_is_not_read():
    def pick(x, i):
        return x[x > 0][i] * 2

    def clip(x, i):
        return np.take(x[x > 0], i, mode="clip")

    x, none, i = np.array([1.0, -1.0, 3.0]), -np.ones(3), np.array([1, 0, 1])
    for f in (pick, clip):
        compiled = st.compile(f)
        np.testing.assert_array_equal(compiled(x, i), f(x, i))
        for where in (i, i[:0]):
            try:
                want = f(none, where)
            except IndexError as e:
                with pytest.raises(IndexError, match=str(e)[:22]):
                    compiled(none, where)
            else:
                np.testing.assert_array_equal(compiled(none, where), want)


def test_a_view_of_a_dynamic_argument_has_the_strides_of_the_call():
    f = st.compile(lambda x: (x.T, x[:, 1]), dynamic=True)
    for shape in ((3, 4), (5, 6), (7, 2)):
        x = np.arange(float(np.prod(shape))).reshape(shape)
        turned, column = f(x)
        np.testing.assert_array_equal(turned, x.T)
        np.testing.assert_array_equal(column, x[:, 1])
        assert np.shares_memory(turned, x)


def test_one_symbol_for_equal_sizes():
    g = st.compile(lambda x, y: x * y, dynamic=True)
    assert g(np.ones(5), np.ones(5)).shape == (5,)
    assert g(np.ones(7), np.ones(7)).shape == (7,)
    assert traces(g) == 1
    with pytest.raises(ValueError, match="broadcast"):
        g(np.ones(7), np.ones(8))


def test_long_compiles_show_progress(monkeypatch, capsys):
    from stager import progress

    monkeypatch.setenv("STAGER_PROGRESS", "1")
    monkeypatch.setattr(progress, "DELAY", 0.0)
    monkeypatch.setattr(progress, "EVERY", 0.001)
    st.compile(lambda x: np.exp(x) + 41.5)(np.ones(3))
    assert "stager: compiling" in capsys.readouterr().err
    monkeypatch.setenv("STAGER_PROGRESS", "0")
    st.compile(lambda x: np.exp(x) + 42.5)(np.ones(3))
    assert capsys.readouterr().err == ""


def test_explain_counts_flops_bytes_and_names_what_was_fused():
    f = st.compile(lambda x: np.exp(x - x.max(axis=-1, keepdims=True)))
    f(np.ones((10, 20)))
    (kernel,) = f.explain().stats["kernels"]
    assert kernel["fused"] == "max sub exp"
    assert kernel["flops"] == 3 * 200
    assert kernel["bytes"] == 2 * 200 * 8


SIZED = {
    "reshaped": lambda x: np.outer(x[x > 3], x[x > 4]).reshape(-1),
    "column": lambda x: x[x > 3].reshape(-1, 1),
    "transposed": lambda x: np.outer(x[x > 3], x[x > 4]).T,
    "raveled": lambda x: np.stack([x[x > 3], x[x > 3] * 2], 1).ravel(),
    "reversed row": lambda x: x[x > 3][None, ::-1],
    "joined in front": lambda x: np.concatenate([x[x > 3], x.ravel()]),
    "joined behind": lambda x: np.concatenate([x.ravel(), x[x > 3]]),
    "padded": lambda x: np.pad(x[x > 3], 1),
    "tiled": lambda x: np.tile(x[x > 3], (2, 2)),
}


@pytest.mark.parametrize("name", SIZED)
def test_results_whose_size_the_data_decides_have_their_own_shape(name: str) -> None:
    x, f = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), SIZED[name]
    compiled = st.compile(f)
    for given in (x, x, x + 3, x - 9):
        got, want = compiled(given), f(given)
        assert got.shape == want.shape
        np.testing.assert_array_equal(got, want)


def test_types_are_arguments_that_do_not_change() -> None:
    f = st.compile(lambda x, dtype: x.astype(dtype))
    assert f(np.ones(2), np.float32).dtype == np.float32
    assert f(np.ones(2), int).dtype == np.int64
    assert f(np.ones(2), dtype=np.float32).dtype == np.float32


def test_wrong_arguments_are_told_with_the_signature() -> None:
    @st.compile
    def f(x: Any, y: Any = 2) -> Any:
        return x * y

    wrong: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((), {}, "missing a required argument: 'x'"),
        ((1.0, 2.0, 3.0), {}, "too many positional arguments"),
        ((1.0,), {"z": 2}, "got an unexpected keyword argument 'z'"),
        ((1.0,), {"x": 2.0}, "multiple values for argument 'x'"),
    ]
    for args, kwargs, text in wrong:
        with pytest.raises(TypeError) as refused:
            f(*args, **kwargs)
        assert str(refused.value) == f"f(x: 'Any', y: 'Any' = 2) -> 'Any': {text}"


def test_code_found_for_other_sizes_names_its_own_symbols() -> None:
    """Symbols are named for the sizes of the call that traces; equal functions share code whatever these were."""

    def make() -> Any:
        def f(x: Any) -> Any:
            return (x * 2 if x.shape[0] > 3 else x), x[1:], x[::2], x

        return f

    for first in (20, 5, 9):
        compiled = st.compile(make(), dynamic=True)
        for n in (first, 6, 8, 3):
            x = np.arange(float(n))
            for got, want in zip(compiled(x), make()(x), strict=True):
                np.testing.assert_array_equal(got, want)


NAMES = {1: "one", 2: "two"}


@pytest.mark.parametrize("integer", [int, np.int64, np.int32])
def test_integer_scalars_are_integers(integer: Any) -> None:
    """What needs the value of an integer argument has it, and the code is specialised on it."""
    traces = []

    def named(x: Any, n: Any) -> Any:
        traces.append(n)
        return {NAMES[n]: x * math.factorial(n), f"{n}": ["a", "b", "c"][n], "known": n in {1, 5}}

    f = st.compile(named)
    x = np.arange(3.0)
    for n in (1, 2, 1, 2):
        got = f(x, integer(n))
        assert list(got) == [NAMES[n], str(n), "known"]
        np.testing.assert_array_equal(got[NAMES[n]], x * n)
        assert got[str(n)] == "abc"[n]
        assert got["known"] is (n == 1)
    assert len(traces) == 4, "twice for each value, the second time with the value known"
    with pytest.raises(TypeError, match=r"a traced f64\[\] is hashed, as a key or an element of a set"):
        st.compile(lambda x: NAMES[x[0]])(x)


def test_sizes_from_numpy_integers_serve_all_values() -> None:
    traces = []

    def zeros(n: Any) -> Any:
        traces.append(n)
        return np.zeros(n)

    f = st.compile(zeros)
    assert [f(np.int64(n)).shape for n in (3, 5, 8)] == [(3,), (5,), (8,)]
    assert len(traces) == 1


def test_arguments_that_no_dtype_holds() -> None:
    f = st.compile(lambda x, k: x + k)
    for k in (2**63, -(2**63) - 1, 2**200):
        with pytest.raises(OverflowError, match="too large"):
            f(np.arange(3), k)
    assert f(np.arange(3), 2**63 - 1)[0] == 2**63 - 1
    with pytest.raises(TypeError, match="iteration over a 0-d array"):
        st.compile(lambda x: [v for v in x])(np.array(1.0))  # noqa: C416
