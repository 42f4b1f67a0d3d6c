"""What the wire under a leg was: by the connections there, and by content where they differ."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, endpoint, get, interleave, ok, one_packet

from tapper.protocols.records import ExchangeRecord, Record
from tapper.protocols.session import Session
from tapper.streams.bounds import Limits
from tapper.streams.connection import Scope
from tapper.streams.connection import WireSecurity as Kind
from tapper.streams.connections import Connections
from tapper.wire.verdict import TlsProbe, WireVerdict

POD, CALLER, OTHER = "10.0.0.2", "10.0.0.3", "10.0.0.4"
NODE = Scope(None, frozenset({ip_address(POD).packed}))
TLS = b"\x16\x03\x01\x00\x05hello"


def on_wire(client: str = CALLER, port: int = 40000, server: tuple[str, int] = (POD, 8080)) -> Wire:
    return Wire(((client, port), server), None, port * 50_000, port * 70_000)


def delivered(source: str = "127.0.0.6", server: str = POD) -> Wire:
    return Wire(((source, 50000), (server, 8080)))


class World:
    """A node and a pod whose packets come in the order of `packet` calls, one millisecond apart."""

    def __init__(self) -> None:
        self.node, self.pod = Capture(NODE), Capture(Scope(POD, None))

    def wire(self, *packets: bytes) -> World:
        return self._feed(self.node, self.pod, packets)

    def lo(self, *packets: bytes) -> World:
        return self._feed(self.pod, self.node, packets)

    def _feed(self, here: Capture, there: Capture, packets: tuple[bytes, ...]) -> World:
        here.feed(packets)
        there.ts = here.ts
        return self

    def verdict(self, record: ExchangeRecord) -> Kind | None:
        verdict = WireVerdict(self.node.connections)
        verdict.observe(self.node.seen)
        return verdict.wire(record.leg, record.exchange, self.pod.connections)

    @property
    def verdicts(self) -> list[Kind | None]:
        return [self.verdict(record) for record in self.pod.seen]


def mutual(**where: str | int) -> list[bytes]:
    wire = on_wire(**where)  # type: ignore[arg-type]
    return [*wire.handshake(), wire.ask(TLS), wire.answer(TLS)]


def nested(world: World, request: bytes, outer: Wire | None = None) -> World:
    """A plaintext request on the wire, delivered, answered."""
    outer, inner = outer or on_wire(OTHER, 41000), delivered()
    world.wire(*outer.handshake(), outer.ask(request))
    world.lo(*inner.handshake(), inner.ask(request), inner.answer(ok("x")))
    return world.wire(outer.answer(ok("x")))


def test_without_a_connection_the_wire_is_unknown() -> None:
    assert World().lo(*delivered().handshake()).lo(*whole(delivered())).verdicts == [None]


def whole(wire: Wire, request: bytes | None = None) -> list[bytes]:
    return [*wire.handshake(), wire.ask(request or get("/a")), wire.answer(ok("x"))]


def test_only_tls() -> None:
    assert World().wire(*mutual(), *mutual(port=40001)).lo(*whole(delivered())).verdicts == [Kind.TLS]


def test_only_plaintext() -> None:
    assert nested(World(), get("/a")).verdicts == [Kind.PLAIN]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CALLER, Kind.TLS),  # transparent interception delivers from the caller's own address
        (OTHER, None),  # from which nothing came
        (POD, Kind.TLS),  # as Linkerd's proxy delivers
    ],
)
def test_other_addresses_that_a_proxy_delivers_from(source: str, expected: Kind | None) -> None:
    world = World()
    world.pod = Capture(Scope(POD, None, delivered_from_itself=True))
    world.wire(*mutual()).lo(*whole(delivered(source)))
    assert world.pod.seen[0].leg.direction == "inbound"
    assert world.verdicts == [expected]


def test_another_port_of_the_pod_says_nothing() -> None:
    wire = on_wire(server=(POD, 9090))
    assert World().wire(*wire.handshake(), wire.ask(TLS)).lo(*whole(delivered())).verdicts == [None]


def test_with_tls_and_plaintext_the_same_exchange_decides() -> None:
    world = nested(World().wire(*mutual()), get("/plain"))
    inner = Wire((("127.0.0.6", 50001), (POD, 8080)))
    world.lo(*whole(inner, get("/mutual")))
    assert world.verdicts == [Kind.PLAIN, Kind.TLS]


def test_the_same_request_at_another_time_is_not_the_same() -> None:
    world = nested(World().wire(*mutual()), get("/a"))
    world.lo(*whole(Wire((("127.0.0.6", 50001), (POD, 8080))), get("/a")))
    assert world.verdicts == [Kind.PLAIN, Kind.TLS]


def test_a_like_request_with_other_fields_is_not_the_same() -> None:
    def asking(who: str) -> bytes:
        return f"GET /a HTTP/1.1\r\nHost: test\r\nUser-Agent: {who}\r\n\r\n".encode()

    outer, inner = on_wire(OTHER, 41000), delivered()
    world = World().wire(*mutual()).wire(*outer.handshake(), outer.ask(asking("one")))
    world.lo(*whole(inner, asking("two"))).wire(outer.answer(ok("x")))
    assert world.verdicts == [Kind.TLS]


def test_an_answer_to_a_lost_request_may_be_the_same() -> None:
    outer, inner = on_wire(OTHER, 41000), delivered()
    world = World().wire(*mutual(), *outer.handshake()).lo(*inner.handshake(), inner.ask(get("/a")))
    outer.ask(get("/lost"))
    world.wire(outer.answer(ok("x"))).lo(inner.answer(ok("x")))
    world.wire(*outer.exchange("/c", "x"), *outer.close())
    assert len(world.node.seen) == 2
    assert world.verdicts == [None]


@pytest.mark.parametrize(("bound", "most"), [("MOST_REMEMBERED", 2), ("MOST_REMEMBERED_BYTES", 3000)])
def test_wire_exchanges_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    monkeypatch.setattr(f"tapper.wire.verdict.{bound}", most)
    world = nested(World().wire(*mutual()), get("/a"))
    verdict = WireVerdict(world.node.connections)
    (record,), (same,) = world.pod.seen, world.node.seen
    verdict.observe([same] * 3)
    assert verdict.wire(record.leg, record.exchange, world.pod.connections) is Kind.PLAIN
    verdict.observe(nested(World(), get("/b")).node.seen * 2)
    assert verdict.wire(record.leg, record.exchange, world.pod.connections) is Kind.TLS, "forgotten"


def test_an_exchange_that_lies_only_half_within_is_unknown() -> None:
    """The same request at the same time, but it began after its delivery, or was answered before it: it may be another
    one, or not."""
    outer, inner = on_wire(OTHER, 41000), delivered()
    world = World().wire(*mutual(), *outer.handshake()).lo(*inner.handshake(), inner.ask(get("/a")))
    world.wire(outer.ask(get("/a"))).lo(inner.answer(ok("x"))).wire(outer.answer(ok("x")))
    assert world.verdicts == [None]
    outer, inner = on_wire(OTHER, 41000), delivered()
    world = World().wire(*mutual(), *outer.handshake(), outer.ask(get("/a")))
    world.lo(*inner.handshake(), inner.ask(get("/a"))).wire(outer.answer(ok("x"))).lo(inner.answer(ok("x")))
    assert world.verdicts == [None]


def test_a_pods_own_plaintext_is_only_probed() -> None:
    """A pod that calls itself without mTLS, beside callers with it: what is in there nobody has read."""
    world = World()
    pod = world.pod.connections = Connections(Scope(POD, None), world.pod.open, peek=TlsProbe)
    own = Wire(((POD, 42000), ("127.0.0.1", 15006)), ((POD, 8080), (POD, 42000)))
    world.wire(*mutual()).lo(*own.handshake(), own.ask(get("/a"))).lo(*whole(delivered())).lo(own.answer(ok("x")))
    assert set(pod.by_endpoint.at(endpoint(f"{POD}:8080").packed)) == {Kind.PLAIN}
    assert world.verdicts == [None]


def test_http2_is_plaintext_and_the_middle_of_anything_is_not() -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
    wire = on_wire()
    assert World().wire(*wire.handshake(), wire.ask(preface)).lo(*whole(delivered())).verdicts == [Kind.PLAIN]
    wire = on_wire()
    assert World().wire(wire.ask(b"\xaa\xbb" * 20)).lo(*whole(delivered())).verdicts == [None]


def test_plaintext_that_was_not_read_completely_excludes_nothing() -> None:
    """Still unanswered; joined midway; with a hole in it."""
    waiting = on_wire(OTHER, 41000)
    world = World().wire(*mutual(), *waiting.handshake(), waiting.ask(get("/b"))).lo(*whole(delivered()))
    assert world.verdicts == [None]
    midway = on_wire(OTHER, 41000)
    world = World().wire(*mutual(), *whole(midway, get("/b"))[3:]).lo(*whole(delivered()))
    world.wire(midway.ask(b""), *midway.exchange("/c", "x"))
    assert world.verdicts == [None]
    holed = on_wire(OTHER, 41000)
    begun = whole(holed, get("/b"))
    holed.ask(get("/lost"))
    world = World().wire(*mutual(), *begun, holed.answer(ok("lost")), *holed.exchange("/d", "x"))
    world.lo(*whole(delivered())).wire(*holed.exchange("/c", "x"))
    assert world.verdicts == [None]


def test_a_connection_that_had_ended_does_not_count() -> None:
    """Although it was joined midway, so that nobody knows all that was in it."""
    old = on_wire(OTHER, 41000)
    world = World().wire(*whole(old)[3:], *old.close(), *mutual()).lo(*whole(delivered(), get("/b")))
    assert world.verdicts == [Kind.TLS]


def test_a_connection_that_began_later_does_not_count() -> None:
    """The wire may have been read further: here to a request that is not answered yet."""
    later = on_wire(OTHER, 41000)
    world = World().wire(*mutual()).lo(*whole(delivered())).wire(*later.handshake(), later.ask(get("/b")))
    assert world.verdicts == [Kind.TLS]


def test_a_translated_connection_counts_at_both_addresses() -> None:
    dialled = Wire(((OTHER, 41000), ("10.96.0.9", 80)))
    received = Wire(((OTHER, 41000), (POD, 8080)))
    node = Scope(None, frozenset(ip_address(it).packed for it in (POD, OTHER)))
    world = World()
    world.node = Capture(node)
    world.wire(*interleave(whole(dialled), whole(received)))
    assert world.node.connections.tally.copies == 1
    world.lo(*whole(delivered()))
    assert [len(it) for it in world.node.connections.by_endpoint.at(endpoint(f"{POD}:8080").packed).values()] == [1]
    world.wire(*dialled.close(), *received.close())
    world.node.finish()
    assert not world.node.connections.by_endpoint.at(endpoint(f"{POD}:8080").packed)
    assert not world.node.connections.by_endpoint.at(ip_address(OTHER).packed)


@pytest.mark.parametrize("agent", ["kube-probe/1.30", "curl/8"])
def test_a_probe_may_come_from_the_agent(agent: str) -> None:
    request = f"GET /ready HTTP/1.1\r\nUser-Agent: {agent}\r\n\r\n".encode()
    expected = None if agent.startswith("kube") else Kind.TLS
    assert World().wire(*mutual()).lo(*whole(delivered(), request)).verdicts == [expected]


def test_delivery_to_localhost_may_be_the_application_itself() -> None:
    assert World().wire(*mutual()).lo(*whole(delivered("127.0.0.1", "127.0.0.1"))).verdicts == [None]


def redirected(server: tuple[str, int]) -> Wire:
    return Wire(((POD, 42000), ("127.0.0.1", 15001)), (server, (POD, 42000)))


@pytest.mark.parametrize("dialled", [(OTHER, 8080), ("10.96.0.9", 80)])
def test_an_outbound_leg_is_found_by_the_address_or_by_the_pod(dialled: tuple[str, int]) -> None:
    wire = on_wire(POD, 43000, (OTHER, 8080))
    world = World().wire(*wire.handshake(), wire.ask(TLS)).lo(*whole(redirected(dialled)))
    assert world.verdicts == [Kind.TLS]


def test_outbound_exchanges_lie_within() -> None:
    leg, outer, wire = (
        redirected(("10.96.0.9", 80)),
        on_wire(POD, 43000, (OTHER, 8080)),
        on_wire(POD, 43001, (OTHER, 1)),
    )
    world = World().wire(*wire.handshake(), wire.ask(TLS), *outer.handshake())
    world.lo(*leg.handshake(), leg.ask(get("/a"))).wire(outer.ask(get("/a")), outer.answer(ok("x")))
    world.lo(leg.answer(ok("x")), *leg.exchange("/b", "y"))
    assert world.verdicts == [Kind.PLAIN, Kind.TLS]


def test_another_clients_request_is_not_the_same_outbound() -> None:
    leg, stranger = redirected(("10.96.0.9", 80)), on_wire(OTHER, 41000)
    mine, mutual_one = on_wire(POD, 43000, (OTHER, 8080)), on_wire(POD, 43001, (OTHER, 1))
    world = World().wire(*mutual_one.handshake(), mutual_one.ask(TLS), *whole(mine, get("/z")), *stranger.handshake())
    world.lo(*leg.handshake(), leg.ask(get("/a"))).wire(stranger.ask(get("/a")), stranger.answer(ok("x")))
    world.lo(leg.answer(ok("x")))
    assert world.verdicts == [Kind.TLS]


@pytest.mark.parametrize(
    ("first", "expected"),
    [(TLS, Kind.TLS), (get("/a"), Kind.PLAIN), (b"\0\0\x04abc", Kind.PLAIN), (b"\x16", None)],
)
@pytest.mark.parametrize("joined", [False, True])
def test_a_probe_ends_when_it_has_read_enough(first: bytes, expected: Kind | None, joined: bool) -> None:
    wire = Wire(((POD, 42000), ("127.0.0.1", 15006)), ((POD, 8080), (POD, 42000)))
    seen: Connections[Record] = Connections(Scope(POD, None), lambda it: Session(it, lambda _: None), peek=TlsProbe)
    packets = [*wire.handshake(), wire.ask(first), wire.server_ack(), wire.answer(b"")]
    for number, raw in enumerate(packets[3 if joined else 0 :]):
        assert not one_packet(seen, number, raw)
    ((connection,),) = seen.by_endpoint.at(endpoint(f"{POD}:8080").packed).values()
    if joined and first[0] == 0:
        expected = None  # the middle of anything
    assert connection.wire is expected
    assert (connection.consumer is None) is (expected is not None)


def test_a_connection_that_is_recognised_late_counts() -> None:
    """A connection that is not known yet, beside those that are; then it is."""
    later = on_wire(OTHER, 41000)
    world = World().wire(*mutual(), *later.handshake()).lo(*whole(delivered()))
    assert world.verdicts == [None]
    world.wire(later.ask(TLS))
    assert world.verdicts == [Kind.TLS]


def test_the_same_exchange_is_found_among_many_older_ones() -> None:
    early = nested(World(), get("/a")).node.seen * 50
    world = World()
    world.pod.ts = world.node.ts = early[0].exchange.end + 5_000_000_000
    nested(world.wire(*mutual()), get("/a"))
    (record,) = world.pod.seen
    verdict = WireVerdict(world.node.connections)
    verdict.observe([*early, *world.node.seen])
    assert verdict.wire(record.leg, record.exchange, world.pod.connections) is Kind.PLAIN


def test_a_pods_call_to_itself_may_still_be_answered() -> None:
    """What was probed is read no further, but it is not over."""
    world = World()
    pod = world.pod.connections = Connections(Scope(POD, None), world.pod.open, peek=TlsProbe)
    own = Wire(((POD, 42000), ("127.0.0.1", 15006)), ((POD, 8080), (POD, 42000)))
    world.lo(*own.handshake(), own.ask(TLS), own.answer(TLS), *whole(delivered()))
    assert world.verdicts == [Kind.TLS]
    assert pod.by_endpoint.at(ip_address(POD).packed + endpoint(f"{POD}:8080").packed), "found by its client, too"


def test_the_same_exchange_may_be_reported_before_one_that_ended_earlier() -> None:
    world = nested(World().wire(*mutual()), get("/a"))
    earlier = nested(World(), get("/a")).node.seen
    assert earlier[0].exchange.end < world.pod.seen[0].exchange.ts
    verdict, (record,) = WireVerdict(world.node.connections), world.pod.seen
    verdict.observe([*world.node.seen, *earlier])
    assert verdict.wire(record.leg, record.exchange, world.pod.connections) is Kind.PLAIN


def test_connections_to_the_dialled_address_decide_alone() -> None:
    wire, other = on_wire(POD, 43000, (OTHER, 8080)), on_wire(POD, 43001, (OTHER, 1))
    world = World().wire(*wire.handshake(), wire.ask(TLS), *whole(other)[3:])
    assert world.lo(*whole(redirected((OTHER, 8080)))).verdicts == [Kind.TLS]


def test_only_connections_that_existed_at_the_time_decide() -> None:
    assert World().lo(*whole(delivered())).wire(*mutual()).verdicts == [None]
    later, before = on_wire(OTHER, 41000), on_wire(OTHER, 41005)
    world = World().wire(*mutual(), *whole(before, get("/z"))).lo(*whole(delivered()))
    assert world.wire(*later.handshake(), later.ask(get("/b"))).verdicts == [Kind.TLS]


def test_a_copy_of_a_connection_that_was_given_up_leaves_nothing_behind() -> None:
    targets = frozenset(ip_address(it).packed for it in (POD, OTHER))
    node: Connections[Record] = Connections(
        Scope(None, targets), lambda it: Session(it, lambda _: None), Limits(connections=1)
    )
    dialled = Wire(((OTHER, 41000), ("10.96.0.9", 80)))
    received = Wire(((OTHER, 41000), (POD, 8080)))
    for raw in (dialled.handshake()[0], received.handshake()[0]):
        one_packet(node, 1, raw)
    assert [record for records in node.finish() for record in records] == []
    assert len(node.by_endpoint) == 0
