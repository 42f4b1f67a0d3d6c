"""What follows from a pod's truth: one expected record for each exchange at each pod, and what is owed of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import ip_address

from harness.adapters.observed import in_words as printable
from harness.conformance.oracle.decode import decode
from harness.conformance.oracle.model import Address, Decoded, Duty, Expected, PodTruth, Span, TcpConnection
from harness.conformance.oracle.wire import connections
from harness.mesh.envoy_config import INBOUND_PORT, LOOPBACK, OUTBOUND_PORT
from harness.mesh.workload import PASSTHROUGH_SOURCE

INBOUND, OUTBOUND, LOCAL, NODE = "inbound", "outbound", "local", "node"
HTTP2 = "HTTP/2"
TCP = "TCP"
"""The protocol of what stands for a connection as a whole."""
_ANY = frozenset({INBOUND, OUTBOUND, LOCAL, NODE})
_ISTIO_PORTS = range(15_000, 15_100)
"""Listeners of Envoy's and Istio's own: what crosses there is not the application's (Istio, Ports used by Istio)."""
_PASSTHROUGH = frozenset(PASSTHROUGH_SOURCE.values())
JOINED_MIDWAY = "its fields cannot be known without the beginning of the connection (RFC 7541, section 2.3.2)"
BETWEEN_PODS = "it crossed between pods, where a tapper need not look"
NOT_WHOLE = "it is not whole"
BEHIND_PROXY_HEADER = "it follows a header of the PROXY protocol, which a tapper need not read"
UNPROVEN = "nothing proves that the tapper looked at that time"
"""Why nothing is owed of an exchange. What is told of it has to be true all the same."""


@dataclass(frozen=True, slots=True)
class PodDecoded:
    """A pod's truth, and all that its connections carried."""

    truth: PodTruth
    decoded: Sequence[Decoded]
    """The connections on its `lo`."""
    outside: Sequence[Decoded] = ()
    """The connections on its other interfaces."""


def read_pod(truth: PodTruth) -> PodDecoded:
    """Read a pod's recording once."""
    on_lo, outside = ([decode(each) for each in connections(frames)] for frames in (truth.frames, truth.outside))
    return PodDecoded(truth, on_lo, outside)


def directions(connection: TcpConnection) -> frozenset[str]:
    """The words that are true of a connection on a pod's `lo`.

    From the sidecar's own address to the application is `inbound`; to the sidecar's outbound listener `outbound`,
    whatever its port: its answers come in the name of whom the application asked. Both ends on the loopback address may
    be a sidecar that delivers there, or the application with itself.
    """
    client, (server, port) = connection.client[0], connection.server
    if port == INBOUND_PORT:
        return _ANY
    if is_loopback(server) and (port == OUTBOUND_PORT or connection.replies_from != connection.server):
        return frozenset({OUTBOUND})
    if client in _PASSTHROUGH:
        return frozenset({INBOUND})
    if is_loopback(client) and is_loopback(server):
        return frozenset({INBOUND, LOCAL})
    return _ANY


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """127.0.0.0/8 or ::1."""
    return ip_address(address).is_loopback


def sidecar_ends(connection: TcpConnection) -> frozenset[tuple[str, int]]:
    """The ends that a record may give as the server: the destination of the packets, and the end that answered."""
    ends = {connection.server, connection.replies_from}
    if connection.replies_from != connection.server or connection.server[1] == OUTBOUND_PORT:
        ends |= {(address, OUTBOUND_PORT) for address in LOOPBACK.values()}
    return frozenset(ends)


def expected(pods: Iterable[PodDecoded], spans: Iterable[Span], undetermined: frozenset[str]) -> list[Expected]:
    """Every exchange of every pod, none of them yet a MUST: that takes what the tapper has shown (`with_duties`)."""
    targets = {span.pod for span in spans}
    found = []
    for pod in pods:
        truth = pod.truth
        for decoded in pod.decoded:
            connection = decoded.connection
            true_directions = directions(connection)
            duty, why = Duty.MAY, _doubt(truth, decoded, undetermined)
            if truth.name not in targets and not truth.foreign_envoy and not truth.lost:
                duty, why = Duty.NEVER, f"pod {truth.name} was never a target"
            for exchange in decoded.exchanges:
                found.append(
                    Expected(truth.name, truth.addresses, truth.netns, connection, exchange, true_directions, duty, why)
                )
    return found


def between_pods(pods: Sequence[PodDecoded], spans: Iterable[Span]) -> list[Expected]:
    """Every exchange that crossed the pods' other interfaces in plaintext, once. A record of it is true, and not owed.

    A tapper that captures on the node's interfaces sees these exchanges. Both pods' recordings have them.
    """
    targets = {span.pod for span in spans}
    known: set[tuple[Address, Address, bytes, bytes]] = set()
    found = []
    for pod in pods:
        for decoded in pod.outside:
            connection = decoded.connection
            key = connection.client, connection.server, connection.requests.data, connection.responses.data
            if key in known:
                continue
            known.add(key)
            ends = {connection.client[0], connection.server[0]}
            truths = [each.truth for each in pods if each.truth.addresses & ends]
            asked_for = any(each.name in targets or each.foreign_envoy for each in truths)
            name = " and ".join(each.name for each in truths) or pod.truth.name
            addresses = frozenset().union(*(each.addresses for each in truths))
            duty = Duty.MAY if asked_for else Duty.NEVER
            why = BETWEEN_PODS if asked_for else f"neither end is a target: {name}"
            for exchange in decoded.exchanges:
                found.append(Expected(name, addresses, None, connection, exchange, frozenset({NODE}), duty, why))
    return found


def _doubt(truth: PodTruth, decoded: Decoded, undetermined: frozenset[str]) -> str:
    """Why nothing of a connection is owed, whatever the tapper has shown; empty where there is no reason."""
    connection = decoded.connection
    if truth.lost:
        return "the kit's own recording of this pod lost packets"
    if truth.foreign_envoy:
        return "a process in this pod claims another pod's address"
    if decoded.flaw:
        return decoded.flaw
    if connection.has_proxy_header:
        return BEHIND_PROXY_HEADER
    if in_words(connection.client) in undetermined:
        return "the case leaves this connection open to interpretation"
    if connection.server[1] in _ISTIO_PORTS and connection.server[1] != OUTBOUND_PORT:
        return "it goes to one of Istio's own listeners"
    return ""


def with_duties(
    expectations: Sequence[Expected], shown: Iterable[tuple[Expected, int]], spans: Iterable[Span], *, midstream: bool
) -> list[Expected]:
    """Make a MUST of what came between the first and the last exchange that was reported of its pod, in one span.

    That the tapper looked at all is so proven by itself, before and after. `shown` are the expectations that have a
    record, each with the time until which the record proves that the tapper looked: the exchange's last byte where
    the record has the response, else its first byte. A connection that began before the tapper looked is owed only by
    those who claim `midstream`.
    """
    windows: list[tuple[str, int, int]] = []
    by_pod: dict[str, list[tuple[int, int]]] = {}
    for each, until_ns in shown:
        by_pod.setdefault(each.pod, []).append((each.exchange.first_ns, until_ns))
    for span in spans:
        inside = [times for times in by_pod.get(span.pod, ()) if span.start_ns <= times[0] and times[1] <= span.end_ns]
        if inside:
            windows.append((span.pod, min(first for first, _ in inside), max(last for _, last in inside)))
    return [_with_duty(each, windows, midstream=midstream) for each in expectations]


def _with_duty(each: Expected, windows: Sequence[tuple[str, int, int]], *, midstream: bool) -> Expected:
    if each.duty is Duty.NEVER or each.why:
        return each
    exchange = each.exchange
    whole = exchange.request is not None and exchange.request.complete
    answered = exchange.response is not None and exchange.response.complete
    if not (whole and answered) or exchange.reset:
        return replace(each, why=NOT_WHOLE)
    for pod, first, last in windows:
        if pod == each.pod and first <= exchange.first_ns and exchange.last_ns <= last:
            begun = each.connection.began_ns >= first
            if not begun and exchange.protocol == HTTP2:
                return replace(each, why=JOINED_MIDWAY)
            if begun or midstream:
                return replace(each, duty=Duty.MUST)
    return replace(each, why=UNPROVEN)


def in_words(address: tuple[str, int]) -> str:
    """`10.244.0.2:8080` or `[fd00::2]:8080`."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def about(leg: Expected) -> str:
    """Which exchange, in words."""
    exchange = leg.exchange
    way = next(iter(leg.directions)) if len(leg.directions) == 1 else ""
    where = f"{way} at pod {leg.pod}".strip()
    ends = f"{in_words(leg.connection.client)} > {in_words(leg.connection.server)}"
    if exchange.protocol == TCP:
        return f"the connection {ends}, {where}"
    said = f"{exchange.method or 'answer'} {exchange.target or ''} -> {exchange.status}"
    return printable(f"{exchange.protocol} {said}, {where}, {ends}")
