"""Broken in how messages are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from harness.conformance.mutants.model import Mutant
from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.protocols import exchange, heads, session, websocket
from tapper.protocols.blocks import BlockReader
from tapper.protocols.exchange import Conversation
from tapper.protocols.fieldlist import Framing, Headers
from tapper.protocols.http1 import ResponseReader
from tapper.protocols.http2 import Http2
from tapper.protocols.messages import Event, Response
from tapper.protocols.reader import Reader
from tapper.protocols.session import Sighting


def _reframe(change: Callable[[Framing], Framing | None]) -> None:
    right = heads.framing

    def framing(headers: Headers) -> Framing | None:
        found = right(headers)
        return None if found is None else change(found)

    heads.framing = framing


NO_LENGTH = Mutant(
    "no-length",
    "It takes a message for what its head is, and looks for the next one right behind it.",
    {"HTTP-01": "too seldom|not at all|too often|answered with|nothing said about a cut"},
    lambda: _reframe(lambda found: found if found.coded else Framing(0, chunked=False, coded=False)),
)
RAW_CHUNKS = Mutant(
    "raw-chunks",
    "It does not know chunks: to it such a body goes on to the end of the connection.",
    {"HTTP-02": "too seldom|not at all|answered with"},
    lambda: _reframe(lambda found: Framing(found.length, chunked=False, coded=found.coded)),
)


def _latest_first() -> None:
    def pop(self: Conversation) -> Any:
        entry = self._unanswered.pop()
        self.held -= entry.cost
        return entry

    Conversation._pop = pop  # type: ignore[method-assign]


LATEST_FIRST = Mutant(
    "latest-first",
    "It takes every answer for that of the latest request.",
    {"HTTP-03": "answered with"},
    _latest_first,
)


def _always_a_body() -> None:
    answers = ResponseReader.answers

    def answered(self: ResponseReader, _method: str | None) -> None:
        answers(self, "GET")

    ResponseReader.answers = answered  # type: ignore[assignment,method-assign]


BODY_OF_HEAD = Mutant(
    "body-of-head",
    "It waits for the body of an answer to HEAD.",
    {"HTTP-04": "too seldom|not at all|answered with|its own answer|nothing said about a cut"},
    _always_a_body,
)


def _interim_is_final() -> None:
    right = heads.status_line

    def status_line(line: bytes) -> tuple[str, int, str] | None:
        # 204 is what the state machine knows as final and without a body
        parts = right(line)
        return parts if parts is None or parts[1] not in (100, 103) else (parts[0], 204, parts[2])

    heads.status_line = status_line


INTERIM_IS_FINAL = Mutant(
    "interim-is-final",
    "It takes an interim answer for the answer.",
    {"HTTP-04": "answered with"},
    _interim_is_final,
)


def _one_segment() -> None:
    def keep(self: Reader, _end: Any) -> Event | bool:
        return self._malformed("a head that is not whole")

    Reader._keep = keep  # type: ignore[assignment,method-assign]


ONE_SEGMENT = Mutant(
    "one-segment",
    "It wants a head whole in one segment.",
    {"HTTP-05": "too seldom|not at all"},
    _one_segment,
)


def _never_upgraded() -> None:
    def stays(_request: object, _response: Response) -> bool:
        return False

    exchange.ends_http1 = stays  # type: ignore[assignment]
    session.ends_http1 = stays  # type: ignore[assignment,attr-defined]


NEVER_UPGRADED = Mutant(
    "never-upgraded",
    "It reads HTTP/1 on behind an answer of 101.",
    {"HTTP-06": "another protocol's"},
    _never_upgraded,
)


def _one_queue() -> None:
    """Answers are numbered as they come, and each is given to the oldest request that has none."""
    read_block, read_piece, read_hole = Http2.block, Http2.piece, Http2.hole
    asked: dict[int, list[int]] = {}
    given: dict[tuple[int, int], int] = {}

    def place(self: Http2, side: int, stream: int) -> int:
        if side == self.client or self.client is None:
            if stream not in asked.setdefault(id(self), []):
                asked[id(self)].append(stream)
            return stream
        if (id(self), stream) not in given:
            mine = [number for key, number in given.items() if key[0] == id(self)]
            free = [number for number in asked.get(id(self), []) if number not in mine]
            given[(id(self), stream)] = free[0] if free else stream
        return given[(id(self), stream)]

    def block(self: Http2, side: int, number: int, data: bytes | None, **flags: bool) -> None:
        read_block(self, side, place(self, side, number), data, **flags)

    def piece(self: Http2, side: int, number: int, data: bytes, *, end: bool) -> None:
        read_piece(self, side, place(self, side, number), data, end=end)

    def hole(self: Http2, side: int, number: int, size: int, *, end: bool) -> None:
        read_hole(self, side, place(self, side, number), size, end=end)

    Http2.block = block  # type: ignore[method-assign]
    Http2.piece = piece  # type: ignore[method-assign]
    Http2.hole = hole  # type: ignore[method-assign]


ONE_QUEUE = Mutant(
    "one-queue",
    "It pairs HTTP/2 in order, as if it were HTTP/1.",
    {"HTTP-07": "answered with"},
    _one_queue,
)


def _no_table() -> None:
    decode = BlockReader.decode

    def forgetful(self: BlockReader, data: bytes) -> Any:
        self.forget()
        return decode(self, data)

    BlockReader.decode = forgetful  # type: ignore[assignment,method-assign]


NO_TABLE = Mutant(
    "no-header-table",
    "It reads every header block as if it were the connection's first.",
    {"HTTP-07": "x-common"},
    _no_table,
)


def _give_up() -> None:
    def malformed(_self: Reader, what: str) -> Event | bool:
        raise ValueError(what)

    Reader._malformed = malformed  # type: ignore[assignment,method-assign]


DIES_OF_GARBAGE = Mutant(
    "dies-of-garbage",
    "An exception of its parser is nobody's, and ends it.",
    {"HTTP-08": "its end"},
    _give_up,
)


def _shape_messages(change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    told = Ndjson.sighting

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        record = json.loads(told(self, place, sighting))
        for side in ("request", "response"):
            if record[side] is not None:
                record[side] = change(record[side])
        return json.dumps(record) + "\n"

    Ndjson.sighting = sighting  # type: ignore[method-assign]


NO_TRAILERS = Mutant(
    "no-trailers",
    "It is done with an answer when its body is.",
    {"HTTP-09": "grpc-status"},
    lambda: _shape_messages(lambda table: table | {"trailers": []}),
)
SILENT_CUT = Mutant(
    "silent-cut",
    "It keeps the beginning of a large body and does not say so.",
    {"HTTP-10": "nothing said about a cut"},
    lambda: _shape_messages(lambda table: table | {"truncated": False}),
)


def _believe_headers() -> None:
    told = Ndjson.sighting

    def sighting(self: Ndjson, place: Place, sighting: Sighting) -> str:
        record = json.loads(told(self, place, sighting))
        for name, value in (record["request"] or {"headers": []})["headers"]:
            if name.lower() == "x-forwarded-for":
                record["src"] = f"{value}:0"
        return json.dumps(record) + "\n"

    Ndjson.sighting = sighting  # type: ignore[method-assign]


BELIEVES_HEADERS = Mutant(
    "believes-headers",
    "It reports X-Forwarded-For as the source, as mizu did.",
    {"HTTP-11": "seen: .*203.0.113.77:0 >"},
    _believe_headers,
)


def _length_or_nothing() -> None:
    frame = ResponseReader._frame

    def framed(self: ResponseReader) -> Event | bool:
        if self._framing.length is None and not self._framing.chunked:
            return self._end()
        return frame(self)

    ResponseReader._frame = framed  # type: ignore[method-assign]


LENGTH_OR_NOTHING = Mutant(
    "length-or-nothing",
    "To it an answer without a length has no body.",
    {"HTTP-12": "nothing said about a cut"},
    _length_or_nothing,
)


def _stay_masked() -> None:
    def unmask(payload: bytes, _mask: bytes, _position: int) -> bytes:
        return payload

    websocket._unmask = unmask  # type: ignore[assignment]


STAYS_MASKED = Mutant(
    "stays-masked",
    "It reports a client's WebSocket messages as they are on the wire.",
    {"HTTP-13": "the client's message"},
    _stay_masked,
)


def _by_name(table: dict[str, Any]) -> dict[str, Any]:
    last = {name.lower(): (name, value) for name, value in table["headers"]}
    return table | {"headers": list(last.values())}


ONE_OF_EACH = Mutant(
    "one-of-each",
    "It keeps header fields in a table by name, the last one of each.",
    {"HTTP-14": "x-several"},
    lambda: _shape_messages(_by_name),
)
