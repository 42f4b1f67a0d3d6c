"""Tappers of packets that are right but different: `captures.py everywhere|datagrams`.

everywhere  captures on all interfaces of its pods, and writes one pcapng of simple packet blocks: without a snap
            length, times, or names
datagrams   captures on `lo` by a socket without link-layer headers (SOCK_DGRAM), and writes a pcap file for each pod:
            raw IP, nanoseconds, big-endian

A thread stays in the network namespace of each pod until the pod ends. The targets file names a process of each
(`discovery = "kit"`). The tapper says by `ready = "fd"` that it captures.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO

ETHERNET, RAW, LOOPBACK = 1, 101, 772  # linktypes.html; linux/if_arp.h
ALL = 0x0003  # ETH_P_ALL
SO_TIMESTAMPNS = 35
stopping = threading.Event()
writing = threading.Lock()
tried = threading.Semaphore(0)
"""Released once for each pod, when its packet socket is open or could not be opened."""


def block(kind: int, body: bytes) -> bytes:
    """A block of pcapng."""
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


class SimpleBlocks:
    """All pods' packets in one pcapng on standard output."""

    kind, interface = socket.SOCK_RAW, ""

    def __init__(self, _pod: dict[str, Any]) -> None:
        pass

    @staticmethod
    def begin() -> None:
        section = struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1)
        SimpleBlocks.put(block(0x0A0D0D0A, section) + block(1, struct.pack("=HHI", ETHERNET, 0, 0)))

    @staticmethod
    def put(data: bytes) -> None:
        with writing:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def packet(self, _time: tuple[int, int], data: bytes) -> None:
        self.put(block(3, struct.pack("=I", len(data)) + data))


class FileOfPod:
    """One pod's packets in a pcap file of its own."""

    kind, interface = socket.SOCK_DGRAM, "lo"

    def __init__(self, pod: dict[str, Any]) -> None:
        path = Path(os.environ["TAPPER_HARNESS_OUTPUT"], f"{pod['ips'][0]}.pcap")
        self._file: BinaryIO = path.open("wb", 0)
        self._file.write(struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 1 << 18, RAW))

    @staticmethod
    def begin() -> None:
        pass

    def packet(self, time: tuple[int, int], data: bytes) -> None:
        self._file.write(struct.pack(">4I", *time, len(data), len(data)) + data)


WRITERS: dict[str, type[SimpleBlocks] | type[FileOfPod]] = {"everywhere": SimpleBlocks, "datagrams": FileOfPod}


def open_socket(pid: int, kind: int, interface: str) -> socket.socket:
    """Move this thread into the process's network namespace, and open a packet socket there."""
    with Path(os.environ["TAPPER_HARNESS_PROCFS"], str(pid), "ns", "net").open() as namespace:
        ctypes.CDLL(None).setns(namespace.fileno(), 0)
    packets = socket.socket(socket.AF_PACKET, kind, socket.htons(ALL))
    packets.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    packets.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if interface:
        packets.bind((interface, ALL))
    packets.setblocking(False)
    return packets


def capture(pod: dict[str, Any], make_writer: type[SimpleBlocks] | type[FileOfPod]) -> None:
    """Capture in a pod until its process ends or the tapper is asked to end. Run it in a thread of its own.

    Packets that wait in the kernel at that moment are still written.
    """
    try:
        process = os.pidfd_open(pod["pid"])
        writer = make_writer(pod)
        packets = open_socket(pod["pid"], writer.kind, writer.interface)
    finally:
        tried.release()
    poller = select.poll()
    poller.register(packets, select.POLLIN)
    poller.register(process, select.POLLIN)  # readable once the process has ended: pidfd_open(2)
    with packets:
        last = False
        while not last:
            last = stopping.is_set()
            ready = {fd for fd, _ in poller.poll(0 if last else 50)}
            last = last or process in ready
            write_waiting(packets, writer)
    os.close(process)


def write_waiting(packets: socket.socket, writer: SimpleBlocks | FileOfPod) -> None:
    """Write the packets that wait in the socket; of the two copies on lo the one that arrives."""
    while True:
        try:
            data, ((_, _, stamp),), _, address = packets.recvmsg(1 << 18, 64)
        except BlockingIOError:
            return
        if address[3] != LOOPBACK or address[2] != socket.PACKET_OUTGOING:
            writer.packet(struct.unpack("=qq", stamp), data)


def main(way: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    os.umask(0o077)
    WRITERS[way].begin()
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    threads = [threading.Thread(target=capture, args=(pod, WRITERS[way])) for pod in pods]
    for thread in threads:
        thread.start()
    for _ in threads:
        tried.acquire()
    os.write(int(os.environ["TAPPER_HARNESS_READY_FD"]), b"1")
    signal.sigwait({signal.SIGTERM})
    stopping.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(sys.argv[1])
