"""What a C caller can ask of one call: strides, results of unknown size, memory by the library, workspace, threads,
interruption; and that everything else is a code."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

import stager as st
from stager.aot.build import Member
from tests.aot.calling import ALLOCATE, CODE, POLL, Call, call, needs_cc, text

pytestmark = needs_cc


def scaled(x, s):
    return x * s, x.sum(axis=1)


def shift(x):
    x[1:] = x[:-1] * 2.0


def positive(x):
    return x[x > 0], (x > 0).sum()


def spread(x, y):
    return np.exp(x)[:, None] * y[None, :]


def nth(x):
    return x[3] + x[-2]


def largest(x):
    return x.max(axis=0)


def compared(x, y):
    if x.shape[0] > 2 * y.shape[0]:
        return x[:1] + y[0]
    return x[:1] - y[0]


def long(x):
    for _ in range(1_000_000):
        x = x * 1.0000001
        for _ in range(1000):
            x = x + 1e-9
    return x


def both(x, y):
    return x, y * 2


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    members = {
        "scaled": Member(scaled, ["f64[n,m]", "f64[m]"], strided=True),
        "shift": Member(shift, ["f64[8]"], strided=True),
        "positive": Member(positive, ["f64[n]"]), "spread": Member(spread, ["f64[n]", "f64[m]"]),
        "nth": Member(nth, ["f64[n]"]), "largest": Member(largest, ["f64[n,3]"]), "slow": Member(long, ["f64[k]"]),
        "pick": Member(lambda x, i: x[i] * 2, ["f64[m]", "i64[k]"]),
        "compared": Member(compared, ["f64[n]", "f64[m]"]), "both": Member(both, ["f64[3]", "f64[3]"]),
    }  # fmt: skip
    built = st.build(members, tmp_path_factory.mktemp("calls"), name="calls")
    return ctypes.CDLL(str(built.files["library"]))


def strides_of(x):
    return list(x.strides)


@pytest.mark.parametrize("view", ["dense", "null", "rows", "turned", "reversed", "repeated"])
def test_inputs_with_strides(library, view):
    x = {
        "dense": lambda: np.arange(15.0).reshape(5, 3), "null": lambda: np.arange(15.0).reshape(5, 3),
        "rows": lambda: np.arange(40.0).reshape(5, 8)[:, 2:5], "turned": lambda: np.arange(15.0).reshape(3, 5).T,
        "reversed": lambda: np.arange(60.0).reshape(10, 6)[::-2, ::-2],
        "repeated": lambda: np.broadcast_to(np.arange(3.0), (5, 3)),
    }[view]()  # fmt: skip
    s = np.array([1.0, 9.0, 2.0, 9.0, 4.0])[::2]
    out, sums = np.zeros((5, 3)), np.zeros(5)
    strides = None if view == "null" else strides_of(x)
    assert call(library, "scaled", x, strides, s, strides_of(s), out, sums, 5, 3) == 0
    np.testing.assert_array_equal(out, x * s)
    np.testing.assert_allclose(sums, x.sum(axis=1))


def test_strides_of_what_is_written(library):
    base = np.arange(24.0)
    want = base.copy()
    shift(want[::3])
    assert call(library, "shift", base, [24]) == 0
    np.testing.assert_array_equal(base, want)
    turned = np.arange(8.0)
    want = turned[::-1].copy()
    shift(want)
    assert call(library, "shift", turned[::-1], [-8]) == 0
    np.testing.assert_array_equal(turned[::-1], want)
    assert call(library, "shift", base, [0]) == CODE["OVERLAP"]
    assert call(library, "shift", base, [4]) == CODE["ALIGNMENT"]
    assert call(library, "shift", base, [1 << 62]) == CODE["SIZE"]
    assert call(library, "shift", base, [-(1 << 63)]) == CODE["SIZE"]
    assert call(library, "shift", base, [1 << 46]) == CODE["SIZE"]


def test_overlap_sees_strides(library):
    memory, s, sums = np.zeros(100), np.ones(3), np.zeros(5)
    x, out = memory[:60].reshape(5, 12)[:, :3], memory[60:75].reshape(5, 3)
    assert call(library, "scaled", x, strides_of(x), s, None, out, sums, 5, 3) == 0
    assert call(library, "scaled", x, strides_of(x), s, None, memory[50:], sums, 5, 3) == CODE["OVERLAP"]
    assert call(library, "scaled", memory[74:], [-96, 8], s, None, memory[60:], sums, 5, 3) == CODE["OVERLAP"]
    assert call(library, "scaled", x, strides_of(x), s, None, out, out, 5, 3) == CODE["OVERLAP"]
    assert call(library, "scaled", x, strides_of(x), x, None, out, sums, 5, 3) == 0  # both are only read


def test_results_of_unknown_size(library):
    x = np.array([1.0, -2.0, 3.0, -4.0, 5.0])
    out, shape, count = np.zeros(5), np.zeros(1, np.int64), np.zeros((), np.int64)
    assert call(library, "positive", x, out, 5, shape, count, 5) == 0
    assert (shape[0], count, out[:3].tolist()) == (3, 3, [1.0, 3.0, 5.0])
    assert call(library, "positive", x, out, 5, None, count, 5) == 0  # whoever knows the size needs no shape
    assert call(library, "positive", x, out, 2, shape, count, 5) == CODE["CAPACITY"]
    assert shape[0] == 3
    shape[0] = 0
    assert call(library, "positive", x, None, 0, shape, count, 5) == CODE["CAPACITY"]
    assert shape[0] == 3
    assert call(library, "positive", -np.abs(x), None, 0, shape, count, 5) == 0
    assert shape[0] == 0
    assert call(library, "positive", x, None, 2, shape, count, 5) == CODE["NULL"]
    assert call(library, "positive", x, out, -1, shape, count, 5) == CODE["SIZE"]
    assert call(library, "positive", x, x, 5, shape, count, 5) == CODE["OVERLAP"]
    assert "room" in text(library, "positive", CODE["CAPACITY"])


def test_memory_by_request(library):
    given = {}

    def allocate(how, result, size):
        given[result] = np.zeros(size // 8 + 1)
        return given[result].ctypes.data

    callback = ALLOCATE(allocate)
    how = Call(allocate=ctypes.cast(callback, ctypes.c_void_p))
    x, shape = np.array([1.0, -2.0, 3.0]), np.zeros(1, np.int64)
    assert call(library, "positive", x, None, 0, shape, None, 3, how=how) == 0
    assert given[0][: shape[0]].tolist() == [1.0, 3.0]
    assert given[1].view(np.int64)[0] == 2
    given.clear()
    y, out = np.arange(4.0), np.zeros((3, 4))
    assert call(library, "spread", x, y, None, 3, 4, how=how) == 0
    np.testing.assert_allclose(given[0][:12].reshape(3, 4), spread(x, y))
    given.clear()
    assert call(library, "spread", x, y, out, 3, 4, how=how) == 0  # what has memory is not asked for
    assert not given
    none = ALLOCATE(lambda how, result, size: 0)
    how = Call(allocate=ctypes.cast(none, ctypes.c_void_p))
    assert call(library, "spread", x, y, None, 3, 4, how=how) == CODE["NO_MEMORY"]
    assert call(library, "positive", x, None, 0, shape, out, 3, how=how) == CODE["NO_MEMORY"]


def test_sizes_and_conditions(library):
    x, out = np.arange(10.0), np.zeros(1)
    assert call(library, "nth", x, out, 4) == 0
    assert out[0] == x[3] + x[2]
    assert call(library, "nth", x, out, 3) == CODE["CONDITION"]
    assert call(library, "nth", x, out, 0) == CODE["CONDITION"]
    assert call(library, "largest", x, out, 0) == CODE["CONDITION"]  # there is no maximum of nothing
    assert call(library, "largest", x, np.zeros(3), 1) == 0
    assert call(library, "compared", x, x, out, 10, 5) == 0
    assert call(library, "compared", x, x, out, 10, 2) == CODE["CONDITION"]
    assert call(library, "compared", x, x, out, -1, 2) == CODE["SIZE"]
    assert call(library, "spread", None, None, None, 1 << 40, 1 << 40) == CODE["SIZE"]
    assert call(library, "spread", None, None, None, 1 << 41, 1) == CODE["SIZE"]
    assert call(library, "spread", None, x, None, 0, 5) == 0
    assert call(library, "positive", None, None, 0, None, np.zeros(1, np.int64), 0) == 0


def test_errors_of_the_computation(library):
    x, i, out, how = np.arange(3.0), np.array([0, 5, -4]), np.zeros(3), Call()
    code = call(library, "pick", x, i, out, 3, 3, how=how)
    assert code > 0
    assert text(library, "pick", code, how) == "IndexError: index 5 is out of bounds for axis 0 with size 3"
    assert text(library, "pick", code) == "IndexError: index ? is out of bounds for axis ? with size ?"
    assert call(library, "pick", None, i, out, 0, 3, how=how) == code
    assert text(library, "pick", code, how) == "IndexError: index 0 is out of bounds for axis 0 with size 0"
    assert call(library, "pick", None, None, None, 0, 0, how=how) == 0


def test_an_argument_that_is_a_result_needs_no_memory(library):
    x, out = np.arange(3.0), np.zeros(3)
    assert call(library, "both", x, x, out) == 0
    np.testing.assert_array_equal(out, x * 2)


def test_a_long_call_is_interrupted(library):
    x, out = np.ones(2000), np.zeros(2000)
    how = Call()
    timer = threading.Timer(0.05, lambda: setattr(how, "interrupted", 1))
    timer.start()
    assert call(library, "slow", x, out, 2000, how=how) == CODE["INTERRUPTED"]
    asked = []
    poll = POLL(lambda how: len(asked) > 3 or asked.append(how) is not None)
    how = Call(poll=ctypes.cast(poll, ctypes.c_void_p))
    assert call(library, "slow", x, out, 2000, how=how) == CODE["INTERRUPTED"]
    assert asked == [ctypes.addressof(how)] * 4


def test_texts(library):
    assert text(library, "nth", 0) == "no error"
    assert text(library, "nth", 77) == "unknown error"
    for name, code in CODE.items():
        assert len(text(library, "nth", code)) > 10, name
    room = ctypes.create_string_buffer(b"unchanged")
    assert library.nth_error(CODE["NULL"], None, room, ctypes.c_int64(5)) == len("a pointer is null")
    assert room.value == b"a po"
    assert library.nth_error(CODE["NULL"], None, room, ctypes.c_int64(0)) == CODE["NULL"]
    assert library.nth_error(CODE["NULL"], None, None, ctypes.c_int64(5)) == CODE["NULL"]


def test_calls_run_at_the_same_time(library):
    failed = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            n, m = (int(k) for k in rng.integers(1, 40, 2))
            x, y, out = rng.normal(size=n), rng.normal(size=m), np.zeros((n, m))
            code = call(library, "spread", x, y, out, n, m)
            if code or not np.allclose(out, spread(x, y), rtol=1e-12):
                failed.append((n, m, code))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
