"""Where connections lead and what they carry: found at once, forgotten whole."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from tapper.streams.connection import Connection, Scope, Wire
from tapper.streams.packet import mirror
from tapper.streams.places import Places, ends

CLIENT, SERVER = "10.0.0.3", "10.0.0.2"


def key_of(client: str = CLIENT, server: str = SERVER, port: int = 40000) -> bytes:
    addresses = ip_address(client).packed + ip_address(server).packed
    return addresses + port.to_bytes(2, "big") + (8080).to_bytes(2, "big")


def connection_of(key: bytes) -> Connection[None]:
    return Connection(Scope(None, None), key, mirror(key), 0, 1, 1000)


def counts(places: Places[None], place: bytes) -> dict[Wire | None, int]:
    return {kind: len(there) for kind, there in places.at(place).items()}


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), ("fd00::3", "fd00::2")])
@pytest.mark.parametrize("opener", [0, 1, None])
def test_found_by_ends_by_client_and_by_both(client: str, server: str, opener: int | None) -> None:
    places: Places[None] = Places()
    asked, answered = key_of(client, server), mirror(key_of(client, server))
    key = answered if opener == 1 else asked
    places.add(connection_of(key), key, opener)
    ours, theirs = ends(asked)
    for place in (ours, theirs, ours[:-2], ours[:-2] + theirs):
        assert counts(places, place) == {None: 1}, place
    for place in (theirs[:-2], theirs[:-2] + ours):  # the server's address, were it a client's
        assert counts(places, place) == ({None: 1} if opener is None else {}), place


def test_kinds_are_counted_as_they_are_found_out() -> None:
    places: Places[None] = Places()
    each = [connection_of(key_of(port=port)) for port in range(5)]
    for port, connection in enumerate(each):
        places.add(connection, key_of(port=port), 0)
    server = ends(key_of())[1]
    for connection in each[:3]:
        connection.carries(Wire.TLS)
        connection.carries(Wire.TLS)
    assert counts(places, server) == {None: 2, Wire.TLS: 3}
    each[3].carries(Wire.PLAIN)
    each[4].carries(Wire.PLAIN)
    each[4].carries(Wire.TLS)  # as after STARTTLS
    assert counts(places, server) == {Wire.TLS: 4, Wire.PLAIN: 1}
    assert list(places.at(server)[Wire.TLS]) == [*each[:3], each[4]]


def test_what_is_removed_is_nowhere_under_no_key() -> None:
    places: Places[None] = Places()
    dialled, received = key_of(server="10.96.0.9"), key_of()
    connection, other = connection_of(dialled), connection_of(key_of(port=2))
    places.add(connection, dialled, 0)
    places.add(other, key_of(port=2), 0)
    connection.carries(Wire.PLAIN)
    places.add(connection, received, 0)
    assert counts(places, ends(received)[1]) == {None: 1, Wire.PLAIN: 1}
    places.remove(connection)
    connection.carries(Wire.TLS)
    assert counts(places, ends(received)[1]) == {None: 1}
    assert not places.at(ends(dialled)[1])
    places.remove(other)
    places.remove(other)
    assert (places._at, places._places) == ({}, {})
