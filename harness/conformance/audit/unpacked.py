"""Finding texts in bytes that may be compressed or encoded, also in several layers. Pure.

A tapper that writes a secret in base64 or into a compressed log has written it. A search of the bytes alone would miss
it.
"""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Protocol
from urllib.parse import unquote_to_bytes

DEEPEST = 4
"""The number of layers that are undone."""
MOST_BYTES = 32 << 20
"""At most this many decoded bytes are searched."""
_MOST_MEMBERS = 64
"""At most this many possible beginnings of one compression are tried in vain in one text: most are coincidences."""
_LARGEST_MEMBER = 8 << 20
_LONGEST_SEPARATOR = 8
"""Bytes that a log may have between two packed records: a newline, or a length of 32 or 64 bits."""
_SHORTEST_RUN = 16

_GZIP = re.compile(rb"\x1f\x8b\x08")  # RFC 1952, section 2.3.1
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")  # RFC 1950, section 2.2
_ZIP = re.compile(rb"PK\x03\x04.{22}(..)(..)", re.DOTALL)  # a local file header: .ZIP specification, 4.3.7
_BZIP2 = re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59")
_XZ = re.compile(rb"\xfd7zXZ\x00")
_LZMA = re.compile(  # the older format of LZMA utilities: properties, size of the dictionary, size of the data
    rb"\x5d\x00\x00[\x00-\xff][\x00-\x08](?:\xff{8}|.{4}\x00{4})", re.DOTALL
)
_ZSTANDARD = re.compile(rb"\x28\xb5\x2f\xfd")  # RFC 8878, section 3.1.1
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{%d,}(?:\r?\n[A-Za-z0-9+/_-]+)*" % _SHORTEST_RUN)
_BASE32 = re.compile(rb"[A-Z2-7]{%d,}" % _SHORTEST_RUN)
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}[ :,\r\n-]{0,2}){%d,}" % (_SHORTEST_RUN // 2))
_DUMP = re.compile(  # a row of hexdump -C, xxd or tcpdump -X: offset, octets, perhaps the same as characters
    rb"^[ \t]*(?:0x)?[0-9A-Fa-f]{4,8}:?[ \t]+"
    rb"((?:[0-9A-Fa-f]{4}(?:[ \t]{1,2}|$)){1,8}(?:[0-9A-Fa-f]{2}(?:[ \t]|$))?"
    rb"|(?:[0-9A-Fa-f]{2}(?:[ \t]{1,3}|$)){1,16})",
    re.MULTILINE,
)
_DECIMAL = re.compile(rb"(?:\d{1,3}[,; ][ \r\n]?){%d,}\d{1,3}" % (_SHORTEST_RUN - 1))
_WORD = re.compile(rb"[!-~]{%d,}" % _SHORTEST_RUN)
_LINE = re.compile(rb"[ -~]{%d,}" % _SHORTEST_RUN)
_UTF16 = re.compile(rb"(?:[ -~]\0|\0[ -~]){%d,}" % _SHORTEST_RUN)
_ESCAPE = re.compile(rb"\\(?:x|u00)([0-9A-Fa-f]{2})")


class Decompressor(Protocol):
    """The common interface of the standard library's decompressors."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Layer:
    """Bytes, and the codings that were undone to get them, the outermost first."""

    codings: tuple[str, ...]
    data: bytes


def find(texts: Iterable[bytes], data: bytes) -> dict[bytes, str]:
    """The texts that the data contain, each with its layers: `as it is`, `in gzip`, `in base64 in gzip`."""
    wanted, found = set(texts), dict[bytes, str]()
    for layer in layers(data):
        for text in [text for text in wanted if text in layer.data]:
            found[text] = " ".join(f"in {coding}" for coding in reversed(layer.codings)) or "as it is"
            wanted.remove(text)
        if not wanted:
            break
    return found


def layers(data: bytes) -> Iterator[Layer]:
    """The data, then everything that can be decoded from it, layer by layer.

    Ends after `DEEPEST` layers, or when `MOST_BYTES` were decoded.
    """
    level, left = [Layer((), data)], MOST_BYTES
    yield level[0]
    for _ in range(DEEPEST):
        deeper: list[Layer] = []
        for layer in level:
            for coding, decode in _CODINGS.items():
                for decoded in decode(layer.data):
                    if not decoded or decoded == layer.data:
                        continue
                    left -= len(decoded)
                    if left < 0:
                        return
                    deeper.append(Layer((*layer.codings, coding), decoded))
                    yield deeper[-1]
        level = deeper


def _members(start: re.Pattern[bytes], make: Callable[[], Decompressor]) -> Callable[[bytes], Iterator[bytes]]:
    """A decoder of a compression: tries every place where a member may begin, until it ends or is damaged."""

    def decode(data: bytes) -> Iterator[bytes]:
        in_vain = 0
        for begin in start.finditer(data):
            if in_vain == _MOST_MEMBERS:
                return
            decompressor = make()
            yield _decompressed(decompressor, memoryview(data)[begin.start() :])
            in_vain += not decompressor.eof

    return decode


def _decompressed(decompressor: Decompressor, data: bytes | memoryview) -> bytes:
    """The decoded bytes of a member, up to its end or its damage: a cut member is worth decoding."""
    out, at, step = bytearray(), 0, 4096
    try:
        while at < len(data) and len(out) < _LARGEST_MEMBER and not decompressor.eof:
            out += decompressor.decompress(bytes(data[at : at + step]))
            at += step
    except Exception:
        pass  # no member begins here, or it is damaged: each library has its own errors, and decoded bytes are kept
    return bytes(out[:_LARGEST_MEMBER])


def _zstandard(data: bytes) -> Iterator[bytes]:
    """By the decoder of the standard library (3.14 or later), else of the package zstandard, if there is one."""
    make = _make_zstandard()
    if make is not None:
        yield from _members(_ZSTANDARD, make)(data)


@cache
def _make_zstandard() -> Callable[[], Decompressor] | None:
    try:
        return import_module("compression.zstd").ZstdDecompressor  # type: ignore[no-any-return]
    except ImportError:
        pass
    try:
        package = import_module("zstandard")
    except ImportError:
        return None
    return lambda: package.ZstdDecompressor().decompressobj()


def _zipped(data: bytes) -> Iterator[bytes]:
    for number, header in enumerate(_ZIP.finditer(data)):
        if number == _MOST_MEMBERS:
            return
        names = sum(int.from_bytes(length, "little") for length in header.groups())
        yield _decompressed(zlib.decompressobj(-zlib.MAX_WBITS), data[header.end() + names :])


def _raw_deflate(data: bytes) -> Iterator[bytes]:
    """DEFLATE without a header (RFC 1951): one member after the other from the beginning of the data.

    Nothing marks the beginning of such a member, so one is looked for at the beginning and where another has ended.
    """
    at = 0
    while at < len(data):
        starts = range(at, min(at + _LONGEST_SEPARATOR + 1, len(data)))
        decoded, at = max((_raw_member(data, start) for start in starts), key=lambda member: len(member[0]))
        if len(decoded) < _SHORTEST_RUN:
            return  # what was decoded is a coincidence
        yield decoded


def _raw_member(data: bytes, start: int) -> tuple[bytes, int]:
    """The decoded bytes of a member without a header, and where it ends; nothing of a damaged one."""
    decompressor, out, at = zlib.decompressobj(-zlib.MAX_WBITS), bytearray(), start
    try:
        while at < len(data) and len(out) < _LARGEST_MEMBER and not decompressor.eof:
            out += decompressor.decompress(data[at : at + 4096])
            at += 4096
    except zlib.error:
        return b"", start
    return bytes(out[:_LARGEST_MEMBER]), min(at, len(data)) - len(decompressor.unused_data)


def _base32(data: bytes) -> Iterator[bytes]:
    """RFC 4648, section 6. Decode each run from each of its first eight characters on, as in base64."""
    for run in _BASE32.finditer(data):
        if run[0].isalpha():
            continue  # words in capitals, or base64 of zeros
        for start in range(8):
            whole = (len(run[0]) - start) & ~7
            rest = run[0][start + whole :]
            padded = rest + b"=" * (8 - len(rest)) if len(rest) in (2, 4, 5, 7) else b""
            yield base64.b32decode(run[0][start : start + whole] + padded)


def _base64(data: bytes) -> Iterator[bytes]:
    """Decode each run four times, from its first four characters on: these may belong to the text before it."""
    for run in _BASE64.finditer(data):
        text = re.sub(rb"\s", b"", run[0]).translate(bytes.maketrans(b"-_", b"+/"))
        for start in range(4):
            whole = (len(text) - start) & ~3
            cut = text[start : start + whole]
            rest = text[start + whole :]
            if len(rest) > 1:
                cut += rest + b"=" * (4 - len(rest))
            if cut:
                yield base64.b64decode(cut)


def _hexadecimal(data: bytes) -> Iterator[bytes]:
    for run in _HEX.finditer(data):
        digits = re.sub(rb"[^0-9A-Fa-f]", b"", run[0])
        for start in range(2):
            yield binascii.unhexlify(digits[start : start + (len(digits) - start & ~1)])


def _dump(data: bytes) -> Iterator[bytes]:
    """The octets of all rows of dumps, as one text: a secret may begin in one row and end in the next."""
    digits = b"".join(re.sub(rb"\s", b"", row[1]) for row in _DUMP.finditer(data))
    yield binascii.unhexlify(digits[: len(digits) & ~1])


def _decimal(data: bytes) -> Iterator[bytes]:
    """Lists of octets as decimal numbers, as JSON and many programs print them."""
    for run in _DECIMAL.finditer(data):
        yield bytes(number for number in map(int, re.findall(rb"\d+", run[0])) if number < 256)


def _percent(data: bytes) -> Iterator[bytes]:
    """Words with percent-encoded characters (RFC 3986, section 2.1), decoded."""
    for word in _WORD.finditer(data):
        if b"%" in word[0]:
            yield unquote_to_bytes(word[0])


def _escaped(data: bytes) -> Iterator[bytes]:
    r"""Lines with escapes such as `\x41` and `\u0041`, as program languages and JSON have them, decoded."""
    for line in _LINE.finditer(data):
        if b"\\x" in line[0] or b"\\u00" in line[0]:
            yield _ESCAPE.sub(lambda match: binascii.unhexlify(match[1]), line[0])


def _utf16(data: bytes) -> Iterator[bytes]:
    """UTF-16 without its zero bytes: plain letters are the letters with zeros between them."""
    for run in _UTF16.finditer(data):
        yield run[0].replace(b"\0", b"")


_CODINGS: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "gzip": _members(_GZIP, lambda: zlib.decompressobj(zlib.MAX_WBITS | 16)),
    "zlib": _members(_ZLIB, zlib.decompressobj),
    "Zstandard": _zstandard,
    "a ZIP archive": _zipped,
    "bzip2": _members(_BZIP2, bz2.BZ2Decompressor),
    "xz": _members(_XZ, lzma.LZMADecompressor),
    "LZMA": _members(_LZMA, lzma.LZMADecompressor),
    "DEFLATE without a header": _raw_deflate,
    "base32": _base32,
    "base64": _base64,
    "hexadecimal digits": _hexadecimal,
    "a hexadecimal dump": _dump,
    "decimal numbers": _decimal,
    "percent-encoding": _percent,
    "escape sequences": _escaped,
    "UTF-16": _utf16,
}
