"""HTTP, continued: how exchanges end."""

from __future__ import annotations

from contextlib import ExitStack

from harness.adapters.contract import Feature
from harness.conformance import h2c, truth
from harness.conformance.model import Level, case
from harness.conformance.tap import TrialTap
from harness.conformance.trial import Trial
from harness.conformance.verdict import NotClaimed
from harness.mesh import delivery
from harness.mesh.delivery import LoopbackConnection
from harness.sandbox.pod import Pod

_CANCEL, _REFUSED_STREAM = 8, 7
_Ending = tuple[str, str | None]
"""The words for `outcome` and `outcome_by`."""


@case(
    "HTTP-30",
    Level.SHOULD,
    "RFC 9293, section 3.5.3: a reset; RFC 9113, sections 6.4 and 6.8: RST_STREAM and GOAWAY",
    features={Feature.HTTP1},
)
def endings(trial: Trial) -> None:
    """A tapper SHOULD say truly how an exchange ended, in a record that has an `outcome`.

    One exchange is complete. Of one the server resets the connection in the midst of its answer, of one the client
    does so before any answer, and of one the server closes the connection without an answer. With the claim `http2`, a
    client cancels a stream, a server refuses one with RST_STREAM, and a server leaves one out with GOAWAY. A tapper
    that does not report exchanges without an answer says nothing wrong here, nor does a record without an `outcome`.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    expected = _http1(server)
    if Feature.HTTP2 in trial.adapter.claims:
        expected |= _http2(server)
    plain = truth.deliver(server, 2)
    tap.settle(plain, server)
    tap.end()
    _compare(tap, expected)


def _http1(server: Pod) -> dict[str, _Ending]:
    """The endings, by nonce."""
    expected: dict[str, _Ending] = {}

    def ask(conversation: LoopbackConnection, kind: str, by: str | None) -> str:
        nonce = truth.new_nonce()
        conversation.client_sends(truth.request(nonce))
        expected[nonce] = kind, by
        return nonce

    with delivery.inbound(server) as conversation:
        nonce = ask(conversation, "complete", None)
        conversation.server_sends(truth.response(nonce, 210))
        nonce = ask(conversation, "reset", "server")
        conversation.server_sends(truth.response(nonce, 211, body=bytes(100))[:-50])
        conversation.resets(by_client=False)
    with delivery.inbound(server) as conversation:
        ask(conversation, "reset", "client")
        conversation.resets(by_client=True)
    with delivery.inbound(server) as conversation:
        ask(conversation, "timeout", "server")
        conversation.server_ends()
    return expected


def _http2(server: Pod) -> dict[str, _Ending]:
    """The same of streams."""
    nonces = [truth.new_nonce() for _ in range(3)]
    client = h2c.Http2Sender()
    with ExitStack() as rest:
        conversation = rest.enter_context(delivery.inbound(server))
        h2c.begin(conversation)
        for number, nonce in enumerate(nonces):
            fields = h2c.request_fields("POST", truth.target_of(nonce))
            conversation.client_sends(client.headers(2 * number + 1, fields) + client.data(2 * number + 1, b"part"))
        conversation.client_sends(h2c.rst_stream(1, _CANCEL))
        conversation.server_sends(h2c.rst_stream(3, _REFUSED_STREAM) + h2c.goaway(3, 0))
    kinds: list[_Ending] = [("cancelled", "client"), ("rst_stream", "server"), ("goaway", "server")]
    return dict(zip(nonces, kinds, strict=True))


def _compare(tap: TrialTap, expected: dict[str, _Ending]) -> None:
    """Hold the records of these exchanges against their endings."""
    found = [(each, ending) for nonce, ending in expected.items() for each in tap.seen if nonce in (each.target or "")]
    if not any("outcome" in each.record for each, _ in found):
        raise NotClaimed("its records do not say how an exchange ended (outcome)")
    for each, (kind, by) in found:
        told, told_by = each.record.get("outcome"), each.record.get("outcome_by")
        tap.require(told in (None, kind), f"the outcome {kind} of {each.method} {each.target}", f"{told}")
        tap.require(told is None or told_by in (None, by), f"{by} as who ended {each.target}", f"{told_by}")
