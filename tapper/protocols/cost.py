"""What a record takes in memory, in bytes, roughly: the price at which it is counted while it waits."""

from __future__ import annotations

from typing import Final

from tapper.protocols.exchange import Exchange
from tapper.protocols.messages import Request, Response
from tapper.protocols.records import FactRecord, Record

_RECORD_COST: Final = 600


def cost_of(record: Record) -> int:
    if isinstance(record, FactRecord):
        return _RECORD_COST + len(getattr(record.fact, "body", b""))
    exchange: Exchange = record.exchange
    return _RECORD_COST + _cost_of(exchange.request) + _cost_of(exchange.response)


def _cost_of(message: Request | Response | None) -> int:
    return 0 if message is None else message.head.cost + len(message.end.body)
