"""A planned connection as bytes. Pure."""

from __future__ import annotations

from harness.conformance.generated import contents, http1, http2
from harness.conformance.generated.plan import GRPC, HTTP1, HTTP2, UPGRADE, WEBSOCKET, Plan
from harness.conformance.generated.turns import Script

_WRITERS = {
    HTTP1: http1.script,
    WEBSOCKET: http1.websocket_script,
    HTTP2: http2.script,
    UPGRADE: http2.script,
    GRPC: http2.script,
}


def script(plan: Plan, number: int) -> Script:
    """The bytes of the connection with this number, up to its end, in its segments."""
    talk = plan.talks[number]
    nonces = [contents.nonce(plan.name, number, exchange) for exchange in range(len(talk.played))]
    return _WRITERS[talk.protocol](talk, nonces).until(talk.close).segmented(talk.segments)
