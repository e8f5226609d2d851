"""An object file as one piece of code that runs wherever it is put.

A small linker for what LLVM emits here on Linux and x86-64 (System V ABI, AMD64 supplement): code and
constants side by side, and references between them relative, so that loading is a copy. Without it a start
would have to load LLVM, 40 MiB of memory and a tenth of a second, just to put 60 KiB in place.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_ALLOCATED = 2  # SHF_ALLOC
_PROGRAM, _SYMBOLS, _RELOCATIONS = 1, 2, 4  # SHT_PROGBITS, SHT_SYMTAB, SHT_RELA
_PC32, _PLT32, _PC64 = 2, 4, 24  # R_X86_64_...


class CannotFlatten(Exception):  # noqa: N818 - it is no fault, only a kind of object file
    """The object file is of another platform, or refers to something outside."""


@dataclass(frozen=True, slots=True)
class _Section:
    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


def flatten(object_code: bytes, symbols: dict[str, str]) -> tuple[bytes, dict[str, int]]:
    """The code, and the offset in it of each of `symbols` (our name to the object's name).

    Raises CannotFlatten.
    """
    if (
        len(object_code) < 64
        or object_code[:6] != b"\x7fELF\x02\x01"
        or struct.unpack_from("<HH", object_code, 16) != (1, 62)
    ):
        raise CannotFlatten("not a relocatable ELF file for x86-64")
    (table,) = struct.unpack_from("<Q", object_code, 40)
    size, count = struct.unpack_from("<HH", object_code, 58)
    sections = [
        _Section(*struct.unpack_from("<IIQQQQIIQQ", object_code, table + i * size)) for i in range(count)
    ]

    flat, places = bytearray(), {}
    for i, section in enumerate(sections):
        if section.kind == _PROGRAM and section.flags & _ALLOCATED and section.size:
            flat += bytes(-len(flat) % max(64, section.align))
            places[i] = len(flat)
            flat += object_code[section.offset : section.offset + section.size]

    table_section = next(s for s in sections if s.kind == _SYMBOLS)
    names = sections[table_section.link]
    entries = list(
        struct.iter_unpack(
            "<IBBHQQ", object_code[table_section.offset : table_section.offset + table_section.size]
        )
    )
    for section in sections:
        if section.kind == _RELOCATIONS and section.info in places:
            records = object_code[section.offset : section.offset + section.size]
            for offset, info, addend in struct.iter_unpack("<QQq", records):
                _, _, _, home, value, _ = entries[info >> 32]
                if home not in places:
                    raise CannotFlatten("a reference leads outside")
                at = places[section.info] + offset
                _relocate(flat, at, places[home] + value + addend - at, info & 0xFFFFFFFF)

    def text_at(offset: int) -> str:
        start = names.offset + offset
        return object_code[start : object_code.index(b"\0", start)].decode()

    offsets = {text_at(entry[0]): places[entry[3]] + entry[4] for entry in entries if entry[3] in places}
    return bytes(flat), {ours: offsets[theirs] for ours, theirs in symbols.items()}


def _relocate(flat: bytearray, at: int, distance: int, kind: int) -> None:
    """Write how far it is from `at` to what is referred to."""
    if kind in (_PC32, _PLT32):
        struct.pack_into("<i", flat, at, distance)
    elif kind == _PC64:
        struct.pack_into("<q", flat, at, distance)
    else:
        raise CannotFlatten(f"a relocation of type {kind}")
