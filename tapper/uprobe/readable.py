"""Which TLS of a process can be read: a decision on what procfs and the files say. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tapper.uprobe import golang
from tapper.uprobe.elf import Elf, Read
from tapper.uprobe.libraries import GNUTLS, GO, LIBRARIES, OPENSSL, Library

LARGEST_MAPS: Final = 1 << 22
"""Bytes of /proc/PID/maps that are read: 40,000 mappings."""
LARGEST_FILE: Final = 1 << 30
_MOST_FILES: Final = 512
_MOST_SEARCHED, _AT_ONCE, _LONGEST_MARK = 1 << 28, 1 << 22, 64

_LINE: Final = re.compile(
    rb"^([0-9a-f]+-[0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+:[0-9a-f]+) ([1-9]\d*) +(/.*)$", re.MULTILINE
)
_MOUNT: Final = re.compile(rb"^(\d+) \d+ (\d+):(\d+) \S+ (\S+) .* - (\w*)", re.MULTILINE)
LIBRARY: Final = re.compile(rb"ssl|gnutls|mbedtls|s2n|rustls|libnss3|libjvm|libnode|grpc|tcnative|conscrypt|^_rust\.")
"""A part of the names of libraries that may have TLS."""

# What a file without the functions of a library that can be read turns out to be: a pattern of its name, the library,
# and why it cannot be read.
_NO_SYMBOLS: Final = "it has no symbols"
_OTHER: Final = "no program knows its functions"
_UNREADABLE: Final = (
    (
        re.compile(r"envoy$"),
        "BoringSSL",
        "Envoy's BoringSSL has no symbols (a sidecar's plaintext is read on the pod's lo)",
    ),
    (re.compile(r"cygrpc|libgrpc"), "BoringSSL", "gRPC's BoringSSL has no symbols"),
    (re.compile(r"^_rust\."), "OpenSSL", "the OpenSSL within cryptography's extension module has no symbols"),
    (re.compile(r"libssl3\.so|libnss3"), "NSS", _OTHER),
    (re.compile(r"libssl"), "OpenSSL", _NO_SYMBOLS),
    (re.compile(r"libgnutls"), "GnuTLS", _NO_SYMBOLS),
    (re.compile(r"libjvm\.so"), "JSSE", "Java does TLS itself, in code that it compiles while it runs"),
    (re.compile(r"libmbedtls"), "Mbed TLS", _OTHER),
    (re.compile(r"libwolfssl"), "wolfSSL", _OTHER),
    (re.compile(r"libs2n"), "s2n", _OTHER),
    (re.compile(r"librustls"), "rustls", _OTHER),
    (re.compile(r"tcnative|conscrypt|boringssl"), "BoringSSL", _NO_SYMBOLS),
)
# The same for a program that has a library within itself: by what only that library's code has in it.
_WITHIN: Final = (
    (re.compile(rb"/rustls-\d"), "rustls", "rustls has no symbols"),
    (re.compile(rb"BoringSSL"), "BoringSSL", _NO_SYMBOLS),
    (
        re.compile(rb"OpenSSL \d\.\d\.\d+\w* +\d+ [A-Z][a-z]{2} 20\d\d"),
        "OpenSSL",
        "it is linked into the program, without symbols",
    ),
)


@dataclass(frozen=True, slots=True)
class MappedFile:
    """A file of which a process has mapped instructions."""

    addresses: str
    """The name of the link to it in /proc/PID/map_files."""
    device: str
    """`major:minor` in hexadecimal digits."""
    inode: int
    path: str
    """As the process named it, in its own root."""

    @property
    def name(self) -> str:
        return self.path.removesuffix(" (deleted)").rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class FunctionPlace:
    """Where programs are attached in a file: the beginning of a function, and where it returns. Returns are None for a
    function whose return address the kernel may replace."""

    entry: int
    returns: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What a file has of TLS."""

    library: str
    reason: str | None = None
    """Why it cannot be read; None if it can."""
    places: tuple[tuple[bytes, FunctionPlace], ...] = ()
    """The functions of the library, by name."""
    known: Library | None = None


def mapped_files(maps: bytes) -> Iterator[MappedFile]:
    """The files in /proc/PID/maps that have instructions, each once, and at most 512."""
    seen: set[tuple[bytes, bytes]] = set()
    for match in _LINE.finditer(maps):
        addresses, device, inode, path = match.groups()
        if (device, inode) not in seen and len(seen) < _MOST_FILES:
            seen.add((device, inode))
            link = b"-".join(part.lstrip(b"0") for part in addresses.split(b"-"))  # map_files pads no numbers
            yield MappedFile(link.decode(), device.decode(), int(inode), os.fsdecode(path))


@dataclass(frozen=True, slots=True)
class Mounts:
    """What a process has mounted. Whoever serves a file system of FUSE can let its reader wait without end."""

    root: int | None
    """The number of the mount that is its root; None for one of FUSE, or where none is."""
    fuse: frozenset[str]
    """The devices of FUSE file systems, as MappedFile has them."""

    @classmethod
    def parse(cls, mountinfo: bytes) -> Mounts:
        """From /proc/PID/mountinfo."""
        root, fuse = None, set()
        for number, major, minor, place, kind in _MOUNT.findall(mountinfo):
            if kind.startswith(b"fuse"):
                fuse.add(f"{int(major):02x}:{int(minor):02x}")
            if place == b"/":
                root = None if kind.startswith(b"fuse") else int(number)
        return cls(root, frozenset(fuse))


def may_have_tls(file: MappedFile, exe: str | None) -> bool:
    """Whether to look into a file: the program, and libraries by their names."""
    return file.path == exe or LIBRARY.search(os.fsencode(file.name)) is not None


def judge(name: str, read: Read, machine: str) -> FileVerdict | None:
    """What a file has of TLS; None for nothing. A program that has a TLS library within itself is not recognised here,
    but by `judge_program`."""
    try:
        elf = Elf(read, machine)
    except ValueError:
        return None
    # 1. Libraries that can be read.
    for library in (OPENSSL, GNUTLS):
        found = elf.functions(library.functions)
        if found.keys() & library.calls.keys():
            places = tuple((function, FunctionPlace(entry)) for function, entry in sorted(found.items()))
            return FileVerdict(library.name, None, places, library)
    go = golang.functions(elf, GO.functions)
    if go is not None:
        places = tuple((function, FunctionPlace(it.entry, it.returns)) for function, it in sorted(go.items()))
        return FileVerdict(GO.name, None, places, GO) if go.keys() & GO.calls.keys() else None
    # 2. Others, by their names.
    for pattern, other, reason in _UNREADABLE:
        if pattern.search(name):
            return FileVerdict(other, reason)
    return None


def judge_program(read: Read) -> FileVerdict | None:
    """What a program has of TLS that maps no TLS library and has no known functions."""
    before = b""
    for at in range(0, _MOST_SEARCHED, _AT_ONCE):
        piece = before + read(at, _AT_ONCE)
        if len(piece) == len(before):
            break
        for pattern, library, reason in _WITHIN:
            if pattern.search(piece):
                return FileVerdict(library, reason)
        before = piece[-_LONGEST_MARK:]
    return None


assert LIBRARIES == (OPENSSL, GNUTLS, GO), "judge knows every library"
