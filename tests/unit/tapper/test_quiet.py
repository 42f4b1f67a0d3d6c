"""Connections whose end was not captured end when the kernel does not know them any more."""

from __future__ import annotations

import time
from collections.abc import Callable

from tapper_wire import Capture, Wire, brief, exchanges, get

from tapper.namespaces.identity import NamespaceId
from tapper.output.records import Place
from tapper.run.accounts import Account
from tapper.run.quiet import QuietConnections
from tapper.streams.packet import mirror

FIRST, SECOND = NamespaceId(4, 1001), NamespaceId(4, 1002)
LONG_AGO_NS = 400 * 10**9


def pod(port: int = 40000, ago: int = LONG_AGO_NS) -> tuple[Account, bytes]:
    """A pod with one unanswered request, and the key of its connection."""
    wire = Wire((("127.0.0.6", port), ("10.0.0.2", 8080)))
    capture = Capture()
    capture.ts = time.time_ns() - ago
    capture.feed([*wire.handshake(), wire.ask(get(f"/{port}"))])
    (key,) = capture.connections.quiet(time.time_ns() + 1, 10)
    return Account(Place("pod", port, "lo"), capture.connections, capture.connections), key


def knowing(*keys: bytes) -> Callable[[NamespaceId], frozenset[bytes]]:
    return lambda _: frozenset(keys)


def test_a_connection_that_does_not_exist_ends() -> None:
    account, _ = pod()
    checked = QuietConnections(knowing()).check([(FIRST, account)])
    assert checked is not None
    assert (checked[0], [brief(record) for record in exchanges(checked[1])]) == (account, [("/40000", None)])


def test_a_connection_that_exists_goes_on_whichever_direction_the_kernel_names() -> None:
    for direction in (lambda key: key, mirror):
        account, key = pod()
        assert QuietConnections(knowing(direction(key))).check([(FIRST, account)]) == (account, [])


def test_connections_go_on_where_the_kernel_cannot_be_asked() -> None:
    account, _ = pod()
    assert QuietConnections(lambda _: None).check([(FIRST, account)]) == (account, [])


def test_a_busy_pod_is_not_checked() -> None:
    account, _ = pod(ago=10**9)
    assert QuietConnections(knowing()).check([(FIRST, account)]) is None


def test_pods_take_turns() -> None:
    """One pod a call; a round ends when all had their turn."""
    (first, key), (second, other) = pod(), pod(41000)
    quiet = QuietConnections(knowing(key, other))
    pods = [(FIRST, first), (SECOND, second)]
    turns = [quiet.check(pods) for _ in range(4)]
    assert turns == [(first, []), (second, []), None, (first, [])]
