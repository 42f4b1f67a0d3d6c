"""Blocks of a packet ring, as the kernel lays them (linux/if_packet.h), and what a reader makes of them."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from tapper.capture.walk import Blocks

SECOND = 1_000_000_000
NOT_READY, VALID = 8, 128  # TP_STATUS_CSUMNOTREADY, TP_STATUS_CSUM_VALID
SIZE = 512 * 1024
"""Bytes of a block."""


@dataclass(frozen=True)
class Kept:
    """A packet of a block."""

    data: bytes
    ts: int = 0
    ifindex: int = 1
    length: int | None = None
    """Its length on the wire, where that is more than was kept."""
    status: int = 1 | NOT_READY


@dataclass(frozen=True)
class Read:
    """What a reader made of a ring."""

    packets: list[Kept]
    portions: list[int]
    """How many packets came at a time."""
    count: int
    cut: int
    bad_checksum: int


def laid(packets: list[Kept], *, ready: bool = True) -> bytes:
    """A block descriptor, then for each packet a tpacket3_hdr, a sockaddr_ll and the packet, aligned to 16 bytes. The
    last packet's next_offset is 0 if the block is ready, which means that the kernel has handed it over."""
    descriptor, start = 48, 82
    body = b""
    for number, packet in enumerate(packets):
        step = -(-(start + len(packet.data)) // 16) * 16
        seconds, nanoseconds = divmod(packet.ts, SECOND)
        length = len(packet.data) if packet.length is None else packet.length
        following = step if number + 1 < len(packets) or not ready else 0
        header = struct.pack(
            "=IIIIIIHH", following, seconds, nanoseconds, len(packet.data), length, packet.status, start, start
        )
        header += bytes(48 - len(header)) + struct.pack("=HHi", 0, 0, packet.ifindex)
        body += (header + bytes(start - len(header)) + packet.data).ljust(step, b"\0")
    block = struct.pack("=IIIIII", 2, 48, int(ready), len(packets), descriptor, descriptor + len(body))
    return block + bytes(descriptor - len(block)) + body


class Laid:
    """A ring of blocks that are all ready. The bytes after a block's packets are no packets."""

    def __init__(self, blocks: list[list[Kept]]) -> None:
        self._memory = mmap.mmap(-1, SIZE * len(blocks))
        self._count = len(blocks)
        for number, packets in enumerate(blocks):
            self.fill(number, packets)

    def fill(self, number: int, packets: list[Kept], *, ready: bool = True) -> None:
        self.write(number, laid(packets, ready=ready))

    def write(self, number: int, block: bytes) -> None:
        assert len(block) <= SIZE
        self._memory[number * SIZE : (number + 1) * SIZE] = block + b"\xff" * (SIZE - len(block))

    def blocks(self, kind: type[Blocks]) -> Blocks:
        return kind(self._memory, SIZE, self._count)

    def read(self, kind: type[Blocks]) -> Read:
        """Everything, read by a reader of this kind. The ring is as before afterwards."""
        before = self._memory[:]
        blocks = self.blocks(kind)
        packets: list[Kept] = []
        portions: list[int] = []
        for memory, found in blocks.packets(self._count):
            portions.append(len(found))
            packets += [Kept(memory[start:stop], ts, interface) for ts, interface, start, stop in found]
        assert not blocks.waiting(0), "every block was given back"
        self._memory[:] = before
        return Read(packets, portions, blocks.read, blocks.cut, blocks.bad_checksum)
