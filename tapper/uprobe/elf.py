"""Where functions begin in an ELF file, by their names (elf(5)): 64 bits, little-endian.

A pod can make any file, and can change it at any time. So it is read piece by piece, and not mapped, since a mapping of
a file that becomes shorter ends the process; what is read at once is bounded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Final, TypeAlias

Read: TypeAlias = Callable[[int, int], bytes]
"""The bytes of a file from an offset on, at most so many; fewer where it ends."""

LARGEST_SECTION: Final = 1 << 26
"""Bytes that are read of a section."""

_IDENT: Final = b"\x7fELF\x02\x01"
_MACHINES: Final = {"x86_64": 62, "aarch64": 183}
_LOAD: Final = 1  # a segment's type
_SYMBOLS, _DYNAMIC_SYMBOLS = 2, 11  # types of sections
_FUNCTION, _INDIRECT_FUNCTION = 2, 10  # types of symbols
_SEGMENT: Final = struct.Struct("<IIQQQQQQ")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_MOST_HEADERS: Final = 4096
_MOST_TEXT: Final = 1 << 20  # names of sections


@dataclass(frozen=True, slots=True)
class Section:
    """A section; `address` in memory, `offset` and `size` in the file."""

    name: bytes
    kind: int
    address: int
    offset: int
    size: int
    link: int


class Elf:
    """A file's headers. Raises ValueError for other files, and for another machine's."""

    def __init__(self, read: Read, machine: str) -> None:
        self.read = read
        head = read(0, 64)
        try:
            if not head.startswith(_IDENT) or struct.unpack_from("<H", head, 18)[0] != _MACHINES.get(machine):
                raise ValueError("not an ELF file of this machine")
            segments, sections = struct.unpack_from("<QQ", head, 32)
            segment_size, count, section_size, section_count, names = struct.unpack_from("<HHHHH", head, 54)
        except struct.error as error:
            raise ValueError("an ELF file that ends too early") from error
        self._loaded = [
            (address, offset, size)
            for kind, _, offset, address, _, size, _, _ in self._headers(_SEGMENT, segments, segment_size, count)
            if kind == _LOAD
        ]
        raw = list(self._headers(_SECTION, sections, section_size, section_count))
        texts = read(raw[names][4], min(raw[names][5], _MOST_TEXT)) if names < len(raw) else b""
        self._sections = [
            Section(texts[name:].partition(b"\0")[0], kind, address, offset, min(size, LARGEST_SECTION), link)
            for name, kind, _, address, offset, size, link, _, _, _ in raw
        ]

    def _headers(self, form: struct.Struct, at: int, size: int, count: int) -> Iterator[tuple[int, ...]]:
        table = self.read(at, size * min(count, _MOST_HEADERS))
        for start in range(0, len(table) - form.size + 1, size) if size >= form.size else ():
            yield form.unpack_from(table, start)

    def contents(self, section: Section) -> bytes:
        """The bytes of a section; fewer where the file ends."""
        return self.read(section.offset, section.size)

    def section(self, *names: bytes) -> Section | None:
        """The first section with one of these names."""
        return next((section for section in self._sections if section.name in names), None)

    def file_offset(self, address: int) -> int | None:
        """Where in the file the byte is that is loaded at an address; None where there is none."""
        for start, offset, size in self._loaded:
            if start <= address < start + size:
                return address - start + offset
        return None

    def functions(self, wanted: Set[bytes]) -> dict[bytes, int]:
        """The offsets in the file of functions with these names, from the dynamic symbols; from the others where those
        have none."""
        for kind in (_DYNAMIC_SYMBOLS, _SYMBOLS):
            section = next((section for section in self._sections if section.kind == kind), None)
            if section is not None and section.link < len(self._sections):
                found = self._functions_of(section, self._sections[section.link], wanted)
                if found:
                    return found
        return {}

    def _functions_of(self, symbols: Section, strings: Section, wanted: Set[bytes]) -> dict[bytes, int]:
        # 1. Where the names are among the strings. A name may be the end of another one's string.
        text = self.contents(strings)
        places: dict[int, bytes] = {}
        for name in wanted:
            at = text.find(name + b"\0")
            while at >= 0:
                places[at] = name
                at = text.find(name + b"\0", at + 1)
        if not places:
            return {}
        # 2. The symbols that have one of these places.
        table = self.contents(symbols)
        found: dict[bytes, int] = {}
        for at, info, _, section, value, _ in _SYMBOL.iter_unpack(table[: len(table) // _SYMBOL.size * _SYMBOL.size]):
            if at in places and section and info & 15 in (_FUNCTION, _INDIRECT_FUNCTION):
                offset = self.file_offset(value)
                if offset is not None:
                    found.setdefault(places[at], offset)
        return found
