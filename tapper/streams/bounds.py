"""What the sources may hold, at what price each thing is counted, and what is counted.

The prices are bytes of memory: of the objects of CPython on a 64-bit machine, with their entries in the tables. A test
compares them with what the interpreter allocates. The compiled form takes less.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

SECOND: Final = 1_000_000_000
HELD_BYTES: Final = 192 << 20
"""What all sources together may hold. The manifests allow the tapper 512 MiB: the interpreter and its modules take 60,
and the rest is for the records that are on their way to the output. Where the bound is reached, the source that holds
most gives up what was quiet for the longest time."""
RELIEF: Final = 16
"""A source that gives something up gives up this part of the bound: enough to have peace for a while, and few enough
records at a time."""
CONNECTION_COST: Final = 2_900
"""An open connection, with a reader of HTTP/1 and no message. A connection of TLS on the node's interfaces takes 1,700
bytes, of which nobody needs to know."""
HALF_COST: Final = 650
"""A pending half, without its segments."""
SEGMENT_COST: Final = 350
"""A segment that is kept, besides its payload."""
PIECE_COST: Final = 160
"""Bytes behind a hole, or a chunk that waits, besides the bytes themselves."""
MOST_KINDS: Final = 64
"""Names of protocols that one source counts."""
OTHER_KINDS: Final = "other protocols"
DAMAGED: Final = "damaged headers"
"""Stands for the protocol of a packet whose headers contradict themselves, or are cut."""
MOST_REFUSALS: Final = 10
MOST_PARTS: Final = 1_000
"""Parts of one source's streams that are told in a second of the packets' time."""
_STEP_BACK: Final = 60  # seconds; a clock that goes back further has been set
MOST_REFUSERS: Final = 1024
"""Addresses that are remembered; with more, all are forgotten."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one source's memory. A source that reaches a bound gives something up and counts it."""

    connections: int = 131_072
    pending_halves: int = 4_096
    """Halves of connections whose other half is not known yet."""
    pending_bytes: int = 512 * 1024
    """Bytes of one pending half."""
    hole_bytes: int = 1 << 20
    """Bytes of one stream that are held behind a hole."""
    fragment_bytes: int = 4 << 20
    """Bytes of IP packets whose fragments are not all there, as net.ipv4.ipfrag_high_thresh."""
    held_bytes: int = HELD_BYTES
    """Bytes that the source holds in all."""


@dataclass(slots=True)
class Tally:
    """The counts of one source."""

    packets: int = 0
    malformed: int = 0
    """Packets whose headers are cut, or whose lengths contradict each other."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """Packets that were not looked into, by the name of their protocol."""
    mesh: int = 0
    """Packets to and from listeners of Envoy and Istio, which are not read."""
    connections: int = 0
    copies: int = 0
    """Connections that were captured a second time under translated addresses, and are reported once."""
    gaps: int = 0
    gap_bytes: int = 0
    given_up: int = 0
    """Connections that were closed because a bound was reached, or because their sockets no longer exist."""
    refused: int = 0
    """Connection attempts that a RST answered."""

    def pass_over(self, kind: str, packets: int = 1) -> None:
        """Count packets that are not looked into. Whoever sends them chooses their protocols, so the names are few."""
        if kind == DAMAGED:
            self.malformed += packets
            return
        if kind not in self.passed_over and len(self.passed_over) >= MOST_KINDS:
            kind = OTHER_KINDS
        self.passed_over[kind] = self.passed_over.get(kind, 0) + packets


@dataclass(slots=True)
class Pace:
    """How many records of a kind are told: at most `most` in a second of the packets' time."""

    most: int
    second: int = -1
    told: int = 0
    left_out: int = 0
    """Those that are not told. Who tells of them sets it to 0."""

    def may_tell(self, ts: int) -> bool:
        """Whether one more record is told at `ts` nanoseconds since 1970. Late packets count for the latest second."""
        second = ts // SECOND
        if not self.second - _STEP_BACK <= second <= self.second:
            self.second, self.told = second, 0
        may_tell = self.told < self.most
        self.told += may_tell
        self.left_out += not may_tell
        return may_tell


class RefusalPace:
    """Says which refused connection attempts are told: of each pod at most MOST_REFUSALS in a second of the packets'
    time, so that a flood of SYNs to a closed port does not become a flood of records."""

    def __init__(self) -> None:
        self._pods: dict[str, Pace] = {}  # by address

    def tell(self, address: str, ts: int) -> int | None:
        """None if this attempt, at `ts` nanoseconds since 1970, is left out; else how many were before it, since the
        last that was told."""
        if address not in self._pods and len(self._pods) >= MOST_REFUSERS:
            self._pods.clear()
        pod = self._pods.setdefault(address, Pace(MOST_REFUSALS))
        if not pod.may_tell(ts):
            return None
        left_out, pod.left_out = pod.left_out, 0
        return left_out


@dataclass(slots=True)
class Budget:
    """What the connections of one source share: its limits, its counts, and the number of bytes that they hold."""

    limits: Limits = field(default_factory=Limits)
    tally: Tally = field(default_factory=Tally)
    held: int = 0
    refusals: RefusalPace = field(default_factory=RefusalPace)
    parts: Pace = field(default_factory=lambda: Pace(MOST_PARTS))
