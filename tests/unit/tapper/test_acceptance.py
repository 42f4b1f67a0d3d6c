"""Segments that their receiver ignores change nothing; those that it takes do (RFC 9293 section 3.10.7, RFC 5961)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tapper_wire import ACK, FIN, PSH, RST, SYN, Capture, Wire, brief, exchanges, get, ok, one_packet, packet

from tapper.protocols.outcome import OutcomeKind
from tapper.protocols.records import Record
from tapper.protocols.session import Session
from tapper.run.parts import PLAIN, Parts, chosen
from tapper.streams.bounds import CONNECTION_COST, SECOND
from tapper.streams.connection import Scope

POD = "10.0.0.2"
NODE = Scope(None, None)
FAR = 0x2000_0000


def wire(client_isn: int = 1000, server_isn: int = 777_000) -> Wire:
    return Wire((("127.0.0.6", 40000), (POD, 8080)), None, client_isn, server_isn)


def up(it: Wire, offset: int, flags: int, payload: bytes = b"", ack: int | None = None) -> bytes:
    return packet(*it.up, it.client + offset, it.server if ack is None else ack, flags, payload)


def down(it: Wire, offset: int, flags: int, payload: bytes = b"", ack: int | None = None) -> bytes:
    return packet(*it.down, it.server + offset, it.client if ack is None else ack, flags, payload)


IGNORED: dict[str, Callable[[Wire], list[bytes]]] = {
    "RST far ahead": lambda it: [up(it, FAR, RST)],
    "RST within the window": lambda it: [up(it, 1, RST), down(it, 1, RST), up(it, 5000, RST | ACK)],
    "RST behind": lambda it: [up(it, -1, RST), down(it, -20, RST)],
    "SYN": lambda it: [up(it, FAR, SYN, ack=0), up(it, 0, SYN, ack=0), down(it, 0, SYN, ack=0)],
    "SYN-ACK": lambda it: [down(it, FAR, SYN | ACK), up(it, FAR, SYN | ACK)],
    "SYN-ACK that answers a SYN of before": lambda it: [
        up(it, FAR, SYN, ack=0),
        down(it, 77, SYN | ACK, ack=it.client + FAR + 2),
    ],
    "FIN far ahead": lambda it: [up(it, FAR, FIN | ACK), down(it, FAR, FIN | ACK)],
    "data far ahead": lambda it: [up(it, FAR, PSH | ACK, b"x" * 100), down(it, FAR, PSH | ACK, b"x" * 100)],
    "data beyond the window": lambda it: [up(it, 70_000, PSH | ACK, b"x" * 100)],
    "data far behind": lambda it: [up(it, -FAR, PSH | ACK, b"x" * 100)],
    "an acknowledgement of what was not sent": lambda it: [down(it, 0, ACK, ack=it.client + FAR)],
    "data with an acknowledgement of what was not sent": lambda it: [
        up(it, 0, PSH | ACK, b"GET /forged HTTP/1.1\r\n\r\n", ack=it.server + FAR),
        down(it, 0, PSH | ACK, ok("forged"), ack=it.client + FAR),
    ],
    "a RST after an acknowledgement of what was not sent": lambda it: [
        down(it, 0, ACK, ack=it.client + 5000),
        up(it, 5000, RST),
    ],
    "data with an acknowledgement of long ago": lambda it: [
        up(it, 0, PSH | ACK, b"GET /forged HTTP/1.1\r\n\r\n", ack=it.server - 70_000),
        down(it, 0, PSH | ACK, ok("forged"), ack=it.client - 70_000),
    ],
    "data with an acknowledgement of bytes before the first one": lambda it: [
        up(it, 0, PSH | ACK, b"GET /forged HTTP/1.1\r\n\r\n", ack=777_000),
    ],
    "a segment without ACK": lambda it: [up(it, 0, PSH, b"GET /forged HTTP/1.1\r\n\r\n")],
}


@pytest.mark.parametrize("kind", IGNORED)
def test_what_its_receiver_ignores_changes_nothing(kind: str) -> None:
    it = wire()
    packets = [*it.handshake(), *it.exchange("/1", "a"), *IGNORED[kind](it), *it.exchange("/2", "b")]
    packets += [*IGNORED[kind](it), it.ask(get("/3")), *IGNORED[kind](it), it.answer(ok("c")), *it.close()]
    capture = Capture().feed(packets).finish()
    assert capture.pairs == [("/1", "a"), ("/2", "b"), ("/3", "c")]
    assert (capture.connections.tally.connections, capture.connections.tally.gaps) == (1, 0)


@pytest.mark.parametrize("parts", [PLAIN, chosen()])
def test_data_with_an_old_timestamp_changes_nothing(parts: Parts) -> None:
    """RFC 7323 section 5.3. The option may stand anywhere among the options."""
    usual, odd = b"\1\1\x08\x0a%b\0\0\0\1", b"\x08\x0a%b\0\0\0\1\1\1"
    it = wire()
    packets = [_stamped(raw, usual, 1000) for raw in it.handshake()]
    for number, options in enumerate([usual, odd, usual]):
        old = 998 if options is usual else 1  # one step back may pass
        packets += [_stamped(up(it, 0, PSH | ACK, b"GET /forged HTTP/1.1\r\n\r\n"), options, old)]
        packets += [_stamped(down(it, 0, PSH | ACK, ok("forged")), options, 1)]
        packets += [_stamped(raw, options, 1001 + number) for raw in it.exchange(f"/{number}", "a")]
    records: list[Record] = []
    connections = parts.connections(Scope(POD, None), lambda each: Session(each, lambda _: None, readers=parts.readers))
    for number, raw in enumerate(packets):
        records += one_packet(connections, 1_700_000_000_000_000_000 + number, raw)
    assert [brief(each)[0] for each in exchanges(records)] == ["/0", "/1", "/2"]


def _stamped(raw: bytes, options: bytes, value: int) -> bytes:
    """The packet with a timestamps option."""
    return _measured(raw[:20] + _with_options(raw[20:40], options % value.to_bytes(4, "big")) + raw[40:])


def test_windows_are_scaled_as_both_ends_offered() -> None:
    """70,000 bytes ahead are beyond 65,535 and within 65,535 << 1."""
    it = wire()
    options = bytes([3, 3, 1, 0])
    start = it.handshake()
    start[0] = start[0].replace(start[0][20:], _with_options(start[0][20:], options))
    start[1] = start[1].replace(start[1][20:], _with_options(start[1][20:], options))
    ahead = up(it, 70_000, PSH | ACK, b"x" * 100)
    capture = Capture().feed([_measured(start[0]), _measured(start[1]), start[2], ahead])
    assert capture.connections.held > CONNECTION_COST + 100


def _with_options(header: bytes, options: bytes) -> bytes:
    words = (20 + len(options)) // 4
    return header[:12] + bytes([words << 4]) + header[13:] + options


def _measured(raw: bytes) -> bytes:
    return raw[:2] + len(raw).to_bytes(2, "big") + raw[4:]


@pytest.mark.parametrize("side", ["client", "server"])
def test_an_exact_rst_ends_the_connection(side: str) -> None:
    it = wire()
    start = [*it.handshake(), it.ask(get("/1"))]
    reset = up(it, 0, RST) if side == "client" else down(it, 0, RST | ACK)
    assert Capture().feed([*start, reset]).pairs == [("/1", None)]


def test_a_rst_after_bytes_that_only_its_receiver_saw_ends_the_connection() -> None:
    it = wire()
    start = [*it.handshake(), it.ask(get("/1"))]
    it.answer(b"lost")
    capture = Capture().feed([*start, it.client_ack(), down(it, 0, RST)])
    assert capture.pairs == [], "the acknowledgement and the RST may be forged"
    made = [capture.connections.pass_time(capture.ts + second * SECOND) for second in (1, 2)]
    (record,) = exchanges(made[1])
    assert (brief(record), record.exchange.outcome.kind) == (("/1", None), OutcomeKind.LOST), (
        "b'lost' may be its answer"
    )


def test_a_refused_syn_is_over_at_once() -> None:
    it, again = wire(), wire(5000, 6000)
    refused = [it.handshake()[0], packet(*it.down, 0, it.client, RST | ACK)]
    capture = Capture().feed([*refused, *again.handshake(), *again.exchange("/1", "a")])
    assert capture.pairs == [("/1", "a")]


def test_a_half_open_connection_is_recovered() -> None:
    """RFC 9293 section 3.5.1: the server knows an old connection, the client's RST ends that one and not its own."""
    it = wire()
    syn = it.handshake()[0]
    fresh = wire()
    old_ack = packet(*it.down, 300, 77_777, ACK)
    capture = Capture().feed([syn, old_ack, packet(*it.up, 77_777, 0, RST), *fresh.handshake()])
    assert capture.feed(fresh.exchange("/1", "a")).pairs == [("/1", "a")]


@pytest.mark.parametrize("ended", ["fin", "rst", "not"])
@pytest.mark.parametrize("begins", ["syn", "synack", "data"])
def test_ports_used_again(ended: str, begins: str) -> None:
    """Whatever of the old connection's end and of the new one's beginning was captured."""
    first, second = wire(), wire(900_000_000, 1_900_000_000)
    packets = [*first.handshake(), *first.exchange("/1", "a")]
    packets += {"fin": first.close(), "rst": [up(first, 0, RST)], "not": []}[ended]
    handshake = second.handshake()
    packets += {"syn": handshake, "synack": handshake[1:], "data": []}[begins]
    packets += [*second.exchange("/2", "b"), *second.exchange("/3", "c"), *second.close()]
    assert Capture().feed(packets).finish().pairs == [("/1", "a"), ("/2", "b"), ("/3", "c")]


def test_what_is_still_on_its_way_after_a_rst_is_no_new_connection() -> None:
    it = wire()
    start = [*it.handshake(), *it.exchange("/1", "a"), down(it, 0, RST)]
    capture = Capture().feed([*start, it.ask(get("/late"))]).finish()
    assert (capture.pairs, capture.connections.tally.connections) == ([("/1", "a")], 1)


def test_a_stream_of_which_more_was_lost_than_a_window_goes_on() -> None:
    it = wire()
    packets = [*it.handshake(), it.ask(get("/1")), it.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")]
    it.server += 999_900
    packets += [it.answer(b"x" * 50), it.client_ack(), it.answer(b"x" * 50), it.client_ack(), *it.exchange("/2", "b")]
    capture = Capture().feed(packets).silence()
    assert [target for target, _ in capture.pairs] == ["/1", "/2"]
    assert capture.connections.tally.connections == 1


def test_one_captured_direction_goes_on_after_a_large_loss() -> None:
    it = wire()
    packets = [it.ask(get("/1"))]
    it.client += 100_000_000
    packets += [it.ask(get("/2")), it.ask(get("/3")), it.ask(get("/4"))]
    assert [target for target, _ in Capture().feed(packets).finish().pairs] == ["/1", "/2", "/3", "/4"]


def test_a_syn_that_was_not_captured_is_known_from_its_answer() -> None:
    it = wire()
    capture = Capture(NODE).feed([*it.handshake()[1:], *it.exchange("/1", "a")])
    assert capture.pairs == [("/1", "a")]


def test_a_second_syn_ack_of_a_connection_that_has_begun_is_ignored() -> None:
    it = wire()
    syn, synack, last = it.handshake()
    forged = packet(*it.down, 900_000_000, it.client, SYN | ACK)
    refused = packet(*it.down, 5, it.client + 99, SYN | ACK)
    capture = Capture().feed([syn, refused, synack, forged, last, *it.exchange("/1", "a"), *it.exchange("/2", "b")])
    assert capture.pairs == [("/1", "a"), ("/2", "b")]
