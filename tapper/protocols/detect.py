"""What a connection speaks, by its bytes and never by its port.

TLS: a record header (RFC 8446 section 5.1). HTTP/2: the client's preface or the server's SETTINGS (RFC 9113 section
3.4), or, where the beginning was not seen, a segment that is frames from its first byte to its last (section 4.1), as
senders send them. Other protocols begin their messages with numbers, too: those that look like one frame and say
nothing of HTTP prove nothing.
"""

from __future__ import annotations

from enum import StrEnum

from tapper.protocols.frames import PREFACE, looks_like_frames


class Kind(StrEnum):
    """What a connection that is not HTTP/1 was counted as."""

    TLS = "tls"
    HTTP2 = "http2"
    OTHER = "other"


_RECORD_TYPES = frozenset({0x14, 0x15, 0x16, 0x17})
_SETTINGS = 4
_FRAME_HEADER = 9

ENOUGH = len(PREFACE)
"""This many bytes always suffice for a verdict on a stream's beginning."""


def foreign(data: bytes, *, beginning: bool) -> Kind | None:
    """TLS or HTTP2 where the bytes say so, else None. `data` starts at a segment's, or the stream's, beginning."""
    if len(data) >= 3 and data[0] in _RECORD_TYPES and data[1] == 3 and data[2] <= 4:
        return Kind.TLS
    if data.startswith(PREFACE) or (_opens_with_settings(data) if beginning else looks_like_frames(data, exact=True)):
        return Kind.HTTP2
    return None


def undecided(data: bytes) -> bool:
    """Whether a stream's first bytes are too few to tell HTTP/2's preface or TLS from anything else."""
    if len(data) < 3 and data[:1] and data[0] in _RECORD_TYPES and data[1:2] in (b"", b"\x03"):
        return True
    if len(data) < _FRAME_HEADER and data[:1] == b"\0":
        return True
    return len(data) < ENOUGH and PREFACE.startswith(data)


def _opens_with_settings(data: bytes) -> bool:
    """A server's first frame."""
    if len(data) < _FRAME_HEADER or data[3] != _SETTINGS:
        return False
    return int.from_bytes(data[:3], "big") % 6 == 0 and data[5:9] == b"\0\0\0\0"
