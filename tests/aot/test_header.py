"""Headers: clean in C11 and C++17, with an example that runs, and everything that a caller must know."""

from __future__ import annotations

import re
import shutil
import subprocess

import numpy as np
import pytest

import stager as st
from stager.aot.build import Member
from stager.codegen.c_interface import ERRORS
from tests.aot.calling import CC, needs_cc

pytestmark = needs_cc


def inplace(x, k):
    x[: x.shape[0] - 1] *= 2
    for _ in range(k):
        x += 1


def unmentioned():
    return np.arange(5.0)


MEMBERS = {
    "dense": Member(lambda x, y: (x @ y, x.sum()), ["f64[n,m]", "f64[m,3]"]),
    "views": Member(lambda x, y: x + y, ["f32[n,m]", "f32[]"], strided=True),
    "chosen": Member(lambda x: (x[x > 0], np.nonzero(x)[0]), ["i16[n]"]),
    "changed": Member(inplace, ["f64[n]", "i64[]"]),
    "made": Member(unmentioned, []),
    "sized_by_value": Member(lambda k: np.zeros(k), ["i64[]"]),
    "picked": Member(lambda x, i: x[i], ["u8[n]", "i64[k]"]),
    "conditional": Member(lambda x: x[17] + x.max(), ["f64[n]"]),
    "itself": Member(lambda x: (x, x.T, 3), ["b1[2,3]"]),
    "wide": Member(lambda x: np.exp(x)[:, None] * np.cumsum(x), ["f64[n]"]),
}


def example_of(header):
    body = header[header.index("Example:") : header.index(" */")]
    return "\n".join(line[5:] for line in body.splitlines()[2:])


def run(folder, source, standard, *inputs):
    compiler = CC if standard == "c11" else shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    path = folder / ("main.c" if standard == "c11" else "main.cpp")
    path.write_text(source)
    command = [
        compiler, f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{folder}", str(path),
        *map(str, inputs), "-o", str(folder / "main"), "-lm", "-pthread",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(folder / "main")], capture_output=True, text=True, timeout=60)
    return ran.returncode, ran.stdout


@pytest.mark.parametrize("name", MEMBERS)
def test_the_example_runs(name, tmp_path):
    built = st.build({name: MEMBERS[name]}, tmp_path, shared=False)
    source = example_of(built.files["header"].read_text())
    for standard in ("c11", "c++17"):
        assert run(tmp_path, source, standard, built.files["object"]) == (0, "0 no error\n")


def test_what_a_header_states(tmp_path):
    def f(x, w, i):
        w += x[:, 3].sum()
        return x[i, 0] * 2, x[x > 0], w

    member = Member(f, ["f64[n,m]", "f32[1]", "i64[k]"], strided=True)
    text = st.build({"f": member}, tmp_path, shared=False).files["header"].read_text()
    other = st.build({"f": (lambda x: x + 1, ["f64[n]"])}, tmp_path, shared=False).files["header"].read_text()
    graphs = {re.search(r"f: graph ([0-9a-f]{16})\n", t)[1] for t in (text, other)}
    assert len(graphs) == 2
    said = " ".join(re.sub(r"[/*]", " ", text).split())
    for fact in (
        f"made by stager {st.__version__}, ABI 1", "may be called from several threads at once",
        "a pointer is a multiple of its element's size", "share it with nothing else (STAGER_ERROR_OVERLAP)",
        "needs m-4 >= 0, else STAGER_ERROR_CONDITION", "returns 1: IndexError: index {0} is out of bounds",
        "x, in: f64[n,m], strides as given", "x_strides, 2 strides in bytes; null: dense, C order",
        "float w, in and out: f32[1], strides as given", "out_0, out: f64[k], dense, C order",
        "out_1_capacity, how many elements there is room for at out_1", "result_2 is the argument w",
        "int64_t f_workspace(int64_t n, int64_t m, int64_t k);", "workspace: f_workspace() bytes, aligned to 64",
    ):  # fmt: skip
        assert fact in said, fact
    for name, (code, meaning) in ERRORS.items():
        assert re.search(rf"STAGER_ERROR_{name} = {code},? /\* {re.escape(meaning)} \*/", text)


def test_two_libraries_in_one_program(tmp_path):
    one = st.build({"f": (lambda x: np.sqrt(x * x + 1), ["f64[n]"])}, tmp_path, name="one", shared=False)
    two = st.build({"g": (lambda x: np.exp(x).sum(), ["f64[n]"])}, tmp_path, name="two", shared=False, static=True)
    source = """
#include <stdio.h>
#include "one.h"
#include "two.h"
int main(void) {
    double x[2] = {0, 0}, y[2], s;
    int32_t a = f(x, y, 2, NULL), b = g(x, &s, 2, NULL);
    one_set_threads(1);
    two_stop_threads();
    printf("%d %d %g %g\\n", (int)a, (int)b, y[0], s);
    return 0;
}
"""
    inputs = (one.files["object"], two.files["static"])
    for standard in ("c11", "c++17"):
        assert run(tmp_path, source, standard, *inputs) == (0, "0 0 1 2\n")
