"""Broken in what is captured in a pod, and how often: filters over records and packets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import (
    SYN,
    End,
    RawPacket,
    TcpFields,
    refusing,
    tcp,
    with_numbers,
)
from harness.conformance.mutants.reasons import (
    ANOTHERS_ANSWER,
    CUT_IN_SILENCE,
    LOST,
    OUT_OF_STEP,
    TOO_OFTEN,
    UNREADABLE,
)
from harness.conformance.mutants.streams import Record, both_messages, connection, over_exchanges, repeated

_SNAPSHOT = 65_535 - 14  # packets begin at the IP header here: the Ethernet header is left out
_HERE = bytes((127, 0, 0, 1))
_HALF = 1 << 31


OUTGOING_COPY = Mutant(
    "outgoing-copy",
    "It takes both copies that a raw socket gets of a frame on lo for frames.",
    {"CAP-03": TOO_OFTEN},
    Fault(records=(repeated(lambda record: 1 if record["direction"] == "node" else 2),)),
)


def _cut(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    for packet in packets:
        yield replace(packet, data=packet.data[:_SNAPSHOT])


def _unflagged(record: Record) -> Record:
    return both_messages(record, lambda message: message | {"truncated": False})


SHORT_SNAPSHOTS = Mutant(
    "short-snapshots",
    "It captures with a snapshot length of 65,535 and takes what is left of a frame for all of it.",
    {"CAP-04": f"{LOST}|{CUT_IN_SILENCE}"},
    Fault(packets=(_cut,), records=(over_exchanges(_unflagged),)),
)


def _present_tls(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | ({"type": "http"} if record["type"] == "tls" else {})


TLS_AS_HTTP = Mutant(
    "tls-as-http",
    "It makes an exchange of every connection, of TLS as well.",
    {"CAP-05": "that carries none", "EDGE-03": "that carries none"},
    Fault(records=(_present_tls,)),
)


def _is_443(segment: TcpFields) -> bool:
    return 443 in (segment.source[1], segment.destination[1])


def _is_loopback(end: End) -> bool:
    address = end[0]
    return address[0] == 127 if len(address) == 4 else address in (bytes(15) + b"\1", bytes(15) + b"\6")


def _is_unmirrored(segment: TcpFields) -> bool:
    return not (_is_loopback(segment.source) or _is_loopback(segment.destination))


def _is_127_0_0_1_only(segment: TcpFields) -> bool:
    return segment.source[0] == segment.destination[0] == _HERE


NOT_443 = Mutant(
    "not-443",
    "Its filter has `not port 443`, as kubeshark's has.",
    {"CAP-06": LOST},
    Fault(packets=(refusing(_is_443),)),
)
MIRRORED_ONLY = Mutant(
    "mirrored-only",
    "It wants both directions between two loopback addresses, so that the answers of a redirected leg are nobody's.",
    {"CAP-02": f"with its answer|{LOST}"},
    Fault(packets=(refusing(_is_unmirrored),)),
)
PASSTHROUGH_ONLY = Mutant(
    "passthrough-only",
    "It knows only the delivery from 127.0.0.6.",
    {"CAP-08": LOST},
    Fault(packets=(refusing(_is_127_0_0_1_only),)),
)
IPV4_ONLY = Mutant(
    "ipv4-only",
    "It passes over packets of IPv6 although it claims them.",
    {"CAP-10": LOST},
    Fault(packets=(refusing(lambda segment: len(segment.source[0]) == 16),)),
)


def _numbered_by_arrival(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """Each segment gets the number that follows the one before it, whatever its own was."""
    following: dict[tuple[End, End], int] = {}
    for packet in packets:
        segment = tcp(packet)
        if segment is None:
            yield packet
            continue
        begins = segment.flags & SYN or segment.flow not in following
        seq = segment.seq if begins else following[segment.flow]
        following[segment.flow] = seq + len(segment.payload) + bool(segment.flags & SYN)
        yield with_numbers(packet, segment, seq, segment.ack)


ARRIVAL_ORDER = Mutant(
    "arrival-order",
    "It reads segments as they come, whatever their sequence numbers.",
    {"CAP-07": OUT_OF_STEP, "CAP-19": OUT_OF_STEP},
    Fault(packets=(_numbered_by_arrival,)),
)


def _one_off_after_loss(records: Iterator[Record]) -> Iterator[Record]:
    """From the first half of an exchange on, a connection's answers are shown one question late."""
    answers: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        if record["type"] != "http":
            yield record
            continue
        key, said = connection(record), {name: record[name] for name in ("status", "response")}
        if key in answers:
            answers[key].append(said)
            yield record | answers[key].pop(0)
        else:
            if record["request"] is None or record["response"] is None:
                answers[key] = [said]
            yield record


PAIRS_THROUGH_LOSS = Mutant(
    "pairs-through-loss",
    "After lost bytes, and from midway on, it pairs in order of appearance, so that every answer is one question off.",
    {"CAP-07": ANOTHERS_ANSWER, "EDGE-01": "its own answer"},
    Fault(records=(_one_off_after_loss,)),
)


def _upwards_only(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """A number that has wrapped looks like old data."""
    first: dict[tuple[End, End], int] = {}
    for packet in packets:
        segment = tcp(packet)
        if segment is not None:
            if segment.flags & SYN:
                first[segment.flow] = segment.seq
            elif segment.seq < first.setdefault(segment.flow, segment.seq) - _HALF:
                continue
        yield packet


NEVER_WRAPS = Mutant(
    "never-wraps",
    "It compares sequence numbers as if they only went up.",
    {"CAP-07": UNREADABLE},
    Fault(packets=(_upwards_only,)),
)


def _first_of_each_tuple(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """After another SYN the numbers are none that the first connection could have."""
    first: dict[tuple[End, End], int] = {}
    over: set[frozenset[End]] = set()
    for packet in packets:
        segment = tcp(packet)
        if segment is not None:
            if segment.flags & SYN and first.setdefault(segment.flow, segment.seq) != segment.seq:
                over.add(segment.connection)
            if segment.connection in over:
                continue
        yield packet


ONE_CONNECTION_FOR_EVER = Mutant(
    "one-connection-for-ever",
    "What has the same addresses and ports is the same connection to it, a new SYN notwithstanding.",
    {"CAP-11": UNREADABLE},
    Fault(packets=(_first_of_each_tuple,)),
)
