"""Where functions are in files: ELF, Go's table, the kernel's types; and what a file has of TLS."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapper.errors import TapperError
from tapper.uprobe import golang
from tapper.uprobe.btf import Btf, of_kernel
from tapper.uprobe.elf import Elf, Read
from tapper.uprobe.readable import (
    MappedFile,
    Mounts,
    judge,
    judge_program,
    mapped_files,
    may_have_tls,
)

MACHINE = os.uname().machine
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}[MACHINE]


def reading(data: bytes) -> Read:
    return lambda at, size: data[at : at + size]


def elf(*sections: tuple[bytes, int, bytes, int], loaded_at: int = 0x400000, shift: int = 0) -> bytes:
    """A file with these sections (name, type, contents, link), which is loaded as a whole. `shift` is how far addresses
    and offsets differ besides."""
    names = b"\0" + b"".join(name + b"\0" for name, *_ in sections) + b".names\0"
    sections = (*sections, (b".names", 3, names, 0))
    body, places = bytearray(64 + 56), []
    for _, _, contents, _ in sections:
        places.append(len(body))
        body += contents + bytes(-len(contents) % 8)
    headers = bytearray(64)
    for (name, kind, contents, link), place in zip(sections, places, strict=True):
        at = names.index(b"\0" + name + b"\0") + 1
        address = loaded_at + place
        headers += struct.pack("<IIQQQQIIQQ", at, kind, 0, address, place, len(contents), link, 0, 0, 0)
    count = len(sections) + 1
    body[:64] = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, ELF_MACHINE, 1, 0, 64, len(body), 0, 64, 56, 1, 64, count, count - 1
    )
    body[64:120] = struct.pack("<IIQQQQQQ", 1, 5, 0, loaded_at, 0, len(body), len(body), 4096)
    return bytes(body + headers)


def symbols(*functions: tuple[bytes, int, int], kind: int = 11) -> list[tuple[bytes, int, bytes, int]]:
    """Sections with symbols: name, address, type. 11 are dynamic symbols, 2 others."""
    text = b"\0" + b"".join(name + b"\0" for name, *_ in functions)
    table = bytes(24) + b"".join(
        struct.pack("<IBBHQQ", text.index(b"\0" + name + b"\0") + 1, 16 | what, 0, 1, address, 9)
        for name, address, what in functions
    )
    return [(b".strings", 3, text, 0), (b".symbols", kind, table, 1)]


def openssl(*names: bytes) -> bytes:
    return elf(*symbols(*((name, 0x400050 + n, 2) for n, name in enumerate(names or (b"SSL_read", b"SSL_write")))))


# ELF.


def test_functions_are_found_where_the_loader_finds_them() -> None:
    """In this process's C library: the loader's answer is the address in memory."""
    libc = ctypes.CDLL(None)
    for file in mapped_files(Path("/proc/self/maps").read_bytes()):
        if not file.name.startswith("libc.so"):
            continue
        data = Path(file.path).read_bytes()
        found = Elf(reading(data), MACHINE).functions({b"strxfrm", b"malloc", b"nothing_of_that_name"})
        assert found.keys() == {b"strxfrm", b"malloc"}
        for name, offset in found.items():
            address = ctypes.cast(getattr(libc, name.decode()), ctypes.c_void_p).value or 0
            assert ctypes.string_at(address, 8) == data[offset : offset + 8]
        return
    pytest.skip("this Python has no libc.so of glibc")


def test_only_functions_of_these_very_names() -> None:
    data = elf(*symbols((b"SSL_read", 0x400050, 2), (b"xSSL_write", 0x400058, 2), (b"SSL_free", 0x400060, 1)))
    found = Elf(reading(data), MACHINE).functions({b"SSL_read", b"SSL_write", b"SSL_free"})
    assert found == {b"SSL_read": 0x50}, "the end of another name, and an object that is no function"


def test_other_symbols_count_where_there_are_no_dynamic_ones() -> None:
    data = elf(*symbols((b"SSL_read", 0x400050, 2), kind=2))
    assert Elf(reading(data), MACHINE).functions({b"SSL_read"}) == {b"SSL_read": 0x50}


def test_other_machines_and_other_files() -> None:
    other = bytearray(openssl())
    other[18] = 40
    for data in (b"", b"#!/bin/sh\n", b"\x7fELF\2\1", bytes(other)):
        with pytest.raises(ValueError, match="ELF"):
            Elf(reading(data), MACHINE)


@given(st.integers(0, 10_000), st.binary(min_size=1, max_size=8), st.booleans())
def test_damage_raises_nothing_else(at: int, noise: bytes, cut: bool) -> None:
    data = bytearray(GO if at % 2 else openssl())
    at %= len(data)
    data[at : at + len(noise)] = noise
    raw = bytes(data[:at] if cut else data)
    judge("libssl.so.3", reading(raw), MACHINE)


# Go.


def variable(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def change(amount: int) -> bytes:
    return variable(amount << 1 if amount >= 0 else ~amount << 1 | 1)


def go_program(*, text_in_table: bool) -> bytes:
    """A program with the functions main.main and crypto/tls.(*Conn).Read. The latter begins at 16 bytes after the
    text's beginning, has a frame of 40 bytes from 24 on, and returns at 40 and at 60; 50 has no frame and is no
    return."""
    quantum = 1 if MACHINE == "x86_64" else 4
    ret = b"\xc3" if MACHINE == "x86_64" else b"\xc0\x03\x5f\xd6"
    code = bytearray(b"\x90" * 96)
    for at in (16 + 40, 16 + 60):
        code[at : at + len(ret)] = ret
    names = b"\0main.main\0crypto/tls.(*Conn).Read\0"
    runs = [(0, 24), (40, 16), (0, 4), (40, 6 if quantum == 1 else 4), (0, 4), (40, 6), (0, 4)]
    size, frames = -1, bytearray(b"\0")
    for frame, length in runs:
        frames += change(frame - size) + variable(length // quantum)
        size = frame
    frames += b"\0"
    records, entries = bytearray(), bytearray()
    for offset, name in ((0, b"main.main"), (16, b"crypto/tls.(*Conn).Read")):
        entries += struct.pack("<II", offset, 2 * 8 + 4 + len(records))
        records += struct.pack("<IiiII", offset, names.index(b"\0" + name) + 1, 0, 0, 1)
    entries += struct.pack("<I", 96)
    at = 72
    offsets = []
    for part in (names, b"", b"", frames, entries + records):
        offsets.append(at)
        at += len(part)
    # The text is the first section, after the headers.
    text = 0x400000 + 120 if text_in_table else 0
    head = struct.pack("<I2xBB8Q", 0xFFFFFFF1, quantum, 8, 2, 0, text, *offsets)
    return elf((b".text", 1, bytes(code), 0), (b".gopclntab", 1, head + names + frames + entries + records, 0))


GO = go_program(text_in_table=True)


@pytest.mark.skipif(MACHINE != "x86_64", reason="the lengths of the runs are those of x86-64")
@pytest.mark.parametrize("text_in_table", [True, False])
def test_go_functions_begin_and_return(text_in_table: bool) -> None:
    found = golang.functions(
        Elf(reading(go_program(text_in_table=text_in_table)), MACHINE), {b"crypto/tls.(*Conn).Read"}
    )
    function = golang.GoFunction(120 + 16, (120 + 16 + 40, 120 + 16 + 60))
    assert found == {b"crypto/tls.(*Conn).Read": function}


def test_other_programs_have_no_go_functions() -> None:
    assert golang.functions(Elf(reading(openssl()), MACHINE), {b"main.main"}) is None
    damaged = GO.replace(struct.pack("<I", 0xFFFFFFF1), struct.pack("<I", 0xFFFFFFFB))
    assert golang.functions(Elf(reading(damaged), MACHINE), {b"main.main"}) is None


# The kernel's types.


def btf(*types: bytes, names: bytes) -> bytes:
    body = b"".join(types)
    return struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(names)) + body + names


def test_members_of_structs() -> None:
    """Through pointers' and other names' types, structs within structs, unions without a name, and bit fields."""
    names = b"\0sock\0common\0port\0flag\0sk\0"
    place = {name: names.index(b"\0" + name.encode() + b"\0") + 1 for name in ("sock", "common", "port", "flag", "sk")}

    def struct_of(name: int, kind: int, *members: tuple[int, int, int], flag: int = 0) -> bytes:
        head = struct.pack("=III", name, flag << 31 | kind << 24 | len(members), 64)
        return head + b"".join(struct.pack("=III", *member) for member in members)

    integer = struct.pack("=IIII", 0, 1 << 24, 4, 32)
    union = struct_of(0, 5, (place["port"], 1, 0), flag=1)
    common = struct_of(place["common"], 4, (place["flag"], 1, 8 << 24 | 32), (0, 2, 64), flag=1)
    alias = struct.pack("=III", place["common"], 8 << 24, 3)
    sock = struct_of(place["sock"], 4, (place["sk"], 1, 0), (place["common"], 4, 128))
    types = Btf(btf(integer, union, common, alias, sock, names=names))
    assert types.offset("sock.sk") == 0
    assert types.offset("sock.common.flag") == 16 + 4
    assert types.offset("sock.common.port") == 16 + 8
    for path in ("sock.nothing", "nothing.sk", "sock.sk.sk"):
        with pytest.raises(TapperError, match=f"no {path}, so --tls cannot run"):
            types.offset(path)


def test_a_kernel_without_type_information(tmp_path: Path) -> None:
    with pytest.raises(TapperError, match="CONFIG_DEBUG_INFO_BTF"):
        of_kernel(tmp_path / "vmlinux")
    for data in (b"", b"\xeb\x9f", bytes(100)):
        with pytest.raises(TapperError, match="type information"):
            Btf(data)


# What a file has of TLS.

MAPS = b"""\
00400000-00401000 r--p 00000000 fe:00 7 /usr/bin/app
00401000-00500000 r-xp 00001000 fe:00 7 /usr/bin/app
7f0000000000-7f0000100000 r-xp 00002000 00:2a 9 /usr/lib/libssl.so.3 (deleted)
7f0000200000-7f0000300000 r-xp 00002000 00:2a 9 /usr/lib/libssl.so.3 (deleted)
7f0000400000-7f0000500000 r-xp 00000000 00:2b 11 /a b/libz.so.1
7f0000600000-7f0000700000 rwxp 00000000 00:00 0
7ffc00000000-7ffc00001000 r-xp 00000000 00:00 0 [vdso]
"""


def test_mapped_files() -> None:
    app, ssl, other = mapped_files(MAPS)
    assert app == MappedFile("401000-500000", "fe:00", 7, "/usr/bin/app"), "as it is named in map_files"
    assert (ssl.name, ssl.device, ssl.inode) == ("libssl.so.3", "00:2a", 9)
    assert other.path == "/a b/libz.so.1"
    assert [may_have_tls(file, "/usr/bin/app") for file in (app, ssl, other)] == [True, True, False]
    many = b"".join(b"1000-2000 r-xp 0 fe:00 %d /x\n" % inode for inode in range(1, 2000))
    assert len(list(mapped_files(many))) == 512


def test_mounts() -> None:
    mounts = b"21 1 254:0 / / rw - ext4 /dev/vda rw\n40 21 0:43 / /mnt rw,relatime shared:5 - fuse.sshfs x rw\n"
    assert Mounts.parse(mounts) == Mounts(21, frozenset({"00:2b"}))
    assert Mounts.parse(mounts.replace(b" /mnt ", b" / ")).root is None, "the last one is seen"
    assert Mounts.parse(b"") == Mounts(None, frozenset())


def test_libraries_that_can_be_read() -> None:
    for name, data, library in (
        ("libssl.so.3", openssl(), "openssl"),
        ("node", openssl(b"SSL_read", b"SSL_write_ex", b"SSL_free"), "openssl"),
        ("libgnutls.so.30", openssl(b"gnutls_record_recv"), "gnutls"),
        ("app", GO, "go"),
    ):
        verdict = judge(name, reading(data), MACHINE)
        assert verdict is not None
        assert (verdict.library, verdict.reason) == (library, None)
        assert verdict.places


@pytest.mark.parametrize(
    ("name", "library", "part"),
    [
        ("envoy", "BoringSSL", "read on the pod's lo"),
        ("cygrpc.cpython-311-x86_64-linux-gnu.so", "BoringSSL", "gRPC"),
        ("libssl.so.1.1", "OpenSSL", "no symbols"),
        ("libssl3.so", "NSS", "no program"),
        ("libjvm.so", "JSSE", "Java"),
        ("libmbedtls.so.14", "Mbed TLS", "no program"),
    ],
)
def test_libraries_that_cannot_be_read(name: str, library: str, part: str) -> None:
    verdict = judge(name, reading(openssl(b"other_function")), MACHINE)
    assert verdict is not None
    assert verdict.library == library
    assert part in (verdict.reason or "")


def test_files_without_tls() -> None:
    assert judge("app", reading(openssl(b"SSL_reader")), MACHINE) is None
    assert judge("libssl.so.3", reading(b"no ELF"), MACHINE) is None
    assert judge("app", reading(GO.replace(b"tls.(*Conn).Read", b"tls.(*Conn).Rust")), MACHINE) is None


@pytest.mark.parametrize(
    ("mark", "library"),
    [
        (b"/rustls-0.23.5/src/conn.rs", "rustls"),
        (b"OpenSSL 3.0.13 30 Jan 2024", "OpenSSL"),
        (b"..BoringSSL..", "BoringSSL"),
        (b"nothing", None),
    ],
)
def test_libraries_within_a_program(mark: bytes, library: str | None) -> None:
    """Also where the mark lies across two pieces that are read."""
    for at in (0, (1 << 22) - 7):
        verdict = judge_program(reading(bytes(at) + mark + bytes(100)))
        assert (None if verdict is None else verdict.library) == library
