"""The reference's pcapng, right but different: big-endian, an interface for each direction of each pod, nanoseconds on
one of the two and microseconds with an offset on the other, and blocks between the packets that a reader has to skip.

It runs the reference in a process of its own, and hands signals on to it.
"""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

REFERENCE = Path(__file__).resolve().parents[4] / "harness" / "adapters" / "shipped" / "reference.py"
SECTION, INTERFACE, NAMES, ENHANCED, CUSTOM = 0x0A0D0D0A, 1, 4, 6, 0x0BAD
IF_NAME, IF_TSRESOL, IF_TSOFFSET, COMMENT = 2, 9, 14, 1
OFFSET_S = 1_000_000_000
PRIVATE_NUMBER = 32473  # for documentation: RFC 5612


def block(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(">I", len(body) + 12)
    return struct.pack(">I", kind) + length + body + length


def options(*given: tuple[int, bytes]) -> bytes:
    return b"".join(
        struct.pack(">HH", code, len(value)) + value + bytes(-len(value) % 4) for code, value in given
    ) + bytes(4)


def blocks(source: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Type and body of each block of a little-endian file."""
    while len(head := source.read(8)) == 8:
        kind, length = struct.unpack("<II", head)
        yield kind, source.read(length - 8)[:-4]


def interfaces(body: bytes) -> bytes:
    """The two interfaces in place of one of the reference's."""
    link_type = struct.unpack_from("<H", body)[0]
    name = body[12 : 12 + struct.unpack_from("<HH", body, 8)[1]]  # the reference's first option
    fixed = struct.pack(">HHI", link_type, 0, 1 << 18)
    fine = options((IF_NAME, name + b" to-server"), (IF_TSRESOL, b"\x09"))
    coarse = options((COMMENT, b"the default resolution"), (IF_NAME, name + b" to-client"), _offset())
    return block(INTERFACE, fixed + fine) + block(INTERFACE, fixed + coarse)


def _offset() -> tuple[int, bytes]:
    return IF_TSOFFSET, struct.pack(">q", OFFSET_S)


def packet(body: bytes) -> bytes:
    """A packet on the interface of its direction."""
    number, high, low, kept, length = struct.unpack_from("<5I", body)
    data, time_ns = body[20 : 20 + kept], high << 32 | low
    to_client = _is_to_client(data)
    ticks = (time_ns - OFFSET_S * 10**9) // 1000 if to_client else time_ns
    head = struct.pack(">5I", 2 * number + to_client, ticks >> 32, ticks & 0xFFFF_FFFF, kept, length)
    return block(ENHANCED, head + data + bytes(-kept % 4) + options((COMMENT, b"seen by tap 7")))


def _is_to_client(data: bytes) -> bool:
    """Whether a TCP segment goes to the higher port."""
    at = (data[0] & 0x0F) * 4 if data[0] >> 4 == 4 else 40
    if len(data) < at + 4:
        return False
    source, target = struct.unpack_from(">HH", data, at)
    return bool(target > source)


def rewritten(source: IO[bytes]) -> Iterator[bytes]:
    for kind, body in blocks(source):
        if kind == SECTION:
            yield block(SECTION, struct.pack(">IHHq", 0x1A2B3C4D, 1, 0, -1))
            yield block(NAMES, bytes(4))
        elif kind == INTERFACE:
            yield interfaces(body) + block(CUSTOM, struct.pack(">I", PRIVATE_NUMBER) + b"opaque")
        elif kind == ENHANCED:
            yield packet(body)


def main() -> int:
    ready = int(os.environ["TAPPER_HARNESS_READY_FD"])
    argv = [sys.executable, str(REFERENCE), "-o", "pcapng", "--no-redact"]
    early: list[int] = []
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: early.append(caught))
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, pass_fds=[ready])
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda caught, _: child.send_signal(caught))
    while early:
        child.send_signal(early.pop(0))
    os.close(ready)
    assert child.stdout is not None
    for piece in rewritten(child.stdout):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main())
