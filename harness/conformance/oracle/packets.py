"""What a tapper of packets captured, held against what crossed each pod's `lo`: every byte, once, and of targets only.

Counted are bytes and not packets, since who captures elsewhere in the kernel may see them cut or joined otherwise. A
packet without payload is asked of nobody. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.adapters.packets import Packet, words_of
from harness.conformance.oracle import expectation
from harness.conformance.oracle.expectation import PodDecoded
from harness.conformance.oracle.model import (
    Difference,
    DifferenceKind,
    Duty,
    Expected,
    Span,
    TcpConnection,
    TrueExchange,
)
from harness.conformance.oracle.wire import TcpPacket, packet_of, packets, text_of

_WRAP = 1 << 32
_HALF = 1 << 31
_NO_TIME = -1
"""Of a packet that its file gives no time, as a Simple Packet Block of pcapng does."""
_Flow = tuple[bytes, int, bytes, int]
_Key = tuple[str, _Flow]
"""A pod's name, or an empty one where the capture does not tell pods apart; and a flow."""


@dataclass(slots=True)
class _Crossed:
    """The segments with payload of one flow."""

    truth: list[TcpPacket] = field(default_factory=list)
    told: list[TcpPacket] = field(default_factory=list)
    pods: set[str] = field(default_factory=set)
    stated_longer: list[tuple[Packet, TcpPacket]] = field(default_factory=list)
    """Captured packets that the file states to have been longer on the wire."""

    def cut(self) -> list[Packet]:
        """The captured packets that lack bytes which crossed. A header may state more bytes than ever crossed, and a
        tapper may believe it."""
        crossed = {(each.seq, len(each.payload)) for each in self.truth}
        return [packet for packet, each in self.stated_longer if (each.seq, len(each.payload)) not in crossed]


def differences(
    pods: Sequence[PodDecoded], captured: Sequence[Packet], spans: Sequence[Span], tolerance_s: float
) -> Iterator[Difference]:
    """Every difference of a capture, flow by flow."""
    by_name = {pod.truth.name: pod for pod in pods}
    targets = {span.pod for span in spans}
    told = [(pod_of(packet.interface, pods), packet, _segment(packet)) for packet in captured]
    named = bool(told) and all(name for name, _, _ in told)
    flows: dict[_Key, _Crossed] = {}
    for pod in pods:
        for sent in packets(pod.truth.frames):
            if sent.payload:
                crossed = flows.setdefault((pod.truth.name if named else "", sent.flow), _Crossed())
                crossed.truth.append(sent)
                crossed.pods.add(pod.truth.name)
    for name, packet, segment in told:
        if segment is None or not segment.payload:
            continue
        known = flows.get((name if named else "", segment.flow))
        if known is not None:
            known.told.append(segment)
            if len(packet.data) < packet.length:
                known.stated_longer.append((packet, segment))
    connections = _connections(pods)
    shown = _windows(flows, spans)
    for (_, flow), crossed in flows.items():
        leg = _leg(flow, crossed, by_name, connections, targets)
        if leg is not None:
            yield from _of_flow(leg, crossed, shown, tolerance_s)


def pod_of(interface: str, pods: Iterable[PodDecoded]) -> str:
    """The pod that an interface's or a file's name tells, by an address or by its name; empty where none is told."""
    words = words_of(interface)
    for pod in pods:
        if pod.truth.name in words or any(address in words for address in pod.truth.addresses):
            return pod.truth.name
    return ""


def _segment(packet: Packet) -> TcpPacket | None:
    ip = packet.ip()
    return None if ip is None else packet_of(_NO_TIME if packet.time_ns is None else packet.time_ns, ip)


def _connections(pods: Sequence[PodDecoded]) -> dict[tuple[str, str, int, str, int], TcpConnection]:
    """By pod and both ends as either side's packets have them."""
    found = {}
    for pod in pods:
        for decoded in pod.decoded:
            each = decoded.connection
            found[(pod.truth.name, *each.source, *each.server)] = each
            found[(pod.truth.name, *each.replies_from, *each.client)] = each
    return found


def _leg(
    flow: _Flow,
    crossed: _Crossed,
    pods: dict[str, PodDecoded],
    connections: dict[tuple[str, str, int, str, int], TcpConnection],
    targets: set[str],
) -> Expected | None:
    """The connection of a flow, and what is owed of it. None where the kit's own recording says too little."""
    looked_at = sorted(crossed.pods, key=lambda name: name not in targets)
    truth = pods[looked_at[0]].truth
    connection = connections.get((truth.name, text_of(flow[0]), flow[1], text_of(flow[2]), flow[3]))
    if connection is None or truth.lost:
        return None
    duty, why = Duty.MUST, ""
    if truth.foreign_envoy:
        duty, why = Duty.MAY, "a process in this pod claims another pod's address"
    elif truth.name not in targets:
        duty, why = Duty.NEVER, f"pod {truth.name} was never a target"
    exchange = TrueExchange(expectation.TCP, None, None, None, None, None, connection.began_ns, connection.last_ns)
    ways = expectation.directions(connection)
    return Expected(truth.name, truth.addresses, truth.netns, connection, exchange, ways, duty, why)


def _windows(flows: dict[_Key, _Crossed], spans: Sequence[Span]) -> list[tuple[str, int, int]]:
    """For each span of a pod the first and the last moment of which a packet was captured."""
    moments: dict[str, list[int]] = {}
    for crossed in flows.values():
        if len(crossed.pods) == 1:
            seen = {(each.seq, len(each.payload)) for each in crossed.told}
            times = [each.time_ns for each in crossed.truth if (each.seq, len(each.payload)) in seen]
            moments.setdefault(next(iter(crossed.pods)), []).extend(times)
    found = []
    for span in spans:
        inside = [time_ns for time_ns in moments.get(span.pod, ()) if span.start_ns <= time_ns <= span.end_ns]
        if inside:
            found.append((span.pod, min(inside), max(inside)))
    return found


def _of_flow(
    leg: Expected, crossed: _Crossed, windows: Sequence[tuple[str, int, int]], tolerance_s: float
) -> Iterator[Difference]:
    what = expectation.about(leg)
    if leg.duty is Duty.NEVER:
        if crossed.told:
            told = f"{len(crossed.told)} packets with payload"
            yield Difference(DifferenceKind.FORBIDDEN, "", what, f"no packet of it: {leg.why}", told, leg)
        return
    if leg.duty is Duty.MAY:
        return
    base = crossed.truth[0].seq
    if cut := crossed.cut():
        first = cut[0]
        told = f"{len(cut)} cut, the first to {len(first.data)} of {first.length} bytes"
        yield Difference(DifferenceKind.WRONG, "packet", what, "each packet as long as it was on the wire", told, leg)
        return
    covered = _merged(_interval(each, base) for each in crossed.told)
    owed = [
        each
        for each in crossed.truth
        if not each.refused and any(pod == leg.pod and first <= each.time_ns <= last for pod, first, last in windows)
    ]
    missing = [each for each in owed if not _inside(_interval(each, base), covered)]
    if missing and leg.connection.began_ns >= min(first for pod, first, _ in windows if pod == leg.pod):
        of = f"{len(missing)} of {len(owed)} packets with payload are missing"
        yield Difference(DifferenceKind.MISSING, "", what, "every packet with payload", of, leg)
    sizes = sum(len(each.payload) for each in crossed.truth), sum(len(each.payload) for each in crossed.told)
    if sizes[1] > sizes[0]:
        of = f"{sizes[1]} bytes in {len(crossed.told)} packets"
        yield Difference(DifferenceKind.REPEATED, "", what, f"the {sizes[0]} bytes that crossed, once", of, leg)
    yield from _contents(leg, crossed, tolerance_s)


def _contents(leg: Expected, crossed: _Crossed, tolerance_s: float) -> Iterator[Difference]:
    """Payload and time of what was captured as it crossed."""
    what = expectation.about(leg)
    known: dict[tuple[int, int], list[TcpPacket]] = {}
    for each in crossed.truth:
        known.setdefault((each.seq, len(each.payload)), []).append(each)
    for each in crossed.told:
        several = known.get((each.seq, len(each.payload)))
        if several is None:
            continue
        if all(each.payload != true.payload for true in several):
            yield Difference(DifferenceKind.WRONG, "packet", what, "the payload that crossed", "another one", leg)
            return
        if each.time_ns == _NO_TIME:
            continue
        off = min((each.time_ns - true.time_ns for true in several), key=abs) / 1e9
        if abs(off) > tolerance_s:
            told = f"{each.time_ns / 1e9:.3f}, {abs(off):.1f} s too {'late' if off > 0 else 'early'}"
            yield Difference(DifferenceKind.WRONG, "ts", what, f"its time within {tolerance_s:g} s", told, leg)
            return


def _interval(segment: TcpPacket, base: int) -> tuple[int, int]:
    """The bytes of a segment, numbered from a sequence number on; negative before it."""
    start = segment.seq - base & _WRAP - 1
    start = start - _WRAP if start >= _HALF else start
    return start, start + len(segment.payload)


def _merged(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


def _inside(interval: tuple[int, int], covered: Sequence[tuple[int, int]]) -> bool:
    return any(start <= interval[0] and interval[1] <= end for start, end in covered)
