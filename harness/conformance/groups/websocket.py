"""HTTP, continued: connections that become WebSockets."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg
from harness.mesh import delivery, websocket
from harness.mesh.app import NONCE_HEADER


@case("HTTP-06", Level.SHOULD, "RFC 9110, section 7.8, and RFC 6455", features={Feature.HTTP1})
def upgraded(trial: Trial) -> None:
    """A tapper SHOULD know that a connection speaks another protocol after a response with status 101.

    A connection becomes a WebSocket, whose messages contain text that looks like a request and its answer. The masking
    key is zero, so the text is readable on the wire. The tapper has to report the upgrade and the exchanges on other
    connections, and may not report the text as an exchange.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    nonce, inner = truth.new_nonce(), truth.new_nonce()
    with delivery.inbound(server) as conversation:
        conversation.exchange(*upgrade(nonce))
        sent = [truth.sent(conversation, leg, nonce, status=101)]
        request, response = truth.request(inner), truth.response(inner, 203)
        conversation.client_sends(b"\x81" + bytes([0x80 | 126]) + len(request).to_bytes(2, "big") + bytes(4))
        conversation.client_sends(request)
        conversation.server_sends(b"\x81" + bytes([len(response)]))
        conversation.server_sends(response)
        conversation.exchange(b"\x88\x80" + bytes(4), b"\x88\x00")
        hidden = [truth.sent(conversation, leg, inner, status=203)]
    sent += truth.deliver(server, 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_not_presented(hidden, while_seeing=sent)


@case("HTTP-13", Level.MUST, "RFC 6455, sections 5.3 and 5.4", features={Feature.HTTP1, Feature.WEBSOCKET})
def websocket_messages(trial: Trial) -> None:
    """A tapper that claims WebSocket MUST report the text messages of both sides.

    The client's messages are masked on the wire, so a tapper that does not decode them cannot show their text. One
    message comes from either side whole, and one in two frames with a ping in between; a record has to have the whole
    text of each.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce, texts = truth.new_nonce(), [truth.new_nonce() for _ in range(4)]
    with delivery.inbound(server) as conversation:
        conversation.exchange(*upgrade(nonce))
        for send, masked, (whole, halved) in (
            (conversation.client_sends, True, texts[:2]),
            (conversation.server_sends, False, texts[2:]),
        ):
            send(frame(0x81, whole, masked=masked))
            for first, part in ((0x01, halved[:20]), (0x89, "ping"), (0x80, halved[20:])):
                send(frame(first, part, masked=masked))
        conversation.exchange(frame(0x88, "", masked=True), frame(0x88, "", masked=False))
        sent = [truth.sent(conversation, leg=ExpectedLeg(server, INBOUND), nonce=nonce, status=101)]
    sent += truth.deliver(server)
    tap.settle(sent, server)
    tap.end()
    tap.expect_once(sent)
    said = list(tap.under_test.output.everything())
    for whose, text in zip(("client's", "client's second", "server's", "server's second"), texts, strict=True):
        told = any(text.encode() in each for each in said)
        tap.require(told, f"the {whose} message, {text}", "no record with it")


def upgrade(nonce: str) -> tuple[bytes, bytes]:
    """The opening handshake (RFC 6455, section 1.3; the key and its answer are the ones there)."""
    asked = truth.request(
        nonce,
        headers=[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ],
    )
    answer = (
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{NONCE_HEADER}: {nonce}\r\n\r\n"
    )
    return asked, answer.encode()


def frame(first: int, text: str, *, masked: bool) -> bytes:
    """A WebSocket frame (RFC 6455, section 5.2); `first` is FIN and the opcode."""
    return websocket.frame(first, text.encode(), b"\x5a\xc3\x96\x0f" if masked else None)
