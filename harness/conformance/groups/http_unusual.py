"""HTTP, continued: what is rare and allowed, and what looks like HTTP and is none."""

from __future__ import annotations

import random
from collections.abc import Iterator

from harness.adapters.contract import Feature
from harness.conformance import h2c, truth
from harness.conformance.model import Level, case
from harness.conformance.trial import Trial
from harness.conformance.truth import INBOUND, ExpectedLeg, Sent
from harness.mesh import delivery, replay
from harness.mesh.app import NONCE_HEADER
from harness.mesh.delivery import APP_PORT

_SEED = 13  # the same bytes on every run: a verdict must not depend on luck
_OTHER_PORTS = (502, 445, 9201, 9202, 9203, 9204, 9205)
_STREAMS = (1, 3, (1 << 24) - 1, (1 << 24) + 1, (1 << 30) + 5, (1 << 31) - 1)


@case(
    "HTTP-23",
    Level.SHOULD,
    "packet(7): several CPUs put packets into a socket; mergecap(1): so do captures that are put together",
    features={Feature.HTTP1},
)
def answered_before_it_was_asked(trial: Trial) -> None:
    """A tapper SHOULD pair an answer whose packets come before those of its request.

    The two directions of a connection may take different ways to the tapper. The answer's acknowledgement number says
    that its server had the request. On one connection the first, the third and the last of five answers come before
    their requests.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    exchanges, sent = [], []
    for number in range(5):
        nonce, status = truth.new_nonce(), 220 + number
        exchanges.append((truth.request(nonce), truth.response(nonce, status, body=b"ok\n")))
        leg = ExpectedLeg(server, INBOUND)
        sent.append(
            Sent(nonce, "GET", truth.target_of(nonce), status, (leg,), "127.0.0.6:40601", response_body=b"ok\n")
        )
    frames = replay.conversation(replay.inbound(server, APP_PORT, 40601), exchanges)
    for number in (0, 2, 4):
        at = 3 + 2 * number
        frames[at], frames[at + 1] = frames[at + 1], frames[at]
    replay.play(server, frames)
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-24", Level.MUST, "RFC 9110, section 10.1.1", features={Feature.HTTP1})
def refused_expectation(trial: Trial) -> None:
    """A tapper MUST pair what follows a request that expected 100 (Continue) and was answered otherwise.

    A client that sends `Expect: 100-continue` waits before it sends its body. Answered with 401 or 417 it does not send
    the body, and what comes next on the connection is another request. Answered with 100 it sends the body, and the
    final answer comes after that. All on one connection, and a plain exchange at its end.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, body = ExpectedLeg(server, INBOUND), b"all of the body" * 10
    expectation = [("Expect", "100-continue")]
    sent = []
    with delivery.inbound(server) as conversation:
        for status in (401, 417, 201):
            nonce = truth.new_nonce()
            asked = truth.request(nonce, method="PUT", headers=expectation, body=body)
            conversation.client_sends(asked[: -len(body)])
            if goes_on := status < 300:
                conversation.server_sends(b"HTTP/1.1 100 Continue\r\n\r\n")
                conversation.client_sends(body)
            conversation.server_sends(truth.response(nonce, status, body=b"so be it"))
            carried = body if goes_on else b""
            record = truth.sent(
                conversation, leg, nonce, method="PUT", status=status, request_body=carried, body=b"so be it"
            )
            sent.append(record)
        sent.append(truth.speak(conversation, leg, status=202))
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-25", Level.MUST, "RFC 9113, section 5.1.1: 31 bits", features={Feature.HTTP2})
def large_stream_numbers(trial: Trial) -> None:
    """A tapper that claims HTTP/2 MUST read streams whose numbers have all 31 bits.

    A connection that lives for days reaches such numbers. On one connection the streams 1, 3, 2^24 - 1, 2^24 + 1, 2^30
    + 5 and 2^31 - 1 each carry a request with a body, and its answer.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    client, answering, sent = h2c.Http2Sender(), h2c.Http2Sender(), []
    with delivery.inbound(server) as conversation:
        h2c.begin(conversation)
        for number, stream in enumerate(_STREAMS):
            nonce, status, body = truth.new_nonce(), 210 + number, b"stream %d" % stream
            fields = h2c.request_fields("POST", truth.target_of(nonce), [(NONCE_HEADER, nonce)])
            conversation.client_sends(client.headers(stream, fields) + client.data(stream, body, end=True))
            head = answering.headers(stream, [(":status", str(status)), (NONCE_HEADER, nonce)])
            conversation.server_sends(head + answering.data(stream, body, end=True))
            sent.append(
                truth.sent(
                    conversation,
                    ExpectedLeg(server, INBOUND),
                    nonce,
                    method="POST",
                    status=status,
                    request_body=body,
                    body=body,
                )
            )
    tap.settle(sent, server)
    tap.end()
    tap.expect_paired(sent)


@case("HTTP-26", Level.MUST, "RFC 9113, section 3.4: HTTP/2 begins with its preface", features={Feature.HTTP2})
def other_protocols(trial: Trial) -> None:
    """A tapper that claims HTTP/2 MUST NOT make exchanges of other protocols with lengths and numbers.

    A frame of HTTP/2 begins with a length, a type and a number, and so do the messages of many protocols. The case
    sends Modbus, SMB, and streams of small numbers, of zeros, and of bytes after their length. The tapper sees how
    these connections begin: not with a preface. It may not report an exchange of them.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    for port, messages in zip(_OTHER_PORTS, _spoken(), strict=True):
        with delivery.inbound(server, port) as conversation:
            for ours, theirs in messages:
                conversation.exchange(ours, theirs)
    sent = truth.deliver(server, 3)
    tap.settle(sent, server)
    tap.end()
    tap.expect_nothing_invented(*_OTHER_PORTS, while_seeing=sent)


@case(
    "HTTP-27",
    Level.MUST,
    "The PROXY protocol, versions 1 and 2 (HAProxy): a header ahead of the connection's own protocol",
    features={Feature.HTTP1},
)
def behind_a_proxy_header(trial: Trial) -> None:
    """A tapper MUST NOT show a wrong answer, or another source than the packets have, for what follows a PROXY header.

    Load balancers put such a header ahead of the first request of a connection. A tapper may skip the header and read
    on, or leave the connection alone. Three exchanges follow a header of version 1, three one of version 2. Every
    reported request must have its own answer or none, and the tapper has to read the next connections as usual.
    """
    server = trial.pod("server")
    tap = trial.tap(server)
    leg, sent = ExpectedLeg(server, INBOUND), []
    address = bytes((203, 0, 113, 77)) + bytes((10, 0, 0, 1)) + (7777).to_bytes(2, "big") + (80).to_bytes(2, "big")
    headers = (
        b"PROXY TCP4 203.0.113.77 10.0.0.1 7777 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + len(address).to_bytes(2, "big") + address,
    )
    for header in headers:
        with delivery.inbound(server) as conversation:
            conversation.client_sends(header)
            sent += [truth.speak(conversation, leg, status=230 + number) for number in range(3)]
    plain = truth.deliver(server, 2)
    tap.settle(plain, server)
    tap.end()
    tap.expect_paired_right(sent, while_seeing=plain)
    forged = [each for each in tap.seen if (each.src or "").startswith("203.0.113.77")]
    tap.require(not forged, "the addresses of the packets as the source", str(forged[:1]))


def _spoken() -> Iterator[list[tuple[bytes, bytes]]]:
    """Messages and answers of other protocols, one list for a connection of each."""
    chance = random.Random(_SEED)
    # Modbus Application Protocol 1.1b3, section 4; the addresses and functions that a poll goes through
    yield [
        (
            bytes((0, number, 0, 0, 0, 6, 1, number % 6, 0, 0, 0, number % 10)),
            bytes((0, number, 0, 0, 0, 3, 1, 0x80 | number % 6, 1)),
        )
        for number in range(40)
    ]
    # [MS-SMB2], section 2.1: a zero byte and a length of 24 bits, as a session of NetBIOS over TCP has them
    yield [(_of_length(b"\xfeSMB" + bytes(60)), _of_length(b"\xfeSMB" + bytes(200))) for _ in range(20)]
    zeros = (0, 0, 0, 0, 0, 1, 2)
    for alphabet in (zeros, range(12), range(256)):
        yield [(_drawn(chance, alphabet), _drawn(chance, alphabet)) for _ in range(60)]
    # lengths of 24 bits as HTTP/2 has them, and a number of 32 bits
    yield [(_behind_its_length(chance), _behind_its_length(chance)) for _ in range(60)]
    yield [(bytes(9) * 3, bytes(9)) for _ in range(20)]


def _of_length(message: bytes) -> bytes:
    return len(message).to_bytes(4, "big") + message


def _behind_its_length(chance: random.Random) -> bytes:
    size = chance.choice((4, 9, 17, 40))
    return size.to_bytes(3, "big") + chance.randbytes(size)


def _drawn(chance: random.Random, alphabet: range | tuple[int, ...]) -> bytes:
    return bytes(chance.choice(alphabet) for _ in range(chance.choice((1, 4, 9, 10, 18, 27, 100))))
