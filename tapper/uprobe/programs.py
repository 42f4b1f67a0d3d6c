"""The BPF programs: a function of a TLS library is called, and returns; a thread uses a socket; a process ends.

Plaintext is taken when a function returns: only then it is known how many bytes it has accepted, and the pages of the
buffer are in memory. So a write that is tried again is taken once. Nothing is put together in memory that programs on
one processor share: they can be preempted (since Linux 6.0).

The label "forget" leads to the end of a program that forgets its call or connection.
"""

from __future__ import annotations

from tapper.uprobe import layout
from tapper.uprobe.asm import DOUBLE, FP, HALF, R0, R1, R2, R3, R6, R7, R8, R9, WORD
from tapper.uprobe.layout import ENDS, HEAD, Maps, Offsets, RecordKind, Registers, Role
from tapper.uprobe.program import (
    ANY,
    CALL_KEY,
    CONNECTION_KEY,
    ENDS_AT,
    FORCE_WAKEUP,
    IF_NEW,
    NETNS_AT,
    NO_WAKEUP,
    QUERY,
    READ_KERNEL,
    READ_USER,
    RESERVE,
    SCRATCH,
    SUBMIT,
    TASK,
    THREAD_AT,
    TIME,
    BpfProgram,
    Function,
)

_UNREAD_BYTES, _RING_SIZE = 0, 1  # of a query
_CROWDED_SHIFT = 3
"""The reader is woken when an eighth of its ring waits. It looks by itself as well, since a wake-up for each record
costs more than all the rest."""
_MOST_DESCRIPTORS = 1 << 20

_CALL = -288
"""A new call on the stack, below all other places."""
_RING = -168
"""The ring, on the stack."""


class Programs:
    """Assembles the programs for a machine."""

    def __init__(self, maps: Maps, offsets: Offsets, registers: Registers) -> None:
        self._maps = maps
        self._offsets = offsets
        self._registers = registers

    def _new(self) -> BpfProgram:
        return BpfProgram(self._maps, self._offsets, self._registers)

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
        p.load(R1, FP, NETNS_AT).store(FP, _CALL + layout.NETNS, R1)
        p.call(TIME).store(FP, _CALL + layout.TIME, R0)
        p.store_value(FP, _CALL + layout.KIND, function.kind | function.library << 8, WORD)
        # 2. A handshake within a read or write is a part of that call.
        handshake = function.kind is RecordKind.HANDSHAKE
        p.update(self._maps.calls, CALL_KEY, _CALL, IF_NEW if handshake else ANY)
        p.update(self._maps.processes, CONNECTION_KEY, NETNS_AT, IF_NEW)
        # 3. The connection. Go's tells its socket.
        p.load(R1, FP, _CALL + layout.SSL).store(FP, CONNECTION_KEY + 8, R1)
        if handshake:
            p.connection(Role.FROM_START)
            return p.end()
        p.connection()
        if function.kind is RecordKind.WRITE:
            p.load(R1, R0, ENDS + layout.ROLE, HALF).alu("or", R1, Role.WRITING)
            p.store(R0, ENDS + layout.ROLE, R1, HALF)
        if function.go:
            self._go_socket(p)
        return p.end()

    def _go_socket(self, p: BpfProgram) -> None:
        """The ends of a new connection. crypto/tls.Conn begins with the interface net.Conn, whose second word leads to
        a net.conn, that one to a netFD, whose poll.FD has the descriptor after a lock of 16 bytes. R0: the
        connection."""
        p.load(R1, R0, ENDS + layout.FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        p.copy(R7, R0).load(R8, FP, CONNECTION_KEY + 8)
        for offset in (8, 0, 16):
            p.follow(READ_USER, R8, offset)
        p.jump_if(R8, ">", _MOST_DESCRIPTORS, "out").call(TASK).copy(R9, R0)
        files, table, array, private, sock = self._offsets.socket
        for offset in (files, table, array):
            p.follow(READ_KERNEL, R9, offset)
        p.alu("lsh", R8, 3).alu_register("add", R9, R8)
        for offset in (0, private, sock):
            p.follow(READ_KERNEL, R9, offset)
        p.take_ends(R9)
        p.give_ends(R7)

    def go_handshake(self, role: Role) -> bytes:
        """A connection of Go begins its handshake. Nothing tells when the object that was at its address was freed."""
        p = self._new()
        p.only_targets()
        p.take_thread()
        p.update(self._maps.processes, CONNECTION_KEY, NETNS_AT, IF_NEW)
        p.load(R1, R6, self._registers.go_receiver).store(FP, CONNECTION_KEY + 8, R1)
        p.delete(self._maps.connections, CONNECTION_KEY)
        p.connection(role)
        self._go_socket(p)
        return p.end()

    def returned(self, function: Function) -> bytes:
        """A function returns: hand its plaintext over.

        What changes from chunk to chunk is kept in the call, and not in registers: the verifier would try every
        combination of their values.
        """
        p, reads = self._new(), function.kind is RecordKind.READ
        # 1. The call, and its connection. R9, R8: them.
        p.take_thread()
        p.take_call_key(function)
        p.look_up(self._maps.calls, CALL_KEY)
        p.jump_if(R0, "==", 0, "out").copy(R9, R0)
        p.load(R1, R9, layout.KIND, WORD).alu("and", R1, 0xFF).jump_if(R1, "!=", function.kind, "out")
        p.load(R1, R9, layout.SSL).store(FP, CONNECTION_KEY + 8, R1)
        p.load(R1, R9, layout.NETNS).store(FP, NETNS_AT, R1)
        p.connection()
        p.copy(R8, R0)
        if function.kind is RecordKind.HANDSHAKE:
            self._ends_by_thread(p, function.kind)
            p.label("forget")
            p.delete(self._maps.calls, CALL_KEY)
            return p.end()
        if not reads:
            p.load(R1, R8, ENDS + layout.ROLE, HALF).alu("and", R1, ~Role.WRITING)
            p.store(R8, ENDS + layout.ROLE, R1, HALF)
        # 2. How many bytes it has accepted or given. R7: them.
        p.load(R7, R6, self._registers.go_receiver if function.go else self._registers.result)
        if function.by_pointer:
            p.alu("and", R7, 1, width=WORD).jump_if(R7, "==", 0, "forget").load(R7, R9, layout.LENGTH_AT)
            p.read(READ_USER, R7, 0, 8, SCRATCH)
            p.jump_if(R0, "!=", 0, "forget").load(R7, FP, SCRATCH).jump_if(R7, "==", 0, "forget")
        else:
            p.alu("lsh", R7, 32).alu("arsh", R7, 32).jump_if(R7, "s<=", 0, "forget")
        p.store(R9, layout.LEFT, R7)
        # 3. The ring. A read is complete now; a write began when the function did, before its peer's answer.
        p.look_up(self._maps.rings, NETNS_AT)
        p.jump_if(R0, "==", 0, "forget").store(FP, _RING, R0)
        if reads:
            p.call(TIME).store(R9, layout.TIME, R0)
        # 4. The connection goes on by so many bytes, whether or not they find room in the ring: what is missing is a
        # gap.
        mine, other = (layout.READ, layout.WRITTEN) if reads else (layout.WRITTEN, layout.READ)
        p.load(R1, R8, mine).store(R9, layout.POSITION, R1).load(R2, R9, layout.LEFT)
        p.alu_register("add", R1, R2).store(R8, mine, R1)
        p.load(R1, R8, other).store(R9, layout.OTHER, R1)
        p.load(R1, R8, layout.BORN).store(R9, layout.CALL_BORN, R1)
        if not function.go:
            self._ends_by_thread(p, function.kind)
        p.copy_memory(R9, layout.CALL_ENDS, R8, ENDS, layout.ENDS_SIZE)
        # 5. The plaintext.
        self._hand_over(p, function.kind)
        p.label("forget")
        p.delete(self._maps.calls, CALL_KEY)
        return p.end()

    def _ends_by_thread(self, p: BpfProgram, kind: RecordKind) -> None:
        """A library that works on memory uses no socket within a call. Its connection's ends are then those of the
        socket that the thread received from since its last call, or will send on next. R8, the connection, stays."""
        take, used, wait, done = (p.new_label() for _ in range(4))
        p.load(R1, R9, layout.SOCKET_KNOWN, WORD).jump_if(R1, "!=", 0, done)
        p.load(R1, R8, ENDS + layout.FAMILY, HALF)
        if kind is RecordKind.WRITE:
            p.jump_if(R1, "!=", 0, done).label(wait)
            p.update(self._maps.unsent, THREAD_AT, CONNECTION_KEY)
        else:
            p.jump_if(R1, "!=", 0, used)
            if kind is RecordKind.HANDSHAKE:
                # A client speaks first. A server's first call may come before the client has said anything: then the
                # thread received last on another connection.
                p.load(R1, R8, ENDS + layout.ROLE, HALF).jump_if(R1, "&", Role.CLIENT, wait)
                p.jump_if(R1, "&", Role.SHOOK, take).alu("or", R1, Role.SHOOK)
                p.store(R8, ENDS + layout.ROLE, R1, HALF).jump(done).label(wait)
                p.update(self._maps.unsent, THREAD_AT, CONNECTION_KEY)
                p.jump(done)
            p.label(take)
            p.look_up(self._maps.received, THREAD_AT)
            p.jump_if(R0, "==", 0, done)
            p.copy_memory(FP, ENDS_AT, R0, 0, layout.ENDS_SIZE)
            p.give_ends(R8)
            p.label(used)
            p.delete(self._maps.received, THREAD_AT)
        p.label(done)

    def _hand_over(self, p: BpfProgram, kind: RecordKind) -> None:
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
            p.load(R1, FP, _RING).set(R2, size).set(R3, 0).call(RESERVE)
            p.jump_if(R0, "==", 0, lost).copy(R6, R0)
            p.copy(R1, R6).alu("add", R1, HEAD).copy(R2, R8).load(R3, R9, layout.BUFFER).call(READ_USER)
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
        p.load(R1, FP, THREAD_AT).store(R6, layout.RECORD_THREAD, R1).store(R6, layout.RECORD_LENGTH, R8, WORD)
        p.load(R1, R9, layout.KIND, WORD).store(R6, layout.RECORD_KIND, R1, WORD)
        p.copy_memory(R6, layout.RECORD_ENDS, R9, layout.CALL_ENDS, layout.ENDS_SIZE)
        if kind is RecordKind.WRITE:
            last = p.new_label()
            p.load(R1, R9, layout.LEFT).jump_if_register(R1, "<=", R8, last)
            p.load(R1, R6, layout.RECORD_ENDS + layout.ROLE, HALF).alu("or", R1, Role.WRITING)
            p.store(R6, layout.RECORD_ENDS + layout.ROLE, R1, HALF).label(last)
        # 3. Wake the reader where much waits.
        quiet = p.new_label()
        p.load(R1, FP, _RING).set(R2, _UNREAD_BYTES).call(QUERY).store(FP, SCRATCH, R0)
        p.load(R1, FP, _RING).set(R2, _RING_SIZE).call(QUERY).alu("rsh", R0, _CROWDED_SHIFT)
        p.set(R2, NO_WAKEUP).load(R1, FP, SCRATCH).jump_if_register(R1, "<", R0, quiet).set(R2, FORCE_WAKEUP)
        p.label(quiet).copy(R1, R6).call(SUBMIT).jump(following).label(lost)
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
        p.load(R1, R6, self._registers.arguments[0]).store(FP, CONNECTION_KEY + 8, R1)
        p.connection(role)
        fresh = p.new_label()
        p.load(R1, R0, layout.WRITTEN).load(R2, R0, layout.READ).alu_register("or", R1, R2)
        p.jump_if(R1, "==", 0, fresh)
        if anew:
            p.delete(self._maps.connections, CONNECTION_KEY)
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
        p.load(R1, R6, receiver).store(FP, CONNECTION_KEY + 8, R1)
        p.look_up(self._maps.connections, CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out").copy(R7, R0)
        # 2. A record, if it has carried plaintext.
        p.load(R1, R7, layout.WRITTEN).load(R2, R7, layout.READ).alu_register("or", R1, R2)
        p.jump_if(R1, "==", 0, "forget")
        self._reserve_head(p, R9, RecordKind.END, lost)
        p.load(R1, FP, CONNECTION_KEY + 8).store(R6, layout.RECORD_SSL, R1)
        for member, source in (
            (layout.RECORD_BORN, layout.BORN),
            (layout.RECORD_POSITION, layout.WRITTEN),
            (layout.RECORD_OTHER, layout.READ),
        ):
            p.load(R1, R7, source).store(R6, member, R1)
        p.copy_memory(R6, layout.RECORD_ENDS, R7, ENDS, layout.ENDS_SIZE)
        p.submit(R6, NO_WAKEUP)
        p.jump("forget").label(lost)
        p.count((layout.LOST, None))
        p.label("forget")
        p.delete(self._maps.connections, CONNECTION_KEY)
        return p.end()

    def _reserve_head(self, p: BpfProgram, ring: int, kind: RecordKind, lost: str) -> None:
        """R6: a record without plaintext, whose other members are still to be set."""
        p.copy(R1, ring).set(R2, HEAD).set(R3, 0).call(RESERVE).jump_if(R0, "==", 0, lost).copy(R6, R0)
        p.call(TIME).store(R6, layout.RECORD_TIME, R0)
        p.load(R1, FP, THREAD_AT).store(R6, layout.RECORD_THREAD, R1)
        p.store_value(R6, layout.RECORD_LENGTH, 0, WORD).store_value(R6, layout.RECORD_KIND, kind, WORD)
        p.store_value(R6, layout.RECORD_ERROR, 0)

    def ended(self, *, whole: bool) -> bytes:
        """At the tracepoint sched_process_exit: a thread ends, and with the last one the process. With `whole`, at
        sched_process_exec: the process begins another program."""
        p = self._new()
        p.take_thread()
        p.load(R1, FP, THREAD_AT).store(FP, CALL_KEY, R1).store_value(FP, CALL_KEY + 8, 0)
        # 1. What is kept of the thread. Of most processes on the machine nothing is.
        p.look_up(self._maps.processes, CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out").load(R1, R0, 0).store(FP, NETNS_AT, R1)
        p.delete(self._maps.calls, CALL_KEY)
        p.delete(self._maps.received, THREAD_AT)
        p.delete(self._maps.unsent, THREAD_AT)
        # 2. The process.
        if not whole:
            p.call(TASK).copy(R8, R0)
            p.follow(READ_KERNEL, R8, self._offsets.threads[0])
            p.store_value(FP, SCRATCH, 0)
            p.read(READ_KERNEL, R8, self._offsets.threads[1], 4, SCRATCH)
            p.load(R1, FP, SCRATCH).jump_if(R1, "!=", 0, "out")
        p.delete(self._maps.processes, CONNECTION_KEY)
        p.look_up(self._maps.rings, NETNS_AT)
        p.jump_if(R0, "==", 0, "out").copy(R9, R0)
        self._reserve_head(p, R9, RecordKind.GONE, "out")
        for member in (layout.RECORD_SSL, layout.RECORD_BORN, layout.RECORD_POSITION, layout.RECORD_OTHER):
            p.store_value(R6, member, 0)
        for at in range(0, layout.ENDS_SIZE, 8):
            p.store_value(R6, layout.RECORD_ENDS + at, 0)
        p.submit(R6, NO_WAKEUP)
        return p.end()

    def socket_used(self, *, sends: bool, tells_length: bool = True) -> bytes:
        """At a raw tracepoint whose first argument is a struct sock: a thread sends or receives, or tries to. With
        `tells_length` the second argument is the result. Within a call, the socket is the connection's. Outside, see
        `_ends_by_thread`."""
        p, tie, outside = self._new(), "tie", "outside"
        p.load(R9, R6, 0)  # the struct sock
        p.take_thread()
        p.load(R1, FP, THREAD_AT).store(FP, CALL_KEY, R1).store_value(FP, CALL_KEY + 8, 0)
        # 1. Within a call: its connection is tied to the socket that is used first.
        p.look_up(self._maps.calls, CALL_KEY)
        p.jump_if(R0, "==", 0, outside)
        p.load(R1, R0, layout.SOCKET_KNOWN, WORD).jump_if(R1, "!=", 0, "out")
        p.store_value(R0, layout.SOCKET_KNOWN, 1, WORD)
        p.load(R1, R0, layout.SSL).store(FP, CONNECTION_KEY + 8, R1)
        p.label(tie)
        p.connection()
        p.copy(R8, R0).load(R1, R8, ENDS + layout.FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        p.take_ends(R9)
        p.give_ends(R8)
        p.jump("out").label(outside)
        # 2. Outside, in a process that has made such calls.
        p.look_up(self._maps.processes, CONNECTION_KEY)
        p.jump_if(R0, "==", 0, "out")
        if tells_length:
            p.load(R1, R6, 8).alu("lsh", R1, 32).alu("arsh", R1, 32).jump_if(R1, "s<=", 0, "out")
        if sends:
            p.look_up(self._maps.unsent, THREAD_AT)
            p.jump_if(R0, "==", 0, "out").load(R1, R0, 8, DOUBLE).store(FP, CONNECTION_KEY + 8, R1)
            p.delete(self._maps.unsent, THREAD_AT)
            p.jump(tie)
        else:
            p.take_ends(R9)
            p.store_value(FP, ENDS_AT + layout.ROLE, 0, HALF)
            p.update(self._maps.received, THREAD_AT, ENDS_AT)
        return p.end()
