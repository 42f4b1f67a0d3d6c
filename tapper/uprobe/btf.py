"""The kernel's type information: where the members of its structures are (Documentation/bpf/btf.rst).

Numbers are in the machine's byte order.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

from tapper.errors import TapperError, explain

KERNEL: Final = Path("/sys/kernel/btf/vmlinux")
_HEADER: Final = struct.Struct("=HBBIIIII")  # magic, version, flags, header, types at and size, strings at and size
_MAGIC: Final = 0xEB9F
_TYPE: Final = struct.Struct("=III")  # name, info, size or type
_MEMBER: Final = struct.Struct("=III")  # name, type, offset in bits
_STRUCT, _UNION = 4, 5
_ALIASES: Final = frozenset({2, 8, 9, 10, 11, 18})
"""Kinds that only refer to another type: pointer, typedef, volatile, const, restrict, type tag."""
_MEMBERS_OF: Final = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
"""Bytes of each member after the head of a type, by kind: struct, union, enum, function, section, 64-bit enum."""
_BYTES_OF: Final = {1: 4, 3: 12, 14: 4, 17: 4}
"""Further bytes after the head of a type, by kind: integer, array, variable, declaration tag."""


class Btf:
    """Type information, from the bytes of a file. Raises TapperError for other bytes."""

    def __init__(self, data: bytes) -> None:
        try:
            magic, _, _, header, types, size, strings, strings_size = _HEADER.unpack_from(data)
            if magic != _MAGIC:
                raise TapperError("the kernel's type information has an unknown format")
            self._data = data
            self._strings = data[header + strings : header + strings + strings_size]
            self._offsets = [0]
            self._structs: dict[int, int] = {}
            """The number of each struct, by the offset of its name."""
            at, end = header + types, header + types + size
            while at < end:
                name, info, _ = _TYPE.unpack_from(data, at)
                kind = info >> 24 & 31
                if kind == _STRUCT and name:
                    self._structs.setdefault(name, len(self._offsets))
                self._offsets.append(at)
                at += _TYPE.size + _MEMBERS_OF.get(kind, 0) * (info & 0xFFFF) + _BYTES_OF.get(kind, 0)
        except struct.error as error:
            raise TapperError("the kernel's type information ends too early") from error

    def offset(self, path: str) -> int:
        """Bytes from the beginning of a struct to a member of it, `sock.sk_protocol`, or to a member of a struct in it,
        `net.ns.inum`. A struct or union without a name is passed through. Raises TapperError where there is no such
        member."""
        struct_name, *names = path.split(".")
        total = 0
        number = self._structs.get(self._offset_of_string(struct_name), 0)
        for name in names:
            found = self._member(number, name.encode()) if number else None
            if found is None:
                raise TapperError(f"this kernel has no {path}, so --tls cannot run on it")
            total, number = total + found[0], found[1]
        return total

    def _offset_of_string(self, text: str) -> int:
        return self._strings.find(b"\0" + text.encode() + b"\0") + 1

    def _member(self, number: int, wanted: bytes) -> tuple[int, int] | None:
        """Offset in bytes, and type, of a member of a struct or union."""
        at, info = self._resolved(number)
        if info >> 24 & 31 not in (_STRUCT, _UNION):
            return None
        for index in range(info & 0xFFFF):
            name, kind, bits = _MEMBER.unpack_from(self._data, at + _TYPE.size + _MEMBER.size * index)
            offset = (bits & 0xFF_FFFF if info >> 31 else bits) // 8  # the rest is the size of a bit field
            if not name:
                within = self._member(kind, wanted)
                if within is not None:
                    return offset + within[0], within[1]
            elif self._strings[name : name + len(wanted) + 1] == wanted + b"\0":
                return offset, kind
        return None

    def _resolved(self, number: int) -> tuple[int, int]:
        """Where the description of a type begins, and its info, after all aliases."""
        while True:
            at = self._offsets[number]
            _, info, target = _TYPE.unpack_from(self._data, at)
            if info >> 24 & 31 not in _ALIASES:
                return at, info
            number = target


def of_kernel(path: Path = KERNEL) -> Btf:
    """The running kernel's. Raises TapperError where it has none."""
    try:
        return Btf(path.read_bytes())
    except OSError as error:
        raise TapperError(
            f"--tls needs the kernel's type information, and {path} cannot be read: {explain(error)}; "
            "use a kernel that was built with CONFIG_DEBUG_INFO_BTF, as those of distributions are"
        ) from error
