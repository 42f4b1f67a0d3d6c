"""How a leg's exchange crossed the pod's network interface: in TLS, in plaintext, or not at all. Pure.

A leg is plaintext on the pod's `lo` whatever the mode of mTLS is. Its sidecar sends the same request on, or has
received it, on another connection: over `eth0`, or, where a pod calls itself, over `lo` to the sidecar's inbound
listener. These connections are read here. Connections to the pod tell of an inbound leg, those from the pod of an
outbound leg.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from harness.adapters.observed import MARKER, ReportedExchange
from harness.conformance.oracle.compare import FieldDifference
from harness.conformance.oracle.expectation import INBOUND, NODE, OUTBOUND, PodDecoded
from harness.conformance.oracle.model import Decoded, Expected, OneWay, TcpConnection
from harness.mesh.envoy_config import INBOUND_PORT
from harness.sandbox.frames import TLS_CONTENT_TYPES

_TLS_MAJOR_VERSION = 3  # RFC 8446, section 5.1: of every version of TLS


class Carriage(enum.Enum):
    """How an exchange crossed the pod's network interface. The value is for sentences, after "the exchange"."""

    TLS = "crossed the pod's network interface in TLS"
    PLAINTEXT = "crossed the pod's network interface in plaintext"
    NONE = "did not cross the pod's network interface"
    UNKNOWN = "crossed the pod's network interface in a way that the recording does not tell"


_MTLS = {Carriage.TLS: True, Carriage.PLAINTEXT: False}


def difference(leg: Expected, seen: ReportedExchange, pod: PodDecoded | None) -> Iterator[FieldDifference]:
    """The difference of a record's word on mTLS, where it has one and the recording tells.

    `pod` is the pod on whose `lo` the leg is; None of what crossed between pods, which was read in plaintext.
    """
    if seen.mtls is None:
        return
    crossed = Carriage.PLAINTEXT if leg.directions == {NODE} or pod is None else carriage(leg, pod)
    if crossed is not Carriage.UNKNOWN and _MTLS.get(crossed) is not seen.mtls:
        right = str(_MTLS[crossed]).lower() if crossed in _MTLS else "null, or left out"
        yield FieldDifference("mtls", f"{right}: the exchange {crossed.value}", str(seen.mtls).lower())


def carriage(leg: Expected, pod: PodDecoded) -> Carriage:
    """How the exchange of a leg on this pod's `lo` crossed the pod's other connections."""
    exchange = leg.exchange
    # 1. The connections that were there at that time, with an end at the pod on the leg's side.
    several = [each for each in _others(leg, pod) if _is_of(leg, each.connection) and _overlaps(leg, each.connection)]
    in_tls = [each for each in several if _is_tls(each.connection)]
    plain = [each for each in several if each not in in_tls]
    # 2. The same request among those that were read in plaintext.
    twins = [
        twin
        for each in plain
        for twin in each.exchanges
        if (twin.method, twin.target) == (exchange.method, exchange.target)
        and twin.first_ns <= exchange.last_ns
        and exchange.first_ns <= twin.last_ns
    ]
    # 3. A request with a marker of the kit is the only one of its target; of any other there may be one in TLS besides.
    marked = MARKER.search((exchange.target or "").encode("latin-1", "replace")) is not None
    if twins:
        return Carriage.PLAINTEXT if marked or not in_tls else Carriage.UNKNOWN
    if pod.truth.lost or any(each.flaw for each in plain):
        return Carriage.UNKNOWN
    return Carriage.TLS if in_tls else Carriage.NONE


def _others(leg: Expected, pod: PodDecoded) -> Iterator[Decoded]:
    """The connections on which a sidecar may have received or sent on what crossed this leg."""
    yield from pod.outside
    for each in pod.decoded:
        if each.connection is not leg.connection and each.connection.server[1] == INBOUND_PORT:
            yield each


def _is_of(leg: Expected, connection: TcpConnection) -> bool:
    """Whether the connection has its server, of an outbound leg its client, in the leg's pod."""
    if connection.server[1] == INBOUND_PORT:
        return True
    to_it, from_it = connection.server[0] in leg.addresses, connection.client[0] in leg.addresses
    return (INBOUND in leg.directions and to_it) or (OUTBOUND in leg.directions and from_it)


def _overlaps(leg: Expected, connection: TcpConnection) -> bool:
    return connection.began_ns <= leg.exchange.last_ns and leg.exchange.first_ns <= connection.last_ns


def _is_tls(connection: TcpConnection) -> bool:
    return any(map(_begins_record, (connection.requests, connection.responses)))


def _begins_record(way: OneWay) -> bool:
    """Whether the bytes of one side begin with the header of a TLS record (RFC 8446, section 5.1)."""
    return len(way.data) > 2 and way.data[0] in TLS_CONTENT_TYPES and way.data[1] == _TLS_MAJOR_VERSION
