"""Packets and TCP conversations for the tests, as plain bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Protocol

from tapper.protocols.records import ExchangeRecord, FactRecord, Record
from tapper.protocols.session import Session
from tapper.streams.bounds import Limits
from tapper.streams.connection import Connection, Scope
from tapper.streams.connections import Connections
from tapper.streams.legs import Endpoint
from tapper.streams.packet import Packet

FIN, SYN, RST, PSH, ACK = 0x01, 0x02, 0x04, 0x08, 0x10
MILLISECOND = 1_000_000


def tcp(sport: int, dport: int, seq: int, ack: int, flags: int, payload: bytes = b"", options: bytes = b"") -> bytes:
    assert len(options) % 4 == 0
    bits = (5 + len(options) // 4) << 12 | flags
    return (
        struct.pack("!HHIIHHHH", sport, dport, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, bits, 65535, 0, 0)
        + options
        + payload
    )


def ipv4(src: str, dst: str, payload: bytes, *, options: bytes = b"", fragment: int = 0, protocol: int = 6) -> bytes:
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x40 | (5 + len(options) // 4),
        0,
        20 + len(options) + len(payload),
        0,
        fragment,
        64,
        protocol,
        0,
        ip_address(src).packed,
        ip_address(dst).packed,
    )
    return header + options + payload


def ipv6(src: str, dst: str, payload: bytes, *, protocol: int = 6) -> bytes:
    return (
        struct.pack("!IHBB16s16s", 6 << 28, len(payload), protocol, 64, ip_address(src).packed, ip_address(dst).packed)
        + payload
    )


def packet(src: tuple[str, int], dst: tuple[str, int], seq: int, ack: int, flags: int, payload: bytes = b"") -> bytes:
    segment = tcp(src[1], dst[1], seq, ack, flags, payload)
    return (ipv6 if ":" in src[0] else ipv4)(src[0], dst[0], segment)


def endpoint(text: str) -> Endpoint:
    """`10.0.0.1:80` or `[fd00::1]:80`."""
    address, _, port = text.rpartition(":")
    return Endpoint(ip_address(address.strip("[]")).packed, int(port))


class Wire:
    """Both ends of a TCP connection. `up` and `down` are (source, destination) as a capture sees the two directions:
    mirrors of each other, unless the connection is redirected."""

    def __init__(
        self,
        up: tuple[tuple[str, int], tuple[str, int]],
        down: tuple[tuple[str, int], tuple[str, int]] | None = None,
        client_isn: int = 1000,
        server_isn: int = 777_000,
    ) -> None:
        self.up = up
        self.down = down or (up[1], up[0])
        self.client = client_isn
        self.server = server_isn

    def handshake(self) -> list[bytes]:
        syn = packet(*self.up, self.client, 0, SYN)
        self.client += 1
        synack = packet(*self.down, self.server, self.client, SYN | ACK)
        self.server += 1
        return [syn, synack, packet(*self.up, self.client, self.server, ACK)]

    def ask(self, data: bytes) -> bytes:
        out = packet(*self.up, self.client, self.server, PSH | ACK, data)
        self.client = (self.client + len(data)) & 0xFFFFFFFF
        return out

    def answer(self, data: bytes) -> bytes:
        out = packet(*self.down, self.server, self.client, PSH | ACK, data)
        self.server = (self.server + len(data)) & 0xFFFFFFFF
        return out

    def client_ack(self) -> bytes:
        return packet(*self.up, self.client, self.server, ACK)

    def server_ack(self) -> bytes:
        return packet(*self.down, self.server, self.client, ACK)

    def client_fin(self) -> bytes:
        out = packet(*self.up, self.client, self.server, FIN | ACK)
        self.client += 1
        return out

    def server_fin(self) -> bytes:
        out = packet(*self.down, self.server, self.client, FIN | ACK)
        self.server += 1
        return out

    def close(self) -> list[bytes]:
        return [self.client_fin(), self.server_fin(), self.client_ack()]

    def exchange(self, target: str, body: str) -> list[bytes]:
        return [self.ask(get(target)), self.answer(ok(body)), self.client_ack()]


def get(target: str = "/") -> bytes:
    return f"GET {target} HTTP/1.1\r\nHost: test\r\n\r\n".encode()


def ok(body: str = "") -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


class _Reader(Protocol):
    def packets(self, memory: bytes, packets: list[Packet], records: list[Record]) -> None: ...


def one_packet(reader: _Reader, ts: int, raw: bytes) -> list[Record]:
    """What a reader makes of it."""
    made: list[Record] = []
    reader.packets(raw, [(ts, 2, 0, len(raw))], made)
    return made


class Capture:
    """A source under test: packets in, records out."""

    def __init__(self, scope: Scope | None = None, limits: Limits | None = None, *, streams: bool = True) -> None:
        self._streams = streams
        self.undecoded: list[str] = []
        self.connections: Connections[Record] = Connections(
            scope or Scope("10.0.0.2", None), self.open, limits or Limits()
        )
        self.records: list[Record] = []
        self.ts = 1_700_000_000_000_000_000

    def open(self, connection: Connection[Record]) -> Session:
        return Session(connection, self.undecoded.append, streams=self._streams)

    def feed(self, packets: Iterable[bytes]) -> Capture:
        for raw in packets:
            self.ts += MILLISECOND
            self.records += one_packet(self.connections, self.ts, raw)
        return self

    def silence(self) -> Capture:
        """Nothing comes for two seconds. That proves the order of assumed pairs (`tapper.protocols.conversation`)."""
        self.ts += 2_000 * MILLISECOND
        self.records += self.connections.tell_time(self.ts)
        return self

    def finish(self) -> Capture:
        for records in self.connections.finish():
            self.records += records
        return self

    @property
    def seen(self) -> list[ExchangeRecord]:
        return exchanges(self.records)

    @property
    def facts(self) -> list[FactRecord]:
        return [record for record in self.records if isinstance(record, FactRecord)]

    @property
    def pairs(self) -> list[tuple[str | None, str | None]]:
        """(target, response body) of each exchange, None for what was not seen."""
        return [brief(record) for record in self.seen]


def exchanges(records: Iterable[Record]) -> list[ExchangeRecord]:
    """Those of the records that are exchanges, in order."""
    return [record for record in records if isinstance(record, ExchangeRecord)]


def brief(record: ExchangeRecord) -> tuple[str | None, str | None]:
    request, response = record.exchange.request, record.exchange.response
    return (
        None if request is None else request.head.target,
        None if response is None else response.end.body.decode("latin-1"),
    )


def interleave(*sequences: Sequence[bytes]) -> list[bytes]:
    """One of each in turn."""
    longest = max(map(len, sequences))
    return [sequence[index] for index in range(longest) for sequence in sequences if index < len(sequence)]
