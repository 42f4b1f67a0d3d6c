"""Ends connections whose end was not captured, by asking the kernel which connections a pod still has."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from tapper.namespaces.identity import NamespaceId
from tapper.protocols.records import Record
from tapper.run.accounts import Account
from tapper.streams.packet import mirror

INTERVAL_S = 10.0
"""How often to call `QuietConnections.check`."""
QUIET_NS = 300 * 1_000_000_000
"""How long a connection has to be quiet before the kernel is asked whether it exists."""
_MOST_CHECKED = 4096
"""Connections that are looked up at a time."""


class QuietConnections:
    """`connections_in` returns the keys of a namespace's open TCP connections, or None where that fails."""

    def __init__(self, connections_in: Callable[[NamespaceId], frozenset[bytes] | None]) -> None:
        self._connections_in = connections_in
        self._checked: set[NamespaceId] = set()
        """Namespaces that had their turn in this round."""

    def check(self, pods: Iterable[tuple[NamespaceId, Account]]) -> tuple[Account, list[Record]] | None:
        """End the connections of one pod that were quiet for five minutes and do not exist any more. Returns the
        records that they make; None where no pod had quiet connections."""
        since = time.time_ns() - QUIET_NS
        for netns, account in pods:
            connections = account.connections
            quiet = connections.quiet(since, _MOST_CHECKED) if netns not in self._checked else []
            if quiet:
                self._checked.add(netns)
                existing = self._connections_in(netns)
                gone = [key for key in quiet if not {key, mirror(key)} & existing] if existing is not None else []
                return account, connections.gone(gone, since)
        self._checked.clear()
        return None
