"""What crossed the interfaces of a pod or of the node: a capture that stays in the kernel until it is read."""

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
_LOOPBACK = "lo"
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
    """Records from construction on. It pins the network namespace until `close`.

    `only_lo` leaves out all interfaces but `lo`: those of the node carry the packets of every pod.
    """

    def __init__(self, place: Network, name: str, *, only_lo: bool = False) -> None:
        self.name = name
        self.lost = False
        """Whether packets are missing, because more crossed than the kernel would keep."""
        self._on_lo: list[Frame] = []
        self._elsewhere: list[Frame] = []
        self._open = True
        of_all_interfaces = 0 if only_lo else socket.htons(_ETH_P_ALL)
        self._socket = place.socket(socket.AF_PACKET, socket.SOCK_RAW, of_all_interfaces)
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # an ordinary user has to do with what the machine allows
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            if only_lo:
                self._socket.bind((_LOOPBACK, _ETH_P_ALL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def frames(self) -> list[Frame]:
        """All frames of `lo` so far, each once."""
        self._read()
        return self._on_lo

    def frames_elsewhere(self) -> list[Frame]:
        """All frames of the other interfaces so far: of a pod those of its `eth0`."""
        self._read()
        return self._elsewhere

    def save(self, path: Path) -> None:
        """Write the frames of `lo` so far as a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self.frames())

    def close(self) -> None:
        """Let go of the namespace. The frames that were recorded stay."""
        if self._open:
            self._read()
            self._open = False
            self._socket.close()

    def _read(self) -> None:
        """Take all frames that the kernel holds."""
        if not self._open:
            return
        for interface, frame in self._queued():
            (self._on_lo if interface == _LOOPBACK else self._elsewhere).append(frame)
        _, drops = _STATISTICS.unpack(self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size))
        self.lost = self.lost or drops > 0  # the kernel counts from the last call on

    def _queued(self) -> Iterator[tuple[str, Frame]]:
        """The frames in the kernel with the names of their interfaces; of `lo` without the first of the two copies."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_LARGEST_FRAME, _ANCILLARY)
            except BlockingIOError:
                return
            interface, packet_type = address[0], address[2]
            if interface == _LOOPBACK and packet_type == _PACKET_OUTGOING:
                continue
            values = {(level, kind): value for level, kind, value in ancillary}
            seconds, nanoseconds = _TIMESPEC.unpack_from(values[socket.SOL_SOCKET, _SO_TIMESTAMPNS])
            (status,) = _STATUS.unpack_from(values[_SOL_PACKET, _PACKET_AUXDATA])
            unread = status & (_CSUM_NOT_READY | _CSUM_VALID)
            refused = not unread and receiver_refuses(data[ETHERNET_HEADER:])
            yield interface, Frame(seconds * 10**9 + nanoseconds, data, refused)
