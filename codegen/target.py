"""The target table: what the code generator may assume of a CPU and its operating system, and the LLVM machine for it.

One row per system (`SYSTEMS`) and per named target (`TARGETS`). Invariant: nothing else in `codegen/` asks the running
machine what it can do; emission reads a `Target` record only, so the same record always gives the same code, here or
on another machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from stager.ir.dtypes import DType

LAST_TRIED_LLVM = 22
"""Options of the process are set in LLVM up to this version."""


@dataclass(frozen=True, slots=True)
class Pthreads:
    """The numbers of a system's headers that the thread pool needs."""

    monotonic: int  # CLOCK_MONOTONIC
    sig_setmask: int
    online: int  # _SC_NPROCESSORS_ONLN
    has_affinity: bool  # sched_getaffinity and /sys/fs/cgroup


@dataclass(frozen=True, slots=True)
class Mapping:
    """The numbers of a system's <sys/mman.h>."""

    flags: int  # MAP_PRIVATE | MAP_ANONYMOUS
    huge_advice: int | None  # MADV_HUGEPAGE


@dataclass(frozen=True, slots=True)
class System:
    """An operating system: its C library's names and numbers, its files. wasm32 has none: its host gives the names."""

    name: str
    format: str  # of object files: "elf", "macho", "coff", "wasm"
    shared: str  # the file name of a shared library
    words: tuple[str, ...]  # any of them in a triple names this system
    pthreads: Pthreads | None = None  # None: the pool runs serially
    mapping: Mapping | None = None  # None: malloc serves every size
    getpid: str = "getpid"
    aligned_alloc: str = "aligned_alloc"
    aligned_free: str = "free"
    size_first: bool = False  # the order of aligned_alloc's arguments


SYSTEMS: dict[str, System] = {
    s.name: s
    for s in (
        System("linux", "elf", "lib{}.so", ("linux",), Pthreads(1, 2, 84, True), Mapping(0x22, 14)),
        System(
            "macos", "macho", "lib{}.dylib", ("macos", "darwin", "apple"), Pthreads(6, 3, 58, False),
            Mapping(0x1002, None),
        ),
        System(
            "windows", "coff", "{}.dll", ("windows", "win32", "mingw32"), getpid="_getpid",
            aligned_alloc="_aligned_malloc", aligned_free="_aligned_free", size_first=True,
        ),
        System("wasm", "wasm", "{}.wasm", ("wasm32",)),
    )
}  # fmt: skip

UNKNOWN_SYSTEM = System("unknown", "elf", "lib{}.so", ())

ARCHITECTURES = {"amd64": "x86_64", "x86-64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "riscv64gc": "riscv64"}


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
        """The row called `name`, or the one that a triple (`aarch64-linux-gnu`) means. KeyError lists the names."""
        if name == "host":
            return _host()
        found = TARGETS.get(name) or TARGETS.get(_row_of(name))
        if found is None:
            raise KeyError(f"target {name!r} is not known; known: host, {', '.join(TARGETS)} and triples of these")
        return found

    @property
    def arch(self) -> str:
        """The first word of the triple; Apple's `arm64` as `aarch64`."""
        first = self.triple.split("-", 1)[0]
        return ARCHITECTURES.get(first, first)

    @property
    def system(self) -> System:
        """The operating system's row; an unknown one has no more than standard C."""
        return next((s for s in SYSTEMS.values() if any(w in self.triple for w in s.words)), UNKNOWN_SYSTEM)

    @property
    def pointer_bits(self) -> int:
        """Of an address and of C's size_t."""
        return 32 if self.arch == "wasm32" else 64

    @property
    def baseline(self) -> Target:
        """The least CPU of this architecture: what code runs on before it has looked at the CPU."""
        if self.arch != "x86_64":
            return self
        return replace(self, name="x86-64", cpu="x86-64", features="", vector_bits=128, has_fma=False)

    @property
    def data_layout(self) -> str:
        """LLVM's data layout string for this target."""
        return _data_layout(self)

    @property
    def has_masks(self) -> bool:
        """Whether one instruction loads some lanes of a register: elsewhere LLVM makes a branch of every lane."""
        return self.arch == "x86_64" and self.vector_bits >= 256

    @property
    def least_masked_bits(self) -> int:
        """The narrowest elements that there are such instructions for."""
        return 8 if self.vector_bits >= 512 else 32

    @property
    def vector_registers(self) -> int:
        """How many values of `vector_bits` the CPU holds: x86 has 16, and 32 with AVX-512."""
        return 16 if self.arch in ("x86_64", "wasm32") and self.vector_bits < 512 else 32

    def lanes(self, dtype: DType) -> int:
        """How many elements of `dtype` one vector register holds (at least 1)."""
        return max(1, self.vector_bits // max(dtype.bits, 8))

    def machine(self, opt: int = 3, *, reloc: str = "pic", codemodel: str = "small", jit: bool = False) -> Any:
        """A new llvmlite TargetMachine. Built objects need `pic`/`small`; a JIT takes `reloc="default"`.

        wasm32 has no addresses in its code: there `pic` means another, experimental way of linking and is not used.
        """
        import llvmlite.binding as llvm

        if self.arch == "wasm32":
            reloc = "static"

        _initialize()
        target = llvm.Target.from_triple(self.triple)
        return target.create_target_machine(
            cpu=self.cpu, features=self.features, opt=opt, reloc=reloc, codemodel=codemodel, jit=jit
        )


WASM_FEATURES = "+simd128,+nontrapping-fptoint,+bulk-memory,+sign-ext,+mutable-globals"  # of every engine since 2021

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64-v2", "x86_64-unknown-linux-gnu", "x86-64-v2", "", 128, False),
        Target("x86-64-v3", "x86_64-unknown-linux-gnu", "x86-64-v3", "", 256, True),
        Target("x86-64-v4", "x86_64-unknown-linux-gnu", "x86-64-v4", "-prefer-256-bit", 512, True),
        Target("aarch64", "aarch64-unknown-linux-gnu", "generic", "+neon", 128, True),
        Target("riscv64", "riscv64-unknown-linux-gnu", "generic-rv64", "+m,+a,+f,+d,+c", 0, True),
        Target("wasm32", "wasm32-unknown-unknown", "generic", WASM_FEATURES, 128, False),
        Target("x86_64-macos", "x86_64-apple-macosx11.0.0", "x86-64-v2", "", 128, False),
        Target("aarch64-macos", "arm64-apple-macosx11.0.0", "apple-m1", "", 128, True),
        Target("x86_64-windows", "x86_64-pc-windows-msvc", "x86-64-v2", "", 128, False),
        Target("x86_64-windows-gnu", "x86_64-w64-windows-gnu", "x86-64-v2", "", 128, False),
        Target("aarch64-windows", "aarch64-pc-windows-msvc", "generic", "+neon", 128, True),
    )
}


def _row_of(triple: str) -> str:
    """The name of the row for a triple: `arch[-vendor]-system[-libc]`."""
    lower = triple.lower()
    named = next((a for a in ARCHITECTURES if lower.startswith(f"{a}-")), None)
    arch = ARCHITECTURES[named] if named else lower.split("-", 1)[0]
    system = next((s.name for s in SYSTEMS.values() if any(w in lower for w in s.words)), "")
    if system == "linux":
        return "x86-64-v2" if arch == "x86_64" else arch
    if system == "windows" and ("mingw" in lower or lower.endswith("-gnu")):
        return f"{arch}-windows-gnu"
    return arch if arch == "wasm32" else f"{arch}-{system}"


@cache
def _initialize() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


@contextmanager
def kernel_options(*, plain_addresses: bool) -> Iterator[None]:
    """Around code generation of kernels: what was decided to be a select becomes no branch; `plain_addresses` stay as
    they were written.

    LLVM's x86 back end makes branches of conditional moves that a loop waits for. Of the minimum of data, as dynamic
    programming takes it, every second such branch is guessed wrong. And LLVM looks for the cheapest way to step through
    all the arrays that a loop walks (loop strength reduction). That takes a sixth of the time of code generation, among
    polynomials of named sizes half; vector code is as fast without it, loops that go element by element are not.

    The options are of the whole process, which other users of LLVM share: they are put back. LLVM leaves the process at
    an option that it does not know, so versions that nobody has tried are left alone.
    """
    import llvmlite.binding as llvm

    options: list[tuple[str, str, str]] = []  # name, value here, value elsewhere
    if llvm.llvm_version_info[0] <= LAST_TRIED_LLVM:
        if "x86" in llvm.get_process_triple():
            options.append(("x86-cmov-converter", "false", "true"))
        if plain_addresses:
            options.append(("disable-lsr", "true", "false"))
    for name, here, _ in options:
        llvm.set_option("", f"-{name}={here}")
    try:
        yield
    finally:
        for name, _, elsewhere in options:
            llvm.set_option("", f"-{name}={elsewhere}")


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
        bits = 512 if all(features.get(f"avx512{part}") for part in ("f", "bw", "dq", "vl")) else 256
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
