"""The packets in one block of a ring that the kernel has filled (struct tpacket_block_desc and struct tpacket3_hdr,
linux/if_packet.h). Numbers are in the machine's byte order.

On every packet's way, so it has no part in how rings are made: this can be compiled, that must not be.
"""

from __future__ import annotations

import mmap
import struct
import sys
from typing import TYPE_CHECKING, Final, TypeAlias

from tapper.streams.packet import BYTEWISE, Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

Packets: TypeAlias = tuple[bytes, list[Packet]]
"""Some packets, and the bytes that they lie in."""

WINDOW: Final = 64 * 1024
"""Bytes that are copied out of a block at a time: what is made of them is still in the processor's caches when it is
written."""

_BLOCK_HEADER: Final = struct.Struct("=III").unpack_from  # num_pkts, offset_to_first_pkt, blk_len, behind block_status
_BLOCK_HEADER_AT: Final = 12

# struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, mac, net; at 48 a struct sockaddr_ll, of which
# ifindex is at 4.
_PACKET: Final = struct.Struct("=IIIII4x2xH24xi")
_unpack: Final = _PACKET.unpack_from
_HEADER_SIZE: Final = _PACKET.size
_BYTEWISE: Final = BYTEWISE and sys.byteorder == "little"


class Block:
    """The packets of the block that begins at `base`, some at a time."""

    __slots__ = ("_at", "_end", "_memory", "cut", "left")

    def __init__(self, memory: mmap.mmap, base: int) -> None:
        count: int
        offset: int
        length: int
        count, offset, length = _BLOCK_HEADER(memory, base + _BLOCK_HEADER_AT)
        self._memory = memory
        self._at = base + offset
        self._end = base + length
        self.left = count
        """How many are still to be taken."""
        self.cut = 0
        """How many of those that were taken the kernel has cut."""

    def take(self) -> Packets:
        """The next ones; there are some left. Once all are taken, the block can be the kernel's again."""
        at, size = self._at, WINDOW
        while True:
            window = self._memory[at : min(at + size, self._end)]
            found = self._within(window)
            if found:
                return window, found
            assert at + size < self._end, "a packet lies within its block"
            size *= 2  # a packet of segmentation offload may be larger than most windows

    def _within(self, window: bytes) -> list[Packet]:
        """Those that are whole in here."""
        at: int = 0
        step: int
        seconds: int
        nanoseconds: int
        kept: int
        length: int
        start: int
        ifindex: int
        left, size = self.left, len(window)
        found: list[Packet] = []
        while left and at + _HEADER_SIZE <= size:
            if _BYTEWISE:
                step = _number(window, at)
                seconds = _number(window, at + 4)
                nanoseconds = _number(window, at + 8)
                kept = _number(window, at + 12)
                length = _number(window, at + 16)
                start = _number(window, at + 24) >> 16
                ifindex = _number(window, at + 52)
            else:
                step, seconds, nanoseconds, kept, length, start, ifindex = _unpack(window, at)
            start += at
            stop = start + kept
            if stop > size:
                break
            if kept < length:
                self.cut += 1
            found.append((seconds * 1_000_000_000 + nanoseconds, ifindex, start, stop))
            at += step
            left -= 1
        self.left = left
        self._at += at
        return found


def _number(window: bytes, at: i64) -> i64:
    """An unsigned one of 32 bits, with its least octet first."""
    first: i64 = window[at]
    second: i64 = window[at + 1]
    third: i64 = window[at + 2]
    fourth: i64 = window[at + 3]
    return first | second << 8 | third << 16 | fourth << 24
