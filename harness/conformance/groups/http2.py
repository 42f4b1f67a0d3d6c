"""HTTP, continued: HTTP/2 without TLS, and gRPC on it."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import expect, h2c, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER
from harness.sandbox.frames import endpoint


@case("HTTP-07", Level.MUST, "RFC 9113, sections 5 and 6; RFC 7541, section 2.3", features={Feature.HTTP2})
def interleaved_streams(trial: Trial) -> None:
    """A tapper that claims HTTP/2 MUST tell the streams of a connection apart.

    Four requests are open at once on one connection without TLS; their bodies come in turns, the answers in another
    order and in turns as well, padded, and with header blocks in several frames. Header fields are compressed with the
    dynamic table.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    client, answering = h2c.Http2Sender(), h2c.Http2Sender()
    with delivery.inbound(server) as conversation:
        h2c.begin(conversation)
        exchanges = {
            1 + 2 * number: truth.sent(
                conversation,
                ExpectedLeg(server, INBOUND),
                truth.new_nonce(),
                method="POST",
                status=200 + number,
                request_body=b"question %d " % number * 3,
                body=b"answer %d " % number * 3,
            )
            for number in range(4)
        }
        for stream, each in exchanges.items():
            fields = h2c.request_fields("POST", each.target, [(NONCE_HEADER, each.nonce), ("x-common", "as before")])
            conversation.client_sends(client.headers(stream, fields, pieces=stream))
        for part in range(3):
            for stream, each in exchanges.items():
                data = each.request_body[part * 11 : (part + 1) * 11]
                conversation.client_sends(client.data(stream, data, end=part == 2, padding=stream * part))
        turned = dict(reversed(exchanges.items()))
        for stream, each in turned.items():
            fields = [(":status", str(each.status)), (NONCE_HEADER, each.nonce), ("x-common", "as before")]
            conversation.server_sends(answering.headers(stream, fields, pieces=2))
        for part in range(3):
            pieces = [
                answering.data(stream, each.response_body[part * 9 : (part + 1) * 9], end=part == 2, padding=3 * part)
                for stream, each in turned.items()
            ]
            conversation.server_sends(b"".join(pieces))
    sent = list(exchanges.values())
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    messages = [
        (each, message)
        for each in sent
        for sighting in expect.of(each, tap.seen)
        for message in (sighting.request, sighting.response)
    ]
    if any(message is not None and message.headers for _, message in messages):  # it tells header fields
        for each, message in messages:
            told = [] if message is None else message.header("x-common")
            tap.require(told == ["as before"], f"{each.target} with x-common: as before", f"{told or 'none'}")


@case("HTTP-09", Level.MUST, "gRPC over HTTP/2 (PROTOCOL-HTTP2.md, Responses)", features={Feature.GRPC})
def grpc_status(trial: Trial) -> None:
    """A tapper that claims gRPC MUST report a call's status, which stands in the trailers.

    The answer of a call is 200 whether it succeeded or not: without `grpc-status` every failure looks like a success.
    One call succeeds, one fails behind a message, and one fails at once, with its status in the only header block
    (Trailers-Only). The status has to be among the response's `trailers`, of the last one there or among its `headers`.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    client, answering = h2c.Http2Sender(), h2c.Http2Sender()
    message = b"\x00\x00\x00\x00\x05hello"
    wanted: list[tuple[Sent, str]] = []
    with delivery.inbound(server) as conversation:
        h2c.begin(conversation)
        for stream, status in ((1, "0"), (3, "5"), (5, "12")):
            nonce = truth.new_nonce()
            path = f"/shop.Orders/{nonce}"
            extra = [("content-type", "application/grpc"), ("te", "trailers"), (NONCE_HEADER, nonce)]
            conversation.client_sends(
                client.headers(stream, h2c.request_fields("POST", path, extra)) + client.data(stream, message, end=True)
            )
            trailers = [("grpc-status", status), ("grpc-message", f"status {status}")]
            head = [(":status", "200"), ("content-type", "application/grpc"), (NONCE_HEADER, nonce)]
            if stream == 5:
                body = b""
                conversation.server_sends(answering.headers(stream, [*head, *trailers], end=True))
            else:
                body = message
                conversation.server_sends(answering.headers(stream, head))
                conversation.server_sends(answering.data(stream, message))
                conversation.server_sends(answering.headers(stream, trailers, end=True))
            src, dst = endpoint(*conversation.src), endpoint(*conversation.dst)
            leg = ExpectedLeg(server, INBOUND)
            wanted.append((Sent(nonce, "POST", path, 200, (leg,), src, dst, message, body), status))
    sent = [each for each, _ in wanted]
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    for each, status in wanted:
        (sighting,) = expect.of(each, tap.seen)
        response = sighting.response
        fields = () if response is None else (*response.trailers, *response.headers)
        told = [value for name, value in fields if name.lower() == "grpc-status"]
        tap.require(told == [status], f"{each.target} with grpc-status {status}", f"{told or 'none'}: {sighting}")
