"""Where connections lead and what they carry: found at once, forgotten whole."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tapper.streams.bounds import Budget
from tapper.streams.connection import Connection, Scope, WireSecurity
from tapper.streams.endpoint_index import EndpointIndex
from tapper.streams.legs import endpoints
from tapper.streams.packet import mirror

CLIENT, SERVER = "10.0.0.3", "10.0.0.2"


def key_of(client: str = CLIENT, server: str = SERVER, port: int = 40000) -> bytes:
    addresses = ip_address(client).packed + ip_address(server).packed
    return addresses + port.to_bytes(2, "big") + (8080).to_bytes(2, "big")


def connection_of(key: bytes) -> Connection[None]:
    return Connection(Scope(None, None), key, mirror(key), 0, 1, Budget())


def counts(index: EndpointIndex[None], place: bytes) -> dict[WireSecurity | None, int]:
    return {kind: len(there) for kind, there in index.at(place).items()}


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), ("fd00::3", "fd00::2")])
@pytest.mark.parametrize("opener", [0, 1, None])
def test_found_by_ends_by_client_and_by_both(client: str, server: str, opener: int | None) -> None:
    index: EndpointIndex[None] = EndpointIndex()
    asked, answered = key_of(client, server), mirror(key_of(client, server))
    key = answered if opener == 1 else asked
    index.add(connection_of(key), key, opener)
    ours, theirs = endpoints(asked)
    for place in (ours.packed, theirs.packed, ours.address, ours.address + theirs.packed):
        assert counts(index, place) == {None: 1}, place
    for place in (theirs.address, theirs.address + ours.packed):  # the server's address as that of a client
        assert counts(index, place) == ({None: 1} if opener is None else {}), place


def test_kinds_are_counted_as_they_are_found_out() -> None:
    index: EndpointIndex[None] = EndpointIndex()
    each = [connection_of(key_of(port=port)) for port in range(5)]
    for port, connection in enumerate(each):
        index.add(connection, key_of(port=port), 0)
    server = endpoints(key_of())[1].packed
    for connection in each[:3]:
        connection.set_wire(WireSecurity.TLS)
        connection.set_wire(WireSecurity.TLS)
    assert counts(index, server) == {None: 2, WireSecurity.TLS: 3}
    each[3].set_wire(WireSecurity.PLAIN)
    each[4].set_wire(WireSecurity.PLAIN)
    each[4].set_wire(WireSecurity.TLS)  # as after STARTTLS
    assert counts(index, server) == {WireSecurity.TLS: 4, WireSecurity.PLAIN: 1}
    assert list(index.at(server)[WireSecurity.TLS]) == [*each[:3], each[4]]


def test_what_is_removed_is_nowhere_under_no_key() -> None:
    index: EndpointIndex[None] = EndpointIndex()
    dialled, received = key_of(server="10.96.0.9"), key_of()
    connection, other = connection_of(dialled), connection_of(key_of(port=2))
    index.add(connection, dialled, 0)
    index.add(other, key_of(port=2), 0)
    connection.set_wire(WireSecurity.PLAIN)
    index.add(connection, received, 0)
    assert counts(index, endpoints(received)[1].packed) == {None: 1, WireSecurity.PLAIN: 1}
    index.remove(connection)
    connection.set_wire(WireSecurity.TLS)
    assert counts(index, endpoints(received)[1].packed) == {None: 1}
    assert not index.at(endpoints(dialled)[1].packed)
    index.remove(other)
    index.remove(other)
    assert len(index) == 0
    places = [end.packed for key in (dialled, received, key_of(port=2)) for end in endpoints(key)]
    assert not any(index.at(place) for place in [*places, *(place[:-2] for place in places)])
