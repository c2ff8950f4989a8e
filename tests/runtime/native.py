"""The native entry, installed for tests, and kernels written by hand in place of compiled functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir

from stager.codegen import buffers
from stager.codegen.declarations import F64, I32, I64, PTR
from stager.codegen.entry import entry_object
from stager.codegen.structured import Code
from stager.codegen.target import Target
from stager.ir.abi import Abi, InputAbi, OutputAbi
from stager.ir.dims import contiguous_strides
from stager.ir.entry_table import ENTRY_EXPORTS, ENTRY_EXTERNALS
from stager.ir.types import Type, parse_type
from stager.runtime import function
from stager.runtime.engine import engine
from stager.runtime.entries import EntrySpec
from stager.runtime.layout import python_layout
from stager.runtime.patterns import Leaf, Output

_loaded: list[Any] = []


def object_code(module: Any) -> bytes:
    """Optimised object code of an llvmlite module."""
    machine = Target.host().machine(opt=3)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(parsed, passes)
    return bytes(machine.emit_object(parsed))


@cache
def install() -> None:
    """Compile and install the entry, once."""
    engine().provide(buffers.EXPORTS, lambda: object_code(buffers.emit_buffers(Target.host())))
    engine().provide_by(function.external_address)
    code = entry_object(python_layout())
    loaded = engine().load(code, ENTRY_EXTERNALS)
    _loaded.append(loaded)
    function.install({name: loaded.address(name) for name in ENTRY_EXPORTS})


@cache
def kernel(emit: Callable[[Code], None], *params: Any) -> int:
    """The address of a compiled function whose body `emit(code, *params)` writes."""
    module = ir.Module("kernel")
    module.triple, module.data_layout = Target.host().triple, Target.host().data_layout
    c = Code(module, "kernel", I32, [("ctx", PTR), ("buffers", PTR), ("symbols", PTR), ("arena", PTR)])
    emit(c, *params)
    c.finish()
    loaded = engine().load(object_code(module), [])
    _loaded.append(loaded)
    return int(loaded.address("kernel"))


def buffer(c: Code, index: int) -> Any:
    return c.at(c.arg("buffers"), PTR, index)


def symbol(c: Code, index: int) -> Any:
    return c.at(c.arg("symbols"), I64, index)


def add_one(c: Code, count: int) -> None:
    """out[i] = in[i] + 1 for `count` doubles."""
    x, out = buffer(c, 0), buffer(c, 1)
    with c.for_range(0, count) as i:
        c.put_at(out, F64, i, c.b.fadd(c.at(x, F64, i), ir.Constant(F64, 1.0)))
    c.ret(0)


def dense(type: str | Type, **more: Any) -> InputAbi:
    """A C-contiguous input."""
    t = parse_type(type) if isinstance(type, str) else type
    return InputAbi(t, contiguous_strides(t.shape, t.dtype.itemsize), **more)


def fresh(type: str) -> OutputAbi:
    return OutputAbi(parse_type(type))


class Misses:
    """A slow path that counts: calls `python` (an ordinary function)."""

    def __init__(self, python: Callable[..., Any]) -> None:
        self.python, self.count = python, 0
        self.last: tuple[Any, ...] = ()

    def __call__(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.count += 1
        self.last = (fn, args, kwargs)
        return self.python(*args, **kwargs)


def make(python: Callable[..., Any], *specs: EntrySpec) -> tuple[Any, Misses]:
    """(a compiled function with these entries, its slow path): `python` gives signature and slow answers."""
    install()
    misses = Misses(python)
    made = function.make_function(
        misses,
        name=python.__name__,
        qualname=python.__qualname__,
        module=python.__module__,
        doc=python.__doc__,
        signature=inspect.signature(python),
        wrapped=python,
    )
    for spec in specs:
        function.add_entry(made, spec)
    return made, misses


def add_one_spec(count: int = 8) -> EntrySpec:
    return EntrySpec(
        abi=Abi("add_one", (dense(f"f64[{count}]"),), (fresh(f"f64[{count}]"),)),
        kernel=kernel(add_one, count),
        parameters=(Leaf(0),),
        result=Output(0),
    )


def plus_one(x: Any) -> Any:
    """x plus one."""
    return np.asarray(x) + 1
