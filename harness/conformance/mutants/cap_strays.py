"""Broken in which segments belong to a connection: filters over packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import (
    FIN,
    RST,
    SYN,
    End,
    PacketFilter,
    RawPacket,
    TcpFields,
    refusing,
    tcp,
    with_numbers,
)
from harness.conformance.mutants.reasons import LOST, OUT_OF_STEP, UNREADABLE
from harness.mesh.envoy_config import OUTBOUND_PORT

_LOOPBACK = bytes((127, 0, 0, 1))
_SIGN = 0x8000_0000  # of the distance of two sequence numbers


def _until(ends: Callable[[TcpFields], object]) -> PacketFilter:
    """Nothing more is read of a connection after a segment that ends it."""

    def changed(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
        over: set[frozenset[End]] = set()
        for packet in packets:
            segment = tcp(packet)
            if segment is None or segment.connection not in over:
                yield packet
            if segment is not None and ends(segment):
                over.add(segment.connection)

    return changed


def _second_syn(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """After a SYN with another number the numbers of what goes on are none of that direction."""
    first: dict[tuple[End, End], int] = {}
    lost: set[tuple[End, End]] = set()
    for packet in packets:
        segment = tcp(packet)
        if segment is not None and segment.flags & SYN and first.setdefault(segment.flow, segment.seq) != segment.seq:
            lost.add(segment.flow)
        if segment is None or segment.flow not in lost:
            yield packet


ANY_RST = Mutant(
    "any-rst",
    "It takes a connection for closed by an RST with any number.",
    {"CAP-18": LOST},
    Fault(packets=(_until(lambda segment: segment.flags & RST),)),
)
ANY_FIN = Mutant(
    "any-fin",
    "It takes a connection for closed by a FIN with any number.",
    {"CAP-18": LOST},
    Fault(packets=(_until(lambda segment: segment.flags & FIN),)),
)
ANY_SYN = Mutant(
    "any-syn",
    "It takes the number of any SYN for the first one of what follows.",
    {"CAP-18": UNREADABLE},
    Fault(packets=(_second_syn,)),
)


def _newest_acknowledgements(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """A segment that acknowledges less than the one before it in its direction acknowledges as much."""
    newest: dict[tuple[End, End], int] = {}
    for packet in packets:
        segment = tcp(packet)
        if segment is None or segment.flags & SYN:
            yield packet
            continue
        before = newest.get(segment.flow, segment.ack)
        newest[segment.flow] = segment.ack if (segment.ack - before) & _SIGN == 0 else before
        yield with_numbers(packet, segment, segment.seq, newest[segment.flow])


OLD_ACK = Mutant(
    "old-ack",
    "It takes a segment whatever bytes of long ago it acknowledges.",
    {"CAP-19": OUT_OF_STEP},
    Fault(packets=(_newest_acknowledgements,)),
)


def _one_for_each_number(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """Of connections with one initial number only the first is read."""
    owners: dict[tuple[int, int], frozenset[End]] = {}
    copies: set[frozenset[End]] = set()
    for packet in packets:
        segment = tcp(packet)
        if segment is not None and segment.flags & SYN:
            owner = owners.setdefault((segment.seq, segment.destination[1]), segment.connection)
            if owner != segment.connection:
                copies.add(segment.connection)
        if segment is None or segment.connection not in copies:
            yield packet


COPIES_BY_NUMBER = Mutant(
    "copies-by-number",
    "It takes connections to one port whose sequence numbers begin alike for copies of one.",
    {"CAP-21": LOST},
    Fault(packets=(_one_for_each_number,)),
)


def _is_redirected_elsewhere(segment: TcpFields) -> bool:
    return segment.destination[0] == _LOOPBACK != segment.source[0] and segment.destination[1] != OUTBOUND_PORT


ONLY_15001 = Mutant(
    "only-15001",
    "It knows no other port that a sidecar takes what goes out at.",
    {"CAP-22": UNREADABLE},
    Fault(packets=(refusing(_is_redirected_elsewhere),)),
)
