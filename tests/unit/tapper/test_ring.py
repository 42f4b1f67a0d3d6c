"""Rings with real packets, in pods: what a ring that grows sees is every packet, once and in order."""

from __future__ import annotations

import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest

from harness.mesh import replay
from harness.sandbox.node import Node
from harness.sandbox.pod import Pod
from harness.waiting import wait_until
from tapper.capture.bpf import Instruction, program
from tapper.capture.mapped import SMALLEST_BLOCK, Mapped, Statistics, block_size
from tapper.capture.memory import MIB, RingMemory
from tapper.capture.ring import open_ring
from tapper.capture.share import QUANTUM_S
from tapper.capture.source import PORTION, Source
from tapper.capture.sources import Sources
from tapper.errors import NamespaceGoneError, TapperError
from tapper.namespaces.enter import run_inside
from tapper.namespaces.identity import NamespaceId, namespace_of
from tapper.streams.packet import Packet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="setns needs CAP_SYS_ADMIN")
PAYLOAD = 1000
KIB = 1024  # a packet is counted for so much here
SMALL = 4 * SMALLEST_BLOCK
"""What a ring begins with here."""


class Numbered:
    """Packets that are numbered, from a pod to itself. TCP of no connection: the kernel's answers have no payload."""

    def __init__(self, pod: Pod) -> None:
        self._socket = pod.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self.sent = 0

    def send(self, count: int) -> None:
        for _ in range(count):
            tcp = struct.pack("!HHIIBBHHH", 7, 9, self.sent, 0, 5 << 4, 0x10, 0, 0, 0) + bytes(PAYLOAD)
            packet = replay.packet("127.0.0.1", "127.0.0.1", tcp)[14:]  # behind the Ethernet header
            self._socket.sendto(packet, ("127.0.0.1", 0))
            self.sent += 1

    @contextmanager
    def stream(self, seen: list[int]) -> Iterator[None]:
        """Packet upon packet meanwhile, never more than what fits into a small ring before they are seen."""

        def run() -> None:
            while not ended.is_set():
                if self.sent - len(seen) <= 100:
                    self.send(50)

        ended = threading.Event()
        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def close(self) -> None:
        self._socket.close()


class Numbers:
    """Reads them again."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.received = 0
        self.finished = False

    def packets(self, memory: bytes, packets: list[Packet], records: list[int]) -> None:
        assert not records
        self.received += len(packets)
        for ts, _, start, stop in packets:
            assert ts
            if stop - start == 40 + PAYLOAD:
                self.seen.append(struct.unpack_from("!I", memory, start + 24)[0])

    def finish(self) -> Iterator[list[int]]:
        self.finished = True
        yield []


@pytest.fixture
def pod(node: Node) -> Pod:
    return node.pod("server")


@pytest.fixture
def packets(pod: Pod) -> Iterator[Numbered]:
    numbered = Numbered(pod)
    yield numbered
    numbered.close()


class Small(RingMemory):
    """Lets rings begin small, so that little fills them."""

    def first(self) -> int:
        size = super().first()
        self.give_back(size - SMALL)
        return SMALL


def place(pod: Pod) -> tuple[str, NamespaceId]:
    path = f"/proc/{pod.host_pid}/ns/net"
    return path, namespace_of(path)


class Loop:
    """The loop over one ring on the pod's lo."""

    def __init__(
        self, pod: Pod, memory: RingMemory, enter: Callable[..., Mapped] | None = None, reader: Numbers | None = None
    ) -> None:
        where = place(pod)
        again = enter or (lambda function: run_inside(*where, function))
        self.ring = run_inside(*where, lambda: open_ring("lo", program(), memory, again))
        self.numbers = reader or Numbers()
        self.sources: Sources[int] = Sources()
        self.source = Source("lo", self.ring, self.numbers)
        self.sources.add(self.source)
        self.troubles: list[str] = []
        self.dropped: int | None = None
        self.received: int | None = None
        self.unread: int | None = None

    def turn(self, timeout_s: float = 0.2) -> None:
        def deliver(_: Source[int], made: list[int]) -> None:
            assert not made

        def closed(_: Source[int], statistics: Statistics) -> None:
            self.dropped, self.received, self.unread = statistics.dropped, statistics.received, statistics.unread

        self.sources.turn(timeout_s, deliver, lambda _, message: self.troubles.append(message), closed)

    def until(self, reached: Callable[[], bool], what: str) -> None:
        def after_a_turn() -> bool:
            self.turn(0.05)
            return reached()

        wait_until(after_a_turn, what, logs=lambda: f"{self.ring.statistics()}, {len(self.numbers.seen)} seen")

    def has_become(self, size: int) -> bool:
        return self.ring.size == size

    def has_seen(self, count: int) -> bool:
        return len(self.numbers.seen) >= count

    def end(self) -> None:
        self.sources.shut("lo")
        self.until(lambda: not len(self.sources), "the source to be drained")


@contextmanager
def looping(
    pod: Pod,
    memory: RingMemory | None = None,
    enter: Callable[..., Mapped] | None = None,
    reader: Numbers | None = None,
) -> Iterator[Loop]:
    loop = Loop(pod, memory or Small(), enter, reader)
    try:
        yield loop
    finally:
        loop.sources.close()


def test_a_ring_that_grows_loses_nothing_and_doubles_nothing(pod: Pod, packets: Numbered) -> None:
    """Twice; under traffic all the time."""
    memory = Small()
    with looping(pod, memory) as loop:
        with packets.stream(loop.numbers.seen):
            for size in (SMALL * 8, 32 * MIB):
                loop.until(lambda: bool(loop.numbers.seen), "packets to be seen")
                assert loop.sources.grow(loop.source)
                loop.until(partial(loop.has_become, size), "the larger ring")
                loop.until(partial(loop.has_seen, len(loop.numbers.seen) + 1000), "packets in the larger ring")
        loop.end()
        assert loop.numbers.seen == list(range(packets.sent))
        assert loop.dropped == 0
        assert loop.numbers.finished
    assert memory.taken == 0


def test_what_fills_up_grows_by_itself(pod: Pod, packets: Numbered) -> None:
    """Enough of the ring waits: then it is replaced, before anything of that is read."""
    with looping(pod) as loop:
        packets.send(SMALL // KIB // 2 + 50)
        loop.until(lambda: loop.ring.size > SMALL, "the larger ring")
        packets.send(SMALL // KIB * 2)  # would not fit into the small one
        loop.end()
        assert loop.numbers.seen == list(range(packets.sent))
        assert loop.dropped == 0


def test_what_does_not_fill_up_stays_as_it_is(pod: Pod, packets: Numbered) -> None:
    with looping(pod) as loop:
        for _ in range(5):
            packets.send(50)
            loop.until(lambda: len(loop.numbers.seen) == packets.sent, "the packets")
        assert loop.ring.size == SMALL


class Costly(Numbers):
    """Takes ten times the share of a source for each portion of packets."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[int]) -> None:
        super().packets(memory, packets, records)
        until = time.monotonic() + 10 * QUANTUM_S
        while time.monotonic() < until:
            pass


def test_a_source_of_costly_packets_does_not_keep_another_one_waiting(node: Node) -> None:
    """Both have many portions. In the turns until most of the cheap source is read, the other source gets one portion,
    and then waits. Afterwards it goes on, and nothing of it is lost."""
    many = 20 * PORTION // KIB
    sources: Sources[int] = Sources()
    readers: dict[str, Numbers] = {"costly": Costly(), "cheap": Numbers()}
    with ExitStack() as stack:
        for name, reader in readers.items():
            pod = node.pod(name)
            sources.add(Source(name, run_inside(*place(pod), lambda: open_ring("lo", program())), reader))
            numbered = Numbered(pod)
            stack.callback(numbered.close)
            numbered.send(many)
        stack.callback(sources.close)

        def turn() -> None:
            sources.turn(0.2, lambda _, made: made.clear(), lambda _, message: pytest.fail(message), lambda _, __: None)

        def has_seen(name: str, count: int) -> bool:
            turn()
            return len(readers[name].seen) >= count

        wait_until(partial(has_seen, "cheap", many // 2), "most of the cheap source to be read")
        assert len(readers["costly"].seen) <= 2 * PORTION // KIB
        for name in readers:
            wait_until(partial(has_seen, name, many), f"the {name} source to be read")
        assert readers["costly"].seen == list(range(many))
        costly = sources.get("costly")
        assert costly is not None
        assert costly.share.postponed


def test_the_end_of_a_source_has_a_deadline(pod: Pod, packets: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not read until then is counted, no matter whether it was taken out of the ring."""
    monkeypatch.setattr("tapper.capture.source.DRAINING_S", 20 * QUANTUM_S)
    with looping(pod, reader=Costly()) as loop:
        packets.send(20 * PORTION // KIB)
        loop.end()
        assert loop.numbers.finished
        assert loop.received is not None
        assert 0 < loop.numbers.received < loop.received
        assert loop.unread == loop.received - loop.numbers.received


def test_the_larger_ring_takes_nothing_before_its_time_and_then_misses_nothing(
    pod: Pod, packets: Numbered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packets come at each step of the change-over, twice. Both rings receive those between the two filters."""
    where = place(pod)
    attach = Mapped.attach

    def enter(function: Callable[[], Mapped]) -> Mapped:
        mapped = run_inside(*where, function)
        packets.send(10)
        return mapped

    def attach_and_wait(self: Mapped, filtering: tuple[Instruction, ...]) -> None:
        attach(self, filtering)
        packets.send(10)

    monkeypatch.setattr(Mapped, "attach", attach_and_wait)
    with looping(pod, enter=enter) as loop:
        for size in (SMALL * 8, 32 * MIB):
            assert loop.sources.grow(loop.source)
            loop.until(partial(loop.has_become, size), "the larger ring")
            packets.send(10)
        monkeypatch.undo()
        loop.end()
        assert loop.numbers.seen == list(range(80))
        assert loop.received == loop.numbers.received, "a packet of the change-over counts twice"


def test_packets_in_both_sockets_are_read_when_patience_ends(pod: Pod, packets: Numbered) -> None:
    where = place(pod)
    grown = threading.Event()
    larger: list[Mapped] = []

    def enter(function: Callable[[], Mapped]) -> Mapped:
        larger.append(run_inside(*where, function))
        return larger[0]

    with looping(pod, enter=enter) as loop:
        packets.send(10)
        assert loop.ring.grow(grown.set)
        assert grown.wait(10)
        packets.send(10)
        wait_until(lambda: larger[0].statistics().received, "packets in the larger socket")
        for memory, found in loop.ring.rest():
            loop.numbers.packets(memory, found, [])
        assert loop.numbers.seen == list(range(20))
        assert loop.ring.drained()


def test_a_filter_that_is_replaced_meanwhile_holds_in_the_larger_ring(pod: Pod, packets: Numbered) -> None:
    where = place(pod)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(function: Callable[[], Mapped]) -> Mapped:
        begun.set()
        assert go_on.wait(10)
        return run_inside(*where, function)

    with looping(pod, enter=slowly) as loop:
        assert loop.sources.grow(loop.source)
        assert begun.wait(10)
        loop.ring.restrict(program([socket.inet_aton("10.0.0.1")]))
        go_on.set()
        loop.until(lambda: loop.ring.size > SMALL, "the larger ring")
        packets.send(10)
        loop.ring.restrict(program())
        packets.send(10)
        loop.end()
        assert loop.numbers.seen == list(range(10, 20))


def test_a_source_that_is_shut_while_it_grows_ends_drained(pod: Pod, packets: Numbered) -> None:
    with looping(pod) as loop:
        packets.send(300)
        assert loop.sources.grow(loop.source)
        loop.sources.shut("lo")
        packets.send(10)
        loop.until(lambda: not len(loop.sources), "the source to be drained")
        assert loop.numbers.seen == list(range(300))


def test_what_cannot_become_larger_says_so_once_and_goes_on(pod: Pod, packets: Numbered) -> None:
    def refused(_: object) -> Mapped:
        raise TapperError("the defect")

    memory = Small()
    with looping(pod, memory, refused) as loop:
        packets.send(300)
        loop.until(lambda: bool(loop.troubles) and loop.has_seen(300), "the failure to be told, and room for more")
        packets.send(300)
        loop.end()
        assert loop.troubles == ["packets that are captured there may be dropped: the defect"]
        assert loop.numbers.seen == list(range(600))
    assert memory.taken == 0


def test_without_threads_a_ring_stays_as_it_is(pod: Pod, packets: Numbered, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with looping(pod) as loop:
        packets.send(300)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        loop.until(lambda: bool(loop.troubles) and loop.has_seen(300), "the failure to be told, and the packets")
        monkeypatch.undo()
        loop.end()
        assert "no further thread can be started" in loop.troubles[0]


def test_a_namespace_that_nobody_is_in_any_longer_is_no_trouble(pod: Pod, packets: Numbered) -> None:
    tried = threading.Event()

    def gone(_: object) -> Mapped:
        tried.set()
        raise NamespaceGoneError("gone")

    with looping(pod, enter=gone) as loop:
        packets.send(300)
        loop.until(tried.is_set, "the attempt to grow")
        loop.end()
        assert not loop.troubles
        assert loop.numbers.seen == list(range(300))


def test_without_memory_left_a_ring_stays_as_it_is_and_a_new_one_is_refused(pod: Pod, packets: Numbered) -> None:
    memory = RingMemory(2 * SMALLEST_BLOCK)
    with looping(pod, memory) as loop:
        assert loop.ring.size == 2 * SMALLEST_BLOCK
        packets.send(300)
        loop.end()
        assert loop.dropped is not None
        assert len(loop.numbers.seen) + loop.dropped >= packets.sent  # the kernel's answers are counted, too
        with looping(pod, memory), pytest.raises(TapperError, match="--ring-memory"):
            open_ring("lo", program(), memory)


def test_memory_is_shared_out() -> None:
    """As the module's text has it."""
    memory = RingMemory()
    begins = [memory.first() for _ in range(250)]
    assert begins[:5] == [8 * MIB] * 5
    assert begins[5:16] == [4 * MIB] * 11
    assert begins[16:27] == [2 * MIB] * 11
    assert begins[27:38] == [MIB] * 11
    assert begins[38:49] == [MIB // 2] * 11
    assert set(begins[49:]) == {MIB // 4}
    assert memory.taken == sum(begins) <= 256 * MIB
    assert memory.more(MIB // 4) == 2 * MIB
    assert memory.more(2 * MIB) == 16 * MIB
    assert memory.more(4 * MIB) == 32 * MIB
    assert memory.more(8 * MIB) == 32 * MIB
    assert memory.more(32 * MIB) == 0
    while memory.more(16 * MIB):
        pass
    assert memory.taken <= 256 * MIB
    before = memory.taken
    memory.give_back(100)
    assert memory.taken == before - 100


@pytest.mark.parametrize("size", [MIB // 4, MIB // 2, MIB, 2 * MIB, 4 * MIB, 32 * MIB])
def test_a_ring_has_several_blocks_and_each_has_room_for_the_largest_frame(size: int) -> None:
    assert size % block_size(size) == 0
    assert size // block_size(size) >= 2
    assert 65_549 + 256 < block_size(size) <= MIB // 2


def test_an_idle_ring_does_not_wake_the_loop(pod: Pod) -> None:
    """A block that is empty is not handed over when its time is out."""
    with looping(pod) as loop:
        assert not select.select([loop.ring], [], [], 0.5)[0]


def test_little_traffic_takes_little_of_a_ring_that_nobody_reads(pod: Pod, packets: Numbered) -> None:
    """A block is not handed over before it is full: three blocks for six packets would be more than there are."""
    with looping(pod, RingMemory(2 * SMALLEST_BLOCK)) as loop:
        for _ in range(3):
            packets.send(2)
            assert not select.select([loop.ring], [], [], 0.5)[0]
        loop.until(partial(loop.has_seen, packets.sent), "the packets, although no block is full")
        loop.end()
        assert loop.numbers.seen == list(range(6))
        assert loop.dropped == 0


def test_two_captures_of_one_lo_each_see_everything(pod: Pod, packets: Numbered) -> None:
    with looping(pod) as one, looping(pod) as other:
        packets.send(100)
        one.end()
        other.end()
        assert one.numbers.seen == other.numbers.seen == list(range(100))


def fanout_groups(pod: Pod) -> list[int]:
    """The fanout groups of a pod's packet sockets, which every process there may ask for: sock_diag(7) with
    linux/packet_diag.h."""
    done, answer, request, dump = 3, 20, 20, 0x300 | 1  # NLMSG_DONE, SOCK_DIAG_BY_FAMILY twice, NLM_F_DUMP | REQUEST
    show_fanout, attribute_fanout = 0x8, 4  # PACKET_SHOW_FANOUT, PACKET_DIAG_FANOUT
    groups: list[int] = []
    with pod.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:  # NETLINK_SOCK_DIAG
        diag.send(struct.pack("=IHHIIBBHIIII", 36, request, dump, 1, 0, socket.AF_PACKET, 0, 0, 0, show_fanout, 0, 0))
        while True:
            datagram, at = diag.recv(1 << 16), 0
            while at < len(datagram):
                length, kind = struct.unpack_from("=IH", datagram, at)
                if kind == done:
                    return groups
                assert kind == answer
                attribute = at + 32  # struct nlmsghdr and struct packet_diag_msg
                while attribute < at + length:
                    size, name = struct.unpack_from("=HH", datagram, attribute)
                    if name == attribute_fanout:
                        groups.append(struct.unpack_from("=I", datagram, attribute + 4)[0])
                    attribute += size + 3 & ~3
                at += length + 3 & ~3


def test_no_ring_is_in_a_fanout_group_that_a_pod_could_join(pod: Pod, packets: Numbered) -> None:
    """Neither at first nor after it has grown. A group of the test's own shows that groups are seen."""
    with looping(pod) as loop, pod.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as own:
        assert fanout_groups(pod) == []
        packets.send(SMALL // KIB // 2 + 50)
        loop.until(lambda: loop.ring.size > SMALL, "the larger ring")
        own.bind(("lo", 3))  # ETH_P_ALL
        own.setsockopt(263, 18, 7)  # SOL_PACKET, PACKET_FANOUT: group 7, PACKET_FANOUT_HASH
        assert fanout_groups(pod) == [7]


def test_several_sources_end_together(node: Node) -> None:
    """Each is told of, its namespace let go, and the memory given back."""
    memory = RingMemory()
    sources: Sources[int] = Sources()
    pods = [node.pod(f"pod-{number}") for number in range(5)]
    for pod in pods:
        where = place(pod)
        ring = run_inside(*where, lambda: open_ring("lo", program(), memory))
        sources.add(Source(pod.name, ring, Numbers()))
    told: list[str] = []
    for pod in pods:
        sources.shut(pod.name)

    def ended() -> bool:
        sources.turn(
            0.05,
            lambda _, made: list(made).clear(),
            lambda _, message: pytest.fail(message),
            lambda source, _: told.append(str(source.key)),
        )
        return not len(sources)

    wait_until(ended, "the sources to be drained")
    sources.close()
    assert sorted(told) == sorted(pod.name for pod in pods)
    assert memory.taken == 0
    for pod in pods:
        assert Path(f"/proc/{pod.host_pid}/net/packet").read_text().count("\n") == 1  # the heading
