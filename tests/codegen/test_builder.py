"""Instructions that are text from the start read as llvmlite spells them."""

from __future__ import annotations

import llvmlite.ir as ir
import numpy as np
import pytest

import stager as st
from stager import pipeline
from stager.codegen import builder
from stager.codegen.compile import compile_graph
from stager.codegen.pool import emit_pool
from stager.codegen.products import emit_products
from stager.codegen.target import Target

MODULES = ("stager.codegen.emit.Builder", "stager.codegen.structured.Builder", "stager.codegen.math.functions.Builder")


def rows(x, y):
    e = np.exp(x - np.max(x, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True), np.where(x > y.T, np.tanh(x), np.log1p(np.abs(y.T)))


def indexed(x, y):
    order = np.argsort(x[:, 0])
    between = np.interp(x[0], np.arange(16.0), y[1])
    return x[order], np.cumsum(y, axis=0), between, np.floor_divide(np.arange(17), 3) << 1


def loop(x, y):
    s = x.copy()
    for i in range(1, 16):
        s[i] = 0.5 * s[i - 1] + y[0, i] if s[i, 0] > 0 else np.float32(2) * s[i]
    return s @ y


def written(make):
    """The text of a module that one builder and the other write."""
    texts = []
    for one in (builder.Builder, ir.IRBuilder):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stager.codegen.module.Aliases.says", lambda self, storage: "")  # what only text can carry
            for name in MODULES:
                patch.setattr(name, one)
            texts.append(str(make()))
    return texts


@pytest.mark.parametrize("f", [rows, indexed, loop])
@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("target", ["host", "x86-64-v2", "riscv64"])
def test_of_programs(f, dtype, target):
    x, y = np.ones((16, 16), st.ir.dtypes.DTYPES[dtype].np), np.ones((16, 16), st.ir.dtypes.DTYPES[dtype].np)
    graph = pipeline.optimize(st.make_graph(f)(x, y))
    text, spelled = written(lambda: compile_graph(graph, Target.named(target), assemble=False).text)
    assert text == spelled


@pytest.mark.parametrize("emit", [emit_pool, emit_products])
def test_of_support(emit):
    text, spelled = written(lambda: emit(Target.named("x86-64-v3")))
    assert text == spelled


def test_operands_of_different_types_are_refused():
    module = ir.Module("m")
    f = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(32), ir.IntType(64)]), "f")
    b = builder.Builder(f.append_basic_block("entry"))
    with pytest.raises(ValueError, match="same type"):
        b.add(*f.args)
    with pytest.raises(TypeError, match="#1 arg mismatch"):
        b.call(f, f.args[::-1])
