"""HTTP/2 without TLS by prior knowledge (RFC 9113, section 3.3): a server, and a client; also as gRPC speaks it.

    python -m harness.worlds.programs.http2 serve --port 8080
    python -m harness.worlds.programs.http2 ask --kind http2 --url http://HOST:PORT/PREFIX --rate 100 --count 10

The server echoes the nonce as the body; a request whose content-type is application/grpc is answered as a unary gRPC
call, with the message as it came and status 0 in the trailers. The client prints a line of JSON for each answer that
carried its nonce, and ends with 1 unless every one did. Bodies are far below the initial flow control windows, so that
only the connection's has to be given back.
"""

from __future__ import annotations

import argparse
import json
import socket
import socketserver
import struct
import sys
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase

from hpack import Decoder, Encoder

from harness.mesh import http2
from harness.mesh.http2 import PREFACE, frame

NONCE_HEADER = "x-nonce"
_TIMEOUT_S = 10.0
Fields = dict[str, str]


@dataclass(frozen=True, slots=True)
class Http2Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


@dataclass(slots=True)
class Http2Message:
    """A request or an answer; `trailers` are the fields of a second HEADERS frame."""

    stream: int
    fields: Fields
    body: bytes = b""
    trailers: Fields | None = None


class Line:
    """One end of a connection: reads and writes frames, and makes messages of them. Field sections fit one frame."""

    def __init__(self, source: BufferedIOBase, sink: BufferedIOBase) -> None:
        self._source = source
        self._sink = sink
        self._encoder, self._decoder = Encoder(), Decoder()

    def write(self, data: bytes) -> None:
        self._sink.write(data)
        self._sink.flush()

    def headers(self, stream: int, fields: Fields, *, ends: bool) -> bytes:
        block = self._encoder.encode(list(fields.items()))
        return frame(http2.HEADERS, http2.END_HEADERS | (http2.END_STREAM if ends else 0), stream, block)

    def messages(self) -> Iterator[Http2Message]:
        """The complete messages until the other side ends."""
        open_ones: dict[int, Http2Message] = {}
        while (one := self._read()) is not None:
            if one.kind == http2.SETTINGS and not one.flags & http2.ACK:
                self.write(frame(http2.SETTINGS, http2.ACK, 0))
            elif one.kind == http2.PING and not one.flags & http2.ACK:
                self.write(frame(http2.PING, http2.ACK, 0, one.payload))
            elif one.kind == http2.HEADERS:
                fields = {_text(name): _text(value) for name, value in self._decoder.decode(_unpadded(one))}
                if one.stream in open_ones:
                    open_ones[one.stream].trailers = fields
                else:
                    open_ones[one.stream] = Http2Message(one.stream, fields)
            elif one.kind == http2.DATA:
                open_ones[one.stream].body += _unpadded(one)
                if one.payload:
                    self.write(frame(http2.WINDOW_UPDATE, 0, 0, struct.pack("!I", len(one.payload))))
            if one.kind in (http2.HEADERS, http2.DATA) and one.flags & http2.END_STREAM:
                yield open_ones.pop(one.stream)

    def _read(self) -> Http2Frame | None:
        head = self._source.read(9)
        if len(head) < 9:
            return None
        size = int.from_bytes(head[:3], "big")
        kind, flags, stream = struct.unpack("!BBI", head[3:])
        payload = self._source.read(size)
        return Http2Frame(kind, flags, stream & 0x7FFFFFFF, payload) if len(payload) == size else None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _unpadded(one: Http2Frame) -> bytes:
    payload = one.payload
    if one.flags & http2.PADDED:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if one.kind == http2.HEADERS and one.flags & http2.PRIORITY else payload


class Http2Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        if self.rfile.read(len(PREFACE)) != PREFACE:
            return
        line = Line(self.rfile, self.wfile)
        line.write(frame(http2.SETTINGS, 0, 0))
        for request in line.messages():
            line.write(answer(line, request))


def answer(line: Line, request: Http2Message) -> bytes:
    nonce = request.fields.get(NONCE_HEADER, "")
    head = {":status": "200", NONCE_HEADER: nonce}
    if request.fields.get("content-type", "").startswith("application/grpc"):
        head["content-type"] = "application/grpc"
        return (
            line.headers(request.stream, head, ends=False)
            + frame(http2.DATA, 0, request.stream, request.body)
            + line.headers(request.stream, {"grpc-status": "0"}, ends=True)
        )
    body = frame(http2.DATA, http2.END_STREAM, request.stream, nonce.encode())
    return line.headers(request.stream, head, ends=False) + body


class Http2Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


def ask(url: str, kind: str, count: int, rate: float) -> bool:
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port or 80), _TIMEOUT_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection.makefile("rb") as source, connection.makefile("wb") as sink:
            line = Line(source, sink)
            line.write(PREFACE + frame(http2.SETTINGS, 0, 0))
            answers = line.messages()
            for number in range(count):
                nonce = f"nonce-{uuid.uuid4().hex}"
                target = f"{parts.path}/{nonce}"
                line.write(request(line, 2 * number + 1, kind, parts.netloc, target, nonce))
                if not _is_answer(next(answers, None), kind, nonce):
                    return False
                method = "POST" if kind == "grpc" else "GET"
                said = {"nonce": nonce, "method": method, "target": target, "status": 200}
                sys.stdout.write(json.dumps(said) + "\n")
                sys.stdout.flush()
                if number + 1 < count:
                    time.sleep(1 / rate)
            line.write(frame(http2.GOAWAY, 0, 0, struct.pack("!II", 0, 0)))
    return True


def request(line: Line, stream: int, kind: str, authority: str, target: str, nonce: str) -> bytes:
    fields = {":method": "GET", ":scheme": "http", ":authority": authority, ":path": target, NONCE_HEADER: nonce}
    if kind != "grpc":
        return line.headers(stream, fields, ends=True)
    fields |= {":method": "POST", "content-type": "application/grpc", "te": "trailers"}
    message = struct.pack("!BI", 0, len(nonce)) + nonce.encode()  # not compressed, length, message
    return line.headers(stream, fields, ends=False) + frame(http2.DATA, http2.END_STREAM, stream, message)


def _is_answer(message: Http2Message | None, kind: str, nonce: str) -> bool:
    if message is None or message.fields.get(":status") != "200" or nonce.encode() not in message.body:
        return False
    return kind != "grpc" or (message.trailers or {}).get("grpc-status") == "0"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["serve", "ask"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--kind", choices=["http2", "grpc"], default="http2")
    parser.add_argument("--url")
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--count", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "serve":
        Http2Server(("", arguments.port), Http2Echo).serve_forever()
    return 0 if ask(arguments.url, arguments.kind, arguments.count, arguments.rate) else 1


if __name__ == "__main__":
    sys.exit(main())
