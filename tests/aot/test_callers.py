"""The callers of examples/library, built as their first lines say, against NumPy."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager.__main__ import main
from tests.aot.calling import CC, needs_cc

pytestmark = needs_cc
HERE = Path(__file__).resolve().parents[2] / "examples" / "library"


@pytest.fixture(scope="module")
def model():
    spec = importlib.util.spec_from_file_location("library_model", HERE / "model.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("callers")
    assert main(["build", str(HERE / "model.toml"), "-o", str(folder)]) == 0
    return folder


def output(out, compiler, standard, source):
    program = str(out / source.replace(".", "_"))
    command = [
        compiler, f"-std={standard}", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{out}", str(HERE / source), "-o",
        program, f"-L{out}", "-lmodel", f"-Wl,-rpath,{out}", "-lm",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = subprocess.run([program], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.splitlines()


def numbers(line):
    return [float(word) for word in line.split()]


def test_c(out, model):
    lines = output(out, CC, "c11", "caller.c")
    params = {
        "w1": np.array([0.1 * (i % 7) - 0.3 for i in range(32)]).reshape(4, 8), "b1": np.zeros(8),
        "w2": np.array([0.2 * (i % 5) - 0.4 for i in range(24)]).reshape(8, 3), "b2": np.zeros(3),
    }  # fmt: skip
    x = np.array([0.25 * (i % 9) - 1 for i in range(20)]).reshape(5, 4)
    np.testing.assert_allclose([numbers(line) for line in lines[:5]], model.predict(params, x), atol=1e-6)
    np.testing.assert_allclose(numbers(lines[5]), model.predict(params, x[::-2])[:, 0], atol=1e-6)
    rod = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, -1])
    model.smooth(rod, 40)
    np.testing.assert_allclose(numbers(lines[6]), rod[[1, 4, 7]], atol=1e-6)
    assert lines[7].split() == ["3", "9"]
    assert lines[8] == "STAGER_ERROR_NULL: a pointer is null"


def test_cpp(out):
    compiler = shutil.which("c++") or shutil.which("g++")
    if compiler is None:
        pytest.skip("no C++ compiler on this machine")
    trained, error = output(out, compiler, "c++17", "caller.cpp")
    first, last = numbers(trained)
    assert last < 0.1 * first
    assert error == "IndexError: index 3 is out of bounds for axis 1 with size 3"


def test_ctypes(out):
    command = [sys.executable, str(HERE / "caller.py"), str(out / "libmodel.so")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["a result has more elements than there is room for 2", "3 9",
                                       "1.0 1.0 1.0 1.0 1.0"]  # fmt: skip


def test_loaded(out, model):
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
    params = {k: rng.normal(size=s) for k, s in shapes.items()}
    x, labels = rng.normal(size=(6, 4)), rng.integers(0, 3, size=6)
    library = out / "libmodel.so"
    np.testing.assert_allclose(st.load(library, "predict")(params, x[::-1]), model.predict(params, x[::-1]), rtol=1e-12)
    value, gradient = st.load(library, "loss_value_and_grad")(params, x, labels)
    want, expected = st.value_and_grad(model.loss)(params, x, labels)
    np.testing.assert_allclose(value, want, rtol=1e-12)
    for k, g in gradient.items():
        np.testing.assert_allclose(g, expected[k], rtol=1e-10)
