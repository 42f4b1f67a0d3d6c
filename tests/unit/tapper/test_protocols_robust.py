"""Whatever a connection carries, and whatever of it is lost."""

from __future__ import annotations

import json

from h2_wire import SETTINGS, Peer, data, opening
from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, get, ok

from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.output.text import Text

PLACE = Place("pod", 1, "lo", 77, "10.0.0.2")
UPGRADE = b"GET /up HTTP/1.1\r\nHost: h\r\nUpgrade: x\r\n\r\n"


def pieces() -> list[bytes]:
    """Parts of all the protocols that are told apart."""
    client, server = Peer(), Peer()
    return [
        opening(),
        SETTINGS,
        client.get(1, "/1", ("x", "y"), end=False),
        client.get(3, "/3", ("x", "y"), ("content-type", "application/grpc")),
        server.ok(1, b"abc", ("x", "y")),
        server.ok(3, b"\0\0\0\0\1x", ("content-type", "application/grpc")),
        server.headers(3, [("grpc-status", "0")], end=True),
        data(1, b"body", end=True),
        get("/a"),
        ok("b"),
        UPGRADE,
        b"POST /long HTTP/1.1\r\nContent-Length: 50\r\n\r\nbegun",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nbegun",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        *(b"HTTP/1.1 101 S\r\nUpgrade: %s\r\n\r\n" % name for name in (b"h2c", b"websocket", b"foo\x1b[2J")),
        b"\x81\x05hello",
        b"\x81\x85\0\0\0\0hello",
        b"\x16\x03\x01\0\x05\x01\0\0\x01\0",
        b"\x17\x03\x03\0\2ab",
        b"\x1b[2J\xff",
    ]


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.one_of(st.sampled_from(pieces()), st.binary(max_size=30)), st.integers(0, 9)),
        max_size=25,
    ),
    st.booleans(),
)
def test_any_connection_is_read_to_its_end(sent: list[tuple[int, bytes, int]], joined_midway: bool) -> None:
    """Nothing raises, nothing is held at the end, every record is one line, and no line carries control characters."""
    it = Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))
    capture = Capture()
    handshake = it.handshake()
    capture.feed([] if joined_midway else handshake)
    came = False
    for side, piece, luck in sent:
        packet = it.answer(piece) if side else it.ask(piece)
        if luck:  # one in ten is lost
            capture.feed([packet])
            came = came or bool(piece)
    capture.feed(it.close()).finish()
    assert capture.connections.held == 0
    form, text = Ndjson(), Text()
    lines = [form.exchange(PLACE, it) for it in capture.seen] + [form.fact(PLACE, it) for it in capture.facts]
    assert all(json.loads(line)["src"] and line.count("\n") == 1 for line in lines)
    shown = [text.exchange(PLACE, it) for it in capture.seen] + [text.fact(PLACE, it) for it in capture.facts]
    assert all(line.removesuffix("\n").isprintable() and line.isascii() for line in shown)
    assert all(json.loads(line)["ts"] >= 1_700_000_000 for line in lines)
    assert bool(lines) == came, "a connection that carried anything is never invisible"
