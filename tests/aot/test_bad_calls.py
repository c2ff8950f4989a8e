"""Random wrong calls from C (`bad_calls.c`) all come back as codes; valgrind and the address sanitizer see nothing."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager.aot.build import Member
from tests.aot.calling import CC, needs_cc

pytestmark = needs_cc


def scaled(x, s):
    return x * s, x.sum(axis=1)


def shift(x):
    x[1:] = x[:-1] * 2.0
    x[0] = 1.0


def positive(x):
    return x[x > 0], (x > 0).sum()


def predict(w, b, x):
    h = np.tanh(x @ w + b)
    e = np.exp(h - h.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def pick(x, i):
    return x[i] * 2


@pytest.fixture(scope="module", params=["baseline", "host"])
def built(request, tmp_path_factory):
    """For this CPU, and for one whose instructions valgrind knows."""
    if request.param == "baseline" and platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the baseline target is x86-64")
    members = {
        "scaled": Member(scaled, ["f64[n,m]", "f64[m]"], strided=True),
        "shift": Member(shift, ["f64[n,m]"], strided=True),
        "positive": Member(positive, ["f64[n]"]), "predict": Member(predict, ["f64[4,3]", "f64[3]", "f64[n,4]"]),
        "pick": Member(pick, ["f64[m]", "i64[k]"]),
    }  # fmt: skip
    target = "x86-64-v3" if request.param == "baseline" else "host"
    made = st.build(members, tmp_path_factory.mktemp(request.param), name="fuzzed", target=target, shared=False)
    return request.param, made.files["object"]


def compiled(folder: Path, object: Path, *options: str) -> Path:
    program = folder / "bad_calls"
    source = Path(__file__).with_name("bad_calls.c")
    command = [
        str(CC), "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", f"-I{object.parent}", *options, str(source),
        str(object), "-o", str(program), "-lm", "-pthread",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and options and "asan" in done.stderr:
        pytest.skip("this compiler has no address sanitizer")
    assert done.returncode == 0, done.stderr
    return program


def checked(*command: str) -> int:
    """How many calls were refused."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert not done.stderr.strip(), done.stderr[-3000:]
    found = re.fullmatch(r"\d+ calls, (\d+) refused\n", done.stdout)
    assert found, done.stdout
    return int(found[1])


@pytest.mark.parametrize("seed", ["1", "77777", "123456789123"])
def test_wrong_calls_are_codes(built, tmp_path, seed):
    assert checked(str(compiled(tmp_path, built[1])), "20000", seed) > 5000


def test_under_the_address_sanitizer(built, tmp_path):
    program = compiled(tmp_path, built[1], "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    assert checked(str(program), "5000") > 1000


def test_under_valgrind(built, tmp_path):
    if shutil.which("valgrind") is None:
        pytest.skip("no valgrind on this machine")
    if built[0] == "host":
        pytest.skip("valgrind does not know every instruction of this CPU; the baseline runs under it")
    program = compiled(tmp_path, built[1])
    valgrind = ["valgrind", "-q", "--leak-check=full", "--error-exitcode=9", str(program), "1500"]
    assert checked(*valgrind) > 300
