"""Several variants of a kernel in one module: the CPU decides, or the caller, and a CPU without any gets an answer."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
import pytest

from stager.codegen.compile import optimise
from stager.codegen.cpu import FEATURES, LEVELS, cpu_targets, emit_cpu, mask_of, required
from stager.codegen.target import Target
from stager.codegen.variants import compile_variants, emit_chosen, marked
from stager.ir.abi import CONTEXT_BYTES, STATUS_CPU
from tests.codegen.build import G

HOST = Target.host()
x86_with_cc = pytest.mark.skipif(
    HOST.arch != "x86_64" or HOST.system.name != "linux" or shutil.which("cc") is None, reason="no cc for x86-64 Linux"
)
C_MAIN = """
#include <stdio.h>
extern int f(void *, void **, const long *, void *);
extern const char *chosen(void);
int main(void) {
    char context[64] = {0};
    double x[5] = {1, 2, 3, 4, 5}, y[5] = {0};
    void *buffers[2] = {x, y};
    int code = f(context, buffers, 0, 0);
    const char *name = chosen();
    printf("%d %s %.3f\\n", code, name ? name : "none", y[4]);
    return 0;
}
"""


def graph():
    g = G()
    x = g.input("f64[5]")
    return g.output(g.emit("sqrt", g.emit("mul", x, x)))


def linked(targets):
    compiled = compile_variants(graph(), targets, name="f", threads=False)
    baseline = targets[0].baseline
    module = ir.Module("chosen")
    module.triple, module.data_layout = baseline.triple, baseline.data_layout
    emit_chosen(module, "chosen", targets)
    made = llvm.parse_assembly(compiled.text)
    for text in (str(module), emit_cpu(baseline)):
        made.link_in(llvm.parse_assembly(text))
    made.verify()
    optimise(made, baseline, inline=True, loops=True)  # the passes that look into callees
    return made


def build(folder, cpus, name="program"):
    targets = cpu_targets(HOST, cpus)
    (folder / f"{name}.o").write_bytes(targets[0].baseline.machine().emit_object(linked(targets)))
    (folder / "main.c").write_text(C_MAIN)
    command = ["cc", "-O1", str(folder / "main.c"), str(folder / f"{name}.o"), "-o", str(folder / name)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / name


def output(*command, cpu=None):
    env = {} if cpu is None else {"STAGER_CPU": cpu}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True, env=env).stdout.split()


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    return build(tmp_path_factory.mktemp("three"), "x86-64-v2,v3,v4")


@x86_with_cc
def test_the_best_variant_runs_and_the_environment_lowers_it(three):
    best = next((n for n in ("x86-64-v4", "x86-64-v3", "x86-64-v2") if _has(n)), "none")
    assert output(three) == ["0", best, "5.000"]
    for name in LEVELS:
        if name != "x86-64" and _has(name):
            assert output(three, cpu=name) == ["0", name, "5.000"]
            assert output(three, cpu=name.removeprefix("x86-64-")) == ["0", name, "5.000"]
    assert output(three, cpu="x86-64") == [str(STATUS_CPU), "none", "0.000"]
    assert output(three, cpu="something else") == ["0", best, "5.000"]


@x86_with_cc
@pytest.mark.parametrize(
    ("cpu", "answer"),
    [("qemu64", ["none"]), ("Nehalem", ["x86-64-v2"]), ("Haswell", ["x86-64-v3"]), ("Haswell,-fma", ["x86-64-v2"])],
)
def test_emulated_cpus_get_what_they_can_run(three, cpu, answer):
    if shutil.which("qemu-x86_64") is None:
        pytest.skip("no qemu-x86_64 on this machine")
    code, name, value = output("qemu-x86_64", "-cpu", cpu, three)
    assert [name] == answer
    assert (code, value) == ((str(STATUS_CPU), "0.000") if name == "none" else ("0", "5.000"))


@x86_with_cc
@pytest.mark.parametrize("cpus", ["v4", "native"])
def test_code_for_more_than_the_cpu_has_is_never_entered(cpus, tmp_path):
    program = build(tmp_path, cpus)
    if shutil.which("qemu-x86_64") is not None:
        assert output("qemu-x86_64", "-cpu", "Nehalem", program) == [str(STATUS_CPU), "none", "0.000"]
    assert output(program, cpu="v2") == [str(STATUS_CPU), "none", "0.000"]


@x86_with_cc
def test_threads_that_ask_first_at_once_agree(tmp_path):
    targets = cpu_targets(HOST, "v2,v3,v4")
    (tmp_path / "f.o").write_bytes(targets[0].baseline.machine().emit_object(linked(targets)))
    subprocess.run(["cc", "-shared", "-o", tmp_path / "f.so", tmp_path / "f.o"], check=True)
    f = ctypes.CDLL(str(tmp_path / "f.so")).f
    from concurrent.futures import ThreadPoolExecutor

    def call(k):
        x, y, context = np.full(5, k, float), np.zeros(5), np.zeros(CONTEXT_BYTES, np.uint8)
        code = f(ctypes.c_void_p(context.ctypes.data), (ctypes.c_void_p * 2)(x.ctypes.data, y.ctypes.data), None, None)
        return code, y.tolist()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(call, range(64))) == [(0, [float(k)] * 5) for k in range(64)]


def test_each_variant_uses_its_own_registers_and_the_rest_none():
    made = linked(cpu_targets(Target.named("x86-64-v2"), "v2,v3,v4"))
    text = Target.named("x86-64-v2").baseline.machine().emit_assembly(made)
    parts = dict(zip(*[iter(_split(text))] * 2, strict=True))
    widest = {name: next((r for r in ("zmm", "ymm", "xmm") if f"%{r}" in body), "") for name, body in parts.items()}
    variants = {"f_x86_64_v2": "xmm", "f_x86_64_v3": "ymm", "f_x86_64_v4": "zmm"}
    assert {n: widest.pop(n) for n in variants} == variants
    assert {"f", "stager_cpu_features"} <= widest.keys()
    assert set(widest.values()) <= {"", "xmm"}


def test_levels_are_what_llvm_takes_them_for():
    for name in LEVELS:
        if name == "x86-64":
            continue
        target = Target.named(name)
        llvm_text = target.machine().emit_assembly(llvm.parse_assembly(f'target triple = "{target.triple}"'))
        assert llvm_text is not None
        assert required(target) == mask_of(LEVELS[name])
    assert all(f in FEATURES for features in LEVELS.values() for f in features)
    if HOST.arch == "x86_64":
        assert required(HOST) & mask_of(("sse3", "ssse3")) == mask_of(("sse3", "ssse3"))


def test_lists_of_cpus():
    target = Target.named("x86_64-windows")
    assert [(t.name, t.triple) for t in cpu_targets(target, "v2, x86-64-v4")] == [
        ("x86-64-v4", target.triple), ("x86-64-v2", target.triple),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="CPU 'v7' is not known; known: native, x86-64-v2, x86-64-v3, x86-64-v4"):
        cpu_targets(target, "v2,v7")
    with pytest.raises(ValueError, match="CPU variants are of x86-64; aarch64 has one"):
        cpu_targets(Target.named("aarch64"), "v2")
    assert marked("define i32 @f()\n{\n}\n", Target.named("x86-64-v3")) == (
        'define i32 @f() "target-cpu"="x86-64-v3"\n{\n}\n'
    )


def _has(level):
    return HOST.arch == "x86_64" and mask_of(LEVELS[level]) & ~required(HOST) == 0


def _split(assembly):
    """Function names and their code, alternating."""
    import re

    return re.split(r"^(\w+):\s", assembly, flags=re.MULTILINE)[1:]
