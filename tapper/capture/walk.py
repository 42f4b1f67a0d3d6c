"""The packets in one block of a ring that the kernel has filled (struct tpacket_block_desc and struct tpacket3_hdr,
linux/if_packet.h). Numbers are in the machine's byte order.

On every packet's way, so it has no part in how rings are made: this can be compiled, that must not be.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

Packet: TypeAlias = tuple[int, int, memoryview]
"""(ts, ifindex, data): ts in nanoseconds since 1970, taken by the kernel; data from the IP header on, as many bytes as
were captured, valid until the block is the kernel's again. A plain tuple, since one is made for each packet."""

_BLOCK_HEADER = struct.Struct("=II").unpack_from  # of the block: num_pkts, offset_to_first_pkt, behind block_status
_BLOCK_HEADER_AT = 12

# struct tpacket3_hdr: next_offset, sec, nsec, snaplen, len, status, mac, net; at 48 a struct sockaddr_ll, of which
# ifindex is at 4.
_PACKET = struct.Struct("=IIIII4x2xH24xi").unpack_from


def packets(memory: memoryview, base: int) -> tuple[list[Packet], int]:
    """The packets of the block that begins at `base`, and how many of them the kernel cut."""
    count, offset = _BLOCK_HEADER(memory, base + _BLOCK_HEADER_AT)
    offset += base
    cut = 0
    found: list[Packet] = []
    for _ in range(count):
        step, seconds, nanoseconds, kept, length, start, ifindex = _PACKET(memory, offset)
        start += offset
        if kept < length:
            cut += 1
        found.append((seconds * 1_000_000_000 + nanoseconds, ifindex, memory[start : start + kept]))
        offset += step
    return found, cut
