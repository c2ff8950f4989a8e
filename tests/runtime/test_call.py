"""The ctypes caller of the ABI: symbols, every kind of result, statuses, signals, and what it refuses."""

from __future__ import annotations

import signal
import threading
import time
from functools import cache
from typing import Any

import numpy as np
import pytest

from stager.ir.abi import STATUS_NO_MEMORY, Abi, InputAbi, OutputAbi, StatusAbi, SymbolAbi
from stager.ir.dims import symbol
from stager.ir.types import parse_type
from stager.runtime.call import call
from stager.runtime.engine import Engine, Loaded
from tests.runtime.objects import compiled

# scale: out[i] = 2*x[i] along a stride; needs an arena and checks that it is there and aligned
# positives: a data-sized result; fail: status and details from the input; endless: polls until told to stop
SOURCE = """
define i32 @scale(ptr %ctx, ptr %buffers, ptr %symbols, ptr %arena) {
entry:
  %x = load ptr, ptr %buffers
  %op = getelementptr ptr, ptr %buffers, i64 1
  %out = load ptr, ptr %op
  %n = load i64, ptr %symbols
  %sp = getelementptr i64, ptr %symbols, i64 1
  %s = load i64, ptr %sp
  %low = ptrtoint ptr %arena to i64
  %off = and i64 %low, 63
  %bad = icmp ne i64 %off, 0
  %none = icmp eq i64 %low, 0
  %wrong = or i1 %bad, %none
  br i1 %wrong, label %fails, label %check
fails: ret i32 1
check:
  %last = getelementptr i64, ptr %arena, i64 %n
  store i64 7, ptr %last
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %out1
loop:
  %i = phi i64 [0, %check], [%next, %loop]
  %at = mul i64 %i, %s
  %p = getelementptr i8, ptr %x, i64 %at
  %v = load double, ptr %p
  %w = fmul double %v, 2.0
  %q = getelementptr double, ptr %out, i64 %i
  store double %w, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %out1
out1: ret i32 0 }

define i32 @sized(ptr %ctx, ptr %buffers, ptr %symbols, ptr %arena) {
  %n = load i64, ptr %symbols
  %shape = alloca [2 x i64]
  store i64 2, ptr %shape
  %second = getelementptr i64, ptr %shape, i64 1
  store i64 %n, ptr %second
  %ap = getelementptr i8, ptr %ctx, i64 40
  %allocate = load ptr, ptr %ap
  %data = call ptr %allocate(ptr %ctx, i32 0, i64 2, ptr %shape)
  %null = icmp eq ptr %data, null
  br i1 %null, label %fails, label %good
fails: ret i32 -2
good:
  %m = icmp sgt i64 %n, 0
  br i1 %m, label %fill, label %out
fill:
  store i64 11, ptr %data
  br label %out
out: ret i32 0 }

define i32 @fail(ptr %ctx, ptr %buffers, ptr %symbols, ptr %arena) {
  %s = load i64, ptr %symbols
  store i64 5, ptr %ctx
  %p = getelementptr i64, ptr %ctx, i64 1
  store i64 -6, ptr %p
  %status = trunc i64 %s to i32
  ret i32 %status }

define i32 @endless(ptr %ctx, ptr %buffers, ptr %symbols, ptr %arena) {
entry:
  %pp = getelementptr i8, ptr %ctx, i64 56
  %poll = load ptr, ptr %pp
  br label %loop
loop:
  %r = call i32 %poll(ptr %ctx)
  %stop = icmp ne i32 %r, 0
  br i1 %stop, label %out, label %loop
out: ret i32 -1 }

define i32 @nothing(ptr %ctx, ptr %buffers, ptr %symbols, ptr %arena) { ret i32 0 }
"""

n, s = symbol("n"), symbol("s")
FLAT = InputAbi(parse_type("f64[n]"), (8,))


@cache
def loaded() -> Loaded:
    return Engine().load(compiled(SOURCE))


def run(abi: Abi, *arrays: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return call(abi, loaded().address(abi.name), arrays)


SCALE = Abi(
    "scale",
    (InputAbi(parse_type("f64[n]"), (s,)),),
    (OutputAbi(parse_type("f64[n]")),),
    (SymbolAbi("n", "shape", 0), SymbolAbi("s", "stride", 0)),
    arena_bytes=8 * n + 8,
    statuses=(StatusAbi("AssertionError", "arena"),),
)


def test_symbols_strides_and_arena(rng: np.random.Generator) -> None:
    x = rng.standard_normal(60)
    for view in (x, x[::3], x[::-1], x[:1], x[:0], np.broadcast_to(x[:1], (9,))):
        (out,) = run(SCALE, view)
        np.testing.assert_array_equal(out, 2 * view)


def test_a_result_sized_by_data() -> None:
    abi = Abi(
        "sized",
        (InputAbi(parse_type("i64[]"), ()),),
        (OutputAbi(parse_type("i64[2,m]"), kind="sized"),),
        (SymbolAbi("k", "value", 0),),
    )
    (out,) = run(abi, np.array(4))
    assert out.shape == (2, 4)
    assert out[0, 0] == 11
    assert run(abi, np.array(0))[0].shape == (2, 0)
    with pytest.raises(ValueError, match="negative dimensions"):  # what the allocation raised
        run(abi, np.array(-1))


def test_results_that_share_memory(rng: np.random.Generator) -> None:
    abi = Abi(
        "nothing",
        (InputAbi(parse_type("f64[n]"), (8,)),),
        (
            OutputAbi(parse_type("f64[n]"), kind="input"),
            OutputAbi(parse_type("f64[n-1]"), kind="view_input", offset=8 * n - 8, strides=(-8,)),
            OutputAbi(parse_type("i64[4]")),
            OutputAbi(parse_type("i64[4]"), kind="output", source=2),
            OutputAbi(parse_type("i64[2]"), kind="view_output", source=2, offset=8, strides=(16,)),
        ),
        (SymbolAbi("n", "shape", 0),),
    )
    x = rng.standard_normal(10)
    same, reversed, fresh, again, second = run(abi, x)
    assert same is x
    np.testing.assert_array_equal(reversed, x[:0:-1])
    assert np.shares_memory(reversed, x)
    assert again is fresh
    fresh[:] = [0, 1, 2, 3]
    np.testing.assert_array_equal(second, [1, 3])
    x.flags.writeable = False
    assert not run(abi, x)[1].flags.writeable


def test_statuses() -> None:
    abi = Abi(
        "fail",
        (InputAbi(parse_type("i64[]"), ()),),
        (),
        (SymbolAbi("k", "value", 0),),
        statuses=(StatusAbi("IndexError", "index {0} of {1}"), StatusAbi("NoSuchError", "text")),
    )
    assert run(abi, np.array(0)) == []
    with pytest.raises(IndexError, match="index 5 of -6"):
        run(abi, np.array(1))
    with pytest.raises(RuntimeError, match="text"):
        run(abi, np.array(2))
    with pytest.raises(SystemError, match="unknown status 3"):
        run(abi, np.array(3))
    with pytest.raises(KeyboardInterrupt):
        run(abi, np.array(-1))
    with pytest.raises(MemoryError):
        run(abi, np.array(STATUS_NO_MEMORY))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_a_signal_stops_a_long_call() -> None:
    assert threading.current_thread() is threading.main_thread()

    class Stopped(Exception):  # noqa: N818 - it is no error
        pass

    def handler(number: int, frame: Any) -> None:
        raise Stopped

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        started = time.monotonic()
        with pytest.raises(Stopped):
            run(Abi("endless", (), ()))
        assert time.monotonic() - started < 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_what_is_refused() -> None:
    abi = Abi(
        "nothing",
        (InputAbi(parse_type("f64[n,3]"), (24, 8), written=True, align=16), InputAbi(parse_type("f64[n]"), (8,))),
        (),
        (SymbolAbi("n", "shape", 0),),
    )
    whole = np.zeros(64 + 4)
    start = (-whole.ctypes.data // 8) % 2
    x, y = whole[start : start + 12].reshape(4, 3), np.zeros(4)
    assert run(abi, x, y) == []
    with pytest.raises(TypeError, match="takes 2 arrays, not 1"):
        run(abi, x)
    with pytest.raises(TypeError, match="input 1 must be float64, it is float32"):
        run(abi, x, y.astype(np.float32))
    with pytest.raises(TypeError, match="input 1 must be float64"):
        run(abi, x, y.astype(">f8"))
    with pytest.raises(ValueError, match=r"input 1 must have shape \(4,\) .* it has \(5,\)"):
        run(abi, x, np.zeros(5))
    with pytest.raises(ValueError, match=r"input 0 must have shape"):
        run(abi, np.zeros((4, 2)), y)
    with pytest.raises(ValueError, match="2 axes"):
        run(abi, np.array(1.0), y)
    with pytest.raises(ValueError, match=r"input 0 must have strides \(24, 8\), it has \(8, 32\)"):
        run(abi, np.zeros((3, 4)).T, y)
    with pytest.raises(ValueError, match="aligned to 16"):
        run(abi, whole[start + 1 : start + 13].reshape(4, 3), y)
    odd = np.zeros(33, np.uint8)[1:].view(np.float64)
    with pytest.raises(ValueError, match="input 1 must be aligned to 8"):
        run(abi, x, odd)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="input 0 is written to, and is read-only"):
        run(abi, x, y)
