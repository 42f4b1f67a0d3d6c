"""A tapper in a few lines, which works: the bad ones beside it are made of it. One pod, whose pid the kit tells."""

from __future__ import annotations

import ctypes
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

_REQUEST = re.compile(rb"(GET|POST) (\S+) HTTP/1.1\r\n")


def told(name: str) -> str:
    return os.environ[f"TAPPER_HARNESS_{name}"]


def requests() -> Iterator[tuple[str, str]]:
    """Method and target of what passes on the pod's lo, from now on."""
    pod = json.loads(Path(told("TARGETS_FILE")).read_text())["pods"][0]
    with Path(told("PROCFS"), str(pod["pid"]), "ns", "net").open() as namespace:
        ctypes.CDLL(None).setns(namespace.fileno(), 0)
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0x0300)
    packets.bind(("lo", 0x0003))
    while True:
        data, address = packets.recvfrom(1 << 18)
        for found in _REQUEST.finditer(data) if address[2] != socket.PACKET_OUTGOING else ():
            yield found[1].decode(), found[2].decode()


def report(method: str, target: str, **more: object) -> None:
    write(json.dumps({"type": "http", "method": method, "target": target} | more))


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def work() -> None:
    for method, target in requests():
        report(method, target)


if __name__ == "__main__":
    work()
