"""Health probes, by what they look like.

The kubelet's HTTP probes say `User-Agent: kube-probe/1.x`, and pilot-agent, which Istio has the kubelet ask instead,
passes that on to the application from 127.0.0.6 or ::6. The kubelet's own requests to pilot-agent go to port 15020
(`/app-health/…`), those for the sidecar to port 15021 (`/healthz/ready`). All of this anybody can write, so it is good
for a label, and for nothing that a label may not decide.
"""

from __future__ import annotations

from tapper.memo import ObjectMemo
from tapper.protocols.exchange import Exchange
from tapper.protocols.heads import Headers
from tapper.streams.connection import Leg
from tapper.streams.legs import Direction

_AGENT = "kube-probe/"
_AGENTS = (("/app-health/", ":15020"), ("/healthz/ready", ":15021"))


def is_probe(leg: Leg, exchange: Exchange) -> bool:
    """Whether this looks like a health probe, on its way into a pod."""
    if exchange.request is None or leg.direction is Direction.OUTBOUND:
        return False
    head = exchange.request.head
    for path, port in _AGENTS:
        if head.target.startswith(path) and leg.dst.endswith(port):
            return True
    return _FROM_KUBELET.of(head.headers)


def _from_kubelet(headers: Headers) -> bool:
    # In a loop: a generator would cost as much again. Hardly a value begins as an agent's.
    for name, value in headers:  # noqa: SIM110
        if value.startswith(_AGENT) and name.lower() == "user-agent":
            return True
    return False


_FROM_KUBELET: ObjectMemo[Headers, bool] = ObjectMemo(_from_kubelet, int, longest=1)  # asked of every exchange
