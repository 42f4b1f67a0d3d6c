"""Recording what crosses a pod's veth: the ground truth that a tapper is held against."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from harness.errors import HarnessError
from harness.sandbox import frames, pcap
from harness.sandbox.frames import Flow, Frame

if TYPE_CHECKING:
    from harness.sandbox.pod import Pod

# linux/if_packet.h, asm-generic/socket.h
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_STATISTICS = 6
_SO_RCVBUFFORCE = 33
_BUFFER = 64 << 20
_LARGEST_FRAME = 1 << 18


class WireRecorder:
    """Records both directions of a pod's veth, seen from the node, from construction to `stop`.

    Frames lie in the kernel's queue as soon as they cross, so nothing that was sent before `stop` is missed; what the
    kernel had to drop is counted in `dropped`. Reading `frames` and everything made of it stops the wire.
    """

    def __init__(self, pod: Pod, buffer: int = _BUFFER) -> None:
        self.name = pod.link
        self.dropped = 0
        self._frames: list[Frame] = []
        self._stopped = False
        self._socket = pod.node.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            _set_buffer(self._socket, buffer)
            self._socket.bind((pod.link, _ETH_P_ALL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self._record, name=f"wire-{self.name}", daemon=True)
        self._thread.start()

    @property
    def frames(self) -> list[Frame]:
        self.stop()
        return self._frames

    @property
    def streams(self) -> dict[Flow, bytes]:
        """The bytes of every direction of every TCP connection. Raises when some of them were dropped."""
        recorded = self.frames
        self.require_whole()
        return frames.tcp_streams(recorded)

    def found(self, markers: Iterable[str]) -> set[str]:
        """Which of the markers crossed in plain sight, in a frame or across the frames of a stream."""
        haystacks = [frame.data for frame in self.frames] + list(self.streams.values())
        everything = b"\0".join(haystacks)
        return {marker for marker in markers if marker.encode() in everything}

    def streams_not_tls(self) -> dict[Flow, bytes]:
        """The directions that are anything but TLS records from beginning to end."""
        return {flow: data for flow, data in self.streams.items() if not frames.is_tls(data)}

    def require_whole(self) -> None:
        """Raise unless every frame was recorded: "not seen" means nothing where some were not looked at."""
        self.stop()
        if self.dropped:
            raise HarnessError(f"the wire of {self.name} is not whole: the kernel dropped {self.dropped} frames")

    def save(self, path: Path) -> None:
        """Write the recording as a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self.frames)

    def stop(self) -> None:
        """Take what is still queued, read the kernel's drop counter, and close."""
        if self._stopped:
            return
        self._stopped = True
        os.close(self._stop_write)
        self._thread.join()
        self._drain()
        statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        self.dropped = struct.unpack("II", statistics)[1]
        self._socket.close()
        os.close(self._stop_read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _record(self) -> None:
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        poller.register(self._stop_read, select.POLLIN | select.POLLHUP)
        while not any(fd == self._stop_read for fd, _ in poller.poll()):
            self._drain()

    def _drain(self) -> None:
        while True:
            try:
                data = self._socket.recv(_LARGEST_FRAME)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue  # said once, when the link goes down with its pod; what came before is still queued
            self._frames.append(Frame(time.time_ns(), data))


def _set_buffer(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:  # without root the kernel gives net.core.rmem_max; should that not do, drops are counted
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
