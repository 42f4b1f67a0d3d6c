"""Health probes, by what they look like.

The kubelet's HTTP probes say `User-Agent: kube-probe/1.x`, and pilot-agent, which Istio has the kubelet ask instead,
passes that on to the application from 127.0.0.6 or ::6. The kubelet's own requests to pilot-agent go to port 15020
(`/app-health/…`), those for the sidecar to port 15021 (`/healthz/ready`). All of this anybody can write, so it is good
for a label, and for nothing that a label may not decide.
"""

from __future__ import annotations

from typing import Final

from tapper.protocols.exchange import Exchange
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction

_OUTBOUND: Final = Direction.OUTBOUND
_PROBE: Final = "kube-probe/"
_AGENT: Final = "user-agent"
_ASKED_OF_AGENT: Final = "/app-health/"
_AGENT_PORT: Final = 15020
_ASKED_OF_SIDECAR: Final = "/healthz/ready"
_SIDECAR_PORT: Final = 15021


def is_probe(leg: Leg, exchange: Exchange) -> bool:
    """Whether this looks like a health probe, on its way into a pod."""
    if exchange.request is None or leg.direction is _OUTBOUND:
        return False
    head = exchange.request.head
    # Two conditions rather than a loop: this is asked of every exchange.
    if head.target.startswith(_ASKED_OF_AGENT) and leg.dst.port == _AGENT_PORT:
        return True
    if head.target.startswith(_ASKED_OF_SIDECAR) and leg.dst.port == _SIDECAR_PORT:
        return True
    return head.fields.has_prefix(_AGENT, _PROBE)
