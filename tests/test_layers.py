"""The shape of the repository, held true: who may import whom, what is packaged, what `import stager` loads, and that
every example in the README and the docs runs.
"""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"stager.ir": "ir", "stager.codegen": "codegen", "stager.runtime": "runtime"}

# What each folder may import besides the standard library and itself.
MAY_IMPORT = {
    "ir": ("numpy", "networkx"),
    "codegen": ("numpy", "networkx", "llvmlite", "stager.ir"),
    "runtime": ("numpy", "llvmlite", "stager.ir"),
    "stager": ("numpy", "networkx", "llvmlite", "stager"),
}

# Programs run by hand that write tables into the tree: they may import more, and nothing may import them.
TOOLS = {"codegen/math/generate.py": ("mpmath",), "codegen/math/remez.py": ("mpmath",)}

# What runtime/ may know of ir/: types and the ABI record.
RUNTIME_READS = ("stager.ir.abi", "stager.ir.abi_json", "stager.ir.dims", "stager.ir.dtypes", "stager.ir.types")
RUNTIME_READS += ("stager.ir.entry_table", "stager.ir")  # the last: where the sources are, for the cache's key


def python_files(folder: str) -> list[Path]:
    """The files that stand in `folder` itself: the links stager/ir, ... lead to folders listed on their own."""
    base = ROOT / folder
    links = [p for p in base.iterdir() if p.is_symlink()]
    return sorted(p for p in base.rglob("*.py") if not any(link in p.parents for link in links))


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            module = node.module or ""
            if module == "stager":  # from stager import ir: the names are what counts
                for alias in node.names:
                    yield node.lineno, f"stager.{alias.name}"
            else:
                yield node.lineno, module


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_import_direction(folder: str) -> None:
    own = "stager" if folder == "stager" else f"stager.{folder}"
    allowed = (*MAY_IMPORT[folder], own)
    wrong = []
    for path in python_files(folder):
        name = path.relative_to(ROOT).as_posix()
        for line, module in imported_modules(path):
            if module.split(".")[0] in sys.stdlib_module_names:
                continue
            if not any(module == a or module.startswith(a + ".") for a in (*allowed, *TOOLS.get(name, ()))):
                wrong.append(f"{name}:{line} imports {module}")
    assert not wrong, "\n".join(wrong)


def test_runtime_reads_only_types_and_the_abi_of_ir() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for path in python_files("runtime")
        for line, module in imported_modules(path)
        if module.startswith("stager.ir") and module not in RUNTIME_READS
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_a_tool() -> None:
    tools = {"stager." + name.removesuffix(".py").replace("/", ".") for name in TOOLS}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {module}"
        for folder in MAY_IMPORT
        for path in python_files(folder)
        if path.relative_to(ROOT).as_posix() not in TOOLS
        for line, module in imported_modules(path)
        if module in tools
    ]
    assert not wrong, "\n".join(wrong)


def real_packages() -> set[str]:
    found = set()
    for folder, name in {"stager": "stager", **{v: k for k, v in FOLDERS.items()}}.items():
        for path in python_files(folder):
            parts = path.parent.relative_to(ROOT / folder).parts
            found.add(".".join((name, *parts)))
    return found


def test_declared_packages_are_the_real_ones() -> None:
    setup = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert set(setup["packages"]) == real_packages()
    assert setup["packages"] == sorted(setup["packages"])
    assert setup["package-dir"] == {"stager": "stager", **FOLDERS}


def test_every_package_has_an_init() -> None:
    for package in real_packages():
        parts = package.split(".")
        top = ".".join(parts[:2])
        folder = ROOT.joinpath(FOLDERS[top], *parts[2:]) if top in FOLDERS else ROOT.joinpath(*parts)
        assert (folder / "__init__.py").is_file(), f"{package} has no __init__.py"


@pytest.mark.parametrize("folder", sorted(FOLDERS.values()))
def test_a_folder_refuses_its_bare_name(folder: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert f"stager.{folder}" in done.stderr


def test_import_loads_no_heavy_module() -> None:
    code = "import sys, stager; print([m for m in ('networkx', 'llvmlite') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere LLVM links the objects")
def test_code_found_on_disk_runs_without_heavy_modules(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nimport numpy as np, stager as st\n\n"
        "@st.compile\ndef f(x, y):\n    return np.exp(-x) * np.where(x > y, x, y)\n\n"
        "print(f(np.ones(3), np.zeros(3))[0], [m for m in ('networkx', 'llvmlite.binding') if m in sys.modules])\n"
    )
    env = {
        **os.environ, "STAGER_CACHE": "1", "STAGER_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT),
        "STAGER_VERIFY": "0",
    }  # fmt: skip
    for expected in ("0.36787944117144233 ['llvmlite.binding']", "0.36787944117144233 []"):
        done = subprocess.run(
            [sys.executable, str(program)], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def examples() -> list[object]:
    rows: list[object] = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)
        name = str(page.relative_to(ROOT))
        if page.parent != ROOT:  # a page of the docs is read from top to bottom: its blocks are one program
            blocks = ["\n".join(blocks)] if blocks else []
        rows += [pytest.param(block, id=f"{name}-{i}") for i, block in enumerate(blocks, 1)]
    return rows


@pytest.mark.parametrize("block", examples())
def test_example_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as a file, because stager reads the source of the functions it converts."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "example.py"
    file.write_text(block, encoding="utf-8")
    runpy.run_path(str(file), run_name="__main__")


def test_no_module_hides_a_public_name() -> None:
    """Importing `stager.x` binds the module to `stager.x`: a public function must not be called as its own file is."""
    import stager

    assert not {p.stem for p in (ROOT / "stager").iterdir()} & set(stager._PUBLIC)
