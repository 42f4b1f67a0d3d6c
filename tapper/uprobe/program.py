"""What every BPF program is made of: access to the maps, to the kernel's structures, to memory; connections.

In a program, R6 is the context, and the label "out" leads to its end.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tapper.uprobe import layout
from tapper.uprobe.asm import FP, HALF, R0, R1, R2, R3, R4, R6, R8, WORD, Assembler
from tapper.uprobe.layout import ENDS, Maps, Offsets, RecordKind, Registers

# Functions of the kernel, by their numbers in enum bpf_func_id (linux/bpf.h).
LOOKUP, UPDATE, DELETE, TIME, THREAD, TASK = 1, 2, 3, 5, 14, 35
READ_USER, READ_KERNEL, RESERVE, SUBMIT, QUERY = 112, 113, 131, 132, 134
ANY, IF_NEW = 0, 1  # of an update
NO_WAKEUP, FORCE_WAKEUP = 1, 2  # of a submission
NETNS_AT, THREAD_AT, CALL_KEY, CONNECTION_KEY, ENDS_AT, NEW_AT, SCRATCH = -8, -16, -32, -48, -88, -152, -160
"""Places on the stack: the inode of the network namespace; the thread, or the process; the keys; ends; a new
connection; a word. The stack has 512 bytes."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a library, as programs take it."""

    kind: RecordKind
    library: int
    """Its number in `tapper.uprobe.libraries`."""
    by_pointer: bool = False
    """Whether the function returns 1, and stores the number of bytes where its fourth argument points to."""
    go: bool = False


class BpfProgram(Assembler):
    """An assembler that knows the maps and structures."""

    def __init__(self, maps: Maps, offsets: Offsets, registers: Registers) -> None:
        super().__init__()
        self._maps = maps
        self._offsets = offsets
        self._registers = registers
        self.copy(R6, R1)

    def end(self) -> bytes:
        self.label("out").set(R0, 0).exit()
        return self.bytes()

    # Maps. A place is an offset on the stack.

    def on_stack(self, register: int, place: int) -> None:
        self.copy(register, FP).alu("add", register, place)

    def look_up(self, descriptor: int, key: int) -> None:
        """R0: the address of the value; 0 where there is none."""
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.call(LOOKUP)

    def update(self, descriptor: int, key: int, value: int, when: int = ANY) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.on_stack(R3, value)
        self.set(R4, when).call(UPDATE)

    def delete(self, descriptor: int, key: int) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.call(DELETE)

    def count(self, *counts: tuple[int, int | None]) -> None:
        """Add to counters of the network namespace at NETNS_AT: each a member, and a register, None for 1. R0 to R5 are
        lost."""
        skip = self.new_label()
        self.look_up(self._maps.counters, NETNS_AT)
        self.jump_if(R0, "==", 0, skip)
        for member, register in counts:
            if register is None:
                self.set(R1, 1)
            else:
                self.copy(R1, register)
            self.add_atomically(R0, member, R1)
        self.label(skip)

    # Memory.

    def copy_memory(self, target: int, to: int, source: int, start: int, size: int) -> None:
        """Copy bytes that programs may use freely: `target` and `source` are registers. R1 is lost."""
        for at in range(0, size, 8):
            self.load(R1, source, start + at).store(target, to + at, R1)

    def clear(self, place: int, size: int) -> None:
        for at in range(0, size, 8):
            self.store_value(FP, place + at, 0)

    def read(self, helper: int, address: int, offset: int, size: int, to: int) -> None:
        """Read memory of the kernel or of the process to a place on the stack. R0: 0, or an error."""
        self.copy(R3, address).alu("add", R3, offset).set(R2, size)
        self.on_stack(R1, to)
        self.call(helper)

    def follow(self, helper: int, register: int, offset: int) -> None:
        """register = the pointer that is `offset` bytes after the address in it."""
        self.read(helper, register, offset, 8, SCRATCH)
        self.jump_if(R0, "!=", 0, "out").load(register, FP, SCRATCH)

    # What programs begin with.

    def only_targets(self) -> None:
        """Leave unless the process is in a network namespace that has a ring. NETNS_AT has the inode then."""
        self.call(TASK).copy(R8, R0)
        *pointers, inode = self._offsets.netns
        for offset in pointers:
            self.follow(READ_KERNEL, R8, offset)
        self.store_value(FP, NETNS_AT, 0)
        self.read(READ_KERNEL, R8, inode, 4, NETNS_AT)
        self.look_up(self._maps.rings, NETNS_AT)
        self.jump_if(R0, "==", 0, "out")

    def take_thread(self) -> None:
        """THREAD_AT: the thread, with its process in the upper half. The connection's key begins with the process."""
        self.call(THREAD).store(FP, THREAD_AT, R0).alu("rsh", R0, 32).store(FP, CONNECTION_KEY, R0)

    def take_call_key(self, function: Function) -> None:
        """A thread is in one call at a time. A goroutine changes its thread within a call."""
        self.load(R1, FP, CONNECTION_KEY if function.go else THREAD_AT).store(FP, CALL_KEY, R1)
        if function.go:
            self.load(R1, R6, self._registers.goroutine).store(FP, CALL_KEY + 8, R1)
        else:
            self.store_value(FP, CALL_KEY + 8, 0)

    # Connections.

    def connection(self, role: int = 0) -> None:
        """R0: the connection of CONNECTION_KEY. A new one has this role."""
        known = self.new_label()
        self.look_up(self._maps.connections, CONNECTION_KEY)
        self.jump_if(R0, "!=", 0, known)
        self.clear(NEW_AT, layout.CONNECTION_SIZE)
        self.store_value(FP, NEW_AT + ENDS + layout.ROLE, role, HALF)
        self.call(TIME).store(FP, NEW_AT + layout.BORN, R0)
        self.update(self._maps.connections, CONNECTION_KEY, NEW_AT, IF_NEW)
        self.look_up(self._maps.connections, CONNECTION_KEY)
        self.jump_if(R0, "==", 0, "out").label(known)

    def take_ends(self, sock: int) -> None:
        """ENDS_AT: the ends of the struct sock in a register. Leave unless it is a TCP socket."""
        self.clear(ENDS_AT, layout.ENDS_SIZE)
        offsets, version_6, done = self._offsets, self.new_label(), self.new_label()
        for size, offset, to in (
            (2, offsets.protocol, layout.ROLE),
            (2, offsets.port, layout.PORT),
            (2, offsets.peer_port, layout.PEER_PORT),
            (2, offsets.family, layout.FAMILY),
        ):
            self.read(READ_KERNEL, sock, offset, size, ENDS_AT + to)
        self.load(R1, FP, ENDS_AT + layout.ROLE, HALF).jump_if(R1, "!=", socket.IPPROTO_TCP, "out")
        self.load(R1, FP, ENDS_AT + layout.FAMILY, HALF).jump_if(R1, "==", socket.AF_INET6, version_6)
        self.jump_if(R1, "!=", socket.AF_INET, "out")
        self.read(READ_KERNEL, sock, offsets.address, 4, ENDS_AT + layout.ADDRESS)
        self.read(READ_KERNEL, sock, offsets.peer_address, 4, ENDS_AT + layout.PEER_ADDRESS)
        self.jump(done).label(version_6)
        self.read(READ_KERNEL, sock, offsets.address_6, 16, ENDS_AT + layout.ADDRESS)
        self.read(READ_KERNEL, sock, offsets.peer_address_6, 16, ENDS_AT + layout.PEER_ADDRESS)
        self.label(done)

    def give_ends(self, connection: int) -> None:
        """The connection in a register has the ends at ENDS_AT. Its role stays."""
        self.load(R1, FP, ENDS_AT, WORD).store(connection, ENDS, R1, WORD)
        self.copy_memory(connection, ENDS + layout.ADDRESS, FP, ENDS_AT + layout.ADDRESS, 32)
        self.load(R1, FP, ENDS_AT + layout.FAMILY, HALF).store(connection, ENDS + layout.FAMILY, R1, HALF)

    def submit(self, record: int, flags: int) -> None:
        self.copy(R1, record).set(R2, flags).call(SUBMIT)
