"""Health probes, by what they look like.

The kubelet's HTTP probes say `User-Agent: kube-probe/1.x`, and pilot-agent, which Istio has the kubelet ask instead,
passes that on to the application from 127.0.0.6 or ::6. The kubelet's own requests to pilot-agent go to port 15020
(`/app-health/…`), those for the sidecar to port 15021 (`/healthz/ready`). All of this anybody can write, so it is good
for a label, and for nothing that a label may not decide.
"""

from __future__ import annotations

from tapper.protocols.exchange import Exchange
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction

_AGENT = "kube-probe/"
_AGENTS_PORTS = (("15020", "/app-health/"), ("15021", "/healthz/ready"))


def is_probe(leg: Leg, exchange: Exchange) -> bool:
    """Whether this looks like a health probe, on its way into a pod."""
    if exchange.request is None or leg.direction is Direction.OUTBOUND:
        return False
    head = exchange.request.head
    port = leg.dst.rpartition(":")[2]
    if any(port == known and head.target.startswith(path) for known, path in _AGENTS_PORTS):
        return True
    return any(name.lower() == "user-agent" and value.startswith(_AGENT) for name, value in head.headers)
