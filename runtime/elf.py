"""A linker for one ELF object of x86-64 into this process: sections laid out in one mapping, relocations applied.

Why not LLVM's: reading a cached object then needs no LLVM library at all (loading it is a third of a warm start), costs
some 100 us instead of 300, and the memory is gone when the object is dropped.

Invariants: every relocation is range-checked and an unknown kind is refused, so that a linked object is right or not
there; code and constants are never writable when they can run. Not here: other machines and file formats (`orc.py`),
thread-local variables, constructors.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

HEADER = struct.Struct("<4s12xHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHqQ")
RELOCATION = np.dtype([("offset", "<i8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])

RELOCATABLE, X86_64 = 1, 62
SYMBOLS, RELOCATIONS, NO_BITS, CONSTRUCTORS = 2, 4, 8, (14, 15, 16)
WRITABLE, ALLOCATED, THREAD_LOCAL = 1, 2, 0x400
UNDEFINED, RESERVED, ABSOLUTE = 0, 0xFF00, 0xFFF1

# What a relocation stores: S symbol, A addend, P place, G the symbol's entry in the table of addresses.
UNKNOWN, S_A_P, G_A_P, WIDE_S_A_P, WIDE_S_A, UNSIGNED_S_A, SIGNED_S_A = range(7)
FORMS = np.zeros(256, np.int8)
for _form, _kinds in {
    S_A_P: (2, 4),  # R_X86_64_PC32, PLT32
    G_A_P: (9, 41, 42, 43),  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX, CODE_4_GOTPCRELX
    WIDE_S_A_P: (24,),  # PC64
    WIDE_S_A: (1,),  # 64
    UNSIGNED_S_A: (10,),  # 32
    SIGNED_S_A: (11,),  # 32S
}.items():
    FORMS[list(_kinds)] = _form
JUMP = np.frombuffer(b"\xff\x25", np.uint8)  # jmp *[rip + displacement]
STUB_BYTES = 8


class ElfError(ValueError):
    """The object cannot be linked; the text says why."""


def link(code: bytes, resolve: Callable[[str], int | None]) -> tuple[dict[str, int], Callable[[], None]]:
    """Link an object: (the addresses of its global symbols, the function that unmaps it)."""
    try:
        return _Image(code, resolve).place()
    except (ValueError, IndexError, struct.error) as error:
        if isinstance(error, ElfError):
            raise
        raise ElfError(f"damaged object: {error}") from None


class _Section(NamedTuple):
    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int


class _Image:
    """One object on its way into memory."""

    def __init__(self, code: bytes, resolve: Callable[[str], int | None]) -> None:
        self.code = code
        if code[:4] != b"\x7fELF":
            raise ElfError("not an ELF object")
        _, kind, machine, _, _, _, table, _, _, _, _, _, count, names = HEADER.unpack_from(code)
        if (kind, machine) != (RELOCATABLE, X86_64):
            raise ElfError("not a relocatable object of x86-64")
        self.sections = [_Section._make(f) for f in SECTION.iter_unpack(code[table : table + count * SECTION.size])]
        if len(self.sections) != count or any(
            s.offset + s.size > len(code) for s in self.sections if s.type != NO_BITS
        ):
            raise ElfError("the object is cut short")
        if any(s.flags & THREAD_LOCAL for s in self.sections):
            raise ElfError("thread-local variables cannot be linked")
        texts = self._content(self.sections[names])
        if any(s.type in CONSTRUCTORS or texts.startswith((b".ctors", b".dtors"), s.name) for s in self.sections):
            raise ElfError("constructors cannot be linked")
        self._read_symbols(next(s for s in self.sections if s.type == SYMBOLS), resolve)

    def _content(self, section: _Section) -> bytes:
        return self.code[section.offset : section.offset + section.size]

    def _read_symbols(self, section: _Section, resolve: Callable[[str], int | None]) -> None:
        """`homes` and `values` per symbol: its section and offset there; of an undefined one its address."""
        strings = self._content(self.sections[section.link])
        homes, values, missing = [], [], []
        self.defined: dict[str, int] = {}  # global names to their index
        for i, (name, info, _, home, value, _) in enumerate(SYMBOL.iter_unpack(self._content(section))):
            if info >> 4:  # not local
                text = strings[name : strings.index(b"\0", name)].decode()
                if home == UNDEFINED:
                    address = resolve(text)
                    if address is None:
                        missing.append(text)
                    else:
                        value = address - (1 << 64) if address >> 63 else address
                else:
                    self.defined[text] = i
            if home >= RESERVED and home != ABSOLUTE and not (info & 15) == 4:
                raise ElfError("common symbols cannot be linked")
            homes.append(home if home < RESERVED else UNDEFINED)
            values.append(value)
        if missing:
            raise ElfError(f"no address is known for {', '.join(missing)}")
        self.homes, self.values = np.array(homes), np.array(values)

    def place(self) -> tuple[dict[str, int], Callable[[], None]]:
        entries, forms, at_section = self._read_relocations()
        through = forms == G_A_P
        calls = (forms == S_A_P) & (self.homes[entries["symbol"]] == UNDEFINED)
        indirect = np.unique(entries["symbol"][through | calls])
        starts, table_at, fixed, total = self._lay_out(len(indirect))
        base = _map(total)
        try:
            image = np.ctypeslib.as_array((ctypes.c_uint8 * total).from_address(base))
            source = np.frombuffer(self.code, np.uint8)
            for i, start in starts.items():
                section = self.sections[i]
                if section.type != NO_BITS:
                    image[start : start + section.size] = source[section.offset : section.offset + section.size]
            start_of = np.zeros(len(self.sections), np.int64)
            start_of[list(starts)] = list(starts.values())
            values = self.values + np.where(self.homes != UNDEFINED, start_of[self.homes] + base, 0)
            entry_of, stub_of = self._fill_table(image, table_at, indirect, values)

            at = start_of[at_section] + entries["offset"]
            if len(at) and not (0 <= at.min() and at.max() + 8 <= total):
                raise ElfError("a relocation lies outside its section")
            symbols, addends = entries["symbol"], entries["addend"]
            absolute = values[symbols] + addends
            relative = absolute - (base + at)
            far = calls & (np.abs(relative) >= 1 << 31)
            relative[far] = (stub_of[symbols] + addends - at)[far]
            relative[through] = (entry_of[symbols] + addends - at)[through]
            narrow = through | (forms == S_A_P)
            _write(image, at[narrow], _narrow(relative[narrow], np.int32))
            present = set(forms.tolist())
            for form, amounts, width in (
                (WIDE_S_A_P, relative, np.int64),
                (WIDE_S_A, absolute, np.int64),
                (UNSIGNED_S_A, absolute, np.uint32),
                (SIGNED_S_A, absolute, np.int32),
            ):
                if form in present:
                    these = forms == form
                    _write(image, at[these], _narrow(amounts[these], width))
            if fixed:
                _protect(base, fixed, mmap.PROT_READ | mmap.PROT_EXEC)
        except BaseException:
            _unmap(base, total)
            raise
        return {name: int(values[i]) for name, i in self.defined.items()}, lambda: _unmap(base, total)

    def _read_relocations(self) -> tuple[Any, Any, Any]:
        """All relocations of loaded sections, the form of each, and the section that each changes."""
        tables = [s for s in self.sections if s.type == RELOCATIONS and self.sections[s.info].flags & ALLOCATED]
        parts = [np.frombuffer(self.code, RELOCATION, s.size // RELOCATION.itemsize, s.offset) for s in tables]
        entries = np.concatenate(parts) if parts else np.zeros(0, RELOCATION)
        forms = FORMS[np.minimum(entries["kind"], 255)]
        if len(forms) and not forms.all():
            raise ElfError(
                f"relocations of kind {sorted(set(entries['kind'][forms == UNKNOWN].tolist()))} are not known"
            )
        return entries, forms, np.repeat([s.info for s in tables], [len(p) for p in parts]).astype(np.int64)

    def _lay_out(self, indirect: int) -> tuple[dict[int, int], int, int, int]:
        """(offset of each section, of the address table, bytes that become read-only, bytes in all)."""
        starts: dict[int, int] = {}
        at = table_at = fixed = 0
        for writable in (0, WRITABLE):
            for i, section in enumerate(self.sections):
                if section.flags & (ALLOCATED | WRITABLE) == ALLOCATED | writable:
                    at = starts[i] = _aligned(at, max(section.align, 1))
                    at += section.size
            if not writable:
                table_at = _aligned(at, 16)
                at = fixed = _aligned(table_at + indirect * (8 + STUB_BYTES), mmap.PAGESIZE)
        return starts, table_at, fixed, _aligned(max(at, 1), mmap.PAGESIZE)

    def _fill_table(self, image: Any, table_at: int, indirect: Any, values: Any) -> tuple[Any, Any]:
        """An address and a jump through it for each symbol that may be too far away: (offsets of both, per symbol)."""
        entry_of, stub_of = np.zeros(len(values), np.int64), np.zeros(len(values), np.int64)
        count = len(indirect)
        if count:
            stubs_at = table_at + 8 * count
            entry_of[indirect] = table_at + 8 * np.arange(count)
            stub_of[indirect] = stubs_at + STUB_BYTES * np.arange(count)
            image[table_at:stubs_at] = values[indirect].view(np.uint8)
            stubs = image[stubs_at : stubs_at + STUB_BYTES * count].reshape(count, STUB_BYTES)
            stubs[:, :2] = JUMP
            stubs[:, 2:6] = _narrow(entry_of[indirect] - stub_of[indirect] - 6, np.int32)
        return entry_of, stub_of


def _aligned(at: int, to: int) -> int:
    return (at + to - 1) // to * to


def _narrow(values: Any, dtype: Any) -> Any:
    """The bytes of values that must fit into `dtype`."""
    narrow = values.astype(dtype)
    if (narrow != values).any():
        raise ElfError("a symbol is too far away for its relocation")
    return narrow.view(np.uint8).reshape(len(narrow), narrow.dtype.itemsize)


def _write(image: Any, at: Any, content: Any) -> None:
    image[at[:, None] + np.arange(content.shape[1])] = content


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    word, number = ctypes.c_size_t, ctypes.c_int
    libc.mmap.argtypes, libc.mmap.restype = [word, word, number, number, number, ctypes.c_long], word
    libc.munmap.argtypes, libc.mprotect.argtypes = [word, word], [word, word, number]
    return libc


def _map(size: int) -> int:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    address = int(_libc().mmap(0, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0))
    if address == ctypes.c_size_t(-1).value:
        raise MemoryError(f"cannot map {size} bytes for code")
    return address


def _protect(address: int, size: int, protection: int) -> None:
    if _libc().mprotect(address, size, protection):
        raise ElfError(f"the system refuses executable memory (errno {ctypes.get_errno()})")


def _unmap(address: int, size: int) -> None:
    _libc().munmap(address, size)
