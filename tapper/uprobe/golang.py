"""Where Go functions begin and return, also in stripped programs (src/runtime/symtab.go, src/internal/abi/symtab.go, Go
1.18 and later).

`.gopclntab` has for each function its name, and at which of its instructions the stack frame has which size. A function
returns where the frame is gone again. A probe that replaces the return address, as uretprobes do, breaks Go's stacks,
which move; so a probe is put at each return instruction instead, and no disassembler is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final

from tapper.uprobe.elf import Elf, Section

_TABLES: Final = (b".gopclntab", b".data.rel.ro.gopclntab")
_MAGICS: Final = frozenset({0xFFFF_FFF1, 0xFFFF_FFF0})  # Go 1.20, Go 1.18
_HEADER: Final = struct.Struct("<I2xBB8Q")
"""Magic, size of the smallest instruction, size of a pointer; number of functions and of files, where the text begins,
offsets of names, compilation units, files, tables of values, and functions."""
_FUNCTION: Final = struct.Struct("<IiiII")  # entry, name, size of arguments, a return, table of frame sizes
_MOST_FUNCTIONS: Final = 2_000_000
_MOST_RUNS: Final = 10_000
_RETURNS: Final = (b"\xc3", b"\xc0\x03\x5f\xd6")
"""RET of x86-64 and of arm64."""


@dataclass(frozen=True, slots=True)
class GoFunction:
    """Offsets in the file."""

    entry: int
    returns: tuple[int, ...]


def functions(elf: Elf, wanted: Set[bytes]) -> dict[bytes, GoFunction] | None:
    """The functions with these names; None for a program that is not Go's, or whose table has another format."""
    section = elf.section(*_TABLES)
    if section is None:
        return None
    try:
        return _functions(elf, elf.contents(section), wanted)
    except (struct.error, IndexError, OverflowError):
        return None


def _functions(elf: Elf, table: bytes, wanted: Set[bytes]) -> dict[bytes, GoFunction] | None:
    magic, quantum, pointer, count, _, text, names, _, _, values, entries = _HEADER.unpack_from(table)
    if magic not in _MAGICS or pointer != 8:
        return None
    # 1. Where the names are. Since Go 1.26 the table does not tell where the text begins.
    section: Section | None = elf.section(b".text")
    text = text or (0 if section is None else section.address)
    places = {table.find(b"\0" + name + b"\0", names - 1) + 1 - names: name for name in wanted}
    # 2. The functions that have them.
    found: dict[bytes, GoFunction] = {}
    for index in range(min(count, _MOST_FUNCTIONS)):
        at = entries + struct.unpack_from("<I", table, entries + 8 * index + 4)[0]
        offset, name, _, _, frames = _FUNCTION.unpack_from(table, at)
        if name > 0 and name in places and places[name] not in found:
            entry = elf.file_offset(text + offset)
            if entry is not None:
                sizes = list(_frame_sizes(table, values + frames, quantum))
                returns = tuple(
                    entry + start for start, size in sizes[1:] if not size and _is_return(elf, entry + start)
                )
                found[places[name]] = GoFunction(entry, returns)
    return found


def _frame_sizes(table: bytes, at: int, quantum: int) -> Iterator[tuple[int, int]]:
    """From where on, in bytes after the entry, the stack frame has which size."""
    start, size = 0, -1
    for run in range(_MOST_RUNS):
        change, at = _variable(table, at)
        if change == 0 and run:
            return
        size += ~(change >> 1) if change & 1 else change >> 1
        yield start, size
        length, at = _variable(table, at)
        start += length * quantum


def _variable(table: bytes, at: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = table[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80 or shift > 63:
            return number, at


def _is_return(elf: Elf, offset: int) -> bool:
    return elf.read(offset, 4).startswith(_RETURNS)
