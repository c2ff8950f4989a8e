"""C entries: what a C caller calls. An entry validates every argument, computes what the kernel's ABI wants, calls it.

    int32_t NAME(const T *in0, ..., T *out0, ..., int64_t n, ..., void *workspace, int64_t workspace_bytes)

Errors are negative for bad arguments (`ERRORS`), positive for what the computation found (`Abi.statuses`, from 1);
the thread that called keeps the numbers for the text. Nothing here is known of Python; the object needs libc, libm
and pthread.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from stager.codegen.error_text import template, write_text
from stager.codegen.structured import F64, I1, I8, I32, I64, NULL, PTR, Code, const, cstring
from stager.ir.abi import (
    ARENA_ALIGN,
    CONTEXT_BYTES,
    CONTEXT_DETAIL,
    Abi,
    InputAbi,
    OutputAbi,
)
from stager.ir.dims import Apply, Dim, Expr, Sym, symbols_of

# Codes of bad arguments and of the library itself; the header lists them.
ERRORS: dict[str, tuple[int, str]] = {
    "INTERRUPTED": (-1, "the call was interrupted"),
    "NO_MEMORY": (-2, "there is not enough memory for the workspace"),
    "NULL": (-10, "a data pointer is null"),
    "SIZE": (-11, "a size is negative or too large"),
    "ALIGNMENT": (-12, "a data pointer is not aligned to its element type"),
    "OVERLAP": (-13, "an output overlaps an input or another output"),
    "WORKSPACE": (-14, "the workspace is too small or not aligned to 64 bytes"),
}
MOST_BYTES = 1 << 47  # of one array: beyond what an address space holds


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a library: its public name, the kernel's ABI and LLVM text, and the names of its arguments."""

    name: str
    abi: Abi
    text: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    graph_hash: str = ""

    @property
    def results(self) -> tuple[tuple[int, OutputAbi], ...]:
        """The outputs that the caller passes memory for."""
        return tuple([(k, o) for k, o in enumerate(self.abi.outputs) if o.kind == "fresh"])

    @property
    def sizes(self) -> tuple[str, ...]:
        """The symbols, which the caller passes as int64_t."""
        return tuple([s.name for s in self.abi.symbols])


class UnsupportedResultError(TypeError):
    """A result that a C caller cannot receive: a view of an argument, or memory whose size the data decides."""


def emit_dim(c: Code, d: Dim, env: dict[str, Any]) -> Any:
    """The i64 value of a dim."""
    if not isinstance(d, Expr):
        return const(I64, d)
    total: Any = const(I64, 0)
    for monomial, coefficient in d.terms:
        product: Any = const(I64, coefficient)
        for atom, power in monomial:
            for _ in range(power):
                product = c.mul(product, _emit_atom(c, atom, env))
        total = c.add(total, product)
    return total


def _emit_atom(c: Code, atom: Sym | Apply, env: dict[str, Any]) -> Any:
    if isinstance(atom, Sym):
        return env[atom.name]
    a, b = emit_dim(c, atom.a, env), emit_dim(c, atom.b, env)
    match atom.fn:
        case "max":
            return c.max(a, b)
        case "min":
            return c.min(a, b)
    quotient = c.sdiv(a, b)
    remainder = c.sub(a, c.mul(quotient, b))
    crossed = c.and_(c.ne(remainder, 0), c.lt(c.xor(remainder, b), 0))
    if atom.fn == "floordiv":
        return c.sub(quotient, c.zext(crossed, I64))
    return c.select(crossed, c.add(remainder, b), remainder)


def emit_entry(module: Any, f: Function) -> None:
    """The C entry of one function, `NAME_workspace` and `NAME_error`."""
    for _, o in enumerate(f.abi.outputs):
        if o.kind not in ("fresh", "input"):
            raise UnsupportedResultError(
                f"{f.name}: a result that is a {o.kind.replace('_', ' of an ')} cannot be built; return a copy"
            )
    params = (
        [(f"in_{n}", PTR) for n in f.inputs]
        + [(f"out_{n}", PTR) for n in f.outputs]
        + [(f"size_{s}", I64) for s in f.sizes]
    )
    c = Code(module, f.name, I32, [*params, ("workspace", PTR), ("workspace_bytes", I64)])
    env = {s: c.arg(f"size_{s}") for s in f.sizes}
    for s in f.sizes:
        c.ret_if(c.or_(c.lt(env[s], 0), c.gt(env[s], 1 << 40)), ERRORS["SIZE"][0])
    inputs: list[Any] = [
        (c.arg(f"in_{n}"), i, _bytes(c, i.type, env)) for n, i in zip(f.inputs, f.abi.inputs, strict=True)
    ]
    results: list[Any] = [
        (c.arg(f"out_{n}"), o, _bytes(c, o.type, env)) for n, (_, o) in zip(f.outputs, f.results, strict=True)
    ]
    for pointer, _, size in [*inputs, *results]:
        # a null pointer is fine where there is nothing to read or write
        c.ret_if(c.and_(c.is_null(pointer), c.gt(size, 0)), ERRORS["NULL"][0])
    for pointer, record, _ in [*inputs, *results]:
        address = c.b.ptrtoint(pointer, I64)
        c.ret_if(c.ne(c.and_(address, record.type.dtype.itemsize - 1), 0), ERRORS["ALIGNMENT"][0])
    _check_overlap(c, inputs, results)
    _run(c, f, env, inputs, results)
    c.finish()
    _emit_workspace(module, f)
    _emit_error(module, f)


def _bytes(c: Code, t: Any, env: dict[str, Any]) -> Any:
    """The bytes of an array; an absurd size returns from the entry with the SIZE error."""
    total: Any = const(I64, t.dtype.itemsize)
    if not symbols_of(t.shape):
        for d in t.shape:
            total = c.mul(total, const(I64, d))
        return total
    for d in t.shape:
        n = emit_dim(c, d, env)
        # exact up to MOST_BYTES; a multiplication that tells its overflow is a library call on wasm32
        product = c.b.fmul(c.b.sitofp(total, F64), c.b.sitofp(n, F64))
        bad = c.or_(c.lt(n, 0), c.b.fcmp_ordered(">", product, const(F64, float(MOST_BYTES))))
        c.ret_if(bad, ERRORS["SIZE"][0])
        total = c.mul(total, n)
    return total


def _check_overlap(c: Code, inputs: Sequence[Any], results: Sequence[Any]) -> None:
    """Outputs (and inputs that are written) may not share memory with anything else."""
    everything = [
        (p, size, record.written if isinstance(record, InputAbi) else True) for p, record, size in [*inputs, *results]
    ]
    for i, (p, size, written) in enumerate(everything):
        for q, other, also in everything[:i]:
            if written or also:
                a, b = c.b.ptrtoint(p, I64), c.b.ptrtoint(q, I64)
                apart = c.or_(c.uge(b, c.add(a, size)), c.uge(a, c.add(b, other)))
                nothing = c.or_(c.eq(size, 0), c.eq(other, 0))
                c.ret_if(c.not_(c.or_(apart, nothing)), ERRORS["OVERLAP"][0])


def _run(c: Code, f: Function, env: dict[str, Any], inputs: Sequence[Any], results: Sequence[Any]) -> None:
    context = c.alloca(ir.ArrayType(I8, CONTEXT_BYTES), align=16)
    c.fill(context, 0, const(I64, CONTEXT_BYTES))
    buffers = c.alloca(ir.ArrayType(I64, len(f.abi.inputs) + len(f.abi.outputs) + 1))  # 8 bytes each, wasm32's too
    symbols = c.alloca(ir.ArrayType(I64, len(f.sizes) + 1))
    for k, (pointer, _, _) in enumerate(inputs):
        c.store(pointer, c.element(buffers, I64, k))
    given = {k: pointer for (k, _), (pointer, _, _) in zip(f.results, results, strict=True)}
    for k in range(len(f.abi.outputs)):
        c.store(given.get(k, NULL), c.element(buffers, I64, len(inputs) + k))
    for k, s in enumerate(f.sizes):
        c.put_at(symbols, I64, k, env[s])
    needed = c.max(emit_dim(c, f.abi.arena_bytes, env), 0)
    arena = c.var(PTR, c.arg("workspace"))
    own = c.var(I1, 0)
    with c.if_(c.gt(needed, 0)):
        with c.if_(c.is_null(c.arg("workspace"))):
            arena.set(c.call("stager_arena_acquire", PTR, [needed]))
            c.ret_if(c.is_null(arena.get()), ERRORS["NO_MEMORY"][0])
            own.set(1)
        with c.else_():
            address = c.b.ptrtoint(c.arg("workspace"), I64)
            bad = c.or_(c.lt(c.arg("workspace_bytes"), needed), c.ne(c.and_(address, ARENA_ALIGN - 1), 0))
            c.ret_if(bad, ERRORS["WORKSPACE"][0])
    status = c.call(f.abi.name, I32, [context, buffers, symbols, arena.get()])
    with c.if_(own.get()):
        c.call("stager_arena_release", args=[arena.get(), needed])
    with c.if_(c.gt(status, 0)):
        c.copy(c.b.gep(_details(c.module), [const(I32, 0), const(I32, 0)], source_etype=ir.ArrayType(I64, 4)),
               c.offset(context, CONTEXT_DETAIL), const(I64, 32))  # fmt: skip
    c.ret(status)


def _details(module: Any) -> Any:
    """The thread's numbers for the text of its last error."""
    found = module.globals.get("stager_last_detail")
    if found is None:
        found = ir.GlobalVariable(module, ir.ArrayType(I64, 4), "stager_last_detail")
        found.storage_class = "thread_local"
        found.linkage = "internal"
        found.initializer = ir.Constant(ir.ArrayType(I64, 4), None)
        found.type = PTR
    return found


def _emit_workspace(module: Any, f: Function) -> None:
    """int64_t NAME_workspace(int64_t n, ...): the bytes of workspace a call needs; negative for bad sizes."""
    c = Code(module, f"{f.name}_workspace", I64, [(f"size_{s}", I64) for s in f.sizes])
    env = {s: c.arg(f"size_{s}") for s in f.sizes}
    for s in f.sizes:
        c.ret_if(c.or_(c.lt(env[s], 0), c.gt(env[s], 1 << 40)), ERRORS["SIZE"][0])
    c.ret(c.max(emit_dim(c, f.abi.arena_bytes, env), 0))
    c.finish()


def _emit_error(module: Any, f: Function) -> None:
    """int32_t NAME_error(int32_t code, char *text, int64_t size): writes the text of a code."""
    c = Code(module, f"{f.name}_error", I32, [("code", I32), ("text", PTR), ("size", I64)])
    c.ret_if(c.or_(c.is_null(c.arg("text")), c.lt(c.arg("size"), 1)), ERRORS["NULL"][0])
    texts = {0: "no error", **dict(ERRORS.values())}
    for k, s in enumerate(f.abi.statuses, 1):
        texts[k] = template(f"{s.exception}: {s.text}")
    shown = c.var(PTR, cstring(module, "unknown error"))
    with c.switch(c.arg("code")) as cases:
        for code, text in texts.items():
            with cases.case(code):
                shown.set(cstring(module, text))
    numbers = c.b.gep(_details(module), [const(I32, 0), const(I32, 0)], source_etype=ir.ArrayType(I64, 4))
    c.ret(c.call(write_text(module), args=[c.arg("text"), c.arg("size"), shown.get(), numbers]))
    c.finish()
