"""Texts are found however they are packed, and the search is bounded."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import zipfile
import zlib
from collections.abc import Callable
from urllib.parse import quote_from_bytes

import pytest
import zstandard

from harness.conformance.audit import unpacked

SECRET = b"secret-0123456789abcdef0123456789abcdef"


def _zip(data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("log", data)
    return file.getvalue()


def _dump(data: bytes, group: int) -> bytes:
    """As hexdump -C shows it (groups of one octet), or tcpdump -X (of two)."""
    rows = []
    for at in range(0, len(data), 16):
        row = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        rows.append(f"\n{at:08x}  {row.hex(' ', -group)}  {text}")
    return "".join(rows).encode()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "Zstandard": zstandard.compress,
    "a ZIP archive": _zip,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "LZMA": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
    "base32": base64.b32encode,
    "base64": base64.b64encode,
    "base64 (URL)": base64.urlsafe_b64encode,
    "base64 (MIME)": base64.encodebytes,
    "hexadecimal digits": lambda data: data.hex().encode(),
    "hexadecimal digits (dump)": lambda data: data.hex(" ").upper().encode(),
    "percent-encoding": lambda data: "".join(f"%{byte:02X}" for byte in data).encode(),
    "percent-encoding (quoted)": lambda data: quote_from_bytes(b"a/b?" + data).replace("secret", "%73ecret").encode(),
    "escape sequences": lambda data: "".join(f"\\x{byte:02x}" for byte in data).encode(),
    "escape sequences (JSON)": lambda data: "".join(f"\\u{byte:04x}" for byte in data).encode(),
    "UTF-16": lambda data: data.decode("latin-1").encode("utf-16"),
    "a hexadecimal dump": lambda data: _dump(data, 1),
    "decimal numbers": lambda data: str(list(data)).encode(),
}


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc", b"GET / HTTP/1.1\r\nAuthorization: Bearer "])
def test_each_coding_is_undone(coding: str, before: bytes) -> None:
    packed = b"log: " + CODINGS[coding](before + SECRET + b" and more") + b"\nend"
    assert SECRET not in packed
    found = unpacked.find([SECRET, b"another text"], packed)
    assert list(found) == [SECRET]
    assert f"in {coding.partition(' (')[0]}" in found[SECRET]


def test_base64_behind_characters_of_its_own_alphabet() -> None:
    for before in (b"x", b"xy", b"xyz", b"body"):
        assert unpacked.find([SECRET], before + base64.b64encode(b"a" + SECRET))


@pytest.mark.parametrize("group", [1, 2])
def test_dumps_with_any_offset(group: int) -> None:
    for before in range(16):
        assert unpacked.find([SECRET], _dump(b"." * before + SECRET, group)) == {SECRET: "in a hexadecimal dump"}


def _raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize("separator", [b"", b"\n", b"\0\0\0\x31", b"length::"])
def test_deflate_without_a_header_is_undone_record_by_record(separator: bytes) -> None:
    records = [b"another record, number %d" % number for number in range(100)]
    packed = b"".join(separator + _raw_deflate(record) for record in [*records, b"Bearer " + SECRET])
    assert unpacked.find([SECRET], packed) == {SECRET: "in DEFLATE without a header"}


def test_a_stream_of_deflate_that_was_never_finished_is_undone() -> None:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = b"".join(stream.compress(text) + stream.flush(zlib.Z_SYNC_FLUSH) for text in (b"a line\n" * 9, SECRET))
    assert unpacked.find([SECRET], packed) == {SECRET: "in DEFLATE without a header"}


@pytest.mark.parametrize("coding", ["gzip", "bzip2", "xz", "LZMA"])
def test_a_log_that_is_compressed_line_by_line(coding: str) -> None:
    lines = [CODINGS[coding](b"line %d" % number) for number in range(200)]
    assert unpacked.find([SECRET], b"\n".join([*lines, CODINGS[coding](SECRET)]))


def test_a_member_that_is_not_whole_counts_as_far_as_it_goes() -> None:
    noise = random.Random(1).randbytes(100_000)
    packed = gzip.compress(b"a" * 50 + SECRET + noise)
    assert unpacked.find([SECRET], packed[:90_000])


def test_codings_in_each_other_are_undone_up_to_a_depth() -> None:
    packed = SECRET
    for _ in range(unpacked.DEEPEST):
        packed = base64.b64encode(packed)
    assert unpacked.find([SECRET], packed) == {SECRET: " ".join(["in base64"] * unpacked.DEEPEST)}
    assert not unpacked.find([SECRET], base64.b64encode(packed))


def test_how_a_text_lies_there_is_told_from_the_inside_out() -> None:
    record = json.dumps({"body_b64": base64.b64encode(gzip.compress(b"x" * 30 + SECRET)).decode()}).encode()
    assert unpacked.find([SECRET], record) == {SECRET: "in gzip in base64"}
    assert unpacked.find([SECRET], b"x" + SECRET) == {SECRET: "as it is"}


def test_what_comes_out_is_bounded() -> None:
    bombs = gzip.compress(bytes(unpacked.MOST_BYTES // 8)) * 12
    decoded = [len(layer.data) for layer in unpacked.layers(bombs)]
    assert len(decoded) > 2
    assert sum(decoded) <= unpacked.MOST_BYTES + len(bombs)


def test_bytes_without_sense_are_no_error_and_hold_nothing() -> None:
    chance = random.Random(2)
    for start in (b"\x1f\x8b\x08", b"\x78\x9c", b"PK\x03\x04", b"BZh91AY&SY", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"):
        assert not unpacked.find([SECRET], start * 100 + chance.randbytes(10_000))
