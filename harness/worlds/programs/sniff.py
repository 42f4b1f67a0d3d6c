"""Records what crosses the links of the network namespace it runs in: `… sniff --address 10.1.2.3 [--address …]`.

Needs CAP_NET_RAW, and CAP_NET_ADMIN for a large buffer. Prints `ready`, then, on SIGTERM, a line of JSON for each frame
to or from one of the addresses, `[nanoseconds since the epoch, base64 of the Ethernet frame]`, and `{"dropped": N}`.
A frame that crosses several links (a veth and a bridge) is there as often.
"""

from __future__ import annotations

import argparse
import base64
import json
import select
import signal
import socket
import struct
import sys
import time
from ipaddress import ip_address

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_STATISTICS = 263, 6  # linux/if_packet.h
_SO_RCVBUFFORCE = 33
_BUFFER = 32 << 20
_LARGEST = 1 << 18


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", action="append", required=True)
    wanted = [ip_address(text).packed for text in parser.parse_args().address]
    wake_read, wake_write = socket.socketpair()
    wake_write.setblocking(False)
    signal.set_wakeup_fd(wake_write.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as packets:
        packets.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        packets.setblocking(False)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        frames: list[tuple[int, bytes]] = []
        while wake_read not in select.select([packets, wake_read], [], [])[0]:
            _drain(packets, wanted, frames)
        _drain(packets, wanted, frames)
        dropped = struct.unpack("II", packets.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1]
    for at, frame in frames:
        sys.stdout.write(json.dumps([at, base64.b64encode(frame).decode()]) + "\n")
    sys.stdout.write(json.dumps({"dropped": dropped}) + "\n")
    sys.stdout.flush()
    return 0


def _drain(packets: socket.socket, wanted: list[bytes], frames: list[tuple[int, bytes]]) -> None:
    while True:
        try:
            frame = packets.recv(_LARGEST)
        except BlockingIOError:
            return
        head = frame[14:62]  # both addresses of IPv4 and of IPv6
        if any(address in head for address in wanted):
            frames.append((time.time_ns(), frame))


if __name__ == "__main__":
    sys.exit(main())
