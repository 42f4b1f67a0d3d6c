"""A PROXY header is passed over and told, ahead of every protocol, in any pieces; all else is read as ever."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from h2_wire import SETTINGS, Peer, opening
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, get, ok

from tapper.protocols.facts import Tls
from tapper.protocols.proxy_protocol import SIGNATURE, HeaderRemover, may_become_header, parse
from tapper.streams.connection import Scope
from tapper.streams.reassembly import Data

ENDS = (("10.0.0.3", 40000), ("10.0.0.2", 8080))


def binary(command: int = 0x21, family: int = 0x11, addresses: bytes = b"", tlvs: bytes = b"") -> bytes:
    body = addresses + tlvs
    return SIGNATURE + bytes([command, family]) + len(body).to_bytes(2, "big") + body


def pair(source: str, destination: str) -> bytes:
    ports = (56324).to_bytes(2, "big") + (443).to_bytes(2, "big")
    return ip_address(source).packed + ip_address(destination).packed + ports


TLV = b"\x04\x00\x05hello"
HEADERS = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n", "192.0.2.1:56324"),
    (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "[2001:db8::1]:56324"),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", None),
    (b"PROXY TCP4 999.0.2.1 192.0.2.2 56324 443\r\n", None),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 443\r\n", None),
    (b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n", None),
    (binary(addresses=pair("192.0.2.1", "192.0.2.2")), "192.0.2.1:56324"),
    (binary(addresses=pair("192.0.2.1", "192.0.2.2"), tlvs=TLV * 500), "192.0.2.1:56324"),
    (binary(family=0x21, addresses=pair("2001:db8::1", "2001:db8::2"), tlvs=TLV), "[2001:db8::1]:56324"),
    (binary(command=0x20, family=0), None),
    (binary(command=0x20, addresses=pair("192.0.2.1", "192.0.2.2")), None),
    (binary(family=0x31, addresses=bytes(216)), None),
    (binary(family=0x11, addresses=b"short"), None),
    (binary(family=0x12, addresses=pair("192.0.2.1", "192.0.2.2")), None),
    (binary(tlvs=bytes(65_535), family=0), None),
]


@pytest.mark.parametrize(("header", "source"), HEADERS)
@pytest.mark.parametrize("step", [1, 7, 60_000])
def test_http1_after_a_header(header: bytes, source: str | None, step: int) -> None:
    step = step if len(header) < 1000 else max(step, 1000)
    wire = Wire(ENDS)
    sent = header + get("/1")
    capture = Capture(Scope(None, None)).feed(wire.handshake())
    capture.feed([wire.ask(sent[at : at + step]) for at in range(0, len(sent), step)])
    capture.feed([wire.answer(ok("a")), *wire.exchange("/2", "b")]).finish()
    assert capture.pairs == [("/1", "a"), ("/2", "b")]
    for record in capture.seen:
        assert str(record.leg.src) == "10.0.0.3:40000", "the packets' address stays"
        proxied_for = record.leg.proxied_for
        assert (None if proxied_for is None else str(proxied_for)) == source
        assert record.exchange.outcome.kind == "complete"


@pytest.mark.parametrize("header", [HEADERS[0][0], HEADERS[8][0]])
def test_http2_and_tls_after_a_header(header: bytes) -> None:
    wire, client, server = Wire(ENDS), Peer(), Peer()
    capture = Capture(Scope(None, None)).feed(wire.handshake())
    capture.feed([wire.ask(header), wire.ask(opening() + client.get(1, "/h2")), wire.answer(SETTINGS + server.ok(1))])
    [record] = capture.finish().seen
    assert (record.exchange.request and record.exchange.request.head.target) == "/h2"
    assert str(record.leg.proxied_for) == "192.0.2.1:56324"
    wire = Wire(ENDS)
    capture = Capture(Scope(None, None)).feed([*wire.handshake(), wire.ask(header + b"\x16\x03\x01\x00\x05hello")])
    [fact] = capture.finish().facts
    assert isinstance(fact.fact, Tls)
    assert str(fact.leg.proxied_for) == "192.0.2.1:56324"


def test_a_header_is_recognised_where_the_handshake_was_not_captured() -> None:
    wire = Wire(ENDS)
    wire.handshake()
    capture = Capture(Scope(None, None)).feed([wire.ask(HEADERS[7][0] + get("/1")), wire.answer(ok("a"))]).silence()
    assert capture.pairs == [("/1", "a")]
    assert str(capture.seen[0].leg.proxied_for) == "192.0.2.1:56324"


@pytest.mark.parametrize("lost", [10, 500])
def test_bytes_that_are_missing_within_a_header_are_passed_over(lost: int) -> None:
    wire = Wire(ENDS)
    header = binary(addresses=pair("192.0.2.1", "192.0.2.2"), tlvs=bytes(600))
    capture = Capture(Scope(None, None)).feed([*wire.handshake(), wire.ask(header[:60])])
    wire.ask(header[60 : 60 + lost])
    capture.feed([wire.ask(header[60 + lost :] + get("/1")), wire.server_ack(), wire.answer(ok("a"))]).finish()
    assert capture.pairs == [("/1", "a")]


@pytest.mark.parametrize(
    "sent",
    [
        b"PROXY /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"P /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_only_begins_like_a_header_is_read_as_ever(sent: bytes, step: int) -> None:
    wire = Wire(ENDS)
    capture = Capture(Scope(None, None)).feed(wire.handshake())
    capture.feed([wire.ask(sent[at : at + step]) for at in range(0, len(sent), step)])
    capture.feed([wire.answer(ok("a"))]).finish()
    assert capture.pairs == [("/x", "a")]
    assert capture.seen[0].leg.proxied_for is None


@given(st.sampled_from([header for header, _ in HEADERS]) | st.binary(max_size=120), st.binary(max_size=40), st.data())
def test_no_bytes_are_invented_reordered_or_kept_for_long(header: bytes, more: bytes, draws: st.DataObject) -> None:
    """Whatever comes, what is passed on is the stream without its header, with its numbers."""
    sent, seq, at, passed = header + more, 4_294_967_200, 0, b""
    remover = HeaderRemover()
    while at < len(sent) and not remover.is_done:
        size = draws.draw(st.integers(1, 30 if len(sent) < 1000 else 70_000))
        chunks = remover.feed(Data(sent[at : at + size], 1, (seq + at) & 0xFFFF_FFFF, 2))
        at += len(sent[at : at + size])
        for chunk in chunks:
            assert chunk.seq == (seq + at - len(chunk.data)) & 0xFFFF_FFFF or len(chunks) > 1
            passed += chunk.data
    if remover.is_done:
        found = parse(sent)
        expected = sent if remover.header is None else sent[remover.header.size :]
        assert (found is None) == (remover.header is None)
        assert passed + sent[at:] == expected
    elif remover.header is None:
        assert may_become_header(sent)
        assert len(sent) <= 107
