"""Reads a TLS client's ClientHello, which is not encrypted: the server's name and the protocols that it offers.

A ClientHello (RFC 8446 section 4.1.2; older versions begin alike) is in one or more records (section 5.1), in one or
more segments. All numbers are big-endian.
"""

from __future__ import annotations

from collections.abc import Sequence

from tapper.protocols.connection_reader import ConnectionReader
from tapper.protocols.facts import Tls
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.streams.reassembly import Data

HELLO_LIMIT = 64 * 1024
"""Longest ClientHello that is read, in bytes with the headers of its records. A post-quantum one has about 2 KiB."""

_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_HANDSHAKE = b"\x16"  # the type of a record
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SERVER_NAME, _ALPN = 0, 16  # RFC 6066 section 3, RFC 7301 section 3.1
_HOST_NAME = 0


class _TooShort(Exception):
    """A length points beyond the end of the vector that it is in."""


class _Cursor:
    """Takes a message apart from its beginning. The methods raise _TooShort."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise _TooShort
        return self._data[start : self._at]

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int) -> _Cursor:
        """The bytes after a length of so many octets (RFC 8446 section 3.4)."""
        return _Cursor(self.take(self.number(octets)))

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)


def client_hello(body: bytes) -> tuple[str | None, tuple[str, ...]] | None:
    """(server name, protocols) of a ClientHello's body; None where it is malformed. Bytes as latin-1 characters."""
    hello = _Cursor(body)
    name: str | None = None
    protocols: list[str] = []
    try:
        hello.take(2 + 32)  # version, random
        hello.vector(1)  # session id
        hello.vector(2)  # cipher suites
        hello.vector(1)  # compression methods
        extensions = hello.vector(2) if hello.more else _Cursor(b"")
        while extensions.more:
            kind, extension = extensions.number(2), extensions.vector(2)
            if kind == _SERVER_NAME:
                names = extension.vector(2)
                while names.more:
                    is_host, entry = names.number(1) == _HOST_NAME, names.vector(2)
                    name = entry.rest().decode("latin-1") if is_host and name is None else name
            elif kind == _ALPN:
                offered = extension.vector(2)
                while offered.more:
                    protocols.append(offered.vector(1).rest().decode("latin-1"))
    except _TooShort:
        return None
    return name, tuple(protocols)


def _handshake(data: bytes) -> tuple[bytes, bool]:
    """The handshake messages in the records with which a side begins, as far as they have come; and whether the next
    record may have more."""
    messages, at = b"", 0
    while data[at : at + 1] == _HANDSHAKE and at + _RECORD_HEADER <= len(data):
        stop = at + _RECORD_HEADER + int.from_bytes(data[at + 3 : at + _RECORD_HEADER], "big")
        messages += data[at + _RECORD_HEADER : stop]
        at = min(stop, len(data))
    return messages, data[at : at + 1] in (b"", _HANDSHAKE)


class HelloReader(ConnectionReader):
    """Waits for the ClientHello on the client's side, or on both while the client is not known. Makes one fact: at the
    ClientHello, or when none can come any more."""

    __slots__ = ("_needed", "_sides", "_told", "_ts")

    def __init__(self, client: int | None) -> None:
        super().__init__(client)
        self._ts: int | None = None
        self._told = False
        self._sides: list[bytearray | None] = [bytearray(), bytearray()]
        """The first bytes of each side; None for one that cannot send a ClientHello any more."""
        self._needed = [1, 1]
        """The number of bytes of each side that may suffice."""

    @property
    def held(self) -> int:
        return sum(len(begun) for begun in self._sides if begun is not None)

    def data(self, side: int, chunk: Data) -> Sequence[Tls]:
        if self._ts is None:
            self._ts = chunk.ts
        begun = self._sides[side]
        if begun is None:
            return ()
        begun += chunk.data
        if len(begun) < self._needed[side]:
            return ()
        messages, goes_on = _handshake(bytes(begun))
        # 1. Which message is it? The side of a ServerHello is the server's.
        if messages and messages[0] != _CLIENT_HELLO:
            if self.client is None and messages[0] == _SERVER_HELLO:
                self.client = 1 - side
            return self._give_up(side)
        # 2. Wait for all of it.
        end = _MESSAGE_HEADER + int.from_bytes(messages[1:_MESSAGE_HEADER], "big")
        if len(messages) < end:
            self._needed[side] = len(begun) + end - len(messages)
            return () if goes_on and self._needed[side] <= HELLO_LIMIT else self._give_up(side)
        # 3. Read it.
        if self.client is None:
            self.client = side
        if side != self.client:
            return self._give_up(side)
        return self._conclude(client_hello(messages[_MESSAGE_HEADER:end]))

    def gap(self, side: int, size: int | None) -> Sequence[Tls]:  # noqa: ARG002
        return self._give_up(side)

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> Sequence[Tls]:  # noqa: ARG002
        return self._conclude(None)

    def _give_up(self, side: int) -> Sequence[Tls]:
        self._sides[side] = None
        return self._conclude(None) if side == self.client or self._sides == [None, None] else ()

    def _conclude(self, hello: tuple[str | None, tuple[str, ...]] | None) -> Sequence[Tls]:
        """The fact, unless it was made before or no byte was captured."""
        self._sides = [None, None]
        if self._told or self._ts is None:
            return ()
        self._told = True
        name, protocols = hello or (None, ())
        return (Tls(self._ts, name, protocols),)
