"""HTTP Archive 1.2 (specification by Jan Odvarko), which the developer tools of browsers open.

Each entry is written at once, on a line of its own; that of a WebSocket waits for its messages. An archive whose writer
was killed lacks only its last line: append `]}}` to complete it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tapper.output.format import Format
from tapper.output.har_entry import entry_of, message_of, opens_websocket
from tapper.output.records import Place, Totals
from tapper.protocols.facts import WebSocketMessage
from tapper.protocols.records import ExchangeRecord, FactRecord
from tapper.streams.connection import Leg

_encode = json.JSONEncoder(separators=(",", ":")).encode

MOST_HELD: Final = 32 << 20
"""Bytes of the entries of open WebSockets, with their messages. Over it the largest entry is written."""
_COST: Final = 100
"""Bytes that Python's objects take for a message besides its text; for an entry, ten times as many."""
_NO_MORE: Final = 0  # the opcode of a record that says that nothing more of a sender can be read
_CLOSE: Final = 8
_Key: TypeAlias = tuple[Any, ...]
"""A source, the endpoints of a connection, and the id of an exchange."""


@dataclass(slots=True)
class _WebSocketEntry:
    """The entry of a WebSocket that is open."""

    entry: str
    """Its JSON, without the last brace."""
    held: int = 0
    """Bytes, with the messages."""
    messages: list[str] = field(default_factory=list)
    closed_by: set[str] = field(default_factory=set)
    """The senders that have sent a close frame."""
    remark: str = ""


class Har(Format):
    """It counts the entries, and what it leaves out: responses without requests, and messages without an entry."""

    def __init__(self) -> None:
        self._entries = 0
        self._without_request = 0
        self._messages_left_out = 0
        self._websockets: dict[_Key, _WebSocketEntry] = {}
        self._held = 0

    def hello(self, version: str, _pid: int) -> str:
        creator = _encode({"name": "tapper-harness reference", "version": version})
        return f'{{"log":{{"version":"1.2","creator":{creator},"pages":[],"entries":['

    def exchange(self, place: Place, record: ExchangeRecord) -> str:
        """An entry; nothing yet for a WebSocket. A response without its request is left out: the archive requires the
        request's method and URL."""
        exchange = record.exchange
        if exchange.request is None:
            self._without_request += 1
            return ""
        is_websocket = opens_websocket(exchange)
        text = _encode(entry_of(place, record, exchange.request, "ws" if is_websocket else "http"))
        if not is_websocket:
            return self._written(text)
        key = _key(place, record.leg, exchange.id)
        before = self._concluded(key)
        self._websockets[key] = _WebSocketEntry(text[:-1])
        return before + self._hold(key, len(text) + 10 * _COST)

    def fact(self, place: Place, record: FactRecord) -> str:
        """A message joins the entry of its WebSocket, which is written once both sides have closed it."""
        message = record.fact
        if not isinstance(message, WebSocketMessage):
            return ""
        key = _key(place, record.leg, message.exchange_id)
        waiting = self._websockets.get(key)
        if waiting is None:
            self._messages_left_out += 1
            return ""
        if message.opcode == _NO_MORE:
            waiting.remark = f"the {message.sender}'s further messages could not be read"
            return ""
        text = _encode(message_of(message))
        waiting.messages.append(text)
        if message.opcode == _CLOSE:
            waiting.closed_by.add(message.sender)
            if len(waiting.closed_by) == 2:
                return self._concluded(key)
        return self._hold(key, len(text) + _COST)

    def _hold(self, key: _Key, more: int) -> str:
        """An entry has grown. Returns the largest entry if all entries hold too much."""
        self._websockets[key].held += more
        self._held += more
        if self._held <= MOST_HELD:
            return ""
        largest = max(self._websockets, key=lambda one: self._websockets[one].held)
        self._websockets[largest].remark = "further messages are left out"
        return self._concluded(largest)

    def _concluded(self, key: _Key) -> str:
        """The entry of a WebSocket with the messages so far; empty if none waits there."""
        waiting = self._websockets.pop(key, None)
        if waiting is None:
            return ""
        self._held -= waiting.held
        remark = f',"comment":{_encode(waiting.remark)}' if waiting.remark else ""
        messages = ",".join(waiting.messages)
        return self._written(f'{waiting.entry},"_resourceType":"websocket","_webSocketMessages":[{messages}]{remark}}}')

    def _written(self, entry: str) -> str:
        separator = ",\n" if self._entries else "\n"
        self._entries += 1
        return separator + entry

    def ending(self) -> str:
        return "\n]}}\n"

    def bye(self, _totals: Totals) -> str:
        text = "".join([self._concluded(key) for key in list(self._websockets)])
        left_out = [
            (self._without_request, "responses without their requests"),
            (self._messages_left_out, "messages of WebSockets without an entry that waits"),
        ]
        told = "; ".join(f"{count} {what} are left out" for count, what in left_out if count)
        comment = f',"comment":{_encode(told)}' if told else ""
        return f"{text}\n]{comment}}}}}\n"


def _key(place: Place, leg: Leg, exchange_id: str) -> _Key:
    return place.identity, leg.src, leg.dst, exchange_id
