"""Broken in when messages come and where they are cut: filters over packets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import FIN, SYN, End, RawPacket, TcpFields, tcp, with_payload
from harness.conformance.mutants.reasons import ANOTHERS_ANSWER, CUT_IN_SILENCE, LOST

_HEAD = re.compile(rb"[A-Z]{3,} /|HTTP/1")
_INTERIM = re.compile(rb"\AHTTP/1\.1 10[03]")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")


def _with_tcp(packets: Iterator[RawPacket]) -> Iterator[tuple[RawPacket, TcpFields]]:
    """The TCP packets, which are all that a pod's lo is asked for."""
    for packet in packets:
        segment = tcp(packet)
        if segment is not None:
            yield packet, segment


def _finals(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """204 is what every reader knows as final and without a body."""
    for packet, segment in _with_tcp(packets):
        if _INTERIM.match(segment.payload):
            yield with_payload(packet, segment, _INTERIM.sub(b"HTTP/1.1 204", segment.payload))
        else:
            yield packet


INTERIM_IS_FINAL = Mutant(
    "interim-is-final",
    "It takes an interim answer for the answer.",
    {"HTTP-04": "answered with"},
    Fault(packets=(_finals,)),
)


def _whole_heads(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """A head that goes on in another segment becomes bytes that nobody can read."""
    for packet, segment in _with_tcp(packets):
        if (_HEAD.match(segment.payload) and b"\r\n\r\n" not in segment.payload) or len(segment.payload) == 1:
            yield with_payload(packet, segment, bytes(len(segment.payload)))
        else:
            yield packet


ONE_SEGMENT = Mutant(
    "one-segment",
    "It wants a head whole in one segment.",
    {"HTTP-05": LOST},
    Fault(packets=(_whole_heads,)),
)


def _held_until_fin(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    held: dict[frozenset[End], list[RawPacket]] = {}
    for packet, segment in _with_tcp(packets):
        held.setdefault(segment.connection, []).append(packet)
        if segment.flags & FIN:
            yield from held.pop(segment.connection)
    for rest in held.values():
        yield from rest


REPORTS_AT_THE_END = Mutant(
    "reports-at-the-end",
    "It reports the exchanges of a connection when that is closed.",
    {"HTTP-17": "expected 3 requests"},
    Fault(packets=(_held_until_fin,)),
)


def _until_a_fin(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    over: set[frozenset[End]] = set()
    for packet, segment in _with_tcp(packets):
        if segment.flags & SYN:
            over.discard(segment.connection)
        if segment.connection not in over:
            yield packet
        if segment.flags & FIN:
            over.add(segment.connection)


FIRST_FIN = Mutant(
    "first-fin",
    "It takes a connection for closed when one side is.",
    {"HTTP-12": f"{LOST}|answered with|{CUT_IN_SILENCE}"},
    Fault(packets=(_until_a_fin,)),
)


def _no_early_answers(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """While bytes of a request's body are to come, its server is not listened to."""
    missing: dict[tuple[End, End], int] = {}
    for packet, segment in _with_tcp(packets):
        payload = segment.payload
        if missing.get((segment.destination, segment.source), 0) > 0 and payload:
            yield with_payload(packet, segment, bytes(len(payload)))
            continue
        head, end, body = payload.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end and _HEAD.match(head) and not head.startswith(b"HTTP/1") else None
        if length is not None:
            missing[segment.flow] = int(length[1]) - len(body)
        elif payload:
            missing[segment.flow] = missing.get(segment.flow, 0) - len(payload)
        yield packet


NOT_BEFORE_THE_END = Mutant(
    "not-before-the-end",
    "It does not expect an answer before the request has ended.",
    {"HTTP-20": f"{LOST}|{ANOTHERS_ANSWER}"},
    Fault(packets=(_no_early_answers,)),
)
