"""Reads object files: the machine, what they define and what they need. ELF, Mach-O and COFF of 64 bits, wasm."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ObjectFile:
    """What a linker would say of an object file. Names are without the platform's prefix."""

    format: str
    machine: int | None
    defined: frozenset[str]
    undefined: frozenset[str]


def read_object(path: Path) -> ObjectFile:
    data = path.read_bytes()
    if data[:4] == b"\x7fELF":
        return _elf(data)
    if data[:4] == b"\xcf\xfa\xed\xfe":
        return _macho(data)
    if data[:4] == b"\0asm":
        return _wasm(data)
    return _coff(data)


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def _made(format: str, machine: int | None, symbols: list[tuple[str, bool]]) -> ObjectFile:
    """symbols: external names and whether the file defines them."""
    defined = frozenset(name for name, here in symbols if here)
    return ObjectFile(format, machine, defined, frozenset(name for name, here in symbols if not here))


def _elf(data: bytes) -> ObjectFile:
    sections_at, entry, count = (*struct.unpack_from("<Q", data, 40), *struct.unpack_from("<HH", data, 58))
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, sections_at + entry * k) for k in range(count)]
    symbols = []
    for _, kind, _, _, offset, size, link, _, _, each in sections:
        if kind != 2:
            continue
        for k in range(1, size // each):
            name, info, _, section = struct.unpack_from("<IBBH", data, offset + each * k)
            if info >> 4:  # not local
                symbols.append((_text(data, sections[link][4] + name), section != 0))
    return _made("elf", struct.unpack_from("<H", data, 18)[0], symbols)


def _macho(data: bytes) -> ObjectFile:
    machine, _, _, commands = struct.unpack_from("<IIII", data, 4)
    at, symbols = 32, []
    for _ in range(commands):
        command, size = struct.unpack_from("<II", data, at)
        if command == 2:  # LC_SYMTAB
            table, count, strings, _ = struct.unpack_from("<IIII", data, at + 8)
            for k in range(count):
                name, kind, _, _, _ = struct.unpack_from("<IBBHQ", data, table + 16 * k)
                if kind & 1:  # external
                    text = _text(data, strings + name)
                    assert text.startswith("_"), text
                    symbols.append((text[1:], kind & 0x0E != 0))
        at += size
    return _made("macho", machine, symbols)


def _coff(data: bytes) -> ObjectFile:
    machine, _, _, table, count = struct.unpack_from("<HHIII", data, 0)
    strings, symbols, k = table + 18 * count, [], 0
    while k < count:
        raw, value, section, _, storage, extra = struct.unpack_from("<8sIhHBB", data, table + 18 * k)
        long = raw[:4] == b"\0" * 4
        name = _text(data, strings + int.from_bytes(raw[4:], "little")) if long else raw.rstrip(b"\0").decode()
        if storage == 2:  # external
            symbols.append((name, section != 0 or value != 0))
        k += 1 + extra
    return _made("coff", machine, symbols)


def _wasm(data: bytes) -> ObjectFile:
    at, symbols = 8, []

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def word() -> str:
        nonlocal at
        size = number()
        at += size
        return data[at - size : at].decode()

    imports: list[str] = []
    while at < len(data):
        section, size = data[at], 0
        at += 1
        size = number()
        end = at + size
        if section == 2:
            for _ in range(number()):
                word()
                field, kind = word(), data[at]
                at += 1
                if kind == 0:
                    number()
                    imports.append(field)
                else:  # a table or a memory has limits, a global a type and a flag
                    at += 1 if kind in (1, 3) else 0
                    flags = number()
                    if kind != 3:
                        number()
                        if flags & 1:
                            number()
        elif section == 0 and word() == "linking":
            number()
            while at < end:
                kind = data[at]
                at += 1
                after = number()
                after += at
                if kind == 8:  # WASM_SYMBOL_TABLE
                    for _ in range(number()):
                        symbol = data[at]
                        at += 1
                        flags = number()
                        undefined, explicit, local = bool(flags & 0x10), bool(flags & 0x40), bool(flags & 2)
                        if symbol == 1:
                            name = word()
                            if not undefined:
                                number(), number(), number()
                        elif symbol == 3:
                            number()
                            continue
                        else:
                            index = number()
                            name = word() if not undefined or explicit else imports[index] if symbol == 0 else ""
                        if name and not local:
                            symbols.append((name, not undefined))
                at = after
        at = end
    return _made("wasm", None, symbols)
