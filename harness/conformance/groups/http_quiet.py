"""HTTP, continued: connections on which nothing moves for a while."""

from __future__ import annotations

import threading
from contextlib import ExitStack

from harness.adapters.contract import Feature
from harness.conformance import h2c, truth
from harness.conformance.groups.websocket import frame, upgrade
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import LoopbackConnection

_A_MOMENT_S = 3.0
_MINUTES_S = 310.0
_BEAT_S = 5.0
_MESSAGE = b"\x00\x00\x00\x00\x05hello"


def _shorter(trial: Trial) -> None:
    quiet_for(trial, _A_MOMENT_S)


@case("HTTP-28", Level.MUST, "RFC 9293, section 3.8.4: a quiet connection is open", features={Feature.HTTP1})
def quiet_for_a_moment(trial: Trial) -> None:
    """A tapper MUST go on with a connection that was quiet for some seconds.

    A request whose body stops half-way, a WebSocket between two messages, and a gRPC call that has had one of two
    messages are quiet for three seconds, the latter two where they are claimed; exchanges go on on other connections.
    Then each goes on, and has to be reported whole.
    """
    quiet_for(trial, _A_MOMENT_S)


@case(
    "HTTP-29",
    Level.SHOULD,
    "Envoy, stream_idle_timeout: five minutes; a watch of the Kubernetes API; RFC 9293, section 3.8.4",
    features={Feature.HTTP1},
    extra_s=2 * _MINUTES_S,
    shorter=_shorter,
)
def quiet_for_minutes(trial: Trial) -> None:
    """A tapper SHOULD go on with a connection that was quiet for more than five minutes.

    As HTTP-28, for 310 seconds. A tapper may have to forget what has been quiet for long; five minutes are what Envoy
    itself waits for a stream by default, and a WebSocket or a watch is often quiet for that long.
    """
    quiet_for(trial, _MINUTES_S)


def quiet_for(trial: Trial, seconds: float) -> None:
    """HTTP-28 and HTTP-29, for so long."""
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, claims = ExpectedLeg(server, INBOUND), trial.adapter.claims
    sent: list[Sent] = []
    last_words = []
    pause = threading.Event()
    with ExitStack() as rest:
        # 1. Each begins.
        upload = rest.enter_context(delivery.inbound(server))
        nonce, body = truth.new_nonce(), b"half of it " * 20
        asked = truth.request(nonce, method="PUT", body=body)
        upload.client_sends(asked[: -len(body) // 2])
        socket = rest.enter_context(delivery.inbound(server)) if Feature.WEBSOCKET in claims else None
        if socket is not None:
            opening = truth.new_nonce()
            socket.exchange(*upgrade(opening))
            sent.append(truth.sent(socket, leg, opening, status=101))
        call = _Call(rest.enter_context(delivery.inbound(server)), leg) if Feature.GRPC in claims else None
        # 2. Nothing moves on them. That is what is tried: nobody is waited for.
        passed = 0.0
        while passed < seconds:
            sent += truth.deliver(server)
            pause.wait(min(_BEAT_S, seconds - passed))
            passed += _BEAT_S
        # 3. Each goes on, and ends.
        upload.client_sends(asked[-len(body) // 2 :])
        upload.server_sends(truth.response(nonce, 203, body=b"at last"))
        sent.append(truth.sent(upload, leg, nonce, method="PUT", status=203, request_body=body, body=b"at last"))
        if socket is not None:
            last_words = [truth.new_nonce(), truth.new_nonce()]
            socket.client_sends(frame(0x81, last_words[0], masked=True))
            socket.server_sends(frame(0x81, last_words[1], masked=False))
            socket.exchange(frame(0x88, "", masked=True), frame(0x88, "", masked=False))
        if call is not None:
            sent.append(call.end())
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    said = list(tap.under_test.output.everything())
    for text in last_words:
        told = any(text.encode() in each for each in said)
        tap.require(told, f"the WebSocket's message after {seconds:g} quiet seconds, {text}", "no record with it")


class _Call:
    """A gRPC call whose answer has two messages, the first of which has come."""

    def __init__(self, conversation: LoopbackConnection, leg: ExpectedLeg) -> None:
        self._conversation, self._leg = conversation, leg
        self._nonce, self._answering = truth.new_nonce(), h2c.Http2Sender()
        asking = h2c.Http2Sender()
        h2c.begin(conversation)
        extra = [("content-type", "application/grpc"), ("te", "trailers"), (NONCE_HEADER, self._nonce)]
        fields = h2c.request_fields("POST", truth.target_of(self._nonce), extra)
        conversation.client_sends(asking.headers(1, fields) + asking.data(1, _MESSAGE, end=True))
        head = [(":status", "200"), ("content-type", "application/grpc"), (NONCE_HEADER, self._nonce)]
        conversation.server_sends(self._answering.headers(1, head) + self._answering.data(1, _MESSAGE))

    def end(self) -> Sent:
        """The second message and the status."""
        trailers = self._answering.headers(1, [("grpc-status", "0")], end=True)
        self._conversation.server_sends(self._answering.data(1, _MESSAGE) + trailers)
        return truth.sent(
            self._conversation,
            self._leg,
            self._nonce,
            method="POST",
            request_body=_MESSAGE,
            body=_MESSAGE * 2,
        )
