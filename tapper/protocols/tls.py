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
"""Longest ClientHello that is read, in bytes. A post-quantum one has about 2 KiB."""

_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_HANDSHAKE = 0x16
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


class _Handshake:
    """One side's handshake messages: the payloads of its first records."""

    __slots__ = ("_header", "_remaining", "messages")

    def __init__(self) -> None:
        self._header = b""  # the beginning of a record's header
        self._remaining = 0  # bytes of the current record that have not come
        self.messages = bytearray()

    def feed(self, data: bytes) -> bool:
        """False once a record is of another type."""
        at = 0
        while at < len(data):
            if self._remaining:
                piece = data[at : at + self._remaining]
                self.messages += piece
                self._remaining -= len(piece)
            else:
                piece = data[at : at + _RECORD_HEADER - len(self._header)]
                self._header += piece
                if self._header[0] != _HANDSHAKE:
                    return False
                if len(self._header) == _RECORD_HEADER:
                    self._remaining = int.from_bytes(self._header[3:], "big")
                    self._header = b""
            at += len(piece)
        return True


class HelloReader(ConnectionReader):
    """Waits for the ClientHello on the client's side, or on both while the client is not known. Makes one fact: at the
    ClientHello, or when none can come any more."""

    __slots__ = ("_sides", "_told", "_ts")

    def __init__(self, client: int | None) -> None:
        super().__init__(client)
        self._ts: int | None = None
        self._told = False
        self._sides: list[_Handshake | None] = [_Handshake(), _Handshake()]
        """None for a side that cannot send a ClientHello any more."""

    @property
    def held(self) -> int:
        return sum(len(side.messages) for side in self._sides if side is not None)

    def data(self, side: int, chunk: Data) -> Sequence[Tls]:
        if self._ts is None:
            self._ts = chunk.ts
        handshake = self._sides[side]
        if handshake is None:
            return ()
        goes_on = handshake.feed(chunk.data)
        messages = handshake.messages
        # 1. Which message is it? The side of a ServerHello is the server's.
        if messages and messages[0] != _CLIENT_HELLO:
            if self.client is None and messages[0] == _SERVER_HELLO:
                self.client = 1 - side
            return self._give_up(side)
        # 2. Wait for all of it.
        length = int.from_bytes(messages[1:_MESSAGE_HEADER], "big")
        end = _MESSAGE_HEADER + length
        if len(messages) < end:
            too_long = len(messages) >= _MESSAGE_HEADER and length > HELLO_LIMIT
            return () if goes_on and not too_long else self._give_up(side)
        # 3. Read it.
        if self.client is None:
            self.client = side
        if side != self.client:
            return self._give_up(side)
        return self._conclude(client_hello(bytes(messages[_MESSAGE_HEADER:end])))

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
