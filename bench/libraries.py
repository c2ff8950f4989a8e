"""Built libraries measured from C, in programs without Python: against the JIT's machine code, linked into the same.

The JIT's object and the library's are called in turn, on the same arrays, by one loop; results must agree bit for bit.
Not here: the rows (bench/workloads/h_libraries.py).
"""

from __future__ import annotations

import inspect
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import Budget

C_TYPES = {"float64": "double", "float32": "float", "int64": "int64_t"}


def compiler() -> str:
    """LookupError without one."""
    found = shutil.which("cc") or shutil.which("gcc")
    if found is None:
        raise LookupError("no C compiler")
    return found


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stager-bench-") as name:
        yield Path(name)


def _run(command: Sequence[Any], **options: Any) -> bytes:
    done = subprocess.run([str(c) for c in command], capture_output=True, **options)
    if done.returncode:
        text = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        raise ArithmeticError(text[-1] if text else f"{command[0]} ended with {done.returncode}")
    out: bytes = done.stdout
    return out


def numpys_blas() -> str:
    """The path of the OpenBLAS that NumPy brings. LookupError without one."""
    from stager.runtime import blas

    name = blas.library_name()
    found = next((p for p in blas._candidates() if p.name == name), None)
    if found is None:
        raise LookupError("NumPy has no OpenBLAS of its own")
    return str(found)


def jit_objects(
    fn: Callable[..., Any], specs: Sequence[str], where: Path, blas: str | None
) -> tuple[Any, list[str | Path]]:
    """(ABI, objects) of what the JIT runs for fn, its function under the name jit_kernel, and what that calls."""
    from stager.aot.blas import find_blas
    from stager.codegen.blas import emit_blas_threads
    from stager.codegen.compile import compile_graph
    from stager.codegen.objects import object_of
    from stager.codegen.pool import emit_pool
    from stager.codegen.products import emit_products
    from stager.codegen.target import Target
    from stager.pipeline import optimize
    from stager.transforms.shapes import trace_types

    graph = optimize(trace_types(fn, tuple(specs), {}, copies=True).graph)
    host = Target.host()
    compiled = compile_graph(graph, host, name="jit_kernel", blas=blas is not None)
    objects: dict[str, bytes] = {"jit.o": compiled.object, "pool.o": object_of(emit_pool(host), host)}
    link: tuple[str, ...] = ()
    if blas is not None:
        found = find_blas(blas)
        objects["products.o"] = object_of(emit_products(host, gemm=found.gemm, bits=found.bits), host)
        objects["blas.o"] = object_of(emit_blas_threads(host, found.threads), host)
        link = found.link
    for name, content in objects.items():
        (where / name).write_bytes(content)
    return compiled.abi, [*[where / name for name in objects], *link]


SPEED = """
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "measured.h"
extern int32_t jit_kernel(void *, void *const *, const int64_t *, void *);
static double now(void) {{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* calls stay on this thread: what others run does not count */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}}
static void *get(size_t bytes, int reads) {{
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!p || (reads && fread(p, 1, bytes, stdin) != bytes)) exit(9);
    return p;
}}
int main(int argc, char **argv) {{
    double seconds = atof(argv[argc - 1]);
    {arrays}
    void *const buffers[] = {{{buffers}}};
    const int64_t symbols[] = {{{symbols}}};
    stager_call call = {{.threads = 1, .workspace = get({workspace}, 0), .workspace_bytes = {workspace}}};
    stager_call context = call;
    int32_t code = 0;
    #define BUILT code |= measured({arguments}, &call)
    #define JIT code |= jit_kernel(&context, buffers, symbols, call.workspace)
    BUILT; JIT;
    double start = now();
    BUILT;
    double once = now() - start;
    long count = 1 + (long)(2e-4 / (once + 1e-9)), rounds = 1 + (long)(seconds / (3 * once * (double)count + 1e-9));
    if (rounds < 25) rounds = 25;
    if (rounds > 400) rounds = 400;
    for (long r = 0; r < rounds; r++) {{
        double times[3];
        for (long k = 0; k < 3; k++) {{
            long which = (k + r) % 3;
            start = now();
            if (which == 1) for (long i = 0; i < count; i++) JIT;
            else for (long i = 0; i < count; i++) BUILT;
            times[which] = (now() - start) / (double)count;
        }}
        printf("%.12g %.12g %.12g\\n", times[0], times[1], times[2]);
    }}
    if (code) return 8;
    {compare}
    return 0;
}}
"""


def against_jit(
    fn: Callable[..., Any],
    specs: Sequence[str],
    inputs: Sequence[np.ndarray[Any, Any]],
    budget: Budget,
    blas: str | None = None,
) -> dict[str, Any]:
    """A row: the library's time as stager's, the JIT's as that of the peer "jit". ArithmeticError when bits differ."""
    import stager as st
    from stager.ir.dims import evaluate

    with folder() as where:
        built = st.build({"measured": (fn, list(specs))}, where, name="measured", shared=False, blas=blas)
        abi, objects = jit_objects(fn, specs, where, blas)
        sizes = {s.name: inputs[s.input].shape[s.axis] for s in abi.symbols}
        results = [tuple(evaluate(d, sizes) for d in o.type.shape) for o in abi.outputs]
        workspace = max(64, int(evaluate(abi.arena_bytes, sizes)))
        arrays, arguments, buffers, compare = [], [], [], []
        for k, x in enumerate(inputs):
            arrays.append(f"{C_TYPES[str(x.dtype)]} *in{k} = get({x.nbytes}, 1);")
            arguments.append(f"in{k}")
            buffers.append(f"in{k}")
        for k, (o, shape) in enumerate(zip(abi.outputs, results, strict=True)):
            size = math.prod(shape) * o.type.dtype.itemsize
            kind = C_TYPES[str(o.type.dtype.np)]
            arrays.append(f"{kind} *out{k} = get({size}, 0), *jit{k} = get({size}, 0);")
            arguments.append(f"out{k}")
            buffers.append(f"jit{k}")
            compare.append(f"if (memcmp(out{k}, jit{k}, {size})) return 7;")
        symbols = [str(sizes[s.name]) for s in abi.symbols]
        names = list(sizes)
        arguments += [str(sizes[n]) for n in names]
        source = SPEED.format(
            arrays="\n    ".join(arrays), buffers=", ".join(buffers), symbols=", ".join(symbols or ["0"]),
            workspace=workspace, arguments=", ".join(arguments), compare="\n    ".join(compare),
        )  # fmt: skip
        (where / "main.c").write_text(source)
        program = where / "main"
        _run([compiler(), "-std=gnu11", "-O2", f"-I{where}", where / "main.c", built.files["object"], *objects,
              "-o", program, "-lm", "-pthread"])  # fmt: skip
        said = _run([program, budget.seconds], input=b"".join(np.ascontiguousarray(x).tobytes() for x in inputs))
    samples = np.array([[float(t) for t in line.split()] for line in said.decode().splitlines()])
    own, jit, again = (float(statistics.median(column)) for column in samples.T)
    return {"times": {"stager": own, "jit": jit}, "failed": {}, "spread": max(own, again) / min(own, again)}


LOAD = """
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int main(int argc, char **argv) {
    for (int k = 0; k < 21 && argc == 2; k++) {
        struct timespec a, b;
        clock_gettime(CLOCK_MONOTONIC, &a);
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (!library || !dlsym(library, "measured")) return 1;
        clock_gettime(CLOCK_MONOTONIC, &b);
        printf("%.12g\\n", (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec));
        dlclose(library);
    }
    return 0;
}
"""


def load_time(fn: Callable[..., Any], specs: Sequence[str]) -> dict[str, Any]:
    """A row: seconds of dlopen and dlsym, the first time in a process (later ones find the file's pages mapped)."""
    import stager as st

    with folder() as where:
        built = st.build({"measured": (fn, list(specs))}, where, name="measured")
        (where / "main.c").write_text(LOAD)
        _run([compiler(), "-std=gnu11", "-O2", where / "main.c", "-o", where / "main", "-ldl"])
        first = [_run([where / "main", built.files["library"]]).decode().split()[0] for _ in range(9)]
    return {"times": {"stager": float(statistics.median(map(float, first)))}, "failed": {}}


def size(fn: Callable[..., Any], specs: Sequence[str], **options: Any) -> dict[str, Any]:
    """A row: bytes of the shared library."""
    import stager as st

    with folder() as where:
        built = st.build({"measured": (fn, list(specs))}, where, name="measured", **options)
        return {"times": {}, "failed": {}, "figures": {"bytes": built.files["library"].stat().st_size}}


def build_time(make: Callable[[int], Callable[..., Any]], specs: Sequence[str], budget: Budget) -> dict[str, Any]:
    """A row: seconds of `stager.build` for a function never seen before, in a process that has built another."""
    import stager as st

    samples = []
    with folder() as where:
        for k in range(max(budget.least, 5) + 1):
            fn = make(k)
            start = time.perf_counter()
            st.build({"measured": (fn, list(specs))}, where, name="measured")
            samples.append(time.perf_counter() - start)
    return {"times": {"stager": statistics.median(samples[1:])}, "failed": {}}


def command_time(fn: Callable[..., Any], specs: Sequence[str], budget: Budget) -> dict[str, Any]:
    """A row: seconds of `python -m stager build`, from the start of the process to its end."""
    samples = []
    options = [word for s in specs for word in ("--spec", s)]
    with folder() as where:
        (where / "measured.py").write_text("from typing import Any\n\nimport numpy as np\n\n\n" + inspect.getsource(fn))
        command = [sys.executable, "-m", "stager", "build", f"measured:{fn.__name__}", *options, "-o", where / "out"]
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(where / "bytecode")}  # warm, as that of packages is
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(max(budget.least, 5) + 1):
            start = time.perf_counter()
            _run(command, cwd=where, env=environment)
            samples.append(time.perf_counter() - start)
    return {"times": {"stager": statistics.median(samples[1:])}, "failed": {}}
