"""The disk cache: object code and its ABI record, one file per key.

A file's name is the hash of everything that the code depends on: the caller's key (a structural hash and flags), the
CPU, the versions and the sources of the compiler. It is written under another name and moved into place, so readers and
concurrent writers only ever meet whole files, and it carries a checksum, so a damaged one is dropped and built again.

Invariants: nothing is read from a folder or file that another user could have written; reading never runs anything
(JSON and bytes, no pickle); no failure of the cache reaches the caller, who then compiles as if there were none.
STAGER_CACHE_DIR names the folder, STAGER_CACHE=0 turns it off, STAGER_CACHE_LIMIT (bytes, or 200M, 2G) bounds its size:
what was not used for the longest time goes first. Not here: what is worth keeping, the cache in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import struct
import sys
import threading
import time
import warnings
from functools import cache
from pathlib import Path

import stager.ir
from stager.ir.abi import ABI_VERSION, Abi
from stager.ir.abi_json import from_json, to_json

MAGIC = b"stager object 1\n"
SUFFIX = ".stager"
DEFAULT_LIMIT = 512 << 20
SHRINK_TO = 0.8  # of the limit, when it is passed
TOUCH_AFTER = 60.0  # seconds: a file used again that soon keeps its time
STALE_AFTER = 3600.0  # seconds: an unfinished file that old was left by a process that died
_HEAD = struct.Struct("<32sQQ")  # checksum of the rest, bytes of JSON, bytes of object


class DiskCache:
    """One folder of cached objects. All methods may be called from several threads and processes."""

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._lock = threading.Lock()
        self._estimate: int | None = None  # bytes in the folder as far as this process knows

    def get(self, key: str, *, flags: str = "") -> tuple[bytes, Abi] | None:
        """Object code and ABI record kept for a key; None when there is none that can be trusted."""
        found = self._read(self._path(f"graph {key} {flags}"))
        if found is None:
            return None
        record, object = found
        try:
            return object, from_json(record)
        except ValueError:
            return None

    def put(self, key: str, object: bytes, abi: Abi, *, flags: str = "") -> None:
        """Keep object code and its ABI record."""
        self._write(self._path(f"graph {key} {flags}"), to_json(abi), object)

    def get_object(self, name: str) -> bytes | None:
        """A support module's object, by name."""
        found = self._read(self._path(f"support {name}"))
        return None if found is None else found[1]

    def put_object(self, name: str, object: bytes) -> None:
        """Keep a support module's object."""
        self._write(self._path(f"support {name}"), {}, object)

    def clear(self) -> None:
        """Delete every entry."""
        for path, _, _ in self._entries():
            _remove(path)
        with self._lock:
            self._estimate = None

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._entries())

    def _path(self, key: str) -> Path:
        digest = hashlib.sha256(f"{environment()}\n{key}".encode()).hexdigest()
        return self.folder / (digest[:40] + SUFFIX)

    def _read(self, path: Path) -> tuple[dict[str, object], bytes] | None:
        try:
            content = _read_own(path)
        except OSError:
            return None
        found = _unpack(content)
        if found is None:
            _remove(path)  # damaged, or not ours: the next put writes it anew
            return None
        _touch(path)
        return found

    def _write(self, path: Path, record: dict[str, object], object: bytes) -> None:
        content = _pack(record, object)
        temporary = path.with_name(f".{path.stem}.{os.getpid()}.{secrets.token_hex(4)}")
        try:
            made = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            try:
                with open(made, "wb") as file:
                    file.write(content)
                os.replace(temporary, path)
            except BaseException:
                _remove(temporary)
                raise
        except OSError:
            return  # a full disk, a folder that vanished: compiled code still runs from memory
        self._bound(len(content))

    def _bound(self, added: int) -> None:
        with self._lock:
            self._estimate = self.size() if self._estimate is None else self._estimate + added
            if self._estimate <= self.limit:
                return
            entries = sorted(self._entries(), key=lambda e: e[2])
            total = sum(size for _, size, _ in entries)
            for path, size, _ in entries:
                if total <= self.limit * SHRINK_TO:
                    break
                _remove(path)
                total -= size
            self._estimate = total

    def _entries(self) -> list[tuple[Path, int, float]]:
        """(path, size, time of last use) of each; what a dead writer left behind is deleted on the way."""
        found = []
        try:
            with os.scandir(self.folder) as scan:
                for item in scan:
                    try:
                        facts = item.stat(follow_symlinks=False)
                    except OSError:
                        continue  # another process deleted it
                    if item.name.endswith(SUFFIX):
                        found.append((Path(item.path), facts.st_size, facts.st_mtime))
                    elif item.name.startswith(".") and time.time() - facts.st_mtime > STALE_AFTER:
                        _remove(Path(item.path))
        except OSError:
            return []
        return found


def _pack(record: dict[str, object], object: bytes) -> bytes:
    text = json.dumps(record, separators=(",", ":")).encode()
    lengths = struct.pack("<QQ", len(text), len(object))
    return MAGIC + hashlib.sha256(lengths + text + object).digest() + lengths + text + object


def _unpack(content: bytes) -> tuple[dict[str, object], bytes] | None:
    start = len(MAGIC) + _HEAD.size
    if len(content) < start or not content.startswith(MAGIC):
        return None
    checksum, texts, objects = _HEAD.unpack_from(content, len(MAGIC))
    if len(content) != start + texts + objects:
        return None
    if hashlib.sha256(memoryview(content)[len(MAGIC) + 32 :]).digest() != checksum:
        return None
    record = json.loads(content[start : start + texts])
    return record, content[start + texts :]


def _read_own(path: Path) -> bytes:
    """A file's content, when only this user can have written it. OSError otherwise."""
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with open(file, "rb") as opened:
        if _reason_to_refuse(os.fstat(file)) is not None:
            raise PermissionError(path)
        return opened.read()


def _reason_to_refuse(facts: os.stat_result) -> str | None:
    """Why the owner or mode of a file or folder makes it unfit, or None."""
    if not hasattr(os, "geteuid"):
        return None  # Windows: the folder stands in the user's profile, whose rights it inherits
    if facts.st_uid != os.geteuid():
        return f"belongs to user {facts.st_uid}"
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(facts.st_mode):o})"
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > TOUCH_AFTER:
            os.utime(path)


def disk_cache() -> DiskCache | None:
    """The cache that the environment asks for; None when it is off or has no safe folder (which warns once)."""
    if os.environ.get("STAGER_CACHE", "1").lower() in ("0", "off", "false", "no"):
        return None
    return _open(os.environ.get("STAGER_CACHE_DIR", ""), os.environ.get("STAGER_CACHE_LIMIT", ""))


@cache
def _open(folder: str, limit: str) -> DiskCache | None:
    path = Path(folder).expanduser() if folder else default_folder()
    if path is None:
        return None
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError:
        if folder:
            warnings.warn(f"the cache folder {path} cannot be made; nothing is cached", RuntimeWarning, stacklevel=3)
        return None
    reason = _reason_to_refuse(facts) if stat.S_ISDIR(facts.st_mode) else "is no folder"
    if reason is not None:
        warnings.warn(
            f"the cache folder {path} {reason}; nothing is cached. Set STAGER_CACHE_DIR to a folder of your own "
            "(mode 700), or STAGER_CACHE=0 to silence this.",
            RuntimeWarning,
            stacklevel=3,
        )
        return None
    return DiskCache(path, parse_size(limit, DEFAULT_LIMIT))


def default_folder() -> Path | None:
    """The user's cache folder on this platform; None when there is no home."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base) / "stager" / "Cache" if base else None
    if sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "stager"
    except RuntimeError:
        return None


def parse_size(text: str, default: int) -> int:
    """Bytes from "1000", "200M", "2G"; the default when empty or no size.

    >>> parse_size("2K", 0)
    2048
    """
    text = text.strip().upper().removesuffix("B").removesuffix("I")
    scale = {"K": 10, "M": 20, "G": 30, "T": 40}.get(text[-1:], 0)
    try:
        return max(int(float(text[:-1] if scale else text) * (1 << scale)), 0)
    except (ValueError, OverflowError):
        return default


@cache
def environment() -> str:
    """What code depends on besides its key: versions, the compiler's own sources, the machine."""
    import llvmlite
    import numpy

    versions = (sys.modules["stager"].__version__, llvmlite.__version__, numpy.__version__, sys.version)
    return f"abi {ABI_VERSION}\nversions {versions}\n{_sources()}\n{host_cpu()}"


def _sources() -> str:
    """The compiler's files with their sizes and times: a changed checkout never meets code of another one."""
    base = os.path.dirname(stager.ir.__path__[0])
    folders = [os.path.join(base, name) for name in ("ir", "codegen", "ops", "stager/ops")]
    found: list[str] = []
    while folders:
        try:
            with os.scandir(folders.pop()) as scan:
                for item in scan:
                    if item.is_dir():
                        folders.append(item.path)
                    elif item.name.endswith(".py"):
                        facts = item.stat()
                        found.append(f"{item.path} {facts.st_size} {facts.st_mtime_ns}")
        except OSError:
            continue
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()


@cache
def host_cpu() -> str:
    """The CPU and its features, found without loading LLVM (its own detection costs 50 ms of a warm start)."""
    import platform

    kept = ("vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU implementer",
            "CPU part", "CPU variant", "isa", "uarch")  # fmt: skip
    lines = [platform.system(), platform.machine()]
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if not line.strip():
                    break  # one processor tells for all
                if line.split(":")[0].strip() in kept:
                    lines.append(line.strip())
    except OSError:
        lines.append(platform.processor())
    return "\n".join(lines)
