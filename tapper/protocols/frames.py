"""One direction of an HTTP/2 connection, read passively: bytes in, what its frames mean out (RFC 9113 section 4).

The contract is that of `tapper.protocols.http1`: `feed` and `gap` are iterators and must be run to their ends, nothing
raises, and the reader is *in step* or it is not. It falls out of step by bytes that are lost or that cannot be frames,
says Lost, and then waits for a segment that opens with a plausible chain of frames: senders write whole frames, so
segments often begin with one. Lost bytes inside a DATA frame cost only the body.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from tapper.protocols.messages import HEAD_LIMIT, Lost

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""
HEADER = 9
"""Octets of a frame's header."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, PADDED, HAS_PRIORITY = 0x01, 0x04, 0x08, 0x20

_HEADER = struct.Struct(">BHBBI")  # length, type, flags, stream; section 4.1
_LENGTHS = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM_0 = frozenset({SETTINGS, PING, GOAWAY})
_ON_OTHERS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_FLAGS = {DATA: 0x09, HEADERS: 0x2D, PRIORITY: 0, RST_STREAM: 0, SETTINGS: 1, PUSH_PROMISE: 0x0C, PING: 1}
_COLLECTED = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION, RST_STREAM, GOAWAY})
_USUAL_FRAME = 16_384  # the initial SETTINGS_MAX_FRAME_SIZE, which hardly anybody raises
_USUAL_STREAM = 1 << 24


class Block(NamedTuple):
    """A header block, put together."""

    stream: int
    data: bytes | None
    """None for one over the limit: it was passed over, and the header table is unknown."""
    end: bool
    """END_STREAM."""
    promise: bool
    """Of a PUSH_PROMISE."""


class Piece(NamedTuple):
    """A part of a stream's body, without padding."""

    stream: int
    data: bytes
    lost: int
    """Bytes missing before the end of this piece."""
    end: bool
    """END_STREAM: this was the last piece."""


class Reset(NamedTuple):
    stream: int


class Goaway(NamedTuple):
    last: int
    """The highest stream the sender will still answer."""


Event: TypeAlias = Block | Piece | Reset | Goaway | Lost


class _Frame(NamedTuple):
    length: int
    kind: int
    flags: int
    stream: int
    reserved: bool

    @property
    def lawful(self) -> bool:
        """Whether such a frame can be; of unknown types (section 4.1) all can."""
        if self.kind in _LENGTHS and self.length != _LENGTHS[self.kind]:
            return False
        if self.kind == SETTINGS and self.length % 6:
            return False
        return not ((self.stream and self.kind in _ON_STREAM_0) or (not self.stream and self.kind in _ON_OTHERS))

    @property
    def usual(self) -> bool:
        """Whether it is like what senders send; asked where nothing else tells a frame from other bytes."""
        if self.kind > CONTINUATION or self.flags & ~_FLAGS.get(self.kind, 0x04 * (self.kind == CONTINUATION)):
            return False
        return self.lawful and not self.reserved and self.length <= _USUAL_FRAME and self.stream < _USUAL_STREAM


def _frame(data: bytes | bytearray, at: int = 0) -> _Frame:
    """The header at an offset. All numbers are big-endian."""
    high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
    return _Frame(high << 16 | low, kind, flags, stream & 0x7FFF_FFFF, stream > 0x7FFF_FFFF)


def opens_with_frames(data: bytes) -> bool:
    """Whether a segment begins with a plausible chain of frames; the last may go on in the next segment."""
    if data.startswith(PREFACE):
        return True
    at = 0
    while at + HEADER <= len(data):
        frame = _frame(data, at)
        if not frame.usual:
            return False
        at += HEADER + frame.length
    return at > 0


class FrameReader:
    """Reads one direction."""

    def __init__(self, *, in_step: bool = True, head_limit: int = HEAD_LIMIT) -> None:
        self._in_step = in_step
        self._limit = head_limit
        self._at_start = in_step
        self._partial = bytearray()  # of a frame header, or of the preface
        self._frame: _Frame | None = None  # whose payload has not ended
        self._remaining = 0  # of its payload
        self._content = 0  # of its body, padding left out
        self._pad_unread = False
        self._payload = bytearray()
        # A header block in progress; None in `_block` once it is over the limit.
        self._opening: _Frame | None = None
        self._block: bytearray | None = bytearray()

    @property
    def held(self) -> int:
        return len(self._partial) + len(self._payload) + len(self._block or b"")

    def feed(self, data: bytes) -> Iterator[Event]:
        """The next bytes of the stream, one segment's."""
        if not self._in_step:
            if not opens_with_frames(data):
                return
            self._in_step = self._at_start = True
        if self._partial:
            data = bytes(self._partial) + data
            self._partial.clear()
        at = 0
        if self._at_start:
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                self._partial += data
                return
            self._at_start = False
            at = len(PREFACE) if data.startswith(PREFACE) else 0
        size = len(data)
        while at < size:
            event: Event | None
            if self._frame is None:
                if size - at < HEADER:
                    self._partial += data[at:]
                    return
                event = self._begin(_frame(data, at))
                at += HEADER
            else:
                stop = min(at + self._remaining, size)
                self._remaining -= stop - at
                event = self._take(self._frame, data[at:stop])
                at = stop
            if event is not None:
                yield event
                if type(event) is Lost:
                    return

    def gap(self, size: int | None) -> Iterator[Event]:
        """`size` bytes of the stream are lost; None where nobody knows how many."""
        frame = self._frame
        counted = frame is not None and frame.kind == DATA and not self._pad_unread
        if counted and frame is not None and size is not None and size <= self._remaining:
            self._remaining -= size
            missing = min(size, self._content)
            self._content -= missing
            yield self._piece(frame, b"", missing)
        elif self._in_step:
            yield self._lose("bytes were lost")

    def _begin(self, frame: _Frame) -> Event | None:
        block = self._opening
        continues = frame.kind == CONTINUATION
        if not frame.lawful or continues != (block is not None) or (block and block.stream != frame.stream):
            return self._lose("not a frame")
        self._frame, self._remaining, self._content = frame, frame.length, frame.length
        self._pad_unread = bool(frame.kind == DATA and frame.flags & PADDED)
        if frame.length:
            return None
        return self._lose("padding without its length") if self._pad_unread else self._take(frame, b"")

    def _take(self, frame: _Frame, payload: bytes) -> Event | None:
        """A part of a frame's payload."""
        if frame.kind == DATA:
            if self._pad_unread:
                self._pad_unread = False
                self._content = frame.length - 1 - payload[0]
                payload = payload[1:]
                if self._content < 0:
                    return self._lose("more padding than frame")
            body = payload[: self._content]
            self._content -= len(body)
            return self._piece(frame, body, 0)
        if self._remaining or self._payload or frame.length > self._limit:  # else all of it is here
            if frame.kind in _COLLECTED:
                # 256: padding and its length
                self._payload += payload[: self._limit + 256 + HEADER - len(self._payload)]
            if self._remaining:
                return None
            payload = bytes(self._payload)
            self._payload.clear()
        self._frame = None
        return self._whole(frame, payload)

    def _piece(self, frame: _Frame, body: bytes, lost: int) -> Piece:
        ended = self._remaining == 0
        if ended:
            self._frame = None
        return Piece(frame.stream, body, lost, end=ended and bool(frame.flags & END_STREAM))

    def _whole(self, frame: _Frame, payload: bytes) -> Event | None:
        """A frame of a kind that is looked at as a whole, or passed over."""
        if frame.kind == RST_STREAM:
            return Reset(frame.stream)
        if frame.kind == GOAWAY and len(payload) >= 8:
            return Goaway(int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF)
        if frame.kind not in (HEADERS, PUSH_PROMISE, CONTINUATION):
            return None
        if frame.kind != CONTINUATION:
            self._opening, self._block = frame, bytearray()
        over = frame.length > len(payload)
        fragment = payload if frame.kind == CONTINUATION or over else _fragment(frame, payload)
        if fragment is None:
            return self._lose("more padding than frame")
        if over or self._block is None or len(self._block) + len(fragment) > self._limit:
            self._block = None
        else:
            self._block += fragment
        if not frame.flags & END_HEADERS:
            return None
        first, block = self._opening, self._block
        assert first is not None, "a continuation without a beginning was refused"
        self._opening, self._block = None, bytearray()
        promise = first.kind == PUSH_PROMISE
        end = bool(first.flags & END_STREAM) and not promise
        return Block(first.stream, None if block is None else bytes(block), end, promise)

    def _lose(self, reason: str) -> Lost:
        """Out of step; the rest of the segment is passed over."""
        self._in_step = self._pad_unread = False
        self._partial.clear()
        self._payload.clear()
        self._frame = self._opening = None
        self._block = bytearray()
        self._remaining = 0
        return Lost(reason)


def _fragment(frame: _Frame, payload: bytes) -> bytes | None:
    """The header block's part of a HEADERS or PUSH_PROMISE frame (sections 6.2 and 6.6); None if there is no room."""
    start, stop = 0, len(payload)
    if frame.flags & PADDED:
        start, stop = 1, stop - (payload[0] if payload else 0)
    if frame.kind == PUSH_PROMISE:
        start += 4
    elif frame.flags & HAS_PRIORITY:
        start += 5
    return payload[start:stop] if start <= stop else None
