"""Records of the BPF programs become TCP segments, from which the streams make exchanges."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest

from tapper.protocols.messages import Request
from tapper.protocols.records import ExchangeRecord, Record
from tapper.protocols.session import Session
from tapper.streams.connection import Scope
from tapper.streams.connections import Connections
from tapper.streams.legs import Direction
from tapper.uprobe import segments as module
from tapper.uprobe.layout import RECORD, RecordKind, Role
from tapper.uprobe.libraries import NAMES
from tapper.uprobe.segments import Segments

POD, OTHER = "10.0.0.2", "10.0.0.9"
CLIENT, SERVER = Role.FROM_START | Role.CLIENT, Role.FROM_START | Role.SERVER
OPENSSL, GNUTLS = 1, 2


@dataclass
class Pod:
    """A pod's segments, and what the streams make of them."""

    segments: Segments = field(default_factory=Segments)
    records: list[Record] = field(default_factory=list)
    connections: Connections[Record] = field(init=False)

    def __post_init__(self) -> None:
        scope = Scope(POD, None, libraries=NAMES)
        self.connections = Connections(scope, lambda connection: Session(connection, lambda _: None))

    def read(self) -> None:
        memory, packets = self.segments.packets()
        self.connections.packets(memory, packets, self.records)

    def exchanges(self) -> list[tuple[str, str, Direction]]:
        """Target, the end of the response's body, direction."""
        self.read()
        return [
            (
                "" if it.exchange.request is None else it.exchange.request.head.target,
                "" if it.exchange.response is None else it.exchange.response.end.body.decode(),
                it.leg.direction,
            )
            for it in self.records
            if isinstance(it, ExchangeRecord)
        ]


@dataclass
class Conversation:
    """A connection of a process, as the programs see it."""

    pod: Pod
    role: int = CLIENT
    ends: tuple[str, int, str, int] | None = (POD, 40000, OTHER, 443)
    ssl: int = 0x7F00
    born: int = 1 << 40
    process: int = 77
    library: int = OPENSSL
    positions: dict[RecordKind, int] = field(default_factory=lambda: {RecordKind.READ: 0, RecordKind.WRITE: 0})
    time: int = 5_000

    def record(self, kind: RecordKind, data: bytes = b"", *, lost: bool = False, error: int = 0) -> None:
        other = RecordKind.READ if kind is not RecordKind.READ else RecordKind.WRITE
        mine = RecordKind.READ if kind is RecordKind.READ else RecordKind.WRITE
        position, opposite = self.positions[mine], self.positions[other]
        self.positions[mine] += len(data)
        self.time += 1000
        packed = _packed(self.ends)
        head = RECORD.struct.pack(
            self.time, self.process << 32 | 5, self.ssl, self.born, position, opposite, len(data), kind, self.library,
            *packed[:3], self.role, *packed[3:], error,
        )  # fmt: skip
        if not lost:
            self.pod.segments.take(head + data, 1_000_000)

    def ask(self, path: str, *, lost: bool = False) -> None:
        kind = RecordKind.READ if self.role & Role.SERVER else RecordKind.WRITE
        self.record(kind, f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode(), lost=lost)

    def answer(self, text: str, *, lost: bool = False) -> None:
        kind = RecordKind.WRITE if self.role & Role.SERVER else RecordKind.READ
        self.record(kind, f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode(), lost=lost)

    def exchange(self, path: str) -> None:
        self.ask(path)
        self.answer(path)


def _packed(ends: tuple[str, int, str, int] | None) -> tuple[int, int, int, bytes, bytes]:
    if ends is None:
        return 0, 0, 0, bytes(16), bytes(16)
    address, peer = ip_address(ends[0]), ip_address(ends[2])
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return (
        ends[1],
        socket.htons(ends[3]),
        family,
        address.packed.ljust(16, b"\0"),
        peer.packed.ljust(16, b"\0"),
    )


@pytest.fixture
def pod() -> Pod:
    return Pod()


def test_a_clients_exchanges_have_the_true_ends(pod: Pod) -> None:
    client = Conversation(pod, library=GNUTLS)
    client.exchange("/a")
    client.exchange("/b")
    assert pod.exchanges() == [("/a", "/a", Direction.OUTBOUND), ("/b", "/b", Direction.OUTBOUND)]
    leg = pod.records[0].leg
    assert (str(leg.src), str(leg.dst), leg.pod_ip) == (f"{POD}:40000", f"{OTHER}:443", POD)
    assert (leg.plaintext, leg.mtls) == ("gnutls", None)


def test_a_servers_exchanges_are_inbound(pod: Pod) -> None:
    Conversation(pod, SERVER, (POD, 443, OTHER, 40000)).exchange("/a")
    assert pod.exchanges() == [("/a", "/a", Direction.INBOUND)]
    leg = pod.records[0].leg
    assert (str(leg.src), str(leg.dst), leg.plaintext) == (f"{OTHER}:40000", f"{POD}:443", "openssl")


@pytest.fixture(params=["whole", "in two records"])
def request_overtaken(request: pytest.FixtureRequest, pod: Pod) -> Conversation:
    """After an exchange, one thread reads the answer before the call returns in which another one writes a request."""
    client = Conversation(pod)
    client.exchange("/a")
    data, answer = b"GET /b HTTP/1.1\r\nHost: shop\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n/b"
    client.role = CLIENT | Role.WRITING
    client.record(RecordKind.READ, answer)
    client.time -= 3000  # a write has the time when its call began
    if request.param == "in two records":
        client.record(RecordKind.WRITE, data[:10])
        data = data[10:]
    client.role = CLIENT
    client.record(RecordKind.WRITE, data)
    return client


def test_an_answer_that_overtakes_its_request(request_overtaken: Conversation) -> None:
    client, pod = request_overtaken, request_overtaken.pod
    assert pod.exchanges()[1:] == [("/b", "/b", Direction.OUTBOUND)]
    client.exchange("/c")
    client.record(RecordKind.END)
    assert pod.exchanges() == [(path, path, Direction.OUTBOUND) for path in ("/a", "/b", "/c")]
    assert pod.connections.tally.gaps == 0


@pytest.mark.parametrize("following", ["read", "end", "gone", "much"])
def test_an_answer_does_not_wait_for_a_request_that_never_comes(
    pod: Pod, following: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record of the write is lost, or takes too long."""
    monkeypatch.setattr(module, "MOST_WAITING", 1000)
    client = Conversation(pod)
    client.exchange("/a")
    client.ask("/lost", lost=True)
    client.role = CLIENT | Role.WRITING
    client.answer("w" * 200)
    assert b"w" * 200 not in pod.segments.packets()[0]
    if following == "read":
        client.role = CLIENT
    if following in ("read", "much"):
        client.answer("x" * 900)
    else:
        client.record(RecordKind.END if following == "end" else RecordKind.GONE)
    memory, _ = pod.segments.packets()
    assert memory.count(b"w" * 200) == 1
    assert memory.count(b"x" * 900) == (following in ("read", "much"))
    assert pod.segments.lost == 0


@pytest.mark.parametrize("role", [Role(0), Role.FROM_START])
def test_without_a_known_role_the_client_speaks_first(pod: Pod, role: Role) -> None:
    client = Conversation(pod, role)
    client.exchange("/a")
    client.record(RecordKind.END)
    assert pod.exchanges() == [("/a", "/a", Direction.OUTBOUND)]
    assert pod.connections.tally.gaps == 0


def test_a_server_of_http2_may_speak_first(pod: Pod) -> None:
    server = Conversation(pod, Role.FROM_START, (POD, 443, OTHER, 40000))
    server.record(RecordKind.WRITE, b"\0\0\0\4\0\0\0\0\0")
    server.record(RecordKind.READ, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
    server.record(RecordKind.READ, b"\0\0\4\1\5\0\0\0\1\x82\x87\x84\x86")  # GET https / with :authority left out
    server.record(RecordKind.WRITE, b"\0\0\1\1\5\0\0\0\1\x88")
    assert [(target, direction) for target, _, direction in pod.exchanges()] == [("/", Direction.INBOUND)]


def test_a_lost_record_is_a_gap_and_nothing_is_paired_wrongly(pod: Pod) -> None:
    """The first response and the second request are lost: the second response must not answer the first request."""
    client = Conversation(pod)
    client.ask("/a")
    client.answer("/a", lost=True)
    client.ask("/b", lost=True)
    client.answer("/b")
    client.exchange("/c")
    client.record(RecordKind.END)
    found = pod.exchanges()
    assert ("/a", "/b", Direction.OUTBOUND) not in found
    assert ("/c", "/c", Direction.OUTBOUND) in found
    assert pod.connections.tally.gaps == 2


def test_plaintext_that_could_not_be_read_is_a_gap(pod: Pod) -> None:
    client = Conversation(pod)
    client.exchange("/a")
    client.record(RecordKind.WRITE, b"x" * 700, error=-14)
    client.answer("lost")
    client.exchange("/c")
    client.record(RecordKind.END)
    assert [(target, text) for target, text, _ in pod.exchanges()] == [("/a", "/a"), ("", "lost"), ("/c", "/c")]
    assert (pod.segments.unreadable, pod.connections.tally.gap_bytes) == (1, 700)


def test_after_a_gap_that_no_stream_has_the_connection_goes_on(pod: Pod) -> None:
    """As after a download of 100 MB whose records were all lost."""
    client = Conversation(pod)
    client.exchange("/a")
    client.ask("/download")
    client.positions[RecordKind.READ] += 100_000_000
    for path in ("/b", "/c"):
        client.exchange(path)
    client.positions[RecordKind.WRITE] += 100_000_000
    client.exchange("/d")
    client.exchange("/e")
    client.record(RecordKind.END)
    found = pod.exchanges()
    assert [each for each in found if each[0] in ("/a", "/c", "/e")] == [
        (path, path, Direction.OUTBOUND) for path in ("/a", "/c", "/e")
    ]
    assert all(text in ("", target) or not target for target, text, _ in found), "nothing is paired wrongly"


def test_one_address_used_again_is_another_connection(pod: Pod) -> None:
    """The object's end was not seen, since its record was lost; the next object has the same address."""
    first = Conversation(pod)
    first.ask("/unanswered")
    second = Conversation(pod, ends=(POD, 40001, OTHER, 443), born=first.born + 1_000_000)
    second.exchange("/next")
    assert pod.exchanges() == [("/unanswered", "", Direction.OUTBOUND), ("/next", "/next", Direction.OUTBOUND)]


def test_ports_used_again_are_another_connection(pod: Pod) -> None:
    for number in range(3):
        client = Conversation(pod, born=1 << 40 | number << 20)
        client.exchange(f"/{number}")
        client.record(RecordKind.END)
    assert [target for target, _, _ in pod.exchanges()] == ["/0", "/1", "/2"]
    assert (pod.connections.tally.connections, pod.connections.tally.gaps) == (3, 0)


@pytest.mark.parametrize("freed_first", ["client", "server"])
def test_of_two_ends_in_one_pod_one_is_read(pod: Pod, freed_first: str) -> None:
    """And so it is with the next connection between the same ports."""
    for number in range(2):
        born = 1 << 40 | number << 20
        client = Conversation(pod, CLIENT, (POD, 40000, POD, 443), born=born)
        server = Conversation(pod, SERVER, (POD, 443, POD, 40000), ssl=0x9000, born=born + 90_000, process=78)
        client.ask(f"/{number}")
        server.ask(f"/{number}")
        server.answer("ok")
        client.answer("ok")
        for end in (client, server) if freed_first == "client" else (server, client):
            end.record(RecordKind.END)
    assert pod.exchanges() == [("/0", "ok", Direction.LOCAL), ("/1", "ok", Direction.LOCAL)]


def test_connections_of_one_moment_are_no_copies_of_each_other(pod: Pod) -> None:
    """Their numbers are near each other, and one end is the same, as those of a connection under translated
    addresses."""
    for number in range(3):
        ends = (POD, 40000 + number, OTHER, 443)
        client = Conversation(pod, Role(0), ends, ssl=number, born=(1 << 40) + 10_000 * number)
        client.exchange(f"/{number}")
        client.record(RecordKind.END)
    assert [target for target, _, _ in pod.exchanges()] == ["/0", "/1", "/2"]
    assert pod.connections.tally.copies == 0


def test_addresses_of_both_versions(pod: Pod) -> None:
    Conversation(pod, ends=(f"::ffff:{POD}", 40000, f"::ffff:{OTHER}", 443)).exchange("/mapped")
    Conversation(pod, ends=("fd00::2", 40000, "fd00::9", 443), ssl=1).exchange("/six")
    assert [target for target, _, _ in pod.exchanges()] == ["/mapped", "/six"]
    assert [str(record.leg.dst) for record in pod.records] == [f"{OTHER}:443", "[fd00::9]:443"]


def test_records_wait_until_the_ends_are_known(pod: Pod) -> None:
    client = Conversation(pod, ends=None)
    client.ask("/a")
    assert pod.exchanges() == []
    client.ends = (POD, 40000, OTHER, 443)
    client.answer("/a")
    assert pod.exchanges() == [("/a", "/a", Direction.OUTBOUND)]
    assert pod.segments.lost == 0


def test_records_whose_ends_stay_unknown_are_counted_as_lost(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is ever reported of an address 0.0.0.0."""
    monkeypatch.setattr(module, "MOST_WAITING", 1000)
    client = Conversation(pod, ends=None)
    for number in range(20):
        client.ask(f"/{number}")
    waiting = 20 - pod.segments.lost
    assert 0 < waiting < 10
    client.record(RecordKind.END)
    assert pod.exchanges() == []
    assert pod.segments.lost == 20


def test_a_process_that_ended_has_no_connections() -> None:
    gone: list[int] = []
    pod = Pod(Segments(gone.append))
    client = Conversation(pod)
    client.ask("/unanswered")
    assert pod.exchanges() == []
    client.record(RecordKind.GONE)
    assert pod.exchanges() == [("/unanswered", "", Direction.OUTBOUND)]
    assert gone == [77]


def test_a_forgotten_connection_goes_on(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_CONNECTIONS", 2)
    conversations = [Conversation(pod, ends=(POD, 40000 + n, OTHER, 443), ssl=n) for n in range(3)]
    for conversation in conversations:
        conversation.exchange("/1")
    for conversation in conversations:
        conversation.exchange("/2")
    assert sorted(target for target, _, _ in pod.exchanges()) == ["/1"] * 3 + ["/2"] * 3
    assert pod.connections.tally.gaps == 0


def test_a_large_message_is_whole(pod: Pod) -> None:
    client = Conversation(pod)
    head = b"POST /large HTTP/1.1\r\nHost: shop\r\nContent-Length: 1000000\r\n\r\n"
    for at in range(0, 1_000_000 + len(head), 16_384):
        client.record(RecordKind.WRITE, (head + b"x" * 1_000_000)[at : at + 16_384])
    client.answer("ok")
    assert pod.exchanges() == [("/large", "ok", Direction.OUTBOUND)]
    record = pod.records[0]
    assert isinstance(record, ExchangeRecord)
    request = record.exchange.request
    assert isinstance(request, Request)
    assert request.end.size == 1_000_000
