"""Broken tappers of packets: filters over the packets that the reference writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from harness.conformance.mutants.model import Fault, Mutant
from harness.conformance.mutants.packets import PacketFilter, RawPacket, refusing
from harness.conformance.mutants.reasons import LOST, TOO_OFTEN

_START_LINE = re.compile(rb"(?:[A-Z]+ [!-~]+ HTTP/1|HTTP/1)\.[01]")
_SNAPSHOT = 1500
_HOUR_NS = 3600 * 10**9


def _mutant(name: str, defect: str, breaks: dict[str, str], *changes: PacketFilter) -> Mutant:
    return Mutant(f"pcap-{name}", defect, breaks, Fault(packets=changes, writes_packets=True))


def _each(change: Callable[[RawPacket], RawPacket]) -> PacketFilter:
    def changed(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
        return map(change, packets)

    return changed


def _twice(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    for packet in packets:
        yield packet
        yield packet


def _first_pod_only(packets: Iterator[RawPacket]) -> Iterator[RawPacket]:
    """Every pod's packets under the name of the first."""
    first: str | None = None
    for packet in packets:
        if packet.interface.endswith(" lo"):
            first = first or packet.interface
        yield replace(packet, interface=first or packet.interface)


TWICE = _mutant(
    "twice", "It writes both copies that a raw socket gets of a frame on lo.", {"CAP-03": TOO_OFTEN}, _twice
)
SNAPSHOT = _mutant(
    "snapshot",
    "It captures with a snapshot length of 1,500.",
    {"CAP-04": "each packet as long as it was on the wire"},
    _each(lambda packet: replace(packet, data=packet.data[:_SNAPSHOT])),
)
ONE_POD = _mutant(
    "one-pod",
    "It writes the packets of all pods as the first one's.",
    {"CAP-16": 'at pod "(second|third|fourth)"'},
    _first_pod_only,
)
HOUR = _mutant(
    "hour",
    "Its clock is an hour ahead.",
    {"CAP-13": "3600.0 s too late"},
    _each(lambda packet: replace(packet, ticks=packet.ticks + _HOUR_NS)),
)
IPV4_ONLY = _mutant(
    "ipv4-only",
    "It leaves out packets of IPv6 although it claims them.",
    {"CAP-10": LOST},
    refusing(lambda segment: len(segment.source[0]) == 16),
)
START_LINES = _mutant(
    "start-lines",
    "It keeps the packets that begin with a request line or a status line, and no other payload.",
    {"GEN-06": "packets with payload are missing"},
    refusing(lambda segment: bool(segment.payload) and not _START_LINE.match(segment.payload)),
)
