"""The layout imports the same way however stager got there: bare checkout, wheel, sdist, editable, lost links.

Builds happen in a copy of the working tree, so that no `build/` or `.egg-info` lands in it, without build isolation,
so that no registry is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "ir", "codegen", "runtime", "stager")
REPORT = "import stager, stager.ir, stager.codegen, stager.runtime; print(stager.__file__); print(stager.ir.__file__)"


def _setuptools_builds() -> bool:
    try:
        return int(metadata.version("setuptools").split(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False


needs_setuptools = pytest.mark.skipif(
    not _setuptools_builds(), reason="setuptools >= 77 is not installed; builds without isolation need it"
)


def run(*args: object, cwd: Path, env: dict[str, str] | None = None) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(a) for a in args], cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with its links, as git gives it."""
    copy = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, copy / name)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a wheel and an sdist of the checkout, through the hooks that pip calls."""
    out = tmp_path_factory.mktemp("built")
    source = tmp_path_factory.mktemp("source") / "stager"
    shutil.copytree(checkout, source, symlinks=True)
    hooks = f"from setuptools import build_meta as b; b.build_sdist({str(out)!r}); b.build_wheel({str(out)!r})"
    run(sys.executable, "-c", hooks, cwd=source)
    return out


def new_venv(folder: Path) -> Path:
    """A venv that sees this interpreter's packages through a .pth file, so that installs need no download."""
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "parent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def install(python: Path, *what: object, cwd: Path) -> None:
    pip = (python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", *what, cwd=cwd)


def located(python: Path, cwd: Path) -> list[Path]:
    return [Path(line) for line in run(python, "-c", REPORT, cwd=cwd).split()]


def site_packages(python: Path) -> Path:
    return next(python.parent.parent.glob("lib/python*/site-packages"))


def test_bare_checkout(checkout: Path) -> None:
    stager, ir = located(Path(sys.executable), cwd=checkout)
    assert stager == checkout / "stager" / "__init__.py"
    assert ir == checkout / "stager" / "ir" / "__init__.py"


def test_checkout_that_lost_its_links(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy, symlinks=True)
    for name in ("ir", "codegen", "runtime"):
        (copy / "stager" / name).unlink()
    stager, ir = located(Path(sys.executable), cwd=copy)
    assert stager == copy / "stager" / "__init__.py"
    assert ir == copy / "ir" / "__init__.py"


@needs_setuptools
def test_wheel_holds_one_top_level_name(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {n.split("/")[0] for n in names}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"stager"}
    for package in ("stager", "stager/ir", "stager/codegen", "stager/runtime"):
        assert f"{package}/__init__.py" in names
    assert "stager/py.typed" in names


@needs_setuptools
def test_wheel_holds_every_source_file(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, prefix in {"ir": "stager/ir", "codegen": "stager/codegen", "runtime": "stager/runtime"}.items():
        for path in (ROOT / folder).rglob("*.py"):
            assert f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}" in names


@needs_setuptools
def test_install_from_wheel(built: Path, tmp_path: Path) -> None:
    python = new_venv(tmp_path / "venv")
    install(python, *built.glob("*.whl"), cwd=tmp_path)
    site = site_packages(python)
    assert located(python, cwd=tmp_path) == [site / "stager/__init__.py", site / "stager/ir/__init__.py"]
    assert not {"ir", "codegen", "runtime", "tests", "bench"} & {p.name for p in site.iterdir()}


@needs_setuptools
def test_install_from_sdist(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as tar:
        assert not [m.name for m in tar.getmembers() if m.issym()], "links do not survive everywhere"
    python = new_venv(tmp_path / "venv")
    install(python, sdist, cwd=tmp_path)
    site = site_packages(python)
    assert located(python, cwd=tmp_path) == [site / "stager/__init__.py", site / "stager/ir/__init__.py"]


@needs_setuptools
def test_install_from_folder(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkout, source, symlinks=True)
    python = new_venv(tmp_path / "venv")
    install(python, source, cwd=tmp_path)
    site = site_packages(python)
    assert located(python, cwd=tmp_path) == [site / "stager/__init__.py", site / "stager/ir/__init__.py"]
    assert not {"ir", "codegen", "runtime"} & {p.name for p in site.iterdir()}


@needs_setuptools
def test_editable_install(checkout: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(checkout, source, symlinks=True)
    python = new_venv(tmp_path / "venv")
    install(python, "-e", source, cwd=tmp_path)
    stager, ir = located(python, cwd=tmp_path)
    assert stager == source / "stager" / "__init__.py"
    assert ir.resolve() == source / "ir" / "__init__.py"
    for name in ("ir", "codegen", "runtime"):
        code = f"import importlib.util; print(importlib.util.find_spec({name!r}) is None)"
        assert run(python, "-c", code, cwd=tmp_path).strip() == "True"
