"""Broken in what is rare and allowed: filters over packets and records."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from harness.conformance.mutants.http import losing_step
from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import SYN, End, RawPacket, tcp, with_payload
from harness.conformance.mutants.reasons import ANOTHERS_ANSWER, LOST, OUT_OF_STEP
from harness.conformance.mutants.streams import Record, header

_REFUSED = 400
_FRAME_HEADER = 9
_HALF = 1 << 31
_QUIET_NS = 2 * 10**9


def _no_answers_ahead(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """Bytes that acknowledge what was not seen yet become bytes that nobody can read."""
    reached: dict[tuple[End, End], int] = {}
    for packet in packets:
        segment = tcp(packet)
        if segment is None:
            yield packet
            continue
        (ack,) = struct.unpack_from("!I", packet.data, segment.header_at + 8)
        asked = reached.get((segment.destination, segment.source))
        if segment.payload and asked is not None and 0 < (ack - asked) % (2 * _HALF) < _HALF:
            yield with_payload(packet, segment, bytes(len(segment.payload)))
        else:
            yield packet
        reached[segment.flow] = (segment.seq + len(segment.payload) + bool(segment.flags & SYN)) % (2 * _HALF)


IN_ORDER_OF_ARRIVAL = Mutant(
    "answers-later",
    "It does not expect an answer before its request.",
    {"HTTP-23": f"{LOST}|{ANOTHERS_ANSWER}"},
    Fault(packets=(_no_answers_ahead,)),
)


def _is_refused(record: Record) -> bool:
    return bool(header(record["request"], "expect")) and (record["status"] or 0) >= _REFUSED


WAITS_FOR_THE_BODY = Mutant(
    "waits-for-the-body",
    "It takes what follows a refused expectation for the body that was not sent.",
    {"HTTP-24": OUT_OF_STEP},
    losing_step(_is_refused),
)


def _of_24_bits(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """A segment that begins with a frame of a larger number becomes bytes that nobody can read."""
    for packet in packets:
        segment = tcp(packet)
        payload = b"" if segment is None else segment.payload
        if segment is not None and len(payload) >= _FRAME_HEADER and payload[0] == 0 and payload[5]:
            yield with_payload(packet, segment, bytes(len(payload)))
        else:
            yield packet


STREAMS_OF_24_BITS = Mutant(
    "streams-of-24-bits",
    "It takes a frame whose stream has a number above 2^24 for none.",
    {"HTTP-25": OUT_OF_STEP},
    Fault(packets=(_of_24_bits,)),
)


def _present_anything(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | ({"type": "http"} if record["type"] == "stream" and record["what"] == "other" else {})


ANYTHING_AS_HTTP = Mutant(
    "anything-as-http",
    "It makes an exchange of every connection, whatever it carries.",
    {"HTTP-26": "that carries none"},
    Fault(records=(_present_anything,)),
)


def _forgetting(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """By the packets' own time, for connections of which something was seen."""
    last: dict[frozenset[End], int] = {}
    forgotten: set[frozenset[End]] = set()
    for packet in packets:
        segment = tcp(packet)
        if segment is not None:
            if segment.flags & SYN:
                forgotten.discard(segment.connection)
            elif packet.ticks - last.get(segment.connection, packet.ticks) > _QUIET_NS:
                forgotten.add(segment.connection)
            last[segment.connection] = packet.ticks
        if segment is None or segment.connection not in forgotten:
            yield packet


FORGETS_THE_QUIET = Mutant(
    "forgets-the-quiet",
    "It forgets a connection on which nothing moves for two seconds.",
    {"HTTP-28": f"{OUT_OF_STEP}|a record with it", "HTTP-29": f"{OUT_OF_STEP}|a record with it"},
    Fault(packets=(_forgetting,)),
)


def _all_complete(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | ({"outcome": "complete"} if record.get("type") == "http" else {})


EVERY_END_IS_COMPLETE = Mutant(
    "every-end-is-complete",
    "It says of every exchange that it came to its end.",
    {"HTTP-30": "the outcome reset"},
    Fault(records=(_all_complete,)),
)


def _other_client(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record | ({"proxied_for": record["src"]} if "proxied_for" in record else {})


SOURCE_AS_PROXIED = Mutant(
    "source-as-proxied",
    "It gives the source of the packets for the client that a PROXY header names.",
    {"HTTP-27": "the client that a PROXY header names"},
    Fault(records=(_other_client,)),
)
