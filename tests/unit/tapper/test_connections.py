"""From packets to exchanges: the ways a connection begins and ends, the legs of a mesh, loss, and bounds."""

from __future__ import annotations

import random
from collections.abc import Callable
from ipaddress import ip_address
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import ACK, FIN, PSH, RST, SYN, Capture, Wire, endpoint, get, interleave, ok, packet

from tapper.streams.bounds import CONNECTION_COST, HALF_COST, SECOND, Limits
from tapper.streams.connection import Scope
from tapper.streams.legs import Direction

POD, VIP, ENVOY = "10.0.0.2", "10.96.7.7", "127.0.0.1"
NODE = Scope(None, frozenset({ip_address(POD).packed}))


def inbound(port: int = 40000, client_isn: int = 1000, server_isn: int = 777_000) -> Wire:
    return Wire((("127.0.0.6", port), (POD, 8080)), None, client_isn, server_isn)


def outbound(
    port: int = 41000,
    seen_port: int | None = None,
    server: tuple[str, int] = (VIP, 80),
    client_isn: int = 1000,
    server_isn: int = 777_000,
) -> Wire:
    """A redirected connection: two halves that are no mirrors."""
    return Wire(((POD, seen_port or port), (ENVOY, 15001)), (server, (POD, port)), client_isn, server_isn)


def whole(wire: Wire, target: str = "/x", body: str = "y") -> list[bytes]:
    return [*wire.handshake(), *wire.exchange(target, body), *wire.close()]


def test_a_symmetric_connection() -> None:
    capture = Capture().feed(whole(inbound()))
    assert capture.pairs == [("/x", "y")]
    leg = capture.seen[0].leg
    assert (leg.pod_ip, leg.direction, leg.src, leg.dst) == (
        "10.0.0.2",
        Direction.INBOUND,
        endpoint("127.0.0.6:40000"),
        endpoint("10.0.0.2:8080"),
    )
    assert capture.finish().pairs == [("/x", "y")]


def test_a_redirected_connection_is_one_and_is_named_after_its_destination() -> None:
    capture = Capture().feed(whole(outbound()))
    assert capture.pairs == [("/x", "y")]
    leg = capture.seen[0].leg
    assert (leg.direction, leg.src, leg.dst) == (
        Direction.OUTBOUND,
        endpoint("10.0.0.2:41000"),
        endpoint("10.96.7.7:80"),
    )
    assert capture.connections.tally.connections == 1


def test_a_redirected_connection_over_ipv6() -> None:
    wire = Wire((("fd00::2", 41000), ("::1", 15001)), (("fd00::9", 80), ("fd00::2", 41000)))
    capture = Capture(Scope("fd00::2", None)).feed(whole(wire))
    assert capture.pairs == [("/x", "y")]
    leg = capture.seen[0].leg
    assert (leg.direction, leg.src, leg.dst) == (
        Direction.OUTBOUND,
        endpoint("[fd00::2]:41000"),
        endpoint("[fd00::9]:80"),
    )


def test_three_sockets_of_one_port_to_three_destinations() -> None:
    """On lo each has a port of its own towards 15001, while all replies go to the one they share (facts, section 1)."""
    wires = [
        outbound(41000, seen, (f"10.0.0.1{index}", 80), client_isn=1000 * index, server_isn=500_000 * index)
        for index, seen in ((1, 41000), (2, 53124), (3, 62001))
    ]
    capture = Capture().feed(interleave(*(whole(wire, f"/{index}", f"b{index}") for index, wire in enumerate(wires))))
    assert sorted(capture.finish().pairs, key=str) == [("/0", "b0"), ("/1", "b1"), ("/2", "b2")]
    assert {(record.leg.src, record.leg.dst) for record in capture.seen} == {
        (endpoint("10.0.0.2:41000"), endpoint(f"10.0.0.1{index}:80")) for index in (1, 2, 3)
    }


def test_a_redirected_connection_joined_midway() -> None:
    wire = outbound()
    [*wire.handshake(), *wire.exchange("/unseen", "u")]
    capture = Capture().feed([*wire.exchange("/a", "1"), *wire.exchange("/b", "2")]).silence()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]
    assert capture.seen[0].leg.dst == endpoint("10.96.7.7:80")


def test_a_redirected_connection_joined_between_request_and_response() -> None:
    wire = outbound()
    [*wire.handshake(), wire.ask(get("/unseen"))]
    capture = Capture().feed([wire.server_ack(), wire.answer(ok("u")), wire.client_ack(), *wire.exchange("/a", "1")])
    assert capture.silence().pairs == [(None, "u"), ("/a", "1")]
    assert {record.leg.direction for record in capture.seen} == {Direction.OUTBOUND}


def test_a_redirected_connection_joined_in_a_long_response_pairs_on_acknowledgements() -> None:
    wire = outbound()
    [*wire.handshake(), wire.ask(get("/unseen"))]
    capture = Capture(limits=Limits(pending_bytes=3500))
    capture.feed([wire.answer(b"x" * 1000), wire.client_ack(), wire.answer(b"x" * 1000), wire.client_ack()])
    assert capture.feed(wire.exchange("/a", "1")).silence().pairs == [("/a", "1")]


def test_a_retransmission_does_not_keep_halves_apart() -> None:
    wire = outbound()
    [*wire.handshake(), *wire.exchange("/unseen", "u")]
    first, second = wire.ask(get("/a")[:5]), wire.ask(get("/a")[5:])
    assert Capture().feed([first, second, first, wire.answer(ok("1"))]).silence().pairs == [("/a", "1")]


def test_a_redirected_connection_that_was_refused_and_tried_again() -> None:
    refused, accepted = outbound(), outbound(client_isn=900_000)
    capture = Capture().feed([refused.handshake()[0], *whole(accepted)]).finish()
    assert capture.pairs == [("/x", "y")]


def test_what_ended_is_concluded_at_once() -> None:
    wire = inbound()
    capture = Capture().feed([*wire.handshake(), wire.ask(b"PING\n"), wire.answer(b"PONG\n"), *wire.close()])
    assert capture.undecoded == ["other"]


def test_a_redirected_request_without_any_reply_says_so() -> None:
    wire = outbound()
    capture = Capture().feed([wire.handshake()[0], wire.ask(get("/x"))]).finish()
    assert capture.pairs == [("/x", None)]
    assert (capture.seen[0].leg.direction, capture.seen[0].leg.dst) == (Direction.OUTBOUND, endpoint("127.0.0.1:15001"))


def test_a_lone_reply_says_so() -> None:
    wire = outbound()
    [*wire.handshake(), wire.ask(get("/x"))]
    capture = Capture().feed([wire.answer(ok("y"))]).finish()
    assert capture.pairs == [(None, "y")]
    leg = capture.seen[0].leg
    assert (leg.direction, leg.src, leg.dst) == (
        Direction.OUTBOUND,
        endpoint("10.0.0.2:41000"),
        endpoint("10.96.7.7:80"),
    )


@pytest.mark.parametrize("opening", [True, False], ids=["from the start", "midway"])
def test_a_pod_that_calls_its_own_address(opening: bool) -> None:
    wire = Wire(((POD, 42000), (POD, 8080)))
    start = wire.handshake()
    capture = Capture().feed([*(start if opening else []), *wire.exchange("/self", "me"), *wire.close()])
    assert capture.pairs == [("/self", "me")]
    assert (capture.seen[0].leg.direction, capture.seen[0].leg.src) == (Direction.LOCAL, endpoint("10.0.0.2:42000"))


def test_a_symmetric_connection_joined_at_the_response() -> None:
    wire = Wire(((POD, 42000), (POD, 8080)))
    [*wire.handshake(), wire.ask(get("/unseen"))]
    capture = Capture().feed([wire.answer(ok("u")), wire.client_ack(), *wire.exchange("/a", "1")]).silence()
    assert capture.pairs == [(None, "u"), ("/a", "1")]
    assert capture.seen[0].leg.src == endpoint("10.0.0.2:42000")


def test_a_pod_that_calls_itself_through_its_service_is_seen_on_two_legs() -> None:
    """The middle leg, Envoy to its own inbound listener, is ciphertext: its halves are paired and passed over."""
    first, last = outbound(43000), inbound(44000, client_isn=9000)
    middle = Wire(((POD, 45000), (ENVOY, 15006)), ((POD, 8080), (POD, 45000)), client_isn=123_456, server_isn=654_321)
    tls = [*middle.handshake(), middle.ask(b"\x16\x03\x01" + b"c" * 50), middle.answer(b"\x16\x03\x03" + b"s" * 50)]
    capture = Capture().feed([*first.handshake(), *tls, *whole(last), *first.exchange("/x", "y"), *middle.close()])
    capture.finish()
    assert [(record.leg.direction, pair) for record, pair in zip(capture.seen, capture.pairs, strict=True)] == [
        (Direction.INBOUND, ("/x", "y")),
        (Direction.OUTBOUND, ("/x", "y")),
    ]
    assert capture.undecoded == []
    assert capture.connections.tally.mesh == 1


@pytest.mark.parametrize("port", [15000, 15004, 15008, 15012, 15014, 15020, 15021, 15053, 15090])
def test_envoys_own_ports_are_skipped_on_lo_and_counted(port: int) -> None:
    wire = Wire((("127.0.0.1", 40000), ("127.0.0.1", port)))
    packets = whole(wire)
    capture = Capture().feed(packets).finish()
    assert capture.pairs == []
    assert capture.connections.tally.mesh == len(packets)
    assert Capture(NODE).feed(whole(Wire(((POD, 40000), ("10.0.0.9", port))))).pairs == [("/x", "y")]


@pytest.mark.parametrize("port", [15020, 15090])
@pytest.mark.parametrize("midway", [False, True])
@pytest.mark.parametrize(
    "ends",
    [
        (("127.0.0.6", 0), (POD, 8080)),
        (("127.0.0.1", 0), ("127.0.0.1", 8080)),
        ((POD, 0), (POD, 8080)),
    ],
)
def test_a_client_hides_nothing_by_a_port_of_the_mesh(
    port: int, midway: bool, ends: tuple[tuple[str, int], tuple[str, int]]
) -> None:
    """Whoever asks may bind to any port; joined midway, too."""
    (address, _), server = ends
    packets = whole(Wire(((address, port), server)))
    assert Capture().feed(packets[3:] if midway else packets).finish().pairs == [("/x", "y")]


@pytest.mark.parametrize("port", [15020, 15090])
def test_a_server_elsewhere_may_have_a_port_of_the_mesh(port: int) -> None:
    """What the pod's application asks there goes by way of its sidecar, and is answered in the server's name."""
    wire = Wire(((POD, 40000), ("127.0.0.1", 15001)), (("10.0.0.9", port), (POD, 40000)))
    assert Capture().feed(whole(wire)).finish().pairs == [("/x", "y")]


@pytest.mark.parametrize("midway", [False, True])
def test_the_sidecars_own_server_is_passed_over_joined_midway_too(midway: bool) -> None:
    packets = whole(Wire((("127.0.0.1", 40000), (POD, 15020))))
    capture = Capture().feed(packets[3:] if midway else packets).finish()
    assert capture.pairs == []
    assert capture.connections.tally.mesh == len(packets) - (3 if midway else 0)


def test_on_the_node_only_targets_are_reported() -> None:
    packets = [
        *whole(Wire(((POD, 40000), ("10.0.0.9", 80)), client_isn=1), "/a"),
        *whole(Wire((("10.0.0.9", 40000), (POD, 80)), client_isn=2), "/b"),
        *whole(Wire((("10.0.0.9", 40000), ("10.0.0.20", 80)), client_isn=3), "/neighbour"),
    ]
    capture = Capture(NODE).feed(packets).finish()
    assert capture.pairs == [("/a", "y"), ("/b", "y")]
    assert {(record.leg.pod_ip, record.leg.direction) for record in capture.seen} == {(POD, Direction.NODE)}


def test_the_servers_address_is_the_pod_where_both_ends_are_targets() -> None:
    scope = Scope(None, frozenset({ip_address(POD).packed, ip_address("10.0.0.9").packed}))
    capture = Capture(scope).feed(whole(Wire(((POD, 40000), ("10.0.0.9", 80)))))
    assert capture.seen[0].leg.pod_ip == "10.0.0.9"


def test_the_same_packet_on_several_interfaces_counts_once() -> None:
    packets = [copy for raw in whole(Wire((("10.0.0.9", 40000), (POD, 80)))) for copy in (raw, raw, raw)]
    assert Capture(NODE).feed(packets).finish().pairs == [("/x", "y")]


def test_copies_that_come_after_the_end_count_once() -> None:
    packets = whole(Wire((("10.0.0.9", 40000), (POD, 80))))
    assert Capture(NODE).feed([*packets, *packets]).finish().pairs == [("/x", "y")]


def test_the_same_ports_again_are_another_connection() -> None:
    again = inbound(client_isn=900_000, server_isn=5)
    capture = Capture().feed([*whole(inbound(), "/1"), *whole(again, "/2")]).finish()
    assert [target for target, _ in capture.pairs] == ["/1", "/2"]


@pytest.mark.parametrize("closed", [True, False])
def test_a_redirected_connection_whose_ports_are_used_again(closed: bool) -> None:
    first, second = outbound(), outbound(client_isn=900_000, server_isn=3)
    packets = [*first.handshake(), *first.exchange("/1", "a"), *(first.close() if closed else [])]
    capture = Capture().feed([*packets, *whole(second, "/2", "b")]).finish()
    assert capture.pairs == [("/1", "a"), ("/2", "b")]


def test_rst_ends_and_flushes() -> None:
    wire = inbound()
    packets = [*wire.handshake(), wire.ask(get("/x")), packet(*wire.down, wire.server, wire.client, RST | ACK)]
    assert Capture().feed(packets).pairs == [("/x", None)]


@pytest.mark.parametrize("server_isn", [777_000, 0xF0000000])
def test_data_in_the_syn_is_read(server_isn: int) -> None:
    """TCP fast open (RFC 7413). A first SYN acknowledges nothing: its acknowledgement number must not be believed."""
    wire = inbound(server_isn=server_isn)
    data = get("/early")
    syn = packet(*wire.up, wire.client, 0, SYN, data)
    wire.client += 1 + len(data)
    synack = packet(*wire.down, wire.server, wire.client, SYN | ACK)
    wire.server += 1
    assert Capture().feed([syn, synack, wire.answer(ok("y"))]).finish().pairs == [("/early", "y")]


def test_a_keepalive_probe_changes_nothing() -> None:
    wire = inbound()
    start = [*wire.handshake(), *wire.exchange("/1", "a")]
    probe = packet(*wire.up, wire.client - 1, wire.server, ACK, b"\0")
    assert Capture().feed([*start, probe, *wire.exchange("/2", "b")]).pairs == [("/1", "a"), ("/2", "b")]


def test_a_lost_request_costs_only_itself() -> None:
    wire = inbound()
    start = [*wire.handshake(), *wire.exchange("/1", "a")]
    wire.ask(get("/lost"))
    rest = [wire.answer(ok("b")), wire.client_ack(), *wire.exchange("/3", "c"), *wire.exchange("/4", "d")]
    capture = Capture().feed([*start, *rest]).silence()
    assert capture.pairs == [("/1", "a"), (None, "b"), ("/3", "c"), ("/4", "d")]
    assert capture.connections.tally.gaps == 1


def test_a_lost_response_costs_only_itself() -> None:
    wire = inbound()
    packets = [*wire.handshake(), *wire.exchange("/1", "a"), wire.ask(get("/2"))]
    wire.answer(ok("lost"))
    packets += [wire.client_ack(), *wire.exchange("/3", "c"), *wire.exchange("/4", "d")]
    capture = Capture().feed(packets).silence()
    assert capture.pairs == [("/1", "a"), ("/2", None), ("/3", "c"), ("/4", "d")]


def test_reordered_segments_are_put_in_order() -> None:
    wire = inbound()
    start = wire.handshake()
    first, second = wire.ask(get("/1")[:10]), wire.ask(get("/1")[10:])
    assert Capture().feed([*start, second, first, wire.answer(ok("a"))]).pairs == [("/1", "a")]


def test_numbers_that_wrap_within_a_connection() -> None:
    for isn in range(0xFFFFFFFF - 120, 0xFFFFFFFF, 7):
        wire = outbound(client_isn=isn, server_isn=isn - 5)
        assert Capture().feed([*wire.handshake(), *wire.exchange("/1", "a"), *wire.exchange("/2", "b")]).pairs == [
            ("/1", "a"),
            ("/2", "b"),
        ]


@pytest.mark.parametrize(
    ("client", "server", "kind"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x16\x03\x03\x00\x7a", "tls"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"\0\0\0\4\0\0\0\0\0", "http2"),
        (b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n", "other"),
        (b"", b"220 mail.example ESMTP\r\n", "other"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_is_not_http_is_counted_by_kind_and_never_shown(
    client: bytes, server: bytes, kind: str, step: int
) -> None:
    wire = inbound()
    packets = wire.handshake()
    packets += [wire.ask(client[at : at + step]) for at in range(0, len(client), step)]
    packets += [wire.answer(server[at : at + step]) for at in range(0, len(server), step)]
    capture = Capture().feed([*packets, *wire.close()]).finish()
    assert (capture.pairs, capture.undecoded) == ([], [kind])


def test_ciphertext_joined_midway_is_not_shown_even_if_it_looks_like_http() -> None:
    wire = inbound()
    wire.handshake()
    packets = [wire.ask(b"\x17\x03\x03\x00\x20" + bytes(32)), wire.ask(get("/no")), wire.answer(ok("no"))]
    capture = Capture().feed(packets).finish()
    assert (capture.pairs, capture.undecoded) == ([], ["tls"])


@pytest.mark.parametrize("pause", [310, 86_400, -86_400])
def test_a_quiet_connection_has_not_ended(pause: int) -> None:
    """Long polling, WebSockets and watches are quiet for minutes or hours, and the clock may be set meanwhile."""
    capture = Capture()
    quiet, redirected = inbound(40000), outbound(41000)
    capture.feed([*quiet.handshake(), quiet.ask(get("/quiet")), *redirected.handshake(), redirected.ask(get("/too"))])
    capture.ts += pause * SECOND
    for port in range(40001, 40010):
        capture.ts += SECOND
        capture.feed(whole(inbound(port, client_isn=port * 1000, server_isn=port * 2000)))
    assert set(capture.pairs) == {("/x", "y")}
    capture.feed([quiet.answer(ok("late")), redirected.answer(ok("later"))])
    assert capture.pairs[-2:] == [("/quiet", "late"), ("/too", "later")]
    assert capture.connections.tally.given_up == 0


def test_the_longest_quiet_connections_are_given_up_first() -> None:
    capture = Capture(limits=Limits(connections=32))
    old = inbound(39999)
    capture.feed([*old.handshake(), old.ask(get("/old"))])
    wires = [inbound(port, client_isn=port * 1000, server_isn=port * 2000) for port in range(40000, 40031)]
    for wire in wires:
        capture.feed([*wire.handshake(), wire.ask(get(f"/{wire.up[0][1]}"))])
    capture.feed([old.answer(ok("1")), old.client_ack(), old.ask(get("/again"))])
    assert capture.connections.tally.given_up == 0
    capture.feed(inbound(50000, client_isn=7, server_isn=8).handshake())
    assert capture.connections.tally.given_up == 2
    assert capture.pairs == [("/old", "1"), ("/40000", None), ("/40001", None)]
    assert capture.feed([old.answer(ok("2"))]).pairs[-1] == ("/again", "2")


def test_what_carried_nothing_is_given_up_before_what_is_quiet() -> None:
    """A pod that opens connections and never uses them drives out nobody else's."""
    capture = Capture(limits=Limits(connections=32))
    old = inbound(39999)
    capture.feed([*old.handshake(), old.ask(get("/old"))])
    for port in range(40000, 40200):
        capture.feed(inbound(port, client_isn=port * 1000).handshake()[:1])
    assert capture.feed([old.answer(ok("1"))]).pairs == [("/old", "1")]


def test_connections_of_which_the_sockets_are_gone_are_concluded() -> None:
    """The caller knows it from the kernel; of one that was heard of meanwhile it knows nothing any more."""
    capture = Capture()
    silent, lively = inbound(40000), outbound(41000)
    capture.feed([*silent.handshake(), silent.ask(get("/silent")), *lively.handshake(), lively.ask(get("/lively"))])
    since = capture.ts + 1
    keys = capture.connections.quiet(since, 10)
    assert len(keys) == 2
    assert capture.connections.quiet(since, 1) == keys[:1]
    assert capture.connections.quiet(since - SECOND, 10) == []
    capture.feed([lively.answer(ok("1"))])
    capture.records += capture.connections.gone(keys, since)
    assert capture.pairs == [("/lively", "1"), ("/silent", None)]
    assert capture.connections.tally.given_up == 1
    assert len(capture.connections.quiet(capture.ts + 1, 10)) == 1


def test_giving_up_a_waiting_half_may_give_up_others_for_want_of_memory() -> None:
    capture = Capture(limits=Limits(held_bytes=2000))
    for port in range(41000, 41006):
        capture.feed([outbound(port).ask(b"POST /late HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + b"x" * 600)])
    capture.finish()
    assert capture.pairs == [("/late", None)] * 6
    assert capture.connections.held == 0


def test_connections_are_bounded() -> None:
    capture = Capture(limits=Limits(connections=10))
    for port in range(40000, 40050):
        wire = inbound(port)
        capture.feed([*wire.handshake(), wire.ask(get(f"/{port}"))])
    assert capture.connections.tally.given_up == 40
    assert capture.pairs == [(f"/{port}", None) for port in range(40000, 40040)]


def test_waiting_halves_are_bounded_in_number_and_size() -> None:
    capture = Capture(limits=Limits(pending_halves=5, pending_bytes=4000))
    for port in range(41000, 41020):
        capture.feed([packet((VIP, 80), (POD, port), 1, 1, PSH | ACK, b"x" * 100)])
    assert capture.connections.tally.given_up == 15
    capture.feed(packet((VIP, 81), (POD, 41000), 1 + 100 * index, 1, PSH | ACK, b"x" * 100) for index in range(100))
    assert capture.connections.held < 15 * CONNECTION_COST + 5 * (4000 + HALF_COST)


def test_held_bytes_are_bounded() -> None:
    capture = Capture(limits=Limits(held_bytes=200_000))
    for port in range(40000, 40100):
        wire = inbound(port)
        capture.feed([*wire.handshake(), wire.ask(b"POST / HTTP/1.1\r\nContent-Length: 9000\r\n\r\n" + b"x" * 8000)])
        assert capture.connections.held <= 200_000
    assert capture.connections.tally.given_up > 50
    capture.finish()
    assert len(capture.seen) == 100
    assert capture.connections.held == 0


def test_pending_halves_count_towards_the_bound_on_held_bytes() -> None:
    """A pod can send requests to 127.0.0.1 that nobody answers, from any number of ports."""
    capture = Capture(limits=Limits(held_bytes=20_000))
    for port in range(41000, 41100):
        capture.feed([outbound(port).ask(get("/" + "x" * 600))])
        assert 0 < capture.connections.held <= 20_000
    assert capture.finish().pairs == [("/" + "x" * 600, None)] * 100


def test_malformed_packets_are_counted_and_skipped() -> None:
    wire = inbound()
    packets = whole(wire)
    capture = Capture().feed([b"", b"\x45\x00", *packets[:2], b"\x60" * 30, *packets[2:]])
    assert capture.pairs == [("/x", "y")]
    assert capture.connections.tally.malformed == 3


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_any_cutting_order_and_duplication_gives_the_same_exchanges(data: st.DataObject) -> None:
    """Invariant: as long as no byte is lost, segmentation, reordering and duplication change no exchange."""
    isn = data.draw(st.integers(0, 0xFFFFFFFF))
    wire = inbound(client_isn=isn) if data.draw(st.booleans()) else outbound(client_isn=isn)
    packets = wire.handshake()
    for index in range(3):
        for message, send in ((get(f"/{index}"), wire.ask), (ok("z" * index), wire.answer)):
            cuts = sorted({0, len(message), *data.draw(st.lists(st.integers(0, len(message)), max_size=5))})
            pieces = [send(message[a:b]) for a, b in pairwise(cuts)]
            packets += data.draw(st.permutations([*pieces, *data.draw(st.lists(st.sampled_from(pieces), max_size=4))]))
    capture = Capture().feed([*packets, *wire.close()]).finish()
    assert capture.pairs == [(f"/{index}", "z" * index) for index in range(3)]
    assert capture.connections.held == 0


@given(st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_loss_never_makes_a_wrong_pair(seed: int, midway: bool) -> None:
    """Invariant: whatever packets are lost, a response is shown with its own request or with none."""
    rng = random.Random(seed)
    wire = inbound() if rng.random() < 0.5 else outbound()
    packets = wire.handshake()
    for index in range(12):
        body = f"{index}:" + "b" * rng.choice([0, 30, 3000])
        for message, send in ((get(f"/{index}"), wire.ask), (ok(body), wire.answer)):
            cut = rng.randrange(1, len(message))
            packets += [send(message[:cut]), send(message[cut:])]
        packets.append(wire.client_ack())
    packets += wire.close()
    kept = [raw for raw in packets[6 if midway else 0 :] if rng.random() > 0.12]
    for target, shown in Capture().feed(kept).finish().pairs:
        if target is not None and shown is not None:
            assert (f"{target[1:]}:" + "b" * 3000).startswith(shown), (target, shown[:10])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(range(6)),
            st.integers(0, 60),
            st.sampled_from([ACK, PSH | ACK, SYN, SYN | ACK, FIN | ACK, RST]),
            st.binary(max_size=40),
        ),
        max_size=80,
    )
)
@settings(max_examples=100, deadline=None)
def test_hostile_packets_never_raise_and_memory_stays_bounded(steps: list[tuple[int, int, int, bytes]]) -> None:
    """Invariant: no sequence of packets raises, and what is held stays under the bound and ends at nothing."""
    flows = [
        (("127.0.0.6", 40000), (POD, 8080)),
        ((POD, 8080), ("127.0.0.6", 40000)),
        ((POD, 41000), (ENVOY, 15001)),
        ((VIP, 80), (POD, 41000)),
        ((POD, 8080), (POD, 42000)),
        ((POD, 42000), (POD, 8080)),
    ]
    limits = Limits(connections=3, pending_halves=2, pending_bytes=600, hole_bytes=600, held_bytes=3000)
    capture = Capture(limits=limits)
    for flow, number, flags, data in steps:
        capture.feed([packet(*flows[flow], number, 60 - number, flags, data)])
        assert 0 <= capture.connections.held <= 3000
    assert capture.finish().connections.held == 0


@pytest.mark.parametrize("wire", [inbound, outbound])
@pytest.mark.parametrize(("silence_s", "expected"), [(1, 1), (60, 2)])
def test_an_ended_connection_is_forgotten_by_the_time_of_its_next_packet(
    wire: Callable[[], Wire], silence_s: int, expected: int
) -> None:
    """Late copies of its packets change nothing. After a long silence, in which no sweep came, equal numbers belong to
    a new connection: a file may hold one recording several times."""
    capture = Capture().feed(whole(wire()))
    capture.ts += silence_s * SECOND
    capture.feed(whole(wire()))
    assert capture.finish().pairs == [("/x", "y")] * expected
