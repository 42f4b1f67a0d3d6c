"""The packets in one block of a ring that the kernel has filled (struct tpacket_block_desc and struct tpacket3_hdr,
linux/if_packet.h). Numbers are in the machine's byte order.

On every packet's way, so it has no part in how rings are made: this can be compiled, that must not be.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

from tapper.streams.packet import Packet

_BLOCK_HEADER: Final = struct.Struct("=II").unpack_from  # num_pkts, offset_to_first_pkt, behind block_status
_BLOCK_HEADER_AT: Final = 12

# struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, mac, net; at 48 a struct sockaddr_ll, of which
# ifindex is at 4.
_PACKET: Final = struct.Struct("=IIIII4x2xH24xi").unpack_from


class Block:
    """The packets of the block that begins at `base`, some at a time."""

    __slots__ = ("_at", "_left", "_memory", "cut")

    def __init__(self, memory: mmap.mmap, base: int) -> None:
        count: int
        offset: int
        count, offset = _BLOCK_HEADER(memory, base + _BLOCK_HEADER_AT)
        self._memory = memory
        self._left = count
        self._at = base + offset
        self.cut = 0
        """How many of those that were read the kernel has cut."""

    def take(self, most: int) -> list[Packet]:
        """The next ones, at most so many; none at the end. They are there until the block is the kernel's again."""
        step: int
        seconds: int
        nanoseconds: int
        kept: int
        length: int
        start: int
        ifindex: int
        memory, at = self._memory, self._at
        found: list[Packet] = []
        count = min(most, self._left)
        for _ in range(count):
            step, seconds, nanoseconds, kept, length, start, ifindex = _PACKET(memory, at)
            start += at
            if kept < length:
                self.cut += 1
            found.append((seconds * 1_000_000_000 + nanoseconds, ifindex, start, start + kept))
            at += step
        self._left -= count
        self._at = at
        return found
