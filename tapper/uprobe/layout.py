"""What the BPF programs and their reader share: the maps, the members of their values, the records in the rings.

Numbers are in the machine's byte order. Offsets are in bytes.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final

from tapper.uprobe import bpf
from tapper.uprobe.btf import Btf


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


# A connection's two ends, part of a Connection, a Call and a record: the ports (that of the peer in network byte
# order), the family (AF_INET, AF_INET6; 0 while the ends are not known), the role, the addresses of 4 or 16 bytes.
PORT, PEER_PORT, FAMILY, ROLE, ADDRESS, PEER_ADDRESS = 0, 2, 4, 6, 8, 24
ENDS_SIZE: Final = 40

# The value of `connections`: bytes so far, and the time when the connection was first seen, by which a connection is
# told from the one before whose object was at the same address.
WRITTEN, READ, BORN, ENDS = 0, 8, 16, 24
CONNECTION_SIZE: Final = ENDS + ENDS_SIZE

# The value of `calls`: what a function was called with, and for its return what is still to be taken.
SSL, BUFFER, LENGTH_AT, TIME, KIND, SOCKET_KNOWN, LEFT, POSITION, OTHER, NETNS, CALL_BORN, CALL_ENDS = (
    *(0, 8, 16, 24, 32, 36),
    *(40, 48, 56, 64, 72, 80),
)
CALL_SIZE: Final = CALL_ENDS + ENDS_SIZE

# The value of `counters`.
LOST, LOST_BYTES, CUT = 0, 8, 16
COUNTERS: Final = struct.Struct("=QQQ")


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
    rings: int
    """Inode of a network namespace: the ring of its pod. There is none for other namespaces, so nothing is taken."""
    counters: int
    """Inode of a network namespace: what was lost."""

    def descriptors(self) -> tuple[int, ...]:
        return self.calls, self.connections, self.received, self.unsent, self.processes, self.rings, self.counters


CALL_KEY_SIZE = CONNECTION_KEY_SIZE = 16
MOST_RINGS: Final = 1024
MOST_CALLS: Final = 16_384
MOST_CONNECTIONS: Final = 65_536


def create_maps() -> Maps:
    """Raises OSError."""
    template = bpf.create_map(bpf.MAP_RINGBUF, 0, 0, 1 << 16)
    maps = Maps(
        bpf.create_map(bpf.MAP_HASH, CALL_KEY_SIZE, CALL_SIZE, MOST_CALLS),
        bpf.create_map(bpf.MAP_LRU_HASH, CONNECTION_KEY_SIZE, CONNECTION_SIZE, MOST_CONNECTIONS),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, ENDS_SIZE, 4096),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, CONNECTION_KEY_SIZE, 4096),
        bpf.create_map(bpf.MAP_LRU_HASH, 8, 8, 16_384),
        bpf.create_map(bpf.MAP_HASH_OF_MAPS, 4, 4, MOST_RINGS, inner=template),
        bpf.create_map(bpf.MAP_HASH, 4, COUNTERS.size, MOST_RINGS),
    )
    os.close(template)
    return maps


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where the kernel's structures have what the programs read."""

    netns: tuple[int, int, int]
    """From a task by pointers: its nsproxy, that one's network namespace; then the inode's number in there."""
    threads: tuple[int, int]
    """From a task: its signal structure; then the number of live threads in there."""
    socket: tuple[int, int, int, int, int]
    """From a task by pointers: its files, their table, the array of files; from a file: the socket, the sock."""
    protocol: int
    """The rest is in a sock: the protocol; the ports, the family, the addresses of both versions."""
    port: int
    peer_port: int
    family: int
    address: int
    peer_address: int
    address_6: int
    peer_address_6: int


def offsets(btf: Btf) -> Offsets:
    """Raises TapperError for a kernel that has other structures."""
    of, common = btf.offset, "__sk_common."
    return Offsets(
        (of("task_struct", "nsproxy"), of("nsproxy", "net_ns"), of("net", "ns.inum")),
        (of("task_struct", "signal"), of("signal_struct", "live.counter")),
        (
            of("task_struct", "files"),
            of("files_struct", "fdt"),
            of("fdtable", "fd"),
            of("file", "private_data"),
            of("socket", "sk"),
        ),
        of("sock", "sk_protocol"),
        of("sock", common + "skc_num"),
        of("sock", common + "skc_dport"),
        of("sock", common + "skc_family"),
        of("sock", common + "skc_rcv_saddr"),
        of("sock", common + "skc_daddr"),
        of("sock", common + "skc_v6_rcv_saddr"),
        of("sock", common + "skc_v6_daddr"),
    )


RECORD: Final = struct.Struct("=QQQQQQIBBxx HHHH16s16s q")
"""The head of a record: time (nanoseconds, CLOCK_MONOTONIC), thread (process in the upper half), address of the TLS
object, when it was born, position in the stream, position in the other direction, length of the plaintext that follows,
kind, library; the ends; 0, or a negative error number if the plaintext could not be read."""
HEAD: Final = RECORD.size
(
    RECORD_TIME,
    RECORD_THREAD,
    RECORD_SSL,
    RECORD_BORN,
    RECORD_POSITION,
    RECORD_OTHER,
    RECORD_LENGTH,
    RECORD_KIND,
    RECORD_ENDS,
    RECORD_ERROR,
) = (0, 8, 16, 24, 32, 40, 48, 52, 56, 96)
RECORD_SIZES: Final = (512, 4096, 16_384 + HEAD)
"""A record has one of these sizes: the kernel wants to know before it runs how much a program reserves."""
MOST_CHUNKS: Final = 64
"""Records of one call: 1 MiB. What a call passes on top is left out, and counted as cut."""
