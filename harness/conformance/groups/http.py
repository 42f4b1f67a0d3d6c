"""HTTP: messages of HTTP/1, whatever their shape."""

from __future__ import annotations

from harness.adapters.contract import Feature
from harness.conformance import expect, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, Leg, Sent
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import Conversation

_FORGED = "203.0.113.77"  # RFC 5737: nobody's
_MALFORMED = {
    "no start line": (b"\x00\x01\x02 nothing of the kind\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "a length that is no number": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\nabc", b""),
    "two lengths that differ": (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 7\r\n\r\nabc", b""),
    "a negative length": (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b""),
    "a length beyond any number": (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 400 + b"\r\n\r\n", b""),
    "a chunk size that is none": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\nabc\r\n", b""),
    "a chunk larger than any": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\n", b""),
    "a head without an end": (b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 200_000, b""),
    "a name without a colon": (b"GET / HTTP/1.1\r\nno colon here\r\n\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "bytes that are no text": (b"GET /\xff\xfe\xc3\x28 HTTP/1.1\r\nX-\xff: \x80\x00\r\n\r\n", b""),
    "a status that is none": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 99999 Never\r\n\r\n"),
    "an answer without a question": (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    "the head of an HTTP/2 frame": (b"\xff\xff\xff\x01\x05\xff\xff\xff\xff" + bytes(50), b"\x00\x00\x00\x04"),
}


@case("HTTP-01", Level.MUST, "RFC 9112, section 6.3", features={Feature.HTTP1})
def content_length(trial: Trial) -> None:
    """A tapper MUST pair requests and answers whose bodies have a Content-Length, and give the bodies as they were.

    Bodies of no byte, one and many, in requests and in answers, on one connection. Bytes of a body that look like a
    request are part of that body and nothing else.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
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
    tap.expect_bodies(sent)
    expect.not_presented([Sent(hidden, "GET", truth.target_of(hidden), 0, (leg,))], tap.seen)


@case("HTTP-02", Level.MUST, "RFC 9112, section 7.1", features={Feature.HTTP1})
def chunked(trial: Trial) -> None:
    """A tapper MUST read chunked bodies, with chunk extensions and trailers, and know where they end.

    A chunked request and a chunked answer in chunks of several sizes, then a plain exchange on the same connection. The
    body is what the chunks hold: no sizes, no extensions, no trailers.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
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
    tap.expect_bodies(sent)


@case("HTTP-03", Level.MUST, "RFC 9112, sections 9.3 and 9.3.2", features={Feature.HTTP1})
def pipelined(trial: Trial) -> None:
    """A tapper MUST pair exchanges of a kept connection in their order, also where requests do not wait for answers.

    Five exchanges one after the other; then five requests in one piece and their five answers, told apart by status.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
    with delivery.inbound(server) as conversation:
        sent = [truth.speak(conversation, leg, status=210 + number) for number in range(5)]
        for together in (True, False):
            requests, answers, records = _several(conversation, leg, 5)
            conversation.client_sends(b"".join(requests))
            for answer in [b"".join(answers)] if together else answers:
                conversation.server_sends(answer)
            sent += records
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case(
    "HTTP-04",
    Level.MUST,
    "RFC 9112, section 6.3; RFC 9110, sections 9.3.2 and 15.2",
    features={Feature.HTTP1},
)
def without_body(trial: Trial) -> None:
    """A tapper MUST know which answers have no body, and that an interim answer is not the answer.

    HEAD with a Content-Length, 304 with one, 204; 100 and 103 before the final answer. Each is followed by a plain
    exchange on the same connection, which is lost or paired wrongly by who waits for a body or counts interim answers.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
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
    tap.expect_bodies(sent)


@case("HTTP-05", Level.MUST, "RFC 9293, section 3.4: TCP carries bytes, not messages", features={Feature.HTTP1})
def any_segmentation(trial: Trial) -> None:
    """A tapper MUST read messages however they are cut into segments.

    One exchange byte by byte, in both directions; then pipelined ones in pieces of seven and of ninety bytes, which cut
    start lines, header names, line ends and bodies, and put the end of one message and the beginning of the next into
    one segment.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
    sent = []
    with delivery.inbound(server) as conversation:
        for count, size in ((1, 1), (3, 7), (4, 90)):
            requests, answers, records = _several(conversation, leg, count)
            for stream, send in ((requests, conversation.client_sends), (answers, conversation.server_sends)):
                data = b"".join(stream)
                for at in range(0, len(data), size):
                    send(data[at : at + size])
            sent += records
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case("HTTP-08", Level.MUST, "RFC 9112, section 2.2, and whatever else is on a wire", features={Feature.HTTP1})
def malformed(trial: Trial) -> None:
    """A tapper MUST go on after malformed input.

    A dozen connections each begin with something that no grammar allows, one kind of it on each; after each a plain
    exchange runs on a connection of its own and has to be reported once, with its own answer.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for ours, theirs in _MALFORMED.values():
        with delivery.inbound(server) as conversation:
            conversation.exchange(ours, theirs)
        sent += truth.deliver(server)
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case(
    "HTTP-10",
    Level.MUST,
    "the contract: `truncated` tells a beginning from a whole",
    features={Feature.HTTP1},
)
def large_bodies(trial: Trial) -> None:
    """A tapper MUST give a body of a megabyte whole, or say that it is not whole.

    One goes up and one comes down, then a plain exchange on the same connection. Whoever keeps only the beginning sets
    `truncated`.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = Leg(server, INBOUND)
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


@case(
    "HTTP-11",
    Level.MUST,
    "mizu: X-Forwarded-For replaced the real source",
    features={Feature.HTTP1},
)
def source_is_the_packets(trial: Trial) -> None:
    """A tapper MUST report the addresses of the packets, never one that a header claims.

    Requests in and out carry X-Forwarded-For, Forwarded, X-Real-IP and X-Envoy-External-Address with an address that is
    nobody's. `src` and `dst` have to be those of the connection; for a redirected one `dst` may also be the sidecar.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    forged = [(name, _FORGED) for name in ("X-Forwarded-For", "X-Real-IP", "X-Envoy-External-Address")]
    forged.append(("Forwarded", f"for={_FORGED}"))
    inbound = truth.deliver(server, 3, headers=forged)
    with delivery.outbound(server, ("10.96.77.10", 80)) as conversation:
        outbound = [truth.speak(conversation, Leg(server, truth.OUTBOUND), headers=forged) for _ in range(3)]
    tap.settle(inbound + outbound, server)
    tap.end()
    tap.expect_seen(inbound + outbound)
    for each in inbound + outbound:
        for sighting in expect.of(each, tap.seen):
            tap.require(sighting.src == each.src, f"{each.target} from {each.src}", f"from {sighting.src}")
            right = sighting.dst in ((each.dst,) if each in inbound else (each.dst, "127.0.0.1:15001"))
            tap.require(right, f"{each.target} to {each.dst}", f"to {sighting.dst}")


@case("HTTP-12", Level.MUST, "RFC 9112, section 6.3, rule 8", features={Feature.HTTP1})
def until_the_end(trial: Trial) -> None:
    """A tapper MUST report an answer whose body ends with the connection, with all of the body.

    Without a Content-Length and without chunks, as HTTP/1.0 servers and `Connection: close` have it. The answer comes
    in three pieces, and then the server closes.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for version in ("1.0", "1.1"):
        nonce = truth.new_nonce()
        head = f"HTTP/{version} 203 Whatever\r\n{NONCE_HEADER}: {nonce}\r\nConnection: close\r\n\r\n"
        with delivery.inbound(server) as conversation:
            conversation.client_sends(truth.request(nonce))
            for piece in (head.encode(), b"first ", b"and last"):
                conversation.server_sends(piece)
            conversation.server_ends()
            sent.append(truth.sent(conversation, Leg(server, INBOUND), nonce, status=203, body=b"first and last"))
    tap.settle(sent, server)
    tap.end()
    tap.expect_bodies(sent)


@case("HTTP-14", Level.SHOULD, "RFC 9110, sections 5.2, 5.3 and 5.5", features={Feature.HTTP1})
def fields_as_they_came(trial: Trial) -> None:
    """A tapper SHOULD give header fields as they came: every line of a name that occurs twice, in order, values whole.

    A request and an answer with a name in three lines among others, an empty value, values with colons, commas, quotes
    and blanks inside, blanks around them, and a name without a blank behind its colon. Names may be written in any
    case. RFC 9110 lets a recipient join lines of one name; a witness who does so can no longer tell what was sent.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    lines = [
        ("X-Several", "first"),
        ("X-Empty", ""),
        ("X-Several", "second, with: a comma"),
        ("X-Colons", "a:b::c"),
        ("X-Quoted", '"one, two" ; q="0.5"'),
        ("x-several", "third"),
    ]
    raw = "".join(f"{name}:{'' if name == 'X-Colons' else '  '}{value} \r\n" for name, value in lines)
    nonce, leg = truth.new_nonce(), Leg(server, INBOUND)
    asked = truth.request(nonce).replace(b"\r\n\r\n", b"\r\n" + raw.encode() + b"\r\n")
    answer = truth.response(nonce, 203).replace(b"\r\n\r\n", b"\r\n" + raw.encode() + b"\r\n")
    with delivery.inbound(server) as conversation:
        conversation.exchange(asked, answer)
        sent = [truth.sent(conversation, leg, nonce, status=203)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)
    (sighting,) = expect.of(sent[0], tap.seen)
    for whose, message in (("request", sighting.request), ("answer", sighting.response)):
        for name in dict.fromkeys(name.lower() for name, _ in lines):
            right = [value for each, value in lines if each.lower() == name]
            told = [] if message is None else message.header(name)
            tap.require(told == right, f"{name}: {right} of the {whose}", f"{told or 'none'}")


def _several(conversation: Conversation, leg: Leg, count: int) -> tuple[list[bytes], list[bytes], list[Sent]]:
    """Requests and answers told apart by status and body, and their records."""
    requests, answers, records = [], [], []
    for number in range(count):
        nonce, status, body = truth.new_nonce(), 220 + number, b"answer %d\n" % number
        requests.append(truth.request(nonce, method="POST", body=b"request %d\n" % number))
        answers.append(truth.response(nonce, status, body=body))
        records.append(
            truth.sent(
                conversation, leg, nonce, method="POST", status=status, request_body=b"request %d\n" % number, body=body
            )
        )
    return requests, answers, records


def _chunks(body: bytes, size: int) -> bytes:
    """The body in chunks, the second with an extension, and a trailer behind them."""
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    extensions = [b"", b';name="a;b"', *[b""] * len(parts)]
    chunks = [b"%X%s\r\n%s\r\n" % (len(part), extensions[number], part) for number, part in enumerate(parts)]
    return b"".join(chunks) + b"0\r\nX-Sum: 42\r\n\r\n"
