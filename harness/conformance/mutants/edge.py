"""Broken where a mesh is not as in the book: filters over records and packets, and other options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import SYN, End, RawPacket, tcp
from harness.conformance.mutants.reasons import LOST, TOO_MUCH, TOO_OFTEN
from harness.conformance.mutants.streams import Record, over_exchanges, repeated

_VERIFIED = frozenset({"verified_identity"})

SILENT_ABOUT_TARGETS = Mutant(
    "silent-about-targets",
    "It captures what it finds, and has no word for a target that it does not find.",
    {"EDGE-02": "a word about the target"},
    Fault(silent=True),
)


def _the_wire_is_inbound(record: Record) -> Record:
    return record | ({"direction": "inbound"} if record["direction"] == "node" else {})


WIRE_IS_INBOUND = Mutant(
    "wire-is-inbound",
    "It takes plaintext between pods for what a sidecar delivers, and so reports it twice without mTLS.",
    {"EDGE-04": TOO_OFTEN},
    Fault(records=(over_exchanges(_the_wire_is_inbound),)),
)
BELIEVES_ENVIRON = Mutant(
    "believes-environ",
    "It claims to verify identity, warns, and captures all the same.",
    {"EDGE-05": TOO_MUCH},
    Fault(),
    claims=_VERIFIED,
)
VERIFIES_UNCLAIMED = Mutant(
    "verifies-unclaimed",
    "It refuses what it claims to capture.",
    {"EDGE-05": "requests beside a process named envoy"},
    Fault(options=("--verify",)),
)
REFUSES_SILENTLY = Mutant(
    "refuses-silently",
    "It refuses a process that it does not believe, and keeps that to itself.",
    {"EDGE-05": "a word about the process"},
    Fault(options=("--verify",), silent=True),
    claims=_VERIFIED,
)


def _seen_in_two_ways(record: Record) -> int:
    """The node's lo is one of the node's interfaces, too."""
    on_the_node = record["netns"] == Path("/proc/self/ns/net").stat().st_ino
    return 2 if on_the_node and record["direction"] != "node" else 1


BOTH_LOS = Mutant(
    "both-los",
    "It captures the node's lo as an Envoy's and once more with the node's interfaces.",
    {"EDGE-06": "2 times"},
    Fault(records=(repeated(_seen_in_two_ways),)),
)


def _from_the_start(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """A redirected connection's two directions have two pairs of ends: each begins with a SYN of its own."""
    begun: set[frozenset[End]] = set()
    for packet in packets:
        segment = tcp(packet)
        if segment is not None and segment.flags & SYN:
            begun.add(segment.connection)
        if segment is None or segment.connection in begun:
            yield packet


NEEDS_A_SYN = Mutant(
    "needs-a-syn",
    "It follows only connections whose beginning it has seen.",
    {"EDGE-07": LOST},
    Fault(packets=(_from_the_start,)),
)
SILENT = Mutant(
    "silent",
    "It keeps to itself that it cannot see a target.",
    {"DISC-11": "which has no sidecar"},
    Fault(silent=True),
)
