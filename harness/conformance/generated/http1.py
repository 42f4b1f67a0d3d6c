"""A planned connection as HTTP/1 (RFC 9112), and as a WebSocket that begins as such (RFC 6455). Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from harness.conformance.generated import contents
from harness.conformance.generated.checks import FieldPairs
from harness.conformance.generated.plan import (
    CHUNKED,
    CLIENT,
    LENGTH,
    SERVER,
    Content,
    PlannedExchange,
    PlannedMessage,
    Talk,
)
from harness.conformance.generated.turns import Marked, Script, ScriptWriter
from harness.mesh.app import NONCE_HEADER
from harness.mesh.websocket import FIN, frame

HOST = "shop.default.svc"
_KEY, _ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
_TEXT, _BINARY, _CONTINUATION, _CLOSE = 0x1, 0x2, 0x0, 0x8


def marked(exchange: PlannedExchange, nonce: str) -> Marked:
    """The facts of an exchange that a tapper has to report; where it ends is not known yet."""
    return Marked(
        nonce,
        exchange.method,
        exchange.path + nonce,
        exchange.status,
        contents.body(exchange.request, nonce + "?"),
        b"" if exchange.bodiless else contents.body(exchange.response, nonce + "!"),
        0,
    )


def script(talk: Talk, nonces: Sequence[str]) -> Script:
    """Requests in groups of `talk.together`; the answers of a group follow its requests."""
    writer = ScriptWriter()
    exchanges = list(zip(talk.played, nonces, strict=True))
    for at in range(0, len(exchanges), talk.together):
        group = exchanges[at : at + talk.together]
        for exchange, nonce in group:
            writer.says(CLIENT, request(exchange, nonce))
        for exchange, nonce in group:
            for interim in exchange.interim:
                writer.says(SERVER, f"HTTP/1.1 {interim} Go On\r\n\r\n".encode())
            writer.says(SERVER, response(exchange, nonce))
            writer.mark(marked(exchange, nonce))
    return writer.script()


def request(exchange: PlannedExchange, nonce: str, extra: FieldPairs = ()) -> bytes:
    content, body = exchange.request, contents.body(exchange.request, nonce + "?")
    fields = [("Host", HOST), *exchange.request_fields, (NONCE_HEADER, nonce), *contents.coding_fields(content), *extra]
    start = f"{exchange.method} {exchange.path}{nonce} HTTP/1.1"
    if not body and content.framing == LENGTH:
        return _head(start, fields)
    return _message(start, fields, content, body)


def response(exchange: PlannedExchange, nonce: str) -> bytes:
    content, body = exchange.response, contents.body(exchange.response, nonce + "!")
    fields = [(NONCE_HEADER, nonce), *exchange.response_fields, *contents.coding_fields(content)]
    start = f"HTTP/1.1 {exchange.status} Whatever"
    whole = _message(start, fields, content, body)
    if not exchange.bodiless:
        return whole
    if exchange.status == 204:  # has no Content-Length either (RFC 9110, section 8.6)
        return _head(start, fields)
    return whole[: whole.index(b"\r\n\r\n") + 4]


def websocket_script(talk: Talk, nonces: Sequence[str]) -> Script:
    """The first exchange is the opening handshake; then come the messages, and a Close frame of either side."""
    writer = ScriptWriter()
    exchange, nonce = talk.played[0], nonces[0]
    upgrade = (("Connection", "Upgrade"), ("Upgrade", "websocket"))
    asked = [("Host", HOST), *exchange.request_fields, (NONCE_HEADER, nonce), *upgrade]
    asked += [("Sec-WebSocket-Key", _KEY), ("Sec-WebSocket-Version", "13")]
    writer.says(CLIENT, _head(f"GET {exchange.path}{nonce} HTTP/1.1", asked))
    accepted = [(NONCE_HEADER, nonce), *exchange.response_fields, *upgrade, ("Sec-WebSocket-Accept", _ACCEPT)]
    writer.says(SERVER, _head("HTTP/1.1 101 Switching Protocols", accepted))
    writer.mark(Marked(nonce, "GET", exchange.path + nonce, 101, b"", b"", 0))
    for number, message in enumerate(talk.messages * talk.rounds):
        for part in message_frames(message, f"{nonce}/{number}"):
            writer.says(message.sender, part)
    for side in (CLIENT, SERVER):
        writer.says(side, _frame(FIN | _CLOSE, (1000).to_bytes(2, "big"), side, nonce))
    return writer.script()


def message_payload(message: PlannedMessage, seed: str) -> bytes:
    return contents.body(Content(message.size, "text" if message.text else "noise"), seed)


def message_frames(message: PlannedMessage, seed: str) -> list[bytes]:
    """RFC 6455, section 5.4: the first frame has the opcode, the last one FIN. A client's are masked."""
    payload = message_payload(message, seed)
    parts = contents.pieces(payload, -(-len(payload) // message.frames))
    frames = []
    for number, part in enumerate(parts):
        opcode = (_TEXT if message.text else _BINARY) if number == 0 else _CONTINUATION
        frames.append(_frame((FIN if number == len(parts) - 1 else 0) | opcode, part, message.sender, seed))
    return frames


def _frame(first: int, payload: bytes, side: str, seed: str) -> bytes:
    return frame(first, payload, hashlib.sha256(seed.encode()).digest()[:4] if side == CLIENT else None)


def _message(start: str, fields: Sequence[tuple[str, str]], content: Content, body: bytes) -> bytes:
    if content.framing == LENGTH:
        return _head(start, [*fields, ("Content-Length", str(len(body)))]) + body
    if content.framing == CHUNKED:
        head = _head(start, [*fields, ("Transfer-Encoding", "chunked")])
        chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in contents.pieces(body, content.piece) if part]
        return head + b"".join(chunks) + b"0\r\n" + _lines(content.trailers) + b"\r\n"
    return _head(start, [*fields, ("Connection", "close")]) + body


def _head(start: str, fields: Sequence[tuple[str, str]]) -> bytes:
    return start.encode("latin-1") + b"\r\n" + _lines(fields) + b"\r\n"


def _lines(fields: Sequence[tuple[str, str]]) -> bytes:
    return b"".join(f"{name}: {value}\r\n".encode("latin-1") for name, value in fields)
