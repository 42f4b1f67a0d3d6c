"""One direction of an HTTP/2 connection, read passively: bytes in, what its frames mean out (RFC 9113 section 4).

Nothing raises, and the reader is *in step* or it is not. It falls out of step by bytes that are lost or that cannot be
frames, says so, and then waits for a segment that opens with a plausible chain of frames: senders write whole frames,
so segments often begin with one. Lost bytes inside a DATA frame cost only the body.

What it reads it tells a Handler at once, without a record of each frame: three are read for an exchange, and most are
DATA and HEADERS frames that are whole within their segment, which `feed` takes by itself.
"""

from __future__ import annotations

import struct
from typing import Final

from tapper.protocols.messages import HEAD_LIMIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (section 3.4)."""
HEADER: Final = 9
"""Octets of a frame's header."""

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
_NONE: Final = -1

END_STREAM: Final = 0x01
ACK: Final = 0x01  # of SETTINGS and PING
END_HEADERS: Final = 0x04
PADDED: Final = 0x08
HAS_PRIORITY: Final = 0x20
_BLOCK_FLAGS: Final = END_HEADERS | PADDED | HAS_PRIORITY

_HEADER = struct.Struct(">BHBBI")  # length, type, flags, stream; section 4.1
_STREAM: Final = 0x7FFF_FFFF  # the bit above it is reserved
_LENGTHS = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_ON_STREAM_0 = frozenset({SETTINGS, PING, GOAWAY})
_ON_OTHERS = frozenset({DATA, HEADERS, PRIORITY, RST_STREAM, PUSH_PROMISE, CONTINUATION})
_FLAGS = {DATA: 0x09, HEADERS: 0x2D, PRIORITY: 0, RST_STREAM: 0, SETTINGS: 1, PUSH_PROMISE: 0x0C, PING: 1}
_COLLECTED = frozenset({HEADERS, PUSH_PROMISE, CONTINUATION, RST_STREAM, GOAWAY})
_USUAL_FRAME = 16_384  # the initial SETTINGS_MAX_FRAME_SIZE, which hardly anybody raises
_NOT_EMPTY = frozenset({DATA, HEADERS, PUSH_PROMISE, CONTINUATION})


class Handler:
    """Is told what both directions say. `side` is whose frame it was, `number` its stream's."""

    __slots__ = ()

    def block(self, side: int, number: int, data: bytes | None, *, end: bool, promise: bool) -> None:
        """A header block, put together; `data` is None for one over the limit: it was passed over, and the header
        table is unknown. `end`: END_STREAM. `promise`: of a PUSH_PROMISE."""
        raise NotImplementedError

    def piece(self, side: int, number: int, data: bytes, *, end: bool) -> None:
        """A part of a stream's body, without padding. `end`: END_STREAM, this was the last piece."""
        raise NotImplementedError

    def hole(self, side: int, number: int, size: int, *, end: bool) -> None:
        """`size` bytes of a stream's body are missing here; perhaps none, where padding was lost."""
        raise NotImplementedError

    def reset(self, side: int, number: int) -> None:
        raise NotImplementedError

    def goaway(self, side: int, last: int) -> None:
        """`last` is the highest stream that the sender will still answer."""
        raise NotImplementedError

    def lost(self, side: int) -> None:
        """The reader fell out of step; frames may be missing here."""
        raise NotImplementedError


def _lawful(length: int, kind: int, stream: int) -> bool:
    """Whether such a frame can be; of unknown types (section 4.1) all can."""
    if kind in _LENGTHS and length != _LENGTHS[kind]:
        return False
    if kind == SETTINGS and length % 6:
        return False
    return not ((stream and kind in _ON_STREAM_0) or (not stream and kind in _ON_OTHERS))


def _usual(length: int, kind: int, flags: int, stream: int) -> bool:
    """Whether it is like what senders send; asked where nothing else tells a frame from other bytes. `stream` with the
    reserved bit."""
    if kind > CONTINUATION or flags & ~_FLAGS.get(kind, 0x04 * (kind == CONTINUATION)):
        return False
    if kind in _NOT_EMPTY and not length and not flags & END_STREAM:
        return False  # it says nothing
    return _lawful(length, kind, stream) and length <= _USUAL_FRAME and not stream >> 31


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
        high, low, kind, flags, stream = _HEADER.unpack_from(data, at)
        length = high << 16 | low
        if not _usual(length, kind, flags, stream):
            return False
        is_acknowledgement = kind == SETTINGS and flags & ACK != 0
        proven = proven or is_acknowledgement or (length > 0 and (kind != DATA or at > 0))
        at += HEADER + length
    return proven and at == len(data) if exact else at > 0


class FrameReader:
    """Reads one direction, that of `side`."""

    __slots__ = (
        "_at_start",
        "_block",
        "_content",
        "_ends",
        "_flags",
        "_in_step",
        "_kind",
        "_length",
        "_limit",
        "_opened_by",
        "_opening",
        "_pad_unread",
        "_partial",
        "_payload",
        "_ready",
        "_remaining",
        "_side",
        "_stream",
        "held",
    )

    def __init__(self, side: int, *, in_step: bool = True, head_limit: int = HEAD_LIMIT) -> None:
        self._side = side
        self._in_step = in_step
        self._limit = head_limit
        self._at_start = in_step
        self._ready = False
        """Whether the next byte is, for certain, the first of a frame or of its payload."""
        self._partial = b""  # of a frame header, or of the preface
        # The frame whose payload has not ended.
        self._kind: int = _NONE
        self._length = self._flags = self._stream = 0
        self._remaining = 0  # of its payload
        self._content = 0  # of its body, padding left out
        self._pad_unread = False
        self._payload = bytearray()
        # A header block in progress; None in `_block` once it is over the limit.
        self._opening = 0  # its stream
        self._opened_by = HEADERS
        self._ends = False
        self._block: bytearray | None = bytearray()
        self.held = 0
        """Bytes kept."""

    def feed(self, data: bytes, handler: Handler) -> None:
        """The next bytes of the stream, one segment's."""
        at = 0
        if not self._ready:
            data, at = self._resume(data)
        size = len(data)
        while at < size:
            if self._kind != _NONE:
                stop = min(at + self._remaining, size)
                self._remaining -= stop - at
                if not self._take(data[at:stop], handler):
                    return
                at = stop
                continue
            start = at + HEADER
            if start > size:
                self._partial, self._ready = data[at:], False
                self._weigh()
                return
            # All numbers are big-endian. By the octet: a call would cost more, compiled.
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            kind, flags = data[at + 3], data[at + 4]
            stream = (data[at + 5] << 24 | data[at + 6] << 16 | data[at + 7] << 8 | data[at + 8]) & _STREAM
            at, stop = start, start + length
            if stream and stop <= size and not self._opening:  # most are whole, and need not be remembered
                if kind == DATA and not flags & PADDED:
                    handler.piece(self._side, stream, data[start:stop], end=flags & END_STREAM != 0)
                    at = stop
                    continue
                if kind == HEADERS and flags & _BLOCK_FLAGS == END_HEADERS and length <= self._limit:
                    ends = flags & END_STREAM != 0
                    handler.block(self._side, stream, data[start:stop], end=ends, promise=False)
                    at = stop
                    continue
                if kind == RST_STREAM and length == 4:
                    handler.reset(self._side, stream)
                    at = stop
                    continue
            if not self._begin(length, kind, flags, stream, handler):
                return

    def gap(self, size: int | None, handler: Handler) -> None:
        """`size` bytes of the stream are lost; None where nobody knows how many."""
        counted = self._kind == DATA and not self._pad_unread
        if counted and size is not None and size <= self._remaining:
            self._remaining -= size
            missing = min(size, self._content)
            self._content -= missing
            handler.hole(self._side, self._stream, missing, end=self._ended())
        elif self._in_step:
            self._lose(handler)

    def _resume(self, data: bytes) -> tuple[bytes, int]:
        """What to read, with what was kept, and from where on; nothing where it is too early, or out of step."""
        if not self._in_step:
            if not looks_like_frames(data, exact=False):
                return b"", 0
            self._in_step = self._at_start = True
        if self._partial:
            data = self._partial + data
            self._partial = b""
        at = 0
        if self._at_start:
            if len(data) < len(PREFACE) and PREFACE.startswith(data):
                self._partial, data = data, b""
            else:
                self._at_start = False
                at = len(PREFACE) if data.startswith(PREFACE) else 0
        self._ready = not self._at_start
        self._weigh()
        return data, at

    # What follows says whether the reader is in step still.

    def _begin(self, length: int, kind: int, flags: int, stream: int, handler: Handler) -> bool:
        opening, continues = self._opening, kind == CONTINUATION
        if not _lawful(length, kind, stream) or continues != (opening != 0) or (opening and opening != stream):
            return self._lose(handler)
        self._kind, self._flags, self._stream = kind, flags, stream
        self._length = self._remaining = self._content = length
        self._pad_unread = kind == DATA and flags & PADDED != 0
        if length:
            return True
        return self._lose(handler) if self._pad_unread else self._take(b"", handler)

    def _take(self, payload: bytes, handler: Handler) -> bool:
        """A part of the frame's payload."""
        kind = self._kind
        if kind == DATA:
            if self._pad_unread:
                self._pad_unread = False
                self._content = self._length - 1 - payload[0]
                payload = payload[1:]
                if self._content < 0:
                    return self._lose(handler)  # more padding than frame
            if len(payload) > self._content:
                payload = payload[: self._content]
            self._content -= len(payload)
            handler.piece(self._side, self._stream, payload, end=self._ended())
            return True
        if self._remaining or self._payload or self._length > self._limit:  # else all of it is here
            if kind in _COLLECTED:
                # 256: padding and its length
                self._payload += payload[: self._limit + 256 + HEADER - len(self._payload)]
                self._weigh()
            if self._remaining:
                return True
            payload = bytes(self._payload)
            self._payload = bytearray()
        self._kind = _NONE
        whole = self._whole(kind, payload, handler)
        self._weigh()
        return whole

    def _ended(self) -> bool:
        """Whether the frame in progress is over, and its stream's half with it."""
        if self._remaining:
            return False
        self._kind = _NONE
        return self._flags & END_STREAM != 0

    def _whole(self, kind: int, payload: bytes, handler: Handler) -> bool:
        """A frame of a kind that is looked at as a whole, or passed over."""
        if kind == RST_STREAM:
            handler.reset(self._side, self._stream)
        elif kind == GOAWAY and len(payload) >= 8:
            handler.goaway(self._side, int.from_bytes(payload[:4], "big") & _STREAM)
        elif kind in {HEADERS, PUSH_PROMISE, CONTINUATION}:
            return self._fragment(kind, payload, handler)
        return True

    def _fragment(self, kind: int, payload: bytes, handler: Handler) -> bool:
        """A part of a header block."""
        if kind != CONTINUATION:
            self._opening, self._opened_by, self._block = self._stream, kind, bytearray()
            self._ends = kind == HEADERS and self._flags & END_STREAM != 0
        over = self._length > len(payload)
        fragment: bytes | None = payload
        if kind != CONTINUATION and not over:
            fragment = _bare(kind, self._flags, payload)
        if fragment is None:
            return self._lose(handler)  # more padding than frame
        if over or self._block is None or len(self._block) + len(fragment) > self._limit:
            self._block = None
        else:
            self._block += fragment
        if self._flags & END_HEADERS:
            number, block = self._opening, None if self._block is None else bytes(self._block)
            self._opening, self._block = 0, bytearray()
            handler.block(self._side, number, block, end=self._ends, promise=self._opened_by == PUSH_PROMISE)
        return True

    def _lose(self, handler: Handler) -> bool:
        """Out of step; the rest of the segment is passed over."""
        self._in_step = self._pad_unread = self._ready = False
        self._partial, self._payload, self._block = b"", bytearray(), bytearray()
        self._kind = _NONE
        self._opening = self._remaining = 0
        self._weigh()
        handler.lost(self._side)
        return False

    def _weigh(self) -> None:
        self.held = len(self._partial) + len(self._payload) + (0 if self._block is None else len(self._block))


def _bare(kind: int, flags: int, payload: bytes) -> bytes | None:
    """The header block's part of a HEADERS or PUSH_PROMISE frame (sections 6.2 and 6.6); None if there is no room."""
    start, stop = 0, len(payload)
    if flags & PADDED:
        start, stop = 1, stop - (payload[0] if payload else 0)
    if kind == PUSH_PROMISE:
        start += 4
    elif flags & HAS_PRIORITY:
        start += 5
    return payload[start:stop] if start <= stop else None
