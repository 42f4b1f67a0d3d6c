"""WebSocket after an upgrade from HTTP/1: frames of both directions become messages (RFC 6455).

A frame has no mark by which its beginning could be found again. So a direction is not read any further once bytes
between payloads are lost or a frame breaks the rules; a last message, which is truncated, says so. Bytes that are lost
inside a payload cost only that message.

Messages that are compressed by permessage-deflate (RFC 7692) are inflated while the decompressor has its whole window.
Later ones are shown compressed.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass, field, replace

from tapper.protocols.connection_reader import ConnectionReader
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.headers import Headers
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.streams.reassembly import Data

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
OPCODES = {TEXT: "text", BINARY: "binary", CLOSE: "close", PING: "ping", PONG: "pong"}
"""The names of the opcodes that begin a message."""
_KNOWN = frozenset({CONTINUATION, *OPCODES})
_FIN, _COMPRESSED, _RESERVED, _MASKED = 0x80, 0x40, 0x30, 0x80
_LONGEST_CONTROL = 125
_FLUSHED = b"\x00\x00\xff\xff"  # a sender leaves it out at a message's end (RFC 7692 section 7.2.1)
_INFLATED_AT_ONCE = 16 * 1024
_INFLATED_LIMIT = 4 << 20  # bytes of one message; a longer one breaks off
_INFLATER_COST = 42 * 1024  # bytes of memory: zlib's state and its window of 32 KiB
_MOST_AT_ONCE, _OCTETS_EACH = 64, 32
"""Of one segment so many messages are told, and one more for each so many octets. A frame may have two octets, and a
record of it hundreds: a sender of such frames would take a hundred times the time and output of any other."""
_SHORT_FRAMES = {
    "server": re.compile(rb"[\x81\x82\x89\x8a](?:\x00|\x01.|\x02..|\x03.{3}|\x04.{4})", re.DOTALL),
    "client": re.compile(rb"[\x81\x82\x89\x8a](?:\x80.{4}|\x81.{5}|\x82.{6}|\x83.{7}|\x84.{8})", re.DOTALL),
}
"""Whole messages and pings of at most four octets, uncompressed, in one frame."""


class _Inflater:
    """One direction's decompressor. All compressed bytes have to pass through it, since they are its window."""

    def __init__(self) -> None:
        self._engine: zlib._Decompress | None = None
        self.broken = False

    @property
    def held(self) -> int:
        """Bytes of memory."""
        return 0 if self._engine is None else _INFLATER_COST

    def feed(self, data: bytes, message: _Message) -> None:
        """Add the inflated bytes to the message, in bounded steps."""
        engine = self._engine or zlib.decompressobj(-zlib.MAX_WBITS)  # the largest window includes the smaller ones
        try:
            while data and not self.broken:
                message.keep(engine.decompress(data, _INFLATED_AT_ONCE))
                data = engine.unconsumed_tail
                if engine.eof:  # a final block, after which another stream begins (section 7.2.3.4)
                    data = engine.unused_data
                    engine = zlib.decompressobj(-zlib.MAX_WBITS)
                self.broken = message.size > _INFLATED_LIMIT
        except zlib.error:
            self.broken = True
        self._engine = None if self.broken else engine
        message.holed |= self.broken


@dataclass(slots=True)
class _Message:
    """A message in progress, or a control frame."""

    opcode: int
    ts: int
    limit: int
    compressed: bool = False
    inflater: _Inflater | None = None
    """None for a message that is not compressed, or that is shown compressed."""
    body: bytearray = field(default_factory=bytearray)
    size: int = 0
    holed: bool = False

    def add(self, payload: bytes) -> None:
        """The next bytes of the payload, unmasked."""
        if self.inflater is None:
            self.keep(payload)
        elif not self.holed:
            self.inflater.feed(payload, self)

    def keep(self, data: bytes) -> None:
        self.size += len(data)
        if not self.holed:
            self.body += data[: self.limit - len(self.body)]

    def fact(self, sender: str, exchange_id: str) -> WebSocketMessage:
        """The message as it is now."""
        if self.inflater is not None and not self.holed:
            self.inflater.feed(_FLUSHED, self)
        truncated = self.holed or self.size > len(self.body)
        deflated = self.compressed and self.inflater is None
        return WebSocketMessage(
            self.ts, exchange_id, sender, self.opcode, self.size, bytes(self.body), truncated, deflated
        )


class _Direction:
    """Reads the frames of one sender, `client` or `server`. `deflate`: permessage-deflate was agreed. `fresh`: the
    sender begins every message with an empty window. The methods return the messages that became complete."""

    def __init__(self, sender: str, exchange_id: str, limit: int, *, deflate: bool, fresh: bool) -> None:
        self._sender = sender
        self._id = exchange_id
        self._limit = limit
        self._deflate = deflate
        self._fresh = fresh
        self._inflater = _Inflater() if deflate else None
        self._lost = False
        self._header = b""  # the beginning of a frame's header, at most 13 octets
        self._message: _Message | None = None  # text or binary, which may be in several frames
        self._frame: _Message | None = None  # the message of the frame that is being read
        self._final = False
        self._remaining = 0  # of that frame's payload
        self._mask = b""
        self._position = 0  # in that frame's payload

    @property
    def held(self) -> int:
        inflating = 0 if self._inflater is None else self._inflater.held
        return sum(len(message.body) for message in self._unfinished()) + len(self._header) + inflating

    def feed(self, data: bytes, ts: int) -> list[WebSocketMessage]:
        messages: list[WebSocketMessage] = []
        unreadable: list[WebSocketMessage] = []
        most = _MOST_AT_ONCE + len(data) // _OCTETS_EACH
        left_out = 0
        data, at = self._header + data, 0
        self._header = b""
        while not self._lost:
            # 0. Pass over short messages that are too many.
            if len(messages) >= most and self._frame is None and self._message is None:
                at, passed = _pass_over(_SHORT_FRAMES[self._sender], data, at)
                left_out += passed
            # 1. The header.
            if self._frame is None:
                size = _header_size(data, at)
                if len(data) - at < size:
                    self._header = data[at:]
                    break
                if not self._begin(data[at : at + size], ts):
                    unreadable = self._give_up(ts)
                    break
                at += size
            # 2. The payload.
            payload = data[at : at + self._remaining]
            if self._frame is not None and payload:
                self._frame.add(_unmask(payload, self._mask, self._position) if self._mask else payload)
            at += len(payload)
            self._position += len(payload)
            self._remaining -= len(payload)
            # 3. The end.
            if self._remaining:
                break
            ended = self._end()
            if len(messages) < most:
                messages += ended
            else:
                left_out += len(ended)
        if left_out:
            messages[-1] = replace(messages[-1], left_out=left_out)
        return messages + unreadable

    def gap(self, size: int | None, ts: int) -> list[WebSocketMessage]:
        message = self._frame
        if self._lost:
            return []
        if message is None or size is None or size > self._remaining:
            return self._give_up(ts)
        message.holed = True
        message.size += size
        self._remaining -= size
        if message.compressed and not self._fresh:
            self._inflater = None  # its window is incomplete
        return [] if self._remaining else self._end()

    def finish(self) -> list[WebSocketMessage]:
        """No more bytes will come: unfinished messages are truncated."""
        unfinished = self._unfinished()
        self._message = self._frame = self._inflater = None
        self._header = b""
        for message in unfinished:
            message.holed = True
        return [message.fact(self._sender, self._id) for message in unfinished]

    def _unfinished(self) -> list[_Message]:
        """A control frame may be in the midst of a message."""
        both = [self._frame, self._message if self._message is not self._frame else None]
        return [message for message in both if message is not None]

    def _begin(self, header: bytes, ts: int) -> bool:
        """Take in a frame's header (section 5.2). False if the frame breaks the rules."""
        first, opcode = header[0], header[0] & 0x0F
        compressed = bool(first & _COMPRESSED)
        length, masked = header[1] & 0x7F, bool(header[1] & _MASKED)
        if length > _LONGEST_CONTROL:
            length = int.from_bytes(header[2 : 4 if length == 126 else 10], "big")
        self._final = bool(first & _FIN)
        self._mask = header[-4:] if masked else b""
        self._remaining, self._position = length, 0
        control = opcode >= CLOSE
        if opcode not in _KNOWN or first & _RESERVED or masked != (self._sender == "client"):
            return False
        if control:
            if not self._final or compressed or length > _LONGEST_CONTROL:
                return False
            self._frame = _Message(opcode, ts, self._limit)
            return True
        if (opcode == CONTINUATION) != (self._message is not None):
            return False
        if compressed and (opcode == CONTINUATION or not self._deflate):
            return False
        if self._message is None:
            if compressed and self._fresh:
                self._inflater = _Inflater()
            usable = compressed and self._inflater is not None and not self._inflater.broken
            inflater = self._inflater if usable else None
            self._message = _Message(opcode, ts, self._limit, compressed=compressed, inflater=inflater)
        self._frame = self._message
        return True

    def _end(self) -> list[WebSocketMessage]:
        """The frame is complete, and if it was the final one the message, too."""
        message, self._frame = self._frame, None
        if message is None or not self._final:
            return []
        if message is self._message:
            self._message = None
        return [message.fact(self._sender, self._id)]

    def _give_up(self, ts: int) -> list[WebSocketMessage]:
        """Stop reading this direction. A truncated message says so."""
        self._lost = True
        unreadable = WebSocketMessage(ts, self._id, self._sender, CONTINUATION, 0, b"", truncated=True, deflated=False)
        return self.finish() or [unreadable]


class WebSocket(ConnectionReader):
    """Both directions, from the first byte after the 101 response, whose header fields and time are given; and the id
    of that response's exchange."""

    __slots__ = ("_ended", "_sides", "_ts")

    def __init__(
        self, client: int, server_headers: Headers, ts: int = 0, body_limit: int = BODY_LIMIT, exchange_id: str = ""
    ) -> None:
        super().__init__(client)
        self._ts = ts
        self._ended = [False, False]
        extensions = ",".join(
            value.lower() for name, value in server_headers if name.lower() == "sec-websocket-extensions"
        )
        deflate = "permessage-deflate" in extensions
        senders = ("server", "client") if client else ("client", "server")
        self._sides = [
            _Direction(
                sender, exchange_id, body_limit, deflate=deflate, fresh=f"{sender}_no_context_takeover" in extensions
            )
            for sender in senders
        ]

    @property
    def held(self) -> int:
        return sum(side.held for side in self._sides)

    def data(self, side: int, chunk: Data) -> list[WebSocketMessage]:
        self._ts = chunk.ts
        return self._sides[side].feed(chunk.data, chunk.ts)

    def gap(self, side: int, size: int | None) -> list[WebSocketMessage]:
        return self._sides[side].gap(size, self._ts)

    def end(self, side: int) -> list[WebSocketMessage]:
        self._ended[side] = True
        return self.finish() if self.is_over else []

    @property
    def is_over(self) -> bool:
        """True if neither side will send anything more."""
        return all(self._ended)

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> list[WebSocketMessage]:  # noqa: ARG002
        return [message for side in self._sides for message in side.finish()]


def _pass_over(frame: re.Pattern[bytes], data: bytes, at: int) -> tuple[int, int]:
    """Where the frames like this end that begin here one after the other, and how many they are."""
    count = 0
    while (match := frame.match(data, at)) is not None:
        count, at = count + 1, match.end()
    return at, count


def _header_size(data: bytes, at: int) -> int:
    """Octets of the frame header at this place; 2 while its second octet is missing (section 5.2)."""
    if len(data) - at < 2:
        return 2
    second = data[at + 1]
    return 2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (4 if second & _MASKED else 0)


def _unmask(payload: bytes, mask: bytes, position: int) -> bytes:
    """Section 5.3; `position` is the payload's in its frame."""
    turn, size = position % 4, len(payload)
    key = (mask[turn:] + mask[:turn]) * (size // 4 + 1)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key[:size], "big")).to_bytes(size, "big")
