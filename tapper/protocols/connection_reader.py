"""The interface that all readers of a connection have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact
from tapper.protocols.outcome import OPEN, ExchangeOutcome
from tapper.streams.reassembly import Data

Content: TypeAlias = Exchange | Fact


class ConnectionReader:
    """Reads one connection; this one reads nothing. `side` is 0 or 1, as `Connection.halves` counts. The methods return
    the exchanges and facts that became complete, in order; none raises, whatever the bytes are."""

    __slots__ = ("client", "successor")

    def __init__(self, client: int | None) -> None:
        self.client = client
        """The client's side; None while nothing tells."""
        self.successor: ConnectionReader | None = None
        """The reader of all bytes from now on; None while that is this one."""

    @property
    def current(self) -> ConnectionReader:
        """The last of the successors."""
        reader = self
        while reader.successor is not None:
            reader = reader.successor
        return reader

    @property
    def held(self) -> int:
        """Bytes kept in unfinished messages, roughly."""
        return 0

    def data(self, side: int, chunk: Data) -> Sequence[Content]:  # noqa: ARG002
        return []

    def gap(self, side: int, size: int | None) -> Sequence[Content]:  # noqa: ARG002
        """Bytes of this side are missing; None where their number is not known."""
        return []

    def pass_time(self, now: int) -> Sequence[Content]:  # noqa: ARG002
        """It is `now`, in nanoseconds since 1970, and no packet has said so."""
        return []

    def end(self, side: int) -> Sequence[Content]:  # noqa: ARG002
        """The side said FIN."""
        return []

    def finish(self, unfinished: ExchangeOutcome = OPEN) -> Sequence[Content]:  # noqa: ARG002
        """No more of the connection will come. `unfinished` is the outcome of exchanges that have not ended."""
        return []
