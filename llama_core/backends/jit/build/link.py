"""Object files as one piece of code that runs wherever it is put.

A small linker for what LLVM emits here on Linux and x86-64 (System V ABI, AMD64 supplement): code and
constants side by side, and references between them relative, so that loading is a copy. Without it a start
would have to load LLVM, 40 MiB of memory and a tenth of a second, just to put some 100 KiB in place.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_ALLOCATED = 2  # SHF_ALLOC
_PROGRAM, _SYMBOLS, _RELOCATIONS = 1, 2, 4  # SHT_PROGBITS, SHT_SYMTAB, SHT_RELA
_PC32, _PLT32, _PC64 = 2, 4, 24  # R_X86_64_...
_UNDEFINED = 0  # SHN_UNDEF
_LOCAL = 0  # STB_LOCAL


class CannotLink(Exception):  # noqa: N818 - it is no fault, only a kind of object file
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


def link(objects: Sequence[bytes], symbols: dict[str, str]) -> tuple[bytes, dict[str, int]]:
    """The code of object files that refer to each other, and the offset in it of each of `symbols` (our name
    to the objects' name).

    Raises CannotLink.
    """
    linked = bytearray()
    parts = [_Part.placed(one, linked) for one in objects]
    offsets = {name: offset for part in parts for name, offset in part.offsets()}
    for part in parts:
        part.relocate(linked, offsets)
    try:
        return bytes(linked), {ours: offsets[theirs] for ours, theirs in symbols.items()}
    except KeyError as missing:
        raise CannotLink(f"there is no {missing}") from None


@dataclass(frozen=True, slots=True)
class _Part:
    """An object file whose sections have their places in the linked code: section number to offset. entries:
    its symbol table (name, info, other, section, value, size)."""

    code: bytes
    sections: list[_Section]
    places: dict[int, int]
    entries: list[tuple[int, ...]]
    names_at: int

    @classmethod
    def placed(cls, code: bytes, linked: bytearray) -> _Part:
        """Read an object file and put what is to be loaded of it behind what `linked` holds."""
        if len(code) < 64 or code[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", code, 16) != (1, 62):
            raise CannotLink("not a relocatable ELF file for x86-64")
        (table,) = struct.unpack_from("<Q", code, 40)
        size, count = struct.unpack_from("<HH", code, 58)
        sections = [
            _Section(*struct.unpack_from("<IIQQQQIIQQ", code, table + i * size)) for i in range(count)
        ]
        places = {}
        for i, section in enumerate(sections):
            if section.kind == _PROGRAM and section.flags & _ALLOCATED and section.size:
                linked += bytes(-len(linked) % max(64, section.align))
                places[i] = len(linked)
                linked += code[section.offset : section.offset + section.size]
        symbols = next(s for s in sections if s.kind == _SYMBOLS)
        held = code[symbols.offset : symbols.offset + symbols.size]
        names_at = sections[symbols.link].offset
        return cls(code, sections, places, list(struct.iter_unpack("<IBBHQQ", held)), names_at)

    def name(self, entry: tuple[int, ...]) -> str:
        start = self.names_at + entry[0]
        return self.code[start : self.code.index(b"\0", start)].decode()

    def offsets(self) -> Iterator[tuple[str, int]]:
        """The symbols defined here for all to see, and where in the linked code they are."""
        for entry in self.entries:
            if entry[3] in self.places and entry[1] >> 4 != _LOCAL:
                yield self.name(entry), self.places[entry[3]] + entry[4]

    def relocate(self, linked: bytearray, others: Mapping[str, int]) -> None:
        """Fill in the references; what is not defined here is looked up in `others`."""
        for section in self.sections:
            if section.kind != _RELOCATIONS or section.info not in self.places:
                continue
            records = self.code[section.offset : section.offset + section.size]
            for offset, info, addend in struct.iter_unpack("<QQq", records):
                entry = self.entries[info >> 32]
                target = None
                if entry[3] in self.places:
                    target = self.places[entry[3]] + entry[4]
                elif entry[3] == _UNDEFINED:
                    target = others.get(self.name(entry))
                if target is None:
                    raise CannotLink("a reference leads outside")
                at = self.places[section.info] + offset
                _relocate(linked, at, target + addend - at, info & 0xFFFFFFFF)


def _relocate(linked: bytearray, at: int, distance: int, kind: int) -> None:
    """Write how far it is from `at` to what is referred to."""
    if kind in (_PC32, _PLT32):
        struct.pack_into("<i", linked, at, distance)
    elif kind == _PC64:
        struct.pack_into("<q", linked, at, distance)
    else:
        raise CannotLink(f"a relocation of type {kind}")
