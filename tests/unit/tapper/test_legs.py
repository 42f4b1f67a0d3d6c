from __future__ import annotations

from ipaddress import ip_address

import pytest
from tapper_wire import endpoint

from tapper.streams.legs import (
    Direction,
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
