"""The plan of a run, and its execution. In every round the peers are measured in turn, so that other load on the
machine disturbs all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.measure import Measurement, measure
from bench.peers import PURE, TAPPER, WITHOUT_FAST, Peer
from bench.workloads import Protocol, Way, Workload, site
from harness.errors import HarnessError

BASE = "500 B, 1500/s"
HIGHEST = "500 B, highest rate"
UNHURRIED = "500 B, 6000/s"
LARGE = "10 KB, 1500/s"
HTTP2 = "HTTP/2, 1500/s"


@dataclass(frozen=True, slots=True)
class Entry:
    """A workload, the names of the peers that get it (None: all peers), and the number of rounds."""

    workload: Workload
    peers: frozenset[str] | None = None
    rounds: int = 1


_TAPPER = frozenset({TAPPER, PURE})
"""The forms of the tapper that have goals."""
_ANY_PROTOCOL = _TAPPER | {WITHOUT_FAST, "tshark fields"}
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
"""The tapper gets several rounds at 6,000/s and at the highest rate, because its goal there is for every round. The
workloads that compare peers are long, because the first requests cost more (the tapper: some milliseconds)."""


def run(
    plan: Sequence[Entry], peers: Sequence[Peer], say: Callable[[str], None], most_rounds: int = 3
) -> Iterator[Measurement]:
    """Measure the whole plan, the workloads without a mesh first. A failed measurement has the reason in `died`."""
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
                    if number:  # the slow peers cost a hundred times as much, so one round of them is enough
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
    """The peers, rotated by `number`: each round begins with another peer, so that none is always the first."""
    start = number % len(peers) if peers else 0
    return [*peers[start:], *peers[:start]]


def scaled(workload: Workload, peer: Peer) -> Workload:
    """The workload as this peer gets it: a slow peer gets fewer requests at a lower rate."""
    rate = None if workload.rate is None else max(1, round(workload.rate * peer.share))
    return replace(workload, rate=rate, requests=max(workload.connections, round(workload.requests * peer.share)))
