"""IP packets in fragments: put together as Linux does, within bounds, and what is given up is counted."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.l2 import Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw
from tapper_wire import Capture, Wire, ok

from tapper.streams.bounds import SECOND, Limits
from tapper.streams.decapsulation import innermost_ends

BODY = "".join(chr(97 + number % 26) for number in range(3000))
FOUR = (("10.0.0.3", 40000), ("10.0.0.2", 8080))
SIX = (("fd00::3", 40000), ("fd00::2", 8080))
POST = b"POST /frag HTTP/1.1\r\nHost: a\r\nContent-Length: 3000\r\n\r\n" + BODY.encode()


def split(raw: bytes, size: int = 800, identification: int = 7) -> list[bytes]:
    """The fragments of a packet, with so many bytes of payload each."""
    if raw[0] >> 4 == 4:
        packet = IP(raw)
        packet.id = identification
        return [bytes(part) for part in fragment(packet, size)]
    payload = raw[40:]
    return [
        fragment_of(raw, payload[at : at + size], at | (at + size < len(payload)), identification)
        for at in range(0, len(payload), size)
    ]


def fragment_of(raw: bytes, data: bytes, offset_and_more: int, identification: int) -> bytes:
    """A fragment of an IPv6 packet."""
    header = struct.pack("!BBHI", raw[6], 0, offset_and_more, identification)
    return raw[:4] + struct.pack("!HB", len(header) + len(data), 44) + raw[7:40] + header + data


def wire(up: tuple[tuple[str, int], tuple[str, int]] = FOUR) -> tuple[Wire, Capture]:
    """A connection, and a capture that has seen it begin."""
    made = Wire(up)
    return made, Capture().feed(made.handshake())


def passed_over(capture: Capture) -> dict[str, int]:
    return capture.finish().connections.tally.passed_over


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("order", ["as sent", "backwards", "at random", "each twice"])
def test_a_request_in_fragments(ends: tuple[tuple[str, int], tuple[str, int]], order: str) -> None:
    sent, capture = wire(ends)
    fragments = split(sent.ask(POST))
    assert len(fragments) == 4
    if order == "backwards":
        fragments.reverse()
    elif order == "at random":
        random.Random(5).shuffle(fragments)
    elif order == "each twice":
        fragments = [part for part in fragments for _ in range(2)][:-1]
    capture.feed([*fragments, sent.answer(ok("y")), *sent.close()]).finish()
    (record,) = capture.seen
    assert record.exchange.request is not None
    assert record.exchange.request.end.body.decode() == BODY
    assert capture.pairs == [("/frag", "y")]
    assert passed_over(capture) == {}


def test_an_atomic_fragment_is_a_whole_packet() -> None:
    """RFC 6946."""
    sent, capture = wire(SIX)
    raw = sent.ask(b"GET /a HTTP/1.1\r\n\r\n")
    assert capture.feed([fragment_of(raw, raw[40:], 0, 3), sent.answer(ok("y"))]).finish().pairs == [("/a", "y")]


def test_a_tunnel_in_fragments() -> None:
    sent, capture = wire()
    outer = IP(src="192.0.2.1", dst="192.0.2.2") / UDP(dport=4789) / VXLAN(flags=8) / Ether(type=0x0800)
    fragments = split(bytes(outer / Raw(sent.ask(POST))))
    assert capture.feed([*fragments, sent.answer(ok("y"))]).finish().pairs == [("/frag", "y")]


def test_fragments_in_a_tunnel() -> None:
    sent, capture = wire()
    fragments = [bytes(IP(dst="192.0.2.2", proto=4) / Raw(part)) for part in split(sent.ask(POST))]
    assert capture.feed([*fragments, sent.answer(ok("y"))]).finish().pairs == [("/frag", "y")]


def test_what_has_no_rest_is_counted_at_the_end() -> None:
    sent, capture = wire()
    capture.feed([*split(sent.ask(POST))[:-1], sent.answer(ok("y"))])
    assert passed_over(capture) == {"incomplete IP fragments": 3}
    assert [response for _, response in capture.pairs] == ["y"]


def test_fragments_wait_for_thirty_seconds_of_the_packets_time() -> None:
    for seconds, seen in ((29, "/frag"), (31, None)):
        sent, capture = wire()
        first, *rest = split(sent.ask(POST))
        capture.feed([first])
        capture.ts += seconds * SECOND
        capture.feed([*rest, sent.answer(ok("y"))]).finish()
        assert capture.pairs == [(seen, "y")]
        assert passed_over(capture) == ({} if seen else {"incomplete IP fragments": 4})


def overlapping(raw: bytes, shift: int) -> list[bytes]:
    """The fragments of a packet, and before the last one a fragment that begins `shift` bytes into the first, with
    other bytes."""
    fragments = split(raw)
    if raw[0] >> 4 == 4:
        lie = fragments[0][:6] + struct.pack("!H", 0x2000 | shift // 8) + fragments[0][8:20] + b"z" * 800
    else:
        lie = fragments[0][:42] + struct.pack("!H", shift | 1) + fragments[0][44:48] + b"z" * 800
    return [*fragments[:1], lie, *fragments[1:]]


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
def test_overlapping_fragments_discard_the_packet(ends: tuple[tuple[str, int], tuple[str, int]]) -> None:
    """RFC 5722, and Linux for IPv4, too: nobody reads such a packet."""
    sent, capture = wire(ends)
    raw = sent.ask(POST)
    capture.feed(overlapping(raw, 400)).finish()
    assert capture.seen == []
    told = passed_over(capture)
    assert told["contradictory IP fragments"] >= 2
    assert sum(told.values()) == 5


def test_a_repetition_of_known_bytes_changes_nothing() -> None:
    """As Linux: the bytes that came first count."""
    sent, capture = wire()
    raw = sent.ask(POST)
    capture.feed([*overlapping(raw, 0), sent.answer(ok("y"))]).finish()
    (record,) = capture.seen
    assert record.exchange.request is not None
    assert record.exchange.request.end.body.decode() == BODY


@pytest.mark.parametrize(
    ("flags_and_offset", "size"),
    [
        (0x2000 | 8191, 800),  # leads over 65,535 bytes
        (0x0001, 800),  # the last one, before others
        (0x2000 | 500, 800),  # behind the last one
        (0x2001, 0),
    ],
)
def test_fragments_that_contradict_the_packets_length(flags_and_offset: int, size: int) -> None:
    sent, capture = wire()
    fragments = split(sent.ask(POST))
    lie = fragments[0][:2] + struct.pack("!HHH", 20 + size, 7, flags_and_offset) + fragments[0][8:20] + b"z" * size
    capture.feed([fragments[0], *fragments[2:], lie, fragments[1]])
    assert passed_over(capture)["contradictory IP fragments"] == 4
    assert capture.seen == []


def test_a_fragment_that_the_capture_cut_is_counted() -> None:
    sent, capture = wire()
    first, *rest = split(sent.ask(POST))
    capture.feed([first[:-5], *rest])
    assert passed_over(capture) == {"IP fragments captured in part only": 1, "incomplete IP fragments": 3}


def test_memory_is_bounded_and_the_oldest_packet_goes_first() -> None:
    sent = Wire(FOUR)
    raw = sent.ask(POST)
    capture = Capture(limits=Limits(fragment_bytes=20_000))
    capture.feed(split(raw, identification=number)[0] for number in range(100))
    last = split(raw, identification=99)
    capture.feed([*last[1:], sent.answer(ok("y"))]).silence()
    told = passed_over(capture)
    assert told["IP fragments over the memory bound"] > 80
    assert sum(told.values()) == 99
    assert capture.pairs == [("/frag", "y")]


def test_what_waits_is_held_by_the_source_and_given_up_first() -> None:
    sent, capture = wire()
    before = capture.connections.held
    fragments = split(sent.ask(POST))
    capture.feed(fragments[:-1])
    held = capture.connections.held
    assert held - before > 2400
    capture.connections.relieve(held)
    assert capture.connections.held == held
    capture.connections.relieve(held - 1)
    assert capture.connections.held == before
    assert passed_over(capture) == {"IP fragments over the memory bound": 3}


def test_nothing_is_held_once_a_packet_is_whole() -> None:
    sent, capture = wire()
    before = capture.connections.held
    capture.feed([*split(sent.ask(POST)), sent.answer(ok("y"))])
    assert capture.connections.held == before


def test_small_fragments_cost_what_they_take() -> None:
    """Python's objects take more than the eight bytes that are in such a fragment."""
    capture = Capture(limits=Limits(fragment_bytes=50_000))
    fragments = split(Wire(FOUR).ask(POST), 8)
    assert len(fragments) > 300
    capture.feed(fragments[:-1])
    assert passed_over(capture)["IP fragments over the memory bound"] >= 200


@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_any_order_and_any_loss(order: list[int], lost: set[int]) -> None:
    """All fragments give the packet, in any order; without one of them nothing comes out."""
    sent = Wire(FOUR)
    raw = sent.ask(b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 100))
    fragments = split(raw, 24)
    capture = Capture().feed(fragments[index] for index in order if index < len(fragments) and index not in lost)
    complete = not lost & set(range(len(fragments)))
    assert [target for target, _ in capture.finish().pairs] == (["/" + "x" * 100] if complete else [])


def test_of_a_packet_for_a_file_the_innermost_ends_are_told() -> None:
    raw = Wire(FOUR).ask(POST)
    ends = bytes([10, 0, 0, 3, 10, 0, 0, 2])
    assert innermost_ends(raw, 0, len(raw)) == ends
    for part in split(raw):
        assert innermost_ends(part, 0, len(part)) == ends
        inside = bytes(IP(dst="192.0.2.2", proto=4) / Raw(part))
        assert innermost_ends(inside, 0, len(inside)) == ends
    other = bytes(IP() / UDP())
    assert innermost_ends(other, 0, len(other)) == b""
