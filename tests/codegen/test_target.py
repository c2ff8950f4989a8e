"""The target table: every row makes code for the math functions that needs no library."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import llvmlite.ir as ir
import pytest

from stager.codegen.math.functions import MathFunctions
from stager.codegen.scalar import ScalarBuilder
from stager.codegen.target import TARGETS, Target, kernel_options
from stager.ir.dtypes import f32, f64, i64

LIBRARY = re.compile(
    r"(?<![\w.])_?(fma|fmod|sin|cos|exp|log|pow|cbrt|floor|ceil|rint|trunc|ldexp)f?(?![\w.])|__(multi3|u?divti3|u?modti3)"
)


def assembly(module: ir.Module, target: Target) -> str:
    machine = target.machine()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1))
    passes.getModulePassManager().run(parsed, passes)
    return str(machine.emit_assembly(parsed))


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_emits_math_without_libraries(name: str) -> None:
    target = Target.named(name)
    module = ir.Module()
    module.triple = target.triple
    functions = MathFunctions(module, target)
    for op, arity in {"exp": 1, "sin": 1, "pow": 2, "fmod": 2, "cbrt": 1}.items():
        for dtype in (f64, f32):
            kind = ir.FunctionType(ir.VoidType(), [ir.PointerType()] * (arity + 1))
            function = ir.Function(module, kind, f"{op}_{dtype}")
            builder = ir.IRBuilder(function.append_basic_block("entry"))
            b = ScalarBuilder(builder, target.lanes(dtype), target, functions)
            b.store(getattr(b, op)(*(b.load(p, dtype) for p in function.args[:-1])), function.args[-1])
            builder.ret_void()
    assert not LIBRARY.search(assembly(module, target))


@pytest.mark.parametrize("name", TARGETS)
def test_a_library_call_would_be_seen(name: str) -> None:
    target, module, double = Target.named(name), ir.Module(), ir.DoubleType()
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(double, [double, double]), "f")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    builder.ret(builder.frem(*function.args))
    assert LIBRARY.search(assembly(module, target))


def test_options_of_the_process_are_put_back() -> None:
    text = """
define void @f(ptr %x, i64 %n, i64 %stride) {
entry:
  br label %row
row:
  %i = phi i64 [0, %entry], [%next, %row]
  %at = mul i64 %i, %stride
  %p = getelementptr inbounds i8, ptr %x, i64 %at
  store double 1.0, ptr %p
  %next = add nsw i64 %i, 1
  %again = icmp slt i64 %next, %n
  br i1 %again, label %row, label %end
end:
  ret void
}
"""
    machine = Target.host().machine(opt=2)

    def multiplies() -> bool:
        return "imul" in str(machine.emit_assembly(llvm.parse_assembly(text)))

    if Target.host().arch != "x86_64":
        pytest.skip("reads x86 assembly")
    assert not multiplies()
    with kernel_options(plain_addresses=True):
        assert multiplies()
    with kernel_options(plain_addresses=False):
        assert not multiplies()
    assert not multiplies()


def test_rows_are_reached_by_name_and_know_their_lanes() -> None:
    v3 = Target.named("x86-64-v3")
    assert (v3.lanes(f64), v3.lanes(f32), Target.named("riscv64").lanes(i64)) == (4, 8, 1)
    assert Target.named("host") == Target.host()
    assert Target.named("aarch64").data_layout.startswith("e-")
