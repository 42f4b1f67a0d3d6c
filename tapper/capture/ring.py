"""A packet socket with a ring that the kernel fills: AF_PACKET, TPACKET_V3 (packet(7), linux/if_packet.h,
Documentation/networking/packet_mmap.rst).

The kernel packs packets into blocks of shared memory and hands a block over when it is full or when the retire
time-out has passed. Reading a block costs no system call. SOCK_DGRAM makes every packet begin at its IP header,
whatever the link.

Order matters: the socket is made with protocol 0, so it receives nothing; then come filter and ring; binding starts the
capture. So nothing unwanted is ever queued, and once `open_ring` returns, capture is running.
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

from tapper.capture import bpf, walk
from tapper.capture.bpf import Instruction
from tapper.capture.walk import Packet
from tapper.errors import MissingCapabilityError, TapperError, UsageError, explain
from tapper.privileges import Capability, advice

SOL_PACKET = 263
PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION = 5, 6, 10
TPACKET_V3 = 2
ETH_P_ALL = 0x0003
SO_ATTACH_FILTER = 26
SIOCGIFINDEX = 0x8933
_IFNAMSIZ = 16

BLOCK_SIZE = 128 * 1024
"""A frame on lo reaches 65,549 bytes and must fit into a block together with its headers."""
BLOCKS = 32
RETIRE_MS = 100
_FRAME_SIZE = 2048  # means nothing to version 3, but must be aligned and divide a block

_BLOCK_STATUS = 8  # struct tpacket_block_desc: version, offset_to_priv, then struct tpacket_hdr_v1
_TP_STATUS_USER = 1
_KERNEL = bytes(4)  # TP_STATUS_KERNEL: the block is the kernel's again
_STATISTICS = struct.Struct("=III")  # struct tpacket_stats_v3: packets, drops, freeze_q_cnt

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Statistics:
    """Packets that passed the filter, since the ring was opened."""

    received: int = 0
    """Those that got into the ring."""
    dropped: int = 0
    """Those for which the ring had no room, as the kernel counted them."""


class Ring:
    """An open ring; made by `open_ring`. Not for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        # Python's mmap keeps a duplicate of the descriptor, and a socket lives as long as any of its descriptors.
        self._memory = mmap.mmap(sock.fileno(), BLOCK_SIZE * BLOCKS)
        self._view = memoryview(self._memory)
        self._block = 0
        self._read = 0
        self._statistics = Statistics()
        self.cut = 0
        """Packets of which the kernel kept only a part."""

    def fileno(self) -> int:
        """For polling: readable when a block is ready."""
        return self._socket.fileno()

    def packets(self) -> Iterator[Packet]:
        """The packets of all blocks that are ready, at most one round of the ring. Must be run to its end."""
        view = self._view
        for _ in range(BLOCKS):
            base = self._block * BLOCK_SIZE
            if not view[base + _BLOCK_STATUS] & _TP_STATUS_USER:
                return
            found, cut = walk.packets(view, base)
            yield from found
            self._read += len(found)
            self.cut += cut
            found.clear()
            view[base + _BLOCK_STATUS : base + _BLOCK_STATUS + 4] = _KERNEL
            self._block = (self._block + 1) % BLOCKS

    def statistics(self) -> Statistics:
        """The kernel's counts. Reading resets them in the kernel (packet(7)), so they are added up here."""
        raw = self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, _STATISTICS.size)
        packets, drops, _ = _STATISTICS.unpack(raw)
        self._statistics.received += packets - drops  # the kernel's first number includes its second
        self._statistics.dropped += drops
        return self._statistics

    def restrict(self, program: tuple[Instruction, ...]) -> None:
        """Let in what another filter lets in. What is in the ring stays. Raises TapperError."""
        try:
            _attach(self._socket, program)
        except OSError as error:
            raise TapperError(f"cannot replace the packet filter: {explain(error)}") from error

    def stop(self) -> None:
        """Let nothing new in. What is in the ring is still to be read, see `drained`."""
        _attach(self._socket, bpf.REJECT_ALL)

    def drained(self) -> bool:
        """Whether everything the kernel counted has been read. The last block comes with the retire time-out."""
        return self._read >= self.statistics().received

    def error(self) -> int:
        """The socket's pending error number, 0 for none: ENETDOWN when the interface went down. Reading clears it."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Release the memory and the socket, and with it the namespace. Views given out must be gone."""
        self._socket.close()
        try:
            self._view.release()
            self._memory.close()
        except BufferError:
            pass  # an exception on its way out has a packet in its traceback: it goes with that, and must not be hidden


def open_ring(interface: str | None, program: tuple[Instruction, ...]) -> Ring:
    """Start capturing in the calling thread's network namespace, on one interface or (None) on all.

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
        _attach(sock, program)
        sock.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
        _allocate(sock)
        ring = Ring(sock)
        _bind(sock, index)
    except OSError as error:
        sock.close()
        raise TapperError(f"cannot set up a packet ring: {explain(error)}") from error
    except TapperError:
        sock.close()
        raise
    return ring


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


def _attach(sock: socket.socket, program: tuple[Instruction, ...]) -> None:
    """SO_ATTACH_FILTER (socket(7)), replacing the filter before.

    A long program may be over net.core.optmem_max. The kernel then says ENOMEM, and the filter for all of TCP does
    instead: the addresses are checked again in user space in any case.
    """
    try:
        _attach_exactly(sock, program)
    except OSError as error:
        if error.errno != errno.ENOMEM:
            raise
        _attach_exactly(sock, bpf.program(None))


def _attach_exactly(sock: socket.socket, program: tuple[Instruction, ...]) -> None:
    code = ctypes.create_string_buffer(bpf.pack(program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code)))


def _allocate(sock: socket.socket) -> None:
    """PACKET_RX_RING with a struct tpacket_req3.

    The kernel waits here until nobody reads the socket's old state, for milliseconds. Python's own setsockopt keeps the
    interpreter lock meanwhile; called this way, other threads can open their rings in the same time.
    """
    frames = BLOCK_SIZE // _FRAME_SIZE * BLOCKS
    request = struct.pack("=7I", BLOCK_SIZE, BLOCKS, _FRAME_SIZE, frames, RETIRE_MS, 0, 0)
    if _libc.setsockopt(sock.fileno(), SOL_PACKET, PACKET_RX_RING, request, len(request)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _bind(sock: socket.socket, index: int) -> None:
    """bind(2) to a struct sockaddr_ll. Python's own takes an interface's name, and "any" has none."""
    address = struct.pack("=HHiHBB8x", socket.AF_PACKET, socket.htons(ETH_P_ALL), index, 0, 0, 0)
    if _libc.bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
