"""What the BPF programs and their reader share: the maps, the members of their values, the records in the rings.

Numbers are in the machine's byte order. Offsets and sizes are in bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import astuple, dataclass
from enum import IntEnum, IntFlag
from typing import Final

from tapper.errors import TapperError, explain
from tapper.uprobe import bpf


class RecordKind(IntEnum):
    """What a library's function does, and what a record is about."""

    READ = 0
    """Plaintext that the process has received."""
    WRITE = 1
    """Plaintext that the process has sent."""
    HANDSHAKE = 2
    """No record has this kind."""
    END = 3
    """A connection is over: its object was freed. `position` is what was written, `other` what was read."""
    GONE = 4
    """A process has ended or has begun another program. Only `thread` counts."""


class Role(IntFlag):
    """What is known of a connection."""

    FROM_START = 1
    """It is known from its handshake on."""
    CLIENT = 2
    SERVER = 4
    SHOOK = 8
    """It has been in a call that shakes hands."""
    WRITING = 16
    """A call that writes has not returned, so its plaintext comes in a later record. A peer's answer may be read by
    another thread before."""


@dataclass(frozen=True, slots=True)
class Registers:
    """Where a processor's registers are in the struct pt_regs that a program gets."""

    arguments: tuple[int, ...]
    result: int
    go_receiver: int
    """Go's own calling convention (cmd/compile/abi-internal.md): the first word of the arguments, and of the
    results."""
    go_buffer: int
    goroutine: int


X86_64: Final = Registers((112, 104, 96, 88), 80, 80, 40, 8)  # rdi, rsi, rdx, rcx; rax; Go: rax, rbx, r14
ARM64: Final = Registers((0, 8, 16, 24), 0, 0, 8, 28 * 8)  # x0 to x3; x0; Go: x0, x1, x28
REGISTERS: Final = {"x86_64": X86_64, "aarch64": ARM64}
"""By the machine's name (uname(2))."""


class Members:
    """The members of a value in memory, one after another, each with its format (Python's struct)."""

    def __init__(self, **formats: str) -> None:
        self._at: dict[str, int] = {}
        self.format = ""
        for name, each in formats.items():
            self._at[name] = struct.calcsize("=" + self.format)
            self.format += each
        self.struct = struct.Struct("=" + self.format)
        self.size = self.struct.size

    def __getitem__(self, name: str) -> int:
        """The offset of a member."""
        return self._at[name]


ENDS: Final = Members(port="H", peer_port="H", family="H", role="H", address="16s", peer_address="16s")
"""A connection's two ends: the ports (that of the peer in network byte order), the family (AF_INET, AF_INET6; 0 while
the ends are not known), the role, the addresses of 4 or 16 bytes."""
CONNECTION: Final = Members(written="Q", read="Q", born="Q", ends=ENDS.format)
"""Bytes so far; and the time when the connection was first seen, by which it is told from the one before whose object
was at the same address."""
CALL: Final = Members(
    ssl="Q", buffer="Q", length_at="Q", time="Q", kind="B", library="B", unused="H", socket_known="I", left="Q",
    position="Q", other="Q", netns="Q", born="Q", ends=ENDS.format,
)  # fmt: skip
"""What a function was called with, and for its return what is still to be taken."""
COUNTERS: Final = Members(lost="Q", lost_bytes="Q", cut="Q")
RECORD: Final = Members(
    time="Q", thread="Q", ssl="Q", born="Q", position="Q", other="Q", length="I", kind="B", library="B", unused="2x",
    ends=ENDS.format, error="q",
)  # fmt: skip
"""The head of a record: time (nanoseconds, CLOCK_MONOTONIC), thread (process in the upper half), address of the TLS
object, when it was born, position in the stream, position in the other direction, length of the plaintext that follows,
kind, library; the ends; 0, or a negative error number if the plaintext could not be read."""
HEAD: Final = RECORD.size
RECORD_SIZES: Final = (512, 4096, 16_384 + HEAD)
"""A record has one of these sizes: the kernel wants to know before it runs how much a program reserves."""
MOST_CHUNKS: Final = 64
"""Records of one call: 1 MiB. What a call passes on top is left out, and counted as cut."""

KEY_SIZE: Final = 16
"""Of the keys of calls and connections."""
MOST_RINGS: Final = 1024
MOST_CALLS: Final = 16_384
MOST_CONNECTIONS: Final = 65_536


@dataclass(frozen=True, slots=True)
class Maps:
    """The descriptors of the maps."""

    calls: int
    """(thread, 0), or (process, goroutine): the call that it is in."""
    connections: int
    """(process, address of the TLS object): the connection."""
    received: int
    """Thread: the ends of the socket that it received from last, outside of a call."""
    unsent: int
    """Thread: the key of the connection that it wrote to, when the library itself sent nothing."""
    processes: int
    """Process that has called a function: the inode of its network namespace."""
    began: int
    """Process that has begun a program in a network namespace that has a ring: the inode."""
    rings: int
    """Inode of a network namespace: the ring of its pod. There is none for other namespaces, so nothing is taken."""
    counters: int
    """Inode of a network namespace: what was lost."""

    def close(self) -> None:
        for descriptor in astuple(self):
            os.close(descriptor)


def create_maps() -> Maps:
    """Raises PermissionError, and TapperError for a kernel without rings."""
    try:
        template = bpf.create_map(bpf.MAP_RINGBUF, 0, 0, 1 << 16)
    except PermissionError:
        raise
    except OSError as error:
        raise TapperError(
            f"this kernel has no rings for BPF programs ({explain(error)}): --tls needs Linux 5.8"
        ) from error
    maps = Maps(
        bpf.create_map(bpf.MAP_HASH, KEY_SIZE, CALL.size, MOST_CALLS),
        bpf.create_map(bpf.MAP_LRU_HASH, KEY_SIZE, CONNECTION.size, MOST_CONNECTIONS),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, ENDS.size, 4096),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, KEY_SIZE, 4096),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, 8, 16_384),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, 8, 4096),
        bpf.create_map(bpf.MAP_HASH_OF_MAPS, 4, 4, MOST_RINGS, inner=template),
        bpf.create_map(bpf.MAP_HASH, 4, COUNTERS.size, MOST_RINGS),
    )
    os.close(template)
    return maps
