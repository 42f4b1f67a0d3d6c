"""The BPF programs: a function of a TLS library is called, and returns; a thread uses a socket; a process ends.

Plaintext is taken when a function returns: only then it is known how many bytes it has accepted, and the pages of the
buffer are in memory. So a write that is tried again is taken once. Nothing is put together in memory that programs on
one processor share: they can be preempted (since Linux 6.0).

The label "forget" leads to the end of a program that forgets its call or connection.
"""

from __future__ import annotations

from dataclasses import dataclass

from tapper.uprobe.asm import BYTE, FP, HALF, R0, R1, R2, R3, R6, R7, R8, R9, WORD
from tapper.uprobe.layout import (
    CALL,
    CONNECTION,
    COUNTERS,
    ENDS,
    HEAD,
    MOST_CHUNKS,
    RECORD,
    RECORD_SIZES,
    RecordKind,
    Role,
)
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
    READ_USER,
    RESERVE,
    SCRATCH,
    SUBMIT,
    TASK,
    THREAD_AT,
    TIME,
    BpfProgram,
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
_FAMILY, _ROLE = CONNECTION["ends"] + ENDS["family"], CONNECTION["ends"] + ENDS["role"]
"""Of a connection."""
_RECORD_ROLE = RECORD["ends"] + ENDS["role"]


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a library, as programs take it."""

    kind: RecordKind
    library: int
    """Its number in `tapper.uprobe.libraries`."""
    by_pointer: bool = False
    """Whether the function returns 1, and stores the number of bytes where its fourth argument points to."""
    go: bool = False


class CallProgram(BpfProgram):
    """One program: each public method assembles it, and returns its bytes."""

    def called(self, function: Function) -> bytes:
        """A function begins: remember who called it with what."""
        registers = self.registers
        self.only_targets()
        self.take_thread()
        self.take_call_key(go=function.go)
        # 1. The call.
        self.clear(_CALL, CALL.size)
        arguments = (registers.go_receiver, registers.go_buffer) if function.go else registers.arguments[:2]
        for member, register in zip(("ssl", "buffer"), arguments, strict=True):
            self.load(R1, R6, register).store(FP, _CALL + CALL[member], R1)
        if function.by_pointer:
            self.load(R1, R6, registers.arguments[3]).store(FP, _CALL + CALL["length_at"], R1)
        self.load(R1, FP, NETNS_AT).store(FP, _CALL + CALL["netns"], R1)
        self.call(TIME).store(FP, _CALL + CALL["time"], R0)
        self.store_value(FP, _CALL + CALL["kind"], function.kind | function.library << 8, HALF)
        # 2. A handshake within a read or write is a part of that call.
        handshake = function.kind is RecordKind.HANDSHAKE
        self.update(self.maps.calls, CALL_KEY, _CALL, IF_NEW if handshake else ANY)
        self.update(self.maps.processes, CONNECTION_KEY, NETNS_AT, IF_NEW)
        # 3. The connection. Go's tells its socket.
        self.load(R1, FP, _CALL + CALL["ssl"]).store(FP, CONNECTION_KEY + 8, R1)
        self.connection(Role.FROM_START if handshake else 0)
        if function.kind is RecordKind.WRITE:
            self._change_role(R0, _ROLE, "or", Role.WRITING)
        if function.go:
            self._go_socket()
        return self.end()

    def go_handshake(self, role: Role) -> bytes:
        """A connection of Go begins its handshake. Nothing tells when the object that was at its address was freed."""
        self.only_targets()
        self.take_thread()
        self.update(self.maps.processes, CONNECTION_KEY, NETNS_AT, IF_NEW)
        self.load(R1, R6, self.registers.go_receiver).store(FP, CONNECTION_KEY + 8, R1)
        self.delete(self.maps.connections, CONNECTION_KEY)
        self.connection(role)
        self._go_socket()
        return self.end()

    def _go_socket(self) -> None:
        """The ends of a new connection. crypto/tls.Conn begins with the interface net.Conn, whose second word leads to
        a net.conn, that one to a netFD, whose poll.FD has the descriptor after a lock of 16 bytes. R0: the
        connection."""
        self.load(R1, R0, _FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        self.copy(R7, R0).load(R8, FP, CONNECTION_KEY + 8)
        self.follow_user(R8, 8, 0, 16)
        self.jump_if(R8, ">", _MOST_DESCRIPTORS, "out").call(TASK).copy(R9, R0)
        self.follow_kernel(R9, "task_struct.files", "files_struct.fdt", "fdtable.fd")
        self.alu("lsh", R8, 3).alu_register("add", R9, R8)
        self.follow_kernel(R9, "", "file.private_data", "socket.sk")
        self.take_ends(R9)
        self.give_ends(R7)

    def _change_role(self, address: int, offset: int, operation: str, value: int) -> None:
        """Change the role, which is at an offset after the address in a register. R1 is lost."""
        self.load(R1, address, offset, HALF).alu(operation, R1, value).store(address, offset, R1, HALF)

    def returned(self, function: Function) -> bytes:
        """A function returns: hand its plaintext over.

        What changes from chunk to chunk is kept in the call, and not in registers: the verifier would try every
        combination of their values.
        """
        reads = function.kind is RecordKind.READ
        # 1. The call, and its connection. R9, R8: them.
        self.take_thread()
        self.take_call_key(go=function.go)
        self.look_up(self.maps.calls, CALL_KEY)
        self.copy(R9, R0).load(R1, R9, CALL["kind"], BYTE).jump_if(R1, "!=", function.kind, "out")
        self.load(R1, R9, CALL["ssl"]).store(FP, CONNECTION_KEY + 8, R1)
        self.load(R1, R9, CALL["netns"]).store(FP, NETNS_AT, R1)
        self.connection()
        self.copy(R8, R0)
        if function.kind is RecordKind.HANDSHAKE:
            self._ends_by_thread(function.kind)
            return self._end_of_call()
        if not reads:
            self._change_role(R8, _ROLE, "and", ~Role.WRITING)
        # 2. How many bytes it has accepted or given. R7: them.
        self.load(R7, R6, self.registers.go_receiver if function.go else self.registers.result)
        self.alu("lsh", R7, 32).alu("arsh", R7, 32).jump_if(R7, "s<=", 0, "forget")
        by_result = self.new_label()
        self.load(R1, R9, CALL["length_at"]).jump_if(R1, "==", 0, by_result).copy(R7, R1)
        self.read(READ_USER, R7, 0, 8, SCRATCH)
        self.jump_if(R0, "!=", 0, "forget").load(R7, FP, SCRATCH).jump_if(R7, "==", 0, "forget").label(by_result)
        self.store(R9, CALL["left"], R7)
        # 3. The ring. A read is complete now; a write began when the function did, before its peer's answer.
        self.look_up(self.maps.rings, NETNS_AT, "forget")
        self.store(FP, _RING, R0)
        if reads:
            self.call(TIME).store(R9, CALL["time"], R0)
        # 4. The connection goes on by so many bytes, whether or not they find room in the ring: what is missing is a
        # gap.
        mine, other = ("read", "written") if reads else ("written", "read")
        self.load(R1, R8, CONNECTION[mine]).store(R9, CALL["position"], R1).load(R2, R9, CALL["left"])
        self.alu_register("add", R1, R2).store(R8, CONNECTION[mine], R1)
        self.load(R1, R8, CONNECTION[other]).store(R9, CALL["other"], R1)
        self.load(R1, R8, CONNECTION["born"]).store(R9, CALL["born"], R1)
        if not function.go:
            self._ends_by_thread(function.kind)
        self.copy_memory(R9, CALL["ends"], R8, CONNECTION["ends"], ENDS.size)
        # 5. The plaintext.
        self._hand_over(function.kind)
        return self._end_of_call()

    def _end_of_call(self) -> bytes:
        self.label("forget")
        self.delete(self.maps.calls, CALL_KEY)
        return self.end()

    def _ends_by_thread(self, kind: RecordKind) -> None:
        """A library that works on memory uses no socket within a call. Its connection's ends are then those of the
        socket that the thread received from since its last call, or will send on next. R8, the connection, stays."""
        take, used, wait, done = (self.new_label() for _ in range(4))
        self.load(R1, R9, CALL["socket_known"], WORD).jump_if(R1, "!=", 0, done).load(R1, R8, _FAMILY, HALF)
        if kind is RecordKind.WRITE:
            self.jump_if(R1, "==", 0, wait)
        else:
            self.jump_if(R1, "!=", 0, used)
            if kind is RecordKind.HANDSHAKE:
                # A client speaks first. A server's first call may come before the client has said anything: then the
                # thread received last on another connection.
                self.load(R1, R8, _ROLE, HALF).jump_if(R1, "&", Role.CLIENT, wait).jump_if(R1, "&", Role.SHOOK, take)
                self._change_role(R8, _ROLE, "or", Role.SHOOK)
                self.jump(done)
            self.label(take)
            self.look_up(self.maps.received, THREAD_AT, done)
            self.copy_memory(FP, ENDS_AT, R0, 0, ENDS.size)
            self.give_ends(R8)
            self.label(used)
            self.delete(self.maps.received, THREAD_AT)
        if kind is not RecordKind.READ:
            self.jump(done).label(wait)
            self.update(self.maps.unsent, THREAD_AT, CONNECTION_KEY)
        self.label(done)

    def _hand_over(self, kind: RecordKind) -> None:
        """Records of the plaintext of a call, which R9 is, into the ring. R8: bytes of a record."""
        more, fill, lost, following = (self.new_label() for _ in range(4))
        self.set(R7, MOST_CHUNKS).label(more).load(R8, R9, CALL["left"])
        # 1. Reserve the smallest record that has room. R6, from here on: the record.
        largest, fits = RECORD_SIZES[-1], self.new_label()
        self.jump_if(R8, "<=", largest - HEAD, fits).set(R8, largest - HEAD).label(fits)
        for size in RECORD_SIZES:
            larger = self.new_label()
            self.jump_if(R8, ">", size - HEAD, larger)
            self.load(R1, FP, _RING).set(R2, size).set(R3, 0).call(RESERVE)
            self.jump_if(R0, "==", 0, lost).copy(R6, R0)
            self.copy(R1, R6).alu("add", R1, HEAD).copy(R2, R8).load(R3, R9, CALL["buffer"]).call(READ_USER)
            self.store(R6, RECORD["error"], R0).jump(fill).label(larger)
        self.jump(lost).label(fill)
        # 2. Its head.
        for member in ("time", "ssl", "born", "position", "other"):
            self.load(R1, R9, CALL[member]).store(R6, RECORD[member], R1)
        self.load(R1, FP, THREAD_AT).store(R6, RECORD["thread"], R1).store(R6, RECORD["length"], R8, WORD)
        self.load(R1, R9, CALL["kind"], HALF).store(R6, RECORD["kind"], R1, HALF)
        self.copy_memory(R6, RECORD["ends"], R9, CALL["ends"], ENDS.size)
        if kind is RecordKind.WRITE:
            # The role gets WRITING while more follows: without a jump, whose two ways the verifier would try each.
            self.load(R1, R9, CALL["left"]).copy(R2, R8).alu_register("sub", R2, R1).alu("arsh", R2, 63)
            self.alu("and", R2, Role.WRITING).load(R1, R6, _RECORD_ROLE, HALF).alu_register("or", R1, R2)
            self.store(R6, _RECORD_ROLE, R1, HALF)
        # 3. Wake the reader where much waits.
        quiet = self.new_label()
        self.load(R1, FP, _RING).set(R2, _UNREAD_BYTES).call(QUERY).store(FP, SCRATCH, R0)
        self.load(R1, FP, _RING).set(R2, _RING_SIZE).call(QUERY).alu("rsh", R0, _CROWDED_SHIFT)
        self.set(R2, NO_WAKEUP).load(R1, FP, SCRATCH).jump_if_register(R1, "<", R0, quiet).set(R2, FORCE_WAKEUP)
        self.label(quiet).copy(R1, R6).call(SUBMIT).jump(following).label(lost)
        self.count(COUNTERS["lost"])
        self.count(COUNTERS["lost_bytes"], R8)
        # 4. The next one.
        self.label(following)
        for member in ("buffer", "position"):
            self.load(R1, R9, CALL[member]).alu_register("add", R1, R8).store(R9, CALL[member], R1)
        self.load(R1, R9, CALL["left"]).alu_register("sub", R1, R8).store(R9, CALL["left"], R1)
        self.jump_if(R1, "==", 0, "forget").alu("sub", R7, 1).jump_if(R7, "!=", 0, more)
        self.count(COUNTERS["cut"])

    def begins(self, role: Role, *, anew: bool) -> bytes:
        """A connection is given its role. `anew`: an object that has carried plaintext is another connection from now
        on; otherwise it keeps its role."""
        fresh = self.new_label()
        self.only_targets()
        self.take_thread()
        self.load(R1, R6, self.registers.arguments[0]).store(FP, CONNECTION_KEY + 8, R1)
        self.connection(role)
        self._jump_unless_used(R0, fresh)
        if anew:
            self.delete(self.maps.connections, CONNECTION_KEY)
            self.connection(role)
        self.jump("out").label(fresh)
        self.store_value(R0, _ROLE, role, HALF)
        return self.end()

    def _jump_unless_used(self, connection: int, label: str) -> None:
        """Go to a label if a connection has carried no plaintext."""
        self.load(R1, connection, CONNECTION["written"]).load(R2, connection, CONNECTION["read"])
        self.alu_register("or", R1, R2).jump_if(R1, "==", 0, label)

    def freed(self, *, go: bool = False) -> bytes:
        """A connection's object is freed. Its address may become that of another connection."""
        # 1. The connection. R7: it. R9: the ring.
        self.only_targets()
        self.copy(R9, R0).take_thread()
        receiver = self.registers.go_receiver if go else self.registers.arguments[0]
        self.load(R1, R6, receiver).store(FP, CONNECTION_KEY + 8, R1)
        self.look_up(self.maps.connections, CONNECTION_KEY)
        self.copy(R7, R0)
        # 2. A record, if it has carried plaintext.
        self._jump_unless_used(R7, "forget")
        self._reserve_head(R9, RecordKind.END, "lost")
        self.load(R1, FP, CONNECTION_KEY + 8).store(R6, RECORD["ssl"], R1)
        for member, source in (("born", "born"), ("position", "written"), ("other", "read")):
            self.load(R1, R7, CONNECTION[source]).store(R6, RECORD[member], R1)
        self.copy_memory(R6, RECORD["ends"], R7, CONNECTION["ends"], ENDS.size)
        self.copy(R1, R6).set(R2, NO_WAKEUP).call(SUBMIT).jump("forget").label("lost")
        self.count(COUNTERS["lost"])
        self.label("forget")
        self.delete(self.maps.connections, CONNECTION_KEY)
        return self.end()

    def _reserve_head(self, ring: int, kind: RecordKind, lost: str) -> None:
        """R6: a record without plaintext, whose other members are still to be set."""
        self.copy(R1, ring).set(R2, HEAD).set(R3, 0).call(RESERVE).jump_if(R0, "==", 0, lost).copy(R6, R0)
        self.call(TIME).store(R6, RECORD["time"], R0)
        self.load(R1, FP, THREAD_AT).store(R6, RECORD["thread"], R1)
        self.store_value(R6, RECORD["length"], 0, WORD).store_value(R6, RECORD["kind"], kind, WORD)
        self.store_value(R6, RECORD["error"], 0)

    def ended(self, *, whole: bool) -> bytes:
        """At the tracepoint sched_process_exit: a thread ends, and with the last one the process. With `whole`, at
        sched_process_exec: the process begins another program."""
        self.take_thread()
        self.take_call_key()
        if whole:
            self.only_targets()
            self.update(self.maps.began, CONNECTION_KEY, NETNS_AT)
        # 1. What is kept of the thread. Of most processes on the machine nothing is.
        self.look_up(self.maps.processes, CONNECTION_KEY)
        self.load(R1, R0, 0).store(FP, NETNS_AT, R1)
        self.delete(self.maps.calls, CALL_KEY)
        self.delete(self.maps.received, THREAD_AT)
        self.delete(self.maps.unsent, THREAD_AT)
        # 2. The process.
        if not whole:
            self.call(TASK).copy(R8, R0)
            self.follow_kernel(R8, "task_struct.signal")
            self.store_value(FP, SCRATCH, 0)
            self.read_member(R8, "signal_struct.live.counter", 4, SCRATCH)
            self.load(R1, FP, SCRATCH).jump_if(R1, "!=", 0, "out")
        self.delete(self.maps.processes, CONNECTION_KEY)
        self.look_up(self.maps.rings, NETNS_AT)
        self.copy(R9, R0)._reserve_head(R9, RecordKind.GONE, "out")
        for at in (
            *map(RECORD.__getitem__, ("ssl", "born", "position", "other")),
            *range(RECORD["ends"], RECORD["error"], 8),
        ):
            self.store_value(R6, at, 0)
        self.copy(R1, R6).set(R2, NO_WAKEUP).call(SUBMIT)
        return self.end()

    def socket_used(self, *, sends: bool, tells_length: bool = True) -> bytes:
        """At a raw tracepoint whose first argument is a struct sock: a thread sends or receives, or tries to. With
        `tells_length` the second argument is the result. Within a call, the socket is the connection's. Outside, see
        `_ends_by_thread`."""
        self.load(R9, R6, 0)  # the struct sock
        self.take_thread()
        self.take_call_key()
        # 1. Within a call: its connection is tied to the socket that is used first.
        self.look_up(self.maps.calls, CALL_KEY, "outside")
        self.load(R1, R0, CALL["socket_known"], WORD).jump_if(R1, "!=", 0, "out")
        self.store_value(R0, CALL["socket_known"], 1, WORD)
        self.load(R1, R0, CALL["ssl"]).store(FP, CONNECTION_KEY + 8, R1).label("tie")
        self.connection()
        self.copy(R8, R0).load(R1, R8, _FAMILY, HALF).jump_if(R1, "!=", 0, "out")
        self.take_ends(R9)
        self.give_ends(R8)
        self.jump("out").label("outside")
        # 2. Outside, in a process that has made such calls.
        self.look_up(self.maps.processes, CONNECTION_KEY)
        if tells_length:
            self.load(R1, R6, 8).alu("lsh", R1, 32).alu("arsh", R1, 32).jump_if(R1, "s<=", 0, "out")
        if sends:
            self.look_up(self.maps.unsent, THREAD_AT)
            self.load(R1, R0, 8).store(FP, CONNECTION_KEY + 8, R1)
            self.delete(self.maps.unsent, THREAD_AT)
            self.jump("tie")
        else:
            self.take_ends(R9)
            self.store_value(FP, ENDS_AT + ENDS["role"], 0, HALF)
            self.update(self.maps.received, THREAD_AT, ENDS_AT)
        return self.end()
