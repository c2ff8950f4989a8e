"""The JIT engine: object code in, addresses out.

`Engine.load` links one object into the process against symbols given by name and returns a `Loaded`, which owns the
code: the machine code goes away with its last reference. What every object may need (the pool, the buffers, BLAS) is
registered by `provide` and loaded at its first use, for good.

Invariants: the engine compiles nothing, it links what is already machine code; nothing is unloaded while the
interpreter shuts down, when destructors run in any order. Not here: how an object is linked (`elf.py`, `orc.py`) and
where it comes from (`cache.py`, `stager.codegen`).
"""

from __future__ import annotations

import ctypes
import platform
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from stager.runtime import elf


class LinkError(RuntimeError):
    """An object cannot be linked: it is no object of this machine, or a symbol has no address."""


class Loaded:
    """Machine code in memory. `address(name)` of a function or variable it defines; freed when dropped."""

    def __init__(self, find: Callable[[str], int], free: Callable[[], None], needs: Sequence[Loaded]) -> None:
        self._find = find
        self._needs = needs  # what this code calls stays loaded
        self._addresses: dict[str, int] = {}
        self._finalizer = weakref.finalize(self, free)
        self._finalizer.atexit = False  # types and threads that are torn down later may still call the code

    def address(self, name: str) -> int:
        """The address of a symbol that the object defines. LinkError when it does not."""
        found = self._addresses.get(name)
        if found is None:
            try:
                found = self._find(name)
            except (KeyError, RuntimeError) as error:
                raise LinkError(f"the object has no symbol {name!r} or cannot be linked: {error}") from None
            self._addresses[name] = found
        return found

    def function(self, name: str, result: Any, *params: Any) -> Callable[..., Any]:
        """The symbol as a ctypes function; it keeps this object loaded. The GIL is released around a call."""
        made: Any = ctypes.CFUNCTYPE(result, *params)(self.address(name))
        made.loaded = self
        return made  # type: ignore[no-any-return]


@dataclass
class _Support:
    """Code that other objects call: loaded when the first of its names is asked for."""

    names: tuple[str, ...]
    build: Callable[[], bytes]
    started: Callable[[Loaded], None] | None
    externals: tuple[str, ...]
    loaded: Loaded | None = None


class Engine:
    """Links objects into this process. Safe to use from several threads."""

    def __init__(self, *, uses_elf: bool | None = None) -> None:
        self._lock = threading.RLock()
        here = sys.platform == "linux" and platform.machine() == "x86_64"
        self._uses_elf = here if uses_elf is None else uses_elf
        self._symbols: dict[str, int] = {}
        self._owners: dict[str, Loaded] = {}
        self._support: dict[str, _Support] = {}
        self._sources: list[Callable[[str], int | None]] = []

    def load(self, object: bytes, externals: Mapping[str, int] | Iterable[str] = ()) -> Loaded:
        """Link an object. `externals` are its undefined symbols: a mapping to addresses, or names for `resolve`.

        Symbols of libc and of the interpreter are found without being named. LinkError when a symbol has no address or
        the object is damaged or of another machine.
        """
        addresses = dict(externals) if isinstance(externals, Mapping) else self.resolve(externals)
        needs = list({id(o): o for o in (self._owners.get(name) for name in addresses) if o is not None}.values())
        try:
            return Loaded(*self._link(object, addresses), needs)
        except (elf.ElfError, RuntimeError) as error:
            raise LinkError(f"cannot load object code: {error}") from None

    def _link(self, object: bytes, addresses: Mapping[str, int]) -> tuple[Callable[[str], int], Callable[[], None]]:
        if not self._uses_elf:
            from stager.runtime import orc

            return orc.link(object, addresses)
        defined, free = elf.link(object, lambda name: addresses.get(name) or process_symbol(name))
        return defined.__getitem__, free

    def resolve(self, names: Iterable[str]) -> dict[str, int]:
        """The addresses of external symbols, by name. LinkError lists the names that nothing provides."""
        found: dict[str, int] = {}
        missing = []
        for name in names:
            address = self._resolve_one(name)
            if address is None:
                missing.append(name)
            else:
                found[name] = address
        if missing:
            raise LinkError(f"no address is known for {', '.join(missing)}")
        return found

    def define(self, symbols: Mapping[str, int]) -> None:
        """Give external symbols their addresses. What they point to must live as long as the engine."""
        with self._lock:
            self._symbols.update(symbols)

    def defined(self, name: str) -> int | None:
        """The address that a symbol has been given so far."""
        return self._symbols.get(name)

    def provide(
        self,
        names: Iterable[str],
        build: Callable[[], bytes],
        started: Callable[[Loaded], None] | None = None,
        externals: Iterable[str] = (),
    ) -> None:
        """Register an object that defines `names`: `build()` gives it when the first of them is needed.

        It is linked against `externals`, as in `load`, and stays loaded for the life of the process; `started` is
        called once with it.
        """
        support = _Support(tuple(names), build, started, tuple(externals))
        with self._lock:
            for name in support.names:
                self._support.setdefault(name, support)

    def provide_by(self, source: Callable[[str], int | None]) -> None:
        """Register a function that knows addresses by name, asked after everything else (BLAS, NumPy's C API)."""
        with self._lock:
            self._sources.append(source)

    def provides(self, name: str) -> bool:
        """Whether a registered object defines `name`. Loads nothing."""
        return name in self._support or name in self._symbols

    def _resolve_one(self, name: str) -> int | None:
        address = self._symbols.get(name)
        if address is not None:
            return address
        with self._lock:
            support = self._support.get(name)
            if support is not None:
                self._start(support)
                return self._symbols[name]
            for source in self._sources:
                address = source(name)
                if address is not None:
                    self._symbols[name] = address
                    return address
        return process_symbol(name)

    def _start(self, support: _Support) -> None:
        if support.loaded is not None:
            return
        support.loaded = self.load(support.build(), support.externals)
        for name in support.names:
            self._symbols[name] = support.loaded.address(name)
            self._owners[name] = support.loaded
        if support.started is not None:
            support.started(support.loaded)


@cache
def process_symbol(name: str) -> int | None:
    """The address of a symbol of the running program and its libraries (libc, the interpreter's C API)."""
    for library in _process_libraries():
        try:
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value
        except AttributeError:
            continue
    return None


@cache
def _process_libraries() -> tuple[Any, ...]:
    libraries: list[Any] = [ctypes.pythonapi]
    try:
        libraries.append(ctypes.CDLL(None))
    except TypeError:  # Windows has no handle of the whole program
        libraries.append(ctypes.CDLL("msvcrt"))
    return tuple(libraries)


@cache
def engine() -> Engine:
    """The engine of this process."""
    return Engine()
