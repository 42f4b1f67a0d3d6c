"""An index of a source's connections by their endpoints, and there by what they carry.

The wire verdict asks whether any connection to an endpoint is TLS or plaintext. With one entry for each kind it need
not look at every connection.
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

from tapper.streams.connection import Connection, WireSecurity
from tapper.streams.legs import endpoints

T = TypeVar("T")

ByWire: TypeAlias = dict[WireSecurity | None, dict[Connection[T], None]]
"""The connections at one place, in order of appearance, by what they carry. Without empty entries."""


class EndpointIndex(Generic[T]):
    """A place is bytes in network byte order: an address and a port, or a client's address, or a client's address and
    then its server's address and port."""

    def __init__(self) -> None:
        self._at: dict[bytes, ByWire[T]] = {}
        self._places: dict[Connection[T], dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, connection: Connection[T], key: bytes, client: int | None) -> None:
        """Index a connection by a key: its own, or the key of a translated copy of it. `client` is 0 where the key's
        source is the client, 1 where its destination is, None where that is not known."""
        places = self._places.setdefault(connection, {})
        connection.on_wire_change = self._move
        source, destination = endpoints(key)
        new = [source.packed, destination.packed]
        if client != 1:
            new += (source.address, source.address + destination.packed)
        if client != 0:
            new += (destination.address, destination.address + source.packed)
        for place in new:
            places[place] = None
            self._at.setdefault(place, {}).setdefault(connection.wire, {})[connection] = None

    def remove(self, connection: Connection[T]) -> None:
        connection.on_wire_change = None
        for place in self._places.pop(connection, ()):
            self._take_away(place, connection, connection.wire)
            if not self._at[place]:
                del self._at[place]

    def at(self, place: bytes) -> ByWire[T]:
        """The connections at a place, by their own addresses or by translated ones: connections on the node's
        interfaces, or a pod's connections to its own inbound listener. The caller must not change the result."""
        return self._at.get(place, {})

    def _move(self, connection: Connection[T], before: WireSecurity | None) -> None:
        """A connection turned out to carry something else than before."""
        for place in self._places[connection]:
            self._take_away(place, connection, before)
            self._at[place].setdefault(connection.wire, {})[connection] = None

    def _take_away(self, place: bytes, connection: Connection[T], wire: WireSecurity | None) -> None:
        by_wire = self._at[place]
        del by_wire[wire][connection]
        if not by_wire[wire]:
            del by_wire[wire]
