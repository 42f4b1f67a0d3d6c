"""A run over a capture writes the same bytes with the fast parts as with the plain ones, in every format."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import Wire, get, ok

from tapper.fast import PARTS
from tapper.output import pcapng
from tapper.output.console import Console
from tapper.output.format import Format
from tapper.output.har import Har
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.output.text import Text
from tapper.run.parts import PLAIN, Parts
from tapper.run.replay import Replay
from tapper.run.writer import RecordWriter

TS = 1_700_000_000_999_999_990
FORMATS: dict[str, Callable[[Parts], Format]] = {
    "ndjson": lambda parts: parts.ndjson(),
    "text": lambda _: Text(verbose=True),
    "har": lambda _: Har(),
}


def capture(packets: list[bytes]) -> bytes:
    file = pcapng.section_header("t") + pcapng.interface("10.0.0.2 lo", "")
    return file + b"".join(pcapng.packet(0, TS + number * 7, packet) for number, packet in enumerate(packets))


def output(file: bytes, form: Format, parts: Parts) -> bytes:
    written = io.BytesIO()
    console = Console(io.StringIO())
    Replay(frozenset(), RecordWriter(Sink(written), form, console, Shape(), None, 40, parts)).run(io.BytesIO(file), "x")
    return written.getvalue()


REQUESTS = [
    get("/a"),
    get('/"quoted"\xe9'),
    b"GET /probe HTTP/1.1\r\nUser-Agent: kube-probe/1.30\r\n\r\n",
    b"POST /secret HTTP/1.1\r\nCookie: a=b\r\nX-Id: %d\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /chunks HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nCookie: c\r\n\r\n",
    b"POST /long HTTP/1.1\r\nContent-Length: 50\r\n\r\n" + b"l" * 50,
    b"HEAD /head HTTP/1.1\r\n\r\n",
    b"POST /waits HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    b"CONNECT h:1 HTTP/1.1\r\n\r\n",
    b"GET /chat HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n",
    b"not HTTP at all",
]
RESPONSES = [
    ok("x"),
    b"HTTP/1.1 200 OK\r\nSet-Cookie: s=%d\r\nDate: now\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 404 No\r\nContent-Length: 9\r\n\r\nnot",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 304 Same\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
]
SEGMENTS = st.tuples(st.sampled_from(["client", "server"]), st.sampled_from(REQUESTS), st.sampled_from(RESPONSES))


@settings(max_examples=60)
@given(st.lists(st.tuples(SEGMENTS, st.sampled_from(["kept", "kept", "kept", "lost"])), max_size=14), st.booleans())
def test_any_conversation(segments: list[tuple[tuple[str, bytes, bytes], str]], from_start: bool) -> None:
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    packets = wire.handshake()
    if not from_start:
        packets = []
    for number, ((side, request, response), fate) in enumerate(segments):
        data = (request if side == "client" else response).replace(b"%d", b"%d" % number)
        packet = wire.ask(data) if side == "client" else wire.answer(data)
        if fate == "kept":
            packets += [packet, wire.server_ack() if side == "client" else wire.client_ack()]
    file = capture(packets + wire.close())
    for make in FORMATS.values():
        assert output(file, make(PARTS), PARTS) == output(file, make(PLAIN), PLAIN)


@pytest.mark.parametrize("form", FORMATS)
def test_the_comparison_sees_exchanges(form: str) -> None:
    """The canary: the outputs that are compared have exchanges in them."""
    wire = Wire((("10.0.0.3", 40000), ("10.0.0.2", 8080)))
    packets = [*wire.handshake(), wire.ask(get("/a")), wire.answer(ok("x")), *wire.close()]
    assert b"/a" in output(capture(packets), FORMATS[form](PARTS), PARTS)
