"""The builder layer: every control structure, compiled and run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from llvmlite import binding, ir

from stager.codegen.declarations import I8, I32, I64, PTR, Struct, array, const, global_data
from stager.codegen.structured import Code


@contextmanager
def running(build: Callable[[Any], None]) -> Iterator[Any]:
    """An engine that holds the module which `build` fills."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = ir.Module()
    build(module)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(parsed, machine)
    engine.finalize_object()
    yield engine


def run(build: Callable[[Any], None], name: str, *args: int) -> int:
    with running(build) as engine:
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(args))
        return int(kind(engine.get_function_address(name))(*args))


def test_for_range_break_continue() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        total = c.var(I64, 0)
        with c.for_range(0, c.arg("n")) as i:
            with c.if_(c.eq(c.srem(i, 2), 1)):
                c.continue_()
            c.break_if(c.gt(i, 10))
            total.set(c.add(total.get(), i))
        c.ret(total.get())
        c.finish()

    assert run(build, "f", 7) == 0 + 2 + 4 + 6
    assert run(build, "f", 100) == 0 + 2 + 4 + 6 + 8 + 10
    assert run(build, "f", -3) == 0


def test_for_range_down() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        number = c.var(I64, 0)
        with c.for_range(c.arg("n"), 0, -1) as i:
            number.set(c.add(c.mul(number.get(), 10), i))
        c.ret(number.get())
        c.finish()

    assert run(build, "f", 4) == 4321


def test_if_else_where_both_return() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        with c.if_(c.lt(c.arg("n"), 0)):
            c.ret(-1)
        with c.else_():
            with c.if_(c.eq(c.arg("n"), 0)):
                c.ret(0)
            c.ret(1)
        c.finish()

    assert [run(build, "f", n) for n in (-5, 0, 5)] == [-1, 0, 1]


def test_else_must_follow() -> None:
    c = Code(ir.Module(), "f", I64, [("n", I64)])
    with c.if_(c.lt(c.arg("n"), 0)):
        pass
    c.var(I64, 0)
    with pytest.raises(RuntimeError, match="follow"), c.else_():
        pass


def test_while_and_short_circuit() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64), ("d", I64)])
        # the division is only reached when d is not 0
        steps = c.var(I64, 0)
        left = c.var(I64, c.arg("n"))
        with c.while_(
            lambda: c.and_then(c.ne(c.arg("d"), 0), lambda: c.gt(c.sdiv(left.get(), c.arg("d")), 0)),
        ):
            left.set(c.sdiv(left.get(), c.arg("d")))
            steps.set(c.add(steps.get(), 1))
        c.ret(steps.get())
        c.finish()

    assert run(build, "f", 1000, 10) == 3
    assert run(build, "f", 1000, 0) == 0


def test_switch() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        out = c.var(I64, 7)
        with c.switch(c.arg("n")) as cases:
            with cases.case(1, 2):
                out.set(12)
            with cases.case(3):
                c.ret(33)
            with cases.default():
                out.set(0)
        c.ret(out.get())
        c.finish()

    assert [run(build, "f", n) for n in range(5)] == [0, 12, 12, 33, 0]


def test_switch_without_default() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        out = c.var(I64, 7)
        with c.switch(c.arg("n")) as cases, cases.case(1):
            out.set(12)
        c.ret(out.get())
        c.finish()

    assert [run(build, "f", n) for n in range(3)] == [7, 12, 7]


def test_labels() -> None:
    def build(module: Any) -> None:
        c = Code(module, "f", I64, [("n", I64)])
        fail = c.label("fail")
        c.goto_if(c.lt(c.arg("n"), 0), fail)
        c.ret(c.arg("n"))
        c.place(fail)
        c.ret(-100)
        c.finish()

    assert run(build, "f", 5) == 5
    assert run(build, "f", -5) == -100


def test_struct_strings_calls_and_pointers() -> None:
    pair = Struct(small=I8, big=I64)

    def build(module: Any) -> None:
        helper = Code(module, "twice", I64, [("x", I64)], linkage="internal")
        helper.ret(helper.mul(helper.arg("x"), 2))
        helper.finish()
        c = Code(module, "f", I64, [("n", I64)])
        p = c.alloca(pair)
        c.put(pair, p, "small", 3)
        c.put(pair, p, "big", c.call(helper.function, args=[c.arg("n")]))
        other = c.alloca(pair)
        c.copy(other, p, 16)
        length = c.call("strlen", I64, [c.string("hello")])
        slot = c.var(PTR)
        slot.set(helper.function)
        indirect = c.call_pointer(slot.get(), I64, [length])
        text = c.alloca(array(I8, 16))
        written = c.call("snprintf", I32, [text, const(I64, 16), c.string("%lld!"), c.arg("n")], fixed=3)
        total = c.add(c.get(pair, other, "big"), c.zext(c.get(pair, other, "small"), I64))
        c.ret(c.add(c.add(total, indirect), c.mul(c.to(written, I64), 1000)))
        c.finish()

    assert run(build, "f", 50) == 100 + 3 + 10 + 3000


def test_atomics() -> None:
    def build(module: Any) -> None:
        cell = global_data(module, "cell", I64)
        c = Code(module, "f", I64, [("n", I64)])
        c.atomic_store(5, cell, I64)
        old = c.atomic_rmw("add", cell, c.arg("n"), I64)
        seen, swapped = c.compare_exchange(cell, 8, 100, I64)
        c.ret(
            c.add(c.add(c.mul(old, 10000), c.mul(seen, 1000)), c.add(c.zext(swapped, I64), c.atomic_load(cell, I64))),
        )
        c.finish()

    assert run(build, "f", 3) == 50000 + 8000 + 1 + 100
    assert run(build, "f", 4) == 50000 + 9000 + 0 + 9
