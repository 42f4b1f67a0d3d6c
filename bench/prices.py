"""What a byte of hostile traffic costs the tapper, compared with a byte of normal traffic. `script/bench --prices`.

The price of an input is the processor time that `tapper tap -r FILE -o ndjson` takes for a capture file of it, divided
by the bytes of its IP packets. The time for a file without packets, which is that of the program's start, is taken off.
Normal traffic is many small exchanges, requests and answers of 200 bytes on connections that stay open: real traffic
with larger bodies costs less for each byte.
"""

from __future__ import annotations

import os
import random
import resource
import statistics
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from bench.result import load_average
from harness.adapters.reference import TAPPER_ENVIRON, tapper_argv
from harness.errors import HarnessError
from harness.mesh.replay import FrameMaker, ReplayLeg
from tapper.output import pcapng

POD = "10.0.0.2"
_SEGMENT = 32_000
_START_NS = 1_700_000_000_000_000_000
_STEP_NS = 10_000
_LIMIT_S = 300.0
_FILLER = "x" * 400

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS = b"\0\0\0\4\0\0\0\0\0"
_UPGRADE = b"GET / HTTP/1.1\r\nHost: shop\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n%s\r\n"
_DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of one input."""

    what: str
    bytes: int
    seconds: float

    @property
    def ns_a_byte(self) -> float:
        return self.seconds / self.bytes * 1e9


def measure(scale: float = 1.0, times: int = 3) -> Iterator[Price]:
    """The price of each input, the normal one first. `scale` is the size of the inputs, 1.0 for about 1 MB each; the
    median of `times` measurements counts. Raises HarnessError if the tapper fails."""
    with tempfile.TemporaryDirectory(prefix="bench-prices") as directory:
        file = Path(directory, "packets.pcapng")
        start = _processor_time(file, [], times)
        for what, make in INPUTS.items():
            packets = [frame[14:] for frame in make(scale)]
            seconds = _processor_time(file, packets, times)
            yield Price(what, sum(map(len, packets)), max(seconds - start, 1e-6))


def _processor_time(file: Path, packets: Iterable[bytes], times: int) -> float:
    with file.open("wb") as out:
        out.write(pcapng.section_header("bench") + pcapng.interface(f"{POD} lo", ""))
        for number, data in enumerate(packets):
            out.write(pcapng.packet(0, _START_NS + number * _STEP_NS, data))
    return statistics.median(_run(file) for _ in range(times))


def _run(file: Path) -> float:
    """The processor time of one run, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environ = TAPPER_ENVIRON | {
        name: os.environ[name] for name in ("TAPPER_PLAIN", "TAPPER_PURE") if name in os.environ
    }
    done = subprocess.run(
        tapper_argv("tap", "-r", str(file), "-o", "ndjson"),
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise HarnessError(f"the tapper ended with {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table(prices: list[Price]) -> str:
    """The prices as a table in Markdown; the first one is the normal one."""
    normal = prices[0].ns_a_byte
    lines = ["| input | MB/s | times the normal price |", "|---|---:|---:|"]
    lines += [f"| {each.what} | {1000 / each.ns_a_byte:.2f} | {each.ns_a_byte / normal:.1f} |" for each in prices]
    return "\n".join([*lines, f"\nload average: {load_average()}\n"])


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
    frame = bytes([0xC1, 126]) + struct.pack("!H", len(message)) + message
    return _answered(_UPGRADE, _SWITCH % _DEFLATE + frame * _count(20, scale))


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _rapid_reset(scale: float) -> Iterator[bytes]:
    streams = range(1, 2 * _count(16_000, scale), 2)
    return _http2(b"".join(_frame(1, 4, each, b"\x82\x84\x86") + _frame(3, 0, each, bytes(4)) for each in streams))


def _empty_data(scale: float) -> Iterator[bytes]:
    return _http2(_frame(1, 4, 1, b"\x82\x84\x86") + _frame(0, 0, 1) * _count(50_000, scale))


def _continuation(scale: float) -> Iterator[bytes]:
    return _http2(_frame(1, 0, 1, b"\x82") + _frame(9, 0, 1, b"\x82") * _count(40_000, scale))


def _indexed(scale: float) -> Iterator[bytes]:
    streams = range(1, 2 * _count(80, scale), 2)
    return _http2(b"".join(_frame(1, 5, each, b"\x82\x84" + b"\x86" * 8_000) for each in streams))


def _huffman(scale: float) -> Iterator[bytes]:
    chance = random.Random(1)
    blocks = b""
    for stream in range(1, 2 * _count(60, scale), 2):
        value = bytes(chance.choice(b"\x00\x10\x20\x30\x08") for _ in range(6_000)) + b"\x07"  # ends with padding
        blocks += _frame(1, 5, stream, b"\x82\x84\x00\x01a\xff" + bytes([5_874 & 127 | 128, 5_874 >> 7]) + value)
    return _http2(blocks)


def _churned_table(scale: float) -> Iterator[bytes]:
    chance = random.Random(1)
    fields = b"".join(b"\x40\x02%02d\x02%02d" % (chance.randrange(99), chance.randrange(99)) for _ in range(1_300))
    return _http2(b"".join(_frame(1, 5, each, b"\x82\x84" + fields) for each in range(1, 2 * _count(60, scale), 2)))


def _http2(frames: bytes) -> Iterator[bytes]:
    return _sent(_PREFACE + _SETTINGS, _SETTINGS, frames)


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
