"""A packet socket with memory that the kernel fills: AF_PACKET, TPACKET_V3 (packet(7), linux/if_packet.h,
Documentation/networking/packet_mmap.rst).

The kernel packs packets into blocks of shared memory and hands a block over when it is full or when the retire
time-out has passed. Reading a block costs no system call. SOCK_DGRAM makes every packet begin at its IP header,
whatever the link.

Order matters: the socket is made with protocol 0, so it receives nothing; then come filter and memory; binding starts
the capture. So nothing unwanted is ever queued.

The size of the memory is fixed for as long as the socket is bound; `tapper.capture.ring` goes over to another socket
with more. The sockets ask the kernel to note the time when a packet comes (SO_TIMESTAMPNS), so that one packet has the
same time in the memory of each of them.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from tapper.capture import bpf
from tapper.capture.bpf import Instruction
from tapper.capture.walk import Blocks, Packets
from tapper.errors import MissingCapabilityError, TapperError, UsageError, explain
from tapper.namespaces.privileges import Capability, advice

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V3 = 2
ETH_P_ALL = 0x0003
SO_ATTACH_FILTER, SO_TIMESTAMPNS = 26, 35  # asm-generic/socket.h
SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16

SMALLEST_BLOCK = 128 * 1024
"""In bytes. A frame on lo reaches 65,549 bytes and must fit into a block together with its headers."""
_LARGEST_BLOCK = 512 * 1024
_BLOCKS = 8  # of a ring, if that leaves them neither too small nor too large
RETIRE_MS = 200
"""A reader is woken when a block is full, or this long after a packet came. Each time costs it as much as dozens of
packets, since its memory is no longer in the processor's caches."""
_FRAME_SIZE = 2048  # means nothing to version 3, but must be aligned and divide a block

_STATISTICS = struct.Struct("=III")  # struct tpacket_stats_v3: packets, drops, freeze_q_cnt

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Statistics:
    """Packets that passed the filter, since the capture began."""

    received: int = 0
    """Those for which there was room."""
    dropped: int = 0
    """Those for which there was none, as the kernel counted them."""


class Mapped:
    """An open socket and its memory; made by `open_mapped`. Not for several threads, but for `close`."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self.socket = sock
        self.size = size
        """Bytes."""
        self.block_size = block_size(size)
        self.blocks = size // self.block_size
        # Python's mmap keeps a duplicate of the descriptor, and a socket lives as long as any of its descriptors.
        self._memory = mmap.mmap(sock.fileno(), size)
        self._filled = Blocks(self._memory, self.block_size, self.blocks)
        self._statistics = Statistics()

    @property
    def cut(self) -> int:
        """Packets of which the kernel kept only a part."""
        return self._filled.cut

    @property
    def bad_checksum(self) -> int:
        """Packets that were left out, since their receiver refuses them."""
        return self._filled.bad_checksum

    def packets(self, at_once: int) -> Iterator[Packets]:
        """As Blocks.packets: at most so many bytes of blocks, or one."""
        return self._filled.packets(max(1, min(at_once, self.size) // self.block_size))

    def waiting(self, blocks: int) -> bool:
        """As Blocks.waiting."""
        return self._filled.waiting(blocks)

    def statistics(self) -> Statistics:
        """The kernel's counts. Reading resets them in the kernel (packet(7)), so they are added up here."""
        raw = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        packets, drops, _ = _STATISTICS.unpack(raw)
        self._statistics.received += packets - drops  # the kernel's first number includes its second
        self._statistics.dropped += drops
        return self._statistics

    def drained(self) -> bool:
        """Whether everything the kernel counted has been read. The last block comes with the retire time-out."""
        return self._filled.read >= self.statistics().received

    def attach(self, program: tuple[Instruction, ...]) -> None:
        """SO_ATTACH_FILTER (socket(7)), replacing the filter before. What was let in stays. Raises OSError.

        A long program may be over net.core.optmem_max. The kernel then says ENOMEM, and the filter for all of TCP does
        instead: the addresses are checked again in user space in any case.
        """
        attach(self.socket, program)

    def error(self) -> int:
        """The socket's pending error number, 0 for none: ENETDOWN when the interface went down. Reading clears it."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Release the memory and the socket, and with it the namespace."""
        self.socket.close()
        self._memory.close()


def block_size(size: int) -> int:
    """Of a ring of so many bytes."""
    return max(SMALLEST_BLOCK, min(_LARGEST_BLOCK, size // _BLOCKS))


def open_mapped(interface: str | None, program: tuple[Instruction, ...], size: int) -> Mapped:
    """Start capturing in the calling thread's network namespace, on one interface or (None) on all. `size` is that of
    the memory in bytes, a power of two and at least twice SMALLEST_BLOCK.

    Raises MissingCapabilityError, UsageError for an unknown interface, TapperError for anything else.
    """
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)
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
        mapped = Mapped(sock, size)
        _bind(sock, index)
    except OSError as error:
        sock.close()
        raise TapperError(f"cannot set up a packet ring: {explain(error)}") from error
    except TapperError:
        sock.close()
        raise
    return mapped


def _index_of(sock: socket.socket, interface: str) -> int:
    """The interface's index in the socket's namespace, which need not be that of the caller (netdevice(7))."""
    name = os.fsencode(interface)
    if len(name) < _IFNAMSIZ and name:
        request = struct.pack("16sI20x", name, 0)
        try:
            return int(struct.unpack_from("=I", fcntl.ioctl(sock.fileno(), SIOCGIFINDEX, request), _IFNAMSIZ)[0])
        except OSError as error:
            if error.errno != errno.ENODEV:
                raise
    raise UsageError(f"there is no interface named {interface!r} here (-i)")


def attach(sock: socket.socket, program: tuple[Instruction, ...]) -> None:
    """As Mapped.attach."""
    try:
        _attach_exactly(sock, program)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        _attach_exactly(sock, bpf.program(None))


def _attach_exactly(sock: socket.socket, program: tuple[Instruction, ...]) -> None:
    code = ctypes.create_string_buffer(bpf.pack(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _allocate(sock: socket.socket, size: int) -> None:
    """PACKET_RX_RING with a struct tpacket_req3.

    The kernel waits here until nobody reads the socket's old state, for milliseconds, in which other threads can open
    theirs.
    """
    block = block_size(size)
    geometry = (block, size // block, _FRAME_SIZE, size // _FRAME_SIZE)
    _set_option(sock, PACKET_RX_RING, struct.pack("=7I", *geometry, RETIRE_MS, 0, 0))


def _set_option(sock: socket.socket, option: int, value: bytes) -> None:
    """setsockopt(2) of packet(7). Python's own keeps the interpreter lock meanwhile; called this way it does not."""
    if _libc.setsockopt(sock.fileno(), SOL_PACKET, option, value, len(value)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bind(sock: socket.socket, index: int) -> None:
    """bind(2) to a struct sockaddr_ll. Python's own takes an interface's name, and "any" has none."""
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(ETH_P_ALL), index, 0, 0, 0)
    if _libc.bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
