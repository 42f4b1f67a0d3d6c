"""The blocks of a ring that the kernel has filled, and the packets in them (struct tpacket_block_desc and struct
tpacket3_hdr, linux/if_packet.h). Numbers are in the machine's byte order.

On every packet's way, so it has no part in how rings are made: this can be compiled, that must not be.
"""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, TypeAlias

from tapper import FORM
from tapper.capture.checksum import is_right
from tapper.streams.packet import Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

Packets: TypeAlias = tuple[bytes, list[Packet]]
"""Some packets, and the bytes that they lie in."""

WINDOW: Final = 64 * 1024
"""Bytes that are copied out of a block at a time: what is made of them is still in the processor's caches when it is
written."""

_BLOCK_STATUS: Final = 8  # struct tpacket_block_desc: version, offset_to_priv, then struct tpacket_hdr_v1
_TP_STATUS_USER: Final = 1
_KERNEL: Final = bytes(4)  # TP_STATUS_KERNEL: the block is the kernel's again
_BLOCK_HEADER: Final = struct.Struct("=III").unpack_from  # num_pkts, offset_to_first_pkt, blk_len, behind block_status
_BLOCK_HEADER_AT: Final = 12

# struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, mac, net; at 48 a struct sockaddr_ll, of which
# ifindex is at 4.
_PACKET: Final = struct.Struct("=IIIIII2xH24xi")
_unpack: Final = _PACKET.unpack_from
_HEADER_SIZE: Final = _PACKET.size
_TP_STATUS_CSUMNOTREADY: Final = 1 << 3
_TP_STATUS_CSUM_VALID: Final = 1 << 7
_NOT_TO_BE_CHECKED: Final = _TP_STATUS_CSUMNOTREADY | _TP_STATUS_CSUM_VALID
"""Either the checksum is left to hardware that there may not be, as on lo and veth, and the receiver does not look at
it; or the kernel has found it to be right."""
_BYTEWISE: Final = FORM == "compiled" and sys.byteorder == "little"


class Blocks:
    """The `count` blocks of a ring, of `size` bytes each, in the order in which they are filled."""

    __slots__ = ("_count", "_memory", "_next", "_size", "bad_checksum", "cut", "read")

    def __init__(self, memory: mmap.mmap, size: int, count: int) -> None:
        self._memory = memory
        self._size = size
        self._count = count
        self._next = 0
        self.read = 0
        """How many packets were read."""
        self.cut = 0
        """Those of which the kernel kept only a part."""
        self.bad_checksum = 0
        """Those with a wrong checksum: their receiver does not take them, so they are left out."""

    def packets(self, most: int) -> Iterator[Packets]:
        """The packets of the blocks that are ready, at most so many; some at a time, so that what is made of them is
        still in the processor's caches when it is written. Must be run to its end."""
        memory = self._memory
        for _ in range(most):
            base = self._next * self._size
            status = base + _BLOCK_STATUS
            if not memory[status] & _TP_STATUS_USER:
                return
            block = Block(memory, base)
            while block.left:
                portion = block.take()
                if not block.left:
                    self.read += block.count
                    self.cut += block.cut
                    self.bad_checksum += block.bad_checksum
                    memory[status : status + 4] = _KERNEL
                    self._next = (self._next + 1) % self._count
                yield portion

    def waiting(self, blocks: int) -> bool:
        """Whether so many more blocks are ready behind the one that is read next."""
        block = (self._next + blocks) % self._count
        return bool(self._memory[block * self._size + _BLOCK_STATUS] & _TP_STATUS_USER)


class Block:
    """The packets of the block that begins at `base`, some at a time."""

    __slots__ = ("_at", "_end", "_memory", "bad_checksum", "count", "cut", "left")

    def __init__(self, memory: mmap.mmap, base: int) -> None:
        count: int
        offset: int
        length: int
        count, offset, length = _BLOCK_HEADER(memory, base + _BLOCK_HEADER_AT)
        self._memory = memory
        self._at = base + offset
        self._end = base + length
        self.count = self.left = count
        """How many are still to be taken."""
        self.cut = 0
        """How many of those that were taken the kernel has cut."""
        self.bad_checksum = 0
        """How many were left out."""

    def take(self) -> Packets:
        """The next ones; there are some left. Once all are taken, the block can be the kernel's again."""
        at, size = self._at, WINDOW
        while True:
            window = self._memory[at : min(at + size, self._end)]
            left = self.left
            found = self._within(window)
            if self.left < left:
                return window, found
            assert at + size < self._end, "a packet lies within its block"
            size *= 2  # a packet of segmentation offload may be larger than most windows

    def _within(self, window: bytes) -> list[Packet]:
        """Those that are whole in here, without those that their receiver refuses."""
        at: int = 0
        step: int
        seconds: int
        nanoseconds: int
        kept: int
        length: int
        flags: int
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
                flags = _number(window, at + 20)
                start = _number(window, at + 24) >> 16
                ifindex = _number(window, at + 52)
            else:
                step, seconds, nanoseconds, kept, length, flags, start, ifindex = _unpack(window, at)
            start += at
            stop = start + kept
            if stop > size:
                break
            if kept < length:
                self.cut += 1
            if flags & _NOT_TO_BE_CHECKED or is_right(window, start, stop):
                found.append((seconds * 1_000_000_000 + nanoseconds, ifindex, start, stop))
            else:
                self.bad_checksum += 1
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
