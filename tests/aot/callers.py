"""Calls of built functions from outside Python: a C program for any Linux, a JavaScript one for wasm32.

The order of a function's parameters is read from the header, as a caller does. A program reads all inputs from its
standard input, calls one function after the other and writes for each the code, its text, the inputs as they are then
and the results.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.aot.representative import Case, Outcome

PARAMETER = re.compile(r"^\s*(const )?(\w+) (\*?)(\w+)[,)]")


def parameters(header: str, name: str) -> list[tuple[str, bool, str]]:
    """(C type, whether a pointer, name) of each parameter of a function."""
    start = header.index(f"int32_t {name}(\n")
    lines = header[start : header.index(");", start) + 2].splitlines()[1:]
    found = []
    for line in lines:
        m = PARAMETER.match(line)
        assert m, line
        found.append((m[2], bool(m[3]), m[4]))
    return found


def pieces(header: str, name: str, case: Case) -> list[tuple[str, str, int | tuple[str, np.ndarray] | None]]:
    """(C type, name, value) per parameter; an array's value is ("in" or "out", an array of its shape)."""
    results = case.expected()[len(case.inputs) :] or [np.empty(64)] * 9  # of a call that fails: enough
    arrays = iter([*[("in", x) for x in case.inputs], *[("out", r) for r in results]])
    room = 0
    found: list[tuple[str, str, int | tuple[str, np.ndarray] | None]] = []
    for kind, pointer, parameter in parameters(header, name):
        if parameter == "call":
            found.append((kind, parameter, 0))
        elif parameter.endswith(("_shape", "_strides")):
            found.append((kind, parameter, None))
        elif pointer:
            way, array = next(arrays)
            room = array.size
            found.append((kind, parameter, (way, array)))
        else:
            found.append((kind, parameter, room if parameter.endswith("_capacity") else case.sizes[parameter]))
    return found


def input_bytes(cases: Mapping[str, Case]) -> bytes:
    return b"".join(np.ascontiguousarray(x).tobytes() for case in cases.values() for x in case.inputs)


TEXT_BYTES = 100


def outcomes(cases: Mapping[str, Case], data: bytes) -> dict[str, Outcome]:
    """What a program wrote."""
    out: dict[str, Outcome] = {}
    at = 0

    def take(size: int) -> bytes:
        nonlocal at
        at += size
        return data[at - size : at]

    for name, case in cases.items():
        code = int.from_bytes(take(4), "little", signed=True)
        text = take(TEXT_BYTES).split(b"\0")[0].decode()
        arrays = tuple([np.frombuffer(take(e.nbytes), e.dtype).reshape(e.shape) for e in case.expected()])
        out[name] = Outcome(code, text, arrays)
    assert at == len(data)
    return out


C_START = """#include <stdio.h>
#include <stdlib.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif
#include "{library}.h"
static void *get(size_t bytes, int read) {{
    char *p = calloc(1, bytes + 64);
    if (!p || (read && fread(p, 1, bytes, stdin) != bytes)) exit(99);
    return p;
}}
int main(int argc, char **argv) {{
#ifdef _WIN32
    _setmode(0, _O_BINARY);
    _setmode(1, _O_BINARY);
#endif
    stager_call call = {{0}};
    if (argc > 1) {library}_set_threads(atoi(argv[1]));
"""


def c_program(library: str, header: str, cases: Mapping[str, Case]) -> str:
    lines = [C_START.format(library=library)]
    for name, case in cases.items():
        lines.append("    {")
        arguments, writes = [], []
        for kind, parameter, value in pieces(header, name, case):
            if value is None or isinstance(value, int):
                arguments.append("&call" if parameter == "call" else str(value or 0))
                continue
            direction, array = value
            lines.append(f"        {kind} *{parameter} = get({array.nbytes}, {int(direction == 'in')});")
            arguments.append(parameter)
            if direction == "in" or not case.error:
                writes.append(f"        fwrite({parameter}, 1, {array.nbytes}, stdout);")
        lines.append(f"        int32_t code = {name}({', '.join(arguments)});")
        lines.append(f"        char text[{TEXT_BYTES}] = {{0}};")
        lines.append(f"        {name}_error(code, &call, text, {TEXT_BYTES});")
        lines += ["        fwrite(&code, 1, 4, stdout);", "        fwrite(text, 1, sizeof text, stdout);", *writes]
        lines.append("    }")
    return "\n".join([*lines, f"    {library}_stop_threads();", "    return 0;", "}", ""])


def compile_c(compiler: Sequence[str], source: str, folder: Path, *inputs: Path | str) -> Path:
    """The program of a C text, linked with objects and options."""
    (folder / "main.c").write_text(source)
    program = folder / "main"
    command = [*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", str(folder / "main.c"), *map(str, inputs)]
    done = subprocess.run([*command, "-o", str(program), "-lm", "-pthread"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(command: Sequence[str], cases: Mapping[str, Case], **options: Any) -> dict[str, Outcome]:
    """Runs a program on the inputs of the cases."""
    done = subprocess.run(command, input=input_bytes(cases), capture_output=True, timeout=300, **options)
    assert done.returncode == 0, (done.returncode, done.stderr.decode()[-2000:])
    return outcomes(cases, done.stdout)


JS_START = """'use strict';
const fs = require('fs');
const [wasm] = process.argv.slice(2);
const input = fs.readFileSync(0);
const memory = new WebAssembly.Memory({initial: 600});
let top = 400 * 65536, allocations = 0;
const allocate = (align, bytes) => {
    const at = (top + align - 1) & -align;
    top = at + bytes;
    return top < memory.buffer.byteLength ? at : 0;
};
const env = {
    memory,
    aligned_alloc: (align, bytes) => { allocations++; return allocate(align, bytes); },
    malloc: (bytes) => allocate(16, bytes),
    free: () => {},
};
const f = new WebAssembly.Instance(new WebAssembly.Module(fs.readFileSync(wasm)), {env}).exports;
let read = 0;
const out = [];
const get = (bytes, reads) => {
    const at = allocate(64, bytes);
    if (reads) { new Uint8Array(memory.buffer, at, bytes).set(input.subarray(read, read += bytes)); }
    return at;
};
const put = (at, bytes) => out.push(Buffer.from(memory.buffer.slice(at, at + bytes)));
const how = allocate(64, 80);  // a stager_call of zeros
const call = (code, error) => {
    const b = Buffer.alloc(4);
    b.writeInt32LE(code);
    out.push(b);
    const text = allocate(64, TEXT_BYTES);
    error(code, how, text, BigInt(TEXT_BYTES));
    put(text, TEXT_BYTES);
};
"""


def js_program(header: str, cases: Mapping[str, Case]) -> str:
    lines = [JS_START.replace("TEXT_BYTES", str(TEXT_BYTES))]
    for name, case in cases.items():
        arguments, writes = [], []
        lines.append("{")
        for _, parameter, value in pieces(header, name, case):
            if value is None or isinstance(value, int):
                arguments.append("how" if parameter == "call" else "0" if value is None else f"{value}n")
                continue
            direction, array = value
            lines.append(f"    const {parameter} = get({array.nbytes}, {'true' if direction == 'in' else 'false'});")
            arguments.append(parameter)
            if direction == "in" or not case.error:
                writes.append(f"    put({parameter}, {array.nbytes});")
        lines += [f"    call(f.{name}({', '.join(arguments)}), f.{name}_error);", *writes, "}"]
    return "\n".join([*lines, "fs.writeSync(1, Buffer.concat(out));", ""])
