"""Reads the packets that make up nearly all traffic without a TcpSegment: acknowledgements, and data in order.

Replaces `tapper.streams.connections.Connections.packets`. A connection is simple while nothing of it waits or is to be
decided. A segment of a simple connection with ACK as its only control flag takes the short way if its payload is the
next one of its half, and neither acknowledgement nor timestamp is out of order. Every other segment goes to the plain
class, after which the connection is judged anew. Measured with 30,300 packets of 10,000 exchanges: 380 ms by
Connections and 60 ms by FastConnections, interpreted; 210 ms and 9 ms, compiled.
"""

from __future__ import annotations

from typing import Final, TypeVar

from tapper.fast.packet import BYTEWISE, parse_bytewise, parse_unpacking
from tapper.streams.acceptance import is_recent
from tapper.streams.bounds import RELIEF
from tapper.streams.connection import Connection
from tapper.streams.connections import Connections
from tapper.streams.packet import ACK, FIN, RST, SYN, TIMESTAMP, Packet, TcpHeader
from tapper.streams.reassembly import Data
from tapper.streams.sequence import MASK

T = TypeVar("T")

_CONTROL_FLAGS: Final = SYN | FIN | RST | ACK
_NO_STAMP: Final = TIMESTAMP[:-1] + b"\x0b"  # follows every `TcpSegment.stamp` in the order of bytes


class FastConnections(Connections[T]):
    """Gives the records that Connections gives."""

    def packets(self, memory: bytes, packets: list[Packet], records: list[T]) -> None:
        self.tally.packets += len(packets)
        if self._due and packets:
            records += self.pass_time(packets[0][0])
        halves, budget, held_bytes = self._halves, self.budget, self._limits.held_bytes
        for packet in packets:
            ts, _, begin, end = packet
            header = parse_bytewise(memory, begin, end) if BYTEWISE else parse_unpacking(memory, begin, end)
            key, seq, ack, flags, window, start, stop = header
            half = halves.get(key)
            if half is None or not half.simple or flags & _CONTROL_FLAGS != ACK:
                records += self._take(memory, packet, header)
                continue
            connection = half.connection
            consumer = connection.consumer
            if start == stop or (consumer is None and not connection.ended):
                half.acked = ack
                half.window = window
                connection.last = self.newest = ts
                continue
            stream = half.stream
            stamp = memory[start - 12 : start - 4]
            is_next = seq == stream.position & MASK and (
                ack == half.peer.stream.position & MASK or is_recent(half, ack)
            )
            if consumer is None or not is_next or (half.stamp and not half.stamp <= stamp < _NO_STAMP):
                records += self._take(memory, packet, header)
                continue
            half.acked = ack
            half.window = window
            connection.last = self.newest = ts
            half.stamp = half.stamp and stamp
            stream.position += stop - start
            complete = consumer.data(half.side, Data(memory[start:stop], ts, seq, ack))
            records += complete
            grown = consumer.held - connection.held
            if connection.consumer is None:  # the reader wants nothing more
                connection.weigh()
            elif grown:
                budget.held += grown
                connection.held += grown
                if grown > 0 and self.held > held_bytes:
                    records += self.relieve(held_bytes - held_bytes // RELIEF)

    def _take(self, memory: bytes, packet: Packet, header: TcpHeader) -> list[T]:
        records = super()._take(memory, packet, header)
        read = self._halves.get(header[0])
        if read is not None:
            first, second = read.connection.halves
            first.simple = second.simple = _is_simple(read.connection)
        return records


def _is_simple(connection: Connection[T]) -> bool:
    """Whether nothing of the connection waits or is to be decided."""
    first, second = connection.halves
    return (
        first.stream.in_order
        and second.stream.in_order
        and connection.suspicion is None
        and connection.outside is None
        and not connection.order
    )
