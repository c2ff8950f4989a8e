"""The C header of a built library: self-contained C11 and C++17, everything a caller must know, and an example."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from stager.codegen.c_interface import ERRORS, MOST_SIZE, Function, Parameter
from stager.codegen.library import exported_cpu, exported_pool, uses_pool
from stager.codegen.pool_state import POOL_SET_THREADS, POOL_STOP
from stager.codegen.target import Target
from stager.ir.abi import ABI_VERSION, ARENA_ALIGN
from stager.ir.dims import Dim, contiguous_strides, evaluate, is_static, symbol, symbols_of
from stager.ir.types import Type

C_TYPES = {
    "b1": "uint8_t", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "u8": "uint8_t",
    "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "f32": "float", "f64": "double",
}  # fmt: skip
CALL_TYPE = """\
#ifndef STAGER_CALL
#define STAGER_CALL
#ifdef __cplusplus
#define STAGER_SLOT alignas(8)
#else
#define STAGER_SLOT _Alignas(8)
#endif
/* How one call runs: all zeros, or a null pointer, is the usual way. One per call that runs at the same time. */
typedef struct stager_call {
    int64_t detail[4];   /* out: the numbers in the text of an error */
    int32_t threads;     /* at most this many threads; 1: the calling one alone; 0: the library's default */
    int32_t interrupted; /* another thread stores non-zero here to stop a long call: STAGER_ERROR_INTERRUPTED */
    /* Memory for results whose pointers are null: called for each, counted from 0, with how many bytes it needs; null
       stops with STAGER_ERROR_NO_MEMORY. stager_allocate is one. */
    STAGER_SLOT void *(*allocate)(struct stager_call *call, int32_t result, int64_t bytes);
    STAGER_SLOT void *user; /* the caller's own */
    STAGER_SLOT int32_t (*poll)(struct stager_call *call); /* called now and then by long loops: non-zero stops */
    STAGER_SLOT void *workspace; /* scratch memory, aligned to 64 bytes; null: the library takes it from malloc */
    int64_t workspace_bytes;     /* how much there is: at least what NAME_workspace says */
} stager_call;

/* Results from malloc, for stager_call.allocate: call->user is an array with a place for each result, which receives
   its address; free() gives it back. */
static inline void *stager_allocate(stager_call *call, int32_t result, int64_t bytes) {
    void **places = (void **)call->user;
    return places[result] = malloc(bytes > 0 ? (size_t)bytes : 1);
}
#endif
"""


def c_parameter(f: Function, p: Parameter) -> tuple[str, str, str]:
    """(C type, name, what it is) of a parameter of the C function."""
    match p.kind:
        case "input":
            i = f.abi.inputs[p.index]
            const = "" if i.written else "const "
            way = "in and out" if i.written else "in"
            layout = "strides as given" if p.index in f.strided else _layout(i.type)
            return f"{const}{C_TYPES[i.type.dtype.name]} *", p.name, f"{way}: {f.shown(i.type)}, {layout}"
        case "strides":
            rank = len(f.abi.inputs[p.index].type.shape)
            return "const int64_t *", p.name, f"{rank} strides in bytes; null: dense, C order"
        case "result":
            r = f.results[p.index]
            return f"{C_TYPES[r.type.dtype.name]} *", p.name, f"out: {f.shown(r.type)}, {_layout(r.type)}"
        case "capacity":
            return "int64_t ", p.name, f"how many elements there is room for at {f.results[p.index].name}"
        case "shape":
            rank = len(f.results[p.index].type.shape)
            return "int64_t *", p.name, f"out: its {rank} sizes; may be null"
        case "size":
            return "int64_t ", p.name, "a size"
    return "stager_call *", p.name, "how to run; may be null"


def _layout(t: Type) -> str:
    return "one element" if not t.shape else "dense, C order (the last index varies fastest)"


def header(library: str, functions: Sequence[Function], version: str, targets: Sequence[Target]) -> str:
    """The text of the header."""
    return "\n".join(_lines(library, functions, version, targets)) + "\n"


def _lines(library: str, functions: Sequence[Function], version: str, targets: Sequence[Target]) -> Iterator[str]:
    guard = f"STAGER_LIBRARY_{library.upper()}_H"
    yield from (
        f"/* {library}.h: made by stager {version}, ABI {ABI_VERSION}.",
        " *",
        " * A function returns 0, a negative code for a bad argument (STAGER_ERROR_...), or a positive one for an",
        " * error that the computation found; NAME_error writes the text of a code. After an error the contents of",
        " * results and of arrays that are in and out are unspecified.",
        " *",
        " * Threads: all functions may be called from several threads at once, on memory of their own.",
        f" * {_state(functions, targets[0])}",
        f" * Made for {targets[0].triple}, CPU {', '.join(t.cpu for t in targets)}.",
        " * Alignment: a pointer is a multiple of its element's size, a workspace of 64 bytes.",
        " * Aliasing: arrays that are only read may share memory; results and arrays that are in and out share it with",
        " * nothing else (STAGER_ERROR_OVERLAP). No pointer is kept after the call.",
        " * Sizes: none is negative or beyond 2^40, no array larger than 2^47 bytes. Where an array has no elements,",
        " * its pointer may be null.",
        " *",
        " * Example:",
        " *",
    )
    for line in example(library, functions[0]).splitlines():
        yield f" *   {line}" if line else " *"
    yield from (" */", f"#ifndef {guard}", f"#define {guard}", "", "#include <stdint.h>", "#include <stdlib.h>", "")
    yield from ("#ifdef __cplusplus", 'extern "C" {', "#endif", "", "#ifndef STAGER_ERRORS", "#define STAGER_ERRORS")
    yield from ("enum {", "    STAGER_OK = 0,")
    for k, (name, (code, text)) in enumerate(ERRORS.items()):
        yield f"    STAGER_ERROR_{name} = {code}{',' if k < len(ERRORS) - 1 else ''} /* {text} */"
    yield from ("};", "#endif", "")
    yield CALL_TYPE
    if uses_pool(functions):
        pool = exported_pool(library)
        yield "/* How many threads a call uses, from the next call on (0: what the environment and the CPUs say)."
        yield "   Ending the library's threads: before it is unloaded, say; later calls start new ones. */"
        yield f"void {pool[POOL_SET_THREADS]}(int32_t threads);"
        yield f"void {pool[POOL_STOP]}(void);"
        yield ""
    cpu = exported_cpu(library, targets)
    if cpu is not None:
        yield "/* Which of its CPUs the library runs code for; the environment variable STAGER_CPU (x86-64-v2, say)"
        yield "   lowers it. Null: this CPU lacks what each of them needs, every function returns STAGER_ERROR_CPU. */"
        yield f"const char *{cpu}(void);"
        yield ""
    for f in functions:
        yield from _declaration(f)
    yield from ("#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */")


def _state(functions: Sequence[Function], target: Target) -> str:
    if target.system.pthreads is None:
        return f"The library starts no threads: on {target.system.name} a call runs on the thread that makes it."
    if uses_pool(functions):
        return "The only state of the library is its thread pool, which starts when it is first needed."
    return "The library has no state and starts no threads."


def _declaration(f: Function) -> Iterator[str]:
    yield f"/* {f.name}: graph {f.graph_hash[:16]}"
    for d, low, high in f.conditions:
        yield f" *   needs {_condition(f.shown(d), low, high)}, else STAGER_ERROR_CONDITION"
    for note in f.notes:
        yield f" *   {note}"
    for r in f.results:
        if r.sized:
            yield f" *   {r.name}: its size is known when it is computed. Without enough room STAGER_ERROR_CAPACITY"
            yield f" *   comes back, and in {r.name}_shape what was needed; null with capacity 0 asks only that."
    yield f" *   workspace: {_workspace(f)}"
    for k, s in enumerate(f.statuses, 1):
        yield f" *   returns {k}: {s.exception}: {s.text}"
    yield " */"
    yield f"int32_t {f.name}("
    parameters = [c_parameter(f, p) for p in f.parameters]
    width = max(len(t) + len(n) for t, n, _ in parameters) + 2
    for k, (t, n, about) in enumerate(parameters):
        end = "," if k < len(parameters) - 1 else ");"
        yield f"    {(t + n + end).ljust(width)} /* {about} */"
    sizes = ", ".join(f"int64_t {f.shown(symbol(s))}" for s in f.workspace_parameters) or "void"
    yield "/* The bytes of workspace that a call with these sizes needs; negative: a code. */"
    yield f"int64_t {f.name}_workspace({sizes});"
    yield "/* Writes the text of a code (call: the one that failed, or null) into size bytes; returns its length. */"
    yield f"int32_t {f.name}_error(int32_t code, const stager_call *call, char *text, int64_t size);"
    yield ""


def _condition(d: Dim, low: int, high: int) -> str:
    if low == high:
        return f"{d} == {low}"
    if high >= MOST_SIZE:
        return f"{d} >= {low}"
    return f"{d} <= {high}" if low <= -MOST_SIZE else f"{low} <= {d} <= {high}"


def _workspace(f: Function) -> str:
    if f.workspaces == (0,):
        return "none"
    if all(is_static(d) for d in f.workspaces):
        return f"{max(d for d in f.workspaces if isinstance(d, int))} bytes, aligned to {ARENA_ALIGN}"
    return f"{f.name}_workspace() bytes, aligned to {ARENA_ALIGN}"


# -- the example -------------------------------------------------------------------------------------------------------


def example_sizes(f: Function) -> dict[str, int]:
    """Sizes, and zeros for values, that fulfil the function's conditions, as far as a short search finds them."""
    for n in (3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 100, 128, 1000):
        sizes = dict.fromkeys(f.values, 0) | dict.fromkeys(f.sizes, n)
        if all(low <= evaluate(d, sizes) <= high for d, low, high in f.conditions):
            return sizes
    return dict.fromkeys(f.values, 0) | dict.fromkeys(f.sizes, 1000)  # the size that the function was traced with


def example(library: str, f: Function) -> str:
    """A C program that calls a function once on zeros; a test compiles and runs it."""
    sizes = example_sizes(f)
    lines = ["#include <stdio.h>", f'#include "{library}.h"', "", "int main(void) {"]
    arguments = []
    for p in f.parameters:
        match p.kind:
            case "input" | "result":
                t = f.abi.inputs[p.index].type if p.kind == "input" else f.results[p.index].type
                lines.append(f"    static {C_TYPES[t.dtype.name]} {p.name}[{_count(t, sizes)}];")
                arguments.append(p.name)
            case "strides":
                t = f.abi.inputs[p.index].type
                dense = contiguous_strides(t.shape, t.dtype.itemsize)
                values = ", ".join(str(evaluate(d, sizes)) for d in dense)
                lines.append(f"    const int64_t {p.name}[] = {{{values}}};")
                arguments.append(p.name)
            case "capacity":
                arguments.append(f"{_count(f.results[p.index].type, sizes)}")
            case "shape":
                rank = max(1, len(f.results[p.index].type.shape))
                lines.append(f"    int64_t {p.name}[{rank}];")
                arguments.append(p.name)
            case "size":
                arguments.append(str(sizes[p.name]))
            case "call":
                arguments.append("&call")
    lines += [
        "    static stager_call call;",
        f"    int32_t code = {f.name}({', '.join(arguments)});",
        "    char text[200];",
        f"    {f.name}_error(code, &call, text, sizeof text);",
        '    printf("%d %s\\n", (int)code, text);',
        "    return code != 0;",
        "}",
    ]
    return "\n".join(lines)


def _count(t: Type, sizes: dict[str, int]) -> int:
    """Elements of an array of the example; of one sized by the data, as many as a small one may have."""
    count = 1
    for d in t.shape:
        known = symbols_of(d) <= sizes.keys()
        count *= max(evaluate(d, sizes), 1) if known else 64
    return count
