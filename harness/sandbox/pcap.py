"""Writing pcap files (draft-ietf-opsawg-pcap), for tools that show them."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from harness.sandbox.frames import Frame

_NANOSECONDS = 0xA1B23C4D  # the magic number gives the unit of time, and by its byte order that of all other fields
_ETHERNET = 1
_LARGEST = 1 << 18
_HEADER = struct.pack("=IHHiIII", _NANOSECONDS, 2, 4, 0, 0, _LARGEST, _ETHERNET)
_RECORD = struct.Struct("=IIII")  # seconds, nanoseconds, bytes kept, bytes on the wire


def write(path: Path, frames: Iterable[Frame]) -> None:
    """Write whole Ethernet frames; replaces an existing file. Raises OSError."""
    with path.open("wb") as file:
        file.write(_HEADER)
        for frame in frames:
            size = len(frame.data)
            file.write(_RECORD.pack(*divmod(frame.time_ns, 10**9), size, size))
            file.write(frame.data)
