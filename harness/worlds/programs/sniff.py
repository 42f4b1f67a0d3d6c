"""Records what crosses the links of the network namespace it runs in: `… sniff --address 10.1.2.3 [--address …]`.

Needs CAP_NET_RAW, and CAP_NET_ADMIN for a large buffer. Prints `ready`, then, on SIGTERM, a line of JSON for each frame
to or from one of the addresses, `[nanoseconds since the epoch, base64 of the Ethernet frame]`, and `{"dropped": N}`.
A frame that crosses several links (a veth and a bridge) is there as often.
"""

from __future__ import annotations

import argparse
import base64
import json
import signal
import socket
import sys
from ipaddress import ip_address

from harness.sandbox.recorder import PacketRecorder

_BUFFER = 32 << 20
_IP_HEADER = slice(14, 62)
"""Where an Ethernet frame has both addresses, of IPv4 and of IPv6."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address", action="append", required=True)
    addresses = [ip_address(text).packed for text in parser.parse_args().address]
    wake_read, wake_write = socket.socketpair()
    wake_write.setblocking(False)
    signal.set_wakeup_fd(wake_write.fileno())
    signal.signal(signal.SIGTERM, lambda *_: None)

    def wanted(frame: bytes) -> bool:
        return any(address in frame[_IP_HEADER] for address in addresses)

    with PacketRecorder(socket, None, "the node", buffer=_BUFFER, wanted=wanted) as recorder:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        recorder.wait(wake_read.fileno())
    for frame in recorder.frames:
        sys.stdout.write(json.dumps([frame.time_ns, base64.b64encode(frame.data).decode()]) + "\n")
    sys.stdout.write(json.dumps({"dropped": recorder.dropped}) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
