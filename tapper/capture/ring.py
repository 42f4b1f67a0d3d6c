"""A capture whose memory grows with the traffic.

The memory of a packet socket (`tapper.capture.mapped`) cannot be resized while it captures. So a ring that fills up is
replaced by a larger one in the same network namespace, and not one packet is lost or comes twice:

1. The first socket is the only member of a fanout group of its own. The kernel gives each packet of a group to exactly
   one member, which a program chooses; at first it says: member 0.
2. The larger one is opened with a filter that lets nothing in, joins the group as member 1, and gets the real filter.
3. The group's program is replaced by one that says: member 1. Each packet meets either the one or the other program,
   and when the kernel returns, none is on its way to the smaller one any longer.
4. The smaller one is read to its end, then the larger one is gone on with, and the smaller one is closed. With that the
   larger one has become member 0.

The kernel holds the caller for milliseconds in most of this. It happens on a thread of its own, which does not hold the
interpreter lock meanwhile, so that reading goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from tapper.capture import bpf
from tapper.capture.bpf import Instruction
from tapper.capture.mapped import Mapped, Statistics, open_mapped
from tapper.capture.memory import MIB, RingMemory
from tapper.capture.walk import Packets
from tapper.errors import NamespaceGoneError, TapperError, explain

Enter: TypeAlias = Callable[[Callable[[], Mapped]], Mapped]
"""Calls a function inside the network namespace of a ring, on whatever thread it is itself called on."""

AT_ONCE = MIB
"""Bytes that are read at a time, fewer of a small ring: no source is to keep the others waiting for long, and what
fills up is to be noticed before it is full."""
_JOIN_S = 10.0
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
        self._group = mapped.found_group()
        self._interface = interface
        self._program = program
        self._memory = memory
        self._enter = enter
        self._next: Mapped | None = None
        """What packets go to, while `_mapped` is read to its end."""
        self._before = Statistics()
        """Of those that were replaced."""
        self._cut_before = 0
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

    def packets(self) -> Iterator[Packets]:
        """The packets of the blocks that are ready, at most AT_ONCE, some at a time. Must be run to its end."""
        return self._mapped.packets(min(AT_ONCE, self._mapped.size // 8))

    def rest(self) -> Iterator[Packets]:
        """The packets of all blocks that are ready, when nothing more is let in. Must be run to its end."""
        yield from self._mapped.packets(self._mapped.size)
        if self._next is not None:
            yield from self._next.packets(self._next.size)

    def statistics(self) -> Statistics:
        """The kernel's counts, added up."""
        counted = [self._before, self._mapped.statistics()]
        if self._next is not None:
            counted.append(self._next.statistics())
        return Statistics(sum(each.received for each in counted), sum(each.dropped for each in counted))

    def restrict(self, program: tuple[Instruction, ...]) -> None:
        """Let in what another filter lets in. What is in the ring stays. Raises TapperError."""
        try:
            with self._lock:
                self._program = program
                for each in (self._mapped, self._next):
                    if each is not None:
                        each.attach(program)
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
        thread = threading.Thread(target=self._let_go, args=(old, self._mapped), name="closing")
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
                    larger.join(self._group)
                    larger.attach(self._program)
                    larger.choose(1)
                    self._next = larger
        except OSError as error:
            self._failure = f"cannot replace a packet ring by a larger one: {explain(error)}"
        if self._next is None:
            larger.close()
            self._memory.give_back(size)
            self._outgrown = True
        told()

    def _let_go(self, old: Mapped, current: Mapped) -> None:
        """Afterwards the current one is the group's only member, and the next that joins gets nothing at first."""
        old.close()
        self._memory.give_back(old.size)
        with self._lock:
            if not self._ended:
                current.choose(0)


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
    try:
        return Ring(mapped, interface, program, memory, enter)
    except OSError as error:
        mapped.close()
        memory.give_back(size)
        raise TapperError(f"cannot set up a packet ring: {explain(error)}") from error


def close_together(rings: Sequence[Ring]) -> None:
    """Close them all. The kernel takes milliseconds for each, but for several at the same time."""
    if len(rings) < 2:
        for ring in rings:
            ring.close()
        return
    waiting = iter(rings)
    failures: list[BaseException] = []

    def close() -> None:
        for ring in waiting:
            try:
                ring.close()
            except BaseException as error:  # raised again where it belongs, on the caller's thread
                failures.append(error)

    threads = [threading.Thread(target=close, name="closing") for _ in range(min(len(rings), _TOGETHER))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
