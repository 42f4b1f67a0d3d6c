"""What is counted as held is what the interpreter allocates, give or take a quarter."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import pytest
from tapper_wire import Wire, one_packet

import tapper
from tapper.protocols.messages import BODY_LIMIT
from tapper.protocols.session import Session
from tapper.run.parts import PLAIN, Parts, chosen
from tapper.streams.connection import Scope

pytestmark = pytest.mark.skipif(
    tapper.FORM == "compiled", reason="the prices are those of the interpreted form; the compiled one takes less"
)
POD = "10.0.0.2"
FIELDS = b"".join(
    b"%s: %s-%d\r\n" % (name, name * 2, 7) for name in (b"user-agent", b"accept", b"x-request-id", b"traceparent")
)
GET = b"GET /%d HTTP/1.1\r\nHost: shop\r\n" + FIELDS + b"\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


def wire(number: int) -> Wire:
    return Wire((("127.0.0.6", 10_000 + number), (POD, 8080)))


def idle(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    yield from (it.ask(GET % number), it.answer(OK))


def unanswered(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    yield it.ask(GET % number)


def slowly_answered(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    yield it.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n" + bytes(20_000))
    yield it.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + bytes(10_000))


def http2_idle(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    yield from (it.ask(PREFACE + SETTINGS), it.answer(SETTINGS))


def http2_open(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from http2_idle(number)
    it = wire(number)
    [*it.handshake(), it.ask(PREFACE + SETTINGS), it.answer(SETTINGS)]
    for stream in range(1, 21, 2):
        block = b"\x82\x86" + b"".join(b"\0\4n%03d\x10%016d" % (at, number + at) for at in range(6)) + b"\x04\x03/ab"
        yield it.ask(len(block).to_bytes(3, "big") + b"\1\4" + stream.to_bytes(4, "big") + block)


def http2_blocks(number: int) -> Iterator[bytes]:
    """Complete exchanges whose header blocks never repeat, so that only a cache keeps them."""
    it = wire(number)
    yield from it.handshake()
    yield from (it.ask(PREFACE + SETTINGS), it.answer(SETTINGS))
    for stream in range(1, 11, 2):
        block = b"\x82\x84\x86" + b"".join(b"\0\x03%03d\x04%04d" % (at, number * 10 + stream) for at in range(40))
        yield it.ask(len(block).to_bytes(3, "big") + b"\1\5" + stream.to_bytes(4, "big") + block)
        yield it.answer(b"\0\0\1\1\5" + stream.to_bytes(4, "big") + b"\x88")


def deflated(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    yield it.ask(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n")
    yield it.answer(b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
    engine = zlib.compressobj(wbits=-15)
    message = (engine.compress(b"hello") + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]
    yield it.answer(bytes([0xC1, len(message)]) + message)


def half(number: int) -> Iterator[bytes]:
    yield Wire(((POD, 10_000 + number), ("127.0.0.1", 15001))).ask(GET % number)


def behind_a_hole(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    it.ask(b"x")
    for _ in range(20):
        yield it.ask(b"yz")


def waiting_in_order(number: int) -> Iterator[bytes]:
    it = wire(number)
    yield from it.handshake()
    it.ask(b"x")
    for _ in range(20):
        yield it.answer(b"yz")


def measured(parts: Parts, packets: Callable[[int], Iterator[bytes]]) -> float:
    """How many bytes are allocated for each byte that is counted."""
    connections = parts.connections(Scope(POD, None), lambda it: Session(it, lambda _: None, BODY_LIMIT, parts.readers))

    def feed(numbers: range) -> None:
        for number in numbers:
            for raw in packets(number):
                one_packet(connections, 1_700_000_000_000_000_000, raw)

    feed(range(20))  # what all connections share
    gc.collect()
    tracemalloc.start()
    try:
        before = connections.held
        feed(range(20, 80))
        gc.collect()
        allocated, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return allocated / (connections.held - before)


@pytest.mark.parametrize(
    "packets",
    [
        idle,
        unanswered,
        slowly_answered,
        http2_idle,
        http2_open,
        http2_blocks,
        deflated,
        half,
        behind_a_hole,
        waiting_in_order,
    ],
)
def test_the_price_of_what_is_held(packets: Callable[[int], Iterator[bytes]]) -> None:
    """The fast parts share header fields, so they may take less than is counted."""
    assert 0.75 < measured(PLAIN, packets) < 1.25
    assert 0.4 < measured(chosen(), packets) < 1.25
