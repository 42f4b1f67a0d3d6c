"""A packet socket with memory that the kernel fills: AF_PACKET, TPACKET_V3 (packet(7), linux/if_packet.h,
Documentation/networking/packet_mmap.rst).

The kernel packs packets into blocks of shared memory. `tapper.capture.walk` reads them without a system call. With
SOCK_DGRAM every packet begins at its IP header, on any link.

The order of the steps matters. The socket is made with protocol 0, so it receives nothing. Then it gets its filter and
its memory. Binding it starts the capture. So nothing unwanted is ever queued.

The size of the memory is fixed while the socket is bound; `tapper.capture.ring` replaces the socket by a larger one.
SO_TIMESTAMPNS makes the kernel note the time when a packet comes, so that a packet has the same time in the memory of
each socket.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tapper.capture.bpf import Instruction, attach
from tapper.capture.walk import Blocks, Packets
from tapper.errors import MissingCapabilityError, TapperError, UsageError, explain
from tapper.namespaces.privileges import Capability, advice
from tapper.runtime.descriptors import lasting

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V3 = 2
ETH_P_ALL = 0x0003
SO_TIMESTAMPNS = 35  # asm-generic/socket.h
SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16

SMALLEST_BLOCK = 128 * 1024
"""Bytes. A frame on lo has up to 65,549 bytes, and a block has to hold it with its headers."""
_LARGEST_BLOCK = 512 * 1024
_BLOCKS = 8  # of a ring, if that makes them neither too small nor too large
RETIRE_MS = 60_000  # the kernel keeps it in 16 bits
"""The kernel hands over a block that is not full after this time. `tapper.capture.walk` says why it is long."""
_FRAME_SIZE = 2048  # has no meaning in version 3, but must be aligned and divide a block

_STATISTICS = struct.Struct("=III")  # struct tpacket_stats_v3: packets, drops, freeze_q_cnt

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Statistics:
    """Packets that passed the filter, since the capture began."""

    received: int = 0
    """Packets for which the ring had room."""
    dropped: int = 0
    """Packets for which the ring had no room, as the kernel counted them."""
    unread: int = 0
    """Received packets that were not read when the capture ended."""


class CaptureRing(ABC):
    """Packets that wait to be read. A ring that does not say otherwise loses no part of a packet, and never grows."""

    @property
    def cut(self) -> int:
        """Packets that have lost a part."""
        return 0

    @property
    def bad_checksum(self) -> int:
        """Packets that were left out, because their receiver drops them."""
        return 0

    @property
    def unread(self) -> int:
        """Packets that were counted and not read."""
        return 0

    @property
    @abstractmethod
    def is_ready(self) -> bool:
        """Whether `packets` has some."""

    @property
    def counted(self) -> bool:
        """Whether the last `unfinished` has counted packets, which the next one returns."""
        return False

    @property
    def crowded(self) -> bool:
        """Whether the ring should grow: an eighth of it waits to be read. Ask before reading."""
        return False

    @abstractmethod
    def fileno(self) -> int:
        """For polling: readable when there are packets. Changes in `turn_over`."""

    @abstractmethod
    def packets(self) -> Iterator[Packets]:
        """Some of the packets, some at a time. Must be run to its end."""

    def unfinished(self) -> Packets | None:
        """Packets for which the descriptor is not readable yet; None if there are none."""
        return None

    @abstractmethod
    def rest(self) -> Iterator[Packets]:
        """All packets, after `stop`. Must be run to its end."""

    @abstractmethod
    def stop(self) -> None:
        """Let nothing more in. The packets in the ring are still to be read."""

    @abstractmethod
    def drained(self) -> bool:
        """Whether every packet was read that the kernel has counted."""

    @abstractmethod
    def statistics(self) -> Statistics:
        """The counts since the capture began."""

    def error(self) -> int:
        """A pending error number, 0 for none: ENETDOWN when the interface went down. Reading clears it."""
        return 0

    @abstractmethod
    def close(self) -> None:
        """Release the memory and the sockets, and with them the hold on the namespace."""

    def grow(self, notify: Callable[[], None]) -> bool:  # noqa: ARG002 - some rings have one size
        """Begin to grow. False if it cannot. `notify` is called, on another thread, when `turn_over` or `failure` has
        something to do."""
        return False

    def turn_over(self) -> bool:
        """Replace the memory by a larger one that is ready. Returns whether `fileno` has changed."""
        return False

    def failure(self) -> str:
        """Why growing has failed, once; empty for nothing to say."""
        return ""


class Mapped:
    """An open socket and its memory; made by `open_mapped`. Only `close` may be called on another thread."""

    def __init__(self, sock: socket.socket, size: int, blocks: type[Blocks] = Blocks) -> None:
        self.socket = sock
        self.size = size
        """Bytes of the memory."""
        self.block_size = block_size(size)
        # Python's mmap keeps a duplicate of the descriptor, and a socket lives as long as any of its descriptors.
        self._memory = mmap.mmap(sock.fileno(), size)
        self.blocks = blocks(self._memory, self.block_size, size // self.block_size)
        self._statistics = Statistics()

    def packets(self, at_once: int) -> Iterator[Packets]:
        """The packets of blocks that are ready: of at most `at_once` bytes of blocks, or of one block. Must be run to
        its end."""
        return self.blocks.packets(max(1, min(at_once, self.size) // self.block_size))

    @property
    def crowded(self) -> bool:
        """Whether an eighth of the memory waits to be read."""
        return self.blocks.waiting(max(1, self.size // self.block_size // 8))

    def statistics(self) -> Statistics:
        """The kernel's counts. Reading resets them in the kernel (packet(7)), so they are added up here."""
        raw = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        packets, drops, _ = _STATISTICS.unpack(raw)
        self._statistics.received += packets - drops  # the kernel's first number includes its second
        self._statistics.dropped += drops
        return self._statistics

    def drained(self) -> bool:
        """Whether every packet that the kernel counted was read."""
        return self.blocks.read >= self.statistics().received

    def attach(self, program: tuple[Instruction, ...]) -> None:
        """Replace the filter. The packets in the memory stay. Raises OSError."""
        attach(self.socket, program)

    def error(self) -> int:
        """The socket's pending error number, 0 for none: ENETDOWN when the interface went down. Reading clears it."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Release the memory and the socket, and with the socket its hold on the namespace."""
        self.socket.close()
        self._memory.close()


def block_size(size: int) -> int:
    """The bytes of a block, in a ring of `size` bytes."""
    return max(SMALLEST_BLOCK, min(_LARGEST_BLOCK, size // _BLOCKS))


def open_mapped(
    interface: str | None, program: tuple[Instruction, ...], size: int, blocks: type[Blocks] = Blocks
) -> Mapped:
    """Start capturing in the calling thread's network namespace, on one interface or (None) on all. `size` is that of
    the memory in bytes, a power of two and at least twice SMALLEST_BLOCK.

    Raises MissingCapabilityError, UsageError for an unknown interface, TapperError for anything else.
    """
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
        sock = socket.socket(fileno=lasting(sock.detach()))
    except PermissionError:
        raise MissingCapabilityError(advice(Capability.NET_RAW)) from None
    except OSError as error:
        raise TapperError(f"cannot open a packet socket: {explain(error)}") from error
    try:
        index = 0 if interface is None else _index_of(sock, interface)
        attach(sock, program)
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        _allocate(sock, size)
        mapped = Mapped(sock, size, blocks)
        # struct sockaddr_ll. Python's own bind takes an interface's name, and "any" has none.
        address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(ETH_P_ALL), index, 0, 0, 0)
        _check(_libc.bind(sock.fileno(), address, len(address)))
    except OSError as error:
        sock.close()
        raise TapperError(f"cannot set up a packet ring: {explain(error)}") from error
    except TapperError:
        sock.close()
        raise
    return mapped


def _index_of(sock: socket.socket, interface: str) -> int:
    """The interface's index in the socket's namespace, which need not be the caller's (netdevice(7))."""
    name = os.fsencode(interface)
    if len(name) < _IFNAMSIZ and name:
        request = struct.pack("16sI20x", name, 0)
        try:
            return int(struct.unpack_from("=I", fcntl.ioctl(sock.fileno(), SIOCGIFINDEX, request), _IFNAMSIZ)[0])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
    raise UsageError(f"there is no interface named {interface!r} here (-i)")


def _allocate(sock: socket.socket, size: int) -> None:
    """PACKET_RX_RING with a struct tpacket_req3.

    The kernel waits for milliseconds here. Python's own setsockopt keeps the interpreter lock meanwhile; the C
    library's, called by ctypes, lets other threads run.
    """
    block = block_size(size)
    request = struct.pack("=7I", block, size // block, _FRAME_SIZE, size // _FRAME_SIZE, RETIRE_MS, 0, 0)
    _check(_libc.setsockopt(sock.fileno(), SOL_PACKET, PACKET_RX_RING, request, len(request)))


def _check(result: int) -> None:
    """Raise OSError if a function of the C library has failed."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
