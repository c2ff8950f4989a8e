"""The disk cache: what comes back, what is refused, damage, concurrent writers, size."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from stager.ir.abi import Abi, InputAbi, OutputAbi
from stager.ir.types import parse_type
from stager.runtime import cache as module
from stager.runtime.cache import DiskCache, disk_cache, parse_size

ABI = Abi("kernel", (InputAbi(parse_type("f64[n]"), (8,)),), (OutputAbi(parse_type("f64[n]")),))
OBJECT = bytes(range(256)) * 40


@pytest.fixture
def kept(tmp_path: Path) -> DiskCache:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return DiskCache(folder)


def only_file(kept: DiskCache) -> Path:
    (file,) = [f for f in kept.folder.iterdir() if f.suffix == ".stager"]
    return file


def test_what_was_put_comes_back(kept: DiskCache) -> None:
    assert kept.get("a") is None
    kept.put("a", OBJECT, ABI)
    assert kept.get("a") == (OBJECT, ABI)
    assert kept.get("b") is None
    assert kept.get("a", flags="fast") is None
    kept.put("a", b"", ABI, flags="fast")
    assert kept.get("a", flags="fast") == (b"", ABI)
    assert kept.get("a") == (OBJECT, ABI)
    assert kept.get_object("a") is None
    kept.put_object("a", b"pool")
    assert kept.get_object("a") == b"pool"
    kept.clear()
    assert kept.get("a") is None


def test_another_machine_or_version_is_another_entry(kept: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put("a", OBJECT, ABI)
    monkeypatch.setattr(module, "environment", lambda: "another CPU")
    assert kept.get("a") is None


@pytest.mark.parametrize("where", [0, 10, 20, 60, 100, 300, 5000, -1])
def test_a_changed_byte_is_found(kept: DiskCache, where: int) -> None:
    kept.put("a", OBJECT, ABI)
    file = only_file(kept)
    content = bytearray(file.read_bytes())
    content[where] ^= 1
    file.write_bytes(content)
    assert kept.get("a") is None
    assert not file.exists(), "a damaged file is dropped"
    kept.put("a", OBJECT, ABI)
    assert kept.get("a") == (OBJECT, ABI)


@pytest.mark.parametrize("length", [0, 5, 30, 64, 200, 4000])
def test_a_cut_file_is_found(kept: DiskCache, length: int) -> None:
    kept.put("a", OBJECT, ABI)
    file = only_file(kept)
    file.write_bytes(file.read_bytes()[:length])
    assert kept.get("a") is None
    file.write_bytes(b"x" * length)
    assert kept.get("a") is None


def test_a_sound_file_with_another_record_is_no_hit(kept: DiskCache) -> None:
    kept.put("a", OBJECT, ABI)
    only_file(kept).write_bytes(module._pack({"name": 1}, OBJECT))
    assert kept.get("a") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX owners and modes")
def test_files_that_others_can_write_are_not_read(kept: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.put("a", OBJECT, ABI)
    file = only_file(kept)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o622)
    assert kept.get("a") is None
    file.chmod(0o600)
    assert kept.get("a") is not None
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert kept.get("a") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX owners and modes")
def test_a_link_is_not_followed(kept: DiskCache, tmp_path: Path) -> None:
    kept.put("a", OBJECT, ABI)
    file = only_file(kept)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert kept.get("a") is None


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    module._open.cache_clear()
    monkeypatch.delenv("STAGER_CACHE", raising=False)
    monkeypatch.delenv("STAGER_CACHE_LIMIT", raising=False)
    return monkeypatch


def test_settings(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("STAGER_CACHE_DIR", str(tmp_path / "new" / "folder"))
    environment.setenv("STAGER_CACHE_LIMIT", "3K")
    made = disk_cache()
    assert made is not None
    assert made.folder == tmp_path / "new" / "folder"
    assert made.limit == 3072
    assert made is disk_cache()
    if os.name == "posix":
        assert made.folder.stat().st_mode & 0o777 == 0o700
    environment.setenv("STAGER_CACHE", "0")
    assert disk_cache() is None


def test_the_default_folder(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("XDG_CACHE_HOME", "/somewhere")
    if sys.platform == "linux":
        assert module.default_folder() == Path("/somewhere/stager")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX owners and modes")
def test_a_foreign_folder_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("STAGER_CACHE_DIR", str(tmp_path))
    environment.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match=r"cache folder .* belongs to user .* STAGER_CACHE_DIR"):
        assert disk_cache() is None
    assert disk_cache() is None, "warns once"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX owners and modes")
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702])
def test_a_folder_that_others_can_write_is_refused(environment: pytest.MonkeyPatch, tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(mode)
    environment.setenv("STAGER_CACHE_DIR", str(folder))
    with pytest.warns(RuntimeWarning, match="can be written by others"):
        assert disk_cache() is None


def test_a_folder_that_cannot_be_made(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    environment.setenv("STAGER_CACHE_DIR", str(tmp_path / "file" / "folder"))
    with pytest.warns(RuntimeWarning, match="cannot be made"):
        assert disk_cache() is None


def test_failing_writes_are_silent(kept: DiskCache) -> None:
    kept.folder.rmdir()
    kept.put("a", OBJECT, ABI)
    assert kept.get("a") is None


def test_the_least_recently_used_go_first(kept: DiskCache) -> None:
    kept.limit = 10 * (len(OBJECT) + 500)
    for i in range(9):
        kept.put(f"k{i}", OBJECT, ABI)
    now = time.time()
    for i in range(9):
        os.utime(kept._path(f"graph k{i} "), (now - 1000 + i, now - 1000 + i))
    assert kept.get("k0") is not None  # used again: now the newest
    for i in range(9, 14):
        kept.put(f"k{i}", OBJECT, ABI)
    assert kept.size() <= kept.limit
    assert kept.get("k0") is not None
    assert kept.get("k1") is None
    assert kept.get("k13") is not None


def test_what_a_dead_writer_left_is_deleted(kept: DiskCache) -> None:
    old, new = kept.folder / ".abc.1.ff", kept.folder / ".abc.2.ff"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (1, 1))
    kept.put("a", OBJECT, ABI)
    assert not old.exists()
    assert new.exists()


def test_concurrent_writers_in_threads(kept: DiskCache) -> None:
    wrong: list[object] = []

    def work(n: int) -> None:
        for i in range(30):
            kept.put(f"k{i % 3}", OBJECT + bytes([i % 3]), ABI)
            found = kept.get(f"k{i % 3}")
            if found != (OBJECT + bytes([i % 3]), ABI):
                wrong.append((n, i))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(list(kept.folder.iterdir())) == 3


def test_concurrent_writers_in_processes(kept: DiskCache) -> None:
    program = f"""
from pathlib import Path
from stager.runtime.cache import DiskCache
from tests.runtime.test_cache import ABI, OBJECT
kept = DiskCache(Path({str(kept.folder)!r}), limit=40_000)
for i in range(60):
    kept.put(f"k{{i % 7}}", OBJECT, ABI)
    found = kept.get(f"k{{i % 5}}")
    assert found is None or found == (OBJECT, ABI)
"""
    running = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [p.wait() for p in running] == [0, 0, 0]
    assert all(f.suffix == ".stager" for f in kept.folder.iterdir())


def test_sizes() -> None:
    assert [parse_size(t, 7) for t in ("", "12", "2k", "1.5M", "1GiB", "x", "M")] == [
        7,
        12,
        2048,
        3 << 19,
        1 << 30,
        7,
        7,
    ]


def test_the_key_needs_no_llvm() -> None:
    program = (
        "import sys; from stager.runtime.cache import environment; environment(); "
        "print('llvmlite.binding' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
