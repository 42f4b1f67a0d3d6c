"""The records that a session makes of one connection: an exchange, or a fact, each with the leg it was seen on.

A session returns them in one list, in the order in which their last bytes came.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tapper.protocols.exchange import Exchange
from tapper.protocols.facts import Fact
from tapper.runtime.native import mypyc_attr
from tapper.streams.connection import Leg


@mypyc_attr(acyclic=True)
@dataclass(slots=True)
class ExchangeRecord:
    """A request and its response."""

    leg: Leg
    exchange: Exchange

    def __init__(self, leg: Leg, exchange: Exchange) -> None:
        self.leg = leg
        self.exchange = exchange


@dataclass(frozen=True, slots=True)
class FactRecord:
    """Anything else that a connection showed: TLS, a WebSocket message, bytes that cannot be decoded."""

    leg: Leg
    fact: Fact


Record: TypeAlias = ExchangeRecord | FactRecord
