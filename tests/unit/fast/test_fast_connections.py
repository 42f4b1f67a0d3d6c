"""FastConnections gives the records that Connections gives, in the same order and with the same counts."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from tapper_wire import ACK, FIN, MILLISECOND, PSH, RST, SYN, Wire, packet

from tapper.fast.connections import FastConnections
from tapper.streams.bounds import Limits
from tapper.streams.connection import Connection, Consumer, Scope
from tapper.streams.connections import Connections
from tapper.streams.reassembly import Data

POD = "10.0.0.2"
SCOPES = [Scope(POD, None), Scope(None, None, some_lo=True), Scope(None, frozenset({ip_address(POD).packed}))]
LIMITS = [Limits(), Limits(connections=3, pending_halves=2, pending_bytes=600, hole_bytes=600, held_bytes=3000)]
FLAGS = [ACK, PSH | ACK, SYN, SYN | ACK, FIN | ACK, RST, RST | ACK, 0]


class Call(NamedTuple):
    """One call of a consumer."""

    first: int
    name: str
    side: int
    data: Data | int | None


class Log(Consumer[Call]):
    """Records the calls of one connection. Stops reading after `most` chunks, as readers do."""

    def __init__(self, connection: Connection[Call], most: int) -> None:
        super().__init__()
        self._connection = connection
        self._left = most

    def _call(self, name: str, side: int, data: Data | int | None = None) -> Sequence[Call]:
        self._left -= 1
        if not self._left:
            self._connection.consumer = None
        return [Call(self._connection.first, name, side, data)]

    def data(self, side: int, chunk: Data) -> Sequence[Call]:
        self.held = (self.held + len(chunk.data)) % 2000
        return self._call("data", side, chunk)

    def gap(self, side: int, size: int | None) -> Sequence[Call]:
        return self._call("gap", side, size)

    def end(self, side: int) -> Sequence[Call]:
        return self._call("end", side)

    def finish(self) -> Sequence[Call]:
        self.held = 0
        return self._call("finish", 0)


@st.composite
def traffic(draw: st.DrawFn) -> list[bytes]:
    """Packets of some connections, some of them lost, doubled, out of order, or made up."""
    packets: list[bytes] = []
    for port in draw(st.lists(st.sampled_from([40000, 40001]), min_size=1, max_size=3)):
        isns = draw(st.tuples(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF)))
        wire = draw(
            st.sampled_from(
                [
                    Wire((("127.0.0.6", port), (POD, 8080)), None, *isns),
                    Wire(((POD, port), ("127.0.0.1", 15001)), (("10.96.0.9", 80), (POD, port)), *isns),
                    Wire((("10.0.0.9", port), (POD, 80)), None, *isns),
                ]
            )
        )
        made = wire.handshake()
        for request, answer in draw(st.lists(st.tuples(st.binary(max_size=50), st.binary(max_size=50)), max_size=6)):
            made += [wire.ask(request), wire.answer(answer), wire.client_ack()]
        made += draw(st.sampled_from([[], wire.close()]))
        for flags in draw(st.lists(st.sampled_from(FLAGS), max_size=2)):
            shift = draw(st.sampled_from([0, 1, -1, 5000, 1 << 27]))
            made.append(packet(*wire.up, wire.client + shift, wire.server, flags, draw(st.sampled_from([b"", b"x"]))))
        made = made[draw(st.sampled_from([0, 0, 3, 5])) :]
        if draw(st.booleans()) and made:
            made = draw(st.lists(st.sampled_from(made), max_size=len(made)))
        at = draw(st.integers(0, len(packets)))
        packets[at:at] = made
    return packets


def run(
    kind: type[Connections[Call]], scope: Scope, limits: Limits, packets: list[bytes], most: int, step: int
) -> tuple[list[Call], list[int], object]:
    connections = kind(scope, lambda connection: Log(connection, most), limits)
    calls: list[Call] = []
    held: list[int] = []
    for number, raw in enumerate(packets):
        ts = 1_700_000_000_000_000_000 + number * step
        connections.packets(b"--" + raw + b"-", [(ts, 1 + number % 2, 2, 2 + len(raw))], calls)
        held.append(connections.held)
    for made in connections.finish():
        calls += made
    return calls, [*held, connections.held], connections.tally


@given(
    traffic(),
    st.sampled_from(SCOPES),
    st.sampled_from(LIMITS),
    st.sampled_from([3, 1000]),
    st.sampled_from([MILLISECOND, 700 * MILLISECOND]),
)
@settings(max_examples=200, deadline=None)
def test_records_bytes_held_and_counts_are_the_same(
    packets: list[bytes], scope: Scope, limits: Limits, most: int, step: int
) -> None:
    plain = run(Connections, scope, limits, packets, most, step)
    assert run(FastConnections, scope, limits, packets, most, step) == plain


def test_a_request_and_its_response_are_read_alike() -> None:
    """The canary of the property above: calls are recorded at all."""
    wire = Wire((("127.0.0.6", 40000), (POD, 8080)))
    packets = [*wire.handshake(), wire.ask(b"a"), wire.answer(b"b"), wire.client_ack(), wire.ask(b"c"), *wire.close()]
    plain = run(Connections, SCOPES[0], Limits(), packets, 1000, MILLISECOND)
    names = [call.name for call in plain[0]]
    assert names == ["data", "data", "data", "end", "end", "finish"]
    assert run(FastConnections, SCOPES[0], Limits(), packets, 1000, MILLISECOND) == plain
