"""The same input gives the same bytes: in another process, with other hash seeds, from and to other folders, later."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import stager
from stager.codegen.target import Target

ROOT = Path(stager.__file__).parent.parent
MODULE = '''
import numpy as np

SCALE = np.array([2.0, 3.0])


def step(params, x):
    """One step."""
    h = np.tanh(x @ params["w"] + params["b"]) * SCALE
    e = np.exp(h - h.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def cholesky(A):
    A[0, 0] = np.sqrt(A[0, 0])
    for i in range(1, A.shape[0]):
        for j in range(i):
            A[i, j] -= np.dot(A[i, :j], A[j, :j])
            A[i, j] /= A[j, j]
        A[i, i] -= np.dot(A[i, :i], A[i, :i])
        A[i, i] = np.sqrt(A[i, i])


def ordered(x, i):
    return np.sort(x)[i], np.sin(x) ** 2 + np.log1p(x * x), np.cumsum(x)


def loss(w, x):
    return (np.tanh(x @ w) ** 2).sum()
'''
MANIFEST = """
name = "kit"
weights = "embed"
emit = ["llvm", "asm"]
[[function]]
function = "model:step"
specs = ["{'w': f64[4,2], 'b': f64[2]}", "f64[n,4]"]
[[function]]
function = "model:cholesky"
specs = ["f64[n,n]"]
[[function]]
function = "model:ordered"
specs = ["f64[n]", "i64[k]"]
[[function]]
function = "model:loss"
specs = ["f64[3]", "f64[n,3]"]
with = ["grad"]
"""


def build(folder: Path, seed: str, *options: str) -> dict[str, bytes]:
    """What a process of its own writes, by name."""
    folder.mkdir()
    (folder / "model.py").write_text(MODULE)
    (folder / "kit.toml").write_text(MANIFEST)
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "stager", "build", "kit.toml", "-o", "made", *options]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {p.name: p.read_bytes() for p in sorted((folder / "made").iterdir())}


@pytest.mark.parametrize(
    ("target", "options"),
    [("host", ("--static",)), ("x86_64-linux-gnu", ("--cpu", "v2,v3,v4", "--no-shared"))],
)
def test_two_builds_give_the_same_bytes(target, options, tmp_path):
    if target == "host" and (shutil.which("cc") is None or shutil.which("ar") is None):
        pytest.skip("no cc or ar on this machine")
    options = (*options, "--target", target)
    first = build(tmp_path / "first", "1", *options)
    time.sleep(1.1)  # a time stamp in seconds would differ
    second = build(tmp_path / "a folder of another name", "2", *options)
    assert first.keys() == second.keys()
    assert {"kit.o", "kit.h", "kit.ll", "kit.s"} <= first.keys()
    if target == "host":
        assert {"libkit.a", Target.host().system.shared.format("kit")} <= first.keys()
    assert [name for name in first if first[name] != second[name]] == []
