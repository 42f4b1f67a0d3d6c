"""Reads the blocks of a ring in windows. The records of a window's packets are written while the window is still in the
processor's caches.

Replaces `tapper.capture.walk.Blocks.packets`, which copies a whole block, and, where it is compiled, the unpacking of
packet headers. Measured with 28,000 packets, compiled: reading the blocks takes 20 ms by Blocks and 7 ms by
BytewiseBlocks; with the streams in them 35 ms by Blocks, 32 ms by WindowedBlocks and 21 ms by BytewiseBlocks.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from tapper.capture.walk import HEADER_SIZE, NOT_CHECKED, Blocks, Packets
from tapper.fast.packet import BYTEWISE
from tapper.streams.packet import Packet

if TYPE_CHECKING:
    from mypy_extensions import i64

WINDOW: Final = 64 * 1024
"""Bytes that are copied out of a block at a time."""


class WindowedBlocks(Blocks):
    """Gives the packets that Blocks gives, in smaller portions."""

    def packets(self, most: int) -> Iterator[Packets]:
        for _ in range(most):
            if not self.waiting(0):
                return
            at, end, count = self._bounds()
            left, size = count, WINDOW
            while True:
                window = self._memory[at : min(at + size, end)]
                found, passed, step = self._within(window, 0, left)
                if left and not passed and at + size < end:
                    size *= 2  # a packet of segmentation offload may be larger than a window
                    continue
                at, left, size = at + step, left - passed, WINDOW
                if left and passed:
                    yield window, found
                    continue
                self._release(count)  # without a further packet the rest of the block is damaged
                yield window, found
                break


class BytewiseBlocks(WindowedBlocks):
    """Reads packet headers by arithmetic on octets, which only pays in compiled code on little-endian machines."""

    def _within(self, memory: bytes, at: int, most: int) -> tuple[list[Packet], int, int]:
        found: list[Packet] = []
        size = len(memory)
        for passed in range(most):
            if at + HEADER_SIZE > size:
                return found, passed, at
            start = at + (_number(memory, at + 24) >> 16)
            kept = _number(memory, at + 12)
            stop = start + kept
            if stop > size:
                return found, passed, at
            if kept < _number(memory, at + 16):
                self.cut += 1
            if _number(memory, at + 20) & NOT_CHECKED or self._is_accepted(memory, start, stop):
                ts = _number(memory, at + 4) * 1_000_000_000 + _number(memory, at + 8)
                interface = _number(memory, at + 52)
                found.append((ts, interface, start, stop))
            step = _number(memory, at)
            if step < HEADER_SIZE:
                break
            at += step
        return found, most, at


def _number(memory: bytes, at: i64) -> i64:
    """An unsigned number of 32 bits, its least octet first."""
    first: i64 = memory[at]
    second: i64 = memory[at + 1]
    third: i64 = memory[at + 2]
    fourth: i64 = memory[at + 3]
    return first | second << 8 | third << 16 | fourth << 24


FastBlocks: Final[type[Blocks]] = BytewiseBlocks if BYTEWISE and sys.byteorder == "little" else WindowedBlocks
