"""Halves that wait on a pod's lo, and whose end of a packet is the pod's own."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import Capture, Wire, get

from tapper.streams.connection import HeldSegment
from tapper.streams.legs import Endpoint, own_end
from tapper.streams.waiting import WaitingRoom, as_arrived


def data(ts: int, seq: int, ack: int, payload: bytes) -> HeldSegment:
    return HeldSegment(ts, 1, seq, ack, 0x18, 1000, None, payload)


POD = Endpoint(ip_address("10.0.0.2").packed, 5000)


def test_what_waits_is_held_until_it_leaves() -> None:
    """By the room, and by the source whose bounds it counts towards."""
    room = WaitingRoom()
    waiting = room.enter(b"a", POD, redirected=True)
    assert room.take(waiting, data(1, 100, 0, b"x" * 1000)) is None
    assert (room.held >= 1000, len(room), room.get(b"a"), room.oldest) == (True, 1, waiting, waiting)
    room.leave(waiting)
    assert (room.held, len(room), room.get(b"a")) == (0, 0, None)

    capture = Capture().feed([Wire((("10.0.0.2", 5000), ("127.0.0.1", 15001))).ask(get("/" + "x" * 1000))])
    assert capture.connections.held >= 1000
    assert capture.finish().connections.held == 0


def test_halves_that_belong_together_leave_and_keep_the_order_of_arrival() -> None:
    """Request and reply, whichever came last; their packets as they came, not one half after the other."""
    room = WaitingRoom()
    reply = room.enter(b"reply", POD, redirected=False)
    request = room.enter(b"request", POD, redirected=True)
    assert room.take(reply, data(1, 500, 90, b"early")) is None
    assert room.take(request, data(2, 100, 480, b"ask")) is None
    assert room.take(request, data(3, 103, 480, b"more")) is None
    assert room.take(reply, data(4, 505, 107, b"answer")) == (request, reply)
    assert (len(room), room.held) == (0, 0)
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
