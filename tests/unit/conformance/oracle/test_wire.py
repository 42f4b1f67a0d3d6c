"""Frames become connections, whatever a network does to their segments; what cannot be known for certain is told."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from oracle_world import START_NS, STEP_NS, pod

from harness.conformance import disturb, strays
from harness.conformance.oracle import wire
from harness.conformance.oracle.model import TcpConnection
from harness.conformance.oracle.wire import connections
from harness.conformance.strays import ACK, FAR, FIN, PSH, RST, SYN, Stray
from harness.mesh import replay
from harness.sandbox.frames import Frame

SERVER = pod(1)
LEG = replay.inbound(SERVER, 8080)
ASKED, ANSWERED = disturb.filler(1, 3000), disturb.filler(2, 5000)
WHOLE = replay.conversation(LEG, [(ASKED, ANSWERED)], mss=200)


def crossed(frames: Sequence[bytes]) -> list[TcpConnection]:
    return connections(Frame(START_NS + number * STEP_NS, data) for number, data in enumerate(frames))


def test_a_connection_has_its_ends_bytes_and_times() -> None:
    (connection,) = crossed(WHOLE)
    assert (connection.client, connection.server) == (("127.0.0.6", 40001), ("10.244.0.1", 8080))
    assert (connection.requests.data, connection.responses.data) == (ASKED, ANSWERED)
    assert connection.flaw == ""
    assert not connection.disordered
    assert connection.began_ns == START_NS
    assert connection.requests.time_of(0) == START_NS + 3 * STEP_NS
    assert connection.requests.time_of(199) == START_NS + 3 * STEP_NS
    assert connection.requests.time_of(200) == START_NS + 4 * STEP_NS
    assert connection.responses.time_of(4999) == START_NS + (3 + 15 + 24) * STEP_NS
    assert connection.responses.ended_ns == START_NS + (len(WHOLE) - 2) * STEP_NS


@pytest.mark.parametrize("ipv6", [False, True])
def test_a_redirected_connection_is_one(ipv6: bool) -> None:
    destination = ("fd00:96::1", 80) if ipv6 else ("10.96.77.10", 80)
    (connection,) = crossed(replay.conversation(replay.outbound(SERVER, destination), [(ASKED, ANSWERED)]))
    assert connection.server[1] == 15001
    assert connection.replies_from == destination
    assert (connection.requests.data, connection.responses.data) == (ASKED, ANSWERED)
    assert connection.flaw == ""


def shuffled(frames: list[bytes]) -> list[bytes]:
    midst = frames[3:-3]
    random.Random(7).shuffle(midst)
    return [*frames[:3], *midst, *frames[-3:]]


@pytest.mark.parametrize(
    "change", [disturb.reordered, disturb.repeated, disturb.overlapping, shuffled], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("start", [1_000, 2**32 - 1_000])
def test_disorder_changes_no_byte(change: Callable[[list[bytes]], list[bytes]], start: int) -> None:
    frames = replay.conversation(LEG, [(ASKED, ANSWERED)], mss=200, client_isn=start, server_isn=start)
    (connection,) = crossed(change(frames))
    assert (connection.requests.data, connection.responses.data) == (ASKED, ANSWERED)
    assert connection.flaw == ""
    assert connection.disordered


def test_what_is_lost_is_told() -> None:
    (connection,) = crossed([*WHOLE[:10], *WHOLE[11:]])
    assert connection.flaw == wire.MISSING_BYTES


def test_a_connection_without_its_beginning_is_told() -> None:
    (connection,) = crossed(WHOLE[3:])
    assert connection.flaw == wire.NO_HANDSHAKE
    assert (connection.requests.data, connection.responses.data) == (ASKED, ANSWERED)


def test_two_versions_of_the_same_bytes_are_told() -> None:
    other = replay.conversation(LEG, [(ASKED.upper().replace(b"1", b"7"), ANSWERED)], mss=200)
    (connection,) = crossed([*WHOLE[:6], other[5], *WHOLE[6:]])
    assert connection.flaw == wire.TWO_VERSIONS
    assert connection.requests.data == ASKED


def test_the_same_ends_and_other_numbers_are_another_connection() -> None:
    several = [
        replay.conversation(LEG, [(ASKED, ANSWERED)], close=close, client_isn=7 + close) for close in (True, False)
    ]
    assert [each.flaw for each in crossed([*several[0], *several[1]])] == ["", ""]
    again = crossed([*several[0], *several[0]])
    assert [each.flaw for each in again] == ["", wire.SAME_NUMBERS]


def test_a_keep_alive_is_no_other_version() -> None:
    probe = replay.conversation(LEG, [(ASKED[:-1] + b"\0", b"")], mss=1, close=False)[3 + len(ASKED) - 1]
    (connection,) = crossed([*WHOLE[:-3], probe, *WHOLE[-3:]])
    assert connection.flaw == ""
    assert connection.requests.data == ASKED


def test_packets_that_are_no_tcp_are_passed_over() -> None:
    chance = random.Random(7)
    noise = [chance.randbytes(chance.randrange(100)) for _ in range(200)]
    cut = [frame[: chance.randrange(50)] for frame in WHOLE[:50]]
    assert len(crossed([*WHOLE, *noise, *cut])) >= 1
    assert crossed([*WHOLE, *noise])[0].responses.data == ANSWERED


def test_nothing_that_can_cross_breaks_the_reading() -> None:
    chance = random.Random(8)
    for _ in range(300):
        frames = list(WHOLE)
        for _ in range(5):
            at = chance.randrange(len(frames))
            flipped = bytearray(frames[at])
            flipped[chance.randrange(14, len(flipped))] = chance.randrange(256)
            frames[at] = bytes(flipped)
        crossed(frames)


STRAYS: dict[str, Stray] = {
    "RST": lambda at: at.from_client(RST, seq=FAR),
    "FIN": lambda at: at.from_server(FIN | ACK, seq=FAR),
    "SYN": lambda at: at.from_client(SYN, seq=FAR),
    "second SYN-ACK": lambda at: at.from_server(SYN | ACK, seq=FAR, ack=at.client_isn + 1 - at.client),
    "bytes ahead": lambda at: at.from_client(PSH | ACK, b"stray", seq=FAR),
    "bytes behind": lambda at: at.from_server(PSH | ACK, b"stray", seq=-FAR),
    "bytes that acknowledge what was never sent": lambda at: at.from_client(PSH | ACK, b"stray", ack=FAR),
}


@pytest.mark.parametrize("kind", STRAYS)
def test_what_a_receiver_does_not_take_is_no_part_of_a_connection(kind: str) -> None:
    (connection,) = crossed(strays.between(LEG, [(ASKED, ANSWERED), (ASKED, ANSWERED)], [STRAYS[kind]] * 4))
    assert (connection.requests.data, connection.responses.data) == (ASKED * 2, ANSWERED * 2)
    assert connection.flaw == ""
    assert not connection.reset


def test_segments_with_a_wrong_checksum_are_passed_over() -> None:
    true = [Frame(START_NS + number, data) for number, data in enumerate(WHOLE)]
    wrong = Frame(START_NS + 4, strays.refused(WHOLE[4]), refused=True)
    other = Frame(START_NS + 4, true[4].data.replace(ASKED[210:220], b"x" * 10), refused=True)
    (connection,) = connections([*true[:4], wrong, other, *true[4:]])
    assert (connection.requests.data, connection.flaw) == (ASKED, "")
    assert connections([replace(frame, refused=True) for frame in true]) == []


def test_a_syn_within_a_connection_begins_another_one_once_it_is_answered() -> None:
    first = replay.conversation(LEG, [(ASKED, ANSWERED)], close=False, client_isn=1_000)
    second = replay.conversation(LEG, [(b"later", b"on")], client_isn=1_500_000_000, server_isn=9)
    for after_the_syn in (second, [second[0], *second[2:]]):
        found = crossed([*first, *after_the_syn])
        assert [each.requests.data for each in found] == [ASKED, b"later"]
        assert found[0].responses.data == ANSWERED
