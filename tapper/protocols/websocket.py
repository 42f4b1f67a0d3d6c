"""WebSocket after an upgrade from HTTP/1: frames of both directions become messages (RFC 6455).

Frames have no mark to find them by, so a direction in which bytes were lost, or that breaks the rules, is not read any
further: it says so once, by a message that is truncated. A hole inside a payload costs that message only.

Messages compressed by permessage-deflate (RFC 7692) are inflated as far as they are kept, while all that the
decompressor needs was seen; else they are shown as they came.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.headers import Headers
from tapper.protocols.messages import BODY_LIMIT
from tapper.streams.reassembly import Data

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
"""Names of those that begin a message."""
_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_FIN, _COMPRESSED, _RESERVED, _MASKED = 0x80, 0x40, 0x30, 0x80
_LONGEST_CONTROL = 125
_FLUSHED = b"\x00\x00\xff\xff"  # what a sender leaves out at a message's end (RFC 7692 section 7.2.1)
_INFLATED_AT_ONCE = 16 * 1024
_INFLATED_LIMIT = 16 << 20  # of one message; what needs more is not inflated further


class _Message:
    """A message in progress: payload bytes kept and counted, unmasked, perhaps compressed."""

    __slots__ = ("body", "compressed", "holed", "opcode", "raw", "size", "ts")

    def __init__(self, opcode: int, ts: int, *, compressed: bool = False, raw: bool = False) -> None:
        self.opcode = opcode
        self.ts = ts
        self.compressed = compressed
        self.raw = raw
        """Compressed, and shown so."""
        self.body = bytearray()
        self.size = 0
        self.holed = False


class _Inflater:
    """One direction's decompressor. Its window is what came before, so every byte has to pass through it; of what comes
    out no more is kept than the limit."""

    def __init__(self) -> None:
        self._engine = zlib.decompressobj(-zlib.MAX_WBITS)  # fits every smaller window, too
        self.broken = False

    def feed(self, data: bytes, message: _Message) -> None:
        """Add what the bytes inflate to, in bounded steps."""
        try:
            while data and not self.broken:
                piece = self._engine.decompress(data, _INFLATED_AT_ONCE)
                message.size += len(piece)
                message.body += piece[: max(0, BODY_LIMIT - len(message.body))]
                data = self._engine.unconsumed_tail
                if self._engine.eof:  # a final block, after which another stream begins (section 7.2.3.4)
                    data = self._engine.unused_data
                    self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
                self.broken = message.size > _INFLATED_LIMIT
        except zlib.error:
            self.broken = True
        message.holed |= self.broken


class _Direction:
    """Frames of one side."""

    def __init__(self, *, client: bool, deflate: bool, fresh: bool) -> None:
        self._side = "client" if client else "server"
        self._deflate = deflate
        self._inflater = _Inflater() if deflate else None
        self._fresh = fresh
        """Whether the sender begins every message with an empty window."""
        self._lost = False
        self._partial = b""
        self._message: _Message | None = None  # text or binary, over several frames
        self._current: _Message | None = None  # of the frame being read
        self._final = False
        self._remaining = 0
        self._mask = b""
        self._position = 0  # in the payload, for the mask

    @property
    def held(self) -> int:
        messages = {id(it): it for it in (self._message, self._current) if it is not None}
        return sum(len(message.body) for message in messages.values()) + len(self._partial)

    def feed(self, data: bytes, ts: int) -> Iterator[WebSocketMessage]:
        if self._lost:
            return
        data, at = self._partial + data, 0  # a frame's header, at most 14 octets
        self._partial = b""
        while at < len(data) or (self._current is not None and not self._remaining):
            if self._current is None:
                size = _header_size(data, at)
                if len(data) - at < size:
                    self._partial = data[at:]
                    return
                if not self._begin(data[at : at + size], ts):
                    yield from self._give_up(ts)
                    return
                at += size
                continue
            stop = min(at + self._remaining, len(data))
            self._take(self._current, data[at:stop])
            self._remaining -= stop - at
            at = stop
            if not self._remaining:
                message, self._current = self._current, None
                if self._final:
                    yield self._done(message)

    def gap(self, size: int | None, ts: int) -> Iterator[WebSocketMessage]:
        message = self._current
        if self._lost:
            return
        if message is None or size is None or size > self._remaining:
            yield from self._give_up(ts)
            return
        message.holed = True
        message.size += size
        self._remaining -= size
        if message.compressed and not self._fresh:
            self._inflater = None  # its window is not known any more
        if not self._remaining:
            self._current = None
            if self._final:
                yield self._done(message)

    def finish(self) -> Iterator[WebSocketMessage]:
        """Nothing more will come: what has begun comes out truncated."""
        for message in (self._current, self._message):
            if message is not None:
                message.holed = True
        if self._current is not None and self._current is not self._message:
            yield self._told(self._current)
        if self._message is not None:
            yield self._told(self._message)
        self._current = self._message = None
        self._partial = b""

    def _begin(self, header: bytes, ts: int) -> bool:
        """A frame's header; False where it breaks the rules."""
        first, opcode = header[0], header[0] & 0x0F
        self._final = bool(first & _FIN)
        compressed = bool(first & _COMPRESSED)
        length, masked = header[1] & 0x7F, bool(header[1] & _MASKED)
        if length > _LONGEST_CONTROL:
            length = int.from_bytes(header[2 : 4 if length == 126 else 10], "big")
        control = opcode >= CLOSE
        if opcode not in _KNOWN or first & _RESERVED or masked != (self._side == "client"):
            return False
        if control and (length > _LONGEST_CONTROL or not self._final or compressed):
            return False
        if not control and (opcode == CONTINUATION) != (self._message is not None):
            return False
        if compressed and (not self._deflate or opcode == CONTINUATION):
            return False
        self._mask = header[-4:] if masked else b""
        self._remaining, self._position = length, 0
        if control:
            self._current = _Message(opcode, ts)
        else:
            if self._message is None:
                if compressed and self._fresh:
                    self._inflater = _Inflater()
                raw = compressed and (self._inflater is None or self._inflater.broken)
                self._message = _Message(opcode, ts, compressed=compressed, raw=raw)
            self._current = self._message
        return True

    def _take(self, message: _Message, payload: bytes) -> None:
        """Payload as it came."""
        inflater = self._inflater if message.compressed and not message.raw else None
        room = BODY_LIMIT - len(message.body)
        if inflater is None and (room <= 0 or message.holed):
            message.size += len(payload)
            self._position += len(payload)
            return
        if self._mask:
            payload = _unmask(payload, self._mask, self._position)
        self._position += len(payload)
        if inflater is None:
            message.body += payload[:room]
            message.size += len(payload)
        elif not message.holed:
            inflater.feed(payload, message)

    def _done(self, message: _Message) -> WebSocketMessage:
        if message is self._message:
            self._message = None
            if message.compressed and self._inflater is not None and not (message.raw or message.holed):
                self._inflater.feed(_FLUSHED, message)
        return self._told(message)

    def _told(self, message: _Message) -> WebSocketMessage:
        truncated = message.holed or message.size > len(message.body)
        body = bytes(message.body)
        return WebSocketMessage(message.ts, self._side, message.opcode, message.size, body, truncated, message.raw)

    def _give_up(self, ts: int) -> Iterator[WebSocketMessage]:
        """This side is not read any further."""
        if self._current is None and self._message is None:
            self._message = _Message(CONTINUATION, ts)
        yield from self.finish()
        self._lost = True


class WebSocket:
    """Both directions, from the first byte after the 101, whose headers and time these are. Methods return messages, in
    order; nothing raises, whatever the bytes are."""

    def __init__(self, client: int, server_headers: Headers, ts: int = 0) -> None:
        extensions = ",".join(value for name, value in server_headers if name.lower() == "sec-websocket-extensions")
        deflate = "permessage-deflate" in extensions.lower()
        sides = []
        for side in (0, 1):
            role = "client" if side == client else "server"
            fresh = f"{role}_no_context_takeover" in extensions.lower()
            sides.append(_Direction(client=side == client, deflate=deflate, fresh=fresh))
        self._sides = tuple(sides)
        self._ts = ts

    @property
    def held(self) -> int:
        """Bytes kept in unfinished messages."""
        return sum(side.held for side in self._sides)

    def data(self, side: int, chunk: Data) -> list[WebSocketMessage]:
        self._ts = chunk.ts
        return list(self._sides[side].feed(chunk.data, chunk.ts))

    def gap(self, side: int, size: int | None) -> list[WebSocketMessage]:
        return list(self._sides[side].gap(size, self._ts))

    def finish(self) -> list[WebSocketMessage]:
        """Nothing more will come."""
        return [message for side in self._sides for message in side.finish()]


def _header_size(data: bytes, at: int) -> int:
    """Octets of a frame's header, as far as its second octet tells (section 5.2)."""
    if len(data) - at < 2:
        return 2
    second = data[at + 1]
    return 2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & _MASKED else 0)


def _unmask(payload: bytes, mask: bytes, position: int) -> bytes:
    """Section 5.3, all octets at once."""
    turn = position % 4
    key = (mask[turn:] + mask[:turn]) * (len(payload) // 4 + 1)
    size = len(payload)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")
