"""What the CPU can do, found out when a library runs: the features that code may need, and the test for them.

    i64 stager_cpu_features(void)    the bits of `FEATURES` that this CPU and its system offer, KNOWN set

One row per feature that LLVM uses on its own accord, under LLVM's name. Bit k of a mask is row k. The environment
variable STAGER_CPU (`x86-64-v2`, or `v2`) lowers what is found to that level. Invariant: the emitted code runs on every
x86-64; its answer never changes, so it is kept in one word that any thread may write.

LLVM has no intrinsic for `cpuid`, and its inline assembly needs a parser that only the machine's own target has: the
two instructions are functions whose machine code stands in their prologue data.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from llvmlite import ir

from stager.codegen.declarations import I32, I64, PTR, RARE, VOID, const, global_data
from stager.codegen.structured import Code
from stager.codegen.target import TARGETS, Target

CPU_FEATURES = "stager_cpu_features"
VARIABLE = "STAGER_CPU"
KNOWN = 63  # the bit that tells the word from its zeros at the start

EAX, EBX, ECX, EDX = range(4)
_ONE, _SEVEN, _SEVEN_ONE, _EXTENDED = (1, 0), (7, 0), (7, 1), (0x80000001, 0)
YMM, ZMM = 0x06, 0xE6  # bits of XCR0: what the system saves

# name: (leaf and subleaf, register, bit, state that the system must save)
FEATURES: dict[str, tuple[tuple[int, int], int, int, int]] = {
    "sse3": (_ONE, ECX, 0, 0),
    "pclmul": (_ONE, ECX, 1, 0),
    "ssse3": (_ONE, ECX, 9, 0),
    "fma": (_ONE, ECX, 12, YMM),
    "cx16": (_ONE, ECX, 13, 0),
    "sse4.1": (_ONE, ECX, 19, 0),
    "sse4.2": (_ONE, ECX, 20, 0),
    "movbe": (_ONE, ECX, 22, 0),
    "popcnt": (_ONE, ECX, 23, 0),
    "aes": (_ONE, ECX, 25, 0),
    "avx": (_ONE, ECX, 28, YMM),
    "f16c": (_ONE, ECX, 29, YMM),
    "bmi": (_SEVEN, EBX, 3, 0),
    "avx2": (_SEVEN, EBX, 5, YMM),
    "bmi2": (_SEVEN, EBX, 8, 0),
    "avx512f": (_SEVEN, EBX, 16, ZMM),
    "avx512dq": (_SEVEN, EBX, 17, ZMM),
    "adx": (_SEVEN, EBX, 19, 0),
    "avx512ifma": (_SEVEN, EBX, 21, ZMM),
    "avx512cd": (_SEVEN, EBX, 28, ZMM),
    "sha": (_SEVEN, EBX, 29, 0),
    "avx512bw": (_SEVEN, EBX, 30, ZMM),
    "avx512vl": (_SEVEN, EBX, 31, ZMM),
    "avx512vbmi": (_SEVEN, ECX, 1, ZMM),
    "avx512vbmi2": (_SEVEN, ECX, 6, ZMM),
    "gfni": (_SEVEN, ECX, 8, 0),
    "vaes": (_SEVEN, ECX, 9, YMM),
    "vpclmulqdq": (_SEVEN, ECX, 10, YMM),
    "avx512vnni": (_SEVEN, ECX, 11, ZMM),
    "avx512bitalg": (_SEVEN, ECX, 12, ZMM),
    "avx512vpopcntdq": (_SEVEN, ECX, 14, ZMM),
    "avx512vp2intersect": (_SEVEN, EDX, 8, ZMM),
    "avx512fp16": (_SEVEN, EDX, 23, ZMM),
    "raoint": (_SEVEN_ONE, EAX, 3, 0),
    "avxvnni": (_SEVEN_ONE, EAX, 4, YMM),
    "avx512bf16": (_SEVEN_ONE, EAX, 5, ZMM),
    "cmpccxadd": (_SEVEN_ONE, EAX, 7, 0),
    "avxifma": (_SEVEN_ONE, EAX, 23, YMM),
    "avxvnniint8": (_SEVEN_ONE, EDX, 4, YMM),
    "avxneconvert": (_SEVEN_ONE, EDX, 5, YMM),
    "avxvnniint16": (_SEVEN_ONE, EDX, 10, YMM),
    "avx10.1": (_SEVEN_ONE, EDX, 19, ZMM),
    "egpr": (_SEVEN_ONE, EDX, 21, 0),
    "sahf": (_EXTENDED, ECX, 0, 0),
    "lzcnt": (_EXTENDED, ECX, 5, 0),
    "sse4a": (_EXTENDED, ECX, 6, 0),
    "xop": (_EXTENDED, ECX, 11, YMM),
    "fma4": (_EXTENDED, ECX, 16, YMM),
    "tbm": (_EXTENDED, ECX, 21, 0),
}

_V2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "cx16", "sahf")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
LEVELS: dict[str, tuple[str, ...]] = {"x86-64": (), "x86-64-v2": _V2, "x86-64-v3": _V3, "x86-64-v4": _V4}


def mask_of(features: tuple[str, ...]) -> int:
    """The bits of features."""
    return sum(1 << k for k, name in enumerate(FEATURES) if name in features)


def required(target: Target) -> int:
    """The bits that code for a target needs: its level's, and of the features it names those that LLVM uses unasked."""
    named = tuple([f[1:] for f in target.features.split(",") if f.startswith("+")])
    return mask_of((*LEVELS.get(target.cpu, ()), *named))


def cpu_targets(target: Target, cpus: str) -> tuple[Target, ...]:
    """The target for each CPU of a list like `x86-64-v2,v3,native`, the one that needs most first.

    ValueError when the list or the target is wrong.
    """
    if target.arch != "x86_64":
        raise ValueError(f"CPU variants are of x86-64; {target.name} has one")
    found: dict[int, Target] = {}
    for part in cpus.split(","):
        name = part.strip()
        row = TARGETS.get(name if name.startswith("x86-64-") else f"x86-64-{name}")
        if name == "native" and Target.host().arch == "x86_64":
            row = Target.host()
        if row is None:
            known = ", ".join(n for n in LEVELS if n in TARGETS)
            raise ValueError(f"CPU {name!r} is not known; known: native, {known}")
        found.setdefault(required(row), replace(row, triple=target.triple))
    return tuple([found[mask] for mask in sorted(found, key=lambda mask: (-mask.bit_count(), mask))])


CONVENTION = "x86_64_sysvcc"  # on Windows too
CPUID = bytes.fromhex(
    "53 4989d0 89f8 89f1 0fa2"  # push rbx; mov r8, rdx; mov eax, edi; mov ecx, esi; cpuid
    "418900 41895804 41894808 4189500c 5b c3"  # mov [r8], eax; … ebx, ecx, edx behind it; pop rbx; ret
)
XGETBV = bytes.fromhex("31c9 0f01d0 c3")  # xor ecx, ecx; xgetbv; ret


def emit_cpu(target: Target) -> str:
    """The LLVM text with `stager_cpu_features`."""
    module = ir.Module("stager_cpu")
    module.triple, module.data_layout = target.triple, target.data_layout
    cpuid = _machine_code(module, "cpuid", VOID, [I32, I32, PTR])
    xgetbv = _machine_code(module, "xgetbv", I32, [])
    detect = _emit_detect(module, cpuid, xgetbv)
    word = global_data(module, "cpu_features", I64, align=8)
    c = Code(module, CPU_FEATURES, I64, [])
    known = c.atomic_load(word, I64, "monotonic")
    c.ret_if(c.ne(known, 0), known)
    found = c.call(detect)
    c.atomic_store(found, word, I64, "monotonic")
    c.ret(found)
    c.finish()
    return _with_machine_code(_with_machine_code(str(module), "cpuid", CPUID), "xgetbv", XGETBV)


def _emit_detect(module: Any, cpuid: Any, xgetbv: Any) -> Any:
    c = Code(module, "detect_cpu", I64, [], linkage="internal", attributes=RARE)
    nothing = [const(I32, 0)] * 4
    place = c.alloca(ir.ArrayType(I32, 4), align=4)

    def ask(leaf: int, subleaf: int) -> list[Any]:
        c.b.call(cpuid, [const(I32, leaf), const(I32, subleaf), place], cconv=CONVENTION)
        return [c.at(place, I32, k) for k in range(4)]

    basic, extended = ask(0, 0)[EAX], ask(0x80000000, 0)[EAX]
    words = {_ONE: ask(*_ONE)}
    words[_SEVEN] = _where(c, c.uge(basic, 7), lambda: ask(*_SEVEN), nothing)
    words[_SEVEN_ONE] = _where(c, c.uge(words[_SEVEN][EAX], 1), lambda: ask(*_SEVEN_ONE), nothing)
    words[_EXTENDED] = _where(c, c.uge(extended, const(I32, _EXTENDED[0])), lambda: ask(*_EXTENDED), nothing)
    has_xgetbv = c.ne(c.and_(words[_ONE][ECX], 1 << 27), 0)  # OSXSAVE: without it the instruction traps
    [saved] = _where(c, has_xgetbv, lambda: [c.b.call(xgetbv, [], cconv=CONVENTION)], nothing[:1])
    states = {0: const(ir.IntType(1), 1), **{s: c.eq(c.and_(saved, s), s) for s in (YMM, ZMM)}}
    found: Any = const(I64, -(1 << KNOWN))
    for k, (leaf, register, bit, state) in enumerate(FEATURES.values()):
        has = c.and_(c.ne(c.and_(words[leaf][register], const(I32, 1 << bit)), 0), states[state])
        found = c.or_(found, c.shl(c.zext(has, I64), k))
    limit = c.call("getenv", PTR, [c.string(VARIABLE)])
    allowed = c.var(I64, -1)
    with c.if_(c.not_null(limit)):
        for name, features in LEVELS.items():
            for spelling in dict.fromkeys((name, name.removeprefix("x86-64-"))):
                with c.if_(c.eq(c.call("strcmp", I32, [limit, c.string(spelling)]), 0)):
                    allowed.set(mask_of(features) - (1 << KNOWN))
    c.ret(c.and_(found, allowed.get()))
    return c.finish()


def _where(c: Code, condition: Any, ask: Any, otherwise: list[Any]) -> list[Any]:
    """What `ask` emits where the condition holds."""
    slots = [c.var(v.type, v) for v in otherwise]
    with c.if_(condition):
        for slot, value in zip(slots, ask(), strict=True):
            slot.set(value)
    return [slot.get() for slot in slots]


def _machine_code(module: Any, name: str, result: Any, params: list[Any]) -> Any:
    """A function whose body `_with_machine_code` gives. Naked, so that no pass believes the one that stands here."""
    function = ir.Function(module, ir.FunctionType(result, params), name)
    function.linkage, function.calling_convention = "internal", CONVENTION
    for attribute in ("naked", "noinline", "optnone", "nounwind"):
        function.attributes.add(attribute)
    ir.IRBuilder(function.append_basic_block("entry")).unreachable()
    return function


def _with_machine_code(text: str, name: str, code: bytes) -> str:
    escaped = "".join(f"\\{byte:02x}" for byte in code)
    head = re.compile(rf'^(define [^\n]*@"{name}"[^\n]*)\n', re.MULTILINE)
    return head.sub(lambda m: f'{m[1]} prologue [{len(code)} x i8] c"{escaped}"\n', text)
