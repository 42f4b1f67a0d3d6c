"""What a TLS client says before anything is encrypted: the server's name and the protocols it offers.

The ClientHello (RFC 8446 section 4.1.2; older versions begin alike) comes in one or more records (section 5.1), in one
or more segments. All numbers are big-endian.
"""

from __future__ import annotations

from tapper.protocols.facts import Tls

HELLO_LIMIT = 64 * 1024
"""Longest ClientHello waited for. A post-quantum one has about 2 KiB."""

_RECORD_HEADER = 5
_MESSAGE_HEADER = 4
_HANDSHAKE = 0x16
_CLIENT_HELLO, _SERVER_HELLO = 1, 2
_SERVER_NAME, _ALPN = 0, 16  # RFC 6066 section 3, RFC 7301 section 3.1
_HOST_NAME = 0


class _Short(Exception):
    """A length points beyond the end of what it is in."""


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._data):
            raise _Short
        return self._data[start : self._at]

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int) -> _Cursor:
        """What follows its own length of so many octets."""
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
    except _Short:
        return None
    return name, tuple(protocols)


class HelloReader:
    """Waits on both sides of a connection for the ClientHello. The methods return the one fact there is to tell, once.
    Nothing raises, whatever the bytes are."""

    def __init__(self, client: int | None) -> None:
        self.client = client
        """0 or 1; where it is not known yet, a hello tells it."""
        self._ts: int | None = None
        self._told = False
        # Of each side: the beginning of a record's header, bytes left of its payload, the handshake so far.
        self._headers = [b"", b""]
        self._remaining = [0, 0]
        self._handshakes = [bytearray(), bytearray()]
        self._over = [False, False]

    @property
    def held(self) -> int:
        return sum(map(len, self._handshakes))

    def data(self, side: int, data: bytes, ts: int) -> Tls | None:
        if self._ts is None:
            self._ts = ts
        at = 0
        while at < len(data) and not self._told and not self._over[side]:
            if not self._remaining[side]:
                take = _RECORD_HEADER - len(self._headers[side])
                header = self._headers[side] = self._headers[side] + data[at : at + take]
                at += take
                if header[0] != _HANDSHAKE:
                    return self._give_up(side)
                if len(header) == _RECORD_HEADER:
                    self._remaining[side] = int.from_bytes(header[3:], "big")
                    self._headers[side] = b""
                continue
            piece = data[at : at + self._remaining[side]]
            at += len(piece)
            self._remaining[side] -= len(piece)
            self._handshakes[side] += piece
            fact = self._look(side)
            if fact is not None:
                return fact
        return None

    def gap(self, side: int) -> Tls | None:
        return None if self._told else self._give_up(side)

    def finish(self) -> Tls | None:
        """Nothing more will come."""
        return None if self._told else self._tell(None)

    def _look(self, side: int) -> Tls | None:
        handshake = self._handshakes[side]
        if handshake[0] != _CLIENT_HELLO:
            if self.client is None and handshake[0] == _SERVER_HELLO:
                self.client = 1 - side
            return self._give_up(side)
        if len(handshake) < _MESSAGE_HEADER:
            return None
        length = int.from_bytes(handshake[1:_MESSAGE_HEADER], "big")
        if length > HELLO_LIMIT:
            return self._give_up(side)
        if len(handshake) < _MESSAGE_HEADER + length:
            return None
        if self.client is None:
            self.client = side
        if side != self.client:
            return self._give_up(side)
        return self._tell(client_hello(bytes(handshake[_MESSAGE_HEADER : _MESSAGE_HEADER + length])))

    def _give_up(self, side: int) -> Tls | None:
        """This side says no ClientHello any more."""
        self._over[side] = True
        self._handshakes[side].clear()
        return self._tell(None) if side == self.client or all(self._over) else None

    def _tell(self, hello: tuple[str | None, tuple[str, ...]] | None) -> Tls | None:
        self._told = True
        for handshake in self._handshakes:
            handshake.clear()
        name, protocols = hello or (None, ())
        return None if self._ts is None else Tls(self._ts, name, protocols)
