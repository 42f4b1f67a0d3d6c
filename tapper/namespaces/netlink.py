"""The messages of a netlink datagram (netlink(7)). Numbers are in the machine's byte order."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

HEADER: Final = struct.Struct("=IHHII")
"""struct nlmsghdr: length with the header, type, flags, sequence number, port."""


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each message; a message that is cut off ends them."""
    at = 0
    while at + HEADER.size <= len(datagram):
        length, kind, *_ = HEADER.unpack_from(datagram, at)
        if not HEADER.size <= length <= len(datagram) - at:
            return
        yield kind, datagram[at + HEADER.size : at + length]
        at += (length + 3) & ~3
