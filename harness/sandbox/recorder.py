"""Recording the packets of a network interface: the ground truth that a tapper is compared with.

`on_link` records a pod's veth as its node sees it, `on_eth0` the pod's end of the veth, `on_lo` the `lo` of a pod or of
the node, and `PacketRecorder` with the interface None every interface of a network namespace. `Recorded` answers the
questions of a test about frames.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol, Self

from harness.errors import HarnessError
from harness.sandbox import frames, pcap
from harness.sandbox.checksums import receiver_refuses
from harness.sandbox.frames import ETHERNET_HEADER, Flow, Frame
from harness.sandbox.links import SocketSource

# linux/if_packet.h, linux/socket.h, asm-generic/socket.h
_ETH_P_ALL = 0x0003
_SOL_PACKET = 263
_PACKET_STATISTICS, _PACKET_AUXDATA = 6, 8
_PACKET_OUTGOING = 4
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_STATISTICS = struct.Struct("@II")  # struct tpacket_stats: packets, drops
_TIMESPEC = struct.Struct("@qq")
_STATUS = struct.Struct("@I")  # the first field of struct tpacket_auxdata
_CSUM_NOT_READY, _CSUM_VALID = 1 << 3, 1 << 7  # TP_STATUS_: the kernel accepts the packet without checking its sum
_LINK_BUFFER = 64 << 20
_LO_BUFFER = 32 << 20
_LARGEST_FRAME = 1 << 18
_ANCILLARY = 128


class PodLink(Protocol):
    """A pod, as far as `on_link` needs it."""

    @property
    def link(self) -> str:
        """The node's end of the pod's veth."""

    @property
    def node(self) -> SocketSource: ...


class Recorded(ABC):
    """Recorded frames, and the questions that a test asks of them."""

    name: str

    @property
    @abstractmethod
    def frames(self) -> list[Frame]:
        """Every frame so far."""

    @abstractmethod
    def require_whole(self) -> None:
        """Raise `HarnessError` if frames are missing: "not seen" means nothing where some were not recorded."""

    @property
    def streams(self) -> dict[Flow, bytes]:
        """The bytes of every direction of every TCP connection. Raises `HarnessError` if some are missing."""
        recorded = self.frames
        self.require_whole()
        try:
            return frames.tcp_streams(recorded)
        except ValueError as error:
            raise HarnessError(f"the recording of {self.name} is not whole: {error}") from None

    def streams_not_tls(self) -> dict[Flow, bytes]:
        """The directions that are not TLS records from the first byte to the last."""
        return {flow: data for flow, data in self.streams.items() if not frames.is_tls(data)}

    def found(self, markers: Iterable[str]) -> set[str]:
        """The markers that crossed in plaintext, in one frame or across several frames of a stream."""
        everything = b"\0".join([*(frame.data for frame in self.frames), *self.streams.values()])
        return {marker for marker in markers if marker.encode() in everything}

    def carried(self, port: int) -> tuple[int, int]:
        """The bytes to and from a TCP port: those of streams that are TLS throughout, and those of other streams."""
        tls = other = 0
        for flow, data in self.streams.items():
            if port not in (flow.sport, flow.dport):
                continue
            if frames.is_tls(data):
                tls += len(data)
            else:
                other += len(data)
        return tls, other

    def save(self, path: Path) -> None:
        """Write a pcap file (link type Ethernet, nanoseconds)."""
        pcap.write(path, self.frames)


class PacketRecorder(Recorded):
    """Records an interface (None: all of them) from construction to `stop`; it pins the network namespace until then.

    Frames wait in the socket's queue, so everything that crossed before `frames` is read is in it. `dropped` counts the
    frames that found no room; `thread` empties the queue while frames arrive. `wanted` selects the frames to keep.

    On `lo` every packet passes twice, and the outgoing copy is left out; a frame that its receiver refuses because of
    its checksum is marked.
    """

    def __init__(
        self,
        network: SocketSource,
        interface: str | None,
        name: str,
        *,
        buffer: int = _LINK_BUFFER,
        thread: bool = False,
        wanted: Callable[[bytes], bool] = lambda _: True,
    ) -> None:
        self.name = name
        self.dropped = 0
        self._frames: list[Frame] = []
        self._wanted = wanted
        self._lock = threading.Lock()
        self._stopped = False
        # a socket of a protocol receives from every interface until it is bound; one of protocol 0 receives nothing
        protocol = 0 if interface is not None else socket.htons(_ETH_P_ALL)
        self._socket = network.socket(socket.AF_PACKET, socket.SOCK_RAW, protocol)
        try:
            _set_buffer(self._socket, buffer)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            if interface is not None:
                self._socket.bind((interface, _ETH_P_ALL))
            self._socket.setblocking(False)
        except BaseException:
            self._socket.close()
            raise
        self._stop_read, self._stop_write = os.pipe()
        self._thread = threading.Thread(target=self.wait, name=f"recorder-{name}", daemon=True) if thread else None
        if self._thread is not None:
            self._thread.start()

    @property
    def frames(self) -> list[Frame]:
        self._drain()
        return self._frames

    def require_whole(self) -> None:
        self._drain()
        if self.dropped:
            raise HarnessError(f"the recording of {self.name} is not whole: the kernel dropped {self.dropped} frames")

    def wait(self, stop: int | None = None) -> None:
        """Empty the queue while frames arrive, until `stop` is called or the descriptor `stop` can be read."""
        ends = {self._stop_read, self._stop_read if stop is None else stop}
        poller = select.poll()
        for fd in (self._socket.fileno(), *ends):
            poller.register(fd, select.POLLIN)
        while ends.isdisjoint(fd for fd, _ in poller.poll()):
            self._drain()

    def stop(self) -> None:
        """Take the frames that are still queued, and let go of the namespace. The recording stays."""
        if self._stopped:
            return
        os.close(self._stop_write)
        if self._thread is not None:
            self._thread.join()
        self._drain()
        with self._lock:
            self._stopped = True
            self._socket.close()
        os.close(self._stop_read)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _drain(self) -> None:
        with self._lock:
            if self._stopped:
                return
            self._frames += self._queued()
            statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, _STATISTICS.size)
            self.dropped += _STATISTICS.unpack(statistics)[1]  # the kernel counts from the last call on

    def _queued(self) -> Iterator[Frame]:
        while True:
            try:
                data, ancillary, _, address = self._socket.recvmsg(_LARGEST_FRAME, _ANCILLARY)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENETDOWN:
                    raise
                continue  # reported once, when the link goes down with its pod; earlier frames are still queued
            on_lo = address[0] == "lo"
            if (on_lo and address[2] == _PACKET_OUTGOING) or not self._wanted(data):
                continue
            control = {(level, kind): value for level, kind, value in ancillary}
            seconds, nanoseconds = _TIMESPEC.unpack_from(control[socket.SOL_SOCKET, _SO_TIMESTAMPNS])
            (status,) = _STATUS.unpack_from(control[_SOL_PACKET, _PACKET_AUXDATA])
            unchecked = status & (_CSUM_NOT_READY | _CSUM_VALID)
            refused = on_lo and not unchecked and receiver_refuses(data[ETHERNET_HEADER:])
            yield Frame(seconds * 10**9 + nanoseconds, data, refused, address[0])


def on_link(pod: PodLink, buffer: int = _LINK_BUFFER) -> PacketRecorder:
    """Record both directions of a pod's veth, seen from the node."""
    return PacketRecorder(pod.node, pod.link, pod.link, buffer=buffer, thread=True)


def on_lo(network: SocketSource, name: str) -> PacketRecorder:
    """Record the `lo` of a pod or a node. The frames stay in the kernel until they are asked for: a thread would take
    processor time from the case that is being recorded."""
    return PacketRecorder(network, "lo", name, buffer=_LO_BUFFER)


def on_eth0(network: SocketSource, name: str) -> PacketRecorder:
    """Record a pod's own end of its veth in the same way."""
    return PacketRecorder(network, "eth0", name, buffer=_LO_BUFFER)


def _set_buffer(sock: socket.socket, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:  # an ordinary user gets at most net.core.rmem_max; drops are counted
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
