"""A capture whose memory grows with the traffic.

The memory of a packet socket (`tapper.capture.mapped`) cannot be resized while it captures. So a ring that fills up
gets a larger socket in the same network namespace, and no packet is lost or read twice:

1. A larger socket is opened with a filter that lets nothing in.
2. The larger socket gets the real filter. From here on both sockets receive every packet.
3. The smaller socket gets the filter that lets nothing in. Both have received the packets between steps 2 and 3.
4. The smaller socket is read to its end. `_Overlap` remembers the packets that it had since step 2.
5. The larger socket is read. A packet that was remembered is left out. The smaller socket is closed.

The sockets join no fanout group (packet(7)): whoever may open packet sockets in the namespace, as a container with
CAP_NET_RAW may, can join any group there and steer its packets away from all other members.

Steps 1 to 3 and the closing take the kernel milliseconds. They run on another thread, which does not hold the
interpreter lock meanwhile, so that reading goes on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeAlias

from tapper.capture.bpf import REJECT_ALL, Instruction
from tapper.capture.mapped import CaptureRing, Mapped, Statistics, open_mapped
from tapper.capture.memory import RingMemory
from tapper.capture.walk import Blocks, Packets
from tapper.errors import NamespaceGoneError, TapperError, explain
from tapper.runtime.threads import NO_THREAD
from tapper.streams.packet import Packet

_Mark: TypeAlias = tuple[int, int, int]
"""What identifies a packet: time in nanoseconds since 1970, index of the interface, length in bytes."""
Enter: TypeAlias = Callable[[Callable[[], Mapped]], Mapped]
"""Calls a function inside the network namespace of a ring, on the thread that calls `Enter`."""

_JOIN_S = 10.0
_OVERLAP_NS = 1_000_000_000
"""A packet of step 2 may have an earlier time, by less than this: it was on its way to the sockets."""


class _Overlap:
    """The packets that both sockets have received."""

    def __init__(self) -> None:
        self.since: int | None = None
        """The time of step 2, in nanoseconds since 1970; None while there is one socket."""
        self._remembered: Counter[_Mark] = Counter()
        """Packets of the smaller socket since then."""
        self._known: Counter[_Mark] = Counter()
        """The remembered packets that the larger socket has still to bring."""
        self._to_compare = 0
        """Packets of the larger socket that may be among the known ones."""
        self.repeated = 0
        """Packets that were left out, because they had been read from the smaller socket."""

    def begin_comparing(self, received: int) -> None:
        """The smaller socket was read to its end, and the larger one has received so many packets by now."""
        self.since = None
        self._known, self._remembered = self._remembered, Counter()
        self._to_compare = received

    def remember(self, packets: list[Packet]) -> None:
        since = self.since
        if since is not None:
            self._remembered.update(_mark(packet) for packet in packets if packet[0] >= since)

    def new(self, packets: list[Packet]) -> list[Packet]:
        """The packets of the larger socket that were not read before."""
        if not self._to_compare:
            return packets
        kept: list[Packet] = []
        for packet in packets:
            mark = _mark(packet)
            if self._to_compare and self._known[mark]:
                self._known[mark] -= 1
                self.repeated += 1
            else:
                kept.append(packet)
            self._to_compare = max(0, self._to_compare - 1)
        return kept


class Ring(CaptureRing):
    """An open capture; made by `open_ring`. Not for several threads."""

    def __init__(
        self,
        mapped: Mapped,
        interface: str | None,
        program: tuple[Instruction, ...],
        memory: RingMemory,
        enter: Enter,
        blocks: type[Blocks] = Blocks,
    ) -> None:
        self._mapped = mapped
        self._interface = interface
        self._program = program
        self._memory = memory
        self._enter = enter
        self._blocks = blocks
        self._larger: Mapped | None = None
        """The larger socket from step 2 on, while `_mapped` is read to its end."""
        self._overlap = _Overlap()
        # The counts of the sockets that were replaced.
        self._replaced = Statistics()
        self._cut = 0
        self._bad_checksum = 0
        self._lock = threading.Lock()
        """Held while a filter is replaced, and by `close`."""
        self._closed = False
        self._growing: threading.Thread | None = None
        self._closing: threading.Thread | None = None
        self._failure = ""
        self._outgrown = False
        """Whether growing has failed. It is not tried again."""

    def fileno(self) -> int:
        return self._mapped.socket.fileno()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._mapped.size

    @property
    def cut(self) -> int:
        return self._cut + self._mapped.blocks.cut

    @property
    def bad_checksum(self) -> int:
        return self._bad_checksum + self._mapped.blocks.bad_checksum

    @property
    def is_ready(self) -> bool:
        return self._mapped.blocks.waiting(0)

    @property
    def counted(self) -> bool:
        return self._mapped.blocks.counted

    @property
    def unread(self) -> int:
        return sum(
            max(0, mapped.statistics().received - mapped.blocks.read)
            for mapped in (self._mapped, self._larger)
            if mapped is not None
        )

    def packets(self) -> Iterator[Packets]:
        """Those of the next block, if it is ready."""
        return map(self._new, self._mapped.packets(self._mapped.block_size))

    def rest(self) -> Iterator[Packets]:
        yield from map(self._new, self._mapped.blocks.rest())
        if self._larger is not None:
            self._overlap.begin_comparing(self._larger.statistics().received)
            yield from map(self._new, self._larger.blocks.rest())

    def unfinished(self) -> Packets | None:
        """Those of the block that the kernel still fills, see `Blocks.unfinished`."""
        portion = self._mapped.blocks.unfinished()
        return None if portion is None else self._new(portion)

    def _new(self, portion: Packets) -> Packets:
        memory, packets = portion
        new = self._overlap.new(packets)
        self._overlap.remember(new)
        return memory, new

    def statistics(self) -> Statistics:
        """The kernel's counts, added up. A packet that two sockets have received counts once when both were read."""
        counts = [self._replaced, self._mapped.statistics()]
        if self._larger is not None:
            counts.append(self._larger.statistics())
        received = sum(count.received for count in counts) - self._overlap.repeated
        return Statistics(received, sum(count.dropped for count in counts))

    def restrict(self, program: tuple[Instruction, ...]) -> None:
        """Replace the filter. The packets in the ring stay. Raises TapperError."""
        try:
            with self._lock:
                self._program = program
                (self._larger or self._mapped).attach(program)  # the smaller of two sockets lets nothing in already
        except OSError as error:
            raise TapperError(f"cannot replace the packet filter: {explain(error)}") from error

    def stop(self) -> None:
        self.restrict(REJECT_ALL)

    def drained(self) -> bool:
        return self._mapped.drained() and (self._larger is None or self._larger.drained())

    def error(self) -> int:
        return self._mapped.error()

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for thread in (self._growing, self._closing):
            if thread is not None:
                thread.join(_JOIN_S)
        for mapped in (self._mapped, self._larger):
            if mapped is not None:
                self._release(mapped)

    # Growing.

    @property
    def crowded(self) -> bool:
        return self._growing is None and not self._outgrown and self._mapped.crowded

    def grow(self, notify: Callable[[], None]) -> bool:
        size = self._memory.more(self._mapped.size)
        if not size:
            return False
        growing = threading.Thread(target=self._change_over, args=(size, notify), name="growing")
        try:
            growing.start()
        except RuntimeError:
            self._memory.give_back(size)
            self._outgrown = True
            self._failure = NO_THREAD
            notify()
        else:
            self._growing = growing
        return True

    def _change_over(self, size: int, notify: Callable[[], None]) -> None:
        """Steps 1 to 3, on a thread of its own."""
        try:
            if self._closing is not None:
                self._closing.join()
            larger = self._enter(lambda: open_mapped(self._interface, REJECT_ALL, size, self._blocks))
        except TapperError as error:
            self._memory.give_back(size)
            self._outgrown = True
            self._failure = "" if isinstance(error, NamespaceGoneError) else str(error)
            notify()
            return
        try:
            with self._lock:
                if not self._closed:
                    self._overlap.since = time.time_ns() - _OVERLAP_NS
                    larger.attach(self._program)
                    self._mapped.attach(REJECT_ALL)
                    self._larger = larger
        except OSError as error:
            self._overlap.since = None
            self._failure = f"cannot replace a packet ring by a larger one: {explain(error)}"
        if self._larger is None:
            self._release(larger)
            self._outgrown = True
        notify()

    def turn_over(self) -> bool:
        """Steps 4 and 5, if there is a larger socket and the smaller one was read to its end. Returns whether `fileno`
        has changed."""
        if self._larger is None or not self._mapped.drained():
            return False
        smaller, self._mapped, self._larger = self._mapped, self._larger, None
        counts = smaller.statistics()
        self._replaced.received += counts.received
        self._replaced.dropped += counts.dropped
        self._cut += smaller.blocks.cut
        self._bad_checksum += smaller.blocks.bad_checksum
        self._overlap.begin_comparing(self._mapped.statistics().received)
        self._closing = threading.Thread(target=self._release, args=(smaller,), name="closing")
        try:
            self._closing.start()
        except RuntimeError:  # the kernel grants no further thread
            self._closing = None
            self._release(smaller)
        self._growing = None
        return True

    def failure(self) -> str:
        failure, self._failure = self._failure, ""
        return failure

    def _release(self, mapped: Mapped) -> None:
        mapped.close()
        self._memory.give_back(mapped.size)


def _mark(packet: Packet) -> _Mark:
    ts, interface, start, stop = packet
    return ts, interface, stop - start


def open_ring(
    interface: str | None,
    program: tuple[Instruction, ...],
    memory: RingMemory | None = None,
    enter: Enter = lambda function: function(),
    blocks: type[Blocks] = Blocks,
) -> Ring:
    """Start capturing in the calling thread's network namespace, on one interface or (None) on all. The capture runs
    when this returns.

    `enter` leads into the same namespace again. `blocks` reads the ring's memory. Raises MissingCapabilityError,
    UsageError for an unknown interface, TapperError for anything else.
    """
    memory = memory or RingMemory()
    size = memory.first()
    try:
        mapped = open_mapped(interface, program, size, blocks)
    except TapperError:
        memory.give_back(size)
        raise
    return Ring(mapped, interface, program, memory, enter, blocks)
