"""The tapper's cost for a byte of hostile traffic, compared with that for a byte of normal traffic.

`script/bench --prices` measures it.

The price of an input is the processor time from its packets to its NDJSON, divided by the bytes of its IP packets. The
form is that of this process: TAPPER_PLAIN and TAPPER_PURE choose another. Normal traffic is many small exchanges,
requests and answers of 200 bytes on connections that stay open: traffic with larger bodies costs less for each byte.
"""

from __future__ import annotations

import functools
import gc
import io
import os
import random
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path

import tapper
from bench.result import load_average
from harness.mesh.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
)
from harness.mesh.replay import FrameMaker, ReplayLeg
from tapper.output.console import Console
from tapper.output.records import Place
from tapper.output.shape import Shape
from tapper.output.sink import Sink
from tapper.protocols.records import Record
from tapper.run.parts import chosen
from tapper.run.writer import RecordWriter
from tapper.streams.connection import Scope
from tapper.streams.packet import Packet

POD = "10.0.0.2"
_SEGMENT = 32_000
START_NS = 1_700_000_000_000_000_000
_STEP_NS = 10_000
_AT_ONCE = 200
"""Packets that are read at a time."""
_FILLER = "x" * 400

_NO_SETTINGS = frame(SETTINGS, 0, 0)
_UPGRADE = b"GET / HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n%s\r\n"
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of one input."""

    what: str
    packets: int
    bytes: int
    seconds: float

    @property
    def ns_a_byte(self) -> float:
        return self.seconds / self.bytes * 1e9


def measure(scale: float = 1.0, times: int = 3) -> Iterator[Price]:
    """The price of each input, the normal one first. `scale` is the size of the inputs, 1.0 for about 1 MB each; the
    least of `times` measurements counts."""
    gc.freeze()  # as `tapper.cli` does
    gc.set_threshold(5_000, 10, 10)
    for what, make in INPUTS.items():
        packets = [ethernet[14:] for ethernet in make(scale)]
        seconds = min(_processor_time(packets) for _ in range(times))
        yield Price(what, len(packets), sum(map(len, packets)), seconds)


def _processor_time(packets: Sequence[bytes]) -> float:
    """Seconds of processor time for reading the packets in portions, and for writing their records."""
    parts, writes = chosen(), functools.partial(RecordWriter, console=Console(io.StringIO()), shape=Shape())
    portions = list(_portions(packets))
    with Path(os.devnull).open("wb", buffering=0) as nowhere:
        writer = writes(Sink(nowhere), parts.ndjson(), parts=parts)
        account = writer.open(Place("file", None, "lo", instance_ip=POD), Scope(POD, None))
        records: list[Record] = []
        began = time.process_time()
        for memory, read in portions:
            account.reader.packets(memory, read, records)
            writer.deliver(account, records)
            records.clear()
            writer.stay_within_bounds([account], writer.deliver)
        for rest in account.reader.finish():
            writer.deliver(account, rest)
        return time.process_time() - began


def _portions(packets: Sequence[bytes]) -> Iterator[tuple[bytes, list[Packet]]]:
    """As a ring gives them."""
    for first in range(0, len(packets), _AT_ONCE):
        yield in_memory(packets[first : first + _AT_ONCE], START_NS + first * _STEP_NS, _STEP_NS)


def in_memory(packets: Sequence[bytes], ts: int, step: int) -> tuple[bytes, list[Packet]]:
    """IP packets one after another in memory, as a reader takes them; the first one at `ts`, each other one `step`
    later, in nanoseconds."""
    places = pairwise(accumulate(map(len, packets), initial=0))
    return b"".join(packets), [(ts + number * step, 1, *place) for number, place in enumerate(places)]


def table(prices: list[Price]) -> str:
    """The prices as a table in Markdown; the first one is the normal one."""
    normal = prices[0].ns_a_byte
    lines = [
        "| input | bytes a packet | MB/s | µs a packet | times the normal price of a byte |",
        "|---|---:|---:|---:|---:|",
    ]
    for each in prices:
        size, pace, packet = each.bytes / each.packets, 1000 / each.ns_a_byte, each.seconds / each.packets * 1e6
        lines.append(f"| {each.what} | {size:.0f} | {pace:.2f} | {packet:.1f} | {each.ns_a_byte / normal:.1f} |")
    return "\n".join([*lines, f"\n{tapper.FORM}; load average {load_average()}\n"])


# The inputs: Ethernet frames on the pod's lo.


def _connection(number: int) -> FrameMaker:
    """A connection from the sidecar to the application."""
    client = (f"127.0.{number // 50_000}.6" if number >= 50_000 else "127.0.0.6", 10_000 + number % 50_000)
    return FrameMaker(_leg(client, (POD, 8080)))


def _leg(client: tuple[str, int], server: tuple[str, int]) -> ReplayLeg:
    return ReplayLeg(client, server, server)


def _exchange(number: int) -> tuple[bytes, bytes]:
    """A request and an answer of 200 bytes each, as two services have them."""
    request = f"GET /items/{number:08d} HTTP/1.1\r\nHost: shop\r\nUser-Agent: client/1.0\r\nX-Request-Id: {number:032x}"
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: shop\r\nX-Trace: {number:032x}"
    request += f"\r\nAccept: {_FILLER[: 200 - len(request) - 14]}\r\n\r\n"
    body = _FILLER[: 200 - len(answer) - 24]
    return request.encode(), f"{answer}\r\nContent-Length: {len(body):02d}\r\n\r\n{body}".encode()


def _kept(scale: float) -> Iterator[bytes]:
    connections = [_connection(number) for number in range(16)]
    for each in connections:
        yield from each.handshake()
    for number in range(_count(2_000, scale)):
        request, answer = _exchange(number)
        yield from connections[number % 16].data("client", request)
        yield from connections[number % 16].data("server", answer)


def _short(scale: float) -> Iterator[bytes]:
    for number in range(_count(1_300, scale)):
        it, (request, answer) = _connection(number), _exchange(number)
        yield from chain(it.handshake(), it.data("client", request), it.data("server", answer), it.fin())


def _syns(scale: float) -> Iterator[bytes]:
    for number in range(_count(20_000, scale)):
        yield _connection(number).handshake()[0]


def _reopened(scale: float) -> Iterator[bytes]:
    for number in range(_count(12_000, scale)):
        yield FrameMaker(_leg(("127.0.0.6", 10_000), (POD, 8080)), client_isn=number * 77_777).handshake()[0]


def _waiting(scale: float) -> Iterator[bytes]:
    for number in range(_count(10_000, scale)):
        it = FrameMaker(_leg((POD, 1_024 + number % 60_000), ("127.0.0.1", 15001)), client_isn=number)
        yield from chain(it.skip_handshake(), it.data("client", b"GET / HTTP/1.1\r\n\r\n"))


def _bytewise(scale: float) -> Iterator[bytes]:
    it = _connection(1)
    yield from it.handshake()
    for _ in range(_count(12, scale)):
        yield from it.data("client", b"GET / HTTP/1.1\r\nA: " + b"a" * 2_000 + b"\r\n\r\n", 1)


def _out_of_order(scale: float) -> Iterator[bytes]:
    it = _connection(1)
    yield from it.handshake()
    it.data("client", b"?")  # never arrives
    segments = it.data("client", b"a" * _count(24_000, scale), 1)
    random.Random(1).shuffle(segments)
    yield from segments


def _pipelined(scale: float) -> Iterator[bytes]:
    return _sent(b"", b"", b"GET / HTTP/1.1\r\n\r\n" * _count(20_000, scale))


def _chunked(scale: float) -> Iterator[bytes]:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return _answered(b"GET / HTTP/1.1\r\n\r\n", head + b"1\r\nA\r\n" * _count(80_000, scale))


def _short_lines(scale: float) -> Iterator[bytes]:
    chance = random.Random(1)
    heads = [
        b"GET / HTTP/1.1\r\n" + b"".join(b"a:%c\r\n" % chance.randrange(33, 126) for _ in range(400)) + b"\r\n"
        for _ in range(_count(250, scale))
    ]
    return _sent(b"", b"", b"".join(heads))


def _short_messages(scale: float) -> Iterator[bytes]:
    return _answered(_UPGRADE, _SWITCH % b"" + b"\x81\x00" * _count(200_000, scale))


def _inflating(scale: float) -> Iterator[bytes]:
    engine = zlib.compressobj(9, wbits=-15)
    message = (engine.compress(bytes((16 << 20) - 100)) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]
    sent = bytes([0xC1, 126]) + struct.pack("!H", len(message)) + message
    return _answered(_UPGRADE, _SWITCH % _DEFLATE + sent * _count(20, scale))


def _rapid_reset(scale: float) -> Iterator[bytes]:
    streams = range(1, 2 * _count(16_000, scale), 2)
    return _http2(
        b"".join(
            frame(HEADERS, END_HEADERS, each, b"\x82\x84\x86") + frame(RST_STREAM, 0, each, bytes(4))
            for each in streams
        )
    )


def _empty_data(scale: float) -> Iterator[bytes]:
    return _http2(frame(HEADERS, END_HEADERS, 1, b"\x82\x84\x86") + frame(DATA, 0, 1) * _count(50_000, scale))


def _continuation(scale: float) -> Iterator[bytes]:
    return _http2(frame(HEADERS, 0, 1, b"\x82") + frame(CONTINUATION, 0, 1, b"\x82") * _count(40_000, scale))


def _indexed(scale: float) -> Iterator[bytes]:
    streams = range(1, 2 * _count(80, scale), 2)
    return _http2(b"".join(_request_frame(each, b"\x86" * 8_000) for each in streams))


def _huffman(scale: float) -> Iterator[bytes]:
    chance = random.Random(1)
    blocks = b""
    for stream in range(1, 2 * _count(60, scale), 2):
        value = bytes(chance.choice(b"\x00\x10\x20\x30\x08") for _ in range(6_000)) + b"\x07"  # ends with padding
        blocks += _request_frame(stream, b"\x00\x01a\xff" + bytes([5_874 & 127 | 128, 5_874 >> 7]) + value)
    return _http2(blocks)


def _churned_table(scale: float) -> Iterator[bytes]:
    chance = random.Random(1)
    fields = b"".join(b"\x40\x02%02d\x02%02d" % (chance.randrange(99), chance.randrange(99)) for _ in range(1_300))
    return _http2(b"".join(_request_frame(each, fields) for each in range(1, 2 * _count(60, scale), 2)))


def _request_frame(stream: int, fields: bytes) -> bytes:
    """A request in one HEADERS frame: GET / with these encoded fields."""
    return frame(HEADERS, END_STREAM | END_HEADERS, stream, b"\x82\x84" + fields)


def _http2(frames: bytes) -> Iterator[bytes]:
    return _sent(PREFACE + _NO_SETTINGS, _NO_SETTINGS, frames)


def _sent(hello: bytes, welcome: bytes, data: bytes) -> Iterator[bytes]:
    """A connection on which the client sends all of the data."""
    it = _connection(1)
    yield from chain(it.handshake(), it.data("client", hello), it.data("server", welcome))
    yield from it.data("client", data, _SEGMENT)


def _answered(request: bytes, data: bytes) -> Iterator[bytes]:
    """A connection on which the server answers with the data."""
    it = _connection(1)
    yield from chain(it.handshake(), it.data("client", request), it.data("server", data, _SEGMENT))


def _count(number: int, scale: float) -> int:
    return max(1, int(number * scale))


INPUTS: dict[str, Callable[[float], Iterator[bytes]]] = {
    "normal: exchanges of 200 and 200 bytes": _kept,
    "the same, each on a connection of its own": _short,
    "SYNs from other ports": _syns,
    "SYNs from one port, with other numbers": _reopened,
    "requests to Envoy's outbound listener without an answer": _waiting,
    "a request in segments of one byte": _bytewise,
    "segments of one byte out of order": _out_of_order,
    "pipelined requests of 18 bytes": _pipelined,
    "chunks of one byte": _chunked,
    "header fields of two bytes": _short_lines,
    "WebSocket messages without a payload": _short_messages,
    "WebSocket messages that inflate to 16 MiB": _inflating,
    "HTTP/2 streams that are reset at once": _rapid_reset,
    "HTTP/2 DATA frames without a payload": _empty_data,
    "HTTP/2 CONTINUATION frames of one byte": _continuation,
    "HPACK references of one byte": _indexed,
    "HPACK strings in Huffman code": _huffman,
    "HPACK entries that evict each other": _churned_table,
}
