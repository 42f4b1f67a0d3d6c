"""What a connection speaks, by its bytes and never by its port.

TLS: a record header (RFC 8446 section 5.1). HTTP/2: the client's preface or the server's SETTINGS (RFC 9113 section
3.4), or, where the beginning was not seen, a segment that is frames from its first byte to its last (section 4.1).
"""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a connection that is not HTTP/1 was counted as."""

    TLS = "tls"
    HTTP2 = "http2"
    OTHER = "other"


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_RECORD_TYPES = frozenset({0x14, 0x15, 0x16, 0x17})
_SETTINGS = 4
_FRAME_HEADER = 9

# Frame types of RFC 9113 section 6 whose payload has one length, or belongs to stream 0, or to any other one.
_FIXED_LENGTH = {2: 5, 3: 4, 6: 8, 8: 4}
_STREAM_0 = frozenset({4, 6, 7})
_STREAM_NOT_0 = frozenset({0, 1, 2, 3, 5, 9})
_LAST_TYPE = 9

ENOUGH = len(_PREFACE)
"""This many bytes always suffice for a verdict on a stream's beginning."""


def foreign(data: bytes, *, beginning: bool) -> Kind | None:
    """TLS or HTTP2 where the bytes say so, else None. `data` starts at a segment's, or the stream's, beginning."""
    if len(data) >= 3 and data[0] in _RECORD_TYPES and data[1] == 3 and data[2] <= 4:
        return Kind.TLS
    if data.startswith(_PREFACE) or (beginning and _opens_with_settings(data)) or _is_frames(data):
        return Kind.HTTP2
    return None


def undecided(data: bytes) -> bool:
    """Whether a stream's first bytes are too few to tell HTTP/2's preface or TLS from anything else."""
    if len(data) < 3 and data[:1] and data[0] in _RECORD_TYPES and data[1:2] in (b"", b"\x03"):
        return True
    if len(data) < _FRAME_HEADER and data[:1] == b"\0":
        return True
    return len(data) < ENOUGH and _PREFACE.startswith(data)


def _opens_with_settings(data: bytes) -> bool:
    """A server's first frame."""
    if len(data) < _FRAME_HEADER or data[3] != _SETTINGS:
        return False
    return int.from_bytes(data[:3], "big") % 6 == 0 and data[5:9] == b"\0\0\0\0"


def _is_frames(data: bytes) -> bool:
    """Whether the bytes are whole HTTP/2 frames and nothing else."""
    offset = 0
    while offset + _FRAME_HEADER <= len(data):
        length, kind = int.from_bytes(data[offset : offset + 3], "big"), data[offset + 3]
        stream = int.from_bytes(data[offset + 5 : offset + 9], "big")
        if kind > _LAST_TYPE or stream >> 31 or _FIXED_LENGTH.get(kind, length) != length:
            return False
        if (kind in _STREAM_0 and stream) or (kind in _STREAM_NOT_0 and not stream):
            return False
        offset += _FRAME_HEADER + length
    return offset == len(data) and offset > 0
