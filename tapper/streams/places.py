"""The connections of one source by where they lead, and there by what they carry: so that the many that carry the same
are as quickly asked as one."""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

from tapper.streams.connection import Connection, Wire

T = TypeVar("T")

Kinds: TypeAlias = dict[Wire | None, dict[Connection[T], None]]
"""The connections at one place, in order of appearance, by what they carry; no kind without any."""


class Places(Generic[T]):
    """A place is an address and port, a client's address, or a client's address and its server's address and port; all
    in network byte order, one after the other."""

    def __init__(self) -> None:
        self._at: dict[bytes, Kinds[T]] = {}
        self._places: dict[Connection[T], dict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, connection: Connection[T], key: bytes, client: int | None) -> None:
        """Have it found where this key leads; `client` tells whether the key's source (0) or destination (1) is the
        client, None that nobody knows. A copy's key may be added to its own."""
        places = self._places.get(connection)
        if places is None:
            places = self._places[connection] = {}
            connection.found_out = self._found_out
        source, destination = ends(key)
        wanted = [source, destination]
        if client != 1:
            wanted += (source[:-2], source[:-2] + destination)
        if client != 0:
            wanted += (destination[:-2], destination[:-2] + source)
        for place in wanted:
            places[place] = None
            self._at.setdefault(place, {}).setdefault(connection.wire, {})[connection] = None

    def remove(self, connection: Connection[T]) -> None:
        connection.found_out = None
        for place in self._places.pop(connection, ()):
            self._take_away(place, connection, connection.wire)
            if not self._at[place]:
                del self._at[place]

    def at(self, place: bytes) -> Kinds[T]:
        """The known connections on a wire that lead there, translated or not: those of the node's interfaces, or a
        pod's to its own inbound listener. Not to be changed."""
        return self._at.get(place, {})

    def _found_out(self, connection: Connection[T], before: Wire | None) -> None:
        for place in self._places[connection]:
            self._take_away(place, connection, before)
            self._at[place].setdefault(connection.wire, {})[connection] = None

    def _take_away(self, place: bytes, connection: Connection[T], kind: Wire | None) -> None:
        kinds = self._at[place]
        del kinds[kind][connection]
        if not kinds[kind]:
            del kinds[kind]


def ends(key: bytes) -> tuple[bytes, bytes]:
    """Source and destination of a packet's key (see `tapper.streams.packet`), each as address and port."""
    width = (len(key) - 4) // 2
    return key[:width] + key[-4:-2], key[width:-4] + key[-2:]
