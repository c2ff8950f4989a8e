"""Libraries for other machines: objects of the right format that need no more than the platform's C library has, and
the same results as NumPy where an emulator runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import replace
from functools import cache

import pytest

import stager as st
from stager.codegen.c_interface import ERRORS
from stager.codegen.cpu import LEVELS, mask_of, required
from stager.codegen.target import TARGETS, Target
from tests.aot import callers
from tests.aot.object_files import read_object
from tests.aot.representative import cases, check

CASES = cases()
HOST = Target.host()
RUN = ("aarch64", "riscv64", "wasm32", "x86_64-windows-gnu")
FEW = ("transcendental", "rounded", "matmul", "ordered", "integers", "pick")


@pytest.fixture(scope="module")
def built_for(tmp_path_factory):
    """Builds the representative functions (some of them, where nothing runs them) for a target, once."""

    @cache
    def build(target):
        names = CASES if target in RUN else FEW
        functions = {name: (CASES[name].function, list(CASES[name].specs)) for name in names}
        return st.build(functions, tmp_path_factory.mktemp(target), name="kit", target=target, shared=False)

    return build


def needs(*programs):
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)} on this machine")


@pytest.mark.parametrize("arch", ["aarch64", "riscv64"])
def test_linux_targets_compute_what_numpy_does(arch, built_for, tmp_path):
    gcc, qemu = f"{arch}-linux-gnu-gcc", f"qemu-{arch}"
    needs(gcc, qemu)
    built = built_for(arch)
    source = callers.c_program("kit", built.files["header"].read_text(), CASES)
    program = callers.compile_c(
        [gcc, "-static", f"-I{built.files['header'].parent}"], source, tmp_path, built.files["object"]
    )
    alone = callers.run([qemu, str(program), "1"], CASES)
    for name, outcome in alone.items():
        check(name, CASES[name], outcome)
    for name, outcome in callers.run([qemu, str(program), "3"], CASES).items():  # threads change no bit
        assert [a.tobytes() for a in outcome.arrays] == [a.tobytes() for a in alone[name].arrays], name


def test_wasm_computes_what_numpy_does(built_for, tmp_path):
    needs("wasm-ld", "node")
    built = built_for("wasm32")
    module = tmp_path / "kit.wasm"
    options = ["--no-entry", "--import-memory", "--export-dynamic", "--allow-undefined"]
    command = ["wasm-ld", *options, str(built.files["object"]), "-o", str(module)]
    subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "main.js").write_text(callers.js_program(built.files["header"].read_text(), CASES))
    for name, outcome in callers.run(["node", str(tmp_path / "main.js"), str(module)], CASES).items():
        check(name, CASES[name], outcome)
    beyond = {"transcendental": replace(CASES["transcendental"], sizes={"n": 1 << 29}, error=ERRORS["SIZE"][1])}
    (tmp_path / "beyond.js").write_text(callers.js_program(built.files["header"].read_text(), beyond))
    [outcome] = callers.run(["node", str(tmp_path / "beyond.js"), str(module)], beyond).values()
    check("transcendental", beyond["transcendental"], outcome)  # 2**32 bytes: an address would go round its end


def test_windows_computes_what_numpy_does(built_for, tmp_path):
    gcc, wine = "x86_64-w64-mingw32-gcc", shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine")
    needs(gcc)
    if wine is None:
        pytest.skip("no wine64 on this machine")
    built = built_for("x86_64-windows-gnu")
    source = callers.c_program("kit", built.files["header"].read_text(), CASES)
    include = f"-I{built.files['header'].parent}"
    program = callers.compile_c([gcc, "-static", include], source, tmp_path, built.files["object"])
    quiet = {"WINEPREFIX": str(tmp_path / "prefix"), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
    try:
        outcomes = callers.run([wine, f"{program}.exe"], CASES, env=os.environ | quiet)
    finally:
        server = shutil.which("wineserver64", path="/usr/lib/wine") or "wineserver"
        subprocess.run([server, "-k"], env=os.environ | quiet, check=False)  # of this prefix
    for name, outcome in outcomes.items():
        check(name, CASES[name], outcome)


@pytest.fixture(scope="module")
def three_cpus(tmp_path_factory):
    """A program that calls the representative functions, with code for three CPUs."""
    needs("cc")
    if HOST.arch != "x86_64" or HOST.system.name != "linux":
        pytest.skip("no x86-64 Linux")
    folder = tmp_path_factory.mktemp("cpus")
    functions = {name: (case.function, list(case.specs)) for name, case in CASES.items()}
    built = st.build(functions, folder, name="kit", cpu="v2,v3,v4", shared=False)
    source = callers.c_program("kit", built.files["header"].read_text(), CASES)
    return callers.compile_c(["cc", f"-I{folder}"], source, folder, built.files["object"])


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_variant_computes_what_numpy_does(level, three_cpus):
    if mask_of(LEVELS[level]) & ~required(HOST):
        pytest.skip(f"this machine is no {level}")
    for name, outcome in callers.run([str(three_cpus)], CASES, env={"STAGER_CPU": level}).items():
        check(name, CASES[name], outcome)


@pytest.mark.parametrize("cpu", ["Nehalem", "Haswell"])
def test_lesser_cpus_meet_no_instruction_they_lack(cpu, three_cpus):
    needs("qemu-x86_64")
    for name, outcome in callers.run(["qemu-x86_64", "-cpu", cpu, str(three_cpus)], CASES).items():
        check(name, CASES[name], outcome)


def test_a_cpu_without_a_variant_gets_the_error(three_cpus, tmp_path):
    small = ("transcendental", "softmax", "loss_grad", "pick")
    failing = {name: replace(CASES[name], error="any") for name in small}  # so that no results are read
    folder = three_cpus.parent
    source = callers.c_program("kit", (folder / "kit.h").read_text(), failing)
    program = callers.compile_c(["cc", f"-I{folder}"], source, tmp_path, folder / "kit.o")
    runs = [callers.run([str(program)], failing, env={"STAGER_CPU": "x86-64"})]
    if shutil.which("qemu-x86_64") is not None:
        runs.append(callers.run(["qemu-x86_64", "-cpu", "qemu64", str(program)], failing))
    for outcomes in runs:
        assert {(o.code, o.text) for o in outcomes.values()} == {ERRORS["CPU"]}


# What objects may need of a platform: its C library and what its compilers always bring along.
EVERYWHERE = {"free", "getenv", "malloc", "memcpy", "memset", "strcmp"}
POSIX = {
    *EVERYWHERE, "aligned_alloc", "clock_gettime", "getpid", "mmap", "munmap", "sched_yield", "sigfillset", "strtol",
    "sysconf",
}  # fmt: skip
C_LIBRARY = {
    "linux": {*POSIX, "__tls_get_addr", "close", "madvise", "open", "pthread_setaffinity_np", "read",
              "sched_getaffinity", "sched_getcpu", "strchr"},
    "macos": {*POSIX, "_tlv_bootstrap", "__bzero", "bzero", "memset_pattern16"},
    "windows": {*EVERYWHERE, "__chkstk", "___chkstk_ms", "_aligned_free", "_aligned_malloc", "_fltused"},
    "wasm": {"aligned_alloc", "free", "malloc"},
}
MACHINES = {
    "elf": {"x86_64": 62, "aarch64": 183, "riscv64": 243}, "macho": {"x86_64": 0x01000007, "aarch64": 0x0100000C},
    "coff": {"x86_64": 0x8664, "aarch64": 0xAA64}, "wasm": {"wasm32": None},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in TARGETS if name not in ("x86-64-v3", "x86-64-v4")])
def test_objects_need_no_more_than_the_c_library(name, built_for):
    target = Target.named(name)
    system = target.system
    found = read_object(built_for(name).files["object"])
    assert found.format == system.format
    assert found.machine == MACHINES[found.format][target.arch]
    assert found.defined >= {f"{case}{what}" for case in FEW for what in ("", "_error", "_workspace")}
    threads = {n for n in found.undefined if n.startswith("pthread_")}
    assert bool(threads) == (system.pthreads is not None)
    assert found.undefined - threads <= C_LIBRARY[system.name]


def test_triples_name_rows():
    rows = {
        "aarch64-linux-gnu": "aarch64", "aarch64-unknown-linux-musl": "aarch64", "riscv64-linux-gnu": "riscv64",
        "riscv64gc-unknown-linux-gnu": "riscv64", "x86_64-linux-gnu": "x86-64-v2", "wasm32-unknown-unknown": "wasm32",
        "wasm32-wasi": "wasm32", "x86_64-apple-darwin": "x86_64-macos", "arm64-apple-macosx14.0": "aarch64-macos",
        "x86_64-pc-windows-msvc": "x86_64-windows", "x86_64-w64-mingw32": "x86_64-windows-gnu",
        "aarch64-pc-windows-msvc": "aarch64-windows",
    }  # fmt: skip
    assert {triple: Target.named(triple).name for triple in rows} == rows
    for wrong in ("sparc-linux-gnu", "aarch64-w64-mingw32", "x86_64-plan9", "riscv64-windows", "x86-64-v9"):
        with pytest.raises(KeyError, match=f"target '{wrong}' is not known; known: host, x86-64-v2"):
            Target.named(wrong)
