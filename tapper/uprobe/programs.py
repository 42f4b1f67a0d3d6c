"""The BPF programs: a function of a TLS library is called, and returns; a thread uses a socket; a process ends.

Plaintext is taken when a function returns: only then it is known how many bytes it has accepted, and the pages of the
buffer are in memory. So a write that is tried again is taken once. Nothing is put together in memory that programs on
one processor share: they can be preempted (since Linux 6.0).

In a program, R6 is the context; the labels "out" (leave) and "forget" (forget the call) end it.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from tapper.uprobe import layout
from tapper.uprobe.asm import DOUBLE, FP, HALF, R0, R1, R2, R3, R4, R6, R7, R8, R9, WORD, Assembler
from tapper.uprobe.layout import ENDS, HEAD, Kind, Maps, Offsets, Registers, Role

# Functions of the kernel, by their numbers in enum bpf_func_id (linux/bpf.h).
_LOOKUP, _UPDATE, _DELETE, _TIME, _THREAD, _TASK = 1, 2, 3, 5, 14, 35
_READ_USER, _READ_KERNEL, _RESERVE, _SUBMIT, _QUERY = 112, 113, 131, 132, 134
_ANY, _IF_NEW = 0, 1  # of an update
_NO_WAKEUP, _FORCE_WAKEUP = 1, 2  # of a submission
_UNREAD_BYTES, _RING_SIZE = 0, 1  # of a query
_CROWDED_SHIFT = 3
"""The reader is woken when an eighth of its ring waits. It looks by itself as well, since a wake-up for each record
costs more than all the rest."""
_MOST_DESCRIPTORS = 1 << 20

_NETNS, _THREAD_AT, _CALL_KEY, _CONNECTION_KEY, _ENDS, _NEW, _WORD = -8, -16, -32, -48, -88, -152, -160
"""Places on the stack: the inode of the network namespace; the thread, or the process; the keys; ends; a new
connection; a word. The stack has 512 bytes."""
_CALL = -288
"""A new call on the stack, below all other places."""
_RING = -168
"""The ring, on the stack."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a library, as programs take it."""

    kind: Kind
    library: int
    """Its number in `tapper.uprobe.libraries`."""
    by_pointer: bool = False
    """Whether the function returns 1, and stores the number of bytes where its fourth argument points to."""
    go: bool = False


class _Program(Assembler):
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
        self.call(_LOOKUP)

    def update(self, descriptor: int, key: int, value: int, when: int = _ANY) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.on_stack(R3, value)
        self.set(R4, when).call(_UPDATE)

    def delete(self, descriptor: int, key: int) -> None:
        self.map(R1, descriptor)
        self.on_stack(R2, key)
        self.call(_DELETE)

    def count(self, *counts: tuple[int, int | None]) -> None:
        """Add to counters of the network namespace at _NETNS: each a member, and a register, None for 1. R0 to R5 are
        lost."""
        skip = self.new_label()
        self.look_up(self._maps.counters, _NETNS)
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
        self.read(helper, register, offset, 8, _WORD)
        self.jump_if(R0, "!=", 0, "out").load(register, FP, _WORD)

    # What programs begin with.

    def only_targets(self) -> None:
        """Leave unless the process is in a network namespace that has a ring. _NETNS has the inode then."""
        self.call(_TASK).copy(R8, R0)
        *pointers, inode = self._offsets.netns
        for offset in pointers:
            self.follow(_READ_KERNEL, R8, offset)
        self.store_value(FP, _NETNS, 0)
        self.read(_READ_KERNEL, R8, inode, 4, _NETNS)
        self.look_up(self._maps.rings, _NETNS)
        self.jump_if(R0, "==", 0, "out")

    def take_thread(self) -> None:
        """_THREAD_AT: the thread, with its process in the upper half. The connection's key begins with the process."""
        self.call(_THREAD).store(FP, _THREAD_AT, R0).alu("rsh", R0, 32).store(FP, _CONNECTION_KEY, R0)

    def take_call_key(self, function: Function) -> None:
        """A thread is in one call at a time. A goroutine changes its thread within a call."""
        self.load(R1, FP, _CONNECTION_KEY if function.go else _THREAD_AT).store(FP, _CALL_KEY, R1)
        if function.go:
            self.load(R1, R6, self._registers.goroutine).store(FP, _CALL_KEY + 8, R1)
        else:
            self.store_value(FP, _CALL_KEY + 8, 0)

    # Connections.

    def connection(self, role: int = 0) -> None:
        """R0: the connection of _CONNECTION_KEY. A new one has this role."""
        known = self.new_label()
        self.look_up(self._maps.connections, _CONNECTION_KEY)
        self.jump_if(R0, "!=", 0, known)
        self.clear(_NEW, layout.CONNECTION_SIZE)
        self.store_value(FP, _NEW + ENDS + layout.ROLE, role, HALF)
        self.call(_TIME).store(FP, _NEW + layout.BORN, R0)
        self.update(self._maps.connections, _CONNECTION_KEY, _NEW, _IF_NEW)
        self.look_up(self._maps.connections, _CONNECTION_KEY)
        self.jump_if(R0, "==", 0, "out").label(known)

    def take_ends(self, sock: int) -> None:
        """_ENDS: the ends of the struct sock in a register. Leave unless it is a TCP socket."""
        self.clear(_ENDS, layout.ENDS_SIZE)
        offsets, version_6, done = self._offsets, self.new_label(), self.new_label()
        for size, offset, to in (
            (2, offsets.protocol, layout.ROLE),
            (2, offsets.port, layout.PORT),
            (2, offsets.peer_port, layout.PEER_PORT),
            (2, offsets.family, layout.FAMILY),
        ):
            self.read(_READ_KERNEL, sock, offset, size, _ENDS + to)
        self.load(R1, FP, _ENDS + layout.ROLE, HALF).jump_if(R1, "!=", socket.IPPROTO_TCP, "out")
        self.load(R1, FP, _ENDS + layout.FAMILY, HALF).jump_if(R1, "==", socket.AF_INET6, version_6)
        self.jump_if(R1, "!=", socket.AF_INET, "out")
        self.read(_READ_KERNEL, sock, offsets.address, 4, _ENDS + layout.ADDRESS)
        self.read(_READ_KERNEL, sock, offsets.peer_address, 4, _ENDS + layout.PEER_ADDRESS)
        self.jump(done).label(version_6)
        self.read(_READ_KERNEL, sock, offsets.address_6, 16, _ENDS + layout.ADDRESS)
        self.read(_READ_KERNEL, sock, offsets.peer_address_6, 16, _ENDS + layout.PEER_ADDRESS)
        self.label(done)

    def give_ends(self, connection: int) -> None:
        """The connection in a register has the ends at _ENDS. Its role stays."""
        self.load(R1, FP, _ENDS, WORD).store(connection, ENDS, R1, WORD)
        self.copy_memory(connection, ENDS + layout.ADDRESS, FP, _ENDS + layout.ADDRESS, 32)
        self.load(R1, FP, _ENDS + layout.FAMILY, HALF).store(connection, ENDS + layout.FAMILY, R1, HALF)

    def submit(self, record: int, flags: int) -> None:
        self.copy(R1, record).set(R2, flags).call(_SUBMIT)


class Programs:
    """Assembles the programs for a machine."""

    def __init__(self, maps: Maps, offsets: Offsets, registers: Registers) -> None:
        self._maps = maps
        self._offsets = offsets
        self._registers = registers

    def _new(self) -> _Program:
        return _Program(self._maps, self._offsets, self._registers)

    def called(self, function: Function) -> bytes:
        """A function begins: remember who called it with what."""
        p, registers = self._new(), self._registers
        p.only_targets()
        p.take_thread()
        p.take_call_key(function)
        # 1. The call.
        p.clear(_CALL, layout.CALL_SIZE)
        arguments = (registers.go_receiver, registers.go_buffer) if function.go else registers.arguments[:2]
        for member, register in zip((layout.SSL, layout.BUFFER), arguments, strict=True):
            p.load(R1, R6, register).store(FP, _CALL + member, R1)
        if function.by_pointer:
            p.load(R1, R6, registers.arguments[3]).store(FP, _CALL + layout.LENGTH_AT, R1)
        p.load(R1, FP, _NETNS).store(FP, _CALL + layout.NETNS, R1)
        p.call(_TIME).store(FP, _CALL + layout.TIME, R0)
        p.store_value(FP, _CALL + layout.KIND, function.kind | function.library << 8, WORD)
        # 2. A handshake within a read or write is a part of that call.
        handshake = function.kind is Kind.HANDSHAKE
        p.update(self._maps.calls, _CALL_KEY, _CALL, _IF_NEW if handshake else _ANY)
        p.update(self._maps.processes, _CONNECTION_KEY, _NETNS, _IF_NEW)
        # 3. The connection. Go's tells its socket.
        p.load(R1, FP, _CALL + layout.SSL).store(FP, _CONNECTION_KEY + 8, R1)
        if handshake:
            p.connection(Role.FROM_START)
        elif function.go:
            p.connection()
            self._go_socket(p)
        return p.end()

    def _go_socket(self, p: _Program) -> None:
        """The ends of a new connection. crypto/tls.Conn begins with the interface net.Conn, whose second word leads to
        a net.conn, that one to a netFD, whose poll.FD has the descriptor after a lock of 16 bytes. R0: the
        connection."""
        p.load(R1, R0, ENDS + layout.FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        p.copy(R7, R0).load(R8, FP, _CONNECTION_KEY + 8)
        for offset in (8, 0, 16):
            p.follow(_READ_USER, R8, offset)
        p.jump_if(R8, ">", _MOST_DESCRIPTORS, "out").call(_TASK).copy(R9, R0)
        files, table, array, private, sock = self._offsets.socket
        for offset in (files, table, array):
            p.follow(_READ_KERNEL, R9, offset)
        p.alu("lsh", R8, 3).alu_register("add", R9, R8)
        for offset in (0, private, sock):
            p.follow(_READ_KERNEL, R9, offset)
        p.take_ends(R9)
        p.give_ends(R7)

    def go_handshake(self, role: Role) -> bytes:
        """A connection of Go begins its handshake. Nothing tells when the object that was at its address was freed."""
        p = self._new()
        p.only_targets()
        p.take_thread()
        p.update(self._maps.processes, _CONNECTION_KEY, _NETNS, _IF_NEW)
        p.load(R1, R6, self._registers.go_receiver).store(FP, _CONNECTION_KEY + 8, R1)
        p.delete(self._maps.connections, _CONNECTION_KEY)
        p.connection(role)
        self._go_socket(p)
        return p.end()

    def returned(self, function: Function) -> bytes:
        """A function returns: hand its plaintext over.

        What changes from chunk to chunk is kept in the call, and not in registers: the verifier would try every
        combination of their values.
        """
        p, reads = self._new(), function.kind is Kind.READ
        # 1. The call. R9: it.
        p.take_thread()
        p.take_call_key(function)
        p.look_up(self._maps.calls, _CALL_KEY)
        p.jump_if(R0, "==", 0, "out").copy(R9, R0)
        p.load(R1, R9, layout.KIND, WORD).alu("and", R1, 0xFF).jump_if(R1, "!=", function.kind, "out")
        p.load(R1, R9, layout.SSL).store(FP, _CONNECTION_KEY + 8, R1)
        p.load(R1, R9, layout.NETNS).store(FP, _NETNS, R1)
        if function.kind is Kind.HANDSHAKE:
            p.connection()
            self._ends_by_thread(p, reads=False)
            p.label("forget")
            p.delete(self._maps.calls, _CALL_KEY)
            return p.end()
        # 2. How many bytes it has accepted or given. R7: them.
        p.load(R7, R6, self._registers.go_receiver if function.go else self._registers.result)
        if function.by_pointer:
            p.alu("and", R7, 1, width=WORD).jump_if(R7, "==", 0, "forget").load(R8, R9, layout.LENGTH_AT)
            p.read(_READ_USER, R8, 0, 8, _WORD)
            p.jump_if(R0, "!=", 0, "forget").load(R7, FP, _WORD).jump_if(R7, "==", 0, "forget")
        else:
            p.alu("lsh", R7, 32).alu("arsh", R7, 32).jump_if(R7, "s<=", 0, "forget")
        p.store(R9, layout.LEFT, R7)
        # 3. The ring. A read is complete now; a write began when the function did, before its peer's answer.
        p.look_up(self._maps.rings, _NETNS)
        p.jump_if(R0, "==", 0, "forget").store(FP, _RING, R0)
        if reads:
            p.call(_TIME).store(R9, layout.TIME, R0)
        # 4. The connection goes on by so many bytes, whether or not they find room in the ring: what is missing is a
        # gap.
        p.connection()
        mine, other = (layout.READ, layout.WRITTEN) if reads else (layout.WRITTEN, layout.READ)
        p.load(R1, R0, mine).store(R9, layout.POSITION, R1).load(R2, R9, layout.LEFT)
        p.alu_register("add", R1, R2).store(R0, mine, R1)
        p.load(R1, R0, other).store(R9, layout.OTHER, R1)
        p.load(R1, R0, layout.BORN).store(R9, layout.CALL_BORN, R1)
        if not function.go:
            self._ends_by_thread(p, reads=reads)
        p.copy_memory(R9, layout.CALL_ENDS, R0, ENDS, layout.ENDS_SIZE)
        # 5. The plaintext.
        self._hand_over(p)
        p.label("forget")
        p.delete(self._maps.calls, _CALL_KEY)
        return p.end()

    def _ends_by_thread(self, p: _Program, *, reads: bool) -> None:
        """A library that works on memory uses no socket itself. What the thread received last is what it reads now;
        what it sends next is what was written. R0, the connection, stays."""
        known, unknown = p.new_label(), p.new_label()
        p.load(R1, R0, ENDS + layout.FAMILY, HALF).jump_if(R1, "!=", 0, known)
        p.load(R1, R9, layout.SOCKET_KNOWN, WORD).jump_if(R1, "!=", 0, known).copy(R8, R0)
        if reads:
            p.look_up(self._maps.received, _THREAD_AT)
            p.jump_if(R0, "==", 0, unknown)
            p.copy_memory(FP, _ENDS, R0, 0, layout.ENDS_SIZE)
            p.give_ends(R8)
            p.delete(self._maps.received, _THREAD_AT)
        else:
            p.update(self._maps.unsent, _THREAD_AT, _CONNECTION_KEY)
        p.label(unknown).copy(R0, R8).label(known)

    def _hand_over(self, p: _Program) -> None:
        """Records of the plaintext of a call, which R9 is, into the ring. R8: bytes of a record."""
        more, fill, lost, following = (p.new_label() for _ in range(4))
        p.set(R7, layout.MOST_CHUNKS).label(more).load(R8, R9, layout.LEFT)
        # 1. Reserve the smallest record that has room. R6, from here on: the record.
        for size in layout.RECORD_SIZES:
            larger = p.new_label()
            p.jump_if(R8, ">", size - HEAD, larger)
            if size == layout.RECORD_SIZES[-1]:
                p.label(larger)
                fits = p.new_label()
                p.jump_if(R8, "<=", size - HEAD, fits).set(R8, size - HEAD).label(fits)
            p.load(R1, FP, _RING).set(R2, size).set(R3, 0).call(_RESERVE)
            p.jump_if(R0, "==", 0, lost).copy(R6, R0)
            p.copy(R1, R6).alu("add", R1, HEAD).copy(R2, R8).load(R3, R9, layout.BUFFER).call(_READ_USER)
            p.store(R6, layout.RECORD_ERROR, R0)
            if size != layout.RECORD_SIZES[-1]:
                p.jump(fill).label(larger)
        p.label(fill)
        # 2. Its head.
        for member, source in (
            (layout.RECORD_TIME, layout.TIME),
            (layout.RECORD_SSL, layout.SSL),
            (layout.RECORD_BORN, layout.CALL_BORN),
            (layout.RECORD_POSITION, layout.POSITION),
            (layout.RECORD_OTHER, layout.OTHER),
        ):
            p.load(R1, R9, source).store(R6, member, R1)
        p.load(R1, FP, _THREAD_AT).store(R6, layout.RECORD_THREAD, R1).store(R6, layout.RECORD_LENGTH, R8, WORD)
        p.load(R1, R9, layout.KIND, WORD).store(R6, layout.RECORD_KIND, R1, WORD)
        p.copy_memory(R6, layout.RECORD_ENDS, R9, layout.CALL_ENDS, layout.ENDS_SIZE)
        # 3. Wake the reader where much waits.
        quiet = p.new_label()
        p.load(R1, FP, _RING).set(R2, _UNREAD_BYTES).call(_QUERY).store(FP, _WORD, R0)
        p.load(R1, FP, _RING).set(R2, _RING_SIZE).call(_QUERY).alu("rsh", R0, _CROWDED_SHIFT)
        p.set(R2, _NO_WAKEUP).load(R1, FP, _WORD).jump_if_register(R1, "<", R0, quiet).set(R2, _FORCE_WAKEUP)
        p.label(quiet).copy(R1, R6).call(_SUBMIT).jump(following).label(lost)
        p.count((layout.LOST, None), (layout.LOST_BYTES, R8))
        # 4. The next one.
        p.label(following)
        for member in (layout.BUFFER, layout.POSITION):
            p.load(R1, R9, member).alu_register("add", R1, R8).store(R9, member, R1)
        p.load(R1, R9, layout.LEFT).alu_register("sub", R1, R8).store(R9, layout.LEFT, R1)
        p.jump_if(R1, "==", 0, "forget").alu("sub", R7, 1).jump_if(R7, "!=", 0, more)
        p.count((layout.CUT, None))

    def begins(self, role: Role, *, anew: bool) -> bytes:
        """A connection is given its role. `anew`: an object that has carried plaintext is another connection from now
        on; otherwise it keeps its role."""
        p = self._new()
        p.only_targets()
        p.take_thread()
        p.load(R1, R6, self._registers.arguments[0]).store(FP, _CONNECTION_KEY + 8, R1)
        p.connection(role)
        fresh = p.new_label()
        p.load(R1, R0, layout.WRITTEN).load(R2, R0, layout.READ).alu_register("or", R1, R2)
        p.jump_if(R1, "==", 0, fresh)
        if anew:
            p.delete(self._maps.connections, _CONNECTION_KEY)
            p.connection(role)
        p.jump("out").label(fresh)
        p.store_value(R0, ENDS + layout.ROLE, role, HALF)
        return p.end()

    def freed(self, *, go: bool = False) -> bytes:
        """A connection's object is freed. Its address may become that of another connection."""
        p, lost = self._new(), "lost"
        # 1. The connection. R7: it. R9: the ring.
        p.only_targets()
        p.copy(R9, R0)
        p.take_thread()
        receiver = self._registers.go_receiver if go else self._registers.arguments[0]
        p.load(R1, R6, receiver).store(FP, _CONNECTION_KEY + 8, R1)
        p.look_up(self._maps.connections, _CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out").copy(R7, R0)
        # 2. A record, if it has carried plaintext.
        p.load(R1, R7, layout.WRITTEN).load(R2, R7, layout.READ).alu_register("or", R1, R2)
        p.jump_if(R1, "==", 0, "forget")
        self._reserve_head(p, R9, Kind.END, lost)
        p.load(R1, FP, _CONNECTION_KEY + 8).store(R6, layout.RECORD_SSL, R1)
        for member, source in (
            (layout.RECORD_BORN, layout.BORN),
            (layout.RECORD_POSITION, layout.WRITTEN),
            (layout.RECORD_OTHER, layout.READ),
        ):
            p.load(R1, R7, source).store(R6, member, R1)
        p.copy_memory(R6, layout.RECORD_ENDS, R7, ENDS, layout.ENDS_SIZE)
        p.submit(R6, _NO_WAKEUP)
        p.jump("forget").label(lost)
        p.count((layout.LOST, None))
        p.label("forget")
        p.delete(self._maps.connections, _CONNECTION_KEY)
        return p.end()

    def _reserve_head(self, p: _Program, ring: int, kind: Kind, lost: str) -> None:
        """R6: a record without plaintext, whose other members are still to be set."""
        p.copy(R1, ring).set(R2, HEAD).set(R3, 0).call(_RESERVE).jump_if(R0, "==", 0, lost).copy(R6, R0)
        p.call(_TIME).store(R6, layout.RECORD_TIME, R0)
        p.load(R1, FP, _THREAD_AT).store(R6, layout.RECORD_THREAD, R1)
        p.store_value(R6, layout.RECORD_LENGTH, 0, WORD).store_value(R6, layout.RECORD_KIND, kind, WORD)
        p.store_value(R6, layout.RECORD_ERROR, 0)

    def ended(self, *, whole: bool) -> bytes:
        """At the tracepoint sched_process_exit: a thread ends, and with the last one the process. With `whole`, at
        sched_process_exec: the process begins another program."""
        p = self._new()
        p.take_thread()
        p.load(R1, FP, _THREAD_AT).store(FP, _CALL_KEY, R1).store_value(FP, _CALL_KEY + 8, 0)
        # 1. What is kept of the thread. Of most processes on the machine nothing is.
        p.look_up(self._maps.processes, _CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out").load(R1, R0, 0).store(FP, _NETNS, R1)
        p.delete(self._maps.calls, _CALL_KEY)
        p.delete(self._maps.received, _THREAD_AT)
        p.delete(self._maps.unsent, _THREAD_AT)
        # 2. The process.
        if not whole:
            p.call(_TASK).copy(R8, R0)
            p.follow(_READ_KERNEL, R8, self._offsets.threads[0])
            p.store_value(FP, _WORD, 0)
            p.read(_READ_KERNEL, R8, self._offsets.threads[1], 4, _WORD)
            p.load(R1, FP, _WORD).jump_if(R1, "!=", 0, "out")
        p.delete(self._maps.processes, _CONNECTION_KEY)
        p.look_up(self._maps.rings, _NETNS)
        p.jump_if(R0, "==", 0, "out").copy(R9, R0)
        self._reserve_head(p, R9, Kind.GONE, "out")
        for member in (layout.RECORD_SSL, layout.RECORD_BORN, layout.RECORD_POSITION, layout.RECORD_OTHER):
            p.store_value(R6, member, 0)
        for at in range(0, layout.ENDS_SIZE, 8):
            p.store_value(R6, layout.RECORD_ENDS + at, 0)
        p.submit(R6, _NO_WAKEUP)
        return p.end()

    def socket_used(self, *, sends: bool) -> bytes:
        """At a raw tracepoint whose first argument is a struct sock: a thread sends or receives. Within a call, the
        socket is the connection's. Outside, see `_ends_by_thread`."""
        p, tie, outside = self._new(), "tie", "outside"
        p.load(R9, R6, 0)  # the struct sock
        p.take_thread()
        p.load(R1, FP, _THREAD_AT).store(FP, _CALL_KEY, R1).store_value(FP, _CALL_KEY + 8, 0)
        # 1. Within a call: its connection is tied to the socket that is used first.
        p.look_up(self._maps.calls, _CALL_KEY)
        p.jump_if(R0, "==", 0, outside)
        p.load(R1, R0, layout.SOCKET_KNOWN, WORD).jump_if(R1, "!=", 0, "out")
        p.store_value(R0, layout.SOCKET_KNOWN, 1, WORD)
        p.load(R1, R0, layout.SSL).store(FP, _CONNECTION_KEY + 8, R1)
        p.label(tie)
        p.connection()
        p.copy(R8, R0).load(R1, R8, ENDS + layout.FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        p.take_ends(R9)
        p.give_ends(R8)
        p.jump("out").label(outside)
        # 2. Outside, in a process that has made such calls.
        p.look_up(self._maps.processes, _CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out")
        if sends:
            p.look_up(self._maps.unsent, _THREAD_AT)
            p.jump_if(R0, "==", 0, "out").load(R1, R0, 8, DOUBLE).store(FP, _CONNECTION_KEY + 8, R1)
            p.delete(self._maps.unsent, _THREAD_AT)
            p.jump(tie)
        else:
            p.take_ends(R9)
            p.store_value(FP, _ENDS + layout.ROLE, 0, HALF)
            p.update(self._maps.received, _THREAD_AT, _ENDS)
        return p.end()
