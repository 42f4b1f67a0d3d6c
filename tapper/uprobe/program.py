"""What every BPF program is made of: access to the maps, to the kernel's structures, to memory; connections.

In a program, R6 is the context, and the label "out" leads to its end.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from tapper.uprobe.asm import FP, HALF, R0, R1, R2, R3, R4, R6, R8, WORD, Assembler
from tapper.uprobe.layout import CONNECTION, ENDS, Maps, Registers

# Functions of the kernel, by their numbers in enum bpf_func_id (linux/bpf.h).
LOOKUP, UPDATE, DELETE, TIME, THREAD, TASK = 1, 2, 3, 5, 14, 35
READ_USER, READ_KERNEL, RESERVE, SUBMIT, QUERY = 112, 113, 131, 132, 134
ANY, IF_NEW = 0, 1  # of an update
NO_WAKEUP, FORCE_WAKEUP = 1, 2  # of a submission
NETNS_AT, THREAD_AT, CALL_KEY, CONNECTION_KEY, ENDS_AT, NEW_AT, SCRATCH = -8, -16, -32, -48, -88, -152, -160
"""Places on the stack: the inode of the network namespace; the thread, or the process; the keys; ends; a new
connection; a word. The stack has 512 bytes."""


class BpfProgram(Assembler):
    """An assembler that knows the maps and structures. `offset_of` returns the offset of a member of a structure of the
    kernel (`tapper.uprobe.btf.Btf.offset`)."""

    def __init__(self, maps: Maps, offset_of: Callable[[str], int], registers: Registers) -> None:
        super().__init__()
        self.maps = maps
        self.offset_of = offset_of
        self.registers = registers
        self.copy(R6, R1)

    def end(self) -> bytes:
        self.label("out").set(R0, 0).exit()
        return self.bytes()

    # Maps. A place is an offset on the stack.

    def on_stack(self, register: int, place: int) -> None:
        self.copy(register, FP).alu("add", register, place)

    def look_up(self, descriptor: int, key: int, otherwise: str = "out") -> None:
        """R0: the address of the value. Where there is none, go to a label."""
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.call(LOOKUP).jump_if(R0, "==", 0, otherwise)

    def update(self, descriptor: int, key: int, value: int, when: int = ANY) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.on_stack(R3, value)
        self.set(R4, when).call(UPDATE)

    def delete(self, descriptor: int, key: int) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.call(DELETE)

    def count(self, counter: int, register: int | None = None) -> None:
        """Add a register, or 1, to a counter of the network namespace at NETNS_AT. R0 to R5 are lost."""
        skip = self.new_label()
        self.look_up(self.maps.counters, NETNS_AT, skip)
        if register is None:
            self.set(R1, 1)
        else:
            self.copy(R1, register)
        self.add_atomically(R0, counter, R1).label(skip)

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

    def follow_user(self, register: int, *offsets: int) -> None:
        """register = the pointer that is so many bytes after the address in it, in the process's memory; for each
        offset in turn."""
        for offset in offsets:
            self._follow(READ_USER, register, offset)

    def follow_kernel(self, register: int, *members: str) -> None:
        """The same in the kernel's memory, for each member of a structure in turn; "" for the address itself."""
        for member in members:
            self._follow(READ_KERNEL, register, self.offset_of(member) if member else 0)

    def _follow(self, helper: int, register: int, offset: int) -> None:
        self.read(helper, register, offset, 8, SCRATCH)
        self.jump_if(R0, "!=", 0, "out").load(register, FP, SCRATCH)

    def read_member(self, register: int, member: str, size: int, to: int) -> None:
        """Read a member of a structure of the kernel to a place on the stack."""
        self.read(READ_KERNEL, register, self.offset_of(member), size, to)

    # What programs begin with.

    def only_targets(self) -> None:
        """R0: the ring of the process's network namespace, whose inode is at NETNS_AT. Leave if it has none."""
        self.call(TASK).copy(R8, R0)
        self.follow_kernel(R8, "task_struct.nsproxy", "nsproxy.net_ns")
        self.store_value(FP, NETNS_AT, 0)
        self.read_member(R8, "net.ns.inum", 4, NETNS_AT)
        self.look_up(self.maps.rings, NETNS_AT)

    def take_thread(self) -> None:
        """THREAD_AT: the thread, with its process in the upper half. The connection's key begins with the process."""
        self.call(THREAD).store(FP, THREAD_AT, R0).alu("rsh", R0, 32).store(FP, CONNECTION_KEY, R0)

    def take_call_key(self, *, go: bool = False) -> None:
        """A thread is in one call at a time. A goroutine changes its thread within a call."""
        self.load(R1, FP, CONNECTION_KEY if go else THREAD_AT).store(FP, CALL_KEY, R1)
        if go:
            self.load(R1, R6, self.registers.goroutine).store(FP, CALL_KEY + 8, R1)
        else:
            self.store_value(FP, CALL_KEY + 8, 0)

    # Connections.

    def connection(self, role: int = 0) -> None:
        """R0: the connection of CONNECTION_KEY. A new one has this role."""
        new, known = self.new_label(), self.new_label()
        self.look_up(self.maps.connections, CONNECTION_KEY, new)
        self.jump(known).label(new)
        self.clear(NEW_AT, CONNECTION.size)
        self.store_value(FP, NEW_AT + CONNECTION["ends"] + ENDS["role"], role, HALF)
        self.call(TIME).store(FP, NEW_AT + CONNECTION["born"], R0)
        self.update(self.maps.connections, CONNECTION_KEY, NEW_AT, IF_NEW)
        self.look_up(self.maps.connections, CONNECTION_KEY)
        self.label(known)

    def take_ends(self, sock: int) -> None:
        """ENDS_AT: the ends of the struct sock in a register. Leave unless it is a TCP socket."""
        self.clear(ENDS_AT, ENDS.size)
        version_6, done = self.new_label(), self.new_label()

        def read(member: str, size: int, to: str) -> None:
            self.read_member(sock, f"sock.{member}", size, ENDS_AT + ENDS[to])

        read("sk_protocol", 2, "role")
        read("__sk_common.skc_num", 2, "port")
        read("__sk_common.skc_dport", 2, "peer_port")
        read("__sk_common.skc_family", 2, "family")
        self.load(R1, FP, ENDS_AT + ENDS["role"], HALF).jump_if(R1, "!=", socket.IPPROTO_TCP, "out")
        self.load(R1, FP, ENDS_AT + ENDS["family"], HALF).jump_if(R1, "==", socket.AF_INET6, version_6)
        self.jump_if(R1, "!=", socket.AF_INET, "out")
        read("__sk_common.skc_rcv_saddr", 4, "address")
        read("__sk_common.skc_daddr", 4, "peer_address")
        self.jump(done).label(version_6)
        read("__sk_common.skc_v6_rcv_saddr", 16, "address")
        read("__sk_common.skc_v6_daddr", 16, "peer_address")
        self.label(done)

    def give_ends(self, connection: int) -> None:
        """The connection in a register has the ends at ENDS_AT. Its role stays."""
        at = CONNECTION["ends"]
        self.load(R1, FP, ENDS_AT, WORD).store(connection, at, R1, WORD)
        self.copy_memory(connection, at + ENDS["address"], FP, ENDS_AT + ENDS["address"], 32)
        self.load(R1, FP, ENDS_AT + ENDS["family"], HALF).store(connection, at + ENDS["family"], R1, HALF)
