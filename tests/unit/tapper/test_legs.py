from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import endpoint

from tapper.streams.legs import (
    Candidate,
    Direction,
    Endpoint,
    Numbers,
    Pairing,
    classify,
    endpoints,
    is_redirected,
    may_be_reply,
)


@pytest.mark.parametrize(
    ("client", "server", "on_lo", "both_ways", "direction"),
    [
        ("10.0.0.2:40000", "10.0.0.3:8080", False, True, Direction.NODE),
        ("127.0.0.6:40000", "10.0.0.3:8080", False, True, Direction.NODE),
        ("127.0.0.6:40000", "10.0.0.3:8080", True, True, Direction.INBOUND),
        ("[::6]:40000", "[fd00::3]:8080", True, True, Direction.INBOUND),
        ("127.0.0.1:40000", "127.0.0.1:8080", True, True, Direction.INBOUND),
        ("[::1]:40000", "[::1]:8080", True, True, Direction.INBOUND),
        ("10.0.0.3:40000", "10.0.0.3:8080", True, True, Direction.LOCAL),
        ("10.0.0.3:40000", "127.0.0.1:8080", True, True, Direction.LOCAL),
        ("10.0.0.3:40000", "10.96.0.1:8080", True, False, Direction.OUTBOUND),
        ("10.0.0.3:40000", "127.0.0.1:15001", True, False, Direction.OUTBOUND),
        ("[fd00::3]:40000", "[::1]:15001", True, False, Direction.OUTBOUND),
        ("127.0.0.1:40000", "127.0.0.1:15001", True, True, Direction.OUTBOUND),
    ],
)
def test_the_leg_of_a_connection(client: str, server: str, on_lo: bool, both_ways: bool, direction: Direction) -> None:
    assert classify(endpoint(client), endpoint(server), on_lo=on_lo, both_ways=both_ways) is direction


@pytest.mark.parametrize(
    ("client", "server", "pod", "direction"),
    [
        ("10.0.0.9:40000", "10.0.0.3:8080", "10.0.0.3", Direction.INBOUND),
        ("[fd00::9]:40000", "[fd00::3]:8080", "fd00::3", Direction.INBOUND),
        ("10.0.0.9:40000", "10.0.0.3:8080", None, Direction.INBOUND),
        ("10.0.0.3:40000", "10.0.0.4:8080", "10.0.0.3", Direction.LOCAL),  # to another address of its own
        ("10.0.0.3:40000", "10.0.0.3:8080", "10.0.0.3", Direction.LOCAL),
    ],
)
def test_transparent_interception_delivers_from_the_callers_address(
    client: str, server: str, pod: str | None, direction: Direction
) -> None:
    own = None if pod is None else ip_address(pod).packed
    assert classify(endpoint(client), endpoint(server), on_lo=True, both_ways=True, pod=own) is direction


def test_endpoints_are_spelled_for_people() -> None:
    key = ip_address("fd00::1").packed + ip_address("fd00:0::2").packed + b"\x9c\x40\x1f\x90"
    assert list(map(str, endpoints(key))) == ["[fd00::1]:40000", "[fd00::2]:8080"]
    assert str(endpoint("10.0.0.1:80")) == "10.0.0.1:80"


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("10.0.0.2:40000", "127.0.0.1:15001", True),
        ("10.0.0.2:40000", "127.0.0.1:4140", True),  # Linkerd's, and whatever port a mesh is set to
        ("[fd00::2]:40000", "[::1]:4140", True),
        ("10.0.0.2:40000", "127.0.0.1:15006", True),
        ("127.0.0.1:40000", "127.0.0.1:15001", True),
        ("10.0.0.2:40000", "10.0.0.2:15001", False),
        ("127.0.0.1:40000", "127.0.0.1:8080", False),  # an application that talks to itself
        ("127.0.0.6:40000", "127.0.0.1:8080", False),
        ("[::6]:40000", "[::1]:8080", False),
    ],
)
def test_redirected_halves_go_to_a_loopback_address(source: str, destination: str, expected: bool) -> None:
    assert is_redirected(endpoint(source), endpoint(destination)) is expected


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        ("10.96.0.1:80", "10.0.0.2:40000", True),
        ("10.0.0.2:8080", "10.0.0.2:40000", True),
        ("127.0.0.6:40000", "10.0.0.2:8080", False),
        ("127.0.0.1:8080", "127.0.0.1:40000", False),
        ("127.0.0.1:15001", "10.0.0.2:40000", False),
        ("127.0.0.1:9999", "10.0.0.2:40000", False),
    ],
)
def test_replies_of_redirected_connections_go_to_the_pod(source: str, destination: str, expected: bool) -> None:
    assert may_be_reply(endpoint(source), endpoint(destination)) is expected


POD = endpoint("10.0.0.2:40000")


def waiting(token: str, following: int, ack: int | None, pod: Endpoint = POD) -> Candidate:
    return Candidate(token.encode(), pod, Numbers(following, ack))


def test_a_syn_and_its_synack_pair() -> None:
    pairing = Pairing()
    assert pairing.offer(waiting("A", 1001, None), redirected=True) is None
    assert pairing.offer(waiting("X", 501, 777), redirected=False) is None
    assert pairing.offer(waiting("B", 502, 1001), redirected=False) == b"A"
    assert len(pairing) == 1


@pytest.mark.parametrize("first_is_request", [True, False])
@pytest.mark.parametrize(
    ("request_numbers", "reply_numbers"), [((1500, 900), (1000, 1500)), ((1500, 1000), (1000, 1400))]
)
def test_midstream_halves_pair_when_one_has_received_all_of_the_other(
    request_numbers: tuple[int, int], reply_numbers: tuple[int, int], first_is_request: bool
) -> None:
    pairing = Pairing()
    request, reply = waiting("A", *request_numbers), waiting("B", *reply_numbers)
    if first_is_request:
        assert pairing.offer(request, redirected=True) is None
        assert pairing.offer(reply, redirected=False) == b"A"
    else:
        assert pairing.offer(reply, redirected=False) is None
        assert pairing.offer(request, redirected=True) == b"B"
    assert len(pairing) == 0


def test_halves_pair_although_their_ports_differ() -> None:
    """Three sockets bound to one port: two of them appear with other ports towards 15001, the replies do not."""
    pairing = Pairing()
    for token, port, following in (("A1", 40000, 1001), ("A2", 51111, 2001), ("A3", 52222, 3001)):
        pairing.offer(waiting(token, following, None, Endpoint(POD.address, port)), redirected=True)
    assert pairing.offer(waiting("B3", 91, 3001), redirected=False) == b"A3"
    assert pairing.offer(waiting("B1", 92, 1001), redirected=False) == b"A1"
    assert pairing.offer(waiting("B2", 93, 2001), redirected=False) == b"A2"


def test_the_same_port_comes_first_where_numbers_agree_twice() -> None:
    pairing = Pairing()
    for port in (40001, 40000, 40002):
        pairing.offer(waiting(f"A{port}", 1001, None, Endpoint(POD.address, port)), redirected=True)
    assert pairing.offer(waiting("B", 1, 1001), redirected=False) == b"A40000"


def test_nothing_is_decided_between_equals() -> None:
    pairing = Pairing()
    for port in (40001, 40002):
        pairing.offer(waiting(f"A{port}", 1001, None, Endpoint(POD.address, port)), redirected=True)
    assert pairing.offer(waiting("B", 1, 1001), redirected=False) is None
    assert pairing.offer(waiting("A40001", 1200, 1, Endpoint(POD.address, 40001)), redirected=True) == b"B"


def test_another_address_never_pairs() -> None:
    pairing = Pairing()
    pairing.offer(waiting("A", 1001, None), redirected=True)
    assert pairing.offer(waiting("B", 1, 1001, endpoint("10.0.0.9:40000")), redirected=False) is None


def test_who_waits_no_longer_is_not_found() -> None:
    pairing = Pairing()
    pairing.offer(waiting("A", 1001, None), redirected=True)
    pairing.forget(b"A")
    pairing.forget(b"A")
    assert pairing.offer(waiting("B", 1, 1001), redirected=False) is None
    assert len(pairing) == 1


def test_a_pair_leaves_nothing_behind() -> None:
    pairing = Pairing()
    pairing.offer(waiting("A", 1001, None), redirected=True)
    pairing.offer(waiting("B", 5, 1200), redirected=False)
    assert pairing.offer(waiting("A", 1200, None), redirected=True) == b"B"
    assert len(pairing) == 0


def test_only_the_latest_numbers_count() -> None:
    pairing = Pairing()
    pairing.offer(waiting("A", 1001, None), redirected=True)
    pairing.offer(waiting("A", 1200, None), redirected=True)
    assert pairing.offer(waiting("B", 1, 1001), redirected=False) is None
    assert pairing.offer(waiting("B", 1, 1200), redirected=False) == b"A"
