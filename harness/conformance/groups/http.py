"""HTTP: messages of HTTP/1, and where they end."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import expect, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER


@case("HTTP-01", Level.MUST, "RFC 9112, section 6.3", features={Feature.HTTP1})
def content_length(trial: Trial) -> None:
    """A tapper MUST pair requests and answers whose bodies have a Content-Length, and give the bodies as they were.

    Requests and answers on one connection have bodies of no byte, of one byte and of many bytes. Bytes of a body that
    look like a request are part of that body and nothing else.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    hidden = truth.new_nonce()
    bodies = [b"", b"x", b"\r\n\r\n", bytes(range(256)) * 20, truth.request(hidden)]
    with delivery.inbound(server) as conversation:
        sent = [
            truth.speak(conversation, leg, method="POST", status=210 + number, request_body=body, body=other)
            for number, (body, other) in enumerate(zip(bodies, reversed(bodies), strict=True))
        ]
        sent.append(truth.speak(conversation, leg))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    expect.not_presented([Sent(hidden, "GET", truth.target_of(hidden), 0, (leg,))], tap.seen)


@case("HTTP-02", Level.MUST, "RFC 9112, section 7.1", features={Feature.HTTP1})
def chunked(trial: Trial) -> None:
    """A tapper MUST read chunked bodies, with chunk extensions and trailers, and know where they end.

    A chunked request and a chunked answer in chunks of several sizes, then a plain exchange on the same connection. The
    body is what the chunks hold: no sizes, no extensions, no trailers.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    body = b"".join(b"%d bottles\n" % number for number in range(200))
    nonce = truth.new_nonce()
    head = (
        f"POST {truth.target_of(nonce)} HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    )
    answer = f"HTTP/1.1 201 Created\r\n{NONCE_HEADER}: {nonce}\r\nTransfer-Encoding: chunked\r\n\r\n"
    with delivery.inbound(server) as conversation:
        conversation.exchange(head.encode() + _chunks(body, 97), answer.encode() + _chunks(body, 1000))
        sent = [truth.sent(conversation, leg, nonce, method="POST", status=201, request_body=body, body=body)]
        sent += [truth.speak(conversation, leg, status=202) for _ in range(2)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case(
    "HTTP-04",
    Level.MUST,
    "RFC 9112, section 6.3; RFC 9110, sections 9.3.2 and 15.2",
    features={Feature.HTTP1},
)
def without_body(trial: Trial) -> None:
    """A tapper MUST know which answers have no body, and that an interim answer is not the answer.

    HEAD with a Content-Length, 304 with one, 204; 100 and 103 before the final answer. Each is followed by a plain
    exchange on the same connection, which a tapper loses or pairs wrongly if it waits for a body or counts interim
    answers.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    shapes = [
        ("HEAD", 200, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n"),
        ("HEAD", 200, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"),
        ("GET", 304, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n"),
        ("DELETE", 204, b"HTTP/1.1 204 No Content\r\n"),
        ("PUT", 201, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 0\r\n"),
        ("GET", 202, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n"),
    ]
    sent = []
    with delivery.inbound(server) as conversation:
        for method, status, answer in shapes:
            nonce = truth.new_nonce()
            marked = answer + f"{NONCE_HEADER}: {nonce}\r\n\r\n".encode()
            conversation.exchange(truth.request(nonce, method=method), marked)
            sent.append(truth.sent(conversation, leg, nonce, method=method, status=status))
            sent.append(truth.speak(conversation, leg, status=210))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case(
    "HTTP-10",
    Level.MUST,
    "the contract: `truncated` tells a beginning from a whole",
    features={Feature.HTTP1},
)
def large_bodies(trial: Trial) -> None:
    """A tapper MUST give a body of a megabyte whole, or say that it is not whole.

    One goes up and one comes down, then a plain exchange on the same connection. A tapper that keeps only the beginning
    has to set `truncated`.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
    body = bytes(number * 7 % 251 for number in range(4096)) * 256
    with delivery.inbound(server) as conversation:
        sent = [
            truth.speak(conversation, leg, method="POST", status=201, request_body=body, body=b"stored"),
            truth.speak(conversation, leg, status=202, body=body),
            truth.speak(conversation, leg, status=203),
        ]
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case("HTTP-12", Level.MUST, "RFC 9112, section 6.3, rule 8", features={Feature.HTTP1})
def until_the_end(trial: Trial) -> None:
    """A tapper MUST report an answer whose body ends with the connection, with all of the body.

    The answer has no Content-Length and no chunks. Servers of HTTP/1.0 send such answers, and servers that answer with
    `Connection: close`. The answer comes in three pieces, and then the server closes. One client closes its own side
    right after its request.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for version, half_closed in (("1.0", False), ("1.1", False), ("1.0", True)):
        nonce = truth.new_nonce()
        head = f"HTTP/{version} 203 Whatever\r\n{NONCE_HEADER}: {nonce}\r\nConnection: close\r\n\r\n"
        with delivery.inbound(server) as conversation:
            conversation.client_sends(truth.request(nonce))
            if half_closed:
                conversation.client_ends()
            for piece in (head.encode(), b"first ", b"and last"):
                conversation.server_sends(piece)
            conversation.server_ends()
            sent.append(
                truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce, status=203, body=b"first and last")
            )
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case("HTTP-16", Level.SHOULD, "Envoy takes heads of up to 60 KiB by default", features={Feature.HTTP1})
def long_heads(trial: Trial) -> None:
    """A tapper SHOULD read heads of 48 KiB.

    Tokens and cookies make heads so long, and Envoy lets them pass. One request and one answer have a head of that
    size. Plain exchanges come before and after them on the same connection.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, nonce = ExpectedLeg(server, INBOUND), truth.new_nonce()
    long = [(f"X-Long-{number}", f"{number}" * 4000) for number in range(12)]
    with delivery.inbound(server) as conversation:
        sent = [truth.speak(conversation, leg)]
        conversation.exchange(
            truth.request(nonce, headers=long), truth.response(nonce, 203, headers=long, body=b"behind it")
        )
        sent.append(truth.sent(conversation, leg, nonce, status=203, body=b"behind it"))
        sent.append(truth.speak(conversation, leg, status=204, body=b""))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-19", Level.SHOULD, "RFC 9110, section 6.5; RFC 9112, section 7.1.2", features={Feature.HTTP1})
def trailers_of_chunks(trial: Trial) -> None:
    """A tapper SHOULD give the trailers of chunked messages.

    Trailers carry checksums and results that are known only at the end. A chunked request and its chunked answer have
    one each; its name and value have to be among the message's `trailers`, or its `headers`.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce = truth.new_nonce()
    head = f"POST {truth.target_of(nonce)} HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    answer = f"HTTP/1.1 203 Fine\r\n{NONCE_HEADER}: {nonce}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    body = b"bottles"
    with delivery.inbound(server) as conversation:
        conversation.exchange(head + _chunks(body, 4), answer + _chunks(body, 4))
        leg = ExpectedLeg(server, INBOUND)
        sent = [truth.sent(conversation, leg, nonce, method="POST", status=203, request_body=body, body=body)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)
    for sighting in expect.of(sent[0], tap.seen):
        for whose, message in (("request", sighting.request), ("answer", sighting.response)):
            fields = () if message is None else (*message.trailers, *message.headers)
            told = [value for name, value in fields if name.lower() == "x-sum"]
            tap.require(told == ["42"], f"the trailer X-Sum: 42 of the {whose}", f"{told or 'none'}")


def _chunks(body: bytes, size: int) -> bytes:
    """The body in chunks, the second with an extension, and a trailer behind them."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    extensions = [b"", b';name="a;b"', *[b""] * len(parts)]
    chunks = [b"%X%s\r\n%s\r\n" % (len(part), extensions[number], part) for number, part in enumerate(parts)]
    return b"".join(chunks) + b"0\r\nX-Sum: 42\r\n\r\n"
