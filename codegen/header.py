"""The C header of a built library: self-contained C11 and C++17, everything a caller must know, and an example."""

from __future__ import annotations

from collections.abc import Sequence

from stager.codegen.c_entry import ERRORS, Function
from stager.ir.abi import ABI_VERSION
from stager.ir.dims import is_static, substitute, symbols_of
from stager.ir.types import Type

C_TYPES = {
    "b1": "uint8_t", "i8": "int8_t", "i16": "int16_t", "i32": "int32_t", "i64": "int64_t", "u8": "uint8_t",
    "u16": "uint16_t", "u32": "uint32_t", "u64": "uint64_t", "f32": "float", "f64": "double",
}  # fmt: skip


def c_parameters(f: Function) -> list[tuple[str, str, str]]:
    """(C type, name, what it is) of every parameter of the C entry."""
    out: list[tuple[str, str, str]] = []
    for name, i in zip(f.inputs, f.abi.inputs, strict=True):
        const = "" if i.written else "const "
        out.append(
            (
                f"{const}{C_TYPES[i.type.dtype.name]} *",
                name,
                f"{'in and out' if i.written else 'in'}: {i.type}, {_layout(i.type)}",
            )
        )
    for name, (_, o) in zip(f.outputs, f.results, strict=True):
        out.append((f"{C_TYPES[o.type.dtype.name]} *", name, f"out: {o.type}, {_layout(o.type)}"))
    out.extend(("int64_t ", s, "size") for s in f.sizes)
    out.append(("void *", "workspace", f"{_workspace(f)} bytes, 64-byte aligned, or NULL: then the library allocates"))
    out.append(("int64_t ", "workspace_bytes", "the bytes at workspace"))
    return out


def _layout(t: Type) -> str:
    return "one element" if not t.shape else "dense, C order (the last index varies fastest)"


def _workspace(f: Function) -> str:
    return str(f.abi.arena_bytes) if is_static(f.abi.arena_bytes) else f"{f.name}_workspace(...)"


def header(library: str, functions: Sequence[Function], version: str) -> str:
    """The text of the header."""
    guard = f"STAGER_{library.upper()}_H".replace("-", "_").replace(".", "_")
    lines = [
        f"/* {library}.h: made by stager {version}, ABI {ABI_VERSION}.",
        " *",
        " * Every function returns 0, or a negative code for a bad argument, or a positive one for an error that the",
        " * computation found. NAME_error(code, text, size) writes the text of a code. All functions are thread-safe",
        " * and re-entrant; the only state is the thread pool. Outputs may not overlap inputs or each other.",
        " * Pointers must be aligned to their element type. No pointer is kept.",
        " *",
        " * Example:",
        " *",
        *[f" *   {line}" if line else " *" for line in example(library, functions[0]).splitlines()],
        " */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        "#include <stdint.h>",
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
        "",
        "#ifndef STAGER_ERRORS",
        "#define STAGER_ERRORS",
        "enum {",
        "    STAGER_OK = 0,",
        *[
            f"    STAGER_ERROR_{name} = {code}{',' if k < len(ERRORS) - 1 else ''} /* {text} */"
            for k, (name, (code, text)) in enumerate(ERRORS.items())
        ],
        "};",
        "#endif",
        "",
        "/* How many threads a call may use (from the next call on), and ending the pool's threads; both optional. */",
        "void stager_pool_set_threads(int32_t threads);",
        "void stager_pool_stop(void);",
        "",
    ]
    for f in functions:
        lines += _declaration(f)
    lines += ["#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", ""]
    return "\n".join(lines)


def _declaration(f: Function) -> list[str]:
    parameters = c_parameters(f)
    width = max(len(t) + len(n) for t, n, _ in parameters) + 2
    lines = [f"/* {f.name}: graph {f.graph_hash[:16]}"]
    for k, s in enumerate(f.abi.statuses, 1):
        lines.append(f" *   returns {k}: {s.exception}: {s.text}")
    lines += [" */", f"int32_t {f.name}("]
    for k, (t, n, about) in enumerate(parameters):
        end = "," if k < len(parameters) - 1 else ");"
        lines.append(f"    {(t + n + end).ljust(width)} /* {about} */")
    sizes = ", ".join(f"int64_t {s}" for s in f.sizes) or "void"
    lines += [
        f"int64_t {f.name}_workspace({sizes});",
        f"int32_t {f.name}_error(int32_t code, char *text, int64_t size);",
        "",
    ]
    return lines


def example(library: str, f: Function) -> str:
    """A C program that calls a function once on zeros; a test compiles and runs it."""
    sizes = dict.fromkeys(f.sizes, 3)
    lines = ["#include <stdio.h>", f'#include "{library}.h"', "", "int main(void) {"]
    for name, t in [
        *zip(f.inputs, [i.type for i in f.abi.inputs], strict=True),
        *zip(f.outputs, [o.type for _, o in f.results], strict=True),
    ]:
        count = 1
        for d in t.shape:
            n = substitute(d, sizes) if symbols_of(d) else d
            count *= n if isinstance(n, int) else 1
        lines.append(f"    static {C_TYPES[t.dtype.name]} {name}[{max(count, 1)}];")
    arguments = [*f.inputs, *f.outputs, *["3"] * len(f.sizes), "0", "0"]
    lines += [
        f"    int32_t code = {f.name}({', '.join(arguments)});",
        "    char text[200];",
        f"    {f.name}_error(code, text, sizeof text);",
        '    printf("%d %s\\n", (int)code, text);',
        "    return code != 0;",
        "}",
    ]
    return "\n".join(lines)
