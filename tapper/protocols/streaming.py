"""Exchanges that go on for long, told while they do: server-sent events, gRPC streams, and other slow bodies.

An exchange whose response has begun and has not ended a second later is *followed*. A StreamBegin says so, and each
part of its messages becomes a StreamPart as soon as it is complete: an event, a gRPC message, or else a piece of the
body as it came. Parts from before that second are read from the body, if all of it was kept. Quick exchanges do not
come here, so ordinary traffic pays nothing.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from typing import Final

from tapper.protocols.facts import StreamBegin, StreamPart
from tapper.protocols.grpc import WEB, WEB_TEXT, from_base64, is_grpc
from tapper.protocols.messages import RequestHead, ResponseHead
from tapper.streams.bounds import SECOND, Pace

AFTER_NS: Final = SECOND
"""How long a response may go on before its exchange is followed."""
LONGEST_PART: Final = 16 * 1024
"""Bytes of a part that are kept."""
EVENT, MESSAGE, PIECE = "event", "message", "data"
"""The kinds of parts."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_EVENT_END: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")
_GRPC_PREFIX: Final = 5


class PartReader:
    """Divides a body into parts. This one makes a part of each piece of data. `ts` is in nanoseconds since 1970."""

    def __init__(self, exchange_id: str, sender: str) -> None:
        self._id = exchange_id
        self._sender = sender

    @property
    def held(self) -> int:
        """Bytes kept of an unfinished part."""
        return 0

    def feed(self, data: bytes, ts: int) -> list[StreamPart]:
        return [self._part(PIECE, ts, len(data), data[:LONGEST_PART])] if data else []

    def lose(self) -> None:
        """Bytes are missing here."""

    def _part(self, kind: str, ts: int, size: int, body: bytes, *, compressed: bool = False) -> StreamPart:
        return StreamPart(ts, self._id, kind, self._sender, size, body, size > len(body), None, None, compressed, 0)


class EventReader(PartReader):
    """Reads server-sent events (WHATWG HTML, section 9.2.5). Comments, and events without data, give no part."""

    def __init__(self, exchange_id: str, sender: str) -> None:
        super().__init__(exchange_id, sender)
        self._begun = b""  # the beginning of an event: at most LONGEST_PART bytes, and then `_tail`
        self._tail = b""  # of an event over the limit: its last bytes, which may be half of its end
        self._size = 0
        self._is_first = True
        self._follows_loss = False  # the beginning of the next event may be missing

    @property
    def held(self) -> int:
        return len(self._begun) + len(self._tail)

    def feed(self, data: bytes, ts: int) -> list[StreamPart]:
        parts: list[StreamPart] = []
        data = self._tail + data if self._tail else self._begun + data
        while True:
            # 1. Blank lines before an event are the rest of the last one's end.
            if not self._tail:
                data = data.lstrip(b"\r\n")
            end = _EVENT_END.search(data)
            if end is None:
                break
            # 2. A whole event.
            body = self._begun if self._tail else data[: end.start()]
            size = self._size + end.start() if self._tail else end.start()
            parts += self._event(body, size, ts)
            data, self._begun, self._tail, self._size = data[end.end() :], b"", b"", 0
        # 3. The beginning of one. Of a long one only the beginning is kept, and the bytes that may begin its end.
        if self._tail:
            self._size += len(data) - 3
            self._tail = data[-3:]
        elif len(data) > LONGEST_PART + 3:
            self._begun, self._size, self._tail = data[:LONGEST_PART], len(data) - 3, data[-3:]
        else:
            self._begun = data
        return parts

    def lose(self) -> None:
        self._begun, self._tail, self._size = b"", b"", 0
        self._is_first, self._follows_loss = False, True

    def _event(self, block: bytes, size: int, ts: int) -> list[StreamPart]:
        """The event of a block of lines, of which `size` bytes were sent."""
        event: str | None = None
        event_id: str | None = None
        lines: list[bytes] = []
        if self._is_first:
            self._is_first = False
            if block.startswith(BOM_UTF8):
                block, size = block[len(BOM_UTF8) :], size - len(BOM_UTF8)
        truncated, self._follows_loss = self._follows_loss or size > len(block), False
        for line in _LINE_END.split(block):
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                lines.append(value)
            elif name == b"event":
                event = value.decode("utf-8", "replace")
            elif name == b"id" and b"\0" not in value:
                event_id = value.decode("utf-8", "replace")
        if not lines:
            return []
        data = b"\n".join(lines)
        truncated = truncated or len(data) > LONGEST_PART
        data = data[:LONGEST_PART]
        return [StreamPart(ts, self._id, EVENT, self._sender, size, data, truncated, event, event_id, False, 0)]


class MessageReader(PartReader):
    """Reads gRPC messages: a prefix of one octet of flags and four of length, big-endian, then the message."""

    def __init__(self, exchange_id: str, sender: str) -> None:
        super().__init__(exchange_id, sender)
        self._prefix = b""
        self._body = bytearray()  # at most LONGEST_PART bytes of the message
        self._left = -1  # octets of the message that have not come; -1 within a prefix
        self._lost = False

    @property
    def held(self) -> int:
        return len(self._prefix) + len(self._body)

    def feed(self, data: bytes, ts: int) -> list[StreamPart]:
        parts: list[StreamPart] = []
        at = 0
        while not self._lost and (at < len(data) or self._left == 0):
            if self._left < 0:
                taken = data[at : at + _GRPC_PREFIX - len(self._prefix)]
                self._prefix += taken
                at += len(taken)
                if len(self._prefix) == _GRPC_PREFIX:
                    self._left = int.from_bytes(self._prefix[1:], "big")
                    self._lost = self._prefix[0] > 1
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            self._body += piece[: LONGEST_PART - len(self._body)]
            if not self._left:
                size = int.from_bytes(self._prefix[1:], "big")
                parts.append(self._part(MESSAGE, ts, size, bytes(self._body), compressed=self._prefix[0] == 1))
                self._prefix, self._left = b"", -1
                self._body.clear()
        return parts

    def lose(self) -> None:
        """Nobody knows where the next message begins."""
        self._lost = True
        self._body.clear()


class Base64MessageReader(MessageReader):
    """Reads the messages of gRPC-Web's text form."""

    def __init__(self, exchange_id: str, sender: str) -> None:
        super().__init__(exchange_id, sender)
        self._text = b""  # at most three characters

    def feed(self, data: bytes, ts: int) -> list[StreamPart]:
        text = self._text + data
        self._text = text[len(text) - len(text) % 4 :]
        messages, is_damaged = from_base64(text)
        parts = super().feed(messages, ts)
        if is_damaged:
            self.lose()
        return parts


def beginning(identity: str, request: RequestHead, response: ResponseHead) -> StreamBegin:
    """The fact that an HTTP/1 exchange goes on."""
    return StreamBegin(
        request.ts,
        identity,
        request.method,
        request.target,
        request.version,
        response.status,
        request.fields,
        response.fields,
    )


def part_reader(content_type: str | None, exchange_id: str, sender: str, coding: str | None = None) -> PartReader:
    """A reader for a body with this content-type and this Content-Encoding. No coding is undone here, so events that
    are coded are told piece by piece."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream" and coding is None:
        return EventReader(exchange_id, sender)
    if kind.startswith(WEB_TEXT):
        return Base64MessageReader(exchange_id, sender)
    return (MessageReader if kind.startswith(WEB) or is_grpc(content_type) else PartReader)(exchange_id, sender)


class Followed:
    """An exchange that is followed. `readers` has a reader for each sender whose body is read. `pace` bounds the parts
    of all exchanges of the source; the next part of this exchange says how many of its parts were left out."""

    def __init__(self, exchange_id: str, readers: dict[str, PartReader], pace: Pace) -> None:
        self.id = exchange_id
        self._readers = readers
        self._pace = pace
        self._left_out = 0

    @property
    def held(self) -> int:
        return sum(reader.held for reader in self._readers.values())

    def feed(self, sender: str, data: bytes, ts: int) -> list[StreamPart]:
        """The parts that these bytes of a body complete."""
        reader = self._readers.get(sender)
        return [] if reader is None else [part for part in reader.feed(data, ts) if self._may_tell(part)]

    def lose(self, sender: str) -> None:
        reader = self._readers.get(sender)
        if reader is not None:
            reader.lose()

    def _may_tell(self, part: StreamPart) -> bool:
        if not self._pace.may_tell(part.ts):
            self._left_out += 1
            return False
        part.left_out, self._left_out = self._left_out, 0
        return True
