"""The TLS libraries that can be read, and what the programs do at which of their functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tapper.uprobe.layout import RecordKind, Role
from tapper.uprobe.programs import CallProgram, Function


@dataclass(frozen=True, slots=True)
class Library:
    """A library. Its number in a record is its place in LIBRARIES, from 1."""

    name: str
    """As records have it in `plaintext`."""
    calls: dict[bytes, tuple[RecordKind, bool]]
    """Functions that read, write or shake hands; whether they return the number of bytes by a pointer."""
    begins: dict[bytes, tuple[Role, bool]] = field(default_factory=dict)
    """Functions that tell the role of a connection; whether an object that was used becomes another connection."""
    frees: frozenset[bytes] = frozenset()
    """Functions that end a connection."""
    go: bool = False

    @property
    def functions(self) -> frozenset[bytes]:
        return frozenset({*self.calls, *self.begins, *self.frees})


_CLIENT, _SERVER = Role.FROM_START | Role.CLIENT, Role.FROM_START | Role.SERVER

OPENSSL: Final = Library(
    "openssl",
    {
        b"SSL_read": (RecordKind.READ, False),
        b"SSL_read_ex": (RecordKind.READ, True),
        b"SSL_write": (RecordKind.WRITE, False),
        b"SSL_write_ex": (RecordKind.WRITE, True),
        b"SSL_sendfile": (RecordKind.WRITE, False),  # has a descriptor for a buffer: what cannot be read is a gap
        b"SSL_do_handshake": (RecordKind.HANDSHAKE, False),
    },
    {
        b"SSL_set_connect_state": (_CLIENT, True),
        b"SSL_set_accept_state": (_SERVER, True),
        b"SSL_connect": (_CLIENT, False),
        b"SSL_accept": (_SERVER, False),
    },
    frozenset({b"SSL_free"}),
)
GNUTLS: Final = Library(
    "gnutls",
    {
        b"gnutls_record_recv": (RecordKind.READ, False),
        b"gnutls_record_send": (RecordKind.WRITE, False),
        b"gnutls_record_send2": (RecordKind.WRITE, False),
        b"gnutls_handshake": (RecordKind.HANDSHAKE, False),
    },
    frees=frozenset({b"gnutls_deinit"}),
)
_CONN = b"crypto/tls.(*Conn)."
GO: Final = Library(
    "go",
    {_CONN + b"Read": (RecordKind.READ, False), _CONN + b"Write": (RecordKind.WRITE, False)},
    {_CONN + b"clientHandshake": (_CLIENT, True), _CONN + b"serverHandshake": (_SERVER, True)},
    frozenset({_CONN + b"Close"}),
    go=True,
)
LIBRARIES: Final = (OPENSSL, GNUTLS, GO)
NAMES: Final = ("", *(library.name for library in LIBRARIES))
"""The names by the libraries' numbers."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A program at a function: at its beginning, or where it returns."""

    name: bytes
    code: bytes
    returning: bool = False


def probes(library: Library, program: Callable[[], CallProgram]) -> Iterator[Probe]:
    """What is attached to the functions of a library, by new programs. Functions that do the same have the same code.
    What ends a call comes first: a call without an end would stay."""
    number = LIBRARIES.index(library) + 1
    functions = {name: Function(kind, number, pointer, library.go) for name, (kind, pointer) in library.calls.items()}
    for name in sorted(library.frees):
        yield Probe(name, program().freed(go=library.go))
    for name, function in functions.items():
        yield Probe(name, program().returned(function), returning=True)
    for name, (role, anew) in library.begins.items():
        yield Probe(name, program().go_handshake(role) if library.go else program().begins(role, anew=anew))
    for name, function in functions.items():
        yield Probe(name, program().called(function))
