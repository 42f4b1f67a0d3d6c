"""Halves that wait on a pod's lo, and whose end of a packet is the pod's own."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, endpoint, get

from tapper.streams.legs import Endpoint, own_end
from tapper.streams.packet import TcpSegment
from tapper.streams.pairing import PendingHalves, as_arrived


def data(ts: int, seq: int, ack: int, payload: bytes) -> TcpSegment:
    return TcpSegment(ts, 1, seq, ack, 0x18, 1000, None, b"", payload)


POD = endpoint("10.0.0.2:40000")


def test_what_waits_is_held_until_it_leaves() -> None:
    """By the halves, and by the source whose bounds it counts towards."""
    halves = PendingHalves()
    waiting = halves.add(b"a", POD, redirected=True)
    assert halves.take(waiting, data(1, 100, 0, b"x" * 1000)) is None
    assert (halves.held >= 1000, len(halves), halves.get(b"a"), halves.oldest) == (True, 1, waiting, waiting)
    halves.remove(waiting)
    assert (halves.held, len(halves), halves.get(b"a")) == (0, 0, None)

    capture = Capture().feed([Wire((("10.0.0.2", 5000), ("127.0.0.1", 15001))).ask(get("/" + "x" * 1000))])
    assert capture.connections.held >= 1000
    assert capture.finish().connections.held == 0


def test_halves_that_belong_together_leave_and_keep_the_order_of_arrival() -> None:
    """Request and reply, whichever came last; their packets as they came, not one half after the other."""
    halves = PendingHalves()
    reply = halves.add(b"reply", POD, redirected=False)
    request = halves.add(b"request", POD, redirected=True)
    assert halves.take(reply, data(1, 500, 90, b"early")) is None
    assert halves.take(request, data(2, 100, 480, b"ask")) is None
    assert halves.take(request, data(3, 103, 480, b"more")) is None
    assert halves.take(reply, data(4, 505, 107, b"answer")) == (request, reply)
    assert (len(halves), halves.held) == (0, 0)
    assert [(side, segment.payload) for side, segment in as_arrived(request, reply)] == [
        (1, b"early"),
        (0, b"ask"),
        (0, b"more"),
        (1, b"answer"),
    ]


@pytest.mark.parametrize(
    ("source", "destination", "own"),
    [
        ("10.0.0.2", "127.0.0.1", "10.0.0.2"),
        ("10.96.0.10", "10.0.0.2", "10.0.0.2"),
        ("127.0.0.6", "10.0.0.2", "10.0.0.2"),
        ("10.0.0.2", "127.0.0.6", "10.0.0.2"),
        ("fd00::2", "::6", "fd00::2"),
        ("::6", "fd00::2", "fd00::2"),
        ("fd00::2", "::1", "fd00::2"),
    ],
)
def test_whose_end_is_the_pods(source: str, destination: str, own: str) -> None:
    ends = [Endpoint(ip_address(address).packed, port) for port, address in enumerate((source, destination))]
    assert own_end(*ends).address == ip_address(own).packed


def numbers(following: int, ack: int | None) -> TcpSegment:
    """A segment after which a half has these numbers; without `ack` a first SYN."""
    flags, payload = (0x02, b"") if ack is None else (0x10, b"x")
    return TcpSegment(1, 1, following - 1, ack or 0, flags, 1000, None, b"", payload)


class Pairing:
    """Halves by name, and what their segments show."""

    def __init__(self) -> None:
        self.halves = PendingHalves()

    def offer(self, name: str, following: int, ack: int | None, pod: Endpoint = POD, *, redirected: bool) -> str | None:
        """The name of the other half, if this segment shows it."""
        key = name.encode()
        half = self.halves.get(key) or self.halves.add(key, pod, redirected=redirected)
        pair = self.halves.take(half, numbers(following, ack))
        if pair is None:
            return None
        assert half in pair
        request, reply = pair
        assert (request.redirected, reply.redirected) == (True, False)
        return (reply if redirected else request).key.decode()

    def __len__(self) -> int:
        return len(self.halves)


def test_a_syn_and_its_synack_pair() -> None:
    pairing = Pairing()
    assert pairing.offer("A", 1001, None, redirected=True) is None
    assert pairing.offer("X", 501, 777, redirected=False) is None
    assert pairing.offer("B", 502, 1001, redirected=False) == "A"
    assert len(pairing) == 1


@pytest.mark.parametrize("first_is_request", [True, False])
@pytest.mark.parametrize(
    ("request_numbers", "reply_numbers"), [((1500, 900), (1000, 1500)), ((1500, 1000), (1000, 1400))]
)
def test_midstream_halves_pair_when_one_has_received_all_of_the_other(
    request_numbers: tuple[int, int], reply_numbers: tuple[int, int], first_is_request: bool
) -> None:
    pairing = Pairing()
    if first_is_request:
        assert pairing.offer("A", *request_numbers, redirected=True) is None
        assert pairing.offer("B", *reply_numbers, redirected=False) == "A"
    else:
        assert pairing.offer("B", *reply_numbers, redirected=False) is None
        assert pairing.offer("A", *request_numbers, redirected=True) == "B"
    assert len(pairing) == 0


def test_halves_pair_although_their_ports_differ() -> None:
    """Three sockets bound to one port: two of them appear with other ports towards 15001, the replies do not."""
    pairing = Pairing()
    for token, port, following in (("A1", 40000, 1001), ("A2", 51111, 2001), ("A3", 52222, 3001)):
        pairing.offer(token, following, None, Endpoint(POD.address, port), redirected=True)
    assert pairing.offer("B3", 91, 3001, redirected=False) == "A3"
    assert pairing.offer("B1", 92, 1001, redirected=False) == "A1"
    assert pairing.offer("B2", 93, 2001, redirected=False) == "A2"


def test_the_same_port_comes_first_where_numbers_agree_twice() -> None:
    pairing = Pairing()
    for port in (40001, 40000, 40002):
        pairing.offer(f"A{port}", 1001, None, Endpoint(POD.address, port), redirected=True)
    assert pairing.offer("B", 1, 1001, redirected=False) == "A40000"


def test_nothing_is_decided_between_equals() -> None:
    pairing = Pairing()
    for port in (40001, 40002):
        pairing.offer(f"A{port}", 1001, None, Endpoint(POD.address, port), redirected=True)
    assert pairing.offer("B", 1, 1001, redirected=False) is None
    assert pairing.offer("A40001", 1200, 1, Endpoint(POD.address, 40001), redirected=True) == "B"


def test_another_address_never_pairs() -> None:
    pairing = Pairing()
    pairing.offer("A", 1001, None, redirected=True)
    assert pairing.offer("B", 1, 1001, endpoint("10.0.0.9:40000"), redirected=False) is None


def test_who_waits_no_longer_is_not_found() -> None:
    pairing = Pairing()
    pairing.offer("A", 1001, None, redirected=True)
    waiting = pairing.halves.get(b"A")
    assert waiting is not None
    pairing.halves.remove(waiting)
    assert pairing.offer("B", 1, 1001, redirected=False) is None
    assert len(pairing) == 1


def test_a_pair_leaves_nothing_behind() -> None:
    pairing = Pairing()
    pairing.offer("A", 1001, None, redirected=True)
    pairing.offer("B", 5, 1200, redirected=False)
    assert pairing.offer("A", 1200, None, redirected=True) == "B"
    assert len(pairing) == 0


def test_only_the_latest_numbers_count() -> None:
    pairing = Pairing()
    pairing.offer("A", 1001, None, redirected=True)
    pairing.offer("A", 1200, None, redirected=True)
    assert pairing.offer("B", 1, 1001, redirected=False) is None
    assert pairing.offer("B", 1, 1200, redirected=False) == "A"
