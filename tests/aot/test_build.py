"""Built libraries: the object called from C, the header compiled clean, bad arguments answered, and back in Python."""

from __future__ import annotations

import ctypes
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager.aot.errors import BuildError
from stager.aot.specs import parse_spec
from stager.codegen.c_interface import ERRORS

CC = shutil.which("cc") or shutil.which("gcc")
needs_cc = pytest.mark.skipif(CC is None, reason="no C compiler on this machine")


class Call(ctypes.Structure):
    """stager_call."""

    _fields_ = (
        ("detail", ctypes.c_int64 * 4), ("threads", ctypes.c_int32), ("interrupted", ctypes.c_int32),
        ("allocate", ctypes.c_void_p), ("user", ctypes.c_void_p), ("poll", ctypes.c_void_p),
        ("workspace", ctypes.c_void_p), ("workspace_bytes", ctypes.c_int64),
    )  # fmt: skip


def predict(params, x):
    h = np.tanh(x @ params["w"] + params["b"])
    e = np.exp(h - h.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def loss(w, x):
    return (np.tanh(x @ w) ** 2).sum()


def pick(x, i):
    return x[i] * 2


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    specs = ["{'w': f64[4,3], 'b': f64[3]}", "f64[n,4]"]
    functions = {
        "predict": (predict, specs), "loss_grad": (st.grad(loss), ["f64[3]", "f64[n,3]"]),
        "pick": (pick, ["f64[m]", "i64[k]"]),
    }  # fmt: skip
    return st.build(functions, folder, name="model", llvm=True, static=True)


def inputs():
    rng = np.random.default_rng(0)
    return {"w": rng.normal(size=(4, 3)), "b": rng.normal(size=3)}, rng.normal(size=(5, 4))


def test_specs_parse():
    assert parse_spec("f64[]").shape == ()
    assert str(parse_spec("{'a': (f32[n,2*n], None)}")) == "{'a': (f32[n,2*n], None)}"
    assert [x.value for x in parse_spec("(3, -2.5)")] == [3, -2.5]
    for bad in ("f64", "f64[", "3j", "f99[2]"):
        with pytest.raises(ValueError, match=r"type|dtype"):
            parse_spec(bad)


@needs_cc
def test_loaded_function_is_the_compiled_one(library):
    params, x = inputs()
    f = st.load(library.files["library"], "predict")
    np.testing.assert_allclose(f(params, x), predict(params, x), rtol=1e-12)
    again = pickle.loads(pickle.dumps(f))
    np.testing.assert_array_equal(again(params, x), f(params, x))
    with pytest.raises(TypeError, match=r"takes \(params_w: f64\[4,3\]"):
        f(params, x.astype(np.float32))
    g = st.load(library.files["library"], "loss_grad")
    w, xs = np.ones(3), np.ones((2, 3))
    np.testing.assert_allclose(g(w, xs), st.grad(loss)(w, xs), rtol=1e-12)


@needs_cc
def test_errors_of_the_computation_come_back(library):
    f = st.load(library.files["library"], "pick")
    assert f(np.arange(3.0), np.array([2, 0])).tolist() == [4.0, 0.0]
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        f(np.arange(3.0), np.array([3]))


@needs_cc
def test_depends_on_libc_alone(library):
    listed = subprocess.run(["ldd", str(library.files["library"])], capture_output=True, text=True, check=True).stdout
    needed = {line.split()[0] for line in listed.splitlines()}
    assert all(re.match(r"linux-vdso|libc\.|libm\.|libpthread|/lib|ld-", n) for n in needed), needed


@needs_cc
@pytest.mark.parametrize("language", ["c11", "c++17"])
def test_header_compiles_clean_and_its_example_runs(library, language, tmp_path):
    header = library.files["header"].read_text()
    body = header[header.index("Example:") : header.index(" */")]
    program = "\n".join(line[5:] for line in body.splitlines()[2:])
    source = tmp_path / ("example.c" if language == "c11" else "example.cpp")
    source.write_text(program)
    compiler = CC if language == "c11" else shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    command = [
        compiler, f"-std={language}", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{library.files['header'].parent}",
        str(source), str(library.files["object"]), "-o", str(tmp_path / "example"), "-lm", "-pthread",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([str(tmp_path / "example")], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (0, "0 no error\n")


@needs_cc
def test_every_bad_argument_is_answered(library):
    lib = ctypes.CDLL(str(library.files["library"]))
    params, x = inputs()
    out, work = np.zeros((5, 3)), np.zeros(1 << 14, np.uint8)
    aligned = work[(-work.ctypes.data) % 64 :]

    def call(w=params["w"], b=params["b"], x=x, out=out, n=5, how=None):
        pointers = [ctypes.c_void_p(a if isinstance(a, int) or a is None else a.ctypes.data) for a in (w, b, x, out)]
        return lib.predict(*pointers, ctypes.c_int64(n), None if how is None else ctypes.byref(how))

    def workspace(address, size):
        return Call(workspace=address, workspace_bytes=size)

    code = {name: value for name, (value, _) in ERRORS.items()}
    assert call() == 0
    np.testing.assert_allclose(out, predict(params, x), rtol=1e-12)
    assert call(w=None) == code["NULL"]
    assert call(out=None) == code["NULL"]
    assert call(n=-1) == code["SIZE"]
    assert call(n=1 << 62) == code["SIZE"]
    assert call(x=x.ctypes.data + 1) == code["ALIGNMENT"]
    assert call(out=x) == code["OVERLAP"]
    assert call(n=0, x=None, out=None) == 0
    lib.predict_workspace.restype = ctypes.c_int64
    needed = lib.predict_workspace(ctypes.c_int64(5))
    assert needed > 0
    assert call(how=workspace(aligned.ctypes.data, needed)) == 0
    assert call(how=workspace(aligned.ctypes.data, needed - 1)) == code["WORKSPACE"]
    assert call(how=workspace(aligned.ctypes.data + 8, 1 << 13)) == code["WORKSPACE"]
    text = ctypes.create_string_buffer(100)
    lib.predict_error(code["OVERLAP"], None, text, ctypes.c_int64(100))
    assert b"overlaps" in text.value


def test_builds_are_reproducible(tmp_path):
    made = [st.build({"f": (lambda x: np.exp(x).sum(), ["f64[n]"])}, tmp_path / str(k), shared=False) for k in range(2)]
    assert made[0].files["object"].read_bytes() == made[1].files["object"].read_bytes()
    assert made[0].files["header"].read_text() == made[1].files["header"].read_text()


@needs_cc
@pytest.mark.parametrize("weights", ["argument", "embed"])
def test_captured_arrays(weights, tmp_path):
    scale = np.arange(3.0)
    built = st.build({"f": (lambda x: x * scale, ["f64[n,3]"])}, tmp_path, weights=weights)
    f = st.load(built.files["library"])
    given = (scale,) if weights == "argument" else ()
    np.testing.assert_array_equal(f(np.ones((2, 3)), *given), np.ones((2, 3)) * scale)


def test_what_cannot_be_built_says_so(tmp_path):
    with pytest.raises(BuildError, match="no name for a C function"):
        st.build({"not a name": (lambda x: x + 1, ["f64[3]"])}, tmp_path)
    with pytest.raises(BuildError, match="target 'vax' is not known; known: host, x86-64-v2"):
        st.build({"f": (lambda x: x + 1, ["f64[3]"])}, tmp_path, target="vax")
    with pytest.raises(BuildError, match="not a library"):
        st.load(Path(__file__))


def test_command_line(tmp_path, monkeypatch, capsys):
    from stager.__main__ import main

    (tmp_path / "toy.py").write_text("import numpy as np\ndef f(x):\n    return (np.sin(x) ** 2).sum()\n")
    monkeypatch.chdir(tmp_path)
    assert main(["build", "toy:f", "--spec", "f64[n]", "-o", "made", "--with", "grad", "--emit", "asm"]) == 0
    assert {p.name for p in (tmp_path / "made").iterdir()} >= {"f.o", "f.h", "f.s"}
    assert "f_grad: 1 inputs" in capsys.readouterr().out
    assert main(["show", "toy:f", "--spec", "f64[n]", "--stage", "kernels"]) == 0
    for spec in ("int", "float", "[f64[3], f64[3]]"):  # what `build` takes
        assert main(["show", "toy:f", "--spec", spec, "--stage", "graph"]) == 0
    assert "sum" in capsys.readouterr().out
    assert main(["show", "toy:f"]) == 1
    assert "the specs do not fit the parameters (x)" in capsys.readouterr().err


def test_print_needs_python(tmp_path):
    def f(x):
        print("x", x)
        return x + 1.0

    with pytest.raises(BuildError, match="print of values that only the run knows needs Python"):
        st.build({"f": (f, ["f64[3]"])}, tmp_path, shared=False)
