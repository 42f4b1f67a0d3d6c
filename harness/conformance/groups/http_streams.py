"""HTTP, continued: several messages in one stream of bytes, and bytes that are none."""

from __future__ import annotations

import threading

from harness.adapters.contract import Feature
from harness.conformance import truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import LoopbackConnection

_LATE_S = 2.5
_PAUSE_S = 1.05
_TOLD_S = 3.0
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


@case("HTTP-03", Level.MUST, "RFC 9112, sections 9.3 and 9.3.2", features={Feature.HTTP1})
def pipelined(trial: Trial) -> None:
    """A tapper MUST pair exchanges of a kept connection in their order, also where requests do not wait for answers.

    Five exchanges one after the other; then five requests in one piece and their five answers, told apart by status.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
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
    tap.expect_paired(sent)


@case("HTTP-05", Level.MUST, "RFC 9293, section 3.4: TCP carries bytes, not messages", features={Feature.HTTP1})
def any_segmentation(trial: Trial) -> None:
    """A tapper MUST read messages however they are cut into segments.

    One exchange byte by byte, in both directions; then pipelined ones in pieces of seven and of ninety bytes, which cut
    start lines, header names, line ends and bodies, and put the end of one message and the beginning of the next into
    one segment.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg = ExpectedLeg(server, INBOUND)
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
    tap.expect_paired(sent)


@case("HTTP-08", Level.MUST, "RFC 9112, section 2.2, and whatever else is on a wire", features={Feature.HTTP1})
def malformed(trial: Trial) -> None:
    """A tapper MUST go on after malformed input.

    Each of a dozen connections begins with bytes that no grammar allows. After each of them a plain exchange runs on
    another connection. The tapper has to report it once, with its own answer.
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
    tap.expect_paired(sent)


@case("HTTP-17", Level.MUST, "Envoy keeps connections open for hours")
def while_it_is_open(trial: Trial) -> None:
    """A tapper MUST report an exchange when the exchange ends, not when its connection ends.

    A pooled connection stays open for as long as there is traffic. Three requests are answered on such a connection.
    The tapper has to report each of them before the connection closes.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    with delivery.inbound(server) as conversation:
        sent = [truth.speak(conversation, ExpectedLeg(server, INBOUND)) for _ in range(3)]
        tap.wait_seen(sent)
    tap.look(server)
    tap.end()
    tap.expect_seen(sent)


@case(
    "HTTP-31",
    Level.SHOULD,
    "WHATWG HTML, section 9.2: events are for whoever looks now",
    features={Feature.HTTP1, Feature.STREAMING},
)
def told_while_it_goes_on(trial: Trial) -> None:
    """A tapper that claims streaming SHOULD report the events of a response while the response goes on.

    A stream of server-sent events may go on for hours, and a chat with a language model is one such response for each
    question. Of a response two events come a second apart. Both have to be in a record before the response ends, and
    the exchange has to be reported once when it has ended.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    nonce, events = truth.new_nonce(), [truth.new_nonce() for _ in range(2)]
    head = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
        f"{NONCE_HEADER}: {nonce}\r\n\r\n"
    )
    with delivery.inbound(server) as conversation:
        conversation.client_sends(truth.request(nonce))
        conversation.server_sends(head.encode() + _event(events[0]))
        threading.Event().wait(_PAUSE_S)  # the pause is what is tried: nobody is waited for
        conversation.server_sends(_event(events[1]))
        tap.wait_for(
            lambda: tap.running.mentioned().issuperset(events),
            "the two events of a response that goes on, in records",
            _TOLD_S,
            instead=lambda: f"{len(tap.running.mentioned().intersection(events))} of them",
        )
        conversation.server_sends(b"0\r\n\r\n")
        sent = [truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce)]
    tap.settle(sent, server)
    tap.end()
    tap.expect_once(sent)


def _event(data: str) -> bytes:
    """A server-sent event in a chunk of its own."""
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


@case("HTTP-18", Level.SHOULD, "what fails is what people look for", features={Feature.HTTP1})
def never_answered(trial: Trial) -> None:
    """A tapper SHOULD report a request that is never answered.

    An application that crashes while it handles a request closes the connection without an answer. A tapper that
    reports only pairs hides exactly the request that matters. There are three such connections, one of them after a
    plain exchange.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    sent = []
    for answered_before in (0, 0, 1):
        with delivery.inbound(server) as conversation:
            sent += [truth.speak(conversation, ExpectedLeg(server, INBOUND)) for _ in range(answered_before)]
            nonce = truth.new_nonce()
            conversation.client_sends(truth.request(nonce))
            conversation.server_ends()
            sent.append(truth.sent(conversation, ExpectedLeg(server, INBOUND), nonce, status=0))
    tap.settle(sent, server)
    tap.end()
    tap.expect_seen(sent)


@case(
    "HTTP-20",
    Level.MUST,
    "RFC 9112, section 9.5: an answer may come while the request is sent",
    features={Feature.HTTP1},
)
def answered_early(trial: Trial) -> None:
    """A tapper MUST pair an answer that comes before its request has ended.

    A server that refuses a body (413) answers at once, and the client still sends the rest of the body. A plain
    exchange follows on the same connection.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, nonce, body = ExpectedLeg(server, INBOUND), truth.new_nonce(), b"too much of it" * 100
    asked = truth.request(nonce, method="PUT", body=body)
    with delivery.inbound(server) as conversation:
        conversation.client_sends(asked[:-700])
        conversation.server_sends(truth.response(nonce, 413, body=b"no more"))
        conversation.client_sends(asked[-700:])
        sent = [truth.sent(conversation, leg, nonce, method="PUT", status=413, request_body=body, body=b"no more")]
        sent.append(truth.speak(conversation, leg, status=202))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-21", Level.MUST, "a slow service is what people look for", features={Feature.HTTP1})
def answered_late(trial: Trial) -> None:
    """A tapper MUST pair an answer that comes seconds after its request.

    A request is answered after two and a half seconds. Its connection is idle meanwhile, and exchanges go on on another
    connection. The tapper has to report the request with its answer.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, nonce = ExpectedLeg(server, INBOUND), truth.new_nonce()
    with delivery.inbound(server) as conversation:
        conversation.client_sends(truth.request(nonce))
        sent = truth.deliver(server, 3)
        threading.Event().wait(_LATE_S)  # the delay is what is tried: nobody is waited for
        conversation.server_sends(truth.response(nonce, 203, body=b"at last"))
        sent.append(truth.sent(conversation, leg, nonce, status=203, body=b"at last"))
        sent.append(truth.speak(conversation, leg, status=202))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


def _several(
    conversation: LoopbackConnection, leg: ExpectedLeg, count: int
) -> tuple[list[bytes], list[bytes], list[Sent]]:
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
