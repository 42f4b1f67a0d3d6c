"""What really happened on a pod's `lo`: a capture that lies in the kernel, read only where it is wanted."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from harness.sandbox import pcap
from harness.sandbox.frames import Frame
from harness.sandbox.pod import Pod

_ETH_P_ALL = 0x0003
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BUFFER = 32 << 20
_LARGEST_FRAME = 1 << 18
_PACKET_OUTGOING = 4  # linux/if_packet.h: the first of the two copies that a raw socket gets on lo
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@qq")


class Recording:
    """From construction on. It pins the pod's network namespace until `close`."""

    def __init__(self, pod: Pod) -> None:
        self.name = pod.name
        self._socket = pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            except PermissionError:  # an ordinary user has to do with what the machine allows
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.bind(("lo", _ETH_P_ALL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise

    def save(self, path: Path) -> None:
        """Write what has been recorded since the last time as a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self._queued())

    def close(self) -> None:
        self._socket.close()

    def _queued(self) -> Iterator[Frame]:
        """What lies in the kernel, without the first of the two copies."""
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_LARGEST_FRAME, 64)
            except BlockingIOError:
                return
            if address[2] != _PACKET_OUTGOING:
                seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
                yield Frame(seconds * 10**9 + nanoseconds, data)
