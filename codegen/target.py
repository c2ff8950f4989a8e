"""The target table: what the code generator may assume of a CPU, and the LLVM machine made for it.

One row per named target. Invariant: nothing else in `codegen/` asks the running machine what it can do; emission reads
a `Target` record only, so the same record always gives the same code, here or on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from stager.ir.dtypes import DType


@dataclass(frozen=True, slots=True)
class Target:
    """A CPU to emit for. `vector_bits` is the width of one register that the emitter fills (0: no vector unit)."""

    name: str
    triple: str
    cpu: str
    features: str
    vector_bits: int
    has_fma: bool

    @staticmethod
    def host() -> Target:
        """The machine that runs this process."""
        return _host()

    @staticmethod
    def named(name: str) -> Target:
        """The row of the table called `name`, `"host"` included. KeyError lists the names."""
        if name == "host":
            return _host()
        if name not in TARGETS:
            raise KeyError(f"target {name!r} is not known; known: host, {', '.join(TARGETS)}")
        return TARGETS[name]

    @property
    def arch(self) -> str:
        """The first word of the triple."""
        return self.triple.split("-", 1)[0]

    @property
    def is_windows(self) -> bool:
        return "windows" in self.triple

    @property
    def is_macos(self) -> bool:
        return "apple" in self.triple or "darwin" in self.triple

    @property
    def data_layout(self) -> str:
        """LLVM's data layout string for this target."""
        return _data_layout(self)

    def lanes(self, dtype: DType) -> int:
        """How many elements of `dtype` one vector register holds (at least 1)."""
        return max(1, self.vector_bits // max(dtype.bits, 8))

    def machine(self, opt: int = 3, *, reloc: str = "pic", codemodel: str = "small", jit: bool = False) -> Any:
        """A new llvmlite TargetMachine. Built objects need `pic`/`small`; a JIT takes `reloc="default"`."""
        import llvmlite.binding as llvm

        _initialize()
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=opt, reloc=reloc, codemodel=codemodel, jit=jit
        )


TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64-v2", "x86_64-unknown-linux-gnu", "x86-64-v2", "", 128, False),
        Target("x86-64-v3", "x86_64-unknown-linux-gnu", "x86-64-v3", "", 256, True),
        Target("x86-64-v4", "x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit", 512, True),
        Target("aarch64", "aarch64-unknown-linux-gnu", "generic", "+neon", 128, True),
        Target("riscv64", "riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c", 0, True),
        Target("wasm32", "wasm32-unknown-unknown", "generic", "+simd128,+nontrapping-fptoint", 128, False),
        Target("x86_64-macos", "x86_64-apple-macosx11.0.0", "x86-64-v2", "", 128, False),
        Target("aarch64-macos", "arm64-apple-macosx11.0.0", "apple-m1", "", 128, True),
        Target("x86_64-windows", "x86_64-pc-windows-msvc", "x86-64-v2", "", 128, False),
    )
}


@cache
def _initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@cache
def _data_layout(target: Target) -> str:
    return str(target.machine().target_data)


@cache
def _host() -> Target:
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    triple = llvm.get_process_triple()
    arch = triple.split("-", 1)[0]
    if arch in ("x86_64", "amd64"):
        bits = 512 if features.get("avx512f") and features.get("avx512dq") and features.get("avx512vl") else 256
        if not features.get("avx2"):
            bits = 128
        has_fma = bool(features.get("fma")) and bits > 128
    elif arch in ("aarch64", "arm64"):
        bits, has_fma = 128, True
    elif arch.startswith("riscv"):
        bits, has_fma = 0, True
    else:
        bits, has_fma = 0, False
    flat = features.flatten() if len(features) else ""
    return Target("host", triple, llvm.get_host_cpu_name(), flat, bits, has_fma)
