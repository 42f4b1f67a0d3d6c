"""What really happened on the `lo` of a pod or of the node: a capture that lies in the kernel until it is wanted."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from harness.sandbox import pcap
from harness.sandbox.checksums import receiver_refuses
from harness.sandbox.frames import ETHERNET_HEADER, Frame

_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER = 32 << 20
_LARGEST_FRAME = 1 << 18
_PACKET_OUTGOING = 4  # linux/if_packet.h: the first of the two copies that a raw socket gets on lo
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")
_SOL_PACKET = 263  # linux/socket.h
_PACKET_STATISTICS = 6
_PACKET_AUXDATA = 8
_STATUS = struct.Struct("@I")  # the first field of struct tpacket_auxdata
_CSUM_NOT_READY, _CSUM_VALID = 1 << 3, 1 << 7  # TP_STATUS_: the kernel takes such a packet without adding it up
_ANCILLARY = 128
_STATISTICS = struct.Struct("@II")  # struct tpacket_stats: packets, drops


class Network(Protocol):
    """A pod or a node: what sockets can be opened in."""

    def socket(self, family: int, kind: int, proto: int = 0, /) -> socket.socket: ...


class Recording:
    """From construction on. It pins the network namespace until `close`."""

    def __init__(self, place: Network, name: str) -> None:
        self.name = name
        self.lost = False
        """Whether packets are missing, because more crossed than the kernel would keep."""
        self._frames: list[Frame] = []
        self._open = True
        self._socket = place.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # an ordinary user has to do with what the machine allows
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self._socket.bind(("lo", _ETH_P_ALL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def frames(self) -> list[Frame]:
        """Everything so far, each frame once."""
        if self._open:
            self._frames += self._queued()
            _, drops = _STATISTICS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
            self.lost = self.lost or drops > 0  # the kernel counts from the last call on
        return self._frames

    def save(self, path: Path) -> None:
        """Write everything so far as a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self.frames())

    def close(self) -> None:
        """Let go of the namespace. What was recorded stays."""
        if self._open:
            self.frames()
            self._open = False
            self._socket.close()

    def _queued(self) -> Iterator[Frame]:
        """What lies in the kernel, without the first of the two copies."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_LARGEST_FRAME, _ANCILLARY)
            except BlockingIOError:
                return
            if address[2] != _PACKET_OUTGOING:
                said = {(level, kind): value for level, kind, value in ancillary}
                seconds, nanoseconds = _TIMESPEC.unpack_from(said[socket.SOL_SOCKET, _SO_TIMESTAMPNS])
                (status,) = _STATUS.unpack_from(said[_SOL_PACKET, _PACKET_AUXDATA])
                unread = status & (_CSUM_NOT_READY | _CSUM_VALID)
                refused = not unread and receiver_refuses(data[ETHERNET_HEADER:])
                yield Frame(seconds * 10**9 + nanoseconds, data, refused)
