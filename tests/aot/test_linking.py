"""Who links a shared library: the system's compiler, the package ziglang, or nobody, which is said at once."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import stager as st
from stager.aot import linking
from stager.aot.errors import BuildError
from stager.aot.linking import find_linker, links_here
from stager.codegen.target import Target

SPECS = {"f": (lambda x: np.exp(x).sum(), ["f64[n]"])}
HOST = Target.host()


@pytest.fixture
def no_compiler(monkeypatch):
    """A machine without any of the system's tools."""
    monkeypatch.setattr(linking.shutil, "which", lambda program: None)


@pytest.fixture
def no_ziglang(monkeypatch):
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: None)


def test_without_any_linker_the_extra_is_named_before_anything_is_written(no_compiler, no_ziglang, tmp_path):
    with pytest.raises(BuildError, match=r"needs a linker: .*, or pip install 'stager\[link\]'; the object"):
        st.build(SPECS, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(BuildError, match=r"static library needs ar .*, or pip install 'stager\[link\]'"):
        st.build(SPECS, tmp_path, shared=False, static=True)
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert linking.EXTRA == "stager[link]"
    assert any(requirement.startswith("ziglang") for requirement in extras["link"])


def test_the_object_needs_no_linker(no_compiler, no_ziglang, tmp_path):
    built = st.build(SPECS, tmp_path, shared=False)
    assert sorted(built.files) == ["header", "object"]
    other = "riscv64" if HOST.arch != "riscv64" else "aarch64"
    assert not links_here(Target.named(other))
    assert sorted(st.build(SPECS, tmp_path, target=other).files) == ["header", "object"]


def test_the_systems_compiler_comes_first():
    if shutil.which("cc") is None:
        pytest.skip("no cc on this machine")
    assert find_linker(HOST).name == "cc"


def test_ziglang_links_what_the_compiler_does(no_compiler, tmp_path):
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("ziglang, the extra `link`, is not installed")
    built = st.build(SPECS, tmp_path, static=True)
    x = np.linspace(-1, 1, 50)
    np.testing.assert_allclose(st.load(built.files["library"])(x), np.exp(x).sum(), rtol=1e-14)
    again = st.build(SPECS, tmp_path / "again")
    assert again.files["library"].read_bytes() == built.files["library"].read_bytes()
    archive = built.files["static"].read_bytes()
    assert archive.startswith(b"!<arch>\n")
    assert built.files["object"].read_bytes() in archive


@pytest.mark.skipif(HOST.system.name != "linux", reason="the C library is found by /proc")
def test_ziglang_is_given_the_c_library_of_this_process(no_compiler, monkeypatch):
    monkeypatch.setattr(linking.importlib.util, "find_spec", lambda name: object())
    linker = find_linker(HOST)
    assert linker.before[:4] == (sys.executable, "-m", "ziglang", "ld.lld")
    assert any("libc" in path for path in linker.after)
    assert all(Path(path).exists() for path in linker.after)


def test_what_the_linker_says_is_in_the_error(tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no cc on this machine")
    (tmp_path / "f.o").write_bytes(b"no object")
    with pytest.raises(BuildError, match=r"cc failed: .*f\.o"):
        linking.link_shared(find_linker(HOST), tmp_path / "f.o", tmp_path / "libf.so")
    assert [p.name for p in tmp_path.iterdir()] == ["f.o"]


needs_x86 = pytest.mark.skipif(
    HOST.arch != "x86_64" or shutil.which("cc") is None, reason="no x86-64, or no cc on this machine"
)


@needs_x86
def test_one_library_holds_code_for_several_cpus(tmp_path):
    built = st.build(SPECS, tmp_path, cpu="x86-64-v2,v3,v4")
    header = built.files["header"].read_text()
    assert "CPU x86-64-v4, x86-64-v3, x86-64-v2" in header
    assert "const char *f_cpu(void);" in header
    program = (
        "import ctypes, numpy as np, stager as st, sys\n"
        "f, x = st.load(sys.argv[1]), np.linspace(-1, 1, 50)\n"
        "name = ctypes.CDLL(sys.argv[1]).f_cpu\n"
        "name.restype = ctypes.c_char_p\n"
        "print(name().decode(), abs(f(x) - np.exp(x).sum()) < 1e-12)\n"
    )
    chosen = []
    for level in ("x86-64-v2", "x86-64-v3", "x86-64-v4"):
        command = [sys.executable, "-c", program, str(built.files["library"])]
        done = subprocess.run(command, capture_output=True, text=True, env={"STAGER_CPU": level, "HOME": str(tmp_path)})
        assert done.returncode == 0, done.stderr
        chosen.append(done.stdout.split())
    assert all(right == "True" for _, right in chosen)
    assert chosen[0][0] == "x86-64-v2"
    assert [name for name, _ in chosen] == sorted(name for name, _ in chosen)


@needs_x86
def test_a_library_without_code_for_this_cpu_does_not_load(tmp_path):
    built = st.build(SPECS, tmp_path, cpu="v4")
    program = "import stager as st, sys; st.load(sys.argv[1])"
    command = [sys.executable, "-c", program, str(built.files["library"])]
    env = {"STAGER_CPU": "v3", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 1
    assert "was built for x86-64-v4; this CPU lacks what each of them needs" in done.stderr
