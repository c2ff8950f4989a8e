"""From a match to the result: allocation, scalars, views, containers, statuses, long kernels."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from typing import Any, NamedTuple

import numpy as np
import pytest
from llvmlite import ir

from stager.codegen.declarations import F64, I32, I64, PTR, const
from stager.codegen.structured import Code
from stager.ir.abi import (
    CONTEXT_ALLOCATE,
    CONTEXT_DETAIL,
    CONTEXT_POLL,
    STATUS_INTERRUPTED,
    STATUS_NO_MEMORY,
    Abi,
    InputAbi,
    OutputAbi,
    StatusAbi,
    SymbolAbi,
)
from stager.ir.dims import Dim, symbol
from stager.ir.entry_table import POOL_ABOVE_BYTES, STACK_FRAME_BYTES
from stager.ir.types import parse_type
from stager.runtime.engine import engine
from stager.runtime.entries import EntrySpec
from stager.runtime.function import RETRY, add_entry, make_function
from stager.runtime.patterns import (
    Anything,
    DictOf,
    Fixed,
    Invoke,
    Leaf,
    ListOf,
    MakeDict,
    MakeList,
    MakeTuple,
    Output,
    Parameter,
    Passed,
    Result,
    TupleOf,
)
from tests.runtime.native import (
    Misses,
    add_one_spec,
    buffer,
    dense,
    fresh,
    install,
    kernel,
    make,
    plus_one,
)
from tests.runtime.native import symbol as symbol_value

n, m = symbol("n"), symbol("m")
N = (SymbolAbi("n", "shape", 0, 0),)


def one(x: Any) -> str:
    return "miss"


def nothing(c: Code) -> None:
    c.ret(0)


def add_one_sized(c: Code) -> None:
    """out[i] = in[i] + 1 for n doubles, n the first symbol."""
    x, out = buffer(c, 0), buffer(c, 1)
    with c.for_range(0, symbol_value(c, 0)) as i:
        c.put_at(out, F64, i, c.b.fadd(c.at(x, F64, i), ir.Constant(F64, 1.0)))
    c.ret(0)


def sized_spec() -> EntrySpec:
    return EntrySpec(
        Abi("add_one", (dense("f64[n]"),), (fresh("f64[n]"),), symbols=N), kernel(add_one_sized), (Leaf(0),), Output(0)
    )


# --- arrays


def test_a_fresh_array_is_an_ordinary_array() -> None:
    f, _ = make(plus_one, add_one_spec())
    y = f(np.arange(8.0))
    assert type(y) is np.ndarray
    assert y.dtype == np.float64
    assert y.base is None
    flags = y.flags
    assert (flags.owndata, flags.writeable, flags.aligned, flags.c_contiguous, flags.f_contiguous) == (True,) * 5
    y.resize(16, refcheck=False)
    np.testing.assert_array_equal(y, [*range(1, 9), *[0] * 8])
    y += 1


@pytest.mark.parametrize("size", [0, 1, 7, 1000, POOL_ABOVE_BYTES // 8 - 1, POOL_ABOVE_BYTES // 8, 1 << 18])
def test_results_of_every_size(size: int) -> None:
    f, slow = make(plus_one, sized_spec())
    x = np.arange(float(size))
    y = f(x)
    np.testing.assert_array_equal(y, x + 1)
    assert y.base is None
    assert y.flags.owndata
    y.resize(size + 3, refcheck=False)
    np.testing.assert_array_equal(y[:size], x + 1)
    assert slow.count == 0


def test_large_results_come_from_the_pool_and_go_back() -> None:
    f, _ = make(plus_one, sized_spec())
    kept = engine().resolve(["stager_buffer_kept", "stager_buffer_trim"])
    read = ctypes.CFUNCTYPE(ctypes.c_int64)(kept["stager_buffer_kept"])
    ctypes.CFUNCTYPE(None)(kept["stager_buffer_trim"])()
    x = np.zeros(1 << 20)
    y = f(x)
    place = y.ctypes.data
    assert read() == 0
    del y
    assert read() >= x.nbytes
    assert f(x).ctypes.data == place


def test_two_dimensional_results_and_fortran_flags() -> None:
    abi = Abi("z", (dense("f64[n]"),), (fresh("f64[n,3]"), fresh("i16[2,n,1]"), fresh("b1[0,n]")), symbols=N)
    f, _ = make(one, EntrySpec(abi, kernel(nothing), (Leaf(0),), MakeTuple((Output(0), Output(1), Output(2)))))
    a, b, c = f(np.zeros(5))
    assert (a.shape, a.strides, a.dtype) == ((5, 3), (24, 8), np.float64)
    assert (b.shape, b.dtype, b.flags.c_contiguous) == ((2, 5, 1), np.int16, True)
    assert (c.shape, c.dtype) == ((0, 5), np.bool_)
    assert f(np.zeros(1))[0].flags.f_contiguous


def sizes(dim: Dim, *, dtype: str = "f64") -> Any:
    abi = Abi("z", (InputAbi(parse_type("f64[n]"), (0,)),), (fresh(f"{dtype}[{dim}]"),), symbols=N)
    f, _ = make(one, EntrySpec(abi, kernel(nothing), (Leaf(0),), Output(0)))
    return lambda size: f(np.broadcast_to(1.0, size))


def test_impossible_sizes_are_errors() -> None:
    assert sizes(n - 3)(3).shape == (0,)
    with pytest.raises(ValueError, match="negative dimensions"):
        sizes(n - 3)(2)
    for dim, size in ((n * n * n, 1 << 40), (n * n, 1 << 31)):
        with pytest.raises((ValueError, MemoryError)):
            sizes(dim)(size)
    with pytest.raises(MemoryError):
        sizes(n, dtype="f64")(1 << 55)


def test_an_arena_of_any_size() -> None:
    def through_arena(c: Code) -> None:
        """Fill the arena with in[0], then add up its ends."""
        size, arena = symbol_value(c, 0), c.arg("arena")
        last = c.sub(size, 1)
        with c.for_range(0, size) as i:
            c.put_at(arena, F64, i, c.at(buffer(c, 0), F64, 0))
        c.put_at(buffer(c, 1), F64, 0, c.b.fadd(c.at(arena, F64, 0), c.at(arena, F64, last)))
        misaligned = c.and_(c.b.ptrtoint(arena, I64), 63)
        c.ret(c.to(misaligned, I32))

    x = InputAbi(parse_type("f64[n]"), (0,))
    abi = Abi("a", (x,), (fresh("f64[]"),), symbols=N, arena_bytes=8 * n)
    f, _ = make(one, EntrySpec(abi, kernel(through_arena), (Leaf(0),), Output(0)))
    for size in (1, 512, 513, 10_000, 1 << 20):
        assert f(np.broadcast_to(1.5, size)) == 3
    fixed = Abi("a", (InputAbi(parse_type("f64[100]"), (0,)),), (fresh("f64[]"),), arena_bytes=800)

    def ends(c: Code) -> None:
        c.put_at(c.arg("arena"), F64, 99, c.at(buffer(c, 0), F64, 0))
        c.put_at(buffer(c, 1), F64, 0, c.at(c.arg("arena"), F64, 99))
        c.ret(0)

    g, _ = make(one, EntrySpec(fixed, kernel(ends), (Leaf(0),), Output(0)))
    assert g(np.broadcast_to(1.5, 100)) == 1.5
    huge = Abi("a", (x,), (fresh("f64[]"),), symbols=N, arena_bytes=n * n)
    h, _ = make(one, EntrySpec(huge, kernel(nothing), (Leaf(0),), Output(0)))
    for size in (1 << 31, 1 << 40):
        with pytest.raises(MemoryError):
            h(np.broadcast_to(1.0, size))


def many_inputs(c: Code, count: int) -> None:
    total = c.var(F64, 0.0)
    with c.for_range(0, count) as i:
        total.set(c.b.fadd(total.get(), c.load(c.at(c.arg("buffers"), PTR, i), F64)))
    c.put_at(buffer(c, count), F64, 0, total.get())
    c.ret(0)


def test_frames_too_large_for_the_stack() -> None:
    count = STACK_FRAME_BYTES // 16
    abi = Abi("many", (dense("f64[]"),) * count, (fresh("f64[]"),))
    spec = EntrySpec(abi, kernel(many_inputs, count), (TupleOf(tuple(Leaf(i) for i in range(count))),), Output(0))
    f, _ = make(one, spec)
    x = tuple(np.array(float(i)) for i in range(count))
    assert f(x) == count * (count - 1) / 2
    assert f(x[:-1]) == "miss"
    assert f((*x[:-1], 1)) == "miss"


# --- scalars

DTYPES = ["b1", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"]


def copy_first(c: Code, size: int) -> None:
    c.copy(buffer(c, 1), buffer(c, 0), size)
    c.ret(0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_results_without_axes(dtype: str) -> None:
    kind = parse_type(f"{dtype}[]").dtype
    abi = Abi("s", (dense(f"{dtype}[1]"),), (fresh(f"{dtype}[]"),))
    spec = EntrySpec(abi, kernel(copy_first, kind.itemsize), (Leaf(0),), Output(0))
    f, _ = make(one, spec)
    values = [0, 1] if dtype == "b1" else [0, 1, 100]
    if kind.kind == "i":
        values += [-1, np.iinfo(kind.np).min, np.iinfo(kind.np).max]
    for value in values:
        x = np.array([value], kind.np)
        assert type(f(x)) is type(x[0])
        assert f(x) == x[0]
        assert hash(f(x)) == hash(x[0])
    g, _ = make(one, EntrySpec(spec.abi, spec.kernel, (Leaf(0),), Output(0), forms={0: "array"}))
    y = g(np.array([1], kind.np))
    assert type(y) is np.ndarray
    assert (y.shape, y.dtype, y[()]) == ((), kind.np, 1)
    if dtype in ("b1", "i64", "f64"):
        h, _ = make(one, EntrySpec(spec.abi, spec.kernel, (Leaf(0),), Output(0), forms={0: "python"}))
        for value in values:
            z = h(np.array([value], kind.np))
            assert type(z) is {"b": bool, "i": int, "f": float}[kind.kind]
            assert z == value


def test_a_bool_is_true_for_any_byte() -> None:
    for form, expected in (("scalar", np.True_), ("python", True)):
        abi = Abi("s", (dense("u8[1]"),), (fresh("b1[]"),))
        f, _ = make(one, EntrySpec(abi, kernel(copy_first, 1), (Leaf(0),), Output(0), forms={0: form}))
        assert f(np.array([255], np.uint8)) is expected


# --- arguments and views


def test_the_argument_itself_and_results_twice() -> None:
    abi = Abi(
        "z",
        (dense("f64[2]"), dense("f64[]")),
        (OutputAbi(parse_type("f64[2]"), "input", 0), OutputAbi(parse_type("f64[]"), "input", 1), fresh("f64[3]"),
         OutputAbi(parse_type("f64[3]"), "output", 2)),
    )  # fmt: skip
    spec = EntrySpec(
        abi, kernel(nothing), (TupleOf((Leaf(0), Leaf(1, "float"))),), MakeList(tuple(Output(i) for i in range(4)))
    )
    f, _ = make(one, spec)
    x, y = np.zeros(2), float("2.5")
    out = f((x, y))
    assert out[0] is x
    assert out[1] is y
    assert out[2] is out[3]
    assert out[2].base is None


def view(of: str, source: int, type: str, offset: Dim, strides: tuple[Dim, ...]) -> OutputAbi:
    return OutputAbi(parse_type(type), f"view_{of}", source, offset, strides)


def test_views_of_an_argument() -> None:
    outputs = (
        view("input", 0, "f64[n-1]", 8, (8,)),
        view("input", 0, "f64[n]", 8 * (n - 1), (-8,)),
        view("input", 0, "f64[]", 0, ()),
        view("input", 0, "f64[2,n]", 0, (0, 8)),
    )
    abi = Abi("v", (dense("f64[n]"),), outputs, symbols=N)
    f, _ = make(one, EntrySpec(abi, kernel(nothing), (Leaf(0),), MakeTuple(tuple(Output(i) for i in range(4)))))
    x = np.arange(5.0)
    tail, back, first, twice = f(x)
    np.testing.assert_array_equal(tail, x[1:])
    np.testing.assert_array_equal(back, x[::-1])
    np.testing.assert_array_equal(twice, [x, x])
    assert type(first) is np.ndarray
    for y in (tail, back, first, twice):
        assert y.base is x
        assert np.shares_memory(x, y)
        assert y.flags.writeable
        assert not y.flags.owndata
    assert tail.flags.c_contiguous
    assert not back.flags.c_contiguous
    tail[0] = 9
    assert x[1] == 9
    part = np.arange(9.0)[2:7]
    assert f(part)[0].base is part.base  # NumPy keeps no chains
    x.flags.writeable = False
    assert not f(x)[0].flags.writeable
    before = sys.getrefcount(x)
    kept = [f(x) for _ in range(10)]
    assert sys.getrefcount(x) == before + 40
    del kept
    assert sys.getrefcount(x) == before


def test_views_of_a_result_and_of_a_view() -> None:
    outputs = (
        fresh("f64[n]"), view("output", 0, "f64[n]", 8 * (n - 1), (-8,)), view("output", 1, "f64[1]", -8, (8,)),
        fresh("f64[]"), view("output", 3, "f64[1]", 0, (8,)),
    )  # fmt: skip
    abi = Abi("v", (dense("f64[n]"),), outputs, symbols=N)

    def fill(c: Code) -> None:
        with c.for_range(0, symbol_value(c, 0)) as i:
            c.put_at(buffer(c, 1), F64, i, c.at(buffer(c, 0), F64, i))
        c.put_at(buffer(c, 4), F64, 0, ir.Constant(F64, 7.0))
        c.ret(0)

    f, _ = make(one, EntrySpec(abi, kernel(fill), (Leaf(0),), MakeTuple(tuple(Output(i) for i in range(5)))))
    whole, back, item, zero, spread = f(np.arange(4.0))
    np.testing.assert_array_equal(back, [3, 2, 1, 0])
    assert back.base is whole
    assert item.base is whole
    assert item[0] == 2
    assert zero.shape == ()
    assert spread[0] == 7
    assert spread.base is zero
    del whole
    np.testing.assert_array_equal(back, [3, 2, 1, 0])


def test_a_view_of_something_else_than_an_array_is_refused() -> None:
    abi = Abi("v", (dense("f64[]"),), (view("input", 0, "f64[1]", 0, (8,)),))
    f, _ = make(one)
    with pytest.raises(ValueError, match="view"):
        add_entry(f, EntrySpec(abi, kernel(nothing), (Leaf(0, "float"),), Output(0)))


def test_in_place_writes_reach_the_caller() -> None:
    def fill(c: Code) -> None:
        with c.for_range(0, 4) as i:
            c.put_at(buffer(c, 0), F64, i, ir.Constant(F64, 3.0))
        c.ret(0)

    abi = Abi("w", (dense("f64[4]", written=True),), (OutputAbi(parse_type("f64[4]"), "input", 0),))
    f, _ = make(one, EntrySpec(abi, kernel(fill), (Leaf(0),), Output(0)))
    x = np.zeros(4)
    assert f(x) is x
    np.testing.assert_array_equal(x, [3] * 4)


# --- outputs sized by data


def call_allocate(c: Code, output: int, extents: list[Any]) -> Any:
    ctx = c.arg("ctx")
    allocate = c.load(c.offset(ctx, CONTEXT_ALLOCATE), PTR)
    shape = c.alloca(ir.ArrayType(I64, max(1, len(extents))))
    for i, extent in enumerate(extents):
        c.put_at(shape, I64, i, extent)
    return c.call_pointer(allocate, PTR, [ctx, const(I32, output), const(I64, len(extents)), shape])


def keep_positive(c: Code) -> None:
    """out = in[in > 0], its size found by counting."""
    x, size, count = buffer(c, 0), symbol_value(c, 0), c.var(I64, 0)

    def positive(i: Any) -> Any:
        return c.b.fcmp_ordered(">", c.at(x, F64, i), ir.Constant(F64, 0.0))

    with c.for_range(0, size) as i:
        count.set(c.add(count.get(), c.zext(positive(i), I64)))
    out = call_allocate(c, 0, [count.get()])
    with c.if_(c.is_null(out)):
        c.ret(STATUS_NO_MEMORY)
    at = c.var(I64, 0)
    with c.for_range(0, size) as i, c.if_(positive(i)):
        c.put_at(out, F64, at.get(), c.at(x, F64, i))
        at.set(c.add(at.get(), 1))
    c.ret(0)


@pytest.mark.parametrize("work", [0, 10**9], ids=["with the GIL", "without"])
def test_outputs_sized_by_data(work: int) -> None:
    sized = OutputAbi(parse_type("f64[k]"), "sized")
    abi = Abi("keep", (dense("f64[n]"),), (sized, OutputAbi(parse_type("f64[k]"), "output", 0)), symbols=N, work=work)
    f, _ = make(one, EntrySpec(abi, kernel(keep_positive), (Leaf(0),), MakeTuple((Output(0), Output(1)))))
    for x in (np.array([1.0, -1, 2, 0, 3]), np.zeros(4), np.zeros(0), np.ones(1 << 17)):
        y, same = f(x)
        np.testing.assert_array_equal(y, x[x > 0])
        assert same is y
        assert y.flags.owndata


def test_sized_outputs_gone_wrong() -> None:
    sized = (OutputAbi(parse_type("f64[k]"), "sized"),)

    def never(c: Code) -> None:
        c.ret(0)

    f, _ = make(one, EntrySpec(Abi("k", (dense("f64[]"),), sized), kernel(never), (Leaf(0),), Output(0)))
    with pytest.raises(SystemError, match="left a result out"):
        f(np.zeros(()))

    def twice(c: Code) -> None:
        call_allocate(c, 0, [const(I64, 3)])
        x = call_allocate(c, 0, [const(I64, 1), const(I64, 1)])
        c.put_at(x, F64, 0, ir.Constant(F64, 2.0))
        c.ret(0)

    g, _ = make(one, EntrySpec(Abi("k", (dense("f64[]"),), sized), kernel(twice), (Leaf(0),), Output(0)))
    np.testing.assert_array_equal(g(np.zeros(())), [[2.0]])

    def impossible(c: Code) -> None:
        x = call_allocate(c, 0, [const(I64, -5)])
        c.ret(c.select(c.is_null(x), const(I32, STATUS_NO_MEMORY), const(I32, 0)))

    h, _ = make(one, EntrySpec(Abi("k", (dense("f64[]"),), sized), kernel(impossible), (Leaf(0),), Output(0)))
    with pytest.raises(ValueError, match="negative dimensions"):
        h(np.zeros(()))


# --- the result object


class Pair(NamedTuple):
    a: Any
    b: Any


def results(result: Result, count: int = 3) -> Any:
    abi = Abi("r", (dense("f64[2]"),), (fresh("f64[2]"),) * count)

    def fill(c: Code) -> None:
        for k in range(count):
            c.put_at(buffer(c, 1 + k), F64, 0, ir.Constant(F64, float(k)))
        c.ret(0)

    f, _ = make(one, EntrySpec(abi, kernel(fill), (Leaf(0),), result))
    return lambda: f(np.zeros(2))


def test_nested_results() -> None:
    marker = object()
    out = results(
        MakeDict(
            (("t", MakeTuple((Output(0), MakeList((Output(1), Fixed(None), MakeTuple(()))), Fixed(marker)))),
             (3, Invoke(Pair, (Output(2), MakeDict(())))), ("again", Output(0)))
        )
    )()  # fmt: skip
    assert list(out) == ["t", 3, "again"]
    assert out["t"][0][0] == 0
    assert out["t"][1][0][0] == 1
    assert out["t"][1][1:] == [None, ()]
    assert out["t"][2] is marker
    assert type(out[3]) is Pair
    assert out[3].a[0] == 2
    assert out[3].b == {}
    assert out["again"] is out["t"][0]


def test_results_through_calls() -> None:
    out = results(Invoke(dict, (MakeList(()),), (("x", Output(0)), ("y", Fixed(2)))), 1)()
    assert list(out) == ["x", "y"]

    def fail(*args: Any) -> Any:
        raise LookupError("no")

    with pytest.raises(LookupError, match="no"):
        results(MakeTuple((Output(0), Invoke(fail, (Output(1), Output(2))))))()
    with pytest.raises(TypeError, match="unhashable"):
        results(MakeTuple((Output(0), Invoke(set, (MakeTuple((Fixed([]),)),)))), 1)()


def test_no_outputs_at_all() -> None:
    f, _ = make(one, EntrySpec(Abi("r", (), ()), kernel(nothing), (Anything(),), Fixed(None)))
    assert f(1) is None
    g, _ = make(one, EntrySpec(Abi("r", (), ()), kernel(nothing), (Anything(),), Passed(Parameter(0))))
    x = object()
    assert g(x) is x


# --- statuses


def returns(status: int, detail: tuple[int, ...] = ()) -> Any:
    def body(c: Code) -> None:
        for i, value in enumerate(detail):
            c.put_at(c.offset(c.arg("ctx"), CONTEXT_DETAIL), I64, i, value)
        c.ret(status)

    return kernel(body)


def test_statuses_become_exceptions() -> None:
    statuses = (
        StatusAbi("IndexError", "index {0} is out of bounds for axis {1} with size {2}"),
        StatusAbi("ZeroDivisionError", "no details"),
        StatusAbi("ValueError", "{3} braces {{}}"),
    )
    abi = Abi("s", (dense("f64[2]"),), (fresh("f64[2]"),), statuses=statuses)

    def call(status: int, *detail: int) -> Any:
        f, _ = make(one, EntrySpec(abi, returns(status, detail), (Leaf(0),), Output(0)))
        return f(np.zeros(2))

    with pytest.raises(IndexError) as index:
        call(1, -7, 0, 5)
    assert str(index.value) == "index -7 is out of bounds for axis 0 with size 5"
    with pytest.raises(ZeroDivisionError, match="no details"):
        call(2)
    with pytest.raises(ValueError, match=r"^9 braces \{\}$"):
        call(3, 0, 0, 0, 9)
    with pytest.raises(MemoryError):
        call(STATUS_NO_MEMORY)
    with pytest.raises(KeyboardInterrupt):
        call(STATUS_INTERRUPTED)
    for unknown in (4, -3):
        with pytest.raises(SystemError, match=f"status {unknown}"):
            call(unknown)


# --- long kernels


def wait_for_poll(c: Code) -> None:
    """Poll until told to stop, at most some thousand times, a millisecond apart."""
    ctx = c.arg("ctx")
    poll = c.load(c.offset(ctx, CONTEXT_POLL), PTR)
    with c.for_range(0, 20_000):
        c.call("usleep", I32, [const(I32, 1000)])
        stop = c.call_pointer(poll, I32, [ctx])
        with c.if_(c.ne(stop, 0)):
            c.ret(STATUS_INTERRUPTED)
    c.ret(0)


@pytest.mark.parametrize("alarm", [0.05, 0.25])  # the second one comes when it has long let go of the GIL
@pytest.mark.parametrize("work", [0, 10**9], ids=["with the GIL", "without"])
def test_signals_interrupt_a_long_kernel(work: int, alarm: float) -> None:
    class AlarmError(Exception):
        pass

    def handler(number: int, frame: Any) -> None:
        raise AlarmError

    abi = Abi("w", (dense("f64[2]"),), (fresh("f64[2]"),), work=work)
    f, _ = make(one, EntrySpec(abi, kernel(wait_for_poll), (Leaf(0),), Output(0)))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, alarm)
        start = time.perf_counter()
        with pytest.raises(AlarmError):
            f(np.zeros(2))
        assert time.perf_counter() - start < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wait_for_flag(c: Code) -> None:
    """Wait until in[0] is not zero (at most 20 s), then return its value."""
    x, flag = buffer(c, 0), c.var(I64, 0)
    with c.for_range(0, 20_000):
        flag.set(c.atomic_load(x, I64))
        c.break_if(c.ne(flag.get(), 0))
        c.call("usleep", I32, [const(I32, 1000)])
    c.put_at(buffer(c, 1), I64, 0, flag.get())
    c.ret(0)


@pytest.mark.parametrize("work", [10**9, 1000 * n], ids=str)
def test_long_kernels_let_other_threads_run(work: Dim) -> None:
    abi = Abi("w", (dense("i64[n]"),), (fresh("i64[]"),), symbols=N, work=work)
    f, _ = make(one, EntrySpec(abi, kernel(wait_for_flag), (ListOf((Leaf(0),)),), Output(0)))
    x = np.zeros(100, np.int64)
    owner = [x]
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(f(owner)))
    thread.start()
    owner.clear()  # the call holds what it reads
    x[0] = 5
    thread.join(timeout=30)
    assert answers in ([5], ["miss"])  # a miss when the list was emptied before the call read it


def test_short_kernels_keep_the_gil() -> None:
    abi = Abi("w", (dense("i64[n]"),), (fresh("i64[]"),), symbols=N, work=10 * n)
    f, _ = make(one, EntrySpec(abi, kernel(wait_for_flag), (Leaf(0),), Output(0)))
    assert f(np.ones(3, np.int64)) == 1


def poll_until_flag(c: Code) -> None:
    """Poll until in[0] is not zero (at most 20 s), then return its value."""
    ctx, x, flag = c.arg("ctx"), buffer(c, 0), c.var(I64, 0)
    poll = c.load(c.offset(ctx, CONTEXT_POLL), PTR)
    with c.for_range(0, 20_000):
        flag.set(c.atomic_load(x, I64))
        c.break_if(c.ne(flag.get(), 0))
        c.call("usleep", I32, [const(I32, 1000)])
        c.call_pointer(poll, I32, [ctx])
    c.put_at(buffer(c, 1), I64, 0, flag.get())
    c.ret(0)


def test_a_kernel_that_was_thought_short_lets_other_threads_run() -> None:
    abi = Abi("w", (dense("i64[1]"),), (fresh("i64[]"),), work=0)
    f, _ = make(one, EntrySpec(abi, kernel(poll_until_flag), (Leaf(0),), Output(0)))
    x = np.zeros(1, np.int64)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(f(x)))
    thread.start()
    x[0] = 5
    thread.join(timeout=30)
    assert answers == [5]


def test_many_threads_at_once() -> None:
    f, slow = make(plus_one, sized_spec(), add_one_spec(8))
    wrong: list[Any] = []

    def run(seed: int) -> None:
        generator = np.random.default_rng(seed)
        for _ in range(300):
            x = generator.normal(size=generator.integers(0, 4000))
            if not np.array_equal(f(x), x + 1):
                wrong.append(x)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
    assert slow.count == 0


# --- the slow path


def test_a_miss_that_adds_an_entry_asks_for_another_try() -> None:
    install()
    import inspect

    tries: list[Any] = []

    def miss(fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        tries.append((args, kwargs))
        add_entry(fn, add_one_spec(args[0].shape[0] if args else kwargs["x"].shape[0]))
        return RETRY

    f = make_function(miss, name="f", signature=inspect.signature(plus_one))
    references = sys.getrefcount(RETRY)
    for _ in range(3):
        np.testing.assert_array_equal(f(np.zeros(8)), np.ones(8))
        np.testing.assert_array_equal(f(x=np.zeros(3)), np.ones(3))
    assert len(tries) == 2
    assert tries[1][1].keys() == {"x"}
    assert sys.getrefcount(RETRY) == references
    with pytest.raises(RuntimeError, match="does not take them"):
        f(np.zeros((3, 3)))


def test_an_exception_of_the_slow_path_passes() -> None:
    def fail(x: Any) -> Any:
        raise LookupError("from the slow path")

    f, _ = make(fail, add_one_spec())
    with pytest.raises(LookupError, match="slow path"):
        f(1)


# --- leaks


def test_a_million_calls_do_not_grow() -> None:
    import resource

    dicts = EntrySpec(
        Abi("d", (dense("f64[8]"), dense("f64[8]")), (fresh("f64[8]"), fresh("f64[]"))), kernel(nothing),
        (DictOf((("a", Leaf(0)), ("b", ListOf((Leaf(1),))))),),
        MakeDict((("r", Output(0)), ("s", MakeTuple((Output(1),))))),
    )  # fmt: skip
    abi = Abi("s", (dense("f64[8]"),), (fresh("f64[8]"),), statuses=(StatusAbi("ValueError", "{0}"),))
    failing = EntrySpec(abi, returns(1), (Leaf(0),), Output(0))
    f, _ = make(plus_one, add_one_spec())
    g, _ = make(one, dicts)
    h, _ = make(one, failing)
    x, y = np.arange(8.0), {"a": np.zeros(8), "b": [np.zeros(8)]}
    kinds = [np.float64, np.dtype(np.float64), None, RETRY]

    def rounds(count: int) -> None:
        for _ in range(count):
            f(x)
            g(y)
            g(x)
            with pytest.raises(ValueError, match="0"):
                h(x)

    rounds(2000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    references = [sys.getrefcount(k) for k in kinds]
    rounds(20_000)
    for _ in range(300_000):
        f(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 4096  # KiB
    assert all(abs(sys.getrefcount(k) - r) < 100 for k, r in zip(kinds, references, strict=True))


def test_tracemalloc_sees_nothing_left() -> None:
    import tracemalloc

    f, _ = make(plus_one, add_one_spec(), sized_spec())
    x = np.arange(8.0)
    tracemalloc.start()
    try:
        f(x)
        f(x[:3].copy())
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            f(x)
            f(x[:3].copy())
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


def test_misses_hold_nothing() -> None:
    f, slow = make(plus_one, add_one_spec())
    assert isinstance(slow, Misses)
    x = np.arange(3.0)
    f(x)
    slow.last = ()
    before = sys.getrefcount(x)
    for _ in range(100):
        f(x)
    slow.last = ()
    assert sys.getrefcount(x) == before
