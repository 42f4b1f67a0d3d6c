"""A planned connection as HTTP/2 without TLS (RFC 9113, RFC 7541), and as gRPC on it. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from harness.conformance.generated import contents, http1
from harness.conformance.generated.plan import CLIENT, GRPC, LENGTH, SERVER, UPGRADE, Content, PlannedExchange, Talk
from harness.conformance.generated.turns import Marked, Script, ScriptWriter
from harness.conformance.h2c import Http2Sender, settings
from harness.mesh import http2
from harness.mesh.app import NONCE_HEADER
from harness.mesh.http2 import PREFACE, frame

_MAX_CONCURRENT_STREAMS, _INITIAL_WINDOW_SIZE, _MAX_HEADER_LIST_SIZE = 0x3, 0x4, 0x6
_WINDOW = (1 << 31) - 1
_FIRST_WINDOW = (1 << 16) - 1
_GRPC_FIELDS = (("content-type", "application/grpc"), ("te", "trailers"))

Fields = Sequence[tuple[bytes, bytes]]


class _Sender(Http2Sender):
    """One direction of a planned connection."""

    def message(
        self, stream: int, fields: Fields, content: Content, body: bytes, trailers: Fields, *, empty: bool
    ) -> list[bytes]:
        """The frames of a message, one by one, so that the frames of several streams can take turns."""
        if empty:
            return [self.headers(stream, fields, end=True)]
        parts = contents.pieces(body, min(content.piece, http2.LARGEST_FRAME))
        ends = [not trailers and number == len(parts) - 1 for number in range(len(parts))]
        data = [self.data(stream, part, end=end) for part, end in zip(parts, ends, strict=True)]
        return [self.headers(stream, fields), *data]


def script(talk: Talk, nonces: Sequence[str]) -> Script:
    """Streams in groups of `talk.together`, whose frames take turns; the answers come in the opposite order."""
    writer, asking, answering = ScriptWriter(), _Sender(), _Sender()
    exchanges = list(zip(talk.played, nonces, strict=True))
    next_stream = 1
    if talk.protocol == UPGRADE:
        (first, nonce), exchanges = exchanges[0], exchanges[1:]
        _upgrade(writer, answering, first, nonce)
        next_stream = 3
    else:
        writer.says(CLIENT, PREFACE + _settings() + _window())
        writer.says(SERVER, _settings() + _window())
    writer.says(CLIENT, settings(ack=True))
    writer.says(SERVER, settings(ack=True))
    is_grpc = talk.protocol == GRPC
    for at in range(0, len(exchanges), talk.together):
        group = exchanges[at : at + talk.together]
        streams = list(range(next_stream, next_stream + 2 * len(group), 2))
        next_stream += 2 * len(group)
        # 1. The requests: header blocks in the order of their streams, then the frames of their bodies in turns.
        planned = [_Planned(exchange, nonce, grpc=is_grpc) for exchange, nonce in group]
        forwards = list(zip(planned, streams, strict=True))
        _in_turns(writer, CLIENT, [message.request(asking, stream) for message, stream in forwards])
        _end(writer, CLIENT, asking, [(stream, message.asked_last) for message, stream in forwards])
        # 2. The answers, in the opposite order.
        backwards = forwards[::-1]
        _in_turns(writer, SERVER, [message.response(answering, stream) for message, stream in backwards])
        _end(writer, SERVER, answering, [(stream, message.answered_last) for message, stream in backwards])
        for message in planned:
            writer.mark(message.marked)
    return writer.script()


class _Planned:
    """An exchange with its header lists."""

    def __init__(self, exchange: PlannedExchange, nonce: str, *, grpc: bool) -> None:
        self._exchange, self._grpc, self._nonce = exchange, grpc, nonce
        known = http1.marked(exchange, nonce)
        asked, answered = known.request_body, known.response_body
        if grpc:
            asked, answered = _grpc_messages(exchange.request, asked), _grpc_messages(exchange.response, answered)
        self.marked = Marked(
            nonce, "POST" if grpc else known.method, known.target, 200 if grpc else known.status, asked, answered, 0
        )
        self.asked_last: Fields = () if grpc else _bytes(exchange.request.trailers)
        self.answered_last: Fields = () if exchange.bodiless and not grpc else _bytes(exchange.response.trailers)
        if grpc:
            status = exchange.status % 17  # a call's status is from 0 to 16
            outcome = [("grpc-status", str(status)), *([("grpc-message", f"status {status}")] if status else [])]
            self.answered_last = _bytes([*outcome, *exchange.response.trailers])

    def request(self, sender: _Sender, stream: int) -> list[bytes]:
        exchange, body = self._exchange, self.marked.request_body
        pseudo = [(":method", self.marked.method), (":scheme", "http"), (":authority", http1.HOST)]
        fields = [*pseudo, (":path", self.marked.target), *_lower(exchange.request_fields), (NONCE_HEADER, self._nonce)]
        fields += _GRPC_FIELDS if self._grpc else _coding_and_length(exchange.request, body, empty=not body)
        empty = not body and not self.asked_last
        return sender.message(stream, _bytes(fields), exchange.request, body, self.asked_last, empty=empty)

    def response(self, sender: _Sender, stream: int) -> list[bytes]:
        exchange, body = self._exchange, self.marked.response_body
        status = str(self.marked.status)
        fields = [(":status", status), (NONCE_HEADER, self._nonce), *_lower(exchange.response_fields)]
        without = exchange.bodiless and not self._grpc
        fields += _GRPC_FIELDS[:1] if self._grpc else _coding_and_length(exchange.response, body, empty=without)
        if self._grpc and not body:  # Trailers-Only
            block = [*_bytes(fields), *self.answered_last]
            self.answered_last = ()
            return [sender.headers(stream, block, end=True)]
        interim = [
            sender.headers(stream, [(b":status", str(status).encode())])
            for status in exchange.interim
            if status != 101 and not self._grpc  # HTTP/2 has no 101 (RFC 9113, section 8.6)
        ]
        empty = without or (not body and not self.answered_last)
        message = sender.message(stream, _bytes(fields), exchange.response, body, self.answered_last, empty=empty)
        return [b"".join([*interim, message[0]]), *message[1:]]


def _upgrade(writer: ScriptWriter, answering: _Sender, exchange: PlannedExchange, nonce: str) -> None:
    """RFC 7540, section 3.2: the first request is HTTP/1, its answer is stream 1."""
    settings = base64.urlsafe_b64encode(_settings_payload()).rstrip(b"=").decode()
    asked = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", settings))
    writer.says(CLIENT, http1.request(exchange, nonce, asked))
    writer.says(SERVER, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    writer.says(SERVER, _settings() + _window())
    writer.says(CLIENT, PREFACE + _settings() + _window())
    planned = _Planned(exchange, nonce, grpc=False)
    for part in planned.response(answering, 1):
        writer.says(SERVER, part)
    _end(writer, SERVER, answering, [(1, planned.answered_last)])
    writer.mark(planned.marked)


def _in_turns(writer: ScriptWriter, side: str, messages: Sequence[list[bytes]]) -> None:
    """Write the first part of each message, then the second of each, and so on. Header blocks stay in their order."""
    for parts in zip_longest(*messages, fillvalue=b""):
        for part in parts:
            writer.says(side, part)


def _end(writer: ScriptWriter, side: str, sender: _Sender, ends: Iterable[tuple[int, Fields]]) -> None:
    for stream, trailers in ends:
        if trailers:
            writer.says(side, sender.headers(stream, trailers, end=True))


def _coding_and_length(content: Content, body: bytes, *, empty: bool) -> list[tuple[str, str]]:
    coding = [(name.lower(), value) for name, value in contents.coding_fields(content)]
    return [*coding, *([("content-length", str(len(body)))] if content.framing == LENGTH and not empty else [])]


def _grpc_messages(content: Content, data: bytes) -> bytes:
    """Length-prefixed messages (gRPC over HTTP/2, Requests); none for no bytes."""
    parts = [part for part in contents.pieces(data, content.piece) if part]
    return b"".join(b"\0" + len(part).to_bytes(4, "big") + part for part in parts)


def _lower(pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name.lower(), value) for name, value in pairs]


def _bytes(pairs: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in pairs]


def _settings_payload() -> bytes:
    settings = {_MAX_CONCURRENT_STREAMS: 1000, _INITIAL_WINDOW_SIZE: _WINDOW, _MAX_HEADER_LIST_SIZE: 1 << 20}
    return b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings.items())


def _settings() -> bytes:
    return frame(http2.SETTINGS, 0, 0, _settings_payload())


def _window() -> bytes:
    """Make the window of the connection as large as it can be, so that no body waits for more."""
    return frame(http2.WINDOW_UPDATE, 0, 0, (_WINDOW - _FIRST_WINDOW).to_bytes(4, "big"))
