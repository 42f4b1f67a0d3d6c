"""TLS of the application's own, and bytes that nobody can read: said once, with what can be known of them."""

from __future__ import annotations

import json
import ssl

import pytest
from h2_wire import opening
from hypothesis import given
from hypothesis import strategies as st
from tapper_wire import Capture, Wire, endpoint, get

from tapper.output.ndjson import Ndjson
from tapper.output.records import Place
from tapper.output.text import Text
from tapper.protocols.facts import ByteStream, Tls
from tapper.protocols.tls import HELLO_LIMIT, HelloReader, client_hello
from tapper.streams.reassembly import Data

POD = Place("pod", 1, "lo", 77, "10.0.0.2")


def wire() -> Wire:
    return Wire((("127.0.0.6", 40000), ("10.0.0.2", 8080)))


def hello(name: str | None = "shop.example", alpn: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """A ClientHello by OpenSSL, records and all."""
    context = ssl.create_default_context()
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def records(data: bytes, step: int) -> bytes:
    """The same handshake message in records of `step` octets."""
    message = data[5:]
    pieces = [message[at : at + step] for at in range(0, len(message), step)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def say(packets: Wire, client: bytes, server: bytes, step: int = 10_000) -> list[bytes]:
    out = [packets.ask(client[at : at + step]) for at in range(0, len(client), step)]
    return out + [packets.answer(server[at : at + step]) for at in range(0, len(server), step)]


def facts(capture: Capture) -> list[object]:
    return [record.fact for record in capture.facts]


@pytest.mark.parametrize("step", [1, 7, 10_000])
@pytest.mark.parametrize("record", [40, 16_000])
def test_a_client_hello_in_any_pieces(step: int, record: int) -> None:
    it = wire()
    capture = Capture().feed(it.handshake())
    first = capture.ts + 1_000_000
    capture.feed(say(it, records(hello(), record) + b"\x17\x03\x03\0\2ab", b"\x16\x03\x03\0\1\2", step))
    assert facts(capture) == [Tls(first, "shop.example", ("h2", "http/1.1"))], "before the connection ends"
    capture.feed(it.close()).finish()
    assert len(capture.facts) == 1
    assert (capture.undecoded, capture.seen) == (["tls"], [])
    assert (capture.facts[0].leg.src, capture.facts[0].leg.dst) == (
        endpoint("127.0.0.6:40000"),
        endpoint("10.0.0.2:8080"),
    )


def test_a_hello_that_names_nothing() -> None:
    it = wire()
    (fact,) = facts(Capture().feed([*it.handshake(), it.ask(hello(None, ()))]))
    assert isinstance(fact, Tls)
    assert (fact.sni, fact.alpn) == (None, ())


def test_tls_without_a_hello_is_a_fact() -> None:
    it = wire()
    it.handshake()
    capture = Capture().feed([it.ask(b"\x17\x03\x03\0\2ab"), it.answer(b"\x17\x03\x03\0\2ab")]).finish()
    assert facts(capture) == [Tls(capture.ts - 1_000_000, None, ())]


def test_a_hello_tells_who_the_client_is() -> None:
    reader = HelloReader(None)
    assert not reader.data(0, Data(b"\x16\x03\x03\0\4\2\0\0\0", 5, 0, 0))
    assert reader.client == 1
    (fact,) = reader.data(1, Data(hello(), 6, 0, 0))
    assert fact is not None
    assert (fact.ts, fact.sni) == (5, "shop.example")


def test_a_hole_in_the_hello() -> None:
    reader = HelloReader(0)
    assert not reader.data(0, Data(hello()[:40], 5, 0, 0))
    assert reader.held > 0
    assert list(reader.gap(0, 1)) == [Tls(5, None, ())]
    assert (reader.held, list(reader.finish())) == (0, [])


def test_a_hello_is_not_waited_for_without_end() -> None:
    reader = HelloReader(0)
    endless = b"\x01" + (HELLO_LIMIT + 1).to_bytes(3, "big") + bytes(100)
    assert list(reader.data(0, Data(b"\x16\x03\x01\0\x68" + endless, 5, 0, 0))) == [Tls(5, None, ())]


@given(st.binary(max_size=300), st.integers(1, 20), st.sampled_from([None, 0, 1]), st.booleans())
def test_no_bytes_make_it_raise(data: bytes, step: int, client: int | None, like: bool) -> None:
    """Whatever comes, there is one fact at most, and nothing is held once it is told."""
    sent = b"\x16\x03\x01" + len(data).to_bytes(2, "big") + data if like else data
    reader = HelloReader(client)
    facts: list[Tls] = []
    for at in range(0, len(sent), step):
        facts += reader.data(at % 2, Data(sent[at : at + step], at, 0, 0))
    facts += reader.finish()
    assert len(facts) == (1 if sent else 0)
    assert reader.held == 0


@given(st.integers(0, 600), st.integers(0, 255))
def test_a_damaged_hello_is_refused_or_read(at: int, value: int) -> None:
    body = bytearray(hello()[9:])
    body[at % len(body)] = value
    client_hello(bytes(body))
    assert client_hello(bytes(body)[: at % 40]) is None


def test_bytes_of_an_unknown_protocol() -> None:
    it = wire()
    capture = Capture().feed(
        [*it.handshake(), *say(it, b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n" + b"x" * 100), *it.close()]
    )
    (fact,) = facts(capture)
    assert isinstance(fact, ByteStream)
    assert (fact.what, fact.sizes, fact.lost, fact.client_known) == ("other", (14, 107), 0, True)
    assert fact.previews == (b"*1\r\n$4\r\nPING\r\n", (b"+PONG\r\n" + b"x" * 100)[:64])
    line = json.loads(Ndjson().fact(POD, capture.facts[0]), parse_float=str)
    assert line == {
        "type": "stream",
        "ts": f"{fact.ts // 10**9}.{fact.ts % 10**9:09}",
        "pod_ip": "10.0.0.2",
        "direction": "inbound",
        "src": "127.0.0.6:40000",
        "dst": "10.0.0.2:8080",
        "mtls": None,
        "what": "other",
        "client_bytes": 14,
        "server_bytes": 107,
        "lost_bytes": 0,
        "client_preview": "*1\\r\\n$4\\r\\nPING\\r\\n",
        "server_preview": "+PONG\\r\\n" + "x" * 57,
        "client_known": True,
        "netns": 1,
    }
    text = Text().fact(POD, capture.facts[0])
    assert "bytes (other)  14 B sent: *1\\r\\n$4\\r\\nPING\\r\\n  107 B received: +PONG\\r\\n" in text


def test_bytes_that_were_lost_are_counted() -> None:
    it = wire()
    packets = [*it.handshake(), it.ask(b"?" * 100), it.ask(b"lost" * 5), it.ask(b"!"), it.answer(b"x"), it.client_ack()]
    del packets[4]
    (fact,) = facts(Capture().feed(packets).finish())
    assert isinstance(fact, ByteStream)
    assert (fact.sizes, fact.lost) == ((121, 1), 20)


def test_bytes_that_were_lost_before_the_first_ones_are_counted() -> None:
    it = wire()
    packets = [*it.handshake(), it.ask(b"lost" * 5), it.ask(b"?!"), it.answer(b"x"), it.client_ack()]
    del packets[3]
    (fact,) = facts(Capture().feed(packets).finish())
    assert isinstance(fact, ByteStream)
    assert (fact.sizes, fact.lost, fact.previews) == ((22, 1), 20, (b"?!", b"x"))


def test_http2_without_a_readable_message() -> None:
    it = wire()
    capture = Capture().feed([*it.handshake(), it.ask(opening() + b"no frames"), it.ask(b"at all"), *it.close()])
    (fact,) = facts(capture)
    assert isinstance(fact, ByteStream)
    assert (fact.what, fact.sizes) == ("http2", (len(opening()) + 15, 0))
    assert capture.undecoded == ["http2"]


@pytest.mark.parametrize(
    ("asked", "answered", "what"),
    [
        (b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", "tunnel"),
        (b"GET / HTTP/1.1\r\nUpgrade: Foo\r\n\r\n", b"HTTP/1.1 101 S\r\nUpgrade: Foo\r\n\r\n", "foo"),
    ],
)
@pytest.mark.parametrize("step", [1, 1000])
def test_what_follows_an_upgrade(asked: bytes, answered: bytes, what: str, step: int) -> None:
    it = wire()
    packets = [
        *it.handshake(),
        *say(it, asked, answered + b"hello", step),
        *say(it, get("/no"), b"", step),
        *it.close(),
    ]
    capture = Capture().feed(packets)
    (fact,) = facts(capture)
    assert isinstance(fact, ByteStream)
    assert (fact.what, fact.previews) == (what, (get("/no"), b"hello"))
    assert (len(capture.seen), capture.undecoded) == (1, [])


def test_http_makes_no_facts() -> None:
    it = wire()
    capture = Capture().feed([*it.handshake(), *it.exchange("/1", "a"), *it.close()]).finish()
    assert (capture.pairs, capture.facts) == ([("/1", "a")], [])
    silent = wire()
    assert Capture().feed([*silent.handshake(), *silent.close()]).finish().facts == []


def test_text_of_tls() -> None:
    it = wire()
    capture = Capture().feed([*it.handshake(), it.ask(hello("shop.example"))])
    assert Text().fact(POD, capture.facts[0]).endswith("TLS shop.example h2 http/1.1\n")
    record = json.loads(Ndjson().fact(POD, capture.facts[0]))
    assert (record["type"], record["sni"], record["alpn"]) == ("tls", "shop.example", ["h2", "http/1.1"])
