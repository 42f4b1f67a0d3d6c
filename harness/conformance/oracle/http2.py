"""HTTP/2 of a whole connection without TLS (RFC 9113, RFC 7541). Pure.

The two directions have separate header tables, so each is read to its end by itself; streams are joined afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hpack import Decoder, HPACKError

from harness.conformance.oracle import outcomes
from harness.conformance.oracle.model import FieldLines, OneWay, TcpConnection, TrueExchange, TrueMessage, TrueOutcome

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PROTOCOL = "HTTP/2"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PUSH_PROMISE, _GOAWAY, _CONTINUATION = 0x0, 0x1, 0x3, 0x4, 0x5, 0x7, 0x9
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20
_MOST_FIELD_BYTES = 4 << 20
_LARGEST_TABLE = 1 << 20


class UnclearFrames(Exception):
    """A violation of RFC 9113. The message names it."""


@dataclass(slots=True)
class HalfOfStream:
    """The frames' content that one side sent on a stream."""

    first: int
    """Where its first frame begins in the side's bytes."""
    last: int = 0
    """Where its last frame's last byte is."""
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: list[bytes] = field(default_factory=list)
    ended: bool = False
    code: int | None = None
    """The error code of its RST_STREAM."""
    headed: bool = False
    promised: bool = False

    def pseudo(self, name: bytes) -> bytes | None:
        """A pseudo-header field's value."""
        return next((value for key, value in self.fields if key == name), None)


@dataclass(slots=True)
class Side:
    """All streams of one direction, by number."""

    streams: dict[int, HalfOfStream] = field(default_factory=dict)
    promised: dict[int, HalfOfStream] = field(default_factory=dict)
    goaways: list[tuple[int, int]] = field(default_factory=list)
    """(last stream, error code) of each GOAWAY."""
    flaw: str = ""


def read_side(data: bytes, *, client: bool) -> Side:
    """Read all frames of one direction, behind the preface. Stops at the first that is not allowed: `flaw`."""
    side = Side()
    decoder = Decoder(max_header_list_size=_MOST_FIELD_BYTES)
    decoder.max_allowed_table_size = _LARGEST_TABLE
    block: tuple[int, int, int, bytearray] | None = None  # where it began, stream, flags, bytes
    at = len(PREFACE) if client else 0
    try:
        while at + 9 <= len(data):
            size, kind, flags = int.from_bytes(data[at : at + 3], "big"), data[at + 3], data[at + 4]
            number = int.from_bytes(data[at + 5 : at + 9], "big") & 0x7FFFFFFF
            begin, end = at, at + 9 + size
            if end > len(data):
                if kind == _DATA and block is None and not flags & _PADDED and number in side.streams:
                    side.streams[number].body.append(data[begin + 9 :])  # as far as it comes
                break
            payload, at = data[begin + 9 : end], end
            if block is not None:
                if kind != _CONTINUATION or number != block[1]:
                    raise UnclearFrames("a header block that is interrupted")
                block[3].extend(payload)
                if flags & _END_HEADERS:
                    _headers(side, decoder, block, end - 1)
                    block = None
                continue
            if kind == _CONTINUATION:
                raise UnclearFrames("a CONTINUATION frame without a header block")
            if kind in (_DATA, _HEADERS, _PUSH_PROMISE) and flags & _PADDED:
                if not payload or payload[0] >= len(payload):
                    raise UnclearFrames("padding that is longer than its frame")
                payload = payload[1 : len(payload) - payload[0]]
            if kind == _HEADERS:
                if number == 0:
                    raise UnclearFrames("a HEADERS frame on stream 0")
                block = begin, number, flags, bytearray(payload[5:] if flags & _PRIORITY else payload)
                if flags & _END_HEADERS:
                    _headers(side, decoder, block, end - 1)
                    block = None
            elif kind == _PUSH_PROMISE:
                if client:
                    raise UnclearFrames("a PUSH_PROMISE of a client")
                promised = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
                block = begin, -promised, flags, bytearray(payload[4:])
                if not flags & _END_HEADERS:
                    raise UnclearFrames("a PUSH_PROMISE in several frames, which this oracle does not read")
                _headers(side, decoder, block, end - 1)
                block = None
            elif kind == _DATA:
                stream = side.streams.get(number)
                if stream is None or not stream.headed or stream.ended:
                    raise UnclearFrames("a DATA frame before the head of its message, or behind its end")
                stream.body.append(payload)
                stream.last, stream.ended = end - 1, bool(flags & _END_STREAM)
            elif kind == _RST_STREAM:
                stream = side.streams.setdefault(number, HalfOfStream(begin, end - 1))
                stream.code = int.from_bytes(payload, "big")
            elif kind == _GOAWAY and len(payload) >= 8:
                last = int.from_bytes(payload[:4], "big") & 0x7FFFFFFF
                side.goaways.append((last, int.from_bytes(payload[4:8], "big")))
    except (UnclearFrames, HPACKError, IndexError) as error:
        side.flaw = str(error) or type(error).__name__
    return side


def _headers(side: Side, decoder: Decoder, block: tuple[int, int, int, bytearray], last: int) -> None:
    begin, number, flags, encoded = block
    fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(bytes(encoded), raw=True)]
    if number < 0:
        side.promised[-number] = HalfOfStream(begin, last, fields, ended=True, headed=True, promised=True)
        return
    stream = side.streams.get(number)
    if stream is None:
        stream = side.streams[number] = HalfOfStream(begin)
    if stream.ended:
        raise UnclearFrames("a header block behind the end of its stream")
    stream.last, stream.ended = last, bool(flags & _END_STREAM)
    if stream.headed:
        if any(name.startswith(b":") for name, _ in fields):
            raise UnclearFrames("pseudo-header fields in trailers")
        stream.trailers = fields
        return
    status = dict(fields).get(b":status", b"")
    if len(status) == 3 and status.startswith(b"1") and not stream.ended:
        return  # interim
    stream.fields, stream.headed = fields, True


def exchanges(
    connection: TcpConnection, requests: OneWay, responses: OneWay, upgraded: TrueExchange | None = None
) -> tuple[list[TrueExchange], str]:
    """The exchanges of a connection whose client has sent the preface, by the number of their stream; and the flaw.

    `upgraded` is the exchange of HTTP/1 by which the connection became HTTP/2, if it did: its request is stream 1's.
    """
    asked, answered = read_side(requests.data, client=True), read_side(responses.data, client=False)
    flaw = asked.flaw or answered.flaw
    found = [] if upgraded is None else [_upgraded(upgraded, answered.streams.get(1), responses)]
    streams: Iterable[tuple[int, HalfOfStream, bool]] = [
        *((number, half, False) for number, half in asked.streams.items() if half.headed),
        *((number, half, True) for number, half in answered.promised.items()),
    ]
    for number, request, pushed in streams:
        response = answered.streams.get(number)
        ended = () if pushed else _outcomes(number, request, response, (asked, answered), connection)
        found.append(_exchange(request, response, requests, responses, ended, pushed=pushed))
    return found, flaw


def _outcomes(
    number: int,
    request: HalfOfStream,
    response: HalfOfStream | None,
    sides: tuple[Side, Side],
    connection: TcpConnection,
) -> tuple[TrueOutcome, ...]:
    answered = response is not None and response.headed and response.ended
    if request.ended and answered:
        return (outcomes.COMPLETE,)
    codes = (outcomes.CLIENT, request.code), (outcomes.SERVER, None if response is None else response.code)
    goaways = [
        (who, last, code)
        for who, side in zip((outcomes.CLIENT, outcomes.SERVER), sides, strict=True)
        for last, code in side.goaways
    ]
    return outcomes.of_stream(number, codes, goaways, connection, answered=answered)


def _upgraded(first: TrueExchange, response: HalfOfStream | None, responses: OneWay) -> TrueExchange:
    """The exchange whose request was HTTP/1 and whose answer is HTTP/2 (RFC 7540, section 3.2)."""
    if response is None or not response.headed:
        return replace(first, protocol=PROTOCOL, status=None, response=None, response_last_ns=None, upgraded=True)
    status, last = response.pseudo(b":status"), responses.time_of(response.last)
    return replace(
        first,
        protocol=PROTOCOL,
        status=int(status) if status is not None and status.isdigit() else None,
        response=_message(response),
        last_ns=max(first.last_ns, last),
        response_last_ns=last,
        reset=first.reset or response.code is not None,
        outcomes=(),
        upgraded=True,
    )


def _exchange(
    request: HalfOfStream,
    response: HalfOfStream | None,
    requests: OneWay,
    responses: OneWay,
    ended: tuple[TrueOutcome, ...],
    *,
    pushed: bool,
) -> TrueExchange:
    asking = responses if pushed else requests
    heads = response is not None and response.headed
    last = asking.time_of(request.last)
    answer_last = responses.time_of(response.last) if response is not None and heads else None
    status = response.pseudo(b":status") if response is not None and heads else None
    return TrueExchange(
        protocol=PROTOCOL,
        method=_text(request.pseudo(b":method")),
        target=_text(request.pseudo(b":path") or request.pseudo(b":authority")),
        status=int(status) if status is not None and status.isdigit() else None,
        request=_message(request),
        response=_message(response) if response is not None and heads else None,
        first_ns=asking.time_of(request.first),
        last_ns=max(last, answer_last or 0),
        response_last_ns=answer_last,
        reset=request.code is not None or (response is not None and response.code is not None) or pushed,
        outcomes=ended,
    )


def _message(half: HalfOfStream) -> TrueMessage:
    fields: FieldLines = tuple(field for field in half.fields if not field[0].startswith(b":"))
    return TrueMessage(
        fields,
        b"".join(half.body),
        tuple(half.trailers),
        complete=half.ended,
        authority=half.pseudo(b":authority") or b"",
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
