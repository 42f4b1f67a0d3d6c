"""A tapper of packets that stays in its pods' namespaces, captures on all their interfaces, and writes pcapng of simple
packet blocks: without a snap length, times, or names. The kit tells it the pods' processes."""

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


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack("=I", len(body) + 12)
    return struct.pack("=I", kind) + length + body + length


def write(data: bytes) -> None:
    with writing:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def stay_in(pid: int) -> None:
    """In a thread of its own. What waits in the kernel when it is asked to end is written before it does."""
    with Path(os.environ["TAPPER_HARNESS_PROCFS"], str(pid), "ns", "net").open() as namespace:
        ctypes.CDLL(None).setns(namespace.fileno(), 0)
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    packets.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)  # SO_RCVBUFFORCE
    packets.setblocking(False)
    poller = select.poll()
    poller.register(packets, select.POLLIN)
    while True:
        last = stopping.is_set()
        poller.poll(0 if last else 50)
        while True:
            try:
                data, address = packets.recvfrom(1 << 18)
            except BlockingIOError:
                break
            if address[3] != LOOPBACK or address[2] != socket.PACKET_OUTGOING:
                write(block(3, struct.pack("=I", len(data)) + data))
        if last:
            return


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    write(block(0x0A0D0D0A, struct.pack("=IHHq", 0x1A2B3C4D, 1, 0, -1)) + block(1, struct.pack("=HHI", ETHERNET, 0, 0)))
    pods = json.loads(Path(os.environ["TAPPER_HARNESS_TARGETS_FILE"]).read_text())["pods"]
    threads = [threading.Thread(target=stay_in, args=(pod["pid"],)) for pod in pods]
    for thread in threads:
        thread.start()
    signal.sigwait({signal.SIGTERM})
    stopping.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
