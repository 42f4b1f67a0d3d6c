"""One direction of an HTTP/2 connection, read passively: segments in, the meaning of their frames out (RFC 9113).

The reader is in one of the states listed below. It falls *out of step* when bytes are lost or are no frames, since
nobody knows then where the next frame begins. It is in step again with a segment that looks like a chain of frames:
senders write whole frames, so segments often begin with one. Bytes lost within the payload of a DATA frame cost that
part of the body only. Nothing raises, whatever the bytes are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tapper.protocols.connection_reader import ConnectionReader
from tapper.protocols.messages import BLOCK_LIMIT

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""
HEADER: Final = 9
"""Octets of a frame header (section 4.1)."""

# Frame types (section 6).
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags.
END_STREAM: Final = 0x01
ACK: Final = 0x01
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
HAS_PRIORITY: Final = 0x20

# States of a reader.
OUT_OF_STEP: Final = 0
"""Segments are passed over until one looks like frames."""
FRAME_HEADER: Final = 1
"""At or within a frame header, or the preface. While a header block is in progress, its CONTINUATION has to follow."""
DATA_PAYLOAD: Final = 2
"""Within the payload of a DATA frame, of which each piece is passed on at once."""
PAYLOAD: Final = 3
"""Within the payload of any other frame, which is kept until it is whole."""

_FIXED_LENGTHS = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM_0 = frozenset({SETTINGS, PING, GOAWAY})
_ON_OTHER_STREAMS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_HEADER_BLOCK = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION})
_NEVER_EMPTY = frozenset({DATA, *_HEADER_BLOCK})  # unless END_STREAM is set
_FLAGS = {
    DATA: END_STREAM | PADDED,
    HEADERS: END_STREAM | END_HEADERS | PADDED | HAS_PRIORITY,
    SETTINGS: ACK,
    PUSH_PROMISE: END_HEADERS | PADDED,
    PING: ACK,
    CONTINUATION: END_HEADERS,
}
_USUAL_FRAME = 16_384  # the initial SETTINGS_MAX_FRAME_SIZE, which hardly any receiver raises
_NOT_FRAGMENT = 265  # octets of a HEADERS frame, at most, that are not the fragment: padding and priority


class Handler(ConnectionReader):
    """Reads an HTTP/2 connection: gets the meaning of frames in their order. `side` is their reader's; `end` means
    END_STREAM."""

    __slots__ = ()

    def on_block(self, side: int, stream: int, block: bytes, *, end: bool, promise: bool, is_cut: bool = False) -> None:
        """A header block. If `promise`, it is of a PUSH_PROMISE frame, and `stream` is the promised stream. If
        `is_cut`, it was over the limit, and `block` is its beginning."""

    def on_data(self, side: int, stream: int, data: bytes, *, end: bool, lost: int = 0) -> None:
        """A piece of a stream's body, without padding; with `end` the last one. Or no data, and the number of `lost`
        bytes of the body; 0 if nothing but padding is lost."""

    def on_reset(self, side: int, stream: int, code: int) -> None:
        """RST_STREAM, with its error code."""

    def on_goaway(self, side: int, last: int, code: int) -> None:
        """GOAWAY, with its error code; `last` is the highest stream that the sender may still answer."""

    def on_out_of_step(self, side: int) -> None:
        """Any number of frames may be missing here."""


@dataclass(slots=True)
class FrameHeader:
    """Section 4.1. Nothing changes it once it is made."""

    length: int
    """Octets of the payload."""
    kind: int
    flags: int
    stream: int

    @staticmethod
    def read(data: bytes, at: int) -> FrameHeader:
        """The HEADER octets at `at`. Numbers are big-endian; the bit above the stream is reserved."""
        length, stream = int.from_bytes(data[at : at + 3], "big"), int.from_bytes(data[at + 5 : at + 9], "big")
        return FrameHeader(length, data[at + 3], data[at + 4], stream & 0x7FFF_FFFF)

    @property
    def is_valid(self) -> bool:
        """Whether the RFC allows this length, and this type on this stream. Unknown types may be anything."""
        if self.length != _FIXED_LENGTHS.get(self.kind, self.length) or (self.kind == SETTINGS and self.length % 6):
            return False
        if self.kind == DATA and self.flags & PADDED and not self.length:
            return False
        return self.kind not in (_ON_STREAM_0 if self.stream else _ON_OTHER_STREAMS)

    @property
    def is_plausible(self) -> bool:
        """Whether senders send such frames; asked where nothing else tells a frame from other bytes."""
        is_empty = not self.length and not self.flags & END_STREAM and self.kind in _NEVER_EMPTY
        is_known = self.kind <= CONTINUATION and not self.flags & ~_FLAGS.get(self.kind, 0)
        return is_known and not is_empty and self.length <= _USUAL_FRAME and self.is_valid


def looks_like_frames(data: bytes, *, exact: bool) -> bool:
    """Whether a segment is a chain of plausible HTTP/2 frames from its first byte on.

    `exact` is for a connection whose protocol is unknown: the chain ends where the segment ends, and holds more than
    one empty frame or one DATA frame, because the length fields of other protocols often look like such a frame.
    Without `exact` the connection is known to be HTTP/2: a preface will do, and the last frame may continue in the next
    segment.
    """
    if not exact and data.startswith(PREFACE):
        return True
    at, proven = 0, False
    while at + HEADER <= len(data):
        frame = FrameHeader.read(data, at)
        if not frame.is_plausible or data[at + 5] & 0x80:
            return False
        is_acknowledgement = frame.kind == SETTINGS and frame.flags & ACK != 0
        proven = proven or is_acknowledgement or (frame.length > 0 and (frame.kind != DATA or at > 0))
        at += HEADER + frame.length
    return proven and at == len(data) if exact else at > 0


@dataclass(slots=True)
class _BlockInProgress:
    """Fragments of a header block, of which the last one has not come."""

    stream: int
    end: bool
    data: bytearray
    promised: int | None = None
    """The promised stream, of a PUSH_PROMISE frame."""
    is_cut: bool = False
    """True once it is over the limit. Then `data` is its beginning."""


class FrameReader:
    """Reads one direction, that of `side`. `in_step`: the first segment will begin with a preface or a frame.
    `head_limit`: octets of the longest header block that is kept."""

    def __init__(self, side: int, *, in_step: bool = True, head_limit: int = BLOCK_LIMIT) -> None:
        self._side = side
        self._limit = head_limit
        self._state: int = FRAME_HEADER if in_step else OUT_OF_STEP
        self._partial = b""  # the beginning of a preface or frame header
        self._block: _BlockInProgress | None = None
        self._frame = FrameHeader(0, DATA, 0, 0)  # whose payload is being read
        self._left = 0  # octets of the payload that have not come
        self._content = 0  # the same of a DATA frame, without padding
        self._payload = bytearray()  # of any other frame: what has come

    @property
    def held(self) -> int:
        """Bytes kept."""
        in_block = 0 if self._block is None else len(self._block.data)
        return len(self._partial) + len(self._payload) + in_block

    def feed(self, data: bytes, handler: Handler) -> None:
        """The next bytes of the direction, one segment's."""
        # 1. Out of step: pass over the segment unless it looks like frames.
        if self._state == OUT_OF_STEP:
            if not looks_like_frames(data, exact=False):
                return
            self._state = FRAME_HEADER
        # 2. Put the segment behind what an earlier one left over.
        if self._partial:
            data, self._partial = self._partial + data, b""
        # 3. Read on, state by state. `at` is the offset of what is unread.
        at = 0
        while at < len(data) and self._state != OUT_OF_STEP:
            if self._state == FRAME_HEADER:
                at = self._read_frame_header(data, at, handler)
            elif self._state == DATA_PAYLOAD:
                at = self._read_data(data, at, handler)
            else:
                at = self._read_payload(data, at, handler)

    def gap(self, size: int | None, handler: Handler) -> None:
        """`size` bytes are lost; None where nobody knows how many."""
        if self._state == DATA_PAYLOAD and size is not None and size <= self._left:
            lost = min(size, self._content)
            self._left -= size
            self._content -= lost
            handler.on_data(self._side, self._frame.stream, b"", end=self._is_last_data(), lost=lost)
        elif self._state != OUT_OF_STEP:
            self._lose(handler)

    def _read_frame_header(self, data: bytes, at: int, handler: Handler) -> int:
        # 1. Pass over the preface. Wait for the rest of the header, or of what may be the preface.
        beginning = data[at : at + len(PREFACE)]
        if beginning == PREFACE:
            return at + len(PREFACE)
        if len(beginning) < HEADER or PREFACE.startswith(beginning):
            self._partial = beginning
            return len(data)
        # 2. Check that it is a frame, and that it may come now.
        frame, block, payload = FrameHeader.read(data, at), self._block, at + HEADER
        continues = frame.kind == CONTINUATION
        is_next = not continues if block is None else continues and frame.stream == block.stream
        if not is_next or not frame.is_valid:
            return self._lose(handler)
        # 3. The payload of a padded DATA frame begins with the length of the padding, which is read with the header.
        left, padding = frame.length, 0
        if frame.kind == DATA and frame.flags & PADDED:
            if payload == len(data):
                self._partial = data[at:]
                return len(data)
            payload, left, padding = payload + 1, left - 1, data[payload]
            if padding > left:
                return self._lose(handler)
        # 4. The payload follows, unless it is empty.
        self._frame, self._left, self._content = frame, left, left - padding
        self._state = DATA_PAYLOAD if frame.kind == DATA else PAYLOAD
        if left:
            return payload
        read = self._read_data if frame.kind == DATA else self._read_payload
        return read(data, payload, handler)

    def _read_data(self, data: bytes, at: int, handler: Handler) -> int:
        stop = min(at + self._left, len(data))
        content = data[at : min(at + self._content, stop)]
        self._left -= stop - at
        self._content -= len(content)
        handler.on_data(self._side, self._frame.stream, content, end=self._is_last_data())
        return stop

    def _is_last_data(self) -> bool:
        """Whether the body ends here. If the DATA frame does, a frame header follows."""
        if self._left:
            return False
        self._state = FRAME_HEADER
        return self._frame.flags & END_STREAM != 0

    def _read_payload(self, data: bytes, at: int, handler: Handler) -> int:
        stop = min(at + self._left, len(data))
        self._left -= stop - at
        kind = self._frame.kind
        if kind in _HEADER_BLOCK or kind in {RST_STREAM, GOAWAY}:
            room = self._limit + _NOT_FRAGMENT - len(self._payload)
            self._payload += data[at : min(at + room, stop)]
        if self._left:
            return stop
        payload = bytes(self._payload)
        self._payload.clear()
        self._state = FRAME_HEADER
        if kind == RST_STREAM:
            handler.on_reset(self._side, self._frame.stream, int.from_bytes(payload, "big"))
        elif kind == GOAWAY and len(payload) >= 8:
            last, code = int.from_bytes(payload[:4], "big") & 0x7FFF_FFFF, int.from_bytes(payload[4:8], "big")
            handler.on_goaway(self._side, last, code)
        elif kind in _HEADER_BLOCK and not self._add_to_block(payload, handler):
            return self._lose(handler)
        return stop

    def _add_to_block(self, payload: bytes, handler: Handler) -> bool:
        """Add the fragment in the payload of a whole frame. False if the frame is shorter than its padding."""
        # 1. A HEADERS or PUSH_PROMISE frame begins a block. It has other fields before the fragment, and padding after.
        frame = self._frame
        block, start, stop = self._block, 0, len(payload)
        if block is None:
            end = frame.kind == HEADERS and frame.flags & END_STREAM != 0
            block = self._block = _BlockInProgress(frame.stream, end, bytearray())
            if frame.flags & PADDED:
                start, stop = 1, stop - (payload[0] if payload else 0)
            if frame.kind == PUSH_PROMISE:
                block.promised = int.from_bytes(payload[start : start + 4], "big") & 0x7FFF_FFFF
                start += 4
            elif frame.flags & HAS_PRIORITY:
                start += 5  # stream dependency and weight
        # 2. Of a block over the limit only the beginning is kept, but the reader has to find its end.
        is_short = frame.length > len(payload)
        if is_short:
            stop = len(payload)
        elif start > stop:
            return False
        if not block.is_cut:
            room = self._limit - len(block.data)
            block.is_cut = is_short or stop - start > room
            block.data += payload[start : min(stop, start + room)]
        # 3. The last fragment makes the block whole.
        if frame.flags & END_HEADERS:
            self._block = None
            handler.on_block(
                self._side,
                block.stream if block.promised is None else block.promised,
                bytes(block.data),
                end=block.end,
                promise=block.promised is not None,
                is_cut=block.is_cut,
            )
        return True

    def _lose(self, handler: Handler) -> int:
        """Fall out of step; what is left of the segment stays unread."""
        self._state, self._block, self._partial = OUT_OF_STEP, None, b""
        self._payload.clear()
        handler.on_out_of_step(self._side)
        return 0
