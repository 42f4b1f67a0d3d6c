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

from tapper.protocols.facts import StreamPart
from tapper.protocols.grpc import WEB, WEB_TEXT, MessageReader, from_base64, is_grpc
from tapper.streams.bounds import SECOND, Pace

AFTER_NS: Final = SECOND
"""How long a response may go on before its exchange is followed."""
LONGEST_PART: Final = 16 * 1024
"""Bytes of a part that are kept."""
EVENT, MESSAGE, PIECE = "event", "message", "data"
"""The kinds of parts."""

_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_EVENT_END: Final = re.compile(rb"(?>\r\n|\r|\n)(?>\r\n|\r|\n)")


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


class MessagePartReader(PartReader):
    """Reads gRPC messages. With `is_text`, they are in base64: the text form of gRPC-Web."""

    def __init__(self, exchange_id: str, sender: str, *, is_text: bool = False) -> None:
        super().__init__(exchange_id, sender)
        self._messages = MessageReader(LONGEST_PART)
        self._is_text = is_text
        self._text = b""  # at most three characters

    @property
    def held(self) -> int:
        return self._messages.held

    def feed(self, data: bytes, ts: int) -> list[StreamPart]:
        is_damaged = False
        if self._is_text:
            text = self._text + data
            self._text = text[len(text) - len(text) % 4 :]
            data, is_damaged = from_base64(text)
        found = self._messages.feed(data)
        if is_damaged:
            self.lose()
        return [self._part(MESSAGE, ts, size, body, compressed=flags == 1) for flags, size, body in found]

    def lose(self) -> None:
        """Nobody knows where the next message begins."""
        self._messages.lose()


def part_reader(content_type: str | None, exchange_id: str, sender: str, coding: str | None = None) -> PartReader:
    """A reader for a body with this content-type and this Content-Encoding. No coding is undone here, so events that
    are coded are told piece by piece."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind == "text/event-stream" and coding is None:
        return EventReader(exchange_id, sender)
    if kind.startswith(WEB) or is_grpc(content_type):
        return MessagePartReader(exchange_id, sender, is_text=kind.startswith(WEB_TEXT))
    return PartReader(exchange_id, sender)


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
