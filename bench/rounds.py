"""The plan of a run, and its execution: in every round each peer in turn, so that what disturbs the machine disturbs
all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.measure import Measurement, measure
from bench.peers import PURE, TAPPER, Peer
from bench.workloads import Protocol, Way, Workload, site
from harness.errors import HarnessError

BASE = "500 B, 1500/s"
HIGHEST = "500 B, highest rate"
UNHURRIED = "500 B, 6000/s"
LARGE = "10 KB, 1500/s"
HTTP2 = "HTTP/2, 1500/s"


@dataclass(frozen=True, slots=True)
class Entry:
    """A workload, who is given it (None: everybody), and how often."""

    workload: Workload
    peers: frozenset[str] | None = None
    rounds: int = 1


_TAPPER = frozenset({TAPPER, PURE})
_ANY_PROTOCOL = _TAPPER | {"tshark fields"}
_FEW = _ANY_PROTOCOL | {"tcpdump -w"}
_CHEAP = _FEW | {"httpry", "tcpflow", "gopacket", "suricata"}

QUICK = (
    Entry(Workload(BASE, requests=800)),
    Entry(Workload(UNHURRIED, rate=6000, requests=6000), _TAPPER),
    Entry(Workload(HIGHEST, rate=None, requests=8000), _TAPPER | {"tcpdump -w"}),
    Entry(Workload(HTTP2, Protocol.HTTP2, requests=800), _ANY_PROTOCOL),
    Entry(Workload("mesh, 500 B, 500/s", rate=500, requests=400, way=Way.MESH), _TAPPER),
)
FULL = (
    Entry(Workload(BASE, requests=10_000), None, 3),
    Entry(Workload("500 B, 300/s", rate=300, requests=450), _FEW),
    Entry(Workload(UNHURRIED, rate=6000, requests=12_000), _CHEAP),
    Entry(Workload(UNHURRIED, rate=6000, requests=12_000), _TAPPER, 2),
    Entry(Workload("500 B, 12000/s", rate=12_000, requests=16_000), _CHEAP),
    Entry(Workload(HIGHEST, rate=None, requests=20_000), _CHEAP),
    Entry(Workload(HIGHEST, rate=None, requests=20_000), _TAPPER, 2),
    Entry(Workload(LARGE, body=10_000, requests=1600), _CHEAP),
    Entry(Workload(HTTP2, Protocol.HTTP2, requests=5000), _ANY_PROTOCOL, 3),
    Entry(Workload("gRPC, 1500/s", Protocol.GRPC, requests=1600), _ANY_PROTOCOL),
    Entry(Workload("mesh, 500 B, 500/s", rate=500, requests=800, way=Way.MESH), _FEW),
    Entry(Workload("mesh, 10 KB, 500/s", body=10_000, rate=500, requests=800, way=Way.MESH), _FEW),
    Entry(Workload("mesh, HTTP/2, 500/s", Protocol.HTTP2, rate=500, requests=800, way=Way.MESH), _ANY_PROTOCOL),
    Entry(Workload("mesh, gRPC, 500/s", Protocol.GRPC, rate=500, requests=800, way=Way.MESH), _ANY_PROTOCOL),
)
"""The rounds at 6,000/s and at the highest rate are several for the tapper, whose goal is about each of them. Those
that peers are compared by last long: what is done for the first time costs more, of the tapper some milliseconds."""


def run(
    plan: Sequence[Entry], peers: Sequence[Peer], say: Callable[[str], None], most_rounds: int = 3
) -> Iterator[Measurement]:
    """All of it, plain first. A measurement that could not be made says why."""
    for way in Way:
        entries = [entry for entry in plan if entry.workload.way is way]
        if not entries:
            continue
        with site(way) as where:
            for number in range(min(most_rounds, max(entry.rounds for entry in entries))):
                for entry in entries:
                    if number >= entry.rounds:
                        continue
                    taking = [peer for peer in peers if entry.peers is None or peer.name in entry.peers]
                    if number:  # once is enough for those that cost a hundred times as much
                        taking = [peer for peer in taking if peer.share == 1.0]
                    for peer in turned(taking, number):
                        workload = scaled(entry.workload, peer)
                        try:
                            found = measure(where, peer, workload)
                        except HarnessError as error:
                            found = Measurement(workload.name, peer.name, died=str(error)[:300])
                        say(f"{found.workload}: {found.peer}: {found.died or f'{found.per_10k:.3f} s/10k'}")
                        yield found


def turned(peers: Sequence[Peer], number: int) -> list[Peer]:
    """Another one begins in each round: being first is no advantage of anybody."""
    start = number % len(peers) if peers else 0
    return [*peers[start:], *peers[:start]]


def scaled(workload: Workload, peer: Peer) -> Workload:
    """What a slow peer is given of it: fewer requests at a lower rate."""
    rate = None if workload.rate is None else max(1, round(workload.rate * peer.share))
    return replace(workload, rate=rate, requests=max(workload.connections, round(workload.requests * peer.share)))
