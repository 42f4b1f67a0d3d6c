"""A service's address is translated on the node: the same connection, seen under two addresses, is reported once."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, endpoint, interleave

from tapper.streams.connection import Scope

CLIENT, SERVER, VIP = "10.0.0.2", "10.0.0.3", "10.96.7.7"
NODE = Scope(None, frozenset({ip_address(CLIENT).packed, ip_address(SERVER).packed}))


def as_dialled(**numbers: int) -> Wire:
    return Wire(((CLIENT, 40000), (VIP, 80)), None, **numbers)


def as_delivered(port: int = 40000, **numbers: int) -> Wire:
    return Wire(((CLIENT, port), (SERVER, 8080)), None, **numbers)


def packets(wire: Wire, *, handshake: bool = True) -> list[bytes]:
    begin = wire.handshake()
    return [*(begin if handshake else []), *wire.exchange("/a", "1"), *wire.exchange("/b", "2"), *wire.close()]


@pytest.mark.parametrize("handshake", [True, False])
def test_a_translated_connection_is_reported_once(handshake: bool) -> None:
    """Requests show on the client's veth first, answers on the server's: packet by packet, each side in turn."""
    dialled, delivered = packets(as_dialled(), handshake=handshake), packets(as_delivered(), handshake=handshake)
    capture = Capture(NODE).feed(interleave(dialled, delivered)).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]
    assert {record.leg.dst for record in capture.seen} == {endpoint(f"{VIP}:80")}
    assert capture.connections.tally.copies == 1


def test_a_late_copy_is_one_too() -> None:
    capture = Capture(NODE).feed(packets(as_dialled())[:-3]).feed(packets(as_delivered())).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]


def test_a_client_that_uses_one_port_towards_two_servers_has_two_connections() -> None:
    other = packets(as_delivered(client_isn=2_000_000_000, server_isn=5))
    capture = Capture(NODE).feed(interleave(packets(as_dialled()), other)).finish()
    assert sorted(capture.pairs) == [("/a", "1"), ("/a", "1"), ("/b", "2"), ("/b", "2")]
    assert capture.connections.tally.copies == 0


def test_another_client_with_the_same_numbers_is_another_connection() -> None:
    capture = Capture(NODE).feed(interleave(packets(as_dialled()), packets(as_delivered(40001)))).finish()
    assert len(capture.pairs) == 4


def test_ports_used_again_are_a_new_connection() -> None:
    first = interleave(packets(as_dialled()), packets(as_delivered()))
    again = {"client_isn": 90_000_000, "server_isn": 80_000_000}
    second = interleave(packets(as_dialled(**again)), packets(as_delivered(**again)))
    capture = Capture(NODE).feed([*first, *second]).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")] * 2


def test_on_a_pods_lo_nothing_is_taken_for_a_copy() -> None:
    """There nobody translates between two captures: equal numbers are a coincidence."""
    scope = Scope(SERVER, None)
    direct, by_envoy = as_delivered(), Wire((("127.0.0.6", 40000), (SERVER, 8080)))
    capture = Capture(scope).feed(interleave(packets(direct), packets(by_envoy))).finish()
    assert len(capture.pairs) == 4


def test_a_busy_servers_end_is_not_searched_but_its_clients_are() -> None:
    crowd = [as_delivered(port, client_isn=port * 100_000, server_isn=port * 50_000) for port in range(41000, 41020)]
    capture = Capture(NODE)
    for wire in crowd:
        capture.feed(wire.handshake())
    capture.feed(interleave(packets(as_dialled()), packets(as_delivered()))).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]


def test_a_copy_is_read_when_the_original_is_no_longer_in_scope() -> None:
    """The client is no target any longer: what reaches the server, still one, is now the connection to report."""
    dialled, delivered = as_dialled(), as_delivered()
    capture = Capture(NODE).feed(interleave(dialled.handshake(), delivered.handshake()))
    capture.feed(interleave(dialled.exchange("/a", "1"), delivered.exchange("/a", "1")))
    capture.connections.rescope(Scope(None, frozenset({ip_address(SERVER).packed})))
    capture.feed(interleave(dialled.exchange("/b", "2"), delivered.exchange("/b", "2"))).silence()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]
    assert [record.leg.dst for record in capture.seen] == [endpoint(f"{VIP}:80"), endpoint(f"{SERVER}:8080")]


NODE_ADDRESS = "192.168.0.1"


def masqueraded(**numbers: int) -> Wire:
    """The same connection behind the node's own address: both ends are others."""
    return Wire(((NODE_ADDRESS, 61000), (SERVER, 8080)), None, **numbers)


def on_two(first: list[bytes], second: list[bytes]) -> list[tuple[int, bytes]]:
    """The packets of two connections, one in turn of each, with their interfaces' indices."""
    return [(index, raw) for pair in zip(first, second, strict=True) for index, raw in enumerate(pair, start=1)]


def feed_on(capture: Capture, packets: list[tuple[int, bytes]], *, apart: int = 50_000) -> Capture:
    """Nanoseconds lie between two packets."""
    for index, raw in packets:
        capture.ts += apart
        capture.connections.packets(raw, [(capture.ts, index, 0, len(raw))], capture.records)
    return capture


EVERYTHING = Scope(None, None)


@pytest.mark.parametrize("handshake", [True, False])
def test_a_masqueraded_connection_is_reported_once(handshake: bool) -> None:
    dialled, delivered = packets(as_dialled(), handshake=handshake), packets(masqueraded(), handshake=handshake)
    capture = feed_on(Capture(EVERYTHING), on_two(dialled, delivered)).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]
    assert {record.leg.src for record in capture.seen} == {endpoint(f"{CLIENT}:40000")}
    assert capture.connections.tally.copies == 1
    assert capture.connections.held == 0


def test_answers_cross_the_servers_interface_first() -> None:
    """So the SYN-ACK of the copy comes before that of the original."""
    both = on_two(packets(as_dialled()), packets(masqueraded()))
    syns, rest = both[:2], both[2:]
    crossed = [it for at in range(0, len(rest), 2) for it in (rest[at + 1], rest[at])]
    assert feed_on(Capture(EVERYTHING), [*syns, *crossed]).finish().pairs == [("/a", "1"), ("/b", "2")]


def test_the_same_client_number_alone_makes_no_copy() -> None:
    """A host may use an initial sequence number twice; the servers' differ."""
    other = packets(masqueraded(server_isn=5_000_000))
    capture = feed_on(Capture(EVERYTHING), on_two(packets(as_dialled()), other)).finish()
    assert sorted(capture.pairs) == [("/a", "1"), ("/a", "1"), ("/b", "2"), ("/b", "2")]
    capture = Capture(EVERYTHING).feed(packets(as_delivered(server_isn=500_000)))
    capture.feed(packets(as_delivered(40001, server_isn=700_000))).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")] * 2


def test_equal_numbers_at_another_time_or_on_the_same_interface_make_no_copy_without_a_common_end() -> None:
    first, second = packets(as_dialled()), packets(masqueraded())
    capture = feed_on(Capture(EVERYTHING), on_two(first, second), apart=20_000_000).finish()
    assert len(capture.pairs) == 4
    same = [(1, raw) for _, raw in on_two(first, second)]
    assert len(feed_on(Capture(EVERYTHING), same).finish().pairs) == 4


@pytest.mark.parametrize("midway", [False, True])
def test_a_pod_that_reaches_itself_by_one_interface(midway: bool) -> None:
    """Its packets leave by its veth with a service's address, and come back by it with both ends translated. Only two
    initial numbers prove that, since the connections have no end in common."""
    dialled, back = as_dialled(), Wire((("192.168.0.1", 50000), (CLIENT, 8080)), None, 1000, 777_000)
    both = interleave(packets(dialled), packets(back))[8 if midway else 0 :]
    capture = feed_on(Capture(EVERYTHING), [(1, raw) for raw in both]).finish()
    assert (capture.pairs == [("/a", "1"), ("/b", "2")]) == (not midway)


def test_two_halves_of_one_server_of_which_the_clients_were_not_seen_are_two() -> None:
    one, two = as_delivered(40001, server_isn=1_000_000), as_delivered(40002, client_isn=3_000_000_000)
    two.server = one.server + 1000
    capture = Capture(EVERYTHING).feed([one.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1")])
    capture.feed([two.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2")]).finish()
    assert capture.pairs == [(None, "1"), (None, "2")]


def test_a_quiet_connections_copy_stays_one() -> None:
    dialled, delivered = as_dialled(), as_delivered()
    capture = Capture(NODE).feed(interleave(dialled.handshake(), delivered.handshake()))
    capture.feed(interleave(dialled.exchange("/a", "1"), delivered.exchange("/a", "1")))
    capture.ts += 3_600_000_000_000
    for port in range(50000, 50010):
        capture.ts += 1_000_000_000
        capture.feed(Wire(((CLIENT, port), (SERVER, 9090)), None, port * 1000, port * 2000).handshake())
    capture.feed(interleave(dialled.exchange("/b", "2"), delivered.exchange("/b", "2"))).finish()
    assert capture.pairs == [("/a", "1"), ("/b", "2")]
