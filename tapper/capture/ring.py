"""A capture whose memory grows with the traffic.

The memory of a packet socket (`tapper.capture.mapped`) cannot be resized while it captures. So a ring that fills up is
replaced by a larger one in the same network namespace, and no packet is lost or comes twice:

1. A larger socket is opened with a filter that lets nothing in.
2. The larger one gets the real filter. From here on both receive every packet.
3. The smaller one gets the filter that lets nothing in. Both received the packets between steps 2 and 3.
4. The smaller one is read to its end. Of the packets since step 2 their marks are kept: time, interface and length.
5. Reading goes on with the larger one, which leaves out a packet whose mark was kept. The smaller one is closed.

The sockets are in no fanout group (packet(7)): whoever may open packet sockets in the namespace, as a container with
CAP_NET_RAW may, can join any group there and turn its packets away from all other members.

The kernel holds the caller for milliseconds in most of this. It happens on a thread of its own, which does not hold the
interpreter lock meanwhile, so that reading goes on.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from tapper.capture import bpf
from tapper.capture.bpf import Instruction
from tapper.capture.mapped import Mapped, Statistics, open_mapped
from tapper.capture.memory import MIB, RingMemory
from tapper.capture.walk import Packets
from tapper.errors import NamespaceGoneError, TapperError, explain
from tapper.runtime.threads import on_threads
from tapper.streams.packet import Packet

_Mark: TypeAlias = tuple[int, int, int]
"""Of a packet: time in nanoseconds since 1970, index of the interface, length in bytes."""
Enter: TypeAlias = Callable[[Callable[[], Mapped]], Mapped]
"""Calls a function inside the network namespace of a ring, on whatever thread it is itself called on."""

AT_ONCE = MIB
"""Bytes that are read at a time, fewer of a small ring: no source is to keep the others waiting for long, and what
fills up is to be noticed before it is full."""
_JOIN_S = 10.0
_OVERLAP_NS = 1_000_000_000
"""How long before the change-over a packet may have got its time: it is on its way from there to the sockets."""
_TOGETHER = 64
"""Threads that close rings. They wait in the kernel rather than work."""


class Ring:
    """An open capture; made by `open_ring`. Not for several threads."""

    def __init__(
        self,
        mapped: Mapped,
        interface: str | None,
        program: tuple[Instruction, ...],
        memory: RingMemory,
        enter: Enter,
    ) -> None:
        self._mapped = mapped
        self._interface = interface
        self._program = program
        self._memory = memory
        self._enter = enter
        self._next: Mapped | None = None
        """The larger one, while `_mapped` is read to its end."""
        self._overlap_from: int | None = None
        """Since when both may have received a packet, in nanoseconds since 1970; None while there is one only."""
        self._marks: Counter[_Mark] = Counter()
        """Packets that were read from the smaller one since then."""
        self._known: Counter[_Mark] = Counter()
        """The marks, once the smaller one has been read to its end."""
        self._to_compare = 0
        """How many packets of the larger one are still to be compared with them: all that it had received then."""
        self._repeated = 0
        """Packets that both received: they count once."""
        self._before = Statistics()
        """Of those that were replaced."""
        self._cut_before = self._bad_before = 0
        self._lock = threading.Lock()
        """Held while the program that packets meet is changed, wherever that is."""
        self._ended = False
        self._growing: threading.Thread | None = None
        self._closing: threading.Thread | None = None
        self._failure = ""
        self._outgrown = False
        """Whether there is no use in trying to become larger."""

    def fileno(self) -> int:
        """For polling: readable when a block is ready. Another one after `turn_over`."""
        return self._mapped.socket.fileno()

    @property
    def size(self) -> int:
        """Bytes."""
        return self._mapped.size

    @property
    def cut(self) -> int:
        """Packets of which the kernel kept only a part."""
        return self._cut_before + self._mapped.cut

    @property
    def bad_checksum(self) -> int:
        """Packets that were left out, since their receiver refuses them."""
        return self._bad_before + self._mapped.bad_checksum

    def packets(self) -> Iterator[Packets]:
        """The packets of the blocks that are ready, at most AT_ONCE, some at a time. Must be run to its end."""
        return self._once(self._mapped.packets(min(AT_ONCE, self._mapped.size // 8)))

    def rest(self) -> Iterator[Packets]:
        """The packets of all blocks that are ready, when nothing more is let in. Must be run to its end."""
        yield from self._once(self._mapped.packets(self._mapped.size))
        if self._next is not None:
            self._compare_from_here(self._next)
            yield from self._unmarked(self._next.packets(self._next.size))

    def _once(self, portions: Iterator[Packets]) -> Iterator[Packets]:
        """The packets of `_mapped`, without those that were read from the one before it."""
        for memory, found in self._unmarked(portions) if self._to_compare else portions:
            overlap_from = self._overlap_from
            if overlap_from is not None:
                self._marks.update(_mark(packet) for packet in found if packet[0] >= overlap_from)
            yield memory, found

    def _unmarked(self, portions: Iterator[Packets]) -> Iterator[Packets]:
        """The packets of the larger one, without those that were read from the smaller one."""
        for memory, found in portions:
            kept: list[Packet] = []
            for packet in found:
                mark = _mark(packet)
                if self._to_compare and self._known[mark]:
                    self._known[mark] -= 1
                    self._repeated += 1
                else:
                    kept.append(packet)
                self._to_compare = max(0, self._to_compare - 1)
            yield memory, kept

    def _compare_from_here(self, larger: Mapped) -> None:
        self._overlap_from = None
        self._known, self._marks = self._marks, Counter()
        self._to_compare = larger.statistics().received

    def statistics(self) -> Statistics:
        """The kernel's counts, added up. A packet that two sockets received counts once when both were read."""
        counted = [self._before, self._mapped.statistics()]
        if self._next is not None:
            counted.append(self._next.statistics())
        received = sum(each.received for each in counted) - self._repeated
        return Statistics(received, sum(each.dropped for each in counted))

    def restrict(self, program: tuple[Instruction, ...]) -> None:
        """Let in what another filter lets in. What is in the ring stays. Raises TapperError."""
        try:
            with self._lock:
                self._program = program
                (self._next or self._mapped).attach(program)  # the smaller of two lets nothing in already
        except OSError as error:
            raise TapperError(f"cannot replace the packet filter: {explain(error)}") from error

    def stop(self) -> None:
        """Let nothing new in. What is in the ring is still to be read, see `drained`."""
        self.restrict(bpf.REJECT_ALL)

    def drained(self) -> bool:
        """Whether everything the kernel counted has been read. The last block comes with the retire time-out."""
        return self._mapped.drained() and (self._next is None or self._next.drained())

    def error(self) -> int:
        """The socket's pending error number, 0 for none: ENETDOWN when the interface went down. Reading clears it."""
        return self._mapped.error()

    def close(self) -> None:
        """Release the memory and the sockets, and with them the namespace."""
        with self._lock:
            self._ended = True
        for thread in (self._growing, self._closing):
            if thread is not None:
                thread.join(_JOIN_S)
        for each in (self._mapped, self._next):
            if each is not None:
                each.close()
                self._memory.give_back(each.size)

    # Growing.

    @property
    def crowded(self) -> bool:
        """Whether it is to be replaced by a larger one: an eighth of it waits to be read. Ask before reading."""
        return self._growing is None and not self._outgrown and self._mapped.waiting(max(1, self._mapped.blocks // 8))

    def grow(self, told: Callable[[], None]) -> bool:
        """Begin to become larger; `told` is called when `turn_over` has something to do, or `failure` something to say,
        on another thread. Returns whether that can be: whether there is memory."""
        size = self._memory.more(self._mapped.size)
        if not size:
            return False
        thread = threading.Thread(target=self._become_larger, args=(size, told), name="growing")
        self._growing = thread
        thread.start()
        return True

    def turn_over(self) -> bool:
        """Go on with the larger one, if there is one and the smaller one has been read to its end. Returns whether
        `fileno` is another one now."""
        if self._next is None or not self._mapped.drained():
            return False
        old, self._mapped, self._next = self._mapped, self._next, None
        counted = old.statistics()
        self._before.received += counted.received
        self._before.dropped += counted.dropped
        self._cut_before += old.cut
        self._bad_before += old.bad_checksum
        self._compare_from_here(self._mapped)
        thread = threading.Thread(target=self._let_go, args=(old,), name="closing")
        self._closing = thread
        thread.start()
        self._growing = None
        return True

    def failure(self) -> str:
        """Why it could not become larger, once; empty for nothing to say."""
        told, self._failure = self._failure, ""
        return told

    def _become_larger(self, size: int, told: Callable[[], None]) -> None:
        try:
            if self._closing is not None:
                self._closing.join()
            larger = self._enter(lambda: open_mapped(self._interface, bpf.REJECT_ALL, size))
        except TapperError as error:
            self._memory.give_back(size)
            self._outgrown = True
            self._failure = "" if isinstance(error, NamespaceGoneError) else str(error)
            told()
            return
        try:
            with self._lock:
                if not self._ended:
                    self._overlap_from = time.time_ns() - _OVERLAP_NS
                    larger.attach(self._program)
                    self._mapped.attach(bpf.REJECT_ALL)
                    self._next = larger
        except OSError as error:
            self._overlap_from = None
            self._failure = f"cannot replace a packet ring by a larger one: {explain(error)}"
        if self._next is None:
            larger.close()
            self._memory.give_back(size)
            self._outgrown = True
        told()

    def _let_go(self, old: Mapped) -> None:
        old.close()
        self._memory.give_back(old.size)


def _mark(packet: Packet) -> _Mark:
    ts, interface, start, stop = packet
    return ts, interface, stop - start


def open_ring(
    interface: str | None,
    program: tuple[Instruction, ...],
    memory: RingMemory | None = None,
    enter: Enter = lambda function: function(),
) -> Ring:
    """Start capturing in the calling thread's network namespace, on one interface or (None) on all. Once it returns,
    capture is running.

    `enter` leads into the same namespace again. Raises MissingCapabilityError, UsageError for an unknown interface,
    TapperError for anything else.
    """
    memory = memory or RingMemory()
    size = memory.first()
    try:
        mapped = open_mapped(interface, program, size)
    except TapperError:
        memory.give_back(size)
        raise
    return Ring(mapped, interface, program, memory, enter)


def close_together(rings: Sequence[Ring]) -> None:
    """Close them all. The kernel takes milliseconds for each, but for several at the same time."""
    if len(rings) < 2:
        for ring in rings:
            ring.close()
        return
    for ring, result in zip(rings, on_threads([ring.close for ring in rings], _TOGETHER), strict=True):
        if isinstance(result, TapperError):  # no thread could be started for it
            ring.close()
