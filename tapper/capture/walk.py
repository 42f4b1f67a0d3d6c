"""Reads the packets in the blocks of a ring (struct tpacket_block_desc and struct tpacket3_hdr, linux/if_packet.h).
Numbers are in the machine's byte order.

The kernel hands a block over when it is full, or when its retire time-out has passed. The time-out is long, because a
block that is handed over nearly empty takes as much of the ring as a full one: while nobody reads, little traffic would
use up all blocks. So packets are also read out of the block that the kernel still fills (`Blocks.unfinished`). The
kernel takes microseconds from counting a packet in its block (prb_fill_curr_block) to marking it complete
(tpacket_rcv, both in net/packet/af_packet.c). A packet is read when it was counted at the look before and is marked.

This module is apart from the making of rings because it works on every packet: this module can be compiled, that must
not be.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Final, TypeAlias

from tapper.capture.checksum import is_right
from tapper.streams.packet import Packet

Packets: TypeAlias = tuple[bytes, list[Packet]]
"""Some packets, and the memory that they lie in."""

_BLOCK_STATUS: Final = 8  # struct tpacket_block_desc: version, offset_to_priv, then struct tpacket_hdr_v1
_TP_STATUS_USER: Final = 1
_TP_STATUS_KERNEL: Final = bytes(4)
_BLOCK_HEADER: Final = struct.Struct("=III").unpack_from  # num_pkts, offset_to_first_pkt, blk_len
_BLOCK_HEADER_AT: Final = 12
_NO_PACKETS: Final = bytes(4)
_STEP_AND_STATUS: Final = struct.Struct("=I16xI").unpack_from
"""The beginning of struct tpacket3_hdr: next_offset and status."""
_PACKET_HEADER: Final = struct.Struct("=IIIIII2xH24xI")
"""struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, net; then ifindex of the struct sockaddr_ll."""
HEADER_SIZE: Final = _PACKET_HEADER.size
_TP_STATUS_CSUMNOTREADY: Final = 1 << 3
_TP_STATUS_CSUM_VALID: Final = 1 << 7
NOT_CHECKED: Final = _TP_STATUS_CSUMNOTREADY | _TP_STATUS_CSUM_VALID
"""A packet with one of these is accepted with any checksum. Either the checksum is left to hardware that may not exist,
as on lo and veth, and the receiver ignores it; or the kernel has found it right."""


class Blocks:
    """The `count` blocks of a ring, of `size` bytes each, in the order in which the kernel fills them."""

    def __init__(self, memory: mmap.mmap, size: int, count: int) -> None:
        self._memory = memory
        self._size = size
        self._count = count
        self._next = 0
        """The block that is read next."""
        self._counted = 0
        """Packets in that block at the last look, while the kernel still fills it."""
        self._passed = 0
        """Packets of that block that were read already; the next one begins at `_at` in the ring's memory."""
        self._at = 0
        self.read = 0
        """Packets that were read."""
        self.cut = 0
        """Packets of which the kernel kept only a part."""
        self.bad_checksum = 0
        """Packets that were left out, because their receiver drops them for a wrong checksum."""

    def waiting(self, blocks: int) -> bool:
        """Whether the block is ready that comes `blocks` blocks after the next block."""
        block = (self._next + blocks) % self._count
        return bool(self._memory[block * self._size + _BLOCK_STATUS] & _TP_STATUS_USER)

    def packets(self, most: int) -> Iterator[Packets]:
        """The packets of at most `most` blocks that are ready. Must be run to its end. A block belongs to the kernel
        again before its last packets are returned."""
        for _ in range(most):
            if not self.waiting(0):
                return
            at, end, count = self._bounds()
            base = self._next * self._size
            memory = self._memory[base:end]
            found, _, _ = self._within(memory, at - base, count)
            self._release(count)
            yield memory, found

    def unfinished(self) -> Packets | None:
        """The packets of the block that the kernel still fills, as far as the call before has counted them. None if
        there are no such packets, or the block is ready."""
        if self.waiting(0):
            return None
        counted: int
        before = self._counted
        counted, _, _ = _BLOCK_HEADER(self._memory, self._next * self._size + _BLOCK_HEADER_AT)
        self._counted = counted
        if before <= self._passed:
            return None
        at, end, _ = self._bounds()
        memory = self._memory[at:end]
        found, passed, step = self._within(memory, 0, _complete(memory, before - self._passed))
        self._at = at + step
        self._passed += passed
        self.read += passed
        return memory, found

    @property
    def counted(self) -> bool:
        """Whether the last `unfinished` has counted packets, which the next one returns."""
        return self._counted > self._passed

    def rest(self) -> Iterator[Packets]:
        """All packets, when no more come: of the blocks that are ready, and of the block after them."""
        yield from self.packets(self._count)
        for portion in (self.unfinished(), self.unfinished()):  # the first call counts what the second one reads
            if portion is not None:
                yield portion

    def _bounds(self) -> tuple[int, int, int]:
        """Of the next block: where its first unread packet begins and where its last packet ends, in the ring's memory,
        and how many packets are unread."""
        count: int
        offset: int
        length: int
        base = self._next * self._size
        count, offset, length = _BLOCK_HEADER(self._memory, base + _BLOCK_HEADER_AT)
        at = self._at if self._passed else base + offset
        return at, base + min(length, self._size), max(0, count - self._passed)

    def _within(self, memory: bytes, at: int, most: int) -> tuple[list[Packet], int, int]:
        """Read the packets from `at` on that lie wholly in this memory, at most `most`. Returns the packets that their
        receiver accepts, the number of packets that were read, and where the next packet begins."""
        step: int
        seconds: int
        nanoseconds: int
        kept: int
        length: int
        status: int
        start: int
        interface: int
        found: list[Packet] = []
        for passed in range(most):
            if at + HEADER_SIZE > len(memory):
                return found, passed, at
            step, seconds, nanoseconds, kept, length, status, start, interface = _PACKET_HEADER.unpack_from(memory, at)
            start += at
            stop = start + kept
            if stop > len(memory):
                return found, passed, at
            self.cut += kept < length
            if status & NOT_CHECKED or self._is_accepted(memory, start, stop):
                found.append((seconds * 1_000_000_000 + nanoseconds, interface, start, stop))
            if step < HEADER_SIZE:  # 0 in the last packet of a block
                break
            at += step
        return found, most, at

    def _is_accepted(self, memory: bytes, start: int, stop: int) -> bool:
        """Whether the receiver accepts the checksums of a packet."""
        if is_right(memory, start, stop):
            return True
        self.bad_checksum += 1
        return False

    def _release(self, count: int) -> None:
        """The next block, which had so many unread packets, was read: give it back to the kernel. The kernel may begin
        to fill it much later. Until then its count of packets must not be the old one."""
        self.read += count
        status = self._next * self._size + _BLOCK_STATUS
        self._memory[status + 4 : status + 8] = _NO_PACKETS
        self._memory[status : status + 4] = _TP_STATUS_KERNEL
        self._next = (self._next + 1) % self._count
        self._counted = self._passed = 0


def _complete(memory: bytes, most: int) -> int:
    """How many of the first packets in this memory, at most `most`, the kernel has marked as complete."""
    step: int
    status: int
    at = 0
    for passed in range(most):
        if at + HEADER_SIZE > len(memory):
            return passed
        step, status = _STEP_AND_STATUS(memory, at)
        if not status & _TP_STATUS_USER:
            return passed
        at += step
    return most
