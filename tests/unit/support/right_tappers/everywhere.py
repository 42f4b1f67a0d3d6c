"""A tapper of packets that stays in the network namespaces of its pods until the pods end, captures on all their
interfaces, and writes pcapng of simple packet blocks: without a snap length, times, or names.

The targets file names a process of each pod (`discovery = "kit"`). The tapper says by `ready = "fd"` that it captures.
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

ETHERNET, LOOPBACK = 1, 772  # linktypes.html; linux/if_arp.h
ALL = 0x0003  # ETH_P_ALL
stopping = threading.Event()
writing = threading.Lock()
tried = threading.Semaphore(0)
"""Released once for each pod, when its packet socket is open or could not be opened."""


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def write(data: bytes) -> None:
    with writing:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def open_socket(pid: int) -> socket.socket:
    """Move this thread into the process's network namespace, and open a packet socket for all interfaces there."""
    with Path(os.environ["TAPPER_HARNESS_PROCFS"], str(pid), "ns", "net").open() as namespace:
        ctypes.CDLL(None).setns(namespace.fileno(), 0)
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    packets.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    packets.setblocking(False)
    return packets


def capture(pid: int) -> None:
    """Capture in a pod until its process ends or the tapper is asked to end. Run it in a thread of its own.

    Packets that wait in the kernel at that moment are still written.
    """
    try:
        process = os.pidfd_open(pid)
        packets = open_socket(pid)
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
            write_waiting(packets)
    os.close(process)


def write_waiting(packets: socket.socket) -> None:
    """Write the packets that wait in the socket; of the two copies on lo the one that arrives."""
    while True:
        try:
            data, address = packets.recvfrom(1 << 18)
        except BlockingIOError:
            return
        if address[3] != LOOPBACK or address[2] != socket.PACKET_OUTGOING:
            write(block(3, struct.pack("=I", len(data)) + data))


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    write(block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("=HHI", ETHERNET, 0, 0)))
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    threads = [threading.Thread(target=capture, args=(pod["pid"],)) for pod in pods]
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
    main()
